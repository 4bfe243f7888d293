"""The files of one SQLite database, told from others of the same name, and whose turn it is to write them.

A connection goes on with the files that it opened, whatever stands in their place since: what it commits
there is gone with the last process that has them open. So a sink asks before and after each write whether
its files are still the ones that their names lead to. The replicas of a node find out one after the
other, while the first is writing into the next files already, so what is asked and what is done about it
is one turn, from which the others are kept out (docs/decisions/0019).
"""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from services.contract.errors import SinkUnavailable

_Inode = tuple[int, int]
_ABSENT: Final = (0, 0)
_FIRST_POLL_S: Final = 0.0001
_LAST_POLL_S: Final = 0.001
"""Between two tries to get a turn, which takes some milliseconds: at first, and after long waiting."""
NOTE: Final = "telemetry.turn"
"""Name of the file in the folder that says who has the turn, or had it last. Nothing relies on it."""
_NOTE_BYTES: Final = 2048
_TO_WRITE: Final = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_LONG_S: Final = 5.0
"""A turn that takes longer is no ordinary one."""
_HOST: Final = socket.gethostname()[:128]

Wait = Callable[[int], bool]
"""Tells whether to go on waiting, after so many milliseconds."""


def wait_on(_waited_ms: int) -> bool:
    """Wait as long as one may."""
    return True


_PIECE: Final = 1_000_000


class Files(NamedTuple):
    """Device and inode number of a database, its WAL and the WAL's index; zeros where there is none.

    A number is a file's own for as long as somebody has the file open, and may be the next one's
    after that: compare it before the connection is closed.
    """

    database: _Inode
    wal: _Inode
    shm: _Inode

    def are_all_there(self) -> bool:
        """Tell whether none of them is absent."""
        return _ABSENT not in self

    def are_still(self, files: "Files") -> bool:
        """Tell whether each of them that was there is the same in `files`."""
        return all(mine in {_ABSENT, other} for mine, other in zip(self, files, strict=True))


