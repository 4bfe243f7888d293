"""Writing to standard output and standard error without waiting for whoever reads them.

A pipe whose reader has stopped, or a terminal that is held, takes nothing more once it is full, and a plain
write then waits for ever: the loop stands still, and SIGTERM is not heard. Here a write waits a moment, for a
reader that is merely slow, and is given up. Over time the waits are a small share of it, so a reader that is
always slow costs lines and not throughput.
"""

import contextlib
import io
import os
import select
import stat
import sys
import threading
import time
from typing import Final, TextIO

_LONGEST_WAIT_S: Final = 0.5
"""For all waits that follow closely on one another."""
_WAITING_SHARE: Final = 0.05
"""Of the time, in the long run."""
_PIPE_BUF: Final = 4096
"""What a pipe that takes anything takes whole, and at once (Linux, macOS: PIPE_BUF, or a page)."""


class Outlet:
    """One descriptor to write to."""

    def __init__(self, descriptor: int) -> None:
        self._fd = descriptor
        self._own, self._at_once = _looked_at(descriptor)
        self._rest = b""
        """Of what was written in part: it goes first, so that lines stay whole."""
        self._patience_s = _LONGEST_WAIT_S
        self._waited_at = time.monotonic()
        self._turn = threading.Lock()

    def write(self, data: bytes) -> None:
        """Write all of it. Raises OSError where it can't be written: BlockingIOError if nobody reads.

        What is written in part counts as written: the rest comes before whatever is written next.
        """
        with self._turn:
            if self._rest:
                self._rest = self._put(self._rest)
            if self._rest:
                raise BlockingIOError("nobody reads")
            left = self._put(data)
            if data and len(left) == len(data):
                raise BlockingIOError("nobody reads")
            self._rest = left

    def close(self) -> None:
        """Let go of what was opened here, so that a reader sees the end; a later write still works."""
        own, self._own = self._own, None
        if own is not None:
            os.close(own)

    def __del__(self) -> None:
        """Close it where nobody has."""
        self.close()

    def _put(self, data: bytes) -> bytes:
        """Write as much as there is room for, and give the rest. Raises OSError where nothing was written."""
        left = memoryview(data)
        while left:
            try:
                if self._own is not None:
                    left = left[os.write(self._own, left) :]
                elif self._at_once is None or self._has_room(0.0):
                    left = left[os.write(self._fd, left[: self._at_once]) :]
                elif not self._wait():
                    break
            except BlockingIOError:  # ours, or somebody who shares it made it so
                if not self._wait():
                    break
            except OSError:
                if len(left) == len(data):
                    raise
                break
        return bytes(left)

    def _wait(self) -> bool:
        """Wait for room, as long as patience lasts."""
        started = time.monotonic()
        regained = (started - self._waited_at) * _WAITING_SHARE
        self._patience_s = min(_LONGEST_WAIT_S, self._patience_s + regained)
        has_room = self._has_room(self._patience_s)
        self._waited_at = time.monotonic()
        self._patience_s = max(0.0, self._patience_s - (self._waited_at - started))
        return has_room

    def _has_room(self, wait_s: float) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(wait_s * 1000))


def _looked_at(descriptor: int) -> tuple[int | None, int | None]:
    """Open it once more, for us alone, where a write to it may wait for a reader, and that is possible.

    Whether writes wait is a property of what was opened, which other processes share: theirs must stay as it
    is. Gives how many bytes it takes at once where it takes any, as well; None: however many.
    """
    if not _waits(descriptor):
        return None, None
    own = None
    if sys.platform == "linux":
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with contextlib.suppress(OSError):  # another user's, as a container's may be; or a socket
            own = os.open(f"/proc/self/fd/{descriptor}", flags)
    return own, 1 if os.isatty(descriptor) else _PIPE_BUF


def _waits(descriptor: int) -> bool:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:  # closed: each write will say so
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)


class _Raw(io.RawIOBase):
    """A descriptor for others' texts: what can't be written is dropped."""

    def __init__(self, outlet: Outlet, descriptor: int) -> None:
        super().__init__()
        self._outlet = outlet
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: object, /) -> int:
        taken = bytes(memoryview(data))  # type: ignore[arg-type] # any buffer, as the base class has it
        with contextlib.suppress(OSError):
            self._outlet.write(taken)
        return len(taken)


def unhurried(stream: TextIO | None, outlet: Outlet | None = None) -> TextIO | None:
    """Make a stream that drops what nobody takes, in the place of one of Python's own.

    Gives it back as it is where it has no descriptor.
    """
    descriptor = descriptor_of(stream)
    if stream is None or descriptor is None:
        return stream
    raw = _Raw(outlet or Outlet(descriptor), descriptor)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), stream.encoding or "utf-8", "backslashreplace", line_buffering=True
    )


def may_wait(stream: TextIO | None) -> bool:
    """Tell whether a write to a stream may have to wait for somebody to read it."""
    descriptor = descriptor_of(stream)
    return descriptor is not None and _waits(descriptor)


def descriptor_of(stream: TextIO | None) -> int | None:
    """Give the descriptor of a stream; None where it has none, such as a text in memory."""
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def hold_standard() -> None:
    """Keep what was closed of standard input, output and error from becoming the number of another file.

    Else a database or a connection would take it, and be written to by whoever means the stream.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
