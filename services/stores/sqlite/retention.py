"""Dropping old days in the file: small deletes between the batches of the consumers, each in its own turn.

The file does not shrink: what rows have left is used for the next ones.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from services.contract.consuming.proofs import Scope
from services.contract.consuming.retention import Again, Step, Waits
from services.stores.retention import Ask, Dialect, RetentionTables
from services.stores.retention_pages import PagedRetention
from services.stores.sqlite.proofs import writing
from services.stores.sqlite.rows import SQLiteRows

_TABLE: Final = "telemetry_events"
_DIALECT: Final = Dialect("", "event_id", "stored_at", "ts", "substr(event_id, 15, 1) IN ('7', '8')")


class SQLiteRetention(PagedRetention):
    """Drops rows of one file. `busy_timeout_ms`: how long a step waits for another's write."""

    def __init__(self, path: Path, busy_timeout_ms: int, scope: Scope) -> None:
        super().__init__(scope, _DIALECT)
        self._path = path
        self._busy_timeout_ms = busy_timeout_ms

    def days(self, before_ms: int, again: Again) -> Iterator[Step | Waits]:
        """Drop the rows whose ids begin with a time."""
        return self.timed(_TABLE, before_ms, again)

    def others(self, before_ms: int, again: Again) -> Iterator[Step | Waits]:
        """Drop all others."""
        return self.timeless(_TABLE, before_ms, again)

    @contextmanager
    def reading(self) -> Iterator[Ask]:
        """Ask several things as of one moment."""
        with SQLiteRows(self._path) as rows, rows.moment() as ask:
            yield ask

    @contextmanager
    def writing(self) -> Iterator[Ask]:
        """One transaction, in our turn among the replicas."""
        with writing(self._path, self._busy_timeout_ms) as ask:
            yield ask


def register(connection: sqlite3.Connection, scope: Scope) -> None:
    """Note in the open transaction that rows of a pipeline, stream and group come here."""
    RetentionTables(lambda text, values: connection.execute(text, values).fetchall(), _DIALECT).register(
        scope
    )
