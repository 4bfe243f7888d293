"""What becomes of batches while a real PostgreSQL fails: each stored once, no good event a dead letter."""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self

import psycopg
import pytest
from fakes import FakeDeadLetters
from postgres import STORED, LocalPostgres, database, own_postgres, rows_of
from proxy import Proxy, Weather
from samples import entry, id_of, row
from servers import eventually

from services.consumer.persist import Persist, Stored
from services.contract.errors import SinkUnavailable
from services.contract.event import Event
from services.runtime.clock import SystemClock
from services.runtime.health import Health
from services.runtime.logs.gate import Logs
from services.runtime.telemetry.metrics import Metrics
from services.stores.postgres.connection import Database
from services.stores.postgres.rows import PostgresRows
from services.stores.postgres.sink import PostgresSink


class Consumer:
    """The part of a consumer that stores batches, on a database, with short pauses."""

    def __init__(self, where: Database, max_retries: int = 2) -> None:
        self.clock = SystemClock()
        self.letters = FakeDeadLetters()
        self.health = Health(60, self.clock.monotonic)
        self.sink = PostgresSink(where, time.time, is_stopping=self.clock.is_stopping)
        logger = Logs("consumer", "CRITICAL", "json").logger
        self.persist = Persist(
            self.sink, self.letters, max_retries, 0.05, self.clock, self.health, Metrics("consumer"), logger
        )

    def store(self, rows: list[Event]) -> Stored:
        """Store a batch, for as long as it takes."""
        return self.persist.store([(entry(number), one) for number, one in enumerate(rows)])


@contextmanager
def consuming(where: Database, max_retries: int = 2) -> Iterator[Consumer]:
    """Give a consumer; closed at the end."""
    one = Consumer(where, max_retries)
    with closing(one.sink):
        yield one


def batch_of(number: int, size: int = 50) -> list[Event]:
    """Give a batch of its own."""
    return [row(number * size + at) for at in range(size)]


def test_a_refused_row_is_found_by_halves_and_the_others_are_stored(postgres_url: str) -> None:
    """Of a thousand; two of them are what the database has no place for."""
    rows = [row(number) for number in range(1000)]
    rows[313] = row(313, ts=1e15)
    rows[777] = row(777, device_id="a\0b")
    with consuming(database(postgres_url)) as consumer:
        stored = consumer.store(rows)
    assert stored.inserted == 998
    assert [one.entry.entry_id for one in stored.dead] == [b"1700000000000-313", b"1700000000000-777"]
    assert {one.rejection.reason for one in stored.dead} == {"refused_by_sink"}
    assert rows_of(postgres_url, "SELECT count(*) FROM telemetry.events") == [(998,)]


@pytest.mark.parametrize("code", ["P0001", "38000", "45000", "U0001"])
def test_a_row_that_a_trigger_refuses_stands_alone(postgres_url: str, code: str) -> None:
    """Rules that the owner of the database adds are rules, whatever code they say it by."""
    with consuming(database(postgres_url)) as consumer:
        with psycopg.connect(postgres_url, autocommit=True) as owner:
            owner.execute(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF NEW.zone = 'closed' THEN RAISE 'the zone is closed' USING ERRCODE = '{code}'; END IF; "
                "RETURN NEW; END $$"
            )
            owner.execute(
                "CREATE TRIGGER rule BEFORE INSERT ON telemetry.events FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        stored = consumer.store([row(1), row(2, zone="closed"), row(3)])
    assert stored.inserted == 2
    assert "the zone is closed" in stored.dead[0].rejection.error


def test_rows_that_somebody_holds_for_ever_become_dead_letters_and_no_others(postgres_url: str) -> None:
    """The table takes writes: the fault is that of these rows."""
    with (
        consuming(database(postgres_url, lock_timeout_s=0.1)) as consumer,
        psycopg.connect(postgres_url) as other,
    ):
        other.execute(
            "INSERT INTO telemetry.events (event_id, device_id, zone, ts, kpi, value, is_degraded, "
            "stored_at) "
            "VALUES (%s, 'other', 'zone-1', now(), 'humidity', 1, false, now())",
            (id_of(5),),
        )
        stored = consumer.store([row(number) for number in range(8)])
        other.rollback()
    assert stored.inserted == 7
    assert [one.rejection.reason for one in stored.dead] == ["retries_exhausted"]


class Load:
    """Consumers that store batch after batch, until told to stop."""

    def __init__(self, where: Database, consumers: int = 3) -> None:
        self.done: list[Stored] = []
        self.failures: list[BaseException] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(where, number, consumers)) for number in range(consumers)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def wait_for(self, batches: int, timeout_s: float = 60) -> None:
        """Wait until so many more batches are stored."""
        wanted = len(self.done) + batches
        eventually(lambda: len(self.done) >= wanted or self.failures, timeout_s, f"{batches} batches more")

    def _run(self, where: Database, number: int, consumers: int) -> None:
        try:
            with consuming(where) as consumer:
                while not self._stop.is_set():
                    # Each row comes twice: a batch that was taken over.
                    for _ in range(2):
                        self.done.append(consumer.store(batch_of(number)))
                    number += consumers
        except BaseException as error:  # noqa: BLE001 - told by the test
            self.failures.append(error)


