"""One suite over every sink: what the consumer relies on, whatever is behind it."""

import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import pytest
from fakes import FakeSink
from hypothesis import given
from hypothesis import strategies as st
from postgres import KINDS as POSTGRES_KINDS
from postgres import STORED, PostgresServers, database, rows_of
from samples import id_of, row

from services.contract.consuming.doors import Sink
from services.contract.errors import RowsRefused
from services.contract.event import Event
from services.stores.postgres.sink import PostgresSink
from services.stores.sqlite.sink import SQLiteSink


class Rig(NamedTuple):
    """A sink, and a look at what it holds that doesn't go through it."""

    kind: str
    sink: Sink
    look: Callable[[], Iterable[Event]]

    def rows(self) -> dict[str, Event]:
        """Read what is stored, by id."""
        return {one.event_id: one for one in self.look()}


KINDS = ["sqlite", "fake", *POSTGRES_KINDS]


def make_rig(kind: str, folder: Path, servers: PostgresServers) -> Rig:
    """Open a sink of a kind, empty."""
    if kind == "fake":
        fake = FakeSink()
        return Rig(kind, fake, fake.rows.values)
    if kind == "sqlite":
        path = folder / "sqlite.db"
        return Rig(kind, SQLiteSink(path, 1000, lambda: 1.0), lambda: rows_of_sqlite(path))
    url = servers.new_database(kind)
    return Rig(
        kind, PostgresSink(database(url), lambda: 1.0), lambda: (Event(*one) for one in rows_of(url, STORED))
    )


def rows_of_sqlite(path: Path) -> list[Event]:
    """Read a file beside the sink."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(
            "SELECT event_id, device_id, zone, ts, kpi, value, is_degraded FROM telemetry_events"
        )
        return [Event(*one) for one in found]


@pytest.fixture(params=KINDS)
def rig(request: pytest.FixtureRequest, tmp_path: Path, postgres_servers: PostgresServers) -> Iterator[Rig]:
    """Give each sink in turn, empty."""
    one = make_rig(request.param, tmp_path, postgres_servers)
    yield one
    one.sink.close()


@pytest.fixture(params=KINDS, scope="module")
def lasting_rig(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    postgres_servers: PostgresServers,
) -> Iterator[Rig]:
    """Give each sink in turn, for the many examples of a property."""
    one = make_rig(request.param, tmp_path_factory.mktemp("sink"), postgres_servers)
    yield one
    one.sink.close()


def test_rows_are_stored_as_they_were_given(rig: Rig) -> None:
    """Each row of a write is found again, field by field."""
    rows = [row(1), row(2, is_degraded=True, value=0.0), row(3, device_id="Gerät ☃ 7", zone="a'; DROP--")]
    assert rig.sink.write(rows) == (3, [])
    assert rig.rows() == {one.event_id: one for one in rows}


def test_a_row_written_again_is_no_second_row(rig: Rig) -> None:
    """A second write of the same content inserts nothing and is no conflict."""
    rig.sink.write([row(1), row(2)])
    assert rig.sink.write([row(2), row(3), row(1)]) == (1, [])
    assert len(rig.rows()) == 3


def test_a_threshold_that_changed_makes_no_conflict(rig: Rig) -> None:
    """The same event judged by another threshold is a duplicate, and the first judgement stays."""
    rig.sink.write([row(1, is_degraded=False)])
    assert rig.sink.write([row(1, is_degraded=True)]) == (0, [])
    assert rig.rows()[id_of(1)].is_degraded == 0


@pytest.mark.parametrize(
    "change", [{"device_id": "x"}, {"zone": "x"}, {"ts": 1.0}, {"kpi": "pressure"}, {"value": 1.0}]
)
def test_another_content_under_a_stored_id_is_a_conflict(rig: Rig, change: dict[str, object]) -> None:
    """The position of the conflicting row is named, the others are stored, the first content stays."""
    rig.sink.write([row(2)])
    assert rig.sink.write([row(1), row(2, **change), row(3)]) == (2, [1])
    assert rig.rows() == {id_of(number): row(number) for number in (1, 2, 3)}


def test_a_write_may_hold_the_same_row_twice(rig: Rig) -> None:
    """Duplicates within one write leave one row."""
    assert rig.sink.write([row(1), row(2), row(1), row(1)]) == (2, [])
    assert len(rig.rows()) == 2


def test_a_write_may_contradict_itself(rig: Rig) -> None:
    """Of two contents of one id in one write the first is stored, and the second is the conflict."""
    assert rig.sink.write([row(1, value=1.0), row(2), row(1, value=2.0)]) == (2, [2])
    assert rig.rows()[id_of(1)].value == 1.0


def test_rows_may_come_in_any_order(rig: Rig) -> None:
    """Older ids after newer ones are stored all the same."""
    for number, order in enumerate(permutations([3, 1, 2])):
        assert rig.sink.write([row(10 * number + one) for one in order]) == (3, [])
    assert len(rig.rows()) == 18


def test_a_write_of_nothing_is_fine(rig: Rig) -> None:
    """An empty write stores nothing and says so."""
    assert rig.sink.write([]) == (0, [])


REFUSED = {
    "a value that is no number": {"value": math.nan},
    "a time that is no number": {"ts": math.nan},
    "an infinite value": {"value": math.inf},
    "a value below all": {"value": -math.inf},
    "a text for a number": {"value": "hot"},
    "a list for a number": {"value": [1.0]},
    "bytes for a text": {"zone": b"zone"},
    "an integer beyond 64 bits": {"value": 2**63},
    "half of a surrogate pair": {"device_id": "\ud800"},
    "no value": {"value": None},
    "no device": {"device_id": None},
    "no id": {"event_id": None},
    "a flag that is none": {"is_degraded": 2},
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED.keys())
def test_a_refused_row_leaves_nothing_of_its_write(rig: Rig, change: dict[str, object]) -> None:
    """One row that can't be stored refuses its whole write, and the sink goes on working."""
    rig.sink.write([row(1)])
    with pytest.raises(RowsRefused):
        rig.sink.write([row(2), row(3, **change), row(4)])
    assert set(rig.rows()) == {id_of(1)}
    assert rig.sink.write([row(2), row(4)]) == (2, [])


