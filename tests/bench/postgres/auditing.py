"""Case `postgres-audit`: as `audit`, with the tables in PostgreSQL."""

import datetime as dt
from contextlib import closing
from pathlib import Path
from typing import Final

import psycopg

from bench import auditing
from bench.bench import Bench
from bench.figure import Figure
from bench.postgres.server import Postgres, serving
from services.stores.postgres.connection import Database
from services.stores.postgres.partitions import days, make_day

_FILL: Final = (
    "INSERT INTO telemetry.events (event_id, device_id, zone, ts, kpi, value, is_degraded, stored_at) "
    "SELECT (lpad(to_hex(%(begins_ms)s + n * %(step_ms)s), 12, '0') || %(run)s "
    "|| lpad(to_hex(n), 9, '0'))::uuid, "
    "'device-' || n %% 9, 'zone-' || n %% 5, to_timestamp(1.7e9 + n), 'humidity', 42.25, false, now() "
    "FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n"
)


def compare(bench: Bench) -> list[Figure]:
    """Audit so many new events in a small table and in a large one, each in a database of its own."""
    with serving() as postgres:
        return auditing.compare_at(bench, lambda folder: in_postgres(postgres, folder), "postgres-audit")


def in_postgres(postgres: Postgres, folder: Path) -> auditing.Place:
    """Make an empty database; dead letters are in it, too."""
    folder.mkdir()
    url = postgres.new_database()

    def fill(first: int, last: int, run: str, begins_ms: int, step_ms: int) -> None:
        _make_days(url, begins_ms, begins_ms + last * step_ms)
        numbers = {"first": first, "last": last, "begins_ms": begins_ms, "step_ms": step_ms}
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET synchronous_commit = off")
            connection.execute(_FILL, {**numbers, "run": run.replace("-", "")})
            # As the server does by itself after a while: of a new table nothing is known.
            connection.execute("VACUUM (ANALYZE) telemetry.events")

    return auditing.Place(folder, url, fill)


def _make_days(url: str, first_ms: int, last_ms: int) -> None:
    """Make the days that are not there, as consumers had them when they stored the rows."""
    first, last = (dt.datetime.fromtimestamp(ms / 1000, dt.UTC).date() for ms in (first_ms, last_ms))
    with closing(Database.of(url).connect()) as connection:
        there = set(days(connection))
        for number in range((last - first).days + 1):
            if (day := first + dt.timedelta(days=number)) not in there:
                make_day(connection, day)
