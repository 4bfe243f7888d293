"""The WAL is folded into the file between two turns, and not within one."""

import random
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from samples import row

from services.contract.consuming.proofs import Scope
from services.contract.consuming.readings import Reading
from services.contract.errors import SinkUnavailable
from services.contract.event import Event
from services.stores.sqlite.database import Database
from services.stores.sqlite.readings import SQLiteReadings
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


def test_rows_that_lie_far_apart_fill_it_sooner(path: Path, sink: SQLiteSink) -> None:
    """Ids that don't begin with a time: nearly each row is in a page of its own."""
    chance = random.Random(1)
    for number in range(12):
        ids = (str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(_ROWS))
        sink.write(
            [one._replace(event_id=event_id) for one, event_id in zip(batch(number), ids, strict=True)]
        )
    assert path.with_name("telemetry.db-wal").stat().st_size < 2000 * 4096


def test_a_note_beside_the_rows_folds_nothing(
    path: Path, sink: SQLiteSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made in a turn as well."""
    with monkeypatch.context() as unfolded:
        unfolded.setattr(Database, "fold", lambda _: None)
        for number in range(60):
            sink.write(batch(number))
    before = path.stat().st_size
    SQLiteReadings(path, 50, Scope("a", "b", "c")).note([Reading("d", "z", "k", 1.0, 1.0, 1.0, "e")])
    assert path.stat().st_size == before < 100 * 4096


def test_a_disk_that_fails_while_it_is_folded_is_told(
    sink: SQLiteSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are there, but who knows for how long: they come again, and the WAL is written anew first."""
    anew: list[Database] = []
    write_anew = Database.write_wal_anew

    def fail(_: Database) -> None:
        raise SinkUnavailable("telemetry.db: disk I/O error", "SQLITE_IOERR_WRITE")

    def note(database: Database) -> None:
        anew.append(database)
        write_anew(database)

    monkeypatch.setattr(Database, "write_wal_anew", note)
    with monkeypatch.context() as broken:
        broken.setattr(Database, "fold", fail)
        for number in range(27):
            sink.write(batch(number))
        with pytest.raises(SinkUnavailable, match="disk I/O error"):
            sink.write(batch(27))
    assert not anew
    assert sink.write(batch(27)).inserted == 0
    assert len(anew) == 1


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
