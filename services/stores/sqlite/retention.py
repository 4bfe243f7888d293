"""Dropping old days in the file: small deletes between the batches of the consumers, each in its own turn.

The file does not shrink: what rows have left is used for the next ones.

A consumer waits for nothing but the delete itself, a few milliseconds. Of these transactions none waits for
the disk: what they have written is synced by the next batch, or at the end, and after a power cut before that
the rows are there again and count as before. The WAL is folded into the file when our turn is over, so
no batch has to do it for us.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from services.contract.consuming.proofs import Scope
from services.contract.consuming.retention import Again, Step, Waits
from services.contract.errors import SinkUnusable
from services.stores.retention import Ask, Dialect, RetentionTables
from services.stores.retention_pages import PagedRetention
from services.stores.sqlite.database import connect
from services.stores.sqlite.proofs import writing
from services.stores.sqlite.rows import SQLiteRows

_UNSYNCED: Final = "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0"
_STEPS_A_FOLD: Final = 12
"""With the pages of so many, and of the batches between them, SQLite does not fold the WAL by itself."""
_TABLE: Final = "telemetry_events"
_DIALECT: Final = Dialect("", "event_id", "stored_at", "ts", "substr(event_id, 15, 1) IN ('7', '8')")


class SQLiteRetention(PagedRetention):
    """Drops rows of one file. `busy_timeout_ms`: how long a step waits for another's write."""

    table = _TABLE
    rows_a_step = 250
    busy_share = 0.2

    def __init__(self, path: Path, busy_timeout_ms: int, scope: Scope) -> None:
        super().__init__(scope, _DIALECT)
        self._path = path
        self._busy_timeout_ms = busy_timeout_ms
        self._steps = 0

    def now(self) -> None:
        """Tell no time: a file has no clock."""

    def drop(self, before_ms: int, again: Again) -> Iterator[Step | Waits]:
        """Drop the days that end at a time or before it, the oldest first."""
        with self._held_open():
            yield from super().drop(before_ms, again)

    @contextmanager
    def _held_open(self) -> Iterator[None]:
        """Keep the file open between two steps: who closes it last folds all of the WAL."""
        with contextlib.ExitStack() as opened:
            if self._path.is_file() and os.access(self._path, os.W_OK):
                with contextlib.suppress(sqlite3.Error, SinkUnusable):
                    opened.enter_context(closing(connect(self._path, self._busy_timeout_ms)))
            yield

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

    @contextmanager
    def dropping(self) -> Iterator[Ask]:
        """One that is durable with the next one of anybody's."""
        with writing(self._path, self._busy_timeout_ms, _UNSYNCED, self._fold_wal) as ask:
            yield ask

    def _fold_wal(self, connection: sqlite3.Connection) -> None:
        self._steps += 1
        if self._steps % _STEPS_A_FOLD == 0:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def register(connection: sqlite3.Connection, scope: Scope) -> None:
    """Note in the open transaction that rows of a pipeline, stream and group come here."""
    RetentionTables(lambda text, values: connection.execute(text, values).fetchall(), _DIALECT).register(
        scope
    )
