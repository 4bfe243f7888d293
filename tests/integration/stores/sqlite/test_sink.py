"""SQLite on a disk as it is: locked, read-only, full, removed, foreign, newer, damaged."""

import errno
import functools
import hashlib
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from acceptance.disks import small_disk
from consumers import LOGGER, Consumer, pending_of, publish
from fakes import FakeClock, FakeDeadLetters
from samples import KPIS, entry, id_of, row
from servers import Server

from services.consumer.batch import Rules, run_batch
from services.consumer.breaker import Breaker
from services.consumer.persist import Persist
from services.contract.errors import RowsRefused, SinkUnavailable, SinkUnusable, Stopping
from services.runtime.health import Health
from services.runtime.telemetry.metrics import Metrics
from services.stores.rows import RowFilter
from services.stores.sqlite import database, schema
from services.stores.sqlite.check import find_damage
from services.stores.sqlite.files import turn_in
from services.stores.sqlite.rows import SQLiteRows
from services.stores.sqlite.schema import APPLICATION_ID, migrate, newest_schema
from services.stores.sqlite.sink import SQLiteSink

ROOT = Path(__file__).parents[4]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a database that isn't there yet."""
    return tmp_path / "data" / "telemetry.db"


def open_sink(path: Path, busy_timeout_ms: int = 50) -> SQLiteSink:
    """Open the sink as the consumer does."""
    return SQLiteSink(path, busy_timeout_ms, lambda: 1.0)


def count(path: Path) -> int:
    """Count the rows that another reader sees."""
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM telemetry_events").fetchone()[0])


def stored(path: Path) -> set[str]:
    """Name the events that another reader sees."""
    with closing(sqlite3.connect(path)) as connection:
        return {event_id for (event_id,) in connection.execute("SELECT event_id FROM telemetry_events")}


def command(code: str, *arguments: object) -> list[str]:
    """Give the command of a program of its own, which knows ours and the tests'."""
    header = "import sys; sys.path[:0] = sys.argv[1:3]\n"
    return [sys.executable, "-c", header + code, str(ROOT), str(ROOT / "tests"), *map(str, arguments)]


