"""The tables on a real PostgreSQL: made by many at once, kept up to date, refused where they are not ours."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

import psycopg
import pytest
from postgres import LocalPostgres, database, rows_of, with_tables
from samples import dead, row
from servers import eventually

from services.contract.consuming.proofs import Proof, ProvenRun, Scope
from services.contract.errors import PipelineError, SinkUnavailable, SinkWrong
from services.runtime.clock import SystemClock
from services.runtime.settings import ConsumerSettings
from services.stores.postgres.dead_letters import PostgresDeadLetters
from services.stores.postgres.proving.proofs import PostgresProofs
from services.stores.postgres.rows import PostgresRows
from services.stores.postgres.schema import LOCK, lacking_rights, migrations, newest_schema, update
from services.stores.postgres.sink import PostgresSink
from services.stores.postgres.store import PostgresStore

LOGGER = logging.getLogger("test")
_TABLES: Final = (
    "SELECT relname FROM pg_class WHERE relnamespace = 'telemetry'::regnamespace AND relkind IN ('r', 'p') "
    "AND NOT relispartition"
)


def open_sink(url: str) -> PostgresSink:
    """Open a sink, and with it the tables."""
    return PostgresSink(database(url, lock_timeout_s=20, timeout_s=30), time.time)


def test_ten_consumers_that_start_at_once_make_the_tables_once(postgres_url: str) -> None:
    """None fails, and each step is run by one of them."""
    failures: list[BaseException] = []
    gate = threading.Barrier(10)

    def start() -> None:
        gate.wait()
        try:
            open_sink(postgres_url).close()
        except BaseException as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    found = rows_of(postgres_url, "SELECT version, name FROM telemetry.schema_migrations ORDER BY version")
    assert found == [(one.version, one.name) for one in migrations()]


@pytest.mark.parametrize("version", [one.version for one in migrations()][:-1])
def test_each_schema_is_brought_up_to_date_with_its_rows(postgres_url: str, version: int) -> None:
    """From every version before; what is stored stays, and all that is new works."""
    with database(postgres_url).connect() as connection:
        update(connection, "here", LOGGER, upto=version)
    assert rows_of(postgres_url, "SELECT max(version) FROM telemetry.schema_migrations") == [(version,)]
    insert = (
        "INSERT INTO telemetry.events (event_id, device_id, zone, ts, kpi, value, is_degraded, stored_at) "
        "VALUES (%s, %s, 'zone-1', to_timestamp(1700000000.5), 'humidity', 42.25, false, now()) RETURNING 1"
    )
    rows_of(postgres_url, insert, row(1).event_id, row(1).device_id)
    with closing(open_sink(postgres_url)) as sink:
        assert sink.write([row(1), row(2)]) == (1, [])
    with closing(PostgresDeadLetters(database(postgres_url), "here", "stream", time.time)) as letters:
        letters.put([dead(1)])
        assert len(list(letters.read())) == 1
    assert rows_of(postgres_url, "SELECT max(version) FROM telemetry.schema_migrations") == [
        (newest_schema(),)
    ]


def test_a_schema_one_newer_is_no_error_and_two_newer_is_one(postgres_url: str) -> None:
    """So a version can be rolled back."""
    with closing(open_sink(postgres_url)) as sink:
        sink.write([row(1)])
    add = "INSERT INTO telemetry.schema_migrations (version, name) VALUES (%s, 'later') RETURNING 1"
    rows_of(postgres_url, add, newest_schema() + 1)
    with closing(open_sink(postgres_url)) as sink:
        assert sink.write([row(1), row(2)]) == (1, [])
    rows_of(postgres_url, add, newest_schema() + 2)
    for door in (open_sink, lambda url: PostgresRows(database(url))):
        with pytest.raises(SinkWrong, match=f"has schema {newest_schema() + 2}.*Update this one"):
            door(postgres_url)


@pytest.mark.parametrize(
    ("told", "made"),
    [
        ("2 tables", ["TABLE telemetry.schema_migrations (version text)", "TABLE telemetry.events (id int)"]),
        ("1 tables", ["TABLE telemetry.readings (id int)"]),
        ("1 tables", ["VIEW telemetry.readings AS SELECT 1 AS id"]),
    ],
)
def test_a_schema_of_another_program_is_left_as_it_is(postgres_url: str, told: str, made: list[str]) -> None:
    """Whatever its tables are called."""
    look = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'v') ORDER BY 1"
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute("CREATE SCHEMA telemetry")
        for one in made:
            other.execute(f"CREATE {one}".encode())
        before = other.execute(look).fetchall()
        for door in (open_sink, lambda url: PostgresRows(database(url))):
            with pytest.raises(SinkWrong, match=f"{told} of another program"):
                door(postgres_url)
        assert other.execute(look).fetchall() == before


def test_whoever_runs_the_steps_is_waited_for_whatever_the_role_says(postgres_url: str) -> None:
    """For longer than a batch may take: the steps of another one are on their way."""
    name = postgres_url.rpartition("/")[2]
    where = database(postgres_url, timeout_s=0.2)
    with psycopg.connect(postgres_url) as other:
        other.execute(f"ALTER DATABASE {name} SET statement_timeout = '300ms'".encode())
        other.execute(f"ALTER DATABASE {name} SET lock_timeout = '300ms'".encode())
        other.commit()
        other.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        with closing(where.connect()) as connection:
            limit_s = connection.limit_s
            thread = threading.Thread(target=update, args=(connection, "here", LOGGER))
            thread.start()
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' "
                "AND clock_timestamp() - query_start > make_interval(secs => %s)"
            )
            eventually(lambda: rows_of(postgres_url, waiting, limit_s + 1) == [(1,)], 20, "it waits for long")
            other.rollback()
            thread.join()
            assert connection.limit_s == limit_s
    assert rows_of(postgres_url, "SELECT max(version) FROM telemetry.schema_migrations") == [
        (newest_schema(),)
    ]


def test_a_step_that_another_one_runs_makes_no_other_database(postgres_url: str) -> None:
    """A consumer of a newer version has started beside us; ours connects anew, and goes on."""
    with closing(open_sink(postgres_url)) as sink:
        sink.write([row(1)])
        add = "INSERT INTO telemetry.schema_migrations (version, name) VALUES (%s, 'later') RETURNING 1"
        rows_of(postgres_url, add, newest_schema() + 1)
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%%:sink'"
        rows_of(postgres_url, f"{end} AND datname = current_database()")
        with pytest.raises(SinkUnavailable):
            sink.write([row(2)])
        assert sink.write([row(1), row(2)]) == (1, [])


def test_an_empty_schema_that_an_owner_made_is_used(own_postgres_server: LocalPostgres) -> None:
    """With CREATE on it alone: nothing else is needed in a database of others."""
    server = own_postgres_server
    with server.admin() as admin:
        admin.execute("CREATE ROLE app LOGIN")
        admin.execute("CREATE SCHEMA telemetry AUTHORIZATION app")
    with closing(open_sink(server.dsn(user="app"))) as sink:
        assert sink.write([row(1)]) == (1, [])


def missing_database(server: LocalPostgres) -> str:
    return server.dsn("nowhere")


def wrong_user(server: LocalPostgres) -> str:
    return server.dsn(user="nobody")


def without_rights(server: LocalPostgres) -> str:
    with server.admin() as admin:
        admin.execute("CREATE ROLE guest LOGIN")
        admin.execute("REVOKE CREATE ON DATABASE postgres FROM PUBLIC")
    return server.dsn(user="guest")


def no_tls(server: LocalPostgres) -> str:
    return server.dsn() + "?sslmode=verify-full"


def latin(server: LocalPostgres) -> str:
    with server.admin() as admin:
        admin.execute("CREATE DATABASE old ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    return server.dsn("old")


def gone(server: LocalPostgres) -> str:
    with closing(open_sink(server.dsn())):
        pass
    with server.admin() as admin:
        admin.execute("ALTER TABLE telemetry.events DETACH PARTITION telemetry.events_default")
    return server.dsn()


@pytest.mark.parametrize(
    ("lead", "told"),
    [
        (missing_database, "create the database, or name another one"),
        (wrong_user, "check user, password and pg_hba.conf"),
        (without_rights, "needs its rights on the schema"),
        (no_tls, "let the server speak TLS"),
        (latin, "create one with ENCODING 'UTF8'"),
    ],
)
def test_what_a_person_has_to_change_is_told_in_one_line(
    own_postgres_server: LocalPostgres, lead: Callable[[LocalPostgres], str], told: str
) -> None:
    """At the start it ends the process."""
    url = lead(own_postgres_server)
    with pytest.raises(SinkWrong, match=told) as caught:
        open_sink(url)
    assert "\n" not in str(caught.value)


def test_a_default_partition_that_is_gone_is_no_fault_of_the_rows(own_postgres_server: LocalPostgres) -> None:
    """They are not dead letters: the sink is down until it is back, though a probe's own write goes well."""
    server = own_postgres_server
    with closing(open_sink(gone(server))) as sink:
        with pytest.raises(SinkUnavailable, match="attach telemetry"):
            sink.write([row(1)])
        with pytest.raises(SinkUnavailable, match="attach telemetry"):
            sink.probe()
        with server.admin() as admin:
            admin.execute("ALTER TABLE telemetry.events ATTACH PARTITION telemetry.events_default DEFAULT")
        assert sink.write([row(1)]) == (1, [])
        sink.probe()


