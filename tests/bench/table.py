"""The table that floor and peer write: ours, with our settings, so only the way there differs."""

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from services.stores.sqlite.database import connect
from services.stores.sqlite.schema import migrate

BareRow = tuple[str, str, str, float, str, float]
"""The six fields."""

# What is not in the entry is left at 0: neither of them decides what is degraded, or notes the time.
_INSERT: Final = """
    INSERT INTO telemetry_events (event_id, device_id, zone, ts, kpi, value, is_degraded, stored_at)
    VALUES (?, ?, ?, ?, ?, ?, 0, 0) ON CONFLICT (event_id) DO NOTHING
"""


def open_table(path: Path) -> sqlite3.Connection:
    """Open the database, made where there is none: WAL, synchronous=FULL."""
    connection = connect(path, busy_timeout_ms=5000)
    migrate(connection, path)
    return connection


def parse(fields: Mapping[str, str]) -> BareRow:
    """Make a row of an entry's fields, nothing checked."""
    return (
        fields["event_id"],
        fields["device_id"],
        fields["zone"],
        float(fields["ts"]),
        fields["kpi"],
        float(fields["value"]),
    )


def store(connection: sqlite3.Connection, rows: Sequence[BareRow]) -> None:
    """Insert rows in one transaction, durable on return."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(_INSERT, rows)
    connection.execute("COMMIT")


def count_rows(path: Path) -> int:
    """Count the stored events."""
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT count(*) FROM telemetry_events").fetchone()[0])
    finally:
        connection.close()
