"""The database is locked, full, removed, or none of ours: nothing is acknowledged that isn't durable."""

import contextlib
import functools
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from acceptance.disks import small_disk
from acceptance.publisher import Published
from acceptance.rig import CROWDED, PATIENCE_S, Process, Rig, free_port
from servers import eventually

from services.brokers.redis.server.entry_ids import id_parts


@pytest.fixture(name="small_disk")
def disk_of_4_mb(tmp_path: Path) -> Iterator[Path]:
    """Give a folder on a disk of 4 MB."""
    with small_disk(tmp_path / "small", 4) as folder:
        yield folder


@pytest.fixture
def database_lock(rig: Rig) -> Iterator[sqlite3.Connection]:
    """Give a connection that can lock the database, made where there is none."""
    rig.settings.data_dir.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(rig.settings.database, isolation_level=None)) as connection:
        yield connection


def fill(folder: Path, leave_bytes: int = 0) -> Path:
    """Fill a disk but for some bytes, and give the file that does it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    if leave_bytes:
        os.truncate(filler, filler.stat().st_size - leave_bytes)
    return filler


def test_a_locked_database_is_waited_for(rig: Rig) -> None:
    """A lock held past timeout and retries makes the consumer unready; nothing becomes a dead letter."""
    publisher = rig.publisher()
    consumer = rig.consumer(CONSUMER_METRICS_PORT=str(free_port()))
    publisher.valid(100).send()
    rig.drain(consumer)
    with contextlib.closing(sqlite3.connect(rig.settings.database, isolation_level=None)) as connection:
        for _ in range(5):
            connection.execute("BEGIN IMMEDIATE")
            publisher.valid(1).send()
            assert consumer.is_unready("database is locked")
            rig.assert_law()
            assert rig.pending()
            connection.execute("ROLLBACK")
            rig.drain(consumer)
            assert consumer.is_ready()
    consumer.stop()
    assert rig.letters() == {}
    rig.assert_complete()


def test_a_database_that_is_locked_at_the_start_is_waited_for(
    rig: Rig, database_lock: sqlite3.Connection
) -> None:
    """A consumer that can't open its database yet stays alive and unready, and begins when it can."""
    publisher = rig.publisher()
    publisher.valid(10).send()
    database_lock.execute("BEGIN EXCLUSIVE")
    consumer = rig.consumer(CONSUMER_METRICS_PORT=str(free_port()))
    assert consumer.is_unready("database is locked")
    database_lock.execute("ROLLBACK")
    rig.drain(consumer)
    assert consumer.is_ready()
    consumer.stop()
    rig.assert_complete()


def test_sigterm_ends_a_consumer_that_waits_for_its_database(
    rig: Rig, database_lock: sqlite3.Connection
) -> None:
    """Asked to stop before it could open its database, a consumer ends as asked."""
    rig.publisher().valid(10).send()
    database_lock.execute("BEGIN EXCLUSIVE")
    consumer = rig.consumer(CONSUMER_METRICS_PORT=str(free_port()))
    assert consumer.is_unready("database is locked")
    consumer.signal(signal.SIGTERM)
    assert consumer.wait() == 0
    database_lock.execute("ROLLBACK")
    following = rig.consumer()
    rig.drain(following)
    following.stop()
    rig.assert_complete()


def test_a_full_disk_stops_the_reading_and_nothing_is_acknowledged(rig: Rig, small_disk: Path) -> None:
    """A database on a full disk: unready, everything pending; with space again, everything is stored."""
    rig.use_data(small_disk / "data")
    publisher = rig.publisher()
    consumer = rig.consumer(CONSUMER_METRICS_PORT=str(free_port()))
    publisher.mix(200).send()
    rig.drain(consumer)
    filler = fill(small_disk)
    publisher.valid(2000).send()
    assert consumer.is_unready("database or disk is full")
    rig.assert_law()
    assert rig.pending()
    assert consumer.probe("/livez")[0] == 200
    filler.unlink()
    rig.drain(consumer)
    assert consumer.is_ready()
    consumer.stop()
    rig.assert_complete()


