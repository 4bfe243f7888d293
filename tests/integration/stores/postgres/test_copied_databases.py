"""Databases that are opened for a copy: from what there is copied, and to what."""

import logging
from contextlib import closing

import psycopg
import pytest
from postgres import LocalPostgres, database, rows_of, with_tables

from services.contract.errors import SinkAbsent, SinkWrong
from services.stores.copying import Extent
from services.stores.postgres.copying.rows import PostgresCopied
from services.stores.postgres.schema import update

LOGGER = logging.getLogger("test")
ONE = "00000000-0000-4d3b-8f0e-000000000001"


def source_of(url: str) -> PostgresCopied:
    """Open a database for a copy from it."""
    return PostgresCopied(database(url), LOGGER, may_write=False)


def target_of(url: str) -> PostgresCopied:
    """Open a database for a copy into it."""
    return PostgresCopied(database(url), LOGGER, may_write=True)


def test_a_database_of_an_earlier_version_is_read_as_it_is(postgres_url: str) -> None:
    """Of before there were proofs: it has events and letters, and is not changed by being copied."""
    with closing(database(postgres_url).connect()) as connection:
        update(connection, "here", LOGGER, upto=2)
        connection.execute(
            "INSERT INTO telemetry.events (event_id, device_id, zone, ts, kpi, value, is_degraded, "
            "stored_at) "
            "VALUES (%s, 'device-1', 'zone-1', to_timestamp(7), 'humidity', 42.25, false, to_timestamp(8))",
            (ONE,),
        )
        connection.execute(
            "INSERT INTO telemetry.dead_letters "
            "(pipeline, stream, entry_id, failed_at, stage, reason, letter) "
            "VALUES ('other', 's', '1-0', now(), 'decode', 'x', '{}')"
        )
    with closing(source_of(postgres_url)) as copied:
        assert copied.page("", 10) == [
            (ONE, "device-1", "zone-1", 7_000_000, "humidity", 42.25, None, 0, 8_000_000)
        ]
        proven = copied.proven("here", "stream")
        assert (proven.groups, any(proven.rows.values()), proven.drops) == ({}, False, (0, 0))
        assert copied.others("here", "stream") == [("other", "s")]
    assert rows_of(postgres_url, "SELECT max(version) FROM telemetry.schema_migrations") == [(2,)]


def test_a_database_of_a_much_newer_version_is_left_alone(url: str) -> None:
    """Nobody here knows what its rows mean."""
    with psycopg.connect(url, autocommit=True) as newer:
        newer.execute("INSERT INTO telemetry.schema_migrations (version, name) VALUES (99, 'x')")
    with pytest.raises(SinkWrong, match="has schema 99"):
        source_of(url)


def test_a_database_without_tables_is_told_and_left_without(postgres_url: str) -> None:
    """There is nothing to copy from it."""
    with pytest.raises(SinkAbsent, match="no tables yet"):
        source_of(postgres_url)
    assert rows_of(postgres_url, "SELECT to_regnamespace('telemetry') IS NULL") == [(True,)]


def test_a_column_that_was_taken_away_is_none_that_is_unknown(url: str) -> None:
    """The server keeps its place, under a name of its own."""
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(
            "ALTER TABLE telemetry.proofs ADD COLUMN mine int; ALTER TABLE telemetry.proofs DROP mine"
        )
    with closing(target_of(url)) as copied:
        assert copied.extent() == Extent(0, 0)


def test_a_server_that_would_lose_what_is_copied_is_refused(own_postgres_server: LocalPostgres) -> None:
    """As a consumer refuses it; to be copied from it is good enough."""
    server = own_postgres_server
    with_tables(server.dsn())
    server.stop()
    server.start("fsync=off")
    with pytest.raises(SinkWrong, match="set fsync = on"):
        target_of(server.dsn())
    with closing(source_of(server.dsn())) as copied:
        assert copied.extent() == Extent(0, 0)


def test_a_database_is_another_one_on_another_server(own_postgres_server: LocalPostgres, url: str) -> None:
    """The first database of each has the same number."""
    there = with_tables(own_postgres_server.dsn())
    here = with_tables(f"{url.rpartition('/')[0]}/postgres")
    with closing(target_of(there)) as one, closing(target_of(here)) as other:
        assert one.identity() != other.identity()
