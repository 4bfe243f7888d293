"""`telemetry events --follow`."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from samples import id_of, row
from telemetry_cli import json_lines, store, telemetry

from services.contract.ids import event_id
from services.ops.data.follow import follow
from services.stores.rows import RowFilter
from services.stores.sqlite.rows import SQLiteRows

NOW_MS = 1_800_000_000_000


def _id(number: int, ms: int) -> str:
    return event_id(_RUN, number, NOW_MS + ms)


_RUN = "7abc-8def-012"


def test_what_is_stored_meanwhile_is_given_once_and_in_order() -> None:
    """Also what was published before the newest that is shown, and stored after it."""
    store([row(1, event_id=_id(1, 0)), row(2, event_id=_id(2, 10)), row(3, event_id=_id(4, 30))])
    later: Iterator[list[str]] = iter([[], [_id(3, 20), _id(5, 40)], [_id(6, 9000)], [_id(7, -20_000)]])

    def pause() -> None:
        ids = next(later, None)
        if ids is None:
            raise KeyboardInterrupt
        store([row(9, event_id=one) for one in ids])

    shown: list[str] = []
    with closing(SQLiteRows(Path("data/telemetry.db"))) as rows, pytest.raises(KeyboardInterrupt):
        shown.extend(one.event_id for one in follow(rows, RowFilter(), 2, pause))
    assert shown == [_id(2, 10), _id(4, 30), _id(3, 20), _id(5, 40), _id(6, 9000)]


def test_the_options_choose_and_ctrl_c_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As lines, and as JSON lines."""
    store([row(1), row(2, kpi="pressure"), row(3)])

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("services.ops.data.follow.time.sleep", stop)
    result = telemetry("events", "--follow", "--kpi", "humidity", "--json")
    assert result.exit_code == 0
    assert [one["event_id"] for one in json_lines(result)] == [id_of(1), id_of(3)]
    lines = telemetry("events", "--follow", "--limit", "1").stdout.splitlines()
    assert lines[0].startswith("TIME")
    assert [id_of(3) in line for line in lines[1:]] == [True]
