"""JSON lines on standard output: one object a line, times in UTC, nothing that isn't JSON."""

import logging
import math
import sys
from collections.abc import Callable
from typing import Any, Final, TextIO

from pythonjsonlogger.json import JsonFormatter

from services.runtime.spans import current

LOGGER: Final = "telemetry"


class _Formatter(JsonFormatter):
    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        if (span := current()) is not None:
            log_data |= {"trace_id": span.trace_id, "span_id": span.span_id}
        # The encoder would write a bare NaN, which no JSON reader takes.
        return {name: _json_safe(value) for name, value in log_data.items()}


def _json_safe(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, dict):
        return {str(name): _json_safe(one) for name, one in value.items()}
    return [_json_safe(one) for one in value] if isinstance(value, list | tuple) else value


def build_logger(service: str, level: str, stream: TextIO | None = None) -> logging.Logger:
    """Build the process's logger; `service` names it in every line."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(
        _Formatter(
            "%(levelname)s %(message)s",
            rename_fields={"levelname": "level", "message": "event"},
            static_fields={"service": service},
            timestamp="time",
        )
    )
    logger = logging.getLogger(LOGGER)
    logger.setLevel(level)
    logger.propagate = False
    logger.handlers.clear()
    logger.addHandler(handler)
    return logger


class Limited:
    """Says yes once in `interval_s` seconds, and how many were held back since."""

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
