"""The account of a file: each of its lines is published, refused, or left out, and it says why."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

LeftOut = Literal["header", "skipped", "comment", "blank", "missing", "after"]
_MOST_KINDS: Final = 50
"""Of reasons that are counted apart: a file may have any number of them."""
_OTHERS: Final = "other reasons"


@dataclass(slots=True)
class Account:
    """What became of the lines that were read. A record of several lines counts with all of them."""

    unit: str = "lines"
    """What is counted: `lines`, or of JSON that is no line by line `readings`."""
    lines: int = 0
    published: int = 0
    """Lines of which at least one event is published."""
    refused: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    events: int = 0
    """More than lines, where a line has several readings."""
    refused_readings: int = 0
    """Of lines of which others are published."""
    missing_readings: int = 0
    """Cells of such lines without a reading."""
    reasons: Counter[str] = field(default_factory=Counter)

    def publish(self, lines: int, events: int) -> None:
        """Count a record of which events are published."""
        self.lines += lines
        self.published += lines
        self.events += events

    def leave_out(self, lines: int, why: LeftOut) -> None:
        """Count lines without events, with which nothing is wrong."""
        self.lines += lines
        self.left_out[why] += lines

    def refuse(self, lines: int, kind: str) -> None:
        """Count a record of which nothing is published, since something is wrong with it."""
        self.lines += lines
        self.refused += lines
        self.blame(kind)

    def blame(self, kind: str, count: int = 1) -> None:
        """Count a reason."""
        self.reasons[kind if kind in self.reasons or len(self.reasons) < _MOST_KINDS else _OTHERS] += count

    def add(self, other: "Account") -> None:
        """Count what became of another file as well."""
        if other.lines and other.unit != self.unit:
            self.unit = "lines and readings" if self.lines else other.unit
        for name in (
            "lines", "published", "refused", "events", "refused_readings", "missing_readings"
        ):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.left_out.update(other.left_out)
        for kind, count in other.reasons.items():
            self.blame(kind, count)

    def copy(self) -> "Account":
        """Give it as it is now."""
        return replace(self, left_out=Counter(self.left_out), reasons=Counter(self.reasons))

    @property
    def is_balanced(self) -> bool:
        """Whether each line is in it once."""
        return self.lines == self.published + self.refused + self.left_out.total()

    def as_record(self) -> dict[str, Any]:
        """Give it for a log line and for --json."""
        return {
            "unit": self.unit,
            "lines": self.lines,
            "lines_published": self.published,
            "lines_refused": self.refused,
            "lines_left_out": dict(sorted(self.left_out.items())),
            "events": self.events,
            "readings_refused": self.refused_readings,
            "readings_missing": self.missing_readings,
            "reasons": dict(self.reasons.most_common()),
        }
