"""One suite over every reader of rows: what the `telemetry` command asks, whatever store has them."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from postgres import KINDS as POSTGRES_KINDS
from postgres import PostgresServers, database
from samples import id_of, row

from services.contract.attributes import attributes_of, write_attributes
from services.contract.consuming.doors import Sink
from services.contract.errors import SinkAbsent
from services.stores.postgres import rows as postgres_rows
from services.stores.postgres.rows import PostgresRows
from services.stores.postgres.sink import PostgresSink
from services.stores.rows import ByAttribute, Grouping, RowFilter, Rows, StoredRow, SummaryRow
from services.stores.sqlite import rows as sqlite_rows
from services.stores.sqlite.rows import SQLiteRows
from services.stores.sqlite.sink import SQLiteSink

STORED_AT = 1_700_000_100.25
ATTRIBUTES = {
    2: write_attributes({"firmware": "1.2", "status": "ok"}),
    4: write_attributes({"firmware": "1.3"}),
    6: write_attributes({"a'b\"c.$": "☃ \\ %s"}),
}
FOREIGN = ["1b4e28ba-2fa1-4d3b-8f0e-000000000001", "fb4e28ba-2fa1-4d3b-8f0e-000000000002"]


class Rig(NamedTuple):
    """A place that has no rows yet."""

    sink: Callable[[], Sink]
    rows: Callable[[], Rows]


@pytest.fixture(params=["sqlite", *POSTGRES_KINDS])
def rig(request: pytest.FixtureRequest, tmp_path: Path, postgres_servers: PostgresServers) -> Rig:
    """Give each store in turn."""
    if request.param == "sqlite":
        path = tmp_path / "telemetry.db"
        return Rig(lambda: SQLiteSink(path, 1000, lambda: STORED_AT), lambda: SQLiteRows(path))
    url = postgres_servers.new_database(request.param)
    return Rig(lambda: PostgresSink(database(url), lambda: STORED_AT), lambda: PostgresRows(database(url)))


@pytest.fixture
def rows(rig: Rig) -> Iterator[Rows]:
    """Give the rows of nine events: of two KPIs and two zones, ours and two of foreign producers."""
    sink = rig.sink()
    ours = [
        row(
            number,
            kpi=("humidity", "pressure")[number % 2],
            zone=f"zone-{number % 3 // 2}",
            value=number * 1.5,
            ts=1_700_000_000.0 + number,
            is_degraded=int(number > 5),
            attributes=ATTRIBUTES.get(number),
        )
        for number in range(1, 8)
    ]
    sink.write([*ours, *(row(event_id=one, device_id="foreign", ts=1_600_000_000.123456) for one in FOREIGN)])
    sink.close()
    with rig.rows() as one:
        yield one


def test_ids_of_a_time_are_found_and_when_each_was_stored(rows: Rows) -> None:
    """By the time that ids begin with, the end excluded; and what is not stored has no time."""
    whole = list(rows.event_ids())
    middle = [id_of(number) for number in range(3, 6)]
    assert list(rows.event_ids(1_700_000_000_003, 1_700_000_000_006)) == middle
    assert list(rows.event_ids(1_700_000_000_000)) == [one for one in whole if one >= id_of(0)]
    assert list(rows.event_ids(0, 1_700_000_000_000)) == [one for one in whole if one < id_of(0)]
    assert list(rows.event_ids(5, 5)) == []
    asked = [FOREIGN[1], id_of(4), id_of(99), FOREIGN[0]]
    assert rows.stored_at(asked) == dict.fromkeys([FOREIGN[1], id_of(4), FOREIGN[0]], STORED_AT)
    assert rows.stored_at([]) == {}


def test_there_is_nothing_to_read_before_a_consumer_came(rig: Rig) -> None:
    """That is told apart from rows that can't be read."""
    with pytest.raises(SinkAbsent, match="a consumer makes"):
        rig.rows()