@contextmanager
def process(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start a program that is talked to, and end it whatever happens."""
    with subprocess.Popen(
        command(code, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def child(code: str, *arguments: object) -> str:
    """Run a program of its own, which may ruin itself; give what it printed."""
    done = subprocess.run(command(code, *arguments), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Batch:
    """One consumer on a real server and a real file, whose waiting the test steps into."""

    def __init__(self, server: Server, sink: SQLiteSink, stop_after: int | None = None) -> None:
        self.source = Consumer(server)
        self.clock = FakeClock(stop_after=stop_after)
        self.health = Health(60.0, self.clock.monotonic)
        self.health.started()
        self.letters = FakeDeadLetters()
        persist = Persist(sink, self.letters, 3, 0.5, self.clock, self.health, Metrics("consumer"), LOGGER)
        self.run = functools.partial(
            run_batch,
            source=self.source,
            rules=Rules(KPIS, 300.0, 5),
            persist=persist,
            breaker=Breaker(0.0),
            now=self.clock.now,
        )

    def close(self) -> None:
        self.source.close()


@pytest.fixture
def one_server(own_server: object) -> Server:
    """Give one real server: what is tested here is the file."""
    local = own_server()  # type: ignore[operator]
    return Server("own", local.host, local.port)


def test_a_database_locked_by_another_process_is_waited_for(one_server: Server, path: Path) -> None:
    """Past the busy timeout nothing is acknowledged or dead; when the lock ends, all is stored."""
    code = (
        "import sqlite3, sys\nholder = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "holder.execute('BEGIN IMMEDIATE')\nprint(1, flush=True)\nsys.stdin.read()"
    )
    with (
        closing(open_sink(path)) as sink,
        closing(Batch(one_server, sink)) as batch,
        closing(one_server.client()) as client,
    ):
        published = publish(client, 3)
        entries = batch.source.read()
        with subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as holder:
            assert holder.stdin is not None
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"1\n"

            def let_go() -> None:
                assert set(pending_of(client)) == set(published)
                if batch.health.readiness() and not holder.stdin.closed:  # type: ignore[union-attr]
                    assert "locked" in batch.health.readiness()
                    holder.stdin.close()  # type: ignore[union-attr]
                    holder.wait(timeout=10)

            batch.clock.on_sleep = let_go
            outcome = batch.run(entries)
        assert (outcome.inserted, outcome.dead) == (3, [])
        batch.source.drain()
        assert (pending_of(client), batch.health.readiness(), count(path)) == ({}, "", 3)


def test_a_waiting_consumer_that_is_stopped_acknowledges_nothing(one_server: Server, path: Path) -> None:
    """Asked to stop while the file is locked, it leaves everything pending."""
    with (
        closing(open_sink(path)) as sink,
        closing(Batch(one_server, sink, stop_after=5)) as batch,
        closing(one_server.client()) as client,
    ):
        publish(client, 3)
        with closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(Stopping):
                batch.run(batch.source.read())
        batch.source.drain()
        assert len(pending_of(client)) == 3
        assert batch.letters.lines == []


def test_a_locked_file_at_start_is_something_to_wait_for(path: Path) -> None:
    """It is no reason to call the file unusable."""
    open_sink(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SinkUnavailable, match="locked"):
            open_sink(path)


def test_a_removed_file_takes_no_event_with_it(path: Path) -> None:
    """Rows written after a removal are in a new file, and none goes into the removed one."""
    with closing(open_sink(path)) as sink:
        sink.write([row(1)])
        for one in path.parent.glob("telemetry.db*"):
            one.unlink()
        assert sink.write([row(1), row(2)]).inserted == 2
        assert count(path) == 2
        shutil.rmtree(path.parent)
        assert sink.write([row(3)]).inserted == 1
        assert count(path) == 1


def test_a_replaced_file_is_noticed(tmp_path: Path, path: Path) -> None:
    """Rows go into the file that stands there now."""
    other = tmp_path / "other.db"
    open_sink(other).close()
    with closing(open_sink(path)) as sink:
        sink.write([row(1)])
        other.replace(path)
        assert sink.write([row(1), row(2)]).inserted == 2
        assert Path(f"{path}-wal.orphan").stat().st_size > 0
    assert count(path) == 2


def test_replicas_find_the_new_file_one_after_the_other(tmp_path: Path, path: Path) -> None:
    """The second to notice leaves the log alone that the first has begun for the new file."""
    other = tmp_path / "other.db"
    open_sink(other).close()
    with closing(open_sink(path)) as first, closing(open_sink(path)) as second:
        first.write([row(1)])
        second.write([row(2)])
        other.replace(path)
        assert first.write([row(3)]).inserted == 1
        assert second.write([row(3), row(4)]).inserted == 1
        assert first.write([row(4), row(5)]).inserted == 1
    assert count(path) == 3


def test_a_file_removed_in_the_middle_of_a_write_is_noticed(path: Path) -> None:
    """What was committed into a file that is gone is no success, and is written again."""

    class Unlucky(SQLiteSink):
        is_unlucky = False

        def commit(self, connection: sqlite3.Connection) -> None:
            if self.is_unlucky:
                path.unlink()
                self.is_unlucky = False
            super().commit(connection)

    with closing(Unlucky(path, 50, lambda: 1.0)) as sink:
        sink.is_unlucky = True
        with pytest.raises(SinkUnavailable, match="removed or replaced"):
            sink.write([row(1)])
        assert sink.write([row(1)]).inserted == 1
        assert count(path) == 1


@pytest.mark.parametrize("step", ["connect", "migrate"])
def test_a_file_that_is_replaced_while_it_is_opened_is_left_as_it_is(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """At whatever step: what was begun for the earlier file is no part of the next."""
    other = tmp_path / "other.db"
    filled(path, 1)
    filled(other, 10)

    def replacing(*arguments: object) -> object:
        found = real(*arguments)
        assert Path(f"{path}-wal").exists()
        if other.exists():
            other.replace(path)
        return found

    real = getattr(database, step)
    monkeypatch.setattr(database, step, replacing)
    with pytest.raises(SinkUnavailable, match="while it was opened"):
        open_sink(path)
    assert Path(f"{path}-wal.orphan").exists()
    with closing(open_sink(path)) as sink:
        assert sink.write([row(9), row(10)]).inserted == 1
    assert count(path) == 11


def test_a_wal_that_is_replaced_while_the_file_is_opened_is_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection goes on with the one that is gone, and would take another one for its own."""
    filled(path, 1)

    def replacing(connection: sqlite3.Connection, database: Path) -> None:
        if (wal := Path(f"{path}-wal")).exists():
            wal.unlink()
            wal.touch()
        migrate(connection, database)

    with monkeypatch.context() as patched:
        patched.setattr(database, "migrate", replacing)
        with pytest.raises(SinkUnavailable, match="while it was opened"):
            open_sink(path)
    with closing(open_sink(path)) as sink:
        assert sink.write([row(0), row(1)]).inserted == 1


def test_a_write_that_is_refused_while_the_wal_is_taken_away_leaves_no_transaction(path: Path) -> None:
    """What is open could not be saved with one."""

    class Unlucky(SQLiteSink):
        def _insert(self, connection: sqlite3.Connection, statements: Sequence[Any]) -> int:
            if None in statements[0].values[1:]:
                Path(f"{path}-wal").unlink()
            return super()._insert(connection, statements)

    with closing(Unlucky(path, 50, lambda: 1.0)) as sink:
        sink.write([row(1)])
        with pytest.raises(RowsRefused):
            sink.write([row(2), row(3, value=None)])
        assert sink.write([row(4)]).inserted == 1
    assert stored(path) == {id_of(1), id_of(4)}


def test_a_replica_that_clears_up_leaves_the_next_files_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their numbers may be those of the removed ones, as soon as nobody has these open."""

    def close_slowly() -> None:
        close()
        if not path.exists():
            with pytest.raises(SinkUnavailable, match="another replica writes"):
                quick.write([row(3)])
            tried.append(3)

    tried: list[int] = []
    with closing(open_sink(path)) as slow, closing(open_sink(path)) as quick:
        close = slow._database.close
        monkeypatch.setattr(slow._database, "close", close_slowly)
        slow.write([row(1)])
        quick.write([row(2)])
        for one in path.parent.glob("telemetry.db*"):
            one.unlink()
        slow.write([row(4)])
        assert tried == [3]
        quick.write([row(3)])
        assert stored(path) == {id_of(3), id_of(4)}


@pytest.mark.parametrize("removed", [("-wal",), ("-shm",), ("-wal", "-shm")])
def test_a_wal_that_was_taken_away_is_saved(path: Path, removed: Sequence[str]) -> None:
    """The file is still there: what was committed is found in it, and so is what comes after."""
    with closing(open_sink(path)) as sink:
        sink.write([row(1), row(2)])
        for suffix in removed:
            Path(f"{path}{suffix}").unlink()
        assert sink.write([row(2), row(3)]).inserted == 1
        assert stored(path) == {id_of(1), id_of(2), id_of(3)}


def test_a_wal_that_was_taken_away_is_saved_before_another_is_begun(path: Path) -> None:
    """A replica that is started meanwhile waits until those that have the old one have saved it."""
    with closing(open_sink(path)) as first:
        first.write([row(1)])
        Path(f"{path}-wal").unlink()
        with pytest.raises(SinkUnavailable, match="left to those who have it open"):
            open_sink(path)
        first.write([row(2)])
        with closing(open_sink(path)) as second:
            assert second.write([row(1), row(2), row(3)]).inserted == 1


def test_a_sink_that_fails_at_its_first_write_leaves_nothing_open(path: Path) -> None:
    """What is left to the garbage collector would be closed beside a write of somebody else."""

    class Unlucky(SQLiteSink):
        def commit(self, connection: sqlite3.Connection) -> None:
            super().commit(connection)
            Path(f"{path}-shm").unlink()

    with pytest.raises(SinkUnavailable, match="during a write") as failed:
        Unlucky(path, 50, lambda: 1.0)
    with closing(sqlite3.connect(path, timeout=0)) as other:  # only who is alone may do this
        assert other.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    assert failed.tb is not None  # it has the sink until here


@pytest.mark.parametrize("removed", [("-wal",), ("-wal", "-shm")])
def test_a_wal_that_a_reader_has_made_is_no_next_one(path: Path, removed: Sequence[str]) -> None:
    """Somebody looks between the removal and the next write, and SQLite makes an empty WAL for that."""
    code = """
import sqlite3
connection = sqlite3.connect(sys.argv[3])
try:
    print(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone(), flush=True)
except sqlite3.Error as error:
    print(error, flush=True)
sys.stdin.read()
"""
    with closing(open_sink(path)) as sink:
        sink.write([row(1), row(2)])
        for suffix in removed:
            Path(f"{path}{suffix}").unlink()
        with process(code, path) as reader:
            assert reader.stdout is not None
            reader.stdout.readline()
            assert Path(f"{path}-wal").stat().st_size == 0
            assert sink.write([row(2), row(3)]).inserted == 1
    assert stored(path) == {id_of(1), id_of(2), id_of(3)}


def test_a_wal_that_was_taken_away_from_a_full_disk_is_kept_until_there_is_room(tmp_path: Path) -> None:
    """The obvious thing to remove there. It is saved when it can be, and nothing is lost meanwhile."""
    with small_disk(tmp_path / "small", 4) as folder, closing(open_sink(folder / "telemetry.db")) as sink:
        database = folder / "telemetry.db"
        rows = [row(number) for number in range(2000)]
        sink.write(rows)
        filler = folder / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        Path(f"{database}-wal").unlink()
        with filler.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        for _ in range(2):
            with pytest.raises(SinkUnavailable):
                sink.write([row(2000)])
        filler.unlink()
        assert sink.write([row(0), row(2000)]).inserted == 1
        assert stored(database) == {id_of(number) for number in range(2001)}
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_to_a_database_elsewhere_is_followed(tmp_path: Path, path: Path, is_there: bool) -> None:
    """SQLite has the WAL beside what the link leads to; another target is another database."""
    places = [tmp_path / "one.db", tmp_path / "two.db"]
    path.parent.mkdir()
    if is_there:
        for place in places:
            open_sink(place).close()
    path.symlink_to(places[0])
    with closing(open_sink(path)) as sink:
        assert sink.write([row(1)]).inserted == 1
        assert sink.write([row(1), row(2)]).inserted == 1
        path.unlink()
        path.symlink_to(places[1])
        assert sink.write([row(1)]).inserted == 1
    assert [count(place) for place in places] == [2, 1]


def test_rights_that_were_taken_away_are_waited_for(folder_for_all: Path) -> None:
    """A removed database that can't be made anew is no end of the process."""
    code = f"""
from pathlib import Path
from typing import Any
from samples import row
from services.stores.sqlite.sink import SQLiteSink
from services.contract.errors import SinkUnavailable
{DROP_ROOT}
sink = SQLiteSink(Path(sys.argv[3]) / "telemetry.db", 50, lambda: 1.0)
for line in sys.stdin:
    try:
        print(sink.write([row(int(line))]).inserted, flush=True)
    except SinkUnavailable as error:
        print(error, flush=True)
sink.close()
"""

    def tell(number: int) -> str:
        assert consumer.stdin is not None
        assert consumer.stdout is not None
        consumer.stdin.write(f"{number}\n")
        consumer.stdin.flush()
        return consumer.stdout.readline().strip()

    folder_for_all.chmod(0o777)
    with process(code, folder_for_all) as consumer:
        assert tell(1) == "1"
        folder_for_all.chmod(0o555)
        (folder_for_all / "telemetry.db").unlink()
        for number in (2, 2):
            assert "can't be written: Permission denied" in tell(number)
        folder_for_all.chmod(0o777)
        assert tell(2) == "1"
    assert stored(folder_for_all / "telemetry.db") == {id_of(2)}


def test_a_wal_that_was_hidden_by_a_killed_process_is_found_again(path: Path) -> None:
    """It had it out of the way only for a moment, and there are rows in it."""
    with closing(open_sink(path)) as sink:
        sink.write([row(1)])
        folder = path.parent / "crashed"
        folder.mkdir()
        shutil.copy(path, folder / path.name)
        shutil.copy(f"{path}-wal", folder / f"{path.name}-wal.hidden")
    with closing(open_sink(folder / path.name)) as sink:
        assert sink.write([row(1), row(2)]).inserted == 1
    assert stored(folder / path.name) == {id_of(1), id_of(2)}


@pytest.mark.parametrize("removed", [("-wal",), ("-shm",), ("-wal", "-shm")])
def test_the_last_to_close_leaves_a_wal_alone_that_is_not_its_own(path: Path, removed: Sequence[str]) -> None:
    """Another replica has begun it, stored a row there and ended, before this one has noticed anything."""
    code = """
from pathlib import Path
from typing import Any
from samples import row
from services.stores.sqlite.sink import SQLiteSink
sink = SQLiteSink(Path(sys.argv[3]), 5000, lambda: 1.0)
for line in sys.stdin:
    print(sink.write([row(int(line))]).inserted, flush=True)
sink.close()
"""
    with closing(open_sink(path)) as idle, process(code, path) as busy:
        assert busy.stdin is not None
        assert busy.stdout is not None
        idle.write([row(1)])
        for number, before in ((2, ()), (3, removed)):
            for suffix in before:
                Path(f"{path}{suffix}").unlink()
            busy.stdin.write(f"{number}\n")
            busy.stdin.flush()
            assert busy.stdout.readline() == "1\n"
        busy.stdin.close()
        assert busy.wait(60) == 0
    assert stored(path) == {id_of(1), id_of(2), id_of(3)}
    assert not Path(f"{path}-wal.hidden").exists()


def test_a_wal_that_is_read_is_kept_until_it_can_be_saved(path: Path) -> None:
    """Somebody who reads an older state of it makes a write wait, and loses nothing."""
    with closing(open_sink(path)) as sink:
        sink.write([row(1)])
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM telemetry_events").fetchone()
            sink.write([row(2)])
            Path(f"{path}-wal").unlink()
            for _ in range(2):
                with pytest.raises(SinkUnavailable, match="can't be saved yet: somebody reads it"):
                    sink.write([row(3)])
        assert sink.write([row(3)]).inserted == 1
    assert stored(path) == {id_of(1), id_of(2), id_of(3)}


def test_a_wal_without_its_database_is_put_aside(path: Path) -> None:
    """Neither lost, as by SQLite itself, nor taken for a part of the new database."""
    path.parent.mkdir()
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").write_bytes(b"of before")
    with closing(open_sink(path)) as sink:
        assert sink.write([row(1)]).inserted == 1
        assert count(path) == 1
    for suffix in ("-wal", "-shm"):
        assert Path(f"{path}{suffix}.orphan").read_bytes() == b"of before"


def test_a_file_removed_while_it_is_opened_is_noticed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was opened isn't what stands there: nothing is written into it, and the next one is opened."""
    open_sink(path).close()

    def migrate_and_lose(connection: sqlite3.Connection, where: Path) -> None:
        migrate(connection, where)
        where.unlink()

    with monkeypatch.context() as patched:
        patched.setattr("services.stores.sqlite.database.migrate", migrate_and_lose)
        with pytest.raises(SinkUnavailable, match="removed or replaced while it was opened"):
            open_sink(path)
    with closing(open_sink(path)) as sink:
        assert sink.write([row(1)]).inserted == 1
        assert count(path) == 1


def test_a_turn_is_waited_for(path: Path) -> None:
    """Who has not got it in time stores nothing, and says what keeps it."""
    with closing(open_sink(path)) as sink:
        with (
            turn_in(path.parent, 50) as left_ms,
            pytest.raises(SinkUnavailable, match="locked: another replica writes in"),
        ):
            sink.write([row(1)])
        assert left_ms == 50
        assert count(path) == 0
        assert sink.write([row(1)]).inserted == 1


def test_a_write_waits_for_its_turn_and_for_sqlite_together(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the turn has taken of the time to wait is not waited once more."""

    class Watched(SQLiteSink):
        def commit(self, connection: sqlite3.Connection) -> None:
            waits_ms.append(connection.execute("PRAGMA busy_timeout").fetchone()[0])
            super().commit(connection)

    @contextmanager
    def turn_that_takes_time(*_: object) -> Iterator[int]:
        yield left_ms.pop(0)

    waits_ms: list[int] = []
    left_ms = [50, 40, 7, 50]
    monkeypatch.setattr("services.stores.sqlite.sink.turn_in", turn_that_takes_time)
    with closing(Watched(path, 50, lambda: 1.0)) as sink:
        sink.write([row(1)])
        sink.write([row(2)])
    assert waits_ms == [40, 7, 50]


def test_a_folder_that_was_replaced_while_its_turn_was_awaited_is_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn is one in a folder that is gone, and another replica may have that of the next."""
    path.parent.mkdir()

    def replace(_descriptor: int, _operation: int) -> None:
        path.parent.rename(path.parent.with_name("gone"))
        path.parent.mkdir()

    monkeypatch.setattr("fcntl.flock", replace)
    with pytest.raises(SinkUnavailable, match="removed or replaced meanwhile"), turn_in(path.parent, 50):
        pass


def test_rows_are_stored_when_it_is_their_turn(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit takes rows stored before it began for its own, however long they have waited."""
    now = [1.0]

    def wait(_descriptor: int, _operation: int) -> None:
        now[0] += 5.0

    with closing(SQLiteSink(path, 50, lambda: now[0])) as sink:
        monkeypatch.setattr("fcntl.flock", wait)
        began = now[0]
        sink.write([row(1)])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT stored_at FROM telemetry_events").fetchall() == [(began + 5.0,)]


def test_a_folder_that_cant_be_locked_is_written_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS: one replica works as ever, and several have SQLite's own locks."""

    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr("fcntl.flock", refuse)
    with closing(open_sink(path)) as sink:
        assert sink.write([row(1)]).inserted == 1
    assert count(path) == 1


def test_a_replaced_file_is_told_in_the_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line names it, for somebody will ask where the rows are."""
    with closing(SQLiteSink(path, 50, lambda: 1.0, LOGGER)) as sink, caplog.at_level("WARNING"):
        sink.write([row(1)])
        assert caplog.messages == []
        path.unlink()
        sink.write([row(2)])
        assert caplog.messages == ["database_replaced"]
        assert caplog.records[0].__dict__["path"] == str(path)


def test_a_row_that_is_neither_inserted_nor_found_is_no_duplicate(path: Path) -> None:
    """A table that can't be relied upon takes no acknowledgement, and ends no process."""
    with closing(open_sink(path)) as sink:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(
                "CREATE TRIGGER swallow BEFORE INSERT ON telemetry_events BEGIN SELECT RAISE(IGNORE); END"
            )
        with pytest.raises(SinkUnavailable, match="malformed"):
            sink.write([row(1)])
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP TRIGGER swallow")
        assert sink.write([row(1)]).inserted == 1


def test_a_file_that_became_something_else_is_waited_for(path: Path) -> None:
    """While the pipeline runs, a foreign file in the place is no reason to end, and is left alone."""
    with closing(open_sink(path)) as sink:
        sink.write([row(1)])
        path.unlink()
        path.write_bytes(b"hello, I am a text\n" * 100)
        before = path.read_bytes()
        for _ in range(2):
            with pytest.raises(SinkUnavailable, match="no SQLite database"):
                sink.write([row(2)])
        assert path.read_bytes() == before
        path.unlink()
        assert sink.write([row(2)]).inserted == 1


def test_a_pipe_in_the_place_of_the_database_is_waited_for_by_nobody(path: Path) -> None:
    """Whoever writes or reads says so at once, and leaves it."""
    path.parent.mkdir()
    os.mkfifo(path)
    with pytest.raises(SinkUnusable, match="is no ordinary file, and is left as it is"):
        open_sink(path)
    with pytest.raises(SinkUnavailable, match="is no ordinary file; move it away"):
        SQLiteRows(path)
    assert path.is_fifo()


def test_a_folder_in_the_place_of_the_database_is_named(path: Path) -> None:
    """It is no matter of rights."""
    path.mkdir(parents=True)
    with pytest.raises(SinkUnusable, match="is a folder, and is left as it is; move it away"):
        open_sink(path)
    assert path.is_dir()


def folder_digest(folder: Path) -> dict[str, str]:
    """Name each file of a folder with a digest of its bytes."""
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in folder.iterdir()}


def make_text(path: Path) -> None:
    path.write_bytes(b"not a database at all, whatever its name says\n" * 50)


def make_foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (a)")
        connection.execute("INSERT INTO mine VALUES (1)")
        connection.commit()


def make_foreign_with_a_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE telemetry_events (a)")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()


def make_foreign_by_its_id(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 42")


def make_newer(path: Path) -> None:
    open_sink(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (make_text, "is no SQLite database, and is left as it is"),
        (make_foreign, "is a database of another program, and is left as it is"),
        (make_foreign_with_a_version, "is a database of another program, and is left as it is"),
        (make_foreign_by_its_id, "is a database of another program, and is left as it is"),
        (make_newer, "has schema 999"),
    ],
)
def test_what_is_not_ours_is_refused_and_left_as_it_is(path: Path, make: object, told: str) -> None:
    """One clear line names the file and the trouble, and not a byte of it changes."""
    path.parent.mkdir()
    make(path)  # type: ignore[operator]
    before = folder_digest(path.parent)
    with pytest.raises(SinkUnusable) as caught:
        open_sink(path)
    assert str(path) in str(caught.value)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert folder_digest(path.parent) == before


def test_a_file_of_ours_is_marked_as_ours(path: Path) -> None:
    """Application id, WAL and the schema's number are in the file."""
    open_sink(path).close()
    with closing(sqlite3.connect(path)) as connection:
        pragmas = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "journal_mode", "user_version", "integrity_check")
        ]
    assert pragmas == [APPLICATION_ID, "wal", 1, "ok"]


