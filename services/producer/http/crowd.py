"""The connections that are open; where there are too many, the oldest without a request makes room."""

from typing import Protocol

from services.runtime.telemetry.metrics import Metrics


class Member(Protocol):
    """A connection."""

    def drop(self) -> None:
        """Close it, since there are too many."""
        ...


class Crowd:
    """The connections that have no request, the oldest first."""

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._most = most
        self._metrics = metrics
        self._idle: dict[Member, None] = {}
        self._all = 0

    def came(self, one: Member) -> None:
        """Enter one, without a request; one too many makes the oldest go."""
        self._all += 1
        self._metrics.set("telemetry_http_connections", self._all)
        self._idle[one] = None
        if self._all > self._most:
            oldest = next(iter(self._idle))  # where all others are busy, it is this one
            del self._idle[oldest]
            oldest.drop()

    def went(self, one: Member) -> None:
        """Strike one out."""
        self._all -= 1
        self._metrics.set("telemetry_http_connections", self._all)
        self._idle.pop(one, None)

    def is_idle(self, one: Member) -> None:
        """Tell that one waits for a request."""
        self._idle[one] = None

    def is_busy(self, one: Member) -> None:
        """Tell that one has a request."""
        self._idle.pop(one, None)
