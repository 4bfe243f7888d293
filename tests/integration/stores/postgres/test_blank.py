"""When a database is one in which nothing of a pipeline was ever kept."""

import contextlib
import os
import time
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest
from postgres import PostgresServers, database, rows_of, with_tables
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from samples import dead, row

from services.contract.errors import SinkUnavailable, SinkUnusable
from services.runtime.settings import ConsumerSettings
from services.stores.postgres.dead_letters import PostgresDeadLetters
from services.stores.postgres.sink import PostgresSink
from services.stores.postgres.store import PostgresStore

LETTER = "1700000000000-1"


def settings_of(url: str) -> ConsumerSettings:
    """Give settings whose timeouts are for busy machines."""
    return ConsumerSettings(database_url=url, database_timeout_s=20.0, database_connect_timeout_s=5.0)


def is_blank(url: str, pipeline: str = "telemetry", stream: str = "telemetry_stream") -> bool:
    """Ask as a consumer of a pipeline does."""
    return PostgresStore(replace(settings_of(url), pipeline_name=pipeline, stream_name=stream)).is_blank()


def test_tables_that_were_made_and_probed_are_blank(postgres_url: str) -> None:
    """Nothing but what consumers leave there without an event."""
    assert is_blank(with_tables(postgres_url))


def test_a_row_is_enough_whose_ever_it_is(postgres_url: str) -> None:
    """No row says which pipeline or group has stored it."""
    with closing(PostgresSink(database(postgres_url), time.time)) as sink:
        sink.write([row(1)])
    assert not is_blank(postgres_url)
    assert not is_blank(postgres_url, pipeline="another")


def test_a_dead_letter_or_the_note_of_its_purge_is_enough(postgres_url: str) -> None:
    """Of this pipeline and this stream: another's says nothing of ours."""
    url = with_tables(postgres_url)
    with closing(PostgresDeadLetters(database(url), "telemetry", "telemetry_stream", time.time)) as box:
        box.put([dead(1)])
        assert not is_blank(url)
        assert is_blank(url, pipeline="another")
        assert is_blank(url, stream="another")
        assert box.purge([LETTER]) == 1
    assert rows_of(url, "SELECT count(*) FROM telemetry.dead_letters") == [(0,)]
    assert not is_blank(url)


@pytest.mark.parametrize(
    ("statement", "blank"),
    [
        (
            "INSERT INTO telemetry.proofs VALUES ('telemetry', 'telemetry_stream', 'another', 1, 1, 0, 0)",
            False,
        ),
        ("INSERT INTO telemetry.proofs VALUES ('another', 'telemetry_stream', 'another', 1, 1, 0, 0)", True),
        ("INSERT INTO telemetry.retention VALUES (1, 7, 1800000000000)", False),
        ("INSERT INTO telemetry.retention VALUES (1, 0, 0)", True),
    ],
)
def test_a_proof_of_ours_and_dropped_days_are_enough(
    postgres_url: str, statement: str, *, blank: bool
) -> None:
    """Rows that are dropped were there, and a proof of any group is of this pipeline's rows."""
    url = with_tables(postgres_url)
    rows_of_nothing(url, statement)
    assert is_blank(url) is blank


def test_a_user_who_may_not_see_all_of_it_begins_as_before(postgres_url: str) -> None:
    """One that may store, and read no proofs: nobody knows, and that is no reason to stop."""
    url = with_tables(postgres_url)
    name = f"narrow_{os.urandom(4).hex()}"
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (
            "CREATE ROLE {} LOGIN PASSWORD 'of-a-test'",
            "GRANT USAGE ON SCHEMA telemetry TO {}",
            "GRANT SELECT ON telemetry.events, telemetry.schema_migrations TO {}",
        ):
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
        parts = conninfo_to_dict(url)
        assert not is_blank(
            f"postgresql://{name}:of-a-test@{parts['host']}:{parts['port']}/{parts['dbname']}"
        )
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
    assert is_blank(url)


def test_a_database_that_is_away_or_has_no_tables_is_an_error(postgres_url: str) -> None:
    """Nobody knows then, and a consumer waits."""
    with pytest.raises((SinkUnavailable, SinkUnusable)):
        is_blank(postgres_url)
    with pytest.raises(SinkUnavailable):
        is_blank("postgresql://telemetry@127.0.0.1:1/telemetry")


def rows_of_nothing(url: str, statement: str) -> None:
    """Run a statement that gives no rows."""
    assert rows_of(url, f"{statement} RETURNING 1") == [(1,)]


def renamed(admin: str, name: str, to: str) -> None:
    """Give a database another name; whoever is connected to it is cut off."""
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        connection.execute(
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(to))
        )


@pytest.mark.parametrize("has_tables", [False, True])
def test_another_database_under_the_same_name_is_waited_out(
    postgres_servers: PostgresServers, *, has_tables: bool
) -> None:
    """A server was made anew, a name leads elsewhere: what was acknowledged lies in the one of before."""
    server = postgres_servers.any()
    url, other, admin = server.new_database(), server.new_database(), server.new_database()
    name, there = (url.rpartition("/")[2], other.rpartition("/")[2])
    if has_tables:
        with_tables(other)
    with closing(PostgresSink(database(url), time.time)) as sink:
        sink.write([row(1)])
        renamed(admin, name, f"{name}_before")
        renamed(admin, there, name)
        for _ in range(3):
            with pytest.raises(SinkUnavailable):
                sink.write([row(2)])
            with pytest.raises(SinkUnavailable, match="another database than before"):
                sink.probe()
        tables = "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('telemetry')::oid"
        assert (rows_of(url, tables) != [(0,)]) == has_tables
        renamed(admin, name, there)
        renamed(admin, f"{name}_before", name)
        # Where a name leads to both in turn, no row is at fault, though a probe may meet the right one.
        with pytest.raises(SinkUnavailable, match="another database than before"):
            sink.probe()
        for _ in range(2):
            with contextlib.suppress(SinkUnavailable):  # the connection to the other one was cut, too
                sink.write([row(2)])
        sink.probe()
    assert rows_of(url, "SELECT count(*) FROM telemetry.events") == [(2,)]