@pytest.mark.parametrize("version", range(1, newest_schema()))
def test_a_database_of_each_earlier_version_is_brought_up_to_date(path: Path, version: int) -> None:
    """What is stored stays, and the tables are those of a new one."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, upto=version)
        columns = "event_id, device_id, zone, ts, kpi, value, is_degraded, stored_at"
        connection.execute(
            f"INSERT INTO telemetry_events ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, 1.0)",  # noqa: S608
            row(1)[:7],
        )
        # From the third on it is the oldest that a program has to know.
        needed = version if version < 3 else 1
        assert connection.execute("PRAGMA user_version").fetchone() == (needed,)
    with closing(open_sink(path)) as sink:
        assert sink.write([row(1), row(2)]) == (1, [])
    other = path.with_name("other.db")
    open_sink(other).close()
    assert tables_of(path) == tables_of(other)


INSERT_OF_BEFORE = (
    "INSERT INTO telemetry_events (event_id, device_id, zone, ts, kpi, value, is_degraded, stored_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, 1.0) ON CONFLICT (event_id) DO NOTHING"
)
"""As the first version writes a row, and looks for those of an id."""
CONTENT_OF_BEFORE = "SELECT event_id, device_id, zone, ts, kpi, value FROM telemetry_events"


@pytest.mark.parametrize("version", [1, 2])
def test_the_versions_before_still_run_on_it(path: Path, version: int) -> None:
    """Beside one of ours that has just brought the database forward, and after it."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as before:
        migrate(before, path, upto=version)
        before.execute("PRAGMA journal_mode = WAL")
        before.execute(INSERT_OF_BEFORE, row(1)[:7])
        with closing(open_sink(path)) as sink:
            sink.write([row(2, value=-3.5), row(3, attributes='{"a":"b"}')])
            before.execute(INSERT_OF_BEFORE, row(4)[:7])  # prepared with the schema of before
            assert sink.write([row(4), row(5)]) == (1, [])
        assert before.execute("PRAGMA user_version").fetchone() == (version,)
        found = before.execute(CONTENT_OF_BEFORE).fetchall()
        assert found == [row(1)[:6], row(2, value=-3.5)[:6], *(row(number)[:6] for number in (3, 4, 5))]
        with pytest.raises(sqlite3.IntegrityError):
            before.execute(INSERT_OF_BEFORE, row(6, value=math.inf)[:7])


