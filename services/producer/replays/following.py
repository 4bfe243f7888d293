"""The bytes of a file that somebody writes to, and the files that it was before.

A writer appends. From time to time it renames the file and begins another under the path, or copies it and
empties it. Then what was read ends, when nothing more came for a moment, and the path is another file.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import Final, Literal

from services.producer.files.decode import SourceUnreadable, SourceUnusable
from services.producer.files.inputs import FINGERPRINT_BYTES, Input, fingerprint_of, is_same

Look = tuple[int, int, int, int]
"""A file by its device and inode, how long it is and when it was written to."""
Inode = tuple[int, int]
"""A file by its device and inode; they are used again when it is removed."""
Change = Literal["", "renamed", "emptied", "removed"]

SILENT_S: Final = 1.0
"""A writer may go on for a moment in a file that was renamed or removed: so long it has to be silent."""
_TAIL_BYTES: Final = 512
_LINE_BYTES: Final = 1 << 20
_ROTATED: Final = re.compile(r"[.-][0-9][0-9T_.:-]*")
"""What stands behind the name of a file that was written before this one."""
_PACKED: Final = re.compile(r"\.(?:gz|bz2|xz|zst|lz4)")


class NotYet(Exception):
    """There is not enough of a file to tell how it is read."""


class Followed(Input):
    """Bytes of a file that is written to; they end once the path is another file, or the file is removed."""

    def __init__(
        self,
        descriptor: int,
        name: str,
        is_stopping: Callable[[], bool],
        path: Path,
        monotonic: Callable[[], float],
    ) -> None:
        """Take over a descriptor. Raises SourceUnusable for what gives its bytes once."""
        super().__init__(descriptor, name, is_stopping)
        about = self._about()
        if not S_ISREG(about.st_mode):
            self.close()
            raise SourceUnusable(f"{name}: not a regular file: without --follow a pipe is read as it comes")
        self.inode: Inode = about.st_dev, about.st_ino
        self.change: Change = ""
        """Why they have ended; empty: they have not."""
        self.is_opening = True
        """Until its header is read nothing is waited for: NotYet is raised."""
        self._path = path
        self._tail = b""
        self._is_at_end = False
        self._monotonic = monotonic
        self._silent_since = monotonic()
        self._left_since: float | None = None
        """When the file was first seen to have no name, or another one."""

    def read(self, size: int, /) -> bytes | None:
        """Give what there is, None for nothing just now, and empty bytes once there will be no more."""
        if self.change:
            return b""
        # Emptied and written to beyond where we are, a file looks as if it had only grown.
        if self._is_at_end and self._was_emptied():
            self.change = "emptied"
            return b""
        found = super().read(size)
        if found:
            self._tail = (self._tail + found)[-_TAIL_BYTES:]
            self._silent_since, self._is_at_end = self._monotonic(), False
            return found
        if found is None:
            return None
        if self.is_opening:
            raise NotYet
        self._is_at_end = True
        self.change = self._ended()
        return b"" if self.change else None

    def seek(self, offset: int) -> None:
        """Go on from a byte of the file."""
        super().seek(offset)
        self._tail = b""

    def has_line_behind(self, offset: int) -> bool:
        """Tell whether a whole line stands behind a byte; notes it where none will come any more."""
        if b"\n" in self._bytes(_LINE_BYTES, offset):
            return True
        self.change = self._ended(is_over_without_next=True)
        return False

    def look(self) -> Look | None:
        """Look at it, whatever its name is by now; None: the system does not give it."""
        with suppress(SourceUnreadable):
            about = self._about()
            return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns
        return None

    def is_read_to(self, device: int, inode: int, size: int) -> bool:
        """Tell whether it is a file, and so much of it is read."""
        ours = self._about()
        return (ours.st_dev, ours.st_ino, self.position) == (device, inode, size)

    def fingerprint(self, length: int = FINGERPRINT_BYTES) -> str:
        """Tell how the file begins, whatever its name is by now."""
        return fingerprint_of(self._bytes(length, 0))

    def is_same(self, known: str, offset: int) -> bool:
        """Tell whether it is the file that was read up to a byte."""
        size = self._about().st_size
        return size >= offset and self.fingerprint(int(known.partition(":")[0] or 0)) == known

    def _ended(self, *, is_over_without_next: bool = False) -> Change:
        """Tell why nothing more comes; empty while its writer, which may still hold it, is not silent."""
        change: Change = "renamed" if self._is_another() else "" if self._about().st_nlink else "removed"
        if not change and is_over_without_next and look_at(self._path) is None:
            change = "renamed"
        if not change:
            self._left_since = None
        elif self._left_since is None:
            self._left_since = self._monotonic()
        elif self._monotonic() - max(self._left_since, self._silent_since) >= SILENT_S:
            return change
        return ""

    def _is_another(self) -> bool:
        ours = self._about()
        try:
            now = self._path.stat()
        except OSError:
            return False  # renamed, and the next one is not there yet
        return (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino)

    def _was_emptied(self) -> bool:
        size = len(self._tail)
        return self._about().st_size < self.position or (
            self._bytes(size, self.position - size) != self._tail
        )

    def _about(self) -> os.stat_result:
        with _unreadable(self._name):
            return os.fstat(self._descriptor)

    def _bytes(self, size: int, offset: int) -> bytes:
        with _unreadable(self._name):
            return os.pread(self._descriptor, size, offset)


@contextmanager
def _unreadable(name: str | Path) -> Iterator[None]:
    """Have what the system says be SourceUnreadable."""
    try:
        yield
    except OSError as error:
        raise SourceUnreadable(f"{name}: {error.strerror}") from None


def look_at(path: Path) -> Look | None:
    """Look at a file; None: there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


