"""The breaker: a deploy that makes most events invalid must not turn the stream into dead letters."""

from collections import deque
from typing import Final

from services.contract.errors import BreakerOpen

_WINDOW_ENTRIES: Final = 100
"""A share of fewer entries than this says nothing: one invalid entry alone would be 100 %."""


class Breaker:
    """Watches the share of invalid entries among the last 100 or more. Ratio 0 never opens."""

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio
        self._batches: deque[tuple[int, int]] = deque()
        self._received = 0
        self._invalid = 0

    def check(self, received: int, invalid: int) -> None:
        """Take a batch into account. Raises BreakerOpen, and then none of it may be settled."""
        if self._ratio == 0.0:
            return
        self._batches.append((received, invalid))
        self._received += received
        self._invalid += invalid
        while self._received - self._batches[0][0] >= _WINDOW_ENTRIES:
            old_received, old_invalid = self._batches.popleft()
            self._received -= old_received
            self._invalid -= old_invalid
        if self._received >= _WINDOW_ENTRIES and self._invalid / self._received > self._ratio:
            raise BreakerOpen(
                f"{self._invalid} of the last {self._received} entries are invalid, "
                f"more than DLQ_BREAKER_RATIO {self._ratio:g}: nothing of this batch is settled. Mend the "
                "producer or the rules, then restart; or restart with DLQ_BREAKER_RATIO=0 to dead-letter them"
            )
