"""The WAL is folded into the file between two turns, and not within one."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from samples import row

from services.contract.event import Event
from services.stores.sqlite.database import Database
from services.stores.sqlite.sink import SQLiteSink

_ROWS = 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a database."""
    return tmp_path / "telemetry.db"


@pytest.fixture
def sink(path: Path) -> Iterator[SQLiteSink]:
    """Open a sink."""
    with closing(SQLiteSink(path, 50, lambda: 1.0)) as one:
        yield one


def batch(number: int) -> list[Event]:
    """Make rows; those of each number are others."""
    return [row(one) for one in range(number * _ROWS, (number + 1) * _ROWS)]


def test_it_is_folded_before_sqlite_would_do_it_in_a_turn(
    path: Path, sink: SQLiteSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is used anew then, and so does not grow: SQLite's own limit is four times as high."""
    times: list[Database] = []
    fold = Database.fold

    def count(database: Database) -> None:
        times.append(database)
        fold(database)

    monkeypatch.setattr(Database, "fold", count)
    for number in range(100):
        sink.write(batch(number))
    assert len(times) == 3, "a batch is 37 pages, and a fold costs two syncs"
    rows_bytes = 100 * _ROWS * 100
    assert path.stat().st_size > rows_bytes * 0.8
    assert path.with_name("telemetry.db-wal").stat().st_size < 2000 * 4096


def test_another_writes_while_it_is_folded(
    path: Path, sink: SQLiteSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for it."""
    written: list[int] = []
    with closing(SQLiteSink(path, 50, lambda: 1.0)) as other:
        fold = Database.fold

        def write_meanwhile(database: Database) -> None:
            monkeypatch.setattr(Database, "fold", fold)
            written.append(other.write([row(1_000_000)]).inserted)
            database.fold()

        monkeypatch.setattr(Database, "fold", write_meanwhile)
        for number in range(40):
            sink.write(batch(number))
    assert written == [1]


def test_what_cant_be_folded_is_stored_all_the_same(path: Path, sink: SQLiteSink) -> None:
    """It is on the disk, in the WAL: no reason to have it come again."""
    connection = sink._database.connection
    assert connection is not None
    denied: list[str | None] = []

    def refuse_folding(_action: int, name: str | None, *_more: str | None) -> int:
        if name != "wal_checkpoint":
            return sqlite3.SQLITE_OK
        denied.append(name)
        return sqlite3.SQLITE_DENY

    connection.set_authorizer(refuse_folding)
    for number in range(40):
        assert sink.write(batch(number)).inserted == _ROWS
    assert denied
    with closing(sqlite3.connect(path)) as reader:
        assert reader.execute("SELECT count(*) FROM telemetry_events").fetchone() == (40 * _ROWS,)
