"""What an audit comes to: how many events are where, for each run and in all."""

from dataclasses import dataclass, field
from typing import Self

from services.contract.operating import Met
from services.ops.audit.ledger import PLACES, PURGED


@dataclass(slots=True)
class Tally:
    """How many events are where."""

    published: int = 0
    stored: int = 0
    dead: int = 0
    conflicts: int = 0
    purged: int = 0
    pending: int = 0
    undelivered: int = 0
    missing: int = 0

    def add(self, place: int, number: int = 1) -> None:
        """Count events at a place."""
        self._add(PLACES[place], number)

    def add_conflict(self, place: int) -> None:
        """Count a conflict, whose letter is kept or was purged."""
        self._add("purged" if place == PURGED else "conflicts", 1)

    def _add(self, name: str, number: int) -> None:
        self.published += number
        setattr(self, name, getattr(self, name) + number)

    def __iadd__(self, other: "Tally") -> Self:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


@dataclass(slots=True)
class RunAudit:
    """One producer run."""

    run: str
    source: str
    tally: Tally
    missing: list[str]
    """The first of the missing events; an id of which the time isn't known has `*` there."""
    beyond: int = 0
    """Events seen with a number above the recorded one."""
    met: Met = field(default_factory=Met)
    """What this audit has met of it."""
    understated: str = ""
    """How its record says less than what is known; empty where it doesn't."""


@dataclass(slots=True)
class Audit:
    """The whole proof."""

    runs: list[RunAudit] = field(default_factory=list)
    unrecorded: Tally = field(default_factory=Tally)
    """Events of which no recorded run tells: of producers that keep no record."""
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What keeps this from being a proof: records or letters that can't be read."""

    @property
    def unknown_rows(self) -> int:
        """Stored rows that no recorded run has published."""
        return self.unrecorded.stored

    @property
    def total(self) -> Tally:
        """All runs together."""
        total = Tally()
        for run in self.runs:
            total += run.tally
        return total

    @property
    def tampered_or_lost(self) -> list[str]:
        """The runs whose records say less than what is known."""
        return [one.run for one in self.runs if one.understated]

    @property
    def is_proven(self) -> bool:
        """Tell whether all is read, and nothing is missing."""
        return not self.problems and not self.total.missing

    def line(self) -> str:
        """Say it in one line."""
        total = self.total
        purged = f" purged={total.purged}" if total.purged else ""
        return (
            f"audit: published={total.published} stored={total.stored} dead={total.dead} "
            f"conflicts={total.conflicts}{purged} pending={total.pending} undelivered={total.undelivered} "
            f"missing={total.missing}"
        )
