"""Dropping old days of rows: what a store does, a step at a time, and what it tells of it.

Nothing goes that no audit has proven. A day is from 0:00 to 24:00 UTC, by the time that ids begin with; rows
of ids that carry no time go by their `ts`.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Final, NamedTuple, Protocol

DAY_MS: Final = 86_400_000

Again = Callable[[], Collection[str]]
"""Gives the ids that runs of our scope have published again, or may have, since the last proof.

It is asked while nobody can store or find any of the rows that go, and may raise BrokerUnavailable.
"""


class Step(NamedTuple):
    """One transaction of it: the rows are gone, and counted, or neither."""

    rows: int
    """Which were dropped."""
    day: int | None = None
    """The day that is gone with it, since 1970; None: rows went, and their day is not through."""


class Waits(NamedTuple):
    """A day that may not go yet."""

    day: int
    """Since 1970."""
    why: str


class Retention(Protocol):
    """Drops rows of one store."""

    def claim_audit(self, now: float, interval_s: float) -> bool:
        """Take it upon us to audit our pipeline, stream and group; `now` in Unix seconds.

        False where somebody has audited it, or has begun to, less than that interval ago. Raises
        SinkUnavailable.
        """
        ...

    def now(self) -> float | None:
        """Tell the time by a clock that is not ours, in Unix seconds; None where the store has none.

        Raises SinkUnavailable.
        """
        ...

    def oldest_day(self, before_ms: int) -> int | None:
        """Tell the oldest day with rows that ends at a time or before it, since 1970; None: there is none.

        Rows whose ids carry no time are not asked. Raises SinkUnavailable and SinkAbsent.
        """
        ...

    def drop(self, before_ms: int, again: Again) -> Iterator[Step | Waits]:
        """Drop the days that end at a time or before it, Unix milliseconds, the oldest first.

        Each step is whole when it is given, counted in the proofs, and durable with whatever is written next.
        Where a day has to wait, it and all
        behind it stay, and nothing follows. Raises SinkUnavailable, SinkAbsent, and what `again` raises.
        """
        ...