def test_restarts_during_an_outage_make_no_event_a_dead_letter(rig: Rig, small_disk: Path) -> None:
    """A consumer that starts on a full disk reads nothing, so no delivery is counted for nothing."""
    rig.use_data(small_disk / "data")
    publisher = rig.publisher()
    first = rig.consumer()
    publisher.valid(100).send()
    rig.drain(first)
    first.stop()
    filler = fill(small_disk)
    publisher.valid(2000).send()
    for _ in range(8):
        restarted = rig.consumer(CONSUMER_METRICS_PORT=str(free_port()), MAX_DELIVERIES="3")
        assert restarted.is_unready("sink: ")
        restarted.signal(signal.SIGTERM)
        assert restarted.wait() == 0
    filler.unlink()
    last = rig.consumer(MAX_DELIVERIES="3")
    rig.drain(last)
    last.stop()
    rig.assert_complete()
    assert rig.letters() == {}


def test_a_full_disk_for_dead_letters_keeps_their_entries_pending(rig: Rig, small_disk: Path) -> None:
    """Dead letters that can't be written leave their entries pending, and leave no half line behind."""
    rig.use_data(small_disk / "data")
    publisher = rig.publisher()
    consumer = rig.consumer(CONSUMER_METRICS_PORT=str(free_port()))
    publisher.mix(100).send()
    rig.drain(consumer)
    filler = fill(small_disk)
    publisher.invalid(200).send()
    assert consumer.is_unready("dead_letters: ")
    rig.assert_law()
    assert rig.pending()
    filler.unlink()
    rig.drain(consumer)
    assert consumer.is_ready()
    consumer.stop()
    rig.assert_complete()
    lines = rig.settings.dead_letter_file.read_bytes().splitlines()
    assert all(line.endswith(b"}") for line in lines)


def _remove(rig: Rig, suffixes: Sequence[str]) -> None:
    """Remove the database, or what stands beside it, in this order."""
    for suffix in suffixes:
        rig.settings.database.with_name(f"telemetry.db{suffix}").unlink(missing_ok=True)


@pytest.mark.parametrize("also", [(), ("-wal", "-shm")])
def test_a_removed_database_is_noticed_and_its_rows_are_named(rig: Rig, also: Sequence[str]) -> None:
    """A consumer writes no acknowledged row into a file that is gone; the audit names what went with it."""
    publisher = rig.publisher()
    consumer = rig.consumer()
    removed = publisher.valid(100).send()
    rig.drain(consumer)
    _remove(rig, ("", *also))
    kept = publisher.valid(100).send()
    rig.drain(consumer)
    consumer.stop()
    assert set(rig.stored()) == {one.event_id for one in kept}
    rig.assert_integrity()
    result = rig.audit(show=1000)
    assert result.total.missing == 100
    assert [name.strip("*-") for name in result.runs[0].missing] == [
        str(one.event_id)[14:] for one in removed
    ]


@pytest.mark.parametrize("also", [(), ("-wal", "-shm")])
def test_replicas_agree_on_the_next_database_after_theirs_was_removed(rig: Rig, also: Sequence[str]) -> None:
    """Three replicas whose file is removed again and again meet in the next one, and lose no row of it."""
    publisher = rig.publisher()
    consumers = [rig.consumer(f"consumer-{number}", **CROWDED) for number in range(3)]
    for _ in range(8):
        publisher.valid(300).send()
        rig.drain(*consumers)
        _remove(rig, ("", *also))
    kept = publisher.valid(500).send()
    rig.drain(*consumers)
    for one in consumers:
        one.stop()
    assert set(rig.stored()) == {one.event_id for one in kept}
    assert rig.letters() == {}
    rig.assert_integrity()
    assert rig.audit().total.missing == 8 * 300


@pytest.mark.parametrize("suffixes", [("",), ("", "-wal", "-shm"), ("-wal", "-shm", "")])
def test_a_database_removed_under_busy_replicas_takes_no_later_row_with_it(
    rig: Rig, suffixes: Sequence[str]
) -> None:
    """Whatever they are at when it happens: all that is acknowledged afterwards is in the next file."""
    publisher = rig.publisher()
    consumers = [rig.consumer(f"consumer-{number}", BATCH_SIZE="20", **CROWDED) for number in range(3)]
    for _ in range(10):
        sent = publisher.valid(1000).send()
        eventually(functools.partial(_is_delivered, rig, sent[500]), PATIENCE_S, "half of it is delivered")
        _remove(rig, suffixes)
    kept = publisher.valid(1000).send()
    rig.drain(*consumers)
    for one in consumers:
        one.stop()
    assert {one.event_id for one in kept} <= set(rig.stored())
    assert rig.letters() == {}
    rig.assert_integrity()
    assert rig.audit().total.missing == 11_000 - len(rig.stored())