class FileNames(NamedTuple):
    """Where a database, its WAL and the WAL's index are."""

    database: str
    wal: str
    shm: str

    @classmethod
    def of(cls, path: Path) -> "FileNames":
        """Name the files of the database at a path, as they are now: SQLite follows a link first."""
        real = os.path.realpath(path)
        return cls(str(path), f"{real}-wal", f"{real}-shm")

    def files(self) -> Files:
        """Look up which files stand there now."""
        return Files(_inode(self.database), _inode(self.wal), _inode(self.shm))

    def have_next_wal(self, files: Files) -> bool:
        """Tell whether somebody has written a WAL, or an index of it, since those were opened.

        An empty one is none: whoever reads a database makes it where there is none.
        """
        found = self.files()
        if found.wal == files.wal:
            return found.shm not in {_ABSENT, files.shm}
        return _size(self.wal) > 0

    def put_wal_aside(self, files: Files) -> None:
        """Rename the WAL of a database that is gone: SQLite would apply it to the next one.

        Only what is still the same file. Another one belongs to the next database already.
        """
        for name, inode in ((self.wal, files.wal), (self.shm, files.shm)):
            if inode != _ABSENT and _inode(name) == inode:
                _put_aside(name)

    def put_empty_wal_aside(self) -> None:
        """Rename a WAL that somebody who reads has made; the index goes with it."""
        if _size(self.wal) == 0:
            _put_aside(self.wal)
            _put_aside(self.shm)

    def open_wal(self) -> int:
        """Open the WAL to sync it; gives the descriptor. Raises OSError."""
        return os.open(self.wal, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def write_wal_anew(self) -> None:
        """Write what is in the WAL once more, and sync it. Raises OSError.

        Only in one's turn and one's transaction. After a sync that failed, the system shows what it could not
        write as if it were on the disk, and writes it at no later sync; what comes behind is lost with it.
        """
        descriptor = os.open(self.wal, os.O_RDWR | os.O_CLOEXEC)
        try:
            at = 0
            while piece := os.pread(descriptor, _PIECE, at):
                at += os.pwrite(descriptor, piece, at)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def wal_hidden(self) -> Iterator[None]:
        """Have the WAL out of the way while a connection of an earlier one is closed.

        The last to close a database has SQLite delete the WAL, which it knows by its name only.
        """
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.wal, self._hidden)  # noqa: PTH105 - names, as SQLite makes them
        try:
            yield
        finally:
            self._show_wal()

    def make_database(self) -> Files:
        """Make an empty database where there is none, and give the files that are there. Raises OSError.

        Puts aside what is left there of an earlier one: the WAL of no database, the index of no WAL.
        """
        self._show_wal()  # where a process was killed that had hidden it
        if _inode(self.database) == _ABSENT:
            _put_aside(self.wal)
            _put_aside(self.shm)
            with contextlib.suppress(FileExistsError):
                # Never opened where there is one: to close it would end the locks that SQLite has on it.
                descriptor = os.open(
                    os.path.realpath(self.database), os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644
                )
                os.close(descriptor)
        elif _inode(self.wal) == _ABSENT:
            _put_aside(self.shm)
        return self.files()

    @property
    def _hidden(self) -> str:
        return f"{self.wal}.hidden"

    def _show_wal(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.replace(self._hidden, self.wal)  # noqa: PTH105


class Note:
    """Says whose turn it is, for those who wait in vain: some microseconds a batch, and never synced."""

    def __init__(self, who: str) -> None:
        self._begins = json.dumps({"who": who[:128], "pid": os.getpid(), "host": _HOST})[:-1]
        self._descriptor: int | None = None

    def leave(self, folder: int) -> None:
        """Write it, in our turn, where there is one: the folder may be somebody else's."""
        with contextlib.suppress(OSError):  # it is no reason not to write
            if self._descriptor is not None and os.fstat(self._descriptor).st_nlink == 0:
                self.close()  # removed with the database
            if self._descriptor is None:
                self._descriptor = os.open(NOTE, _TO_WRITE, dir_fd=folder)
            self._write(self._descriptor)

    def make(self, folder: Path) -> None:
        """Write it where there was none, in our turn, and once the database is known to be ours."""
        if self._descriptor is not None:
            return
        with contextlib.suppress(OSError):
            self._descriptor = os.open(folder / NOTE, _TO_WRITE | os.O_CREAT, 0o644)
            self._write(self._descriptor)

    def _write(self, descriptor: int) -> None:
        note = f'{self._begins}, "since": {time.time():.3f}}}'
        os.pwrite(descriptor, note.encode("ascii").ljust(_NOTE_BYTES), 0)

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextlib.contextmanager
def turn_in(folder: Path, timeout_ms: int, note: Note | None = None, wait: Wait = wait_on) -> Iterator[int]:
    """Keep the other replicas from a folder's database; gives what is left of the timeout, in ms.

    The lock is on the folder, since a file in it could be removed along with the database. It ends with
    the process. `note` names us to those who wait in vain. `wait` tells whether to go on waiting.
    Raises SinkUnavailable when another one has it for too long, and OSError.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        left_ms = _lock(descriptor, folder, timeout_ms, wait)
        if not os.path.samestat(os.fstat(descriptor), folder.stat()):
            raise SinkUnavailable(f"{folder} was removed or replaced meanwhile", "replaced")
        if note is not None:
            note.leave(descriptor)
        yield left_ms
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path, timeout_ms: int, wait: Wait) -> int:
    waited_ms = 0
    started = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited_ms = int((time.monotonic() - started) * 1000)
            if waited_ms >= timeout_ms or not wait(waited_ms):
                why = f"database is locked: another replica writes in {folder}{_holder(descriptor)}"
                raise SinkUnavailable(why, "SQLITE_BUSY") from None
            time.sleep(min(max(_FIRST_POLL_S, waited_ms / 20_000), _LAST_POLL_S))
        except OSError:
            # NFS, for one, has no locks for folders. SQLite's own keep writes apart, and all that is
            # missing is the care for files that are taken away.
            break
        else:
            break
    return timeout_ms - waited_ms


def _holder(folder: int) -> str:
    """Tell who has the turn, and what to do about it; empty where nobody has said so."""
    try:
        descriptor = os.open(NOTE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        try:
            note = json.loads(os.read(descriptor, _NOTE_BYTES))
        finally:
            os.close(descriptor)
        since_s = max(0.0, time.time() - float(note["since"]))
        who, pid, host = str(note["who"])[:128], int(note["pid"]), str(note["host"])[:128]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    told = f": {who} (process {pid} on {host}), for {since_s:.0f} s"
    return f"{told}. If it hangs, end it: kill -9 {pid}, or delete its pod" if since_s > _LONG_S else told


def inode_of(descriptor: int) -> _Inode:
    """Give device and inode number of an open file."""
    status = os.fstat(descriptor)
    return (status.st_dev, status.st_ino)


def _inode(name: str) -> _Inode:
    try:
        status = os.stat(name)  # noqa: PTH116 - six times a batch, and Path.stat does the same slower
    except OSError:
        return _ABSENT
    return (status.st_dev, status.st_ino)


def _size(name: str) -> int:
    try:
        return os.stat(name).st_size  # noqa: PTH116
    except OSError:
        return 0


def _put_aside(name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.replace(name, f"{name}.orphan")  # noqa: PTH105
