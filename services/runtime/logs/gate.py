"""The log of a process: every line of it, ours or others', comes through one place.

There it is given its fields (log_fields.py), held back where it repeats (log_limit.py), and written whole:
JSON, or readable text on a terminal (log_text.py). What else Python would put on standard error as bare text,
warnings and the tracebacks of what nobody caught, becomes a line as well.
"""

import contextlib
import logging
import math
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self, TextIO, cast

from services.runtime.logs.fields import Fields, Formatter, note_span
from services.runtime.logs.limit import Repeats
from services.runtime.logs.text import text_line, wants_colour
from services.runtime.outlet import Outlet, descriptor_of, unhurried
from services.runtime.redact import head
from services.runtime.screen import lines_of, remark, remarks_on_terminal

LOGGER: Final = "telemetry"

Form = Literal["auto", "json", "text"]


class Writer(Protocol):
    """Where lines go."""

    def write(self, record: logging.LogRecord, fields: Fields) -> None:
        """Take a line. Never raises for what is wrong with the place it goes to."""
        ...

    def close(self) -> None:
        """Send what is left, within two seconds."""
        ...


class Gate(logging.Handler):
    """Where all lines of a process come through. Others are kept out meanwhile by the handler's own lock."""

    def __init__(self, formatter: Formatter, repeats: Repeats, writers: list[Writer]) -> None:
        super().__init__()
        self._formatter = formatter
        self._repeats = repeats
        self.writers = writers
        self._is_open = True

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless it repeats; and before it, what was held back long enough."""
        try:
            note_span(record)
            passes = not self._is_open or self._repeats.passes(record)
            if self._repeats.has_held:
                for held in self._repeats.overdue():
                    self._write(held)
            if passes:
                self._write(record)
        except Exception as error:  # noqa: BLE001 - a line that can't be made must cost no event
            self._broken(record, error)

    def close(self) -> None:
        """Write what was held back, and let the writers send what they have. Later lines still pass."""
        with self.lock or threading.RLock():
            if not self._is_open:
                return
            self._is_open = False
        self.tell_rest()
        for writer in self.writers:
            writer.close()
        super().close()

    def tell_rest(self) -> None:
        """Write what was held back."""
        with self.lock or threading.RLock():
            for held in self._repeats.rest():
                self._write(held)

    def _write(self, record: logging.LogRecord) -> None:
        fields = self._formatter.fields(record)
        for writer in self.writers:
            writer.write(record, fields)

    def _broken(self, record: logging.LogRecord, error: Exception) -> None:
        # An INFO line of ours is found by its message, of which there is one in the code.
        where = f"{record.pathname}:{record.lineno}" if record.pathname else head(str(record.msg), 200)
        line = _own_record(
            logging.ERROR, "log_line_broken", error=f"{type(error).__name__}: {error}", where=where
        )
        self._write(line)


class Stream:
    """Writes each line to a stream, whole: by one call of the system where the stream is a file's.

    Lines of several processes on one file, or of up to 4096 bytes on one pipe, are never mixed up by that. A
    line that can't be written is lost: the disk is full, nobody reads, or the stream is closed. The first one
    that can be written again is about those that were not.
    """

    def __init__(self, formatter: Formatter, stream: TextIO | None, form: Form) -> None:
        self._formatter = formatter
        self._stream = stream
        self._is_text = form == "text" or (form == "auto" and stream is not None and stream.isatty())
        self._colour = self._is_text and stream is not None and wants_colour(stream, os.environ)
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        descriptor = descriptor_of(stream)
        self.outlet = None if descriptor is None else Outlet(descriptor)
        self.lost = 0
        """Since the start."""
        self._told = 0

    def write(self, record: logging.LogRecord, fields: Fields) -> None:  # noqa: ARG002 - others need it
        """Write a line."""
        try:
            self._tell_lost()
            self._put(self._line(fields))
        except (OSError, ValueError):
            self.lost += 1

    def close(self) -> None:
        """Tell of lines that were lost; nothing else waits here."""
        with contextlib.suppress(OSError, ValueError):
            self._tell_lost()
        if self.outlet is not None:
            self.outlet.close()

    def _tell_lost(self) -> None:
        if self.lost == self._told:
            return
        lost = self.lost
        line = _own_record(logging.WARNING, "log_lines_lost", lines=lost - self._told)
        self._put(self._line(self._formatter.fields(line)))
        self._told = lost

    def _line(self, fields: Fields) -> str:
        return text_line(fields, colour=self._colour) if self._is_text else self._formatter.line(fields)

    def _put(self, line: str) -> None:
        if self.outlet is not None:
            self.outlet.write(f"{line}\n".encode(self._encoding, "backslashreplace"))
        elif self._stream is None:
            raise ValueError("the stream was closed before the start")
        else:
            self._stream.write(f"{line}\n")
            self._stream.flush()


class _Logger(logging.Logger):
    """Makes the record of an INFO line in a third of the time: each batch writes one.

    What no line of ours names is not found out for it: the code that says it, its thread and its process.
    """

    def info(
        self, msg: object, *args: object, extra: Mapping[str, object] | None = None, **more: Any
    ) -> None:
        """Say something that is no warning. No name in `extra` may be one of a record's own."""
        if args or more:
            super().info(msg, *args, extra=extra, stacklevel=more.pop("stacklevel", 1) + 1, **more)
        elif self.isEnabledFor(logging.INFO):
            now = time.time()
            record = logging.LogRecord.__new__(logging.LogRecord)
            record.__dict__.update(
                _BLANK.__dict__, msg=msg, created=now, msecs=now % 1 * 1000, **(extra or {})
            )
            self.handle(record)


