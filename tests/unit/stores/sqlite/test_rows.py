"""The reading side of the SQLite sink, on real files."""

import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest
from samples import id_of, row
from telemetry_cli import store

from services.contract.errors import SinkAbsent, SinkUnavailable, SinkUnusable
from services.stores.rows import RowFilter, StoredRow
from services.stores.sqlite.rows import SQLiteRows
from services.stores.sqlite.schema import APPLICATION_ID, migrate
from services.stores.sqlite.sink import SQLiteSink

DATABASE = Path("data/telemetry.db")


def test_event_ids_come_in_order_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every id is given once and in order, however many statements it takes."""
    monkeypatch.setattr("services.stores.sqlite.rows._IDS_A_STATEMENT", 3)
    store([row(number) for number in (5, 1, 4, 2, 3, 6, 7)])
    with SQLiteRows(DATABASE) as rows:
        assert list(rows.event_ids()) == [id_of(number) for number in range(1, 8)]


def test_event_ids_of_an_empty_table_are_none() -> None:
    """A table without rows has no ids, and no empty one either."""
    store([])
    with SQLiteRows(DATABASE) as rows:
        assert list(rows.event_ids()) == []
        assert rows.count() == 0


def test_missing_ids_are_named_in_the_order_given() -> None:
    """What is not stored is named, odd texts included, and what is stored is not."""
    store([row(1), row(2)])
    odd = "x\x00\ud800'; DROP TABLE telemetry_events"
    with SQLiteRows(DATABASE) as rows:
        assert rows.missing_of([id_of(3), id_of(1), odd, id_of(2)]) == [id_of(3), odd]
        assert rows.missing_of([]) == []
        assert rows.count() == 2


def test_events_come_newest_first_and_no_more_than_asked() -> None:
    """The order is that of publication, backwards."""
    store([row(number) for number in range(1, 5)])
    with SQLiteRows(DATABASE) as rows:
        assert [one.event_id for one in rows.events(limit=2)] == [id_of(4), id_of(3)]
        assert len(list(rows.events())) == 4
        assert list(rows.events(limit=0)) == []


def test_a_database_that_is_being_made_is_absent_or_ours(tmp_path: Path) -> None:
    """Whenever a reader opens it, it is not there yet or whole; never somebody else's."""
    paths = [tmp_path / f"{number}.db" for number in range(100)]
    opened: list[Path] = []

    def open_each() -> None:
        for path in paths:
            while path not in opened:
                with suppress(SinkAbsent), SQLiteRows(path):
                    opened.append(path)

    with ThreadPoolExecutor(1) as threads:
        reader = threads.submit(open_each)
        for path in paths:
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                migrate(connection, path)
        reader.result()
    assert opened == paths


def test_an_event_is_given_as_it_was_stored() -> None:
    """Types survive: a degraded row says True, and times are numbers."""
    store([row(1, is_degraded=True)], stored_at=1.5)
    with SQLiteRows(DATABASE) as rows:
        (one,) = rows.events()
    assert one == StoredRow._make((*row(1, is_degraded=True)[:7], 1.5, {}))
    assert one.is_degraded is True


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        (RowFilter(event_id=id_of(2)), [2]),
        (RowFilter(device_id="device-1"), [1]),
        (RowFilter(zone="zone-2"), [2]),
        (RowFilter(kpi="pressure"), [3]),
        (RowFilter(since=1_700_000_004.0), [4]),
        (RowFilter(until=0.0), [5]),
        (RowFilter(is_degraded=True), [6]),
        (RowFilter(is_degraded=False, kpi="humidity", zone="zone-1", until=1_700_000_001.0), [5, 1]),
        (RowFilter(zone="' OR 1=1 --"), []),
    ],
)
def test_a_filter_takes_what_it_names(asked: RowFilter, numbers: list[int]) -> None:
    """Each filter works alone and with others, and zero is a time like any other."""
    store(
        [
            row(1),
            row(2, zone="zone-2"),
            row(3, kpi="pressure"),
            row(4, ts=1_700_000_004.0),
            row(5, ts=0.0),
            row(6, is_degraded=True),
        ]
    )
    with SQLiteRows(DATABASE) as rows:
        assert [one.event_id for one in rows.events(asked)] == [id_of(number) for number in numbers]


def test_a_reader_sees_what_is_still_in_the_wal() -> None:
    """A committed row is seen while the consumer that wrote it keeps the file open."""
    with closing(SQLiteSink(DATABASE, 5000, lambda: 0.0)) as sink:
        sink.write([row(1)])
        assert Path("data/telemetry.db-wal").stat().st_size > 0
        with SQLiteRows(DATABASE) as rows:
            assert rows.count() == 1
            sink.write([row(2)])
            assert rows.count() == 2


def test_a_reader_can_write_nothing() -> None:
    """No statement gets through that would change the file."""
    store([row(1)])
    with SQLiteRows(DATABASE) as rows, pytest.raises(sqlite3.OperationalError, match="readonly"):
        rows._connection.execute("DELETE FROM telemetry_events")


def test_reading_makes_no_database() -> None:
    """Where there is none, it is said so and none appears."""
    with pytest.raises(SinkAbsent, match=r"telemetry\.db: no database yet"):
        SQLiteRows(DATABASE)
    assert not DATABASE.parent.exists()


