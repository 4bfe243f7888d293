"""Events in one SQLite file, shared by the replicas of one node.

    DATA_DIR/telemetry.db        tables of schema.sql; authoritative for what is stored
    DATA_DIR/telemetry.db-wal    what is committed and not yet in the file; belongs to it
    DATA_DIR/telemetry.turn      who writes now, or wrote last; for people, nothing relies on it

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
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from services.contract.doors import Written
from services.contract.errors import RowsRefused, SinkUnavailable, SinkUnusable
from services.contract.event import Event
from services.runtime.own_files import check_link
from services.stores.folders import make_folder, sync_name
from services.stores.sqlite.check import (
    AT_A_WRITE_S,
    AT_START_S,
    damaged,
    find_damage,
    tells_damage,
)
from services.stores.sqlite.errors import not_made, of_a_write, unopened
from services.stores.sqlite.files import FileNames, Files, Note, turn_in
from services.stores.sqlite.schema import migrate, refuse_foreign

_ROWS_A_STATEMENT: Final = 100
_DEAF_MS: Final = 1000
"""How long a lock is waited for that others have, once we are asked to stop."""
_GLANCE_S: Final = 0.1
"""How long a reader that is just opening a database, and has its lock for that, is waited for."""
_LOGGER: Final = logging.getLogger(__name__)
_AUDIT_HINT: Final = "telemetry audit names the events that are lost, if any"
_COLUMNS: Final = "event_id, device_id, zone, ts, kpi, value, is_degraded, stored_at"


class _Opened(NamedTuple):
    """A connection, and the files that it has open whatever stands in their place now."""

    connection: sqlite3.Connection
    files: Files


class SQLiteSink:
    """The SQLite sink. `busy_timeout_ms`: how long a write waits for another replica's, or a stranger's.

    `who`: how we are named to replicas that wait for us. Asked to stop, it waits for a second at most.
    """

    def __init__(
        self,
        path: Path,
        busy_timeout_ms: int,
        now: Callable[[], float],
        logger: logging.Logger = _LOGGER,
        who: str = "",
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Open the file, made where there is none. Raises SinkUnusable or SinkUnavailable."""
        self._path = path
        self._names = FileNames.of(path)
        self._busy_timeout_ms = busy_timeout_ms
        self._now = now
        self._logger = logger
        self._note = Note(who) if who else None
        self._is_stopping = is_stopping
        self._opened: _Opened | None = None
        # Whether the WAL may show what is not on the disk: whoever was here before may have died of that.
        self._is_doubtful = True
        self._patience_ms = busy_timeout_ms
        # What a write has met. No other is acknowledged before it is gone.
        self._damage: str | None = None
        with self._turn() as patience_ms:
            opened = self._open(patience_ms, is_saved=False)
        try:
            self._refuse_damaged(opened.connection)
            # A full disk opens well enough. Whoever finds out only with a batch in hand has it delivered
            # once more at each restart, until it counts as poison.
            self.probe()
        except BaseException:
            # Left to the garbage collector it would be closed at any time, in anybody's turn.
            self.close()
            raise

    def write(self, rows: Sequence[Event]) -> Written:
        """Store rows in one transaction, idempotent by event id, durable on return.

        Raises SinkUnavailable or RowsRefused; nothing of the call is stored then.
        """
        with self._transaction() as connection:
            inserted = self._insert(connection, rows)
            # Fewer inserted than given: some ids were there before. The same content is a
            # duplicate; another content must not be lost in silence.
            conflicts = [] if inserted == len(rows) else _conflicts(connection, rows)
        self._damage = None
        return Written(inserted, conflicts)

    def probe(self) -> None:
        """Write something that is no event. Raises SinkUnavailable.

        Also where a write has met damage, though this one works: it is no fault of the events then.
        """
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO sink_probe VALUES (1, ?) "
                "ON CONFLICT (id) DO UPDATE SET probed_at = excluded.probed_at",
                (self._now(),),
            )
        if self._damage is not None:
            raise SinkUnavailable(damaged(self._path, self._damage), "SQLITE_CORRUPT")

    def close(self) -> None:
        """Close the file; its WAL is folded into it when we are the last."""
        try:
            if self._opened is not None and self._is_replaced(self._opened):
                with turn_in(
                    self._path.parent, self._busy_timeout_ms, self._note, self._waits
                ) as patience_ms:
                    self._abandon(self._opened, patience_ms)
        except (SinkUnavailable, OSError) as error:
            self._logger.error("wal_not_saved", extra={"error": str(error), "hint": _AUDIT_HINT})
        self._close()
        if self._note is not None:
            self._note.close()

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
        """One write transaction, in our turn among the replicas."""
        try:
            with self._turn() as patience_ms, self._committing(patience_ms) as connection:
                yield connection
        except SinkUnusable as error:  # it was usable at the start, and may be so again
            raise SinkUnavailable(str(error), error.kind) from error
        except OSError as error:  # the folder's rights were changed, say
            raise SinkUnavailable(str(not_made(self._path, error)), "directory") from error

    @contextmanager
    def _turn(self) -> Iterator[int]:
        """Wait for our turn; gives what is left of the time to wait, in milliseconds."""
        with contextlib.ExitStack() as stack:
            try:
                make_folder(self._path.parent)
                most_ms = (
                    min(self._busy_timeout_ms, _DEAF_MS) if self._is_stopping() else self._busy_timeout_ms
                )
                patience_ms = stack.enter_context(
                    turn_in(self._path.parent, most_ms, self._note, self._waits)
                )
            except OSError as error:
                raise not_made(self._path, error) from error
            yield patience_ms

    @contextmanager
    def _committing(self, patience_ms: int) -> Iterator[sqlite3.Connection]:
        """Begin and commit; SQLite's errors become ours, and leave nothing half done."""
        try:
            opened = self._begin(patience_ms)
            yield opened.connection
            self.commit(opened.connection)
            if self._is_replaced(opened):  # the next turn is the one to clear up
                raise self._replaced("during a write")
        except sqlite3.Error as error:
            self._undo(error)
            if tells_damage(error):
                self._damage = str(error)
            raise of_a_write(error) from error
        except (OverflowError, UnicodeEncodeError) as error:  # raised while a row is bound
            self._undo(error)
            raise RowsRefused(str(error), "binding") from error

    def _begin(self, patience_ms: int) -> _Opened:
        """Begin on a connection that is opened anew after an error, or when its files are gone.

        A file that was removed or replaced still takes writes through an open connection, and they
        would be gone with it: acknowledged and never seen again.
        """
        is_saved = False
        if self._opened is not None and self._is_replaced(self._opened):
            is_saved = self._abandon(self._opened, 0)
        opened = self._opened or self._open(patience_ms, is_saved=is_saved)
        if self._note is not None:
            self._note.make(self._path.parent)
        if self._damage is not None:
            found = find_damage(opened.connection, AT_A_WRITE_S)
            if found is not None:
                self._close()  # it remembers pages that may be mended meanwhile
                raise SinkUnavailable(damaged(self._path, found), "SQLITE_CORRUPT")
        self._begin_immediate(opened.connection, patience_ms)
        if self._is_doubtful:
            self._write_wal_anew(opened.connection)
        return opened

    def _begin_immediate(self, connection: sqlite3.Connection, patience_ms: int) -> None:
        """Wait for SQLite's own lock, a slice at a time: within one nothing else is heard."""
        started, left_ms = time.monotonic(), patience_ms
        while True:
            slice_ms = min(left_ms, _DEAF_MS)
            if slice_ms != self._patience_ms:
                connection.execute(f"PRAGMA busy_timeout = {slice_ms}")
                self._patience_ms = slice_ms
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                waited_ms = int((time.monotonic() - started) * 1000)
                is_busy = getattr(error, "sqlite_errorname", "") == "SQLITE_BUSY"
                left_ms = patience_ms - waited_ms
                if not is_busy or left_ms <= 0 or not self._waits(waited_ms):
                    raise
            else:
                return

    def _waits(self, waited_ms: int) -> bool:
        """Tell whether to go on waiting for a lock: not for long when asked to stop."""
        return waited_ms < _DEAF_MS or not self._is_stopping()

    def _write_wal_anew(self, connection: sqlite3.Connection) -> None:
        """Have the WAL on the disk as it is read. Raises SinkUnavailable, and ends the transaction then.

        The rows of a batch that comes again may be in the WAL of one who could not sync it, or who died
        before that. They would be duplicates, which are acknowledged without a write of their own.
        """
        try:
            self._names.write_wal_anew()
        except OSError as error:
            connection.execute("ROLLBACK")
            raise SinkUnavailable(f"{self._names.wal}: {error.strerror or error}", "SQLITE_IOERR") from error
        self._is_doubtful = False

    def _refuse_damaged(self, connection: sqlite3.Connection) -> None:
        """Look for damaged pages before anything is written. Raises SinkUnusable and SinkUnavailable."""
        try:
            found = find_damage(connection, AT_START_S)
        except sqlite3.Error as error:
            raise unopened(self._path, error) from error
        if found is not None:
            raise SinkUnusable(damaged(self._path, found), "SQLITE_CORRUPT")

    def _undo(self, error: Exception) -> None:
        """Leave the transaction, and the connection too where it may be the cause."""
        if self._opened is None:
            return
        connection = self._opened.connection
        with contextlib.suppress(sqlite3.Error):
            # After a full disk or an I/O error SQLite has rolled back by itself.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        self._is_doubtful |= getattr(error, "sqlite_errorname", "").startswith("SQLITE_IOERR")
        is_sound = isinstance(error, sqlite3.IntegrityError) or not isinstance(error, sqlite3.DatabaseError)
        if not self._is_replaced(self._opened) and (connection.in_transaction or not is_sound):
            self._close()

    def _is_replaced(self, opened: _Opened) -> bool:
        return self._names.files() != opened.files

    def _abandon(self, opened: _Opened, patience_ms: int) -> bool:
        """Close files that are gone, and leave none of them to be taken for a part of the next ones.

        Tells whether the next WAL is ours to begin. Raises SinkUnavailable when it can't be done yet.
        """
        if self._names.files().database != opened.files.database:
            self._logger.warning("database_replaced", extra={"path": str(self._path), "hint": _AUDIT_HINT})
            self._names.put_wal_aside(opened.files)
            self._close()
            return False
        if self._names.have_next_wal(opened.files):
            with self._names.wal_hidden():
                self._close()
            return False
        self._save_wal(opened.connection, patience_ms)
        self._logger.warning("wal_saved", extra={"path": str(self._path)})
        self._names.put_empty_wal_aside()
        self._close()
        return True

    def _save_wal(self, connection: sqlite3.Connection, patience_ms: int) -> None:
        """Put into the file what is in a WAL that was taken away and that we still have open.

        Raises SinkUnavailable when that can't be done yet: somebody reads, the disk is full. We keep it
        open then, for nobody else can save it.
        """
        connection.execute(f"PRAGMA busy_timeout = {patience_ms}")
        self._patience_ms = patience_ms
        try:
            is_busy, _, _ = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
            why = "somebody reads it" if is_busy else ""
        except sqlite3.Error as error:
            # Nothing will ever be read from a WAL that is no good.
            is_lost = getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))
            why = "" if is_lost else str(error)
        if why:
            raise SinkUnavailable(f"{self._names.wal} was removed, and can't be saved yet: {why}", "replaced")

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.connection.close()
            self._opened = None

    def _open(self, patience_ms: int, *, is_saved: bool) -> _Opened:
        """Open the file that is there, or a new one. Raises SinkUnusable or SinkUnavailable."""
        patience_ms = min(patience_ms, _DEAF_MS)  # it is tried again, and nothing else is heard meanwhile
        self._names = FileNames.of(self._path)
        with contextlib.ExitStack() as undo:
            try:
                check_link(self._path)
                _refuse_odd(self._path)
                # SQLite syncs the names of its files; the folder may be new, too, and made by another.
                sync_name(Path(self._names.wal).parent)
                before = self._names.make_database()
                if not (before.are_all_there() or is_saved):
                    _refuse_used(self._path)
                    before = self._names.files()
                connection = connect(self._path, patience_ms)
                undo.callback(connection.close)
                self._patience_ms = patience_ms
                before = self._still(before)
                migrate(connection, self._path)
                files = self._still(before)
            except OSError as error:
                raise not_made(self._path, error) from error
            except sqlite3.Error as error:
                raise unopened(self._path, error) from error
            if not files.are_all_there():
                raise self._replaced("while it was opened")
            undo.pop_all()
        self._opened = _Opened(connection, files)
        return self._opened

    def _still(self, before: Files) -> Files:
        """Give the files that are there, if they are those of before. Raises SinkUnavailable."""
        now = self._names.files()
        if now.database != before.database:
            self._names.put_wal_aside(now)  # it is the WAL of what we have opened
        if not before.are_still(now):
            raise self._replaced("while it was opened")
        return now

    def _replaced(self, when: str) -> SinkUnavailable:
        return SinkUnavailable(f"{self._path} was removed or replaced {when}", "replaced")


