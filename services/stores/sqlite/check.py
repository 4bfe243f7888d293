"""Whether the pages of a database are sound, as far as that can be found out in a bounded time."""

import sqlite3
import threading
from pathlib import Path
from typing import Final

AT_START_S: Final = 5.0
"""How long a start may be delayed by it: a few hundred megabytes are read in that time."""
AT_A_WRITE_S: Final = 1.0
"""Once damage is known, how long each further write looks whether it is gone; others wait meanwhile."""

_DAMAGE: Final = (
    "SQLITE_CORRUPT", "SQLITE_NOTADB",
    "SQLITE_IOERR_READ", "SQLITE_IOERR_SHORT_READ", "SQLITE_IOERR_CORRUPTFS", "SQLITE_IOERR_DATA",
)  # fmt: skip
"""A disk that takes no writes is another matter: a full one looks like that, too, and is waited for."""


def tells_damage(error: BaseException) -> bool:
    """Tell whether an error is of damaged pages, or of a disk that can't give them."""
    return getattr(error, "sqlite_errorname", "").startswith(_DAMAGE)


def find_damage(connection: sqlite3.Connection, at_most_s: float) -> str | None:
    """Have SQLite check the pages (https://sqlite.org/pragma.html#pragma_quick_check) for so many seconds.

    Says what is wrong; None where nothing was found in that time. Raises sqlite3.Error.
    """
    is_over = threading.Event()

    def end() -> None:
        is_over.set()
        connection.interrupt()

    # Not by a progress handler: before SQLite 3.42 it is not called while a tree is checked.
    timer = threading.Timer(at_most_s, end)
    timer.daemon = True
    timer.start()
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if is_over.is_set():
            return None
        if tells_damage(error):
            return str(error)
        raise
    finally:
        timer.cancel()
        timer.join()
    # What was broken off may call pages unused that it has not come to.
    return None if is_over.is_set() or found == "ok" else " ".join(str(found).split())


def damaged(path: Path, why: str) -> str:
    """Say that a database is damaged, and what to do."""
    return (
        f"{path} is damaged ({why}), and takes no events: move it away with its -wal and -shm, or put a copy "
        "in its place; `sqlite3 FILE .recover` may get rows out of it, and telemetry audit names what is lost"
    )
