"""What a file of events is before a record is read: its bytes, its name, its format, and how it begins."""

import errno
import hashlib
import json
import os
import re
import select
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from services.producer.files.decode import BOM, SourceUnreadable, SourceUnusable
from services.producer.mapping.mapped import Format, Mapped, identity

STANDARD_INPUT: Final = "-"
FINGERPRINT_BYTES: Final = 1 << 16
_IDLE_S: Final = 0.2
_JSON_LINES: Final = frozenset({".jsonl", ".ndjson", ".json"})
_LINE_PROTOCOL: Final = frozenset({".lp", ".line", ".influx"})
_ENDS_OPEN: Final = re.compile(rb"[{\[,:]\s*\Z")
_NO_TEXTS: Final[Mapping[bytes, str]] = {
    b"PK\x03\x04": "a zip archive, or a spreadsheet",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "a database",
    b"\x28\xb5\x2f\xfd": "packed by zstd",
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ": "packed by xz",
}
_MARKUP: Final = re.compile(
    rb"\s*<(?:\?xml|!doctype|!--|html|(?:[a-z][\w:.-]*)(?:\s[^<>]*)?>\s*<[a-z])", re.IGNORECASE
)
_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0e-\x19\x1c-\x1f\x7f]")
_LOOKED_AT_BYTES: Final = 1 << 12
_MOST_CONTROLS: Final = 0.05
"""A logger whose battery went flat leaves some of them; a file of another kind is full of them."""


def source_key(path: Path, mapped: Mapped) -> str:
    """Name the replay of a file in its key: by the path as it is given, and by how the file is read.

    Links are not followed: the file of a ConfigMap is one, and leads to another name in each pod.
    """
    named = os.fsencode(path.absolute()) + b"\0" + identity(mapped).encode()
    return hashlib.sha256(named).hexdigest()[:16]


def fingerprint(path: Path, length: int = FINGERPRINT_BYTES) -> str:
    """Tell how a file begins, `LENGTH:SHA256`: a file that only grows keeps it. Raises SourceUnusable."""
    try:
        with path.open("rb") as file:
            start = file.read(length)
    except OSError as error:
        raise SourceUnreadable(f"{path}: {error.strerror}") from None
    return fingerprint_of(start)


def fingerprint_of(start: bytes) -> str:
    """Tell by its first bytes how a file begins."""
    return f"{len(start)}:{hashlib.sha256(start).hexdigest()}"


def is_same(path: Path, known: str, offset: int) -> bool:
    """Tell whether a file is the one that was replayed up to a byte: it may have grown.

    Raises SourceUnusable.
    """
    length = known.partition(":")[0]
    is_begun_so = fingerprint(path, int(length) if length.isdigit() else 0) == known
    return is_begun_so and path.stat().st_size >= offset


class Input:
    """Bytes of a file, a pipe or a device. Nobody waits for them longer than a moment."""

    def __init__(self, descriptor: int, name: str, is_stopping: Callable[[], bool]) -> None:
        self._descriptor = descriptor
        self._name = name
        self._is_stopping = is_stopping
        self.position = 0
        """Of the next byte to be read."""

    def read(self, size: int, /) -> bytes | None:
        """Give what there is; None after a moment without anything, and when asked to stop.

        Raises SourceUnusable.
        """
        if self._is_stopping():
            return None
        try:
            ready, _, _ = select.select([self._descriptor], [], [], _IDLE_S)
            found = os.read(self._descriptor, size) if ready else None
        except BlockingIOError:
            return None
        except OSError as error:
            raise SourceUnreadable(f"{self._name}: {error.strerror}") from None
        self.position += len(found or b"")
        return found

    def seek(self, offset: int) -> None:
        """Go on from a byte of a file. Raises SourceUnusable."""
        try:
            self.position = os.lseek(self._descriptor, offset, os.SEEK_SET)
        except OSError as error:
            raise SourceUnreadable(f"{self._name}: {error.strerror}") from None

    def is_within_line(self, offset: int) -> bool:
        """Tell whether a byte of a file has others of its line before it."""
        try:
            return offset > 0 and os.pread(self._descriptor, 1, offset - 1) not in {b"", b"\n", b"\r"}
        except OSError:
            return False

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)


def tell_format(path: Path | None, start: bytes, mapped: Mapped) -> Format:
    """Tell a format by how a source begins, and its name. Raises SourceUnusable for what is no text."""
    if mapped.format is not None:
        return mapped.format
    for magic, what in _NO_TEXTS.items():
        if start.startswith(magic):
            raise _no_text(path, what)
    if _MARKUP.match(start.removeprefix(BOM)):
        raise _no_text(path, "XML or a web page")
    if len(_CONTROLS.findall(start[:_LOOKED_AT_BYTES])) > _MOST_CONTROLS * min(len(start), _LOOKED_AT_BYTES):
        raise _no_text(path, "no text (if it is, name its --format)")
    suffix = (
        ""
        if path is None
        else path.with_suffix("" if path.suffix.lower() == ".gz" else path.suffix).suffix.lower()
    )
    seen = start.removeprefix(BOM).lstrip()
    if suffix in _LINE_PROTOCOL:
        return "influx"
    if seen.startswith(b"["):
        return "json"
    if seen.startswith(b"{") and mapped.readings and suffix == ".json":
        return "json"
    if seen.startswith(b"{"):
        return "jsonl" if _is_object(seen.partition(b"\n")[0]) else "json"
    has_objects = any(line.lstrip().startswith(b"{") for line in seen.splitlines())
    # Its first line may be broken.
    return "jsonl" if suffix in _JSON_LINES and (has_objects or b"\n" not in seen) else "csv"


def _no_text(path: Path | None, what: str) -> SourceUnusable:
    return SourceUnusable(f"{path or 'standard input'}: {what}: write it as CSV or JSON lines first")


def _is_object(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        # A value of several lines has an open end there; another mistake is the line's own.
        return not _ENDS_OPEN.search(line)
    except RecursionError:
        pass
    return True


Make = Callable[[int, str, Callable[[], bool]], Input]
"""Makes what gives the bytes of a descriptor that has a name, and may be asked to stop."""


def open_input(path: Path, is_stopping: Callable[[], bool], make: Make = Input) -> Input:
    """Open a file, or what has the name of one, for reading. Raises SourceUnusable."""
    try:
        # A named pipe that nobody writes to yet would not be opened before somebody does.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise SourceUnreadable(f"{path}: {error.strerror}") from None
    if path.is_dir():
        os.close(descriptor)
        raise SourceUnusable(f"{path}: {os.strerror(errno.EISDIR)}")
    return make(descriptor, str(path), is_stopping)
