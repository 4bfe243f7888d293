"""The sink on a real PostgreSQL: what durability hangs on, two consumers at once, and what is refused."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from postgres import STORED, LocalPostgres, database, own_postgres, rows_of, waiting
from samples import id_of, row
from servers import eventually

from services.contract.errors import RowsRefused, SinkUnavailable, SinkUnusable
from services.contract.event import Event
from services.stores.postgres.partitions import READERS_LOCK
from services.stores.postgres.sink import PostgresSink


@contextmanager
def opened(url: str, **more: Any) -> Iterator[PostgresSink]:
    """Open a sink on a database; closed at the end."""
    with closing(PostgresSink(database(url, **more), lambda: 1_700_000_001.25)) as sink:
        yield sink


def stored(url: str) -> list[Event]:
    """Read what is there, beside the sink."""
    return [Event(*one) for one in rows_of(url, STORED)]


def test_rows_are_stored_as_they_were_given(postgres_url: str) -> None:
    """Each field comes back, with the time at which it was stored."""
    rows = [row(1), row(2, is_degraded=1, value=-0.5), row(3, device_id="Gerät ☃ 7", zone="a'; DROP--")]
    with opened(postgres_url) as sink:
        assert sink.write(rows) == (3, [])
    assert stored(postgres_url) == rows
    times = rows_of(
        postgres_url, "SELECT DISTINCT extract(epoch FROM stored_at)::float8 FROM telemetry.events"
    )
    assert times == [(1_700_000_001.25,)]


def test_a_time_has_microseconds_and_comes_again_as_the_same(postgres_url: str) -> None:
    """What a float has beyond them is rounded the same way each time: no false conflict."""
    rows = [row(number, ts=1_700_000_000 + number * 1.0000003e-3) for number in range(1, 500)]
    with opened(postgres_url) as sink:
        assert sink.write(rows) == (499, [])
        assert sink.write(rows) == (0, [])
    assert [one.ts for one in stored(postgres_url)] == [round(one.ts, 6) for one in rows]


def test_positions_of_conflicts_are_those_of_the_batch_as_it_was_given(postgres_url: str) -> None:
    """It is written in the order of its ids, and told in its own."""
    rows = [row(number) for number in (7, 3, 9, 1, 5)]
    with opened(postgres_url) as sink:
        sink.write([rows[1]])
        changed = [rows[0], rows[1]._replace(value=99.0), *rows[2:], rows[0]._replace(zone="elsewhere")]
        assert sink.write(changed) == (4, [1, 5])


def test_two_consumers_write_the_same_rows_in_opposite_order(postgres_url: str) -> None:
    """None waits for the other in a circle, and each row is inserted once: a batch that was taken over."""
    rows = [row(number) for number in range(4000)]
    with opened(postgres_url, lock_timeout_s=20.0) as one, opened(postgres_url, lock_timeout_s=20.0) as other:
        for trial in range(5):
            mine = [
                one_row._replace(event_id=id_of(10_000 * (trial + 1) + at)) for at, one_row in enumerate(rows)
            ]
            counts: list[int] = []
            gate = threading.Barrier(2)

            def write(
                sink: PostgresSink,
                order: list[Event],
                counts: list[int] = counts,
                gate: threading.Barrier = gate,
            ) -> None:
                gate.wait()
                counts.append(sink.write(order).inserted)

            threads = [
                threading.Thread(target=write, args=(one, mine)),
                threading.Thread(target=write, args=(other, mine[::-1])),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sum(counts) == 4000
    assert rows_of(postgres_url, "SELECT count(*), count(DISTINCT event_id) FROM telemetry.events") == [
        (20_000, 20_000)
    ]


@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
def test_another_content_that_is_committed_meanwhile_is_a_conflict(postgres_url: str, isolation: str) -> None:
    """It was not there when the write began, which has waited for it; whatever isolation the database has."""
    name = postgres_url.rpartition("/")[2]
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'".encode())
    with opened(postgres_url, lock_timeout_s=20.0) as sink, psycopg.connect(postgres_url) as other:
        other.execute(
            "INSERT INTO telemetry.events (event_id, device_id, zone, ts, kpi, value, is_degraded, "
            "stored_at) "
            "VALUES (%s, 'other', 'zone-1', now(), 'humidity', 1, false, now())",
            (id_of(2),),
        )
        written: list[Any] = []
        thread = threading.Thread(target=lambda: written.append(sink.write([row(1), row(2), row(3)])))
        thread.start()
        wait_for_lock(postgres_url)
        other.commit()
        thread.join()
    assert written == [(2, [1])]


def wait_for_lock(url: str) -> None:
    """Wait until somebody waits for a lock."""
    eventually(lambda: waiting(url), 10, "somebody waits")


def test_a_row_that_is_deleted_before_it_is_compared_is_no_duplicate(postgres_url: str) -> None:
    """It was there when the write came to it. Nothing is certain of it then, and the next try stores it."""
    with opened(postgres_url) as sink, psycopg.connect(postgres_url) as other:
        sink.write([row(1)])
        # As who attaches a day does: rows are compared behind that.
        other.execute("SELECT pg_advisory_xact_lock(%s)", (READERS_LOCK,))
        failures: list[str] = []

        def write() -> None:
            with pytest.raises(SinkUnavailable) as caught:
                sink.write([row(1), row(2)])
            failures.append(caught.value.kind)

        thread = threading.Thread(target=write)
        thread.start()
        wait_for_lock(postgres_url)
        other.execute("DELETE FROM telemetry.events WHERE event_id = %s", (id_of(1),))
        other.commit()
        thread.join()
        assert failures == ["locked"]
        sink.probe()
        assert sink.write([row(1), row(2)]) == (1, [])


def test_a_row_that_somebody_holds_is_waited_for_no_longer_than_told(postgres_url: str) -> None:
    """Then the write has failed, nothing of it is stored, and the sink goes on working."""
    with opened(postgres_url, lock_timeout_s=0.2) as sink, psycopg.connect(postgres_url) as other:
        other.execute(
            "INSERT INTO telemetry.events (event_id, device_id, zone, ts, kpi, value, is_degraded, "
            "stored_at) "
            "VALUES (%s, 'other', 'zone-1', now(), 'humidity', 1, false, now())",
            (id_of(2),),
        )
        with pytest.raises(SinkUnavailable, match="somebody holds a lock") as caught:
            sink.write([row(1), row(2)])
        assert caught.value.kind == "locked"
        sink.probe()  # the table is free: it is about this row
        assert sink.write([row(1)]) == (1, [])
        other.rollback()
        assert sink.write([row(1), row(2)]) == (1, [])


def test_a_probe_finds_a_table_or_a_day_that_is_locked(postgres_url: str) -> None:
    """Else whole batches would become dead letters while somebody works on the table."""
    with opened(postgres_url, lock_timeout_s=0.2) as sink:
        # The last is of who makes an index there.
        locks = (("events", "ACCESS EXCLUSIVE"), ("events_default", "ACCESS EXCLUSIVE"), ("events", "SHARE"))
        for table, mode in locks:
            with psycopg.connect(postgres_url) as other:
                other.execute(f"LOCK TABLE ONLY telemetry.{table} IN {mode} MODE".encode())
                with pytest.raises(SinkUnavailable, match="55P03"):
                    sink.probe()
        sink.probe()


@pytest.mark.parametrize("where", ["ROLE", "DATABASE"])
def test_a_commit_is_on_the_disk_though_role_or_database_have_it_off(
    own_postgres_server: LocalPostgres, where: str
) -> None:
    """With synchronous_commit off a commit would be told before it is there; a crash shows which it was."""
    server = own_postgres_server
    with server.admin() as admin:
        admin.execute("CREATE ROLE lax LOGIN SUPERUSER")
        name = "lax" if where == "ROLE" else "postgres"
        admin.execute(f"ALTER {where} {name} SET synchronous_commit = off")
    url = server.dsn(user="lax")
    with opened(url) as sink:
        with psycopg.connect(url) as lax:
            assert lax.execute("SHOW synchronous_commit").fetchone() == ("off",)
        with server.lazy_disk():
            assert sink.write([row(1), row(2)]) == (2, [])
            server.kill()
    server.start()
    assert [one.event_id for one in stored(url)] == [id_of(1), id_of(2)]


def test_a_duplicate_of_a_row_that_is_not_on_the_disk_yet_makes_it_durable(
    own_postgres_server: LocalPostgres,
) -> None:
    """Another one wrote it with synchronous_commit off: it shows, and a crash would take it."""
    server = own_postgres_server
    url = server.dsn()
    with opened(url) as sink, server.admin() as lax, server.lazy_disk():
        lax.execute("SET synchronous_commit = off")
        lax.execute(
            "INSERT INTO telemetry.events (event_id, device_id, zone, ts, kpi, value, is_degraded, "
            "stored_at) "
            "VALUES (%s, %s, 'zone-1', to_timestamp(1700000000.5), 'humidity', 42.25, false, now())",
            (id_of(1), row(1).device_id),
        )
        position = lax.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
        assert position is not None
        assert lax.execute("SELECT pg_current_wal_flush_lsn() < %s", position).fetchone() == (True,)
        assert sink.write([row(1)]) == (0, [])
        assert lax.execute("SELECT pg_current_wal_flush_lsn() >= %s", position).fetchone() == (True,)


def test_a_commit_that_no_standby_confirms_is_no_commit(own_postgres_server: LocalPostgres) -> None:
    """No answer, or a wait that a person breaks off and that ends in COMMIT: neither is one."""
    server = own_postgres_server
    url = server.dsn()
    with opened(url, timeout_s=0.5) as hasty, opened(url, timeout_s=30.0) as patient, server.admin() as admin:
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        admin.execute("SELECT pg_reload_conf()")
        fresh = itertools.count(100)

        def hangs() -> bool:
            try:
                hasty.write([row(next(fresh))])
            except SinkUnavailable as error:
                return "no answer" in str(error)
            return False

        eventually(hangs, 20, "the server waits for a standby")
        with pytest.raises(SinkUnavailable, match="no answer"):
            hasty.write([row(1)])
        assert stored(url)[0] == row(1)  # it is there, and may be lost with this server
        failures: list[str] = []

        def write() -> None:
            with pytest.raises(SinkUnavailable) as caught:
                patient.write([row(1), row(2)])
            failures.append(str(caught.value))

        thread = threading.Thread(target=write)
        thread.start()
        waiting = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        eventually(lambda: rows_of(url, f"SELECT count(*) {waiting}") == [(1,)], 10, "it waits for a standby")
        admin.execute(f"SELECT pg_cancel_backend(pid) {waiting}".encode())
        thread.join()
        assert "not confirmed: canceling wait" in failures[0]
        with pytest.raises(SinkUnavailable):
            hasty.write([row(1), row(2)])  # so duplicates of them are none yet
        admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
        admin.execute("SELECT pg_reload_conf()")
        assert patient.write([row(1), row(2)]) == (0, [])


@pytest.mark.parametrize(
    ("option", "told"),
    [("fsync=off", "fsync = on"), ("default_transaction_read_only=on", "read-only")],
)
def test_a_server_that_can_not_keep_rows_is_refused_with_what_to_change(option: str, told: str) -> None:
    """One line names the setting."""
    for server in own_postgres():
        server.stop()
        server.start(option)
        with pytest.raises((SinkUnusable, SinkUnavailable), match=told), opened(server.dsn()):
            pass


def test_a_warning_of_a_trigger_is_no_doubt_about_the_commit(postgres_url: str) -> None:
    """Only what is warned of at the COMMIT says that it may not last."""
    with opened(postgres_url) as sink, psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute(
            "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE WARNING 'a strange value'; RETURN NEW; END $$"
        )
        owner.execute(
            "CREATE TRIGGER warn BEFORE INSERT ON telemetry.events FOR EACH ROW EXECUTE FUNCTION warn()"
        )
        assert sink.write([row(1), row(2)]) == (2, [])


def test_an_old_row_of_another_sort_is_refused_alone(postgres_url: str) -> None:
    """A time that the database has no place for."""
    with opened(postgres_url) as sink:
        for change in (
            {"ts": 1e15},
            {"device_id": "a\0b"},
            {"event_id": "x" * 36},
            {"event_id": id_of(1).upper()[:-1]},
        ):
            with pytest.raises(RowsRefused):
                sink.write([row(5), row(6, **change)])
        assert sink.write([row(5)]) == (1, [])