def test_values_below_zero_are_stored_after_an_update(path: Path) -> None:
    """The check of the table is another one, the table the same: not a page of its rows was written."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, upto=1)
        connection.executemany(INSERT_OF_BEFORE, [row(number)[:7] for number in range(5000)])
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(INSERT_OF_BEFORE, row(6000, value=-1.0)[:7])
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        migrate(connection, path)
        assert path.with_name(f"{path.name}-wal").stat().st_size < 200_000 < path.stat().st_size
        connection.execute(INSERT_OF_BEFORE, row(6000, value=-1.0)[:7])
        for value in (math.inf, -math.inf):
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(INSERT_OF_BEFORE, row(6001, value=value)[:7])
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        with pytest.raises(sqlite3.OperationalError, match="may not be modified"):
            connection.execute("DELETE FROM sqlite_schema")


def test_who_has_the_database_open_sees_a_constraint_that_is_replaced(path: Path) -> None:
    """By the number of the schema alone: a migration may do nothing else."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, upto=1)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute(INSERT_OF_BEFORE, row(1)[:7])
            connection.execute("BEGIN IMMEDIATE")
            schema._replace(connection, schema._REPLACED[3])
            connection.execute("COMMIT")
            other.execute(INSERT_OF_BEFORE, row(2, value=-1.0)[:7])