def test_rights_that_are_taken_away_later_are_waited_for(own_postgres_server: LocalPostgres) -> None:
    """It was usable, and may be so again; no row is at fault."""
    server = own_postgres_server
    open_sink(server.dsn()).close()
    with server.admin() as admin:
        admin.execute("CREATE ROLE writer LOGIN")
        admin.execute("GRANT USAGE ON SCHEMA telemetry TO writer")
        admin.execute("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA telemetry TO writer")
        with closing(open_sink(server.dsn(user="writer"))) as sink:
            assert sink.write([row(1)]) == (1, [])
            admin.execute("REVOKE INSERT ON telemetry.events FROM writer")
            with pytest.raises(SinkUnavailable, match="42501") as caught:
                sink.write([row(2)])
            assert isinstance(caught.value, PipelineError)
            with pytest.raises(SinkUnavailable):
                sink.probe()
            admin.execute("GRANT INSERT ON telemetry.events TO writer")
            assert sink.write([row(2)]) == (1, [])


@pytest.mark.parametrize("table", ["retention_holds", "sink_probe"])
def test_a_start_without_a_right_leaves_no_connection_behind(
    own_postgres_server: LocalPostgres, table: str
) -> None:
    """A consumer tries again every few seconds: soon the server would have no connection left for anybody."""
    server = own_postgres_server
    open_sink(server.dsn()).close()
    store = PostgresStore(ConsumerSettings(database_url=server.dsn(user="writer"), database_timeout_s=20.0))
    with server.admin() as admin:
        admin.execute("CREATE ROLE writer LOGIN")
        admin.execute("GRANT USAGE ON SCHEMA telemetry TO writer")
        admin.execute("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA telemetry TO writer")
        admin.execute(f"REVOKE INSERT ON telemetry.{table} FROM writer".encode())
        with pytest.raises(SinkUnavailable, match=f"{table}.*42501") as caught:
            store.open_sink(SystemClock(), LOGGER)
        left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'writer'"
        # What failed is still held: nothing else than the start itself has closed it.
        eventually(lambda: admin.execute(left).fetchone() == (0,), 30, "no connection of the start is left")
        assert caught.value.kind == "42501"
        admin.execute(f"GRANT INSERT ON telemetry.{table} TO writer".encode())
        store.open_sink(SystemClock(), LOGGER).close()


