"""A step of retention in a file reads its own rows, and not the whole day."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from samples import row

from services.contract.consuming.proofs import Scope
from services.contract.consuming.retention import DAY_MS, Again
from services.contract.ids import event_id, run_name, time_of
from services.stores.retention import Piece
from services.stores.sqlite.database import MOST_PAGES
from services.stores.sqlite.retention import SQLiteRetention
from services.stores.sqlite.sink import SQLiteSink

ROWS = 2000


def instructions(path: Path, piece: Piece) -> tuple[int, int]:
    """Count the rows of a piece, and what SQLite takes for it."""
    spent = 0

    def spend() -> int:
        nonlocal spent
        spent += 1
        return 0

    with closing(sqlite3.connect(path)) as connection:
        connection.set_progress_handler(spend, 1)
        ((rows,),) = connection.execute(f"SELECT count(*) {piece.text}", piece.values)
    return rows, spent


def test_a_step_reads_its_own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read whole each time, a day of a million rows would be read a thousand times."""
    path = tmp_path / "telemetry.db"
    first_ms = 20_000 * DAY_MS
    made = [row(event_id=event_id(run_name(1), one, first_ms + one)) for one in range(1, ROWS + 1)]
    with closing(SQLiteSink(path, 1000, lambda: 1.0)) as sink:
        sink.write(made)
    retention = SQLiteRetention(path, 1000, Scope("telemetry", "s", "g"))
    retention.rows_a_step = 100
    pieces: list[Piece] = []

    def note(_retention: SQLiteRetention, piece: Piece, _again: Again) -> int:
        pieces.append(piece)
        return 0

    monkeypatch.setattr(SQLiteRetention, "_drop", note)
    day = time_of(made[0].event_id) // DAY_MS
    retention._step("telemetry_events", day, set)
    rows, spent = instructions(path, pieces[0])
    whole, spent_on_all = instructions(path, retention._day_of("telemetry_events", day))
    assert (rows, whole) == (100, ROWS)
    assert spent * 5 < spent_on_all


def test_a_step_waits_for_no_disk_while_it_keeps_others_out(tmp_path: Path) -> None:
    """Neither to sync what it has written, nor to fold the WAL; what is written at the end of a drop does."""
    path = tmp_path / "telemetry.db"
    SQLiteSink(path, 1000, lambda: 1.0).close()
    retention = SQLiteRetention(path, 1000, Scope("telemetry", "s", "g"))
    for transaction, settings in (
        (retention.dropping, [(1,), (0,)]),
        (retention.writing, [(2,), (MOST_PAGES,)]),
    ):
        with transaction() as ask:
            assert ask("PRAGMA synchronous", ()) + ask("PRAGMA wal_autocheckpoint", ()) == settings


def test_a_pause_is_several_times_as_long_as_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that most batches meet none."""
    retention = SQLiteRetention(tmp_path / "telemetry.db", 1000, Scope("telemetry", "s", "g"))
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    for held_s in (0.0, 0.1):
        retention._held_s = held_s
        retention._pause()
    assert slept == [0.005, pytest.approx(0.4)]