def test_an_update_that_fails_leaves_the_database_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a schema would be none."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, upto=2)
        connection.execute(INSERT_OF_BEFORE, row(1)[:7])
    monkeypatch.setattr(schema, "_REPLACED", {3: schema._REPLACED[3]._replace(new="CHECK (value >")})
    with pytest.raises((SinkUnavailable, SinkUnusable)):
        open_sink(path)
    monkeypatch.undo()
    with closing(open_sink(path)) as sink:
        assert sink.write([row(1), row(2, value=-1.0)]) == (1, [])


def test_rows_that_break_the_new_check_stop_the_update(path: Path) -> None:
    """A damaged database is not brought forward, and stays as it is."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, upto=1)
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(INSERT_OF_BEFORE, row(1, value=math.inf)[:7])
    with pytest.raises(SinkUnusable, match="is damaged"):
        open_sink(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(
            "SELECT count(*) FROM pragma_table_list('schema_migrations')"
        ).fetchone() == (0,)


def test_rows_of_a_database_of_before_are_read_as_they_are(path: Path) -> None:
    """A command may come before the first consumer of this version."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, upto=1)
        connection.execute(INSERT_OF_BEFORE, row(1)[:7])
    with SQLiteRows(path) as rows:
        assert [(one.event_id, one.attributes) for one in rows.events()] == [(id_of(1), {})]
        assert rows.has_any(RowFilter(kpi="humidity"))
        assert not rows.has_any(RowFilter(attributes={"a": "b"}))
        assert [one.events for one in rows.summary()] == [1]


