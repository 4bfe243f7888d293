"""The database as it is open, whatever becomes of its files.

A file that was removed or replaced still takes writes through an open connection, and they would be gone
with it: acknowledged and never seen again. So who has it open knows its files by their numbers, and what is
left of them is saved, or put aside, before the next ones are opened.
"""

import contextlib
import logging
import os
import sqlite3
from pathlib import Path
from typing import Final, NamedTuple

from services.contract.errors import SinkUnavailable, SinkUnusable
from services.runtime.own_files import check_link
from services.stores.folders import sync_content, sync_name
from services.stores.sqlite.errors import not_made, unopened
from services.stores.sqlite.files import FileNames, Files, inode_of
from services.stores.sqlite.schema import migrate, refuse_foreign

DEAF_MS: Final = 1000
"""How long a lock is waited for that others have, where there is something else to hear."""
_GLANCE_S: Final = 0.1
"""How long a reader that is just opening a database, and has its lock for that, is waited for."""
MOST_PAGES: Final = 4000
"""With so many in the WAL, SQLite folds it by itself, within a commit."""
_STATEMENTS: Final = 32
"""How many are kept as SQLite has read them: a sink inserts by 18, and has some more."""
AUDIT_HINT: Final = "telemetry audit names the events that are lost, if any"


class _Opened(NamedTuple):
    """A connection, and the files that it has open whatever stands in their place now."""

    connection: sqlite3.Connection
    files: Files
    wal: int
    """The WAL's descriptor, to sync it by. SQLite has no lock on it that would end when it is closed."""


class Database:
    """One database, open or not."""

    def __init__(self, path: Path, logger: logging.Logger) -> None:
        self._path = path
        self._names = FileNames.of(path)
        self._logger = logger
        self._opened: _Opened | None = None
        self._patience_ms = 0

    @property
    def connection(self) -> sqlite3.Connection | None:
        """Give the connection; None: it is not open."""
        return None if self._opened is None else self._opened.connection

    def is_replaced(self) -> bool:
        """Tell whether it is open, and its files are gone or others."""
        return self._opened is not None and self._names.files() != self._opened.files

    def replaced(self, when: str) -> SinkUnavailable:
        """Say that its files are gone."""
        return SinkUnavailable(f"{self._path} was removed or replaced {when}", "replaced")

    def ready(self, patience_ms: int) -> sqlite3.Connection:
        """Give a connection to the file that is there. Raises SinkUnusable or SinkUnavailable."""
        is_saved = self.is_replaced() and self.abandon(0)
        return self.connection or self.open(patience_ms, is_saved=is_saved)

    def open(self, patience_ms: int, *, is_saved: bool = False) -> sqlite3.Connection:
        """Open the file that is there, or a new one. Raises SinkUnusable or SinkUnavailable."""
        patience_ms = min(patience_ms, DEAF_MS)  # it is tried again, and nothing else is heard meanwhile
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
                # From here on it is us who sync what is committed, and who fold the WAL, as a rule.
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(f"PRAGMA wal_autocheckpoint = {MOST_PAGES}")
                files = self._still(before)
                wal = self._open_wal()
                undo.callback(os.close, wal)
            except OSError as error:
                raise not_made(self._path, error) from error
            except sqlite3.Error as error:
                raise unopened(self._path, error) from error
            if not (files.are_all_there() and files.wal == inode_of(wal)):
                raise self.replaced("while it was opened")
            undo.pop_all()
        self._opened = _Opened(connection, files, wal)
        return connection

    def sync(self) -> None:
        """Have all that is committed on the disk, by whomever. Raises SinkUnavailable.

        What was folded into the file meanwhile, SQLite has synced before it wrote over it in the WAL.
        """
        if self._opened is None:
            raise SinkUnavailable(f"{self._path} was closed before it was synced", "SQLITE_IOERR")
        try:
            sync_content(self._opened.wal)
        except OSError as error:
            raise self._wal_failed(error) from error

    def fold(self) -> None:
        """Fold into the file what of the WAL can be: nobody waits for that, whether reading or writing.

        Raises SinkUnavailable for a disk that fails. What can't be folded else stays in the WAL, where it is
        as durable.
        """
        if (connection := self.connection) is not None:
            try:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            except sqlite3.Error as error:
                kind = getattr(error, "sqlite_errorname", "")
                if kind.startswith("SQLITE_IOERR"):
                    raise SinkUnavailable(f"{self._path}: {error}", kind) from error

    def wait_at_most(self, patience_ms: int) -> None:
        """Set how long SQLite waits for a lock."""
        if self._opened is not None and patience_ms != self._patience_ms:
            self._opened.connection.execute(f"PRAGMA busy_timeout = {patience_ms}")
            self._patience_ms = patience_ms

    def write_wal_anew(self) -> None:
        """Have the WAL on the disk as it is read. Raises SinkUnavailable, and ends the transaction then.

        The rows of a batch that comes again may be in the WAL of one who could not sync it, or who died
        before that. They would be duplicates, which are acknowledged without a write of their own.
        """
        try:
            self._names.write_wal_anew()
        except OSError as error:
            if self.connection is not None:
                self.connection.execute("ROLLBACK")
            raise self._wal_failed(error) from error

    def _open_wal(self) -> int:
        try:
            return self._names.open_wal()
        except FileNotFoundError:
            raise self.replaced("while it was opened") from None

    def _wal_failed(self, error: OSError) -> SinkUnavailable:
        return SinkUnavailable(f"{self._names.wal}: {error.strerror or error}", "SQLITE_IOERR")

    def abandon(self, patience_ms: int) -> bool:
        """Close files that are gone, and leave none of them to be taken for a part of the next ones.

        Tells whether the next WAL is ours to begin. Raises SinkUnavailable when it can't be done yet.
        """
        opened = self._opened
        if opened is None:
            return False
        if self._names.files().database != opened.files.database:
            self._logger.warning("database_replaced", extra={"path": str(self._path), "hint": AUDIT_HINT})
            self._names.put_wal_aside(opened.files)
            self.close()
            return False
        if self._names.have_next_wal(opened.files):
            with self._names.wal_hidden():
                self.close()
            return False
        self._save_wal(opened.connection, patience_ms)
        self._logger.warning("wal_saved", extra={"path": str(self._path)})
        self._names.put_empty_wal_aside()
        self.close()
        return True

    def close(self) -> None:
        """Close it as it is; its WAL is folded into it when we are the last."""
        opened, self._opened = self._opened, None
        if opened is not None:
            try:
                opened.connection.close()
            finally:
                os.close(opened.wal)

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

    def _still(self, before: Files) -> Files:
        """Give the files that are there, if they are those of before. Raises SinkUnavailable."""
        now = self._names.files()
        if now.database != before.database:
            self._names.put_wal_aside(now)  # it is the WAL of what we have opened
        if not before.are_still(now):
            raise self.replaced("while it was opened")
        return now


def connect(path: Path, busy_timeout_ms: int) -> sqlite3.Connection:
    """Open a database for writing, with the settings that make a commit durable."""
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=_STATEMENTS)
    try:
        connection.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
        # Asked first: turning a database of somebody else to WAL would change it.
        refuse_foreign(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute("PRAGMA cache_size = -16000")
        # What is temporary is small here, and a container may have no folder that takes it.
        connection.execute("PRAGMA temp_store = MEMORY")
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
