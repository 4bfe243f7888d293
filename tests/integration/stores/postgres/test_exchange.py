"""Transactions in one round trip on a real PostgreSQL: what they leave behind, and what a COMMIT means."""

import threading
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from postgres import database, rows_of, waiting
from servers import eventually

from services.stores.postgres.connection import Connection
from services.stores.postgres.exchange import Exchange, NotDurable, Statement

SETTINGS = (
    "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'), "
    "current_setting('synchronous_commit')"
)


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    """Give a connection to a database with our tables."""
    with closing(database(url).connect()) as one:
        yield one


@pytest.fixture
def exchange(connection: Connection) -> Exchange:
    """Give transactions on it."""
    return Exchange(connection, 20.0, 5.0)


def raising(level: str) -> str:
    """Write a trigger's function that says something and lets the row pass."""
    return (
        "CREATE FUNCTION say() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"RAISE {level} 'a strange value'; RETURN NEW; END $$"
    )


def test_a_session_is_left_as_it_was(connection: Connection, exchange: Exchange) -> None:
    """Behind a pooler the next one that has it is another program."""
    connection.execute("SET synchronous_commit = off")
    before = connection.execute(SETTINGS).fetchone()
    exchange.transact(Statement(b"SELECT 1"))
    assert connection.execute(SETTINGS).fetchone() == before


@pytest.mark.parametrize(
    ("owners", "ours"),
    [
        ("off", b"on"),
        ("local", b"local"),
        ("on", b"on"),
        ("remote_write", b"remote_write"),
        ("remote_apply", b"remote_apply"),
    ],
)
def test_what_a_commit_waits_for_is_the_owners_choice_but_for_off(
    connection: Connection, exchange: Exchange, owners: str, ours: bytes
) -> None:
    """Who reads at a standby wants more than `on`, and gets it."""
    connection.execute(f"SET synchronous_commit = {owners}".encode())
    (found,) = exchange.transact(Statement(b"SELECT current_setting('synchronous_commit')"))
    assert found.get_value(0, 0) == ours


def test_a_warning_of_the_last_statement_is_none_of_the_commit(exchange: Exchange) -> None:
    """It was said before the COMMIT began."""
    (found,) = exchange.transact(Statement(b"DO $$ BEGIN RAISE WARNING 'strange'; END $$"))
    assert found.command_status == b"DO"


@pytest.mark.parametrize("level", ["NOTICE", "INFO"])
def test_a_notice_at_the_commit_is_no_doubt_about_it(url: str, exchange: Exchange, level: str) -> None:
    """Of a trigger that waits for the end, say."""
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(raising(level).encode())
        owner.execute("CREATE TABLE mine (x int)")
        owner.execute(
            "CREATE CONSTRAINT TRIGGER say AFTER INSERT ON mine INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION say()"
        )
    (done,) = exchange.transact(Statement(b"INSERT INTO mine VALUES (1)"))
    assert done.command_tuples == 1
    assert rows_of(url, "SELECT x FROM mine") == [(1,)]


def test_a_statement_that_takes_too_long_is_ended_by_the_server(connection: Connection) -> None:
    """Before we would hang up: so it says what it waited for, and the connection goes on."""
    exchange = Exchange(connection, 0.5, 20.0)
    with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
        exchange.transact(Statement(b"SELECT pg_sleep(10)"))
    assert not exchange.is_closed
    assert len(exchange.transact(Statement(b"SELECT 1"))) == 1


def test_a_server_that_ends_the_connection_has_said_why(url: str, exchange: Exchange) -> None:
    """And nothing more is sent on it."""
    failures: list[BaseException] = []

    def work() -> None:
        with pytest.raises(psycopg.Error) as caught:
            exchange.transact(Statement(b"LOCK TABLE telemetry.events"))
        failures.append(caught.value)

    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE telemetry.events")
        thread = threading.Thread(target=work)
        thread.start()
        eventually(lambda: waiting(url), 10, "it waits")
        rows_of(url, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted")
        thread.join()
    assert [type(one) for one in failures] == [psycopg.errors.AdminShutdown]
    assert exchange.is_closed


def test_a_transaction_that_something_else_ended_is_not_durable(exchange: Exchange) -> None:
    """Its COMMIT had nothing to commit, and only a warning says so."""
    with pytest.raises(NotDurable, match="no transaction in progress"):
        exchange.transact(Statement(b"ROLLBACK"))


def test_what_fits_into_no_buffer_goes_both_ways_at_once(exchange: Exchange) -> None:
    """A server stops reading when nobody reads what it answers."""
    long, sent = Statement(b"SELECT repeat('x', 33554432)"), b"x" * (32 << 20)
    answer, length = exchange.transact(long, Statement(b"SELECT length($1::text)", [sent], [0]))
    assert answer.get_value(0, 0) == sent
    assert int.from_bytes(length.get_value(0, 0), "big") == len(sent)