def test_the_rights_that_are_named_are_those_that_are_needed(own_postgres_server: LocalPostgres) -> None:
    """Of every table: with them a role stores, buries and proves, and only the days are the owner's."""
    url = with_tables(own_postgres_server.dsn())
    tables = {name for (name,) in rows_of(url, _TABLES)}
    granted = []
    with own_postgres_server.admin() as admin:
        admin.execute("CREATE ROLE app LOGIN")
        with closing(database(own_postgres_server.dsn(user="app")).connect()) as connection:
            lacking = lacking_rights(connection)
            assert {one.rpartition(" ")[2] for one in lacking["reader"][1:]} == tables
            for right in lacking["consumer"]:
                what, _, name = right.replace("the schema", "SCHEMA").partition(" on ")
                if not right.startswith("ownership"):
                    granted.append(what)
                    name = name if name.startswith("SCHEMA") else f"telemetry.{name}"
                    admin.execute(f"GRANT {what} ON {name} TO app".encode())
            assert lacking_rights(connection) == {"consumer": ["ownership of events"], "reader": []}
    app = database(own_postgres_server.dsn(user="app"))
    with closing(PostgresSink(app, time.time)) as sink:
        sink.write([row(1)])
    with closing(PostgresDeadLetters(app, "here", "stream", time.time, "consumer-1")) as letters:
        letters.put([dead(1), dead(2)])
        letters.mark_replayed([("1700000000000-1", "9-9")])
        assert letters.purge(["1700000000000-1"]) == 1
    known = ProvenRun("run-1", "test", last=9, proven=7)
    scope = Scope("here", "stream", "group")
    proof = Proof(runs=[known], id_days={("run-1", 20_000): 1}, without_row={row(2).event_id: "run-1"})
    assert PostgresProofs(app, scope).write(proof, 0) == ""
    assert set(granted) == {"USAGE", "CREATE", "SELECT", "INSERT", "UPDATE", "DELETE"}
