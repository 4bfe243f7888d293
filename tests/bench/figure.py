"""A figure of the report: what was measured, and the goal it is held to. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bench.sample import Sample

Unit = Literal["x", "events/s", "rows/s", "ms", "MB", "µs"]

_DECIMALS: Final[Mapping[Unit, int]] = {"x": 2, "events/s": 0, "rows/s": 0, "ms": 1, "MB": 1, "µs": 2}


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on a figure's median, in the figure's unit."""

    bound: float
    at_least: bool
    """Whether the median may not be below the bound; else it may not be above."""

    def is_met(self, sample: Sample) -> bool:
        """Tell whether a sample keeps the bound."""
        return sample.median >= self.bound if self.at_least else sample.median <= self.bound


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report."""

    case: str
    what: str
    unit: Unit
    sample: Sample
    goal: Goal | None = None

    @property
    def verdict(self) -> str:
        """`met` or `not met`; empty where there is no goal."""
        if self.goal is None:
            return ""
        return "met" if self.goal.is_met(self.sample) else "not met"

    @property
    def median_text(self) -> str:
        """The median with its unit."""
        return f"{_number(self.sample.median, self.unit)} {self.unit}"

    @property
    def spread_text(self) -> str:
        """The smallest and the largest value; empty for a single one."""
        if len(self.sample.values) == 1:
            return ""
        return f"{_number(self.sample.low, self.unit)} - {_number(self.sample.high, self.unit)}"

    @property
    def goal_text(self) -> str:
        """The bound with its sign and unit; empty where there is no goal."""
        if self.goal is None:
            return ""
        return f"{'>=' if self.goal.at_least else '<='} {self.goal.bound:g} {self.unit}"


def at_least(bound: float) -> Goal:
    """Make a goal that is met from `bound` on."""
    return Goal(bound, at_least=True)


def at_most(bound: float) -> Goal:
    """Make a goal that is met up to `bound`."""
    return Goal(bound, at_least=False)


def table(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """Lay figures out as texts, the heading first."""
    rows = [
        (one.case, one.what, one.median_text, one.spread_text, one.goal_text, one.verdict) for one in figures
    ]
    return [("case", "what", "median", "min - max", "goal", ""), *rows]


def _number(value: float, unit: Unit) -> str:
    return f"{value:,.{_DECIMALS[unit]}f}"