def test_an_empty_store_answers_everything(rig: Rig) -> None:
    """No row, no id, no summary."""
    rig.sink().close()
    with rig.rows() as rows:
        assert (rows.count(), rows.has_any(), list(rows.event_ids()), list(rows.events())) == (
            0,
            False,
            [],
            [],
        )
        assert list(rows.summary()) == []
        assert rows.missing_of([]) == []
        assert rows.missing_of([id_of(1)]) == [id_of(1)]


def test_ids_come_in_ascending_order_across_pages(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, whatever the size of a page."""
    for module in (sqlite_rows, postgres_rows):
        monkeypatch.setattr(module, "_IDS_A_STATEMENT", 3)
    assert list(rows.event_ids()) == sorted([*map(id_of, range(1, 8)), *FOREIGN])


def test_those_that_are_missing_are_named_in_the_order_given(rows: Rows) -> None:
    """Whether they lie in a day, before all days, or beyond them."""
    asked = [id_of(9), FOREIGN[1], id_of(1), id_of(8), "00000000-0000-4000-8000-000000000000", FOREIGN[0]]
    assert rows.missing_of(asked) == [id_of(9), id_of(8), "00000000-0000-4000-8000-000000000000"]


def test_events_come_whole_the_newest_id_first(rows: Rows) -> None:
    """With their times, and no more of them than asked for."""
    first, second = rows.events(limit=2)
    assert first.event_id == FOREIGN[1]
    assert second.event_id == FOREIGN[0]
    assert first == StoredRow(
        FOREIGN[1], "foreign", "zone-1", 1_600_000_000.123456, "humidity", 42.25, False, STORED_AT, {}
    )
    assert [one.event_id for one in rows.events()] == sorted([*map(id_of, range(1, 8)), *FOREIGN])[::-1]
    assert {type(one.is_degraded) for one in rows.events()} == {bool}
    found = {one.event_id: one.attributes for one in rows.events() if one.attributes}
    assert found == {id_of(number): attributes_of(written) for number, written in ATTRIBUTES.items()}


@pytest.mark.parametrize("size", [1, 2, 3, 9, 2000])
def test_pages_have_every_row_in_the_order_of_ids(
    rows: Rows, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Whole, each once, and no page is larger than it may be or empty."""
    for module in (sqlite_rows, postgres_rows):
        monkeypatch.setattr(module, "_ROWS_A_PAGE", size)
    pages = list(rows.pages())
    assert [one for page in pages for one in page] == list(rows.events())[::-1]
    assert all(0 < len(page) <= size for page in pages)


def test_nothing_is_held_between_two_pages(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a reader takes: what is stored meanwhile is given, and what writers left can go."""
    for module in (sqlite_rows, postgres_rows):
        monkeypatch.setattr(module, "_ROWS_A_PAGE", 1)
    sink = rig.sink()
    sink.write([row(1), row(2)])
    with rig.rows() as rows:
        pages = rows.pages()
        assert [one.event_id for one in next(pages)] == [id_of(1)]
        if isinstance(rows, PostgresRows):
            assert rows._connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        else:
            assert isinstance(rows, SQLiteRows)
            with closing(sqlite3.connect(rows._path)) as other:
                is_busy, *_ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            assert not is_busy
        sink.write([row(3)])
        assert [one.event_id for page in pages for one in page] == [id_of(2), id_of(3)]
    sink.close()


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        (RowFilter(event_id=id_of(3)), [3]),
        (RowFilter(device_id="device-3"), [3]),
        (RowFilter(zone="zone-1", kpi="humidity"), [2]),
        (RowFilter(since=1_700_000_006.0), [7, 6]),
        (RowFilter(until=1_700_000_002.0, since=1_650_000_000.0), [2, 1]),
        (RowFilter(is_degraded=True), [7, 6]),
        (RowFilter(kpi="nothing"), []),
        (RowFilter(attributes={"firmware": "1.2"}), [2]),
        (RowFilter(attributes={"firmware": "1.2", "status": "ok"}), [2]),
        (RowFilter(attributes={"firmware": "1.3", "status": "ok"}), []),
        (RowFilter(attributes={"firmware": "1.3"}, zone="zone-0"), [4]),
        (RowFilter(attributes={"firmware": ""}), []),
        (RowFilter(attributes={"a'b\"c.$": "☃ \\ %s"}), [6]),
    ],
)
def test_a_filter_gives_what_meets_all_of_it(rows: Rows, asked: RowFilter, numbers: list[int]) -> None:
    """Both ends of a time are included; `has_any` says the same."""
    found = [one.event_id for one in rows.events(asked) if one.device_id != "foreign"]
    assert found == [id_of(number) for number in numbers]
    paged = [one.event_id for page in rows.pages(asked) for one in page if one.device_id != "foreign"]
    assert paged == found[::-1]
    assert rows.has_any(asked) is bool(numbers)


def test_a_summary_counts_by_kpi_and_zone(rows: Rows) -> None:
    """In the order of their names, over all days."""
    assert list(rows.summary()) == [
        SummaryRow("humidity", "zone-0", 2, 1, 6.0, 9.0, 15.0),
        SummaryRow("humidity", "zone-1", 3, 0, 3.0, 42.25, 87.5),
        SummaryRow("pressure", "zone-0", 3, 1, 1.5, 10.5, 16.5),
        SummaryRow("pressure", "zone-1", 1, 0, 7.5, 7.5, 7.5),
    ]
    assert [one.events for one in rows.summary(RowFilter(since=1_700_000_006.0))] == [1, 1]


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("device", ["foreign", *(f"device-{number}" for number in range(7))]),
        ("hour", [1_599_998_400, 1_699_999_200]),
        ("day", [1_599_955_200, 1_699_920_000]),
    ],
)
def test_a_summary_counts_by_device_or_time_too(rows: Rows, by: Grouping, groups: list[str | int]) -> None:
    """An hour or a day is that of the event time, in UTC."""
    counted = list(rows.summary(by=by))
    assert {one.group for one in counted} == set(groups)
    assert [(one.kpi, one.group) for one in counted] == sorted((one.kpi, one.group) for one in counted)
    assert sum(one.events for one in counted) == 9


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("firmware", {"": 7, "1.2": 1, "1.3": 1}),
        ("a'b\"c.$", {"": 8, "☃ \\ %s": 1}),
        ("no such", {"": 9}),
    ],
)
def test_a_summary_counts_by_what_an_attribute_says(rows: Rows, name: str, groups: dict[str, int]) -> None:
    """An event without it counts for the empty text; other conditions hold beside it."""
    counted = list(rows.summary(by=ByAttribute(name)))
    found: dict[str | int, int] = {}
    for one in counted:
        found[one.group] = found.get(one.group, 0) + one.events
    assert found == groups
    assert [(one.kpi, one.group) for one in counted] == sorted((one.kpi, one.group) for one in counted)
    asked = RowFilter(attributes={"firmware": "1.2"}, since=0)
    assert [one.events for one in rows.summary(asked, by=ByAttribute("status"))] == [1]


def test_rows_from_an_id_on_are_found(rows: Rows) -> None:
    """Newest first, as all are."""
    ours = [one.event_id for one in rows.events(RowFilter(first_id=id_of(5))) if one.device_id != "foreign"]
    assert ours == [id_of(7), id_of(6), id_of(5)]


def test_a_summary_tells_how_far_it_is(rows: Rows) -> None:
    """From nothing to all of its parts."""
    told: list[tuple[int, int]] = []
    list(rows.summary(progress=lambda read, parts: told.append((read, parts))))
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1]


def test_what_is_stored_meanwhile_is_seen(rig: Rig) -> None:
    """A reader that is open sees what a consumer commits after it."""
    sink = rig.sink()
    with rig.rows() as rows:
        sink.write([row(1)])
        assert rows.count() == 1
    sink.close()