@pytest.mark.parametrize("suffixes", [("-wal",), ("-shm",), ("-wal", "-shm")])
def test_replicas_save_the_wal_that_was_taken_from_them(rig: Rig, suffixes: Sequence[str]) -> None:
    """The database stays: none of its rows is lost, of before and of after."""
    publisher = rig.publisher()
    consumers = [rig.consumer(f"consumer-{number}", **CROWDED) for number in range(3)]
    for _ in range(5):
        publisher.valid(300).send()
        rig.drain(*consumers)
        _remove(rig, suffixes)
    publisher.valid(300).send()
    rig.drain(*consumers)
    for one in consumers:
        one.stop()
    rig.assert_complete()


def _is_delivered(rig: Rig, one: Published) -> bool:
    return rig.last_delivered() >= id_parts(one.entry_id)


def _refused(rig: Rig, consumer: Process) -> str:
    """Wait for its end, see one line of why, and give it."""
    assert consumer.wait() == 1, consumer.text
    (line,) = consumer.lines()
    assert (line["message"], line["levelname"]) == ("sink_unusable", "CRITICAL")
    assert len(consumer.text.splitlines()) == 1
    assert not rig.pending()
    return str(line["error"])


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_file_that_is_no_database_is_left_as_it_is(rig: Rig) -> None:
    """Something else in the database's place: exit code 1, one line, the file untouched."""
    rig.publisher().mix(20).send()
    rig.data.mkdir()
    rig.settings.database.write_bytes(b"meeting notes, do not lose\n" * 100)
    before = _contents(rig.data)
    assert "is no SQLite database" in _refused(rig, rig.consumer())
    assert _contents(rig.data) == before


def test_a_database_of_another_program_is_left_as_it_is(rig: Rig) -> None:
    """Somebody else's database: exit code 1, one line, the file untouched."""
    rig.publisher().mix(20).send()
    rig.data.mkdir()
    with contextlib.closing(sqlite3.connect(rig.settings.database)) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
        connection.commit()
    before = _contents(rig.data)
    assert "another program" in _refused(rig, rig.consumer())
    assert _contents(rig.data) == before


def test_a_newer_schema_is_left_as_it_is(rig: Rig) -> None:
    """A database of a later version: exit code 1, one line that says so, the rows untouched."""
    publisher = rig.publisher()
    consumer = rig.consumer()
    publisher.mix(50).send()
    rig.drain(consumer)
    consumer.stop()
    with contextlib.closing(sqlite3.connect(rig.settings.database)) as connection:
        connection.execute("PRAGMA user_version = 999")
    before = rig.settings.database.read_bytes()
    assert "newer" in _refused(rig, rig.consumer())
    assert rig.settings.database.read_bytes() == before
    with contextlib.closing(sqlite3.connect(rig.settings.database)) as connection:
        connection.execute("PRAGMA user_version = 1")
    rig.assert_complete()


def _without_root_rights() -> list[str]:
    """Give a command prefix under which rights of files count for root, too."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root, and no setpriv: rights can't be taken away")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]


@pytest.mark.parametrize("is_new", [True, False])
def test_a_folder_that_cant_be_written_is_refused(rig: Rig, is_new: bool) -> None:
    """A read-only folder: exit code 1, one line that names it, nothing acknowledged, nothing changed."""
    publisher = rig.publisher()
    if not is_new:
        consumer = rig.consumer()
        publisher.mix(50).send()
        rig.drain(consumer)
        consumer.stop()
    publisher.mix(50).send()
    rig.data.mkdir(exist_ok=True)
    before = _contents(rig.data)
    files = [rig.data, *rig.data.iterdir()]
    for path in files:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        command = [*_without_root_rights(), *rig.python, "-m", "services.consumer"]
        refused = rig.start("consumer-readonly", command, {"CONSUMER_NAME": "consumer-readonly"})
        error = _refused(rig, refused)
    finally:
        for path in files:
            path.chmod(0o700 if path.is_dir() else 0o600)
    assert str(rig.data) in error
    assert "DATA_DIR" in error
    assert _contents(rig.data) == before
    assert not rig.pending()
    consumer = rig.consumer()
    rig.drain(consumer)
    consumer.stop()
    rig.assert_complete()
