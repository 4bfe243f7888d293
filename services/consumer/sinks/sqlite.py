"""Events in one SQLite file, shared by the replicas of one node.

    DATA_DIR/telemetry.db        tables of sqlite.sql; authoritative for what is stored
    DATA_DIR/telemetry.db-wal    what is committed and not yet in the file; belongs to it

WAL with synchronous=FULL: a commit is on the disk when it returns, so it may be acknowledged (with
NORMAL it can vanish at power loss). Always BEGIN IMMEDIATE: a deferred transaction that turns from
reading to writing fails at once, whatever the busy timeout. ON CONFLICT(event_id) DO NOTHING, and not
INSERT OR IGNORE, which swallows broken constraints as well.

Rows go in by statements of 100 rows each: one call of the driver for 100 rows, so Python's share of
an insert is small (docs/decisions/0003).
"""

import contextlib
import functools
import itertools
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Final

from services.consumer.entry import Written
from services.consumer.errors import RowsRefused, SinkUnavailable, SinkUnusable
from services.contract.event import Event

APPLICATION_ID: Final = 0x54454C45
"""`TELE`, in the file's header: tells our databases from others."""

_ROWS_A_STATEMENT: Final = 100
_ABSENT: Final = (0, 0)
_COLUMNS: Final = "event_id, device_id, zone, ts, kpi, value, is_degraded, stored_at"


class SQLiteSink:
    """The SQLite sink. `busy_timeout_ms`: how long to wait for another replica's write."""

    def __init__(self, path: Path, busy_timeout_ms: int, now: Callable[[], float]) -> None:
        """Open the file, made where there is none. Raises SinkUnusable or SinkUnavailable."""
        self._path = path
        self._busy_timeout_ms = busy_timeout_ms
        self._now = now
        self._connection: sqlite3.Connection | None = None
        self._inode = _ABSENT
        self._logs: dict[Path, tuple[int, int]] = {}
        self._open()
        # A full disk opens well enough. Whoever finds out only with a batch in hand has it delivered
        # once more at each restart, until it counts as poison.
        self.probe()

    def write(self, rows: Sequence[Event]) -> Written:
        """Store rows in one transaction, idempotent by event id, durable on return.

        Raises SinkUnavailable or RowsRefused; nothing of the call is stored then.
        """
        with self._transaction() as connection:
            inserted = self._insert(connection, rows)
            # Fewer inserted than given: some ids were there before. The same content is a
            # duplicate; another content must not be lost in silence.
            conflicts = [] if inserted == len(rows) else _conflicts(connection, rows)
        return Written(inserted, conflicts)

    def probe(self) -> None:
        """Write something that is no event. Raises SinkUnavailable."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO sink_probe VALUES (1, ?) "
                "ON CONFLICT (id) DO UPDATE SET probed_at = excluded.probed_at",
                (self._now(),),
            )

    def close(self) -> None:
        """Close the file; its WAL is folded into it when we are the last."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def commit(self, connection: sqlite3.Connection) -> None:
        """Make the open transaction durable."""
        connection.execute("COMMIT")

    def _insert(self, connection: sqlite3.Connection, rows: Sequence[Event]) -> int:
        stored_at = self._now()
        inserted = 0
        for start in range(0, len(rows), _ROWS_A_STATEMENT):
            chunk = rows[start : start + _ROWS_A_STATEMENT]
            values = [stored_at, *itertools.chain.from_iterable(chunk)]
            inserted += connection.execute(_insert_statement(len(chunk)), values).rowcount
        return inserted

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction; SQLite's errors become ours, and leave nothing half done."""
        try:
            connection = self._current()
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            self.commit(connection)
            if self._is_replaced():
                self._abandon()
                raise SinkUnavailable(f"{self._path} was removed or replaced during a write", "replaced")
        except sqlite3.Error as error:
            self._undo(error)
            raise _ours(error) from error
        except (OverflowError, UnicodeEncodeError) as error:  # raised while a row is bound
            self._undo(error)
            raise RowsRefused(str(error), "binding") from error

    def _undo(self, error: Exception) -> None:
        """Leave the transaction, and the connection too where it may be the cause."""
        connection = self._connection
        if connection is None:
            return
        try:
            # After a full disk or an I/O error SQLite has rolled back by itself.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self.close()
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.IntegrityError):
            self.close()

    def _current(self) -> sqlite3.Connection:
        """Give the connection, opened anew after an error, or when the file is no longer ours.

        A file that was removed or replaced still takes writes through an open connection, and they
        would be gone with it: acknowledged and never seen again.
        """
        if self._connection is not None and self._is_replaced():
            self._abandon()
        if self._connection is None:
            try:
                self._open()
            except SinkUnusable as error:
                raise SinkUnavailable(str(error), error.kind) from error
        assert self._connection is not None  # noqa: S101 - for the type checker; _open sets it
        return self._connection

    def _is_replaced(self) -> bool:
        return _inode(self._path) != self._inode

    def _abandon(self) -> None:
        """Close a file that is gone, and put its log aside: SQLite would apply it to the next one."""
        self.close()
        for log, inode in self._logs.items():
            # Another replica may have opened the next file already: then this is the log of that one.
            if inode != _ABSENT and _inode(log) == inode:
                with contextlib.suppress(FileNotFoundError):  # another replica did it just now
                    log.replace(f"{log}.orphan")

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = connect(self._path, self._busy_timeout_ms)
            migrate(self._connection, self._path)
        except OSError as error:
            raise SinkUnusable(
                f"{self._path.parent}: {error.strerror or error} (DATA_DIR)", "directory"
            ) from error
        except sqlite3.Error as error:
            self.close()
            raise _unopened(self._path, error) from error
        except SinkUnusable:
            self.close()
            raise
        self._inode = _inode(self._path)
        self._logs = {log: _inode(log) for log in (Path(f"{self._path}-wal"), Path(f"{self._path}-shm"))}


