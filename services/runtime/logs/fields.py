"""What stands in a log line: the fields of one record, made once for all who write it.

    asctime, name, levelname, message    when (UTC), by which logger, how bad, what (see log_catalogue.py)
    ...                                  what the message is about
    held_back, exc_info                  where there are any
    trace_id, span_id                    of the span that the work in hand will have
    service, version, pod                who speaks; the pod on Kubernetes alone

Every value is JSON, of bounded length and without secrets, whatever was passed.
"""

import json
import logging
import math
import os
import time
import traceback
from collections.abc import Mapping
from typing import Any, Final

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from services import __version__
from services.runtime.redact import HIDDEN, is_secret, redact
from services.runtime.telemetry.spans import current

Fields = dict[str, Any]

LONGEST_LINE: Final = 16_000
"""Bytes. Container runtimes cut a line at 16 KiB, and what is cut is no JSON."""
_LONGEST_TEXT: Final = 4000
_LONGEST_TRACEBACK: Final = 8000
"""Characters. Of a traceback the end tells most."""
_DEEPEST: Final = 6
_HEAD: Final = ("asctime", "name", "levelname", "message")
_RESERVED: Final = frozenset(RESERVED_ATTRS)
"""What every record has by itself."""
_encode: Final = json.JSONEncoder(check_circular=False).encode


class Formatter(JsonFormatter):
    """Makes the fields of a record, and one line of JSON of them."""

    def __init__(self, service: str, environment: Mapping[str, str] = os.environ) -> None:
        super().__init__(list(_HEAD))
        self._who = {"service": service, "version": __version__}
        if pod := _pod(environment):
            self._who["pod"] = pod
        self._second = (-1, "")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        """Write the time in ISO 8601: UTC, to the millisecond."""
        second = int(record.created)
        if self._second[0] != second:
            self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        return f"{self._second[1]}.{int(record.created * 1000) % 1000:03d}Z"

    def fields(self, record: logging.LogRecord) -> Fields:
        """Make the fields of a record: what it says, each value fit for a line, and who speaks."""
        # The base's own way has three passes over them, and every batch writes a line.
        made: Fields = {
            "asctime": self.formatTime(record),
            "name": record.name,
            "levelname": record.levelname,
            "message": _fit(record.getMessage()),
        }
        for name, value in record.__dict__.items():
            if name not in _RESERVED and not name.startswith("_"):
                made[name] = HIDDEN if is_secret(name) else _fit(value)
        if record.exc_info or record.exc_text or record.stack_info:
            _add_details(made, record)
        return made | self._who

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as JSON, on one line, without its end."""
        return self.line(self.fields(record))

    def jsonify_log_record(self, log_data: Fields) -> str:
        """Write the fields as JSON: plain values by now, so one encoder does for all, in half the time."""
        return _encode(log_data)

    def line(self, fields: Fields) -> str:
        """Write the fields as JSON, on one line, without its end."""
        text = self.serialize_log_record(fields)
        if len(text) <= LONGEST_LINE:
            return text
        # ASCII alone is written, so characters are bytes; an escaped one takes up to twelve.
        kept = {name: fields[name] for name in fields if name in {*_HEAD, "trace_id", "span_id", *self._who}}
        kept["message"] = _shortened(str(kept["message"]), 1000)
        rest = {name: value for name, value in fields.items() if name not in kept}
        kept["cut"] = _shortened(self.serialize_log_record(rest), _LONGEST_TEXT)
        return self.serialize_log_record(kept)


def note_span(record: logging.LogRecord) -> None:
    """Note the span of the work in hand: a line that is held back is written during another one."""
    if (span := current()) is not None and not hasattr(record, "trace_id"):
        record.trace_id, record.span_id = span.trace_id, span.span_id


def _add_details(made: Fields, record: logging.LogRecord) -> None:
    if record.stack_info:
        made["stack_info"] = _fit(record.stack_info)
    told = record.exc_text
    if record.exc_info and record.exc_info[1] is not None:
        told = "".join(traceback.format_exception(record.exc_info[1]))
    if told:
        made["exc_info"] = _shortened(redact(told), _LONGEST_TRACEBACK, head=1500)


def _pod(environment: Mapping[str, str]) -> str:
    """Name our pod; empty outside of Kubernetes, where the host's name is no pod's."""
    inside = "KUBERNETES_SERVICE_HOST" in environment
    return environment.get("POD_NAME") or (environment.get("HOSTNAME", "") if inside else "")


def _fit(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        # The encoder would write a bare NaN, which no JSON reader takes.
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return {
            redact(str(name)): HIDDEN if is_secret(str(name)) else _fit(one, depth + 1)
            for name, one in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset) and depth < _DEEPEST:
        return [_fit(one, depth + 1) for one in value]
    text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
    return _text(text)


def _text(text: str) -> str:
    # A secret that the first cut goes through lies behind the second.
    return _shortened(redact(text[: 2 * _LONGEST_TEXT]), _LONGEST_TEXT, whole=len(text))


def _shortened(text: str, longest: int, *, head: int | None = None, whole: int = 0) -> str:
    if len(text) <= longest:
        return text
    head = longest if head is None else head
    tail = longest - head
    more = max(whole, len(text)) - longest
    return f"{text[:head]}…({more} characters more){text[-tail:] if tail else ''}"
