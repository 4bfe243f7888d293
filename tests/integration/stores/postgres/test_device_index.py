"""The index by device on a real PostgreSQL: made, replaced and dropped while others write."""

import datetime as dt
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest
from postgres import LocalPostgres, PgBouncer, absent, database, rows_of
from psycopg import sql
from samples import row
from servers import Absent, eventually

from services.contract.errors import SinkUnavailable
from services.contract.event import Event
from services.contract.ids import event_id, run_name
from services.stores.postgres.connection import Database
from services.stores.postgres.keeper import Keeper
from services.stores.postgres.partitions import make_day, name_of
from services.stores.postgres.sink import PostgresSink

LOGGER = logging.getLogger("test")
RUN = run_name(7)
DAY = dt.date(2026, 3, 1)
TABLE = name_of(DAY)
OTHERS = ["events_before", "events_beyond", "events_default"]
ALL = sorted([*OTHERS, TABLE])
DEVICE_INDEXES = (
    "SELECT tablename::text, indisvalid FROM pg_indexes JOIN pg_index ON indexrelid = "
    "(quote_ident(schemaname) || '.' || quote_ident(indexname))::regclass "
    "WHERE schemaname = 'telemetry' AND indexdef LIKE '%%(device_id, ts)' ORDER BY 1"
)
WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
    "AND application_name LIKE '%%keeper'"
)
BEHIND_KEEPER = (
    "SELECT count(*) FROM pg_stat_activity AS waiter JOIN pg_stat_activity AS keeper "
    "ON keeper.pid = ANY (pg_blocking_pids(waiter.pid)) WHERE keeper.application_name LIKE '%%keeper'"
)
BUILDING = "SELECT count(*) FROM pg_stat_progress_create_index"


@pytest.fixture
def sink(postgres_url: str) -> Iterator[PostgresSink]:
    """Give a sink on a database with one day."""
    with closing(PostgresSink(database(postgres_url), time.time)) as one:
        with database(postgres_url).connect() as admin:
            make_day(admin, DAY)
        yield one


def events(first: int, number: int) -> list[Event]:
    """Give events of the day, of ten devices."""
    noon = int(dt.datetime.combine(DAY, dt.time(12), dt.UTC).timestamp() * 1000)
    return [
        row(event_id=event_id(RUN, at + 1, noon + at), device_id=f"device-{at % 10}")
        for at in range(first, first + number)
    ]


def keeper(where: Database, *, on: bool) -> Keeper:
    """Give a keeper, with the setting on or off."""
    return Keeper(where, LOGGER, has_device_index=on)


@contextmanager
def held_up(url: str, one: Keeper) -> Iterator[list[Exception]]:
    """Let a keeper build, and hold the build up in the middle, by a transaction that writes to the day.

    Gives how it has failed, once it is over; the caller looks.
    """
    failures: list[Exception] = []

    def tend() -> None:
        try:
            one.tend_index()
        except SinkUnavailable as error:
            failures.append(error)

    with psycopg.connect(url) as writer:
        writer.execute(sql.SQL("LOCK TABLE telemetry.{} IN ROW EXCLUSIVE MODE").format(sql.Identifier(TABLE)))
        thread = threading.Thread(target=tend)
        thread.start()
        try:
            eventually(lambda: rows_of(url, WAITING) == [(1,)], 30, "the build waits for the transaction")
            yield failures
        finally:
            writer.rollback()
            thread.join(60)
    assert not thread.is_alive()


def complete(url: str) -> bool:
    """Tell whether each partition has one, and it serves."""
    return rows_of(url, DEVICE_INDEXES) == [(name, True) for name in ALL]


def test_each_partition_gets_it_and_a_plan_for_a_device_uses_it(
    postgres_url: str, sink: PostgresSink
) -> None:
    """A day that is made later is attached as before, and gets it at the next time."""
    sink.write(events(0, 500))
    with database(postgres_url).connect() as admin:
        one = keeper(database(postgres_url), on=True)
        assert one.tend_index()
        assert complete(postgres_url)
        admin.execute("ANALYZE telemetry.events")
        admin.execute("SET enable_seqscan = off")
        plan = admin.execute("EXPLAIN SELECT * FROM telemetry.events WHERE device_id = 'device-3'").fetchall()
        assert f"{TABLE}_device" in str(plan)
        later = DAY + dt.timedelta(days=1)
        assert make_day(admin, later).is_made
    assert one.tend_index()
    assert (name_of(later), True) in rows_of(postgres_url, DEVICE_INDEXES)


def test_no_write_waits_for_it(postgres_url: str, sink: PostgresSink) -> None:
    """In the middle of a build rows are stored in the same partition, and nobody waits for the keeper."""
    with held_up(postgres_url, keeper(database(postgres_url), on=True)) as failures:
        assert sink.write(events(0, 100)).inserted == 100
        assert rows_of(postgres_url, BUILDING) == [(1,)]
        assert rows_of(postgres_url, BEHIND_KEEPER) == [(0,)]
    assert not failures
    assert complete(postgres_url)