def tables_of(path: Path) -> list[tuple[str, ...]]:
    """Give each column of each table, and what may stand there."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            'SELECT tables.name, columns.name, columns.type, "notnull", pk FROM sqlite_schema AS tables, '
            "pragma_table_info(tables.name) AS columns ORDER BY 1, 2"
        ).fetchall()


def test_an_empty_file_is_as_good_as_none(path: Path) -> None:
    """A file of no bytes becomes a database."""
    path.parent.mkdir()
    path.touch()
    with closing(open_sink(path)) as sink:
        assert sink.write([row(1)]).inserted == 1


def test_a_damaged_file_takes_no_acknowledgement(path: Path) -> None:
    """Pages of rubbish end in an error of the sink, never in a success."""
    with closing(open_sink(path)) as sink:
        sink.write([row(number) for number in range(2000)])
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    with pytest.raises((SinkUnavailable, SinkUnusable)), closing(open_sink(path)) as sink:
        sink.write([row(5000)])


def spoil(path: Path, *pages: int) -> None:
    """Put rubbish into pages of a database, as a disk does."""
    with path.open("r+b") as file:
        for page in pages:
            file.seek(4096 * page)
            file.write(os.urandom(4096))


def filled(path: Path, rows: int = 3000) -> None:
    """Make a database of a few dozen pages, all of it in the file."""
    with closing(open_sink(path)) as sink:
        sink.write([row(number) for number in range(rows)])


@pytest.mark.parametrize("page", [2, 3, 10, 40, 60])
def test_damaged_pages_are_found_at_the_start(path: Path, page: int) -> None:
    """Before anything is read from the stream: one line says what to do, and the file is left as it is."""
    filled(path)
    assert path.stat().st_size > 4096 * 61
    spoil(path, page)
    before = path.read_bytes()
    with pytest.raises(SinkUnusable, match=r"is damaged \(.*move it away with its -wal and -shm"):
        open_sink(path)
    assert path.read_bytes() == before


def test_a_large_database_delays_no_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check ends with its time, whatever it has not come to; what it broke off is no damage."""
    filled(path, 60_000)
    monkeypatch.setattr("services.stores.sqlite.sink.AT_START_S", 0.0)
    with closing(open_sink(path)) as sink:
        assert sink.write([row(100_000)]).inserted == 1
    for at_most_s in (0.0, 0.0001, 0.001, 0.003, 0.01):
        with closing(sqlite3.connect(path)) as connection:
            started = time.monotonic()
            assert find_damage(connection, at_most_s) is None
            assert time.monotonic() - started < 5
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_check_that_was_broken_off_tells_of_no_damage() -> None:
    """An older SQLite then calls pages unused that it has not come to, and raises no error."""

    class Broken(sqlite3.Connection):
        def execute(self, *_: object) -> sqlite3.Cursor:
            time.sleep(0.05)
            return super().execute("SELECT '*** in database main ***\nPage 7 is never used'")

    with closing(sqlite3.connect(":memory:", factory=Broken)) as connection:
        assert find_damage(connection, 0.01) is None
        assert find_damage(connection, 60) == "*** in database main *** Page 7 is never used"


