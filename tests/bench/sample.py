"""Numbers measured several times over, and what is said about them. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self


@dataclass(frozen=True, slots=True)
class Sample:
    """What was measured, one value a round, in the order of the rounds."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a sample has at least one value")

    @classmethod
    def of(cls, *values: float) -> Self:
        """Make a sample of values."""
        return cls(values)

    @property
    def median(self) -> float:
        """The middle value."""
        return median(self.values)

    @property
    def low(self) -> float:
        """The smallest value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest value."""
        return max(self.values)

    def over(self, other: "Sample") -> "Sample":
        """Divide by another sample, round by round.

        Rounds and not medians: what slows the machine for a while slows both sides of one round.
        Raises ValueError where the rounds differ in number.
        """
        return Sample(tuple(mine / theirs for mine, theirs in zip(self.values, other.values, strict=True)))


def percentile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that `share` (above 0, up to 1) of all values don't exceed (nearest rank).

    Raises ValueError where there are no values.
    """
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
