"""Ways of writing a batch to telemetry.events, each with a connection and a database of its own.

    the store        our sink: one transaction, checked, idempotent, durable whatever the role's settings
    bare statement   the same INSERT as psycopg sends it, its lists as parameters, with no transaction but its
                     own; nobody looks at what went in
    COPY, ...        straight into the table: an id that is there already ends it, and the batch with it

All of them wait for the disk at the end of each batch.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import psycopg

from services.contract.event import Event
from services.stores.postgres.connection import Database
from services.stores.postgres.sink import PostgresSink

_INSERT: Final = """
    INSERT INTO telemetry.events (event_id, device_id, zone, ts, kpi, value, is_degraded, stored_at)
    SELECT event_id, device_id, zone, to_timestamp(ts), kpi, value, is_degraded, to_timestamp(%s)
    FROM (SELECT unnest(%b::text[])::uuid, unnest(%b::text[]), unnest(%b::text[]), unnest(%b::float8[]),
    unnest(%b::text[]), unnest(%b::float8[]), unnest(%b::bool[]))
    AS given (event_id, device_id, zone, ts, kpi, value, is_degraded) ON CONFLICT (event_id) DO NOTHING
"""
_COPY: Final = (
    "COPY telemetry.events (event_id, device_id, zone, ts, kpi, value, is_degraded, stored_at) FROM STDIN"
)
_TYPES: Final = ("uuid", "text", "text", "timestamptz", "text", "float8", "bool", "timestamptz")

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Way:
    """A way, connected. `write` takes a batch, and returns when it is durable."""

    write: Callable[[Sequence[Event]], object]
    close: Callable[[], None]


def ours(url: str) -> Way:
    """Open the store, with the settings of a consumer that was told none."""
    sink = PostgresSink(Database.of(url), time.time)
    return Way(sink.write, sink.close)


def bare_statement(url: str) -> Way:
    """Send the statement by psycopg, which prepares what comes again."""
    connection = psycopg.connect(url, autocommit=True)

    def write(rows: Sequence[Event]) -> None:
        *columns, is_degraded, _ = map(list, zip(*rows, strict=True))
        connection.execute(_INSERT, [time.time(), *columns, list(map(bool, is_degraded))])

    return Way(write, connection.close)


def copy_rows(url: str) -> Way:
    """Copy as psycopg's documentation shows it: row by row."""
    connection = psycopg.connect(url, autocommit=True)

    def write(rows: Sequence[Event]) -> None:
        now = datetime.now(UTC)
        with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            for event_id, device_id, zone, ts, kpi, value, is_degraded, _ in rows:
                at = datetime.fromtimestamp(ts, UTC)
                copy.write_row((event_id, device_id, zone, at, kpi, value, bool(is_degraded), now))

    return Way(write, connection.close)


def copy_binary(url: str) -> Way:
    """Copy in the binary format."""
    connection = psycopg.connect(url, autocommit=True)

    def write(rows: Sequence[Event]) -> None:
        now = datetime.now(UTC)
        with connection.cursor() as cursor, cursor.copy(f"{_COPY} (FORMAT binary)") as copy:
            copy.set_types(_TYPES)
            for event_id, device_id, zone, ts, kpi, value, is_degraded, _ in rows:
                at = datetime.fromtimestamp(ts, UTC)
                copy.write_row((UUID(event_id), device_id, zone, at, kpi, value, bool(is_degraded), now))

    return Way(write, connection.close)


OURS: Final = "the store"
BARE: Final = "bare statement"
COPIES: Final = ("COPY, row by row", "COPY, binary")
WAYS: Final[dict[str, Callable[[str], Way]]] = {
    OURS: ours,
    BARE: bare_statement,
    **dict(zip(COPIES, (copy_rows, copy_binary), strict=True)),
}
