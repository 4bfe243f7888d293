"""Times on the command line."""

import time

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from services.ops.output.times import parse_time, show_span, show_time


@pytest.mark.parametrize(
    ("text", "unix_s"),
    [
        ("2023-11-14T22:13:20Z", 1_700_000_000.0),
        ("2023-11-14 22:13:20", 1_700_000_000.0),
        ("2023-11-15T00:13:20+02:00", 1_700_000_000.0),
        ("2023-11-14", 1_699_920_000.0),
        ("1700000000.5", 1_700_000_000.5),
        ("0", 0.0),
    ],
)
def test_a_moment_is_read_as_utc(text: str, unix_s: float) -> None:
    """ISO 8601 with and without an offset, and Unix seconds."""
    assert parse_time(text) == unix_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("15m", 900), ("2h", 7200), ("1d", 86400), ("1w", 604800), ("1.5h", 5400)],
)
def test_a_span_lies_before_now(text: str, seconds: float) -> None:
    """A span is counted back from this moment."""
    before = time.time()
    assert before - seconds <= parse_time(text) <= time.time() - seconds


@pytest.mark.parametrize("text", ["", "yesterday", "15 minutes", "-5m", "1e400x", "2023-13-01"])
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    """The message shows how a time is written."""
    with pytest.raises(typer.BadParameter, match="2026-01-31T12:00:00Z"):
        parse_time(text)


def test_milliseconds_are_recognized() -> None:
    """A time 1,000 times too large is told apart from the far future."""
    with pytest.raises(typer.BadParameter, match="milliseconds"):
        parse_time("1700000000000")


@given(st.floats(min_value=0, allow_infinity=False))
def test_every_time_can_be_shown(unix_s: float) -> None:
    """Even a time that no calendar has."""
    assert show_time(unix_s)


def test_times_are_shown_to_the_millisecond() -> None:
    """In UTC, and nothing for no time."""
    assert show_time(1_700_000_000.25) == "2023-11-14T22:13:20.250Z"
    assert show_time(None) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0s"), (59.9, "59.9s"), (61, "1m01s"), (3700, "1h01m"), (90000, "1d01h")],
)
def test_spans_are_shown_with_the_units_that_matter(seconds: float, text: str) -> None:
    """Two units at most."""
    assert show_span(seconds) == text