def test_a_refused_row_after_hundreds_leaves_nothing_either(rig: Rig) -> None:
    """All or nothing holds for a write that a sink has to cut into several statements."""
    with pytest.raises(RowsRefused):
        rig.sink.write([*(row(number) for number in range(350)), row(999, value=math.nan)])
    assert rig.rows() == {}


def test_the_largest_batch_is_one_write(rig: Rig) -> None:
    """Four thousand rows, with a duplicate and a conflict among them, are stored in one write."""
    rows = [row(number) for number in range(4000)]
    rows[3999] = row(0)
    rows[2000] = row(7, value=1.0)
    assert rig.sink.write(rows) == (3998, [2000])
    assert len(rig.rows()) == 3998


@given(
    value=st.floats(allow_nan=False, allow_infinity=False),
    # Up to 2106: in a float of later times the microseconds have no exact place.
    ts=st.floats(min_value=0, max_value=2**32).map(lambda ts: round(ts, 6)),
    label=st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=130
    ),
    is_degraded=st.booleans(),
    number=st.integers(1, 2**36 - 1),
)
def test_every_content_comes_back_exactly(
    lasting_rig: Rig, value: float, ts: float, label: str, is_degraded: bool, number: int
) -> None:
    """Numbers come back to the last bit, times to the microsecond; so a rewrite is a duplicate."""
    one = row(number, value=value, ts=ts, device_id=label, is_degraded=is_degraded)
    first = lasting_rig.sink.write([one])
    stored = lasting_rig.rows()[one.event_id]
    if first.conflicts:  # this number came before, with another content
        assert stored[:6] != one[:6]
    else:
        assert stored[:6] == one[:6]
        assert lasting_rig.sink.write([one]) == (0, [])


def test_attributes_are_content(rig: Rig) -> None:
    """The same are a duplicate; others, some or none where there are none or some, are a conflict."""
    ours = '{"firmware":"1.2","site":"Gerät \'☃\' \\\\ \\""}'
    assert rig.sink.write([row(1), row(2, attributes=ours), row(3)]) == (3, [])
    assert rig.sink.write([row(1), row(2, attributes=ours), row(4)]) == (1, [])
    assert rig.sink.write([row(2, attributes=ours)]) == (0, [])
    assert rig.sink.write([row(1), row(2), row(3, attributes=ours)]) == (0, [1, 2])
    assert rig.sink.write([row(2, attributes='{"firmware":"1.3"}'), row(1)]) == (0, [0])


def test_no_attributes_are_compared_with_some(rig: Rig) -> None:
    """Also where nothing of the write has any."""
    rig.sink.write([row(1, attributes='{"firmware":"1.2"}')])
    assert rig.sink.write([row(1), row(2)]) == (1, [0])


@pytest.mark.parametrize("attributes", [b"{}", '{"a":"\ud800"}'])
def test_attributes_that_are_no_text_refuse_their_write(rig: Rig, attributes: object) -> None:
    """As everything else that can't be stored."""
    with pytest.raises(RowsRefused):
        rig.sink.write([row(1), row(2, attributes=attributes)])
    assert rig.rows() == {}


def test_a_probe_leaves_no_event(rig: Rig) -> None:
    """The sink can be asked again and again whether it takes writes; no row comes of it."""
    rig.sink.probe()
    rig.sink.probe()
    assert rig.rows() == {}


def test_two_times_within_a_microsecond_are_one(rig: Rig) -> None:
    """A row that an earlier version stored as a float has it, or one that another store had: no conflict."""
    rig.sink.write([row(1, ts=1_700_000_000.1234567)])
    assert rig.sink.write([row(1, ts=1_700_000_000.123457)]) == (0, [])
    assert rig.sink.write([row(1, ts=1_700_000_000.123458)]) == (0, [0])