_BLANK: Final = logging.LogRecord(LOGGER, logging.INFO, "", 0, "", None, None)


def _own_logger() -> logging.Logger:
    """Give the one of our class; those that others make stay of theirs."""
    theirs = logging.getLoggerClass()
    logging.setLoggerClass(_Logger)
    try:
        return logging.getLogger(LOGGER)
    finally:
        logging.setLoggerClass(theirs)


class Logs:
    """A process's log, closed last of all. As a context it tells of the error that ends the process."""

    def __init__(
        self,
        service: str,
        level: str,
        form: str = "auto",
        stream: TextIO | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        formatter = Formatter(service)
        self._lines = Stream(formatter, sys.stdout if stream is None else stream, cast("Form", form))
        self._gate = Gate(formatter, Repeats(monotonic), [self._lines])
        self.logger = _own_logger()
        self.logger.setLevel(level)
        self.logger.propagate = False
        self.logger.handlers = [self._gate]
        self._told: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Told before the end, and not by Python's hook behind it: a collector is to have it too.
        if kind is not None and isinstance(error, Exception):
            self._crash(kind, error, trace)
        self.close()

    def also_to(self, writer: Writer) -> None:
        """Write every line there as well."""
        self._gate.writers.append(writer)

    def figures(self) -> Mapping[str, float]:
        """Give how many lines could not be written."""
        return {"telemetry_log_lines_lost_total": self._lines.lost}

    def take_over(self) -> None:
        """Have all others speak here: libraries from WARNING on, warnings, and what nobody caught.

        What is printed beside that, by a step for one, waits for no reader either.
        """
        # What is left there from before comes first.
        for one in (sys.stdout, sys.stderr):
            if one is not None:
                with contextlib.suppress(OSError):
                    one.flush()
        sys.stdout = unhurried(sys.stdout, self._lines.outlet)
        sys.stderr = unhurried(sys.stderr)
        # What no line of ours says needs no looking up for each of them.
        logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
        if sys.version_info >= (3, 12):
            logging.logAsyncioTasks = False
        root = logging.getLogger()
        root.setLevel(max(logging.WARNING, self.logger.level))
        root.handlers = [self._gate]
        warnings.showwarning = self._warning
        sys.excepthook = self._crash
        threading.excepthook = self._thread_crash
        sys.unraisablehook = self._unraisable

    def tell_rest(self) -> None:
        """Write what was held back; before the line that a process ends with."""
        self._gate.tell_rest()

    def close(self) -> None:
        """Write what was held back, and send what is to be sent, within two seconds."""
        self._gate.close()

    def _warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        del file, line
        self.logger.warning(
            "python_warning",
            extra={"category": category.__name__, "error": str(message), "where": f"{filename}:{lineno}"},
        )

    def _crash(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        # Python ends the process by itself, with the exit code it would have had.
        if error is self._told:
            return
        self._told = error
        self.logger.critical("crashed", extra={"error": _named(error)}, exc_info=(kind, error, trace))

    def _thread_crash(self, crash: threading.ExceptHookArgs) -> None:
        if crash.exc_type is SystemExit or crash.exc_value is None:
            return
        self.logger.error(
            "thread_crashed",
            extra={
                "kind": crash.exc_type.__name__,
                "of_thread": "" if crash.thread is None else crash.thread.name,
                "error": _named(crash.exc_value),
            },
            exc_info=(crash.exc_type, crash.exc_value, crash.exc_traceback),
        )

    def _unraisable(self, failure: Any) -> None:
        error: BaseException | None = failure.exc_value
        self.logger.error(
            "exception_ignored",
            extra={
                "kind": failure.exc_type.__name__,
                "where": head(repr(failure.object), 200),
                "error": "" if error is None else _named(error),
            },
            exc_info=None if error is None else (failure.exc_type, error, failure.exc_traceback),
        )


def build_logger(service: str, level: str, stream: TextIO | None = None) -> logging.Logger:
    """Build the process's logger alone; others speak as they did. `service` names it in every line."""
    return Logs(service, level, stream=stream).logger


def refuse(service: str, message: str, error: Exception) -> None:
    """Say on standard error why nothing is started: to a person line by line, else as a line of the log."""
    form = os.environ.get("LOG_FORMAT", "").strip().lower()
    if form == "text" or (form != "json" and remarks_on_terminal()):
        remark(*lines_of(error))
        return
    logs = Logs(service, "INFO", "json", sys.stderr)
    logs.logger.critical(message, extra={"error": str(error)})


def _own_record(level: int, message: str, **extra: Any) -> logging.LogRecord:
    record = logging.LogRecord(LOGGER, level, __file__, 0, message, None, None)
    record.__dict__.update(extra)
    return record


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


class Limited:
    """Says yes once in `interval_s` seconds, and how many were held back since. For what is no warning."""

    def __init__(self, interval_s: float, monotonic: Callable[[], float]) -> None:
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._next = -math.inf
        self._held = 0

    def held_back(self) -> int | None:
        """Count the lines held back since the last yes; None means: hold this one back too."""
        now = self._monotonic()
        if now < self._next:
            self._held += 1
            return None
        held, self._held, self._next = self._held, 0, now + self._interval_s
        return held
