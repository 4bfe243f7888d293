"""Every log line is one JSON object, whatever is in it."""

import io
import json
import logging
import math
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from fakes import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from services import __version__
from services.runtime.logs.fields import Formatter
from services.runtime.logs.gate import Limited, build_logger
from services.runtime.redact import HIDDEN


def refuse(constant: str) -> Any:
    """Refuse what Python's reader takes and JSON doesn't know."""
    raise AssertionError(f"{constant} is not JSON")


def lines(level: str = "INFO", **extra: Any) -> list[dict[str, Any]]:
    """Log one line with `extra`, and read all that was written."""
    stream = io.StringIO()
    build_logger("consumer", level, stream).warning("something_happened", extra=extra)
    return [json.loads(line, parse_constant=refuse) for line in stream.getvalue().splitlines()]


def test_a_line_tells_what_when_where_and_how_bad() -> None:
    """Event, level, service and a UTC time are in every line, beside what was passed."""
    (line,) = lines(events=3)
    assert list(line) == ["asctime", "name", "levelname", "message", "events", "service", "version"]
    assert {**line, "asctime": ""} == {
        "asctime": "",
        "name": "telemetry",
        "levelname": "WARNING",
        "message": "something_happened",
        "events": 3,
        "service": "consumer",
        "version": __version__,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["asctime"])
    written = datetime.fromisoformat(line["asctime"])
    assert abs((datetime.now(UTC) - written).total_seconds()) < 60


def test_a_level_holds_lines_back() -> None:
    """Lines less severe than LOG_LEVEL are not written."""
    assert lines("ERROR") == []


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        [math.nan],
        {"a": math.inf},
        (1, [math.nan]),
        b"\xff",
        "\ud800",
        "a\nb\u2028",
        object(),
        {1, 2},
        10**400,
    ],
    ids=lambda value: type(value).__name__,
)
def test_odd_values_are_valid_json(value: object) -> None:
    """Values that JSON doesn't know are written as text, in one line."""
    (line,) = lines(value=value)
    assert "value" in line


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_value_is_valid_json(value: object) -> None:
    """Whatever is nested in whatever, the line can be read by any JSON reader."""
    assert len(lines(value=value)) == 1


def test_an_exception_stays_in_its_line() -> None:
    """A traceback doesn't break the one-object-a-line rule."""
    stream = io.StringIO()
    logger = build_logger("consumer", "INFO", stream)
    logger.error("it_failed", exc_info=ValueError("a\nb"))
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: a\nb" in json.loads(line)["exc_info"]


def test_the_formatter_serves_any_handler() -> None:
    """A handler of somebody else's gets the same line from it, secrets hidden."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Formatter("consumer"))
    record = logging.makeLogRecord({"name": "theirs", "levelname": "INFO", "msg": "said", "password": "p"})
    handler.handle(record)
    line = json.loads(stream.getvalue())
    assert list(line) == ["asctime", "name", "levelname", "message", "password", "service", "version"]
    assert line["password"] == HIDDEN


def test_limited_says_yes_once_an_interval_and_counts_the_rest() -> None:
    """The first is let through, and the next tells how many were held back."""
    clock = FakeClock()
    limited = Limited(10.0, clock.monotonic)
    assert [limited.held_back() for _ in range(4)] == [0, None, None, None]
    clock.sleep(9.9)
    assert limited.held_back() is None
    clock.sleep(0.1)
    assert limited.held_back() == 4
    assert limited.held_back() is None
