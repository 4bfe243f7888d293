"""How each interface says what became of a request: ours, InfluxDB 2 and InfluxDB 1."""

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol

from starlette.responses import Response

from services.producer.http.refusals import TurnedAway
from services.producer.taking.making import Made
from services.runtime.redact import shortened

_LONGEST: Final = 4000
"""Characters of a message that clients show, or put into a header."""
_CODES: Final[Mapping[int, str]] = {
    400: "invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not found",
    405: "method not allowed",
    408: "request timeout",
    413: "request too large",
    415: "invalid",
    429: "too many requests",
    503: "unavailable",
}
"""What InfluxDB 2 calls a status."""


class Answers(Protocol):
    """The answers of one interface."""

    def taken(self, made: Made) -> Response:
        """Say that the good events are in the stream, and which are none; made has one of them at least."""
        ...

    def turned_away(self, refusal: TurnedAway) -> Response:
        """Say that nothing was taken."""
        ...

    def nothing_good(self, made: Made) -> Response:
        """Say what is wrong with each event."""
        ...


class EventAnswers:
    """Those of /v1/events."""

    def taken(self, made: Made) -> Response:
        """200, or 207 where not all were good."""
        return _json(207 if made.refused_fields else 200, {"published": made.good, **_told(made)})

    def nothing_good(self, made: Made) -> Response:
        """400."""
        return _json(400, {"published": 0, **_told(made)})

    def turned_away(self, refusal: TurnedAway) -> Response:
        """Give the status of the refusal, and its message."""
        return _json(refusal.status, {"error": str(refusal)}, _headers(refusal, "Bearer"))


class InfluxAnswers:
    """Those of InfluxDB 2, and, in other words, of InfluxDB 1."""

    def __init__(self, version: int) -> None:
        self._version = version

    def taken(self, made: Made) -> Response:
        """204, or 400 where not all were good: clients read there which."""
        if not made.refused_fields:
            return Response(status_code=204)
        return self._say(400, f"partial write: {_lines(made)}; published={made.good}")

    def nothing_good(self, made: Made) -> Response:
        """400."""
        return self._say(400, f"nothing written: {_lines(made)}")

    def turned_away(self, refusal: TurnedAway) -> Response:
        """Give the status of the refusal, and its message."""
        return self._say(refusal.status, str(refusal), _headers(refusal, "Basic"))

    def _say(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
        if len(message) > _LONGEST:  # a hint of ours may name a token, and is short
            message = shortened(message, _LONGEST)
        if self._version == 1:
            shown = {"X-Influxdb-Error": message.encode("ascii", "backslashreplace").decode()[:_LONGEST]}
            return _json(status, {"error": message}, {**(headers or {}), **shown})
        return _json(status, {"code": _CODES.get(status, "invalid"), "message": message}, headers)


def _told(made: Made) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if made.without_reading:
        told["without_reading"] = made.without_reading
    if made.refused_fields:
        told["refused"] = len(made.refused_fields)
        told["errors"] = [one._asdict() for one in made.refused]
    return told


def _lines(made: Made) -> str:
    named = "; ".join(f"line {one.position}: {one.reason}" for one in made.refused)
    more = len(made.refused_fields) - len(made.refused)
    return f"{named}{f'; and {more} more' if more else ''}; dropped={len(made.refused_fields)}"


def _headers(refusal: TurnedAway, scheme: str) -> dict[str, str]:
    headers = {}
    if refusal.retry_after_s:
        headers["Retry-After"] = str(refusal.retry_after_s)
    if refusal.status == 401:
        headers["WWW-Authenticate"] = f'{scheme} realm="telemetry"'
    if refusal.closes:
        headers["Connection"] = "close"
    return headers


def _json(status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    # In ASCII: what was sent comes back to a terminal.
    return Response(
        json.dumps(content) + "\n", status_code=status, headers=headers, media_type="application/json"
    )