def test_damage_that_no_check_finds_fails_the_probe(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write has met it; so it is no fault of the events, whatever else can be written."""
    monkeypatch.setattr("services.stores.sqlite.sink.AT_A_WRITE_S", 0.0)
    filled(path)
    with closing(open_sink(path, 1000)) as sink:
        with closing(sqlite3.connect(path)) as other:
            other.execute(
                "CREATE TRIGGER swallow BEFORE INSERT ON telemetry_events BEGIN SELECT RAISE(IGNORE); END"
            )
        with pytest.raises(SinkUnavailable, match="malformed"):
            sink.write([row(100_000)])
        with pytest.raises(SinkUnavailable, match="is damaged"):
            sink.probe()
        with closing(sqlite3.connect(path)) as other:
            other.execute("DROP TRIGGER swallow")
        assert sink.write([row(100_000)]).inserted == 1
        sink.probe()


def test_damage_that_a_write_meets_stops_every_write_until_it_is_gone(path: Path) -> None:
    """Also those whose own pages are sound; and the probe fails, so that no event is blamed for it."""
    filled(path)
    sound = path.read_bytes()
    with closing(open_sink(path, 1000)) as sink:
        assert sink.write([row(1)]) == (0, [])
        with closing(sqlite3.connect(path)) as other:  # so that nothing is left of it in memory
            other.execute("INSERT INTO telemetry_events VALUES ('x', 'd', 'z', 1, 'k', 1, 0, 1, NULL)")
            other.commit()
            assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        spoil(path, *range(3, 60))
        with pytest.raises(SinkUnavailable) as met:
            sink.write([row(number) for number in range(1000)])
        assert met.value.kind.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))
        for _ in range(2):
            with pytest.raises(SinkUnavailable, match="is damaged"):
                sink.write([row(100_000)])
            with pytest.raises(SinkUnavailable, match="is damaged"):
                sink.probe()
        path.write_bytes(sound)
        assert sink.write([row(100_000)]).inserted == 1
        sink.probe()


@pytest.mark.parametrize("guilty", [(0,), (313,), (499,), (7, 8, 400)])
def test_refused_rows_among_hundreds_alone_are_dead(path: Path, guilty: tuple[int, ...]) -> None:
    """What the table or a rule of its owner refuses becomes a dead letter, all others are rows."""
    clock, letters = FakeClock(), FakeDeadLetters()
    with closing(open_sink(path)) as sink:
        with closing(sqlite3.connect(path)) as owner:
            owner.execute(
                "CREATE TRIGGER rule BEFORE INSERT ON telemetry_events WHEN NEW.zone = 'closed' "
                "BEGIN SELECT RAISE(ABORT, 'the zone is closed'); END"
            )
        health = Health(60, clock.monotonic)
        persist = Persist(sink, letters, 2, 0.5, clock, health, Metrics("consumer"), LOGGER)
        rows = [row(number) for number in range(500)]
        for number in guilty:
            rows[number] = row(number, zone="closed") if number % 2 else row(number, value=None)
        outcome = persist.store([(entry(number), one) for number, one in enumerate(rows)])
    assert [one.entry.entry_id for one in outcome.dead] == [entry(number).entry_id for number in guilty]
    assert {one.rejection.reason for one in outcome.dead} == {"refused_by_sink"}
    assert outcome.inserted == 500 - len(guilty)
    assert stored(path) == {id_of(number) for number in range(500) if number not in guilty}
    assert clock.sleeps == []


def test_no_event_becomes_a_dead_letter_because_of_damage(path: Path) -> None:
    """However often it is tried: the batch waits for the sink, and is stored in a database that is sound."""
    filled(path)
    letters = FakeDeadLetters()
    with closing(open_sink(path, 1000)) as sink:
        with closing(sqlite3.connect(path)) as other:
            other.execute("INSERT INTO telemetry_events VALUES ('x', 'd', 'z', 1, 'k', 1, 0, 1, NULL)")
            other.commit()
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        spoil(path, *range(3, 60))
        clock = FakeClock()

        def mend() -> None:
            if len(clock.sleeps) == 8:
                path.unlink()

        clock.on_sleep = mend
        health = Health(60, clock.monotonic)
        persist = Persist(sink, letters, 2, 0.0, clock, health, Metrics("consumer"), LOGGER)
        stored = persist.store([(entry(number), row(number)) for number in range(1000)])
    assert (stored.inserted, stored.dead, letters.lines) == (1000, [], [])


def test_several_sinks_share_one_file(path: Path) -> None:
    """Replicas on one node see each other's rows as duplicates, also when both make the file."""
    with closing(open_sink(path, 5000)) as one, closing(open_sink(path, 5000)) as other:
        assert one.write([row(1), row(2)]).inserted == 2
        assert other.write([row(2), row(3)]) == (1, [])
        assert one.write([row(3, value=1.0)]) == (0, [0])
    assert count(path) == 3


@pytest.fixture
def folder_for_all() -> Iterator[Path]:
    """Make a folder that a user without rights can reach: pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="telemetry-test-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


DROP_ROOT = "import os\nif os.geteuid() == 0: os.seteuid(65534)\n"


def test_a_folder_without_rights_is_named(folder_for_all: Path) -> None:
    """A read-only DATA_DIR is one clear line, whether the folder is there or has to be made."""
    folder_for_all.chmod(0o555)
    code = f"""
from pathlib import Path
from typing import Any
from services.stores.sqlite.sink import SQLiteSink
from services.contract.errors import SinkUnusable
{DROP_ROOT}
for place in (Path(sys.argv[3]), Path(sys.argv[3]) / "new"):
    try:
        SQLiteSink(place / "telemetry.db", 50, lambda: 1.0)
    except SinkUnusable as error:
        print(error)
"""
    first, second = child(code, folder_for_all).splitlines()
    assert first == f"{folder_for_all} can't be written: Permission denied; check the rights on DATA_DIR"
    assert f"{folder_for_all / 'new'} can't be written" in second


def test_a_file_that_may_only_be_read_is_named(folder_for_all: Path) -> None:
    """A database that belongs to somebody else is refused at the start."""
    database = folder_for_all / "telemetry.db"
    open_sink(database).close()
    database.chmod(0o444)
    folder_for_all.chmod(0o555)
    code = f"""
from pathlib import Path
from typing import Any
from services.stores.sqlite.sink import SQLiteSink
from services.contract.errors import SinkUnusable
{DROP_ROOT}
try:
    SQLiteSink(Path(sys.argv[3]), 50, lambda: 1.0)
except SinkUnusable as error:
    print(error)
"""
    assert "can't be written" in child(code, database)


def test_a_full_disk_loses_nothing_and_is_waited_for(path: Path) -> None:
    """Where no byte more fits, a write fails whole; with room again it works, on the same sink."""
    open_sink(path).close()
    code = """
import resource
from pathlib import Path
from typing import Any
from samples import row
from services.contract.errors import SinkUnavailable
from services.stores.sqlite.sink import SQLiteSink
sink = SQLiteSink(Path(sys.argv[3]), 50, lambda: 1.0)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
stored = failed = 0
for batch in range(60):
    rows = [row(batch * 100 + number) for number in range(100)]
    try:
        stored += sink.write(rows).inserted
    except SinkUnavailable:
        failed += 1
        try:
            sink.probe()
        except SinkUnavailable:
            pass
print(stored, failed)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sink.probe()
print(sink.write([row(number) for number in range(6000)]).inserted + stored)
sink.close()
"""
    first, second = child(code, path).splitlines()
    stored, failed = map(int, first.split())
    assert failed > 0
    assert (stored + failed * 100, int(second)) == (6000, 6000)
    assert count(path) == 6000


def test_batches_of_all_sizes_go_in_by_few_statements(tmp_path: Path) -> None:
    """Each costs SQLite more to read than its rows to insert."""
    seen: set[int] = set()
    number = 0
    with closing(SQLiteSink(tmp_path / "telemetry.db", 50, lambda: 1.0)) as sink:
        connection = sink._database.connection
        assert connection is not None

        def note(sql: str) -> None:
            if sql.startswith("INSERT INTO telemetry_events"):
                seen.add(sql.count("('"))

        connection.set_trace_callback(note)
        for size in (*range(1, 130), 255, 256, 257, 511, 1000, 4000):
            rows = [row(one) for one in range(number, number + size)]
            assert sink.write(rows).inserted == size
            number += size
        assert connection.execute("SELECT count(*) FROM telemetry_events").fetchone() == (number,)
    assert seen == {1 << power for power in range(9)}