def connect(path: Path, busy_timeout_ms: int) -> sqlite3.Connection:
    """Open a database for writing, with the settings that make a commit durable."""
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=16)
    try:
        connection.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
        # Asked first: turning a database of somebody else to WAL would change it.
        refuse_foreign(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute("PRAGMA cache_size = -16000")
    except (SinkUnusable, sqlite3.Error):
        connection.close()
        raise
    return connection


def _refuse_odd(path: Path) -> None:
    """Leave a pipe, a socket or a device alone: to read it may never end. Raises SinkUnusable."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise SinkUnusable(f"{path} is no ordinary file, and is left as it is; move it away", "odd_file")


def _refuse_used(path: Path) -> None:
    """Leave a database alone that has no WAL and is in use all the same. Raises SinkUnavailable.

    Its WAL was taken away, and who has it open can save it, at the next write or at the end. To begin
    another one before that would lose what is in it.
    """
    with contextlib.closing(sqlite3.connect(path, timeout=_GLANCE_S)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        try:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
                raise SinkUnavailable(
                    f"{path}: database is locked, or in use without its WAL: left to those who have it open",
                    "SQLITE_BUSY",
                ) from None
            # Whatever else it is, who opens it to write will meet it too, and tell it.


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
    if unseen := [row.event_id for row in rows if row.event_id not in stored]:
        error = sqlite3.DatabaseError(f"database is malformed: {unseen[0]} is neither inserted nor found")
        error.sqlite_errorname = "SQLITE_CORRUPT"
        raise error
    return [position for position, row in enumerate(rows) if stored[row.event_id] != row[:6]]
