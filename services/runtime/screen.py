"""The one place from which text goes to a terminal.

    answer, answer_json, answer_parts, answer_data    what was asked for, to standard output
    remark                                            all else, to standard error

Much of a text is somebody else's: a name of a field, a header, a file, an error of a server, an argument.
So each line loses its secrets here, and all that isn't printable: whatever it holds, it stays one line,
moves no cursor and turns no text around. A lint rule keeps other modules from writing by themselves (TID251
and T201 in pyproject.toml). The log has a gate of its own (logs.py), which uses the same two functions.
"""

import contextlib
import json
import logging
import math
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, TextIO

from services.runtime.outlet import may_wait, unhurried
from services.runtime.redact import redact

# Printable by Python's word, and yet nothing is seen of them: Unicode's Default_Ignorable_Code_Point.
_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def escaped(text: str) -> str:
    """Escape what isn't printable: a foreign name moves no cursor, and turns no text around."""
    if text.isprintable() and (text.isascii() or not _UNSEEN.search(text)):
        return text
    return "".join(one if _is_seen(one) else one.encode("unicode_escape").decode() for one in text)


def _is_seen(character: str) -> bool:
    return character.isprintable() and not _UNSEEN.match(character)


def shown(text: str) -> str:
    """Give a text as one line for a person: without secrets, and escaped."""
    return escaped(redact(text))


def lines_of(error: BaseException) -> Sequence[str]:
    """Give what an error says, in the lines that it has by itself: a line feed in a name begins none."""
    return getattr(error, "lines", None) or (str(error),)


def answer(*lines: str, flush: bool = False) -> None:
    """Write lines of an answer to standard output."""
    _write(sys.stdout, lines, flush=flush)


def remark(*lines: str) -> None:
    """Tell a person something that is no part of the answer: lines on standard error."""
    _write(sys.stderr, lines, flush=True)


def answer_json(document: Any, *, indent: int | None = None, flush: bool = False) -> None:
    """Write a document of JSON, all in ASCII: JSON escapes what a terminal must not see.

    It is for programs, so data is left as it is. What an `error` in it says has lost its secrets. A number
    that JSON does not have (NaN) is null.
    """
    told = _told(document)
    try:
        text = json.dumps(told, indent=indent, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(told), indent=indent)
    print(text, file=sys.stdout, flush=flush)


def answer_parts(parts: Iterable[str]) -> None:
    """Write one line of an answer part by part, as it is made: it may be too large for memory.

    Parts are data for programs, written as they are. Raises ValueError for one that isn't printable ASCII.
    """
    for part in parts:
        if not (part.isascii() and part.isprintable()):
            raise ValueError("a part of an answer that isn't printable ASCII")
        print(part, end="", file=sys.stdout)
    print(file=sys.stdout)


def answer_data(text: str) -> None:
    """Write whole lines of data for programs to standard output, as they are and in UTF-8.

    On a terminal they are for a person, and lose their secrets and what isn't printable as all lines do.
    """
    if sys.stdout is None:  # closed by whoever started us
        return
    if answers_on_terminal():
        answer(*text.removesuffix("\n").split("\n") if text else ())
        return
    sys.stdout.flush()
    left = memoryview(text.encode())
    while left:  # with PYTHONUNBUFFERED a write may take a part, as where a disk is almost full
        left = left[sys.stdout.buffer.write(left) or 0 :]


def answers_on_terminal() -> bool:
    """Tell whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def remarks_on_terminal() -> bool:
    """Tell whether standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


def prepare() -> None:
    """Make a command's streams ready, for whatever is written to them.

    What Python and libraries would write by themselves comes through here too: tracebacks, warnings, log
    lines.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by whoever started us
            # A terminal that can't show a degree sign gets it spelled out, not an error.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.excepthook = _crash
    threading.excepthook = _thread_crash
    warnings.showwarning = _warning
    logging.lastResort = _LastResort(logging.WARNING)


def wait_for_no_reader() -> None:
    """Drop from now on what nobody takes, on standard output and error, where that is a pipe or a terminal.

    An answer goes into a file whole, or is an error; a remark is never worth one.
    """
    sys.stderr = unhurried(sys.stderr) or sys.stderr
    if may_wait(sys.stdout):
        sys.stdout = unhurried(sys.stdout) or sys.stdout


def drop_answer() -> None:
    """Drop what is left of an answer that can't be written: at its end Python would try again."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no file, or closed
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _write(stream: TextIO | None, lines: tuple[str, ...], *, flush: bool) -> None:
    if stream is None:  # closed by whoever started us
        return
    for line in lines:
        print(shown(line), file=stream)
    if flush:
        stream.flush()


def _told(value: Any) -> Any:
    """Take the secrets out of what errors say, at any depth."""
    if isinstance(value, Mapping):
        return {
            name: redact(one) if name == "error" and isinstance(one, str) else _told(one)
            for name, one in value.items()
        }
    return [_told(one) for one in value] if isinstance(value, list | tuple) else value


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    # Redacted whole: a secret may go over the end of a line. Indented: an error may have line feeds.
    first, *more = redact("".join(traceback.format_exception(kind, error, trace))).rstrip("\n").split("\n")
    remark(first, *(f"    {line}" for line in more))


def _thread_crash(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is not None and crash.exc_type is not SystemExit:
        _crash(crash.exc_type, crash.exc_value, crash.exc_traceback)


def _warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    del file, line
    remark(f"{filename}:{lineno}: {category.__name__}: {message}")


class _LastResort(logging.Handler):
    """Where lines of the log go that nobody has set up."""

    def emit(self, record: logging.LogRecord) -> None:
        remark(record.getMessage())