@pytest.mark.usefixtures("sink")
def test_of_two_keepers_one_builds(postgres_url: str) -> None:
    """The other one leaves it to it, in the middle of a build and at once with it."""
    with held_up(postgres_url, keeper(database(postgres_url), on=True)) as broken:
        assert not keeper(database(postgres_url), on=True).tend_index()
        assert not keeper(database(postgres_url), on=False).tend_index()
        assert rows_of(postgres_url, BUILDING) == [(1,)]
    assert not broken
    assert complete(postgres_url)
    assert keeper(database(postgres_url), on=False).tend_index()
    start = threading.Barrier(5)
    failures: list[Exception] = []

    def tend() -> None:
        start.wait()
        try:
            keeper(database(postgres_url), on=True).tend_index()
        except SinkUnavailable as error:
            failures.append(error)

    threads = [threading.Thread(target=tend) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert complete(postgres_url)


@pytest.mark.usefixtures("sink")
def test_a_build_whose_keeper_was_killed_is_left_alone(postgres_url: str) -> None:
    """The server goes on with it: nobody drops what it makes, nor waits for it, though no lock is held."""
    with held_up(postgres_url, keeper(database(postgres_url), on=True)):
        rows_of(
            postgres_url,
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            "WHERE application_name LIKE '%%keeper' AND state = 'idle in transaction'",
        )
        assert not keeper(database(postgres_url), on=True).tend_index()
        assert rows_of(postgres_url, BUILDING) == [(1,)]
    eventually(lambda: keeper(database(postgres_url), on=True).tend_index(), 30, "all are there")
    assert complete(postgres_url)


@pytest.mark.usefixtures("sink")
def test_what_was_broken_off_is_replaced(postgres_url: str) -> None:
    """A build that ends in the middle leaves an index that is kept and never used."""
    one = keeper(database(postgres_url), on=True)
    with held_up(postgres_url, one) as failures:

        def is_broken_off() -> bool:
            # It may not wait yet, so it is told again.
            rows_of(
                postgres_url,
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE '%%keeper' AND wait_event_type = 'Lock'",
            )
            return rows_of(postgres_url, BUILDING) == [(0,)]

        eventually(is_broken_off, 30, "it is broken off")
    assert "cancel" in str(failures)
    assert (TABLE, False) in rows_of(postgres_url, DEVICE_INDEXES)
    eventually(one.tend_index, 30, "all are there")
    assert complete(postgres_url)


@pytest.mark.usefixtures("sink")
def test_off_drops_ours_once_and_no_other(postgres_url: str) -> None:
    """What a person has made stays, and what a consumer makes afterwards that still has the setting on."""
    on, off = keeper(database(postgres_url), on=True), keeper(database(postgres_url), on=False)
    assert on.tend_index()
    assert off.tend_index()
    assert rows_of(postgres_url, DEVICE_INDEXES) == []
    assert on.tend_index()
    assert off.tend_index()
    assert complete(postgres_url)
    with psycopg.connect(postgres_url) as person:
        person.execute("CREATE INDEX by_person ON telemetry.events (device_id, ts)")
    assert keeper(database(postgres_url), on=False).tend_index()
    # That of the person is on the parent as well.
    assert rows_of(postgres_url, DEVICE_INDEXES) == [(name, True) for name in sorted(["events", *ALL])]
    assert on.tend_index()
    assert rows_of(postgres_url, DEVICE_INDEXES) == [(name, True) for name in sorted(["events", *ALL])]


@pytest.mark.usefixtures("sink")
def test_a_failure_at_one_partition_keeps_no_other_from_it(postgres_url: str) -> None:
    """It is raised all the same, and tells which name is taken."""
    with psycopg.connect(postgres_url) as person:
        person.execute(sql.SQL("CREATE TABLE telemetry.{} ()").format(sql.Identifier(f"{TABLE}_device")))
    with pytest.raises(SinkUnavailable, match=f"{TABLE}_device"):
        keeper(database(postgres_url), on=True).tend_index()
    assert rows_of(postgres_url, DEVICE_INDEXES) == [(name, True) for name in OTHERS]


@pytest.mark.usefixtures("sink")
def test_a_keeper_that_runs_makes_it(postgres_url: str) -> None:
    """After its first turn, and for the days that it has made there."""
    one = keeper(database(postgres_url), on=True)
    one.start()
    partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'telemetry.events'::regclass"

    def count() -> int:
        return sum(is_valid for _, is_valid in rows_of(postgres_url, DEVICE_INDEXES))

    eventually(lambda: count() == rows_of(postgres_url, partitions)[0][0] > len(ALL), 60, "each has it")
    one.close()


def test_it_is_made_and_dropped_through_a_pool_of_transactions(own_postgres_server: LocalPostgres) -> None:
    """Also where the database's own isolation is one that keeps a snapshot for a whole transaction."""
    try:
        pooler = PgBouncer(own_postgres_server, "transaction", pool_size=3)
    except Absent as why:
        absent(why)
    direct = own_postgres_server.dsn()
    with own_postgres_server.admin() as admin:
        admin.execute("ALTER DATABASE postgres SET default_transaction_isolation = 'serializable'")
    pooler.start()
    try:
        shared = database(pooler.dsn())
        with closing(PostgresSink(shared, time.time)) as one:
            with database(direct).connect() as admin:
                make_day(admin, DAY)
            with held_up(direct, keeper(shared, on=True)) as failures:
                assert one.write(events(0, 10)).inserted == 10
                assert not keeper(database(direct), on=True).tend_index()
            assert not failures
            assert complete(direct)
            assert keeper(shared, on=False).tend_index()
            assert rows_of(direct, DEVICE_INDEXES) == []
    finally:
        pooler.kill()
