"""What all connections of a process heed: whether it was asked to stop, and which server is the one."""

from collections.abc import Callable
from typing import Final

_LAST_WAIT_S: Final = 1.2
"""How long a server that we wait for when we are asked to stop still has. Longer than a read may block."""
_IN_VAIN_S: Final = 0.05
"""How long it has from then on, once one such wait was in vain."""


class Attention:
    """What all connections of a process heed: whether it was asked to stop, and which server is the one.

    Threads may share it.
    """

    def __init__(self, is_stopping: Callable[[], bool] = lambda: False) -> None:
        self._is_stopping = is_stopping
        self._asked_at: float | None = None
        self._in_vain = False
        self.generation = 0
        """Counts how often a server said that it is not the one; older connections are not used any more."""

    def elsewhere(self) -> None:
        """Note that a server said so: every connection of the process is made anew."""
        self.generation += 1

    def is_over(self, waits_since: float, now: float) -> bool:
        """Tell whether a wait has to end, since we were asked to stop. Times on the monotonic clock."""
        if not self._is_stopping():
            return False
        if self._asked_at is None:
            self._asked_at = now
        patience_s = _IN_VAIN_S if self._in_vain else _LAST_WAIT_S
        if now < max(self._asked_at, waits_since) + patience_s:
            return False
        self._in_vain = True
        return True