def rotated_to(path: Path, inode: Inode) -> Path | None:
    """Give a file that was under the path by the name of one that was. Raises SourceUnreadable."""
    for one in _beside(path):
        if _was_before(one, path) and (look := look_at(one)) is not None and look[:2] == inode:
            return one
    return None


def next_file(path: Path, known: str, offset: int, is_left_out: Callable[[Path], bool]) -> Path | None:
    """Give the file to be read after so many bytes of the one that begins as is `known`.

    None: that one is gone, and nobody knows what was written to it since. Raises SourceUnreadable.
    """
    try:
        with _unreadable(path):
            if is_same(path, known, offset):
                return path
    except SourceUnreadable:
        if look_at(path) is not None:
            raise
    beside = _beside(path)
    # Files of two devices may begin alike.
    likely = sorted(enumerate(beside), key=lambda one: not _was_before(one[1], path))
    for at, one in likely:
        if is_that(one, known, offset) and not is_left_out(one):
            with suppress(OSError):
                if one.stat().st_size > offset:
                    return one
            later = (two for two in beside[at + 1 :] if _was_before(two, path) and not is_left_out(two))
            return next(later, path)
    return None


def is_that(path: Path, known: str, offset: int) -> bool:
    """Tell whether a path is now the file that begins as is `known`, and was read up to a byte."""
    try:
        return is_same(path, known, offset)
    except (SourceUnusable, OSError):
        return False  # it has another name since


def why_not_there(path: Path) -> str:
    """Say why there is nothing at a path; empty: there is."""
    try:
        path.stat()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _beside(path: Path) -> list[Path]:
    """List the files of its folder that may have been this one, the oldest first. Raises SourceUnreadable."""
    before: dict[int, Path] = {}
    while True:
        found: dict[int, tuple[int, int, Path]] = {}
        for one in _folder(path.parent):
            with suppress(OSError):
                about = one.lstat()
                if one.name != path.name and S_ISREG(about.st_mode):
                    found[about.st_ino] = (about.st_mtime_ns, -_number(one), one)
        named = {inode: one for inode, (_, _, one) in found.items()}
        if named == before:
            return [one for _, _, one in sorted(found.values())]
        before = named  # files that are renamed meanwhile are seen twice, or not at all


def _folder(path: Path) -> list[Path]:
    """List what is in a folder; nothing where there is none."""
    with _unreadable(path):
        try:
            return list(path.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []


def _number(path: Path) -> int:
    """Give the number at the end of a name: of two files of one moment app.csv.2 is the older one."""
    last = path.name.rpartition(".")[2]
    return int(last) if last.isdecimal() and len(last) < 6 else 0


def _was_before(one: Path, path: Path) -> bool:
    """Tell by its name whether a file was under the path once: app.csv.1, app.csv-20260101."""
    return one.name.startswith(path.name) and bool(_ROTATED.fullmatch(one.name[len(path.name) :]))


def is_packed(path: Path) -> bool:
    """Tell whether a file is packed, by its name."""
    return bool(_PACKED.fullmatch(path.suffix))


def may_have_been(path: Path) -> list[Path]:
    """List the paths that a file may have had, by its name, before it was rotated, and packed after it."""
    name = path.stem if is_packed(path) else path.name
    return [
        path.with_name(name[: mark.start()])
        for mark in re.finditer(r"(?!^)[.-]", name)
        if _ROTATED.fullmatch(name, mark.start())
    ]
