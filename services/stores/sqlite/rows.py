"""Reading what SQLiteSink stores, beside the consumers and without ever being in their way.

No statement from here can change the file, nor make one where there is none, and none is left beside it.
The WAL is read along, so a committed row is seen at once, and no reader makes a writer wait. Opened:

    there is a WAL            mode=ro: somebody writes, or was killed
    there is none             mode=rw, and queries alone: SQLite makes a WAL for a reader too, and who may
                              write removes it at the end
    and it can't be written   immutable=1: nobody else can write it either, so no WAL is needed

Every answer is streamed, in bounded memory; what is asked for goes in as a parameter, never into the text of
a statement.
"""

import itertools
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from services.contract.attributes import attributes_of
from services.contract.errors import PipelineError, SinkAbsent, SinkUnavailable, SinkUnusable
from services.contract.ids import id_from
from services.stores.proofs import NEWEST
from services.stores.rows import (
    EVERY_ROW,
    ByAttribute,
    Grouping,
    Progress,
    RowFilter,
    Rows,
    StoredRow,
    SummaryRow,
    no_progress,
)
from services.stores.sqlite.files import FileNames
from services.stores.sqlite.schema import APPLICATION_ID, has_column, newest_schema

BUSY_TIMEOUT_MS: Final = 2000
"""How long to wait while a file is recovered after a crash; writers alone never make a reader wait."""

_IDS_A_STATEMENT: Final = 20_000
_ROWS_A_PAGE: Final = 2000
_PAST_ALL: Final = "g"
"""Behind every id."""
_GROUPS: Final = {
    "zone": "zone",
    "device": "device_id",
    "hour": "CAST(ts / 3600 AS INTEGER) * 3600",
    "day": "CAST(ts / 86400 AS INTEGER) * 86400",
}
_COLUMNS: Final = ", ".join(StoredRow._fields)


