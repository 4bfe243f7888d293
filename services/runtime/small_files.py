"""Files that a person writes by hand: settings, KPIs. Whatever stands there instead is one clear error."""

import os
import stat
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 1 << 20
"""No file of settings comes near it; without a limit a wrong name could fill the memory."""


class FileUnreadable(Exception):
    """The file can't be read; the message says why, without its name."""


def read_small(path: Path, most_bytes: int = MOST_BYTES) -> str | None:
    """Read a file of UTF-8, with or without a byte order mark; None where there is none.

    Never waits, whatever is there. Raises FileUnreadable.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise FileUnreadable(f"can't be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        data = _read(descriptor, path, most_bytes + 1)
    except OSError as error:
        raise FileUnreadable(f"can't be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(data) > most_bytes:
        raise FileUnreadable(f"can't be read: it is longer than {most_bytes:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileUnreadable(f"can't be read: line {line} is not UTF-8") from None


def _read(descriptor: int, path: Path, most_bytes: int) -> bytes:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        raise FileUnreadable("can't be read: it is a folder")
    if not stat.S_ISREG(mode) and not path.samefile(os.devnull):
        raise FileUnreadable("can't be read: it is no regular file")
    data = b""
    while len(data) < most_bytes and (piece := os.read(descriptor, most_bytes - len(data))):
        data += piece
    return data