def connect(path: Path, busy_timeout_ms: int) -> sqlite3.Connection:
    """Open a database for writing, with the settings that make a commit durable."""
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=16)
    connection.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
    try:
        # Asked first: turning a database of somebody else to WAL would change it.
        _refuse_foreign(connection, path)
    except (SinkUnusable, sqlite3.Error):
        connection.close()
        raise
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute("PRAGMA cache_size = -16000")
    return connection


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema to ours.

    Raises SinkUnusable for a newer one, and for a database that isn't ours.
    """
    connection.execute("BEGIN IMMEDIATE")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version:
        _refuse_foreign(connection, path)
    migrations = _migrations()
    newest = newest_schema()
    if version > newest:
        connection.execute("ROLLBACK")
        raise SinkUnusable(
            f"{path} has schema {version}, and this version knows {newest}: it was written by a newer one. "
            "Update this consumer, or give it another DATA_DIR",
            "newer_schema",
        )
    for number in range(version + 1, newest + 1):
        for statement in migrations[number]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number}")
    if version < newest:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("COMMIT")


def newest_schema() -> int:
    """Tell the newest schema that this version knows."""
    return max(_migrations())


def _refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    # In this order: another replica may make the tables meanwhile, and marks them as ours with them.
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    if application_id != APPLICATION_ID and (tables or application_id):
        raise SinkUnusable(
            f"{path} is a database of another program, and is left as it is; "
            "give the pipeline another DATA_DIR",
            "foreign_database",
        )


def _migrations() -> Mapping[int, Sequence[str]]:
    """Read the statements of each migration from sqlite.sql."""
    text = resources.files("services.consumer.sinks").joinpath("sqlite.sql").read_text(encoding="utf-8")
    _, *parts = re.split(r"^-- migration (\d+):.*$", text, flags=re.MULTILINE)
    return {
        int(number): _statements(body) for number, body in zip(parts[::2], parts[1::2], strict=True)
    }  # fmt: skip


def _statements(script: str) -> list[str]:
    """Split a script at its semicolons; executescript would commit in between."""
    statements: list[str] = []
    current = ""
    for line in script.splitlines():
        current += line + "\n"
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements


@functools.cache
def _insert_statement(count: int) -> str:
    """Write the statement that inserts `count` rows; ?1 is the time at which all are stored."""
    columns = len(Event._fields)
    rows = (
        ", ".join(f"?{first + column}" for column in range(columns))
        for first in range(2, 2 + count * columns, columns)
    )
    values = "), (".join(f"{row}, ?1" for row in rows)
    return (
        f"INSERT INTO telemetry_events ({_COLUMNS}) "  # noqa: S608 - numbered parameters, no data
        f"VALUES ({values}) ON CONFLICT (event_id) DO NOTHING"
    )


def _conflicts(connection: sqlite3.Connection, rows: Sequence[Event]) -> list[int]:
    """Find rows whose id is stored with another content. `is_degraded` is none: thresholds change."""
    cursor = connection.execute(
        "SELECT event_id, device_id, zone, ts, kpi, value FROM telemetry_events "
        "WHERE event_id IN (SELECT value FROM json_each(?))",
        (json.dumps([row.event_id for row in rows]),),
    )
    stored = {content[0]: content for content in cursor}
    return [position for position, row in enumerate(rows) if stored[row.event_id] != row[:6]]


def _inode(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - once a batch, and Path.stat does the same slower
    except OSError:
        return _ABSENT
    return (status.st_dev, status.st_ino)


def _ours(error: sqlite3.Error) -> RowsRefused | SinkUnavailable:
    kind = getattr(error, "sqlite_errorname", None) or type(error).__name__
    binding = isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError) and "binding" in str(error)
    if binding or isinstance(error, sqlite3.IntegrityError | sqlite3.DataError):
        return RowsRefused(str(error), kind)
    return SinkUnavailable(str(error), kind)


def _unopened(path: Path, error: sqlite3.Error) -> SinkUnusable | SinkUnavailable:
    """Say what keeps a database from being opened: something to be changed, or to be waited for."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_LOCKED")):
        return SinkUnavailable(f"{path}: {error}", name)
    if name.startswith("SQLITE_NOTADB"):
        return SinkUnusable(f"{path} is no SQLite database, and is left as it is; move it away", name)
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return SinkUnusable(f"{path} can't be written: {error}; check the rights on DATA_DIR", name)
    return SinkUnusable(f"{path} can't be used: {error}", name)