def crash(server: LocalPostgres) -> None:
    server.kill()
    server.start()


def stop_at_once(server: LocalPostgres) -> None:
    server.stop(signal.SIGQUIT)
    server.start()


def restart(server: LocalPostgres) -> None:
    server.stop()
    server.start()


def freeze(server: LocalPostgres) -> None:
    server.pause()
    time.sleep(4)  # longer than it is waited for
    server.resume()


def refuse_writes(server: LocalPostgres) -> None:
    with server.admin() as admin:
        admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        admin.execute("SELECT pg_reload_conf()")
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'telemetry%'"
        )
    time.sleep(1)
    with server.admin() as admin:
        admin.execute("SET default_transaction_read_only = off")
        admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
        admin.execute("SELECT pg_reload_conf()")
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'telemetry%'"
        )


def end_sessions(server: LocalPostgres) -> None:
    with server.admin() as admin:
        for _ in range(20):
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE "
                "'telemetry%'"
            )
            time.sleep(0.05)


def lock_the_table(server: LocalPostgres) -> None:
    with psycopg.connect(server.dsn()) as other:
        other.execute("LOCK TABLE telemetry.events IN ACCESS EXCLUSIVE MODE")
        time.sleep(3)  # past every retry


@pytest.mark.parametrize(
    "fault", [crash, stop_at_once, restart, freeze, refuse_writes, end_sessions, lock_the_table]
)
def test_every_row_is_stored_once_whatever_the_server_does(
    own_postgres_server: LocalPostgres, fault: Callable[[LocalPostgres], None]
) -> None:
    """Twice in a row, under load; what was told to be stored is there, and no good event is dead."""
    server = own_postgres_server
    where = database(server.dsn(), timeout_s=1.0, lock_timeout_s=0.3)
    with Load(where) as load:
        for _ in range(2):
            load.wait_for(12)
            fault(server)
        load.wait_for(12)
    assert load.failures == []
    assert [one for stored in load.done for one in stored.dead] == []
    total, distinct = rows_of(
        server.dsn(), "SELECT count(*), count(DISTINCT event_id) FROM telemetry.events"
    )[0]
    assert total == distinct
    # Two writes of each batch, of which one inserted; a commit without an answer was counted by nobody.
    assert total >= 50 * len(load.done) // 2 - 150
    assert sum(one.inserted for one in load.done) <= total
    told = {one.event_id for one in (Event(*row) for row in rows_of(server.dsn(), STORED))}
    assert len(told) == total


@pytest.mark.parametrize(
    "weather",
    [
        Weather(is_open=False),
        Weather(losses=0.2),
        Weather(resets=0.2),
        Weather(piece_bytes=700, pause_s=0.002),
    ],
    ids=["swallows", "loses replies", "resets", "slow"],
)
def test_every_row_is_stored_once_whatever_the_network_does(
    own_postgres_server: LocalPostgres, weather: Weather
) -> None:
    """An answer that does not come is no commit; there may be one, and the rows are duplicates then."""
    server = own_postgres_server
    proxy = Proxy(server)
    url = f"postgresql://postgres@{proxy.host}:{proxy.port}/postgres"
    try:
        with Load(database(url, timeout_s=1.0, lock_timeout_s=0.3)) as load:
            load.wait_for(12)
            with proxy.in_weather(weather):
                time.sleep(4)
            load.wait_for(12)
    finally:
        proxy.close()
    assert load.failures == []
    assert [one for stored in load.done for one in stored.dead] == []
    found = rows_of(server.dsn(), "SELECT count(*), count(DISTINCT event_id) FROM telemetry.events")
    total, distinct = found[0]
    assert total == distinct
    assert total >= 50 * len(load.done) // 2 - 150


