"""How far a long answer is, on a terminal: a line that is written over, and gone in the end."""

import sys
import time
from collections.abc import Callable
from typing import Final, Self, TextIO

_AFTER_S: Final = 0.5
"""What is answered sooner needs no line."""
_BAR: Final = 20
_CLEAR: Final = "\r\x1b[K"


class ProgressLine:
    """Tells how many parts are read, and of how many. Nothing where errors go to no terminal."""

    def __init__(
        self, what: str, out: TextIO | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._what = what
        self._out = sys.stderr if out is None else out  # noqa: TID251 - two numbers and a text of ours
        self._now = now
        self._began = now()
        self._is_shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_shown:
            self._out.write(_CLEAR)
            self._out.flush()

    def __call__(self, read: int, parts: int | None = None) -> None:
        """Show it, once it takes a while; without the number of parts where nobody knows it."""
        if self._now() - self._began < _AFTER_S or not self._out.isatty():
            return
        self._is_shown = True
        if parts is None:
            self._out.write(f"{_CLEAR}{self._what} {read:,}")
            self._out.flush()
            return
        done = min(_BAR, _BAR * read // max(parts, 1))
        self._out.write(f"{_CLEAR}{self._what} [{'#' * done:{_BAR}}] {read:,} of {parts:,}")
        self._out.flush()