def test_an_empty_file_counts_as_no_database_yet() -> None:
    """A consumer that starts at this moment has made the file and no table."""
    DATABASE.parent.mkdir()
    DATABASE.touch()
    with pytest.raises(SinkAbsent, match="empty"):
        SQLiteRows(DATABASE)


def test_a_path_with_marks_of_an_address_is_a_path() -> None:
    """What has a meaning in a URI is taken literally."""
    odd = Path("a?mode=rwc#b%20c/telemetry.db")
    with closing(SQLiteSink(odd, 5000, lambda: 0.0)) as sink:
        sink.write([row(1)])
    with SQLiteRows(odd) as rows:
        assert rows.count() == 1


def test_a_path_that_begins_with_two_slashes_is_a_path() -> None:
    """And not the name of a host: DATA_DIR=//data, or sqlite:////data as other programs write it."""
    store([row(1)])
    with SQLiteRows(Path(f"/{DATABASE.absolute()}")) as rows:
        assert rows.count() == 1


def test_a_file_that_is_no_database_is_refused() -> None:
    """The message names the file."""
    DATABASE.parent.mkdir()
    DATABASE.write_text("not a database at all, only a text that is long enough" * 4)
    with pytest.raises(SinkUnusable, match=r"telemetry\.db is no SQLite database"):
        SQLiteRows(DATABASE)


def test_a_database_of_another_program_is_refused() -> None:
    """Tables of somebody else are not read as ours."""
    DATABASE.parent.mkdir()
    with closing(sqlite3.connect(DATABASE)) as other:
        other.execute("CREATE TABLE telemetry_events (name)")
    with pytest.raises(SinkUnusable, match="another program"):
        SQLiteRows(DATABASE)


def test_a_newer_schema_is_refused() -> None:
    """What a newer version has written isn't guessed at."""
    store([row(1)])
    with closing(sqlite3.connect(DATABASE)) as newer:
        newer.execute("PRAGMA user_version = 99")
        assert newer.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
    with pytest.raises(SinkUnusable, match="has schema 99, and this version knows"):
        SQLiteRows(DATABASE)


def test_damage_that_shows_while_reading_is_our_error() -> None:
    """A table that is gone ends the answer with the file's name."""
    store([row(1)])
    with closing(sqlite3.connect(DATABASE)) as other:
        other.execute("DROP TABLE telemetry_events")
    with SQLiteRows(DATABASE) as rows, pytest.raises(SinkUnavailable, match=r"telemetry\.db can't be read"):
        rows.count()


def test_what_is_no_file_is_told_at_once() -> None:
    """A socket in its place, say."""
    DATABASE.parent.mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as other:
        other.bind(str(DATABASE))
        with pytest.raises(SinkUnavailable, match="no ordinary file; move it away"):
            SQLiteRows(DATABASE)


def _left() -> list[str]:
    return sorted(one.name for one in DATABASE.parent.iterdir())


def test_a_reader_leaves_no_file_behind() -> None:
    """Of a database that was closed in order, and beside a consumer that comes meanwhile."""
    store([row(1), row(2)])
    assert _left() == ["telemetry.db"]
    before = DATABASE.read_bytes()
    with SQLiteRows(DATABASE) as rows:
        assert rows.count() == 2
    assert _left() == ["telemetry.db"]
    assert DATABASE.read_bytes() == before
    with SQLiteRows(DATABASE) as rows:
        assert rows.count() == 2
        with closing(SQLiteSink(DATABASE, 5000, lambda: 0.0)) as sink:
            sink.write([row(3)])
            assert rows.count() == 3
        assert rows.count() == 3
    assert _left() == ["telemetry.db"]


READ_ONLY = """
import sys
from pathlib import Path
from services.contract.errors import PipelineError
from services.stores.sqlite.schema import newest_schema
from services.stores.sqlite.rows import SQLiteRows
import os
newest_schema()  # what it imports
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    with SQLiteRows(Path(sys.argv[1])) as rows:
        print(rows.count(), len(list(rows.event_ids())), len(list(rows.events())), len(list(rows.summary())))
except PipelineError as error:
    print(error)
"""


@pytest.fixture
def read_only() -> Iterator[Path]:
    """Make a folder that may only be read, by others too: pytest's own are closed to them."""
    folder = Path(tempfile.mkdtemp(prefix="telemetry-test-"))
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def _read(path: Path) -> str:
    path.chmod(0o444)
    path.parent.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, str(path)], capture_output=True, text=True, timeout=60, check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[4])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_database_on_read_only_media_is_read(read_only: Path) -> None:
    """It was closed in order, so all of it is in the file."""
    path = read_only / "telemetry.db"
    with closing(SQLiteSink(path, 5000, lambda: 0.0)) as sink:
        sink.write([row(1), row(2), row(3, kpi="pressure")])
    assert _read(path) == "3 3 3 2"
    assert [one.name for one in read_only.iterdir()] == ["telemetry.db"]


def test_a_database_on_read_only_media_whose_wal_is_left_says_so(read_only: Path) -> None:
    """What is in the WAL would be missing, so it is no answer."""
    path = read_only / "telemetry.db"
    with closing(SQLiteSink(path, 5000, lambda: 0.0)) as sink:
        sink.write([row(1)])
        copy = read_only / "copy.db"
        for end in ("", "-wal"):
            shutil.copy(f"{path}{end}", f"{copy}{end}")
    told = _read(copy)
    assert "its -wal can't be read on read-only media" in told
    assert str(copy) in told
