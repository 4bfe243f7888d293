"""What a file of events is before a record is read: its bytes, its name, its format, and how it begins."""

import errno
import hashlib
import os
import select
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from services.producer.files.lines import Bytes
from services.producer.files.texts import Format

STANDARD_INPUT: Final = "-"
_FINGERPRINT_BYTES: Final = 1 << 16
BOM: Final = b"\xef\xbb\xbf"
_IDLE_S: Final = 0.2
_FORMATS_BY_SUFFIX: Final[Mapping[str, Format]] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}


class SourceUnusable(Exception):
    """The file can't be read at all; the message says why."""


def source_key(path: Path) -> str:
    """Name a file in the key of its replay."""
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]


def fingerprint(path: Path, length: int = _FINGERPRINT_BYTES) -> str:
    """Tell how a file begins, `LENGTH:SHA256`: a file that only grows keeps it. Raises SourceUnusable."""
    try:
        with path.open("rb") as file:
            start = file.read(length)
    except OSError as error:
        raise SourceUnusable(f"{path}: {error.strerror}") from None
    return f"{len(start)}:{hashlib.sha256(start).hexdigest()}"


def check_same(path: Path, known: str, offset: int) -> None:
    """Make sure that a file is the one that was replayed up to `offset`. Raises SourceUnusable."""
    length = known.partition(":")[0]
    if fingerprint(path, int(length) if length.isdigit() else 0) != known or path.stat().st_size < offset:
        raise SourceUnusable(
            f"{path}: not the file that was replayed before, or it was changed; "
            "leave out --resume to publish it from the beginning"
        )


class Input:
    """Bytes of a file, a pipe or a device. Nobody waits for them longer than a moment."""

    def __init__(self, descriptor: int, name: str, is_stopping: Callable[[], bool]) -> None:
        self._descriptor = descriptor
        self._name = name
        self._is_stopping = is_stopping

    def read(self, size: int, /) -> bytes | None:
        """Give what there is; None after a moment without anything, and when asked to stop.

        Raises SourceUnusable.
        """
        if self._is_stopping():
            return None
        try:
            ready, _, _ = select.select([self._descriptor], [], [], _IDLE_S)
            return os.read(self._descriptor, size) if ready else None
        except BlockingIOError:
            return None
        except OSError as error:
            raise SourceUnusable(f"{self._name}: {error.strerror}") from None

    def seek(self, offset: int) -> None:
        """Go on from a byte of a file. Raises SourceUnusable."""
        try:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
        except OSError as error:
            raise SourceUnusable(f"{self._name}: {error.strerror}") from None

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)


class _Prefixed:
    """Bytes that were read already, and then the rest."""

    def __init__(self, start: bytes, rest: Bytes) -> None:
        self._start = start
        self._rest = rest

    def read(self, size: int, /) -> bytes | None:
        start, self._start = self._start[:size], self._start[size:]
        return start or self._rest.read(size)


def sniff(source: Bytes, is_stopping: Callable[[], bool] = lambda: False) -> tuple[Format, Bytes]:
    """Tell the format from the first character that isn't blank, and give the whole input back."""
    start = b""
    while not (seen := start.removeprefix(BOM).lstrip()) and len(start) < _FINGERPRINT_BYTES:
        chunk = source.read(4096)
        if chunk == b"" or is_stopping():
            break
        start += chunk or b""
    return ("jsonl" if seen.startswith(b"{") else "csv"), _Prefixed(start, source)


def format_of(path: Path) -> Format | None:
    """Tell the format by a file's name."""
    return _FORMATS_BY_SUFFIX.get(path.suffix.lower())


def open_input(path: Path, is_stopping: Callable[[], bool]) -> Input:
    """Open a file, or what has the name of one, for reading. Raises SourceUnusable."""
    try:
        # A named pipe that nobody writes to yet would not be opened before somebody does.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise SourceUnusable(f"{path}: {error.strerror}") from None
    if path.is_dir():
        os.close(descriptor)
        raise SourceUnusable(f"{path}: {os.strerror(errno.EISDIR)}")
    return Input(descriptor, str(path), is_stopping)