class SQLiteRows(Rows):
    """The rows of one database, read-only.

    Opening raises SinkAbsent where there is none yet, SinkUnusable for a file that isn't ours or is of
    a newer version, and SinkUnavailable where it can't be read now. Reading raises SinkUnavailable.
    """

    def __init__(self, path: Path, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> None:
        self._path = path
        if not path.exists():
            raise SinkAbsent(f"{path}: no database yet; a consumer makes it (DATA_DIR)", "absent")
        if not path.is_file():  # to open a pipe would last until somebody writes into it
            raise SinkUnavailable(f"{path} is no ordinary file; move it away", "SQLITE_CANTOPEN")
        with self._errors():
            self._connection = sqlite3.connect(
                # The host is empty: a path that begins with // would name one.
                f"file://{quote(str(path.absolute()))}?{_mode(path)}",
                uri=True,
                isolation_level=None,
                timeout=busy_timeout_ms / 1000,
                check_same_thread=False,  # a copy reads ahead by a thread, and asks nothing else meanwhile
            )
            self._connection.execute("PRAGMA query_only = ON")
        try:
            with self._errors():
                self._check()
        except PipelineError:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file; an answer that is still being read ends with it."""
        self._connection.close()

    @property
    def has_proofs(self) -> bool:
        """Tell whether it has the tables of what audits have proven: a consumer of before makes none."""
        with self._errors():
            return has_column(self._connection, "proofs", "generation")

    @property
    def has_newest_proofs(self) -> bool:
        """Tell whether these tables have all of their columns."""
        with self._errors():
            return has_column(self._connection, "proven_runs", NEWEST[0])

    @property
    def has_readings(self) -> bool:
        """Tell whether it has the table of the last readings: a consumer of before makes none."""
        with self._errors():
            return has_column(self._connection, "last_readings", "device_id")

    @contextmanager
    def moment(self) -> Iterator[Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]]:
        """Ask several things as of one moment, and not for long: the WAL grows meanwhile."""
        with self._errors():
            self._connection.execute("BEGIN")
            try:
                yield lambda text, values: self._connection.execute(text, values).fetchall()
            finally:
                self._connection.execute("ROLLBACK")

    def count(self) -> int:
        """Count the rows."""
        with self._errors():
            return int(self._connection.execute("SELECT count(*) FROM telemetry_events").fetchone()[0])

    def has_any(self, asked: RowFilter = EVERY_ROW) -> bool:
        """Tell whether there is a row of that kind."""
        condition, values = _where(asked)
        with self._errors():
            found = self._connection.execute(
                f"SELECT 1 FROM {self._table()} {condition} LIMIT 1",  # noqa: S608 - no data in it
                values,
            )
            return found.fetchone() is not None

    def event_ids(self, first_ms: int = 0, beyond_ms: int | None = None) -> Iterator[str]:
        """Give every event id, or those that begin with a time in Unix ms, in ascending order.

        Rows that are stored meanwhile are given where they come after the one given last. No snapshot is
        held in between: it would keep the WAL growing for as long as somebody reads.
        """
        beyond = _PAST_ALL if beyond_ms is None else id_from(beyond_ms)
        return itertools.chain.from_iterable(self._id_chunks(id_from(first_ms), beyond))

    def stored_at(self, ids: Sequence[str]) -> dict[str, float]:
        """Tell when each of these ids that is stored was, in Unix seconds."""
        with self._errors():
            return dict(
                self._connection.execute(
                    "SELECT event_id, stored_at FROM telemetry_events "
                    "WHERE event_id IN (SELECT value FROM json_each(?))",
                    (json.dumps(list(ids)),),
                ).fetchall()
            )

    def missing_of(self, ids: Sequence[str]) -> list[str]:
        """Give those of these ids that are not stored, in the order given."""
        with self._errors():
            positions = self._connection.execute(
                "SELECT asked.key FROM json_each(?) AS asked WHERE NOT EXISTS "
                "(SELECT 1 FROM telemetry_events WHERE event_id = asked.value)",
                (json.dumps(list(ids)),),
            )
            return [ids[position] for (position,) in positions]

    def events(self, asked: RowFilter = EVERY_ROW, limit: int | None = None) -> Iterator[StoredRow]:
        """Give rows, the newest first; at most `limit`.

        Newest by event id: the order of publication, since our ids begin with their time. Ids of foreign
        producers that aren't of version 7 stand wherever their first digits put them.
        """
        condition, values = _where(asked)
        with self._errors():
            rows = self._connection.execute(
                f"SELECT {_COLUMNS} FROM {self._table()} {condition} "  # noqa: S608 - no data in it
                "ORDER BY event_id DESC LIMIT ?",
                [*values, -1 if limit is None else limit],
            )
            yield from map(_stored, rows)

    def pages(self, asked: RowFilter = EVERY_ROW) -> Iterator[list[StoredRow]]:
        """Give rows in ascending order of their ids, by pages; nothing is held between two of them."""
        condition, values = _where(asked)
        rest = f"{condition} AND" if condition else "WHERE"
        last = ""
        while True:
            with self._errors():
                rows = self._connection.execute(
                    f"SELECT {_COLUMNS} FROM {self._table()} {rest} event_id > ? "  # noqa: S608 - no data in it
                    "ORDER BY event_id LIMIT ?",
                    [*values, last, _ROWS_A_PAGE],
                ).fetchall()
            if rows:
                yield list(map(_stored, rows))
            if len(rows) < _ROWS_A_PAGE:
                return
            last = rows[-1][0]

    def summary(
        self, asked: RowFilter = EVERY_ROW, progress: Progress = no_progress, by: Grouping = "zone"
    ) -> Iterator[SummaryRow]:
        """Count rows by KPI and group, in their order."""
        condition, values = _where(asked)
        group, named = _group(by)
        progress(0, 1)
        with self._errors():
            rows = self._connection.execute(
                f"SELECT kpi, {group} AS part, count(*), sum(is_degraded), min(value), max(value), "  # noqa: S608 - no data in it
                f"total(value) FROM {self._table()} {condition} GROUP BY kpi, part ORDER BY kpi, part",
                [*named, *values],
            )
            yield from map(SummaryRow._make, rows)
        progress(1, 1)

    def _table(self) -> str:
        """Name the table; in a database that no consumer has brought forward yet it has no attributes."""
        if has_column(self._connection, "telemetry_events", "attributes"):
            return "telemetry_events"
        return "(SELECT *, NULL AS attributes FROM telemetry_events)"

    def _id_chunks(self, last: str, beyond: str) -> Iterator[list[str]]:
        """Give the ids by many: one text of 20,000 ids crosses from SQLite sooner than 20,000 rows."""
        comparison = ">="
        while True:
            with self._errors():
                (text,) = self._connection.execute(
                    "SELECT group_concat(event_id) FROM (SELECT event_id FROM telemetry_events "  # noqa: S608
                    f"WHERE event_id {comparison} ? AND event_id < ? ORDER BY event_id LIMIT ?)",
                    (last, beyond, _IDS_A_STATEMENT),
                ).fetchone()
            if text is None:
                return
            chunk = text.split(",")
            yield chunk
            last, comparison = chunk[-1], ">"

    def _check(self) -> None:
        """Refuse what isn't ours to read."""
        # As of one moment: a consumer may be making the tables, and marks them as ours with them.
        self._connection.execute("BEGIN")
        has_tables = self._connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is not None
        application_id = self._connection.execute("PRAGMA application_id").fetchone()[0]
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        self._connection.execute("COMMIT")
        if application_id == 0 and not has_tables:
            raise SinkAbsent(f"{self._path}: empty; a consumer makes its tables", "absent")
        if application_id != APPLICATION_ID:
            raise SinkUnusable(f"{self._path} is a database of another program", "foreign_database")
        if version > (known := newest_schema()):
            raise SinkUnusable(
                f"{self._path} has schema {version}, and this version knows {known}: "
                "it was written by a newer one; read it with that one",
                "newer_schema",
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn SQLite's errors into ours, with the file's name in them."""
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", None) or type(error).__name__
            if name.startswith("SQLITE_NOTADB"):
                raise SinkUnusable(f"{self._path} is no SQLite database", name) from error
            if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
                # A reader of a WAL makes the index beside it where there is none, so it writes too.
                hint = "check the rights on the file and on its folder (DATA_DIR)"
                if _size(self._path) and not _is_writable(self._path):
                    hint = "its -wal can't be read on read-only media: copy it and the database elsewhere"
                raise SinkUnavailable(f"{self._path} can't be opened: {error}; {hint}", name) from error
            raise SinkUnavailable(f"{self._path} can't be read: {error}", name) from error


def _stored(columns: tuple[Any, ...]) -> StoredRow:
    row = StoredRow._make(columns)
    return row._replace(is_degraded=bool(row.is_degraded), attributes=attributes_of(columns[-1]))


def _where(asked: RowFilter) -> tuple[str, list[str | float | bool]]:
    """Write the condition, and the parameters in it."""
    conditions = asked.conditions()
    parts = [f"{name} {operator} ?" for name, operator, _ in conditions]
    parts += ["EXISTS (SELECT 1 FROM json_each(attributes) WHERE key = ? AND value = ?)"] * len(
        asked.attributes
    )
    values = [value for _, _, value in conditions]
    values += [part for pair in asked.attributes.items() for part in pair]
    return (f"WHERE {' AND '.join(parts)}" if parts else "", values)


def _mode(path: Path) -> str:
    """Decide how a database is opened."""
    if _size(path):
        return "mode=ro"
    if _is_writable(path):
        # An empty WAL is a reader's, who is there still or was killed.
        return "mode=rw"
    return "mode=ro&immutable=1"


def _size(path: Path) -> int:
    """Give the size of the WAL; 0 where there is none."""
    try:
        return Path(FileNames.of(path).wal).stat().st_size
    except OSError:
        return 0


def _is_writable(path: Path) -> bool:
    # As the user whose rights count: SQLite opens files with those.
    by_those = os.access in os.supports_effective_ids
    folder = Path(FileNames.of(path).wal).parent
    return all(os.access(one, os.W_OK, effective_ids=by_those) for one in (path, folder))


def _group(by: Grouping) -> tuple[str, list[str]]:
    """Write what is counted by, and the parameters in it."""
    if isinstance(by, ByAttribute):
        return "coalesce((SELECT value FROM json_each(attributes) WHERE key = ?), '')", [by.name]
    return _GROUPS[by], []
