"""When the next batch is due, and how large it is: by a schedule, so the rate doesn't drift. Pure."""

from collections.abc import Callable
from typing import Final

_INTERVAL_S: Final = 0.02
"""How often a batch goes out at high rates: an event waits no longer for its companions."""
_LARGEST: Final = 1000
"""Events in a batch; at more than 50,000 a second batches go out more often instead."""
_STALL_S: Final = 1.0
"""How far behind the schedule is caught up; what is beyond is let go, without a burst."""


class Pacer:
    """A schedule of batches."""

    def __init__(self, size: int, interval_s: float, monotonic: Callable[[], float]) -> None:
        self.size = size
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._due = monotonic()

    def wait_s(self) -> float:
        """Tell how long until the next batch, in seconds; 0: now."""
        now = self._monotonic()
        if now - self._due > _STALL_S:
            self._due = now
        return max(0.0, self._due - now)

    def sent(self, events: int) -> None:
        """Move on by what was sent: a smaller batch earns a shorter pause."""
        self._due += self._interval_s * min(1.0, events / self.size)


def at_rate(rate: float, most: int, monotonic: Callable[[], float]) -> Pacer:
    """Make the schedule of `rate` events a second; no batch has more than `most` events, unless 0."""
    size = max(1, min(round(rate * _INTERVAL_S), _LARGEST, most or _LARGEST))
    return Pacer(size, size / rate, monotonic)
