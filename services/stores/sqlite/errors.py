"""What an error of SQLite or of the disk means for the rows that were to be stored."""

import errno
import sqlite3
from pathlib import Path
from typing import Final

from services.contract.errors import RowsRefused, SinkUnavailable, SinkUnusable
from services.stores.sqlite.check import damaged

_PASSING: Final = {
    errno.ENOSPC: "SQLITE_FULL", errno.EDQUOT: "SQLITE_FULL", errno.EIO: "SQLITE_IOERR",
    errno.EMFILE: "SQLITE_CANTOPEN", errno.ENFILE: "SQLITE_CANTOPEN",
}  # fmt: skip
"""Errors that pass without anybody changing a setting, and SQLite's name for them."""


def of_a_write(error: sqlite3.Error) -> RowsRefused | SinkUnavailable:
    """Say what keeps rows from being written: themselves, or the database."""
    kind = getattr(error, "sqlite_errorname", None) or type(error).__name__
    binding = isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError) and "binding" in str(error)
    if binding or isinstance(error, sqlite3.IntegrityError | sqlite3.DataError):
        return RowsRefused(str(error), kind)
    return SinkUnavailable(str(error), kind)


def not_made(path: Path, error: OSError) -> SinkUnusable | SinkUnavailable:
    """Say what keeps a file from being made: something to be changed, or to be waited for."""
    why = error.strerror or str(error)
    if error.errno in _PASSING:
        return SinkUnavailable(f"{path.parent}: {why} (DATA_DIR)", _PASSING[error.errno])
    if error.errno == errno.ELOOP:
        return SinkUnusable(f"{path}: {why}", "directory")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        why = f"can't be written: {why}; check the rights on DATA_DIR"
        return SinkUnusable(f"{path.parent} {why}", "directory")
    return SinkUnusable(f"{path.parent}: {why} (DATA_DIR)", "directory")


def unopened(path: Path, error: sqlite3.Error) -> SinkUnusable | SinkUnavailable:
    """Say what keeps a database from being opened: something to be changed, or to be waited for."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_LOCKED")):
        return SinkUnavailable(f"{path}: {error}", name)
    if name.startswith("SQLITE_CORRUPT"):
        return SinkUnusable(damaged(path, str(error)), name)
    if name.startswith("SQLITE_NOTADB"):
        return SinkUnusable(f"{path} is no SQLite database, and is left as it is; move it away", name)
    if path.is_dir():
        return SinkUnusable(f"{path} is a folder, and is left as it is; move it away", name)
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return SinkUnusable(f"{path} can't be written: {error}; check the rights on DATA_DIR", name)
    return SinkUnusable(f"{path} can't be used: {error}", name)
