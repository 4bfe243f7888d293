"""Files and folders that are still there after a power cut.

A file that was synced can be lost all the same: with its name, which is in its folder, or with the name of
that folder, which is in the one above.
"""

import errno
import os
import sys
from pathlib import Path
from typing import Final

_UNSYNCABLE: Final = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL}
"""Somebody else's folder, or a file system that has nothing to sync there."""


def make_folder(folder: Path) -> None:
    """Make a folder where there is none, and those above it, durably. Raises OSError."""
    if folder.is_dir():  # a sink asks before each batch, and to try takes twice as long
        return
    try:
        folder.mkdir()
    except FileNotFoundError:
        make_folder(folder.parent)
        make_folder(folder)
    except OSError:
        if not folder.is_dir():
            raise
    else:
        sync_name(folder)


def sync_content(descriptor: int) -> None:
    """Make what was written to a file durable, by whomever; not the time at which it was. Raises OSError."""
    if sys.platform == "darwin":  # it has no other, and SQLite uses this one, too
        os.fsync(descriptor)
    else:
        os.fdatasync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, not only what stands behind them. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_name(folder: Path) -> None:
    """Make a folder's own name durable, whoever made it, where its parent lets us. Raises OSError."""
    try:
        sync_folder(folder.resolve().parent)
    except OSError as error:
        if error.errno not in _UNSYNCABLE:
            raise
