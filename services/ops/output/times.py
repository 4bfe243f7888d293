"""Times on the command line and in its answers. Always UTC."""

import re
import time
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_UNIX: Final = re.compile(r"\d+(?:\.\d+)?")
_LIKELY_MILLISECONDS: Final = 1e11
_AHEAD_S: Final = 60.0
"""By which clocks may differ without a word."""


def parse_time(text: str) -> float:
    """Read a time as Unix seconds: ISO 8601, Unix seconds, or a span before now such as `15m`.

    ISO 8601 without an offset is UTC. Raises typer.BadParameter.
    """
    given = text.strip()
    if span := _SPAN.fullmatch(given):
        return time.time() - float(span[1]) * _SECONDS[span[2]]
    if _UNIX.fullmatch(given):
        if float(given) >= _LIKELY_MILLISECONDS:
            raise typer.BadParameter(f"{text!r} looks like milliseconds, and Unix seconds are wanted")
        return float(given)
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; write 2026-01-31T12:00:00Z, Unix seconds, or a span such as 15m, 2h, 1d"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def refuse_empty(since: float | None, until: float | None) -> None:
    """Refuse an interval in which nothing can be. Raises typer.BadParameter."""
    if since is not None and until is not None and since > until:
        raise typer.BadParameter(
            f"nothing can be in that time: it begins at {show_time(since)} and ends before that, at "
            f"{show_time(until)} (--until)",
            param_hint="--since",
        )


def show_time(unix_s: float | None) -> str:
    """Write a time for a person, to the millisecond; empty for None."""
    if unix_s is None:
        return ""
    try:
        return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):  # beyond the year 9999
        return f"{unix_s:g}"


def show_span(seconds: float) -> str:
    """Write how long something took or is ago, with the one or two units that matter."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def show_ago(unix_s: float | None) -> str:
    """Write how long ago a time is; empty for None. What lies ahead of our clock was not just now."""
    if unix_s is None:
        return ""
    ago_s = time.time() - unix_s
    if ago_s < -_AHEAD_S:
        return f"{show_span(-ago_s)} ahead of our clock"
    return f"{show_span(max(0.0, ago_s))} ago"


_FORMS: Final = "ISO 8601 (UTC where it has no offset), Unix seconds, or a span such as 15m, 2h, 1d."

Since = Annotated[
    float | None, typer.Option(parser=parse_time, metavar="TIME", help=f"Not before this time: {_FORMS}")
]
Until = Annotated[
    float | None, typer.Option(parser=parse_time, metavar="TIME", help="Not after this time; as --since.")
]
