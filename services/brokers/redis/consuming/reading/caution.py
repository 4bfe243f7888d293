"""How careful a consumer is with entries that it has not looked at, since it met large ones."""

from collections.abc import Callable
from typing import Final

from services.contract.consuming.large import BATCH_WEIGHT

_CAREFUL_S: Final = 600.0
"""How long new entries are looked at, too, after a large one was met."""


class Caution:
    """What large entries have taught one consumer."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self.until = monotonic()
        """New entries are looked at before they are sent until then, on the monotonic clock."""
        self.most_weight = BATCH_WEIGHT
        """What entries that are read together may weigh."""
        self.may_be_cut = False
        """Whether the next to be acknowledged may be too large: most batches aren't looked at for that."""

    def expect_large(self) -> None:
        """Look at new entries, too, for the next ten minutes."""
        self.until = self._monotonic() + _CAREFUL_S
        self.may_be_cut = True

    def end(self) -> None:
        """Read new entries as they are again: they can't be looked at."""
        self.until = self._monotonic()