def test_no_connection_left_is_waited_for(own_postgres_server: LocalPostgres) -> None:
    """Told with what to change; it goes on once one is free."""
    server = own_postgres_server
    with consuming(database(server.dsn())) as consumer, server.admin() as admin:
        admin.execute("CREATE ROLE plain LOGIN")
        admin.execute("ALTER ROLE plain CONNECTION LIMIT 0")
        with pytest.raises(SinkUnavailable, match="raise max_connections"):
            PostgresSink(database(server.dsn(user="plain")), time.time)
        assert consumer.store([row(1)]).inserted == 1


def test_a_standby_is_waited_for_with_what_to_change(own_postgres_server: LocalPostgres) -> None:
    """It takes no writes until it is promoted; then it does, on the same connection settings."""
    server = own_postgres_server
    with closing(PostgresSink(database(server.dsn()), time.time)) as sink:
        sink.write([row(1)])
    standby = LocalPostgres()
    try:
        server.run(
            *("pg_basebackup", "-D", str(standby.data), "-h", server.host, "-p", str(server.port)),
            *("-U", "postgres", "-R", "-X", "stream", "-c", "fast"),
        )
        standby.start()
        url = standby.dsn()
        with pytest.raises(SinkUnavailable, match=r"is a standby.*target_session_attrs=read-write"):
            PostgresSink(database(url), time.time)
        both = f"postgresql://postgres@{standby.host}:{standby.port},{server.host}:{server.port}/postgres"
        with closing(PostgresSink(database(f"{both}?target_session_attrs=read-write"), time.time)) as sink:
            assert sink.write([row(2)]) == (1, [])
            eventually(lambda: len(rows_of(url, STORED)) == 2, 20, "the standby has it")
            with PostgresRows(database(url)) as rows:  # whoever reads may read there
                assert rows.count() == 2
                assert list(rows.event_ids()) == [id_of(1), id_of(2)]
                assert sum(one.events for one in rows.summary()) == 2
            server.kill()
            standby.run("pg_ctl", "promote", "-D", str(standby.data))

            def writes() -> bool:
                try:
                    return sink.write([row(2), row(3)]).inserted <= 1
                except SinkUnavailable:
                    return False

            eventually(writes, 30, "the sink writes to the one that was promoted")
        assert [one[0] for one in rows_of(url, STORED)] == [id_of(1), id_of(2), id_of(3)]
    finally:
        standby.remove()


@pytest.fixture
def small_server() -> Iterator[LocalPostgres]:
    """Give a server whose files are on a disk of 120 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = Path(tempfile.mkdtemp(prefix="telemetry-postgres-small-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    server = LocalPostgres("max_wal_size=32MB", "min_wal_size=32MB", "wal_keep_size=0", folder=folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        subprocess.run(["umount", "-l", str(folder)], check=False)
        folder.rmdir()


def fill(file: Path) -> None:
    """Leave no room on the disk of a file."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as filler:
        while True:
            filler.write(b"\0" * 65_536)


def test_a_full_disk_keeps_events_waiting_and_none_becomes_a_dead_letter(small_server: LocalPostgres) -> None:
    """A probe has room where rows have none: it tells the last write's failure. With room it goes on."""
    server = small_server
    filler = server.folder / "filler"
    with Load(database(server.dsn(), timeout_s=2.0), consumers=2) as load:
        load.wait_for(6)
        fill(filler)
        eventually(lambda: "No space left on device" in server.log(), 60, "the disk is full")
        time.sleep(2)
        filler.unlink()
        if server._ended():  # a full log of the database makes the whole server panic
            server.start()
        load.wait_for(6)
    assert load.failures == []
    assert [one for stored in load.done for one in stored.dead] == []
    total, distinct = rows_of(
        server.dsn(), "SELECT count(*), count(DISTINCT event_id) FROM telemetry.events"
    )[0]
    assert total == distinct
    assert total >= sum(one.inserted for one in load.done)


def test_a_server_without_fsync_is_refused() -> None:
    """It would lose what is acknowledged."""
    for server in own_postgres():
        server.stop()
        server.start("fsync=off")
        with pytest.raises(Exception, match="set fsync = on"):
            PostgresSink(database(server.dsn()), time.time)
