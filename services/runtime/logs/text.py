"""Log lines for a person at a terminal: time, level, what happened, and the rest as `key=value`.

09:04:11.157  INFO     batch_settled  received=100 stored=100 dead=0  trace=4bf92f35
"""

import json
from collections.abc import Mapping
from typing import Any, Final, TextIO

from services.runtime.screen import escaped

_COLOURS: Final = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;37;41"}
_QUIET: Final = {
    "asctime",
    "name",
    "levelname",
    "message",
    "exc_info",
    "trace_id",
    "span_id",
    "service",
    "version",
    "pod",
}
_TRACE_DIGITS: Final = 8
"""Enough to tell traces on a screen apart; LOG_FORMAT=json has all."""


def wants_colour(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Tell whether to write colours: on a terminal that has them, unless NO_COLOR says no (no-color.org)."""
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def text_line(fields: Mapping[str, Any], *, colour: bool) -> str:
    """Write the fields of a line. A traceback follows below it, indented; the rest is one line."""
    level = escaped(str(fields.get("levelname", "")))
    parts = [
        _painted(escaped(str(fields.get("asctime", ""))[11:-1]), "2", colour),
        "",
        _painted(f"{level:<8}", _COLOURS.get(level, "0"), colour),
        _painted(escaped(str(fields.get("message", ""))), "1", colour),
    ]
    details = [
        f"{_painted(escaped(name), '36', colour)}={_value(value)}"
        for name, value in fields.items()
        if name not in _QUIET
    ]
    if not str(fields.get("name", "")).startswith("telemetry"):
        details.append(f"{_painted('logger', '36', colour)}={_value(fields.get('name'))}")
    if "trace_id" in fields:
        details.append(_painted(f"trace={escaped(str(fields['trace_id'])[:_TRACE_DIGITS])}", "35", colour))
    trace = str(fields.get("exc_info", "")).rstrip("\n")
    below = [f"    {escaped(line)}" for line in trace.split("\n")] if trace else []
    return "\n".join([" ".join([*parts, *(["", *details] if details else [])]), *below])


def _painted(text: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text


def _value(value: object) -> str:
    """Write a value; in quotes where a reader could not tell its end."""
    if not isinstance(value, str):
        return escaped(json.dumps(value, ensure_ascii=False))
    plain = value == escaped(value) and value and not any(one in value for one in " =\"'\\")
    return value if plain else escaped(json.dumps(value, ensure_ascii=False))
