"""A file of lines: appended to durably, read while somebody writes, and replaced at once.

A line that a crash left half written is ended before the next one, so it spoils no other.
"""

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple

from services.runtime.own_files import open_own
from services.stores.folders import sync_folder, sync_name

_BEGUN: Final = 1024
"""So much is given of a line that is too long."""
_CHUNK_BYTES: Final = 1 << 20
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_GLANCES: Final = 10
_GLANCE_S: Final = 0.01
"""How often, and in between how long, a reader waits for the end of a line that is being written."""


class Line(NamedTuple):
    """A line of a file: its number from 1, and the bytes from `start` up to `end`."""

    path: Path
    number: int
    start: int
    end: int
    data: bytes
    """With what ends it; of one that is too long the beginning."""
    is_too_long: bool

    @property
    def place(self) -> str:
        """Name it for a person."""
        return f"{self.path} line {self.number}"

    @property
    def span(self) -> tuple[int, int]:
        """Give its bytes, for `replace`."""
        return self.start, self.end


def lines_of(path: Path, longest: int) -> Iterator[Line]:
    """Give the lines that are not empty; of one of more than `longest` bytes its beginning.

    There are none where there is no file. Raises OSError.
    """
    file = _opened(path)
    if file is None:
        return
    with file:
        number = start = 0
        while data := _whole_line(file, longest):
            number += 1
            end = start + len(data)
            is_too_long = len(data) > longest
            is_passed = is_too_long and not data.endswith(b"\n")
            while is_passed and (rest := file.readline(_CHUNK_BYTES)):
                end += len(rest)
                is_passed = not rest.endswith(b"\n")
            if not data.isspace():
                yield Line(path, number, start, end, data[:_BEGUN] if is_too_long else data, is_too_long)
            start = end


def _whole_line(file: IO[bytes], longest: int) -> bytes:
    """Read a line, no further than is believed; waits a moment for the end of one being written."""
    data = file.readline(longest + 1)
    for _ in range(_GLANCES):
        if not data or data.endswith(b"\n") or len(data) > longest:
            break
        time.sleep(_GLANCE_S)
        data += file.readline(longest + 1 - len(data))
    return data


def append(path: Path, lines: Iterable[str], mode: int) -> None:
    """Append lines as they come, durably and all or none; raises OSError, also where a link stands there."""
    descriptor = open_own(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, mode)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        try:
            for data in _chunks(lines, b"\n" if torn else b""):
                _write_all(descriptor, data)
            os.fsync(descriptor)
            if size == 0:  # new, or the first write into it failed: its name may not be durable yet
                sync_folder(path.parent)
                sync_name(path.parent)
        except OSError:
            # A full disk takes part of a line: take it back, so that no reader meets it.
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def _chunks(lines: Iterable[str], start: bytes) -> Iterator[bytes]:
    """Give lines as bytes, small ones together: a letter may be six times as large as its entry."""
    chunk = bytearray(start)
    for line in lines:
        chunk += line.encode()
        chunk += b"\n"
        if len(chunk) >= _CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    if chunk:
        yield bytes(chunk)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def replace(path: Path, old: IO[bytes], gone: Sequence[tuple[int, int]]) -> None:
    """Put a copy of the old file without these pieces in its place, at once, durably and with its mode."""
    fresh = path.with_suffix(".new")
    was = os.fstat(old.fileno())
    with os.fdopen(open_own(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        with contextlib.suppress(PermissionError):  # only root may give it to another user
            os.fchown(file.fileno(), was.st_uid, was.st_gid)
        os.fchmod(file.fileno(), stat.S_IMODE(was.st_mode))
        at = 0
        for start, end in gone:
            _copy(old, file, start - at)
            at = old.seek(end)
        _copy(old, file, None)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def _copy(old: IO[bytes], new: IO[bytes], size: int | None) -> None:
    """Copy so many bytes, or all that is left."""
    while size is None or size > 0:
        piece = old.read(_CHUNK_BYTES if size is None else min(size, _CHUNK_BYTES))
        if not piece:
            return
        new.write(piece)
        size = None if size is None else size - len(piece)


def _opened(path: Path) -> IO[bytes] | None:
    """Open an ordinary file; None where there is none. Raises OSError for a folder, a pipe or a device.

    Waits for nobody: to open a pipe would last until somebody writes into it.
    """
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no ordinary file; move it away", str(path))
    return os.fdopen(descriptor, "rb", buffering=_CHUNK_BYTES)
