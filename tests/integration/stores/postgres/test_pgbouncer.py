"""Through a real PgBouncer: several consumers share few sessions, and nothing hangs on whose it is."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import psycopg
import pytest
from postgres import STORED, LocalPostgres, PgBouncer, absent, database, rows_of
from samples import dead, id_of, row
from servers import Absent, eventually

from services.contract.errors import SinkUnavailable, SinkWrong
from services.stores.postgres.dead_letters import PostgresDeadLetters
from services.stores.postgres.keeper import Keeper
from services.stores.postgres.rows import PostgresRows
from services.stores.postgres.sink import PostgresSink

Bounce = Callable[[str], PgBouncer]


@pytest.fixture
def bounce(own_postgres_server: LocalPostgres) -> Iterator[Bounce]:
    """Start poolers before a server of one's own."""
    started: list[PgBouncer] = []

    def start(mode: str) -> PgBouncer:
        try:
            one = PgBouncer(own_postgres_server, mode)
        except Absent as why:
            absent(why)
        started.append(one)
        one.start()
        return one

    yield start
    for one in started:
        one.kill()


def test_all_works_through_a_pool_of_transactions(own_postgres_server: LocalPostgres, bounce: Bounce) -> None:
    """Six consumers on two sessions: every row once, conflicts named, days made, letters kept, rows read."""
    pooler = bounce("transaction")
    shared = database(pooler.dsn(), timeout_s=20, lock_timeout_s=10)
    counts: list[int] = []
    with ExitStack() as stack:
        sinks = [stack.enter_context(closing(PostgresSink(shared, time.time))) for _ in range(6)]
        Keeper(shared, logging.getLogger("test")).turn()

        def write(sink: PostgresSink, number: int) -> None:
            for batch in range(20):
                # Each row is written by two of them.
                first = 100 * batch + 2000 * (number // 2)
                counts.append(sink.write([row(first + at) for at in range(100)]).inserted)

        threads = [threading.Thread(target=write, args=(sink, at)) for at, sink in enumerate(sinks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(counts) == 120
        assert sum(counts) == 6000
        assert sinks[0].write([row(1, value=1.0), row(9999)]) == (1, [0])
        assert sinks[1].write([row(9999)]) == (0, [])
    with own_postgres_server.admin() as admin:
        sessions = admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = 'postgres' AND pid <> pg_backend_pid()"
        ).fetchone()
        assert sessions is not None
        assert sessions[0] <= 2
    with PostgresRows(shared) as rows:
        assert rows.count() == 6001
        assert len(list(rows.event_ids())) == 6001
        assert rows.missing_of([id_of(1), id_of(10_001)]) == [id_of(10_001)]
        assert len(list(rows.events(limit=10))) == 10
    with closing(PostgresDeadLetters(shared, "here", "stream", time.time)) as letters:
        letters.put([dead(1), dead(2)])
        assert [one.entry_id for one in letters.read()] == ["1700000000000-1", "1700000000000-2"]
        letters.mark_replayed([("1700000000000-1", "2-2")])
        assert letters.purge(["1700000000000-1"]) == 1


def test_what_a_session_was_left_with_changes_nothing(
    own_postgres_server: LocalPostgres, bounce: Bounce
) -> None:
    """Another program of the pool has set its session: the log on the disk later, and another isolation."""
    pooler = bounce("transaction")
    with closing(PostgresSink(database(pooler.dsn()), time.time)) as sink:
        with psycopg.connect(pooler.dsn(), autocommit=True) as other:
            for _ in range(4):
                other.execute("SET synchronous_commit = off")
                other.execute("SET default_transaction_isolation = 'serializable'")
                other.execute("SET search_path = pg_temp")
                other.execute("SET statement_timeout = 1")
                other.execute("SET statement_timeout = 0")
        with own_postgres_server.lazy_disk():
            assert sink.write([row(1)]) == (1, [])
            assert sink.write([row(1, value=1.0)]) == (0, [0])
            own_postgres_server.kill()
    own_postgres_server.start()
    assert len(rows_of(own_postgres_server.dsn(), STORED)) == 1


def test_a_pool_of_statements_is_refused_at_the_start(bounce: Bounce) -> None:
    """With what to change; a transaction would not be one."""
    with pytest.raises(SinkWrong, match="pool_mode = transaction or session"):
        PostgresSink(database(bounce("statement").dsn()), time.time)


def test_a_pooler_that_starts_again_costs_no_row(own_postgres_server: LocalPostgres, bounce: Bounce) -> None:
    """What it broke off is written again."""
    pooler = bounce("transaction")
    with closing(PostgresSink(database(pooler.dsn()), time.time)) as sink:
        sink.write([row(1)])
        pooler.kill()
        with pytest.raises(SinkUnavailable):
            sink.write([row(1), row(2)])
        with pytest.raises(SinkUnavailable, match="check host and port"):
            sink.probe()
        pooler.start()

        def writes() -> bool:
            try:
                return sink.write([row(1), row(2)]).inserted <= 1
            except SinkUnavailable:
                return False

        eventually(writes, 20, "the sink writes again")
    assert len(rows_of(own_postgres_server.dsn(), STORED)) == 2
