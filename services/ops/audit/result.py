"""What an audit comes to: how many events are where, for each run and in all."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from services.contract.consuming.proofs import Proof, Proven
from services.contract.ids import id_pattern
from services.contract.operating import RunRecord
from services.ops.audit.ledger import MISSING, PLACES, PURGED

RARE: Final = ("expired", "accepted")
"""What is told in the last line where there is any."""
_MOST_PIECES: Final = 20
_DROPPED: Final = "retention has dropped the others, so nobody can tell which"


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
    expired: int = 0
    accepted: int = 0
    missing: int = 0

    def add(self, place: int, number: int = 1) -> None:
        """Count events at a place."""
        self._add(PLACES[place], number)

    def add_expired(self, number: int) -> None:
        """Count events whose rows retention has dropped."""
        self._add("expired", number)

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
class Lost:
    """Which events of a run are missing."""

    numbers: list[tuple[int, int]] = field(default_factory=list)
    """The first and the last number of each piece."""
    ids: list[str] = field(default_factory=list)
    unreadable: int = 0
    unnamed: int = 0
    hidden: int = 0
    """Proven numbers, of those among which retention has dropped rows: which ones nobody can tell."""
    proven_ids: int = 0
    """Proven events of other ids, which nobody knows any more."""


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
    end: int = 0
    """The last of its numbers that are asked for."""
    stored_ids: int = 0
    """Of the stored ones, how many the run did not number and were proven before."""
    unreadable: int = 0
    """Events without a readable id that are accounted for."""
    told_last: int = 0
    """The last number by its record; -1: it has none any more."""
    understated: str = ""
    """How its record says less than what is known; empty where it doesn't."""
    lost: Lost = field(default_factory=Lost)
    """What is missing of it, for a person who closes the loss."""

    def miss_numbers(self, pieces: Iterable[tuple[int, int]], show: int, hidden_to: int, hidden: int) -> None:
        """Note which numbers are missing.

        Up to `hidden_to` retention has dropped some, so that of those only how many are missing is known.
        """
        among: list[tuple[int, int]] = []
        for begun, last in pieces:
            if begun <= hidden_to:
                among.append((begun, min(last, hidden_to)))
            first = max(begun, hidden_to + 1)
            if first <= last:
                self.lost.numbers.append((first, last))
                few = range(first, min(last, first + show - len(self.missing) - 1) + 1)
                self.missing += [id_pattern(self.run, sequence) for sequence in few]
        if hidden:
            self.lost.hidden += hidden
            self.missing.append(_among(hidden, among))

    def miss_hidden(self, number: int, upto: int) -> None:
        """Count numbers up to one that are missing among those of which retention has dropped rows."""
        self.tally.add(MISSING, number)
        self.lost.hidden += number
        self.missing.append(
            f"{number:,} of the events with the numbers up to {upto:,}: {_DROPPED} "
            "(--full says which numbers they are among)"
        )

    def miss_id(self, event_id: str, show: int) -> None:
        """Note that an event with an id of its own is missing."""
        self.lost.ids.append(event_id)
        if len(self.missing) < show:
            self.missing.append(event_id)

    def miss_unreadable(self, number: int) -> None:
        """Count events without a readable id that are missing."""
        self.tally.add(MISSING, number)
        self.lost.unreadable += number
        self.missing.append(f"{number} events without a readable event_id")

    def miss_unnamed(self, number: int, *, are_proven: bool = False) -> None:
        """Count missing events whose ids nobody knows any more."""
        self.tally.add(MISSING, number)
        if are_proven:
            self.lost.proven_ids += number
        else:
            self.lost.unnamed += number
        self.missing.append(f"{number} events whose ids nobody knows any more")


def _among(hidden: int, pieces: Sequence[tuple[int, int]]) -> str:
    """Say of which numbers so many are missing, where retention has dropped the others."""
    few = [
        f"{first:,} to {last:,}" if first < last else f"{first:,}" for first, last in pieces[:_MOST_PIECES]
    ]
    more = f" and {len(pieces) - len(few):,} more pieces" if len(pieces) > len(few) else ""
    events = sum(last - first + 1 for first, last in pieces)
    what = f"{hidden:,} of the {events:,} events with the numbers {', '.join(few)}{more}"
    if hidden == events:
        return f"{what}: proven before, and retention has dropped none of them"
    return f"{what}: {_DROPPED}"


@dataclass(slots=True)
class Audit:
    """The whole proof."""

    runs: list[RunAudit] = field(default_factory=list)
    ended: Tally = field(default_factory=Tally)
    """Events of the runs that are ended and proven, all together."""
    ended_runs: int = 0
    ended_missing: list[str] = field(default_factory=list)
    absent: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    """Of each run the proven events that had no row, and where they are now."""
    unrecorded: Tally = field(default_factory=Tally)
    """Events of which no recorded run tells: of producers that keep no record."""
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What keeps this from being a proof: records or letters that can't be read."""
    proof: Proof = field(default_factory=Proof)
    """What is proven from now on."""
    known: Proven = field(default_factory=Proven)
    """What was known before."""
    is_kept: bool = False
    """Whether the proof was written."""
    let_go: list[tuple[RunRecord, int]] = field(default_factory=list)
    """The first chunk of ids of each run that the broker still has to keep, once the proof is written."""
    fold: list[RunRecord] = field(default_factory=list)
    """Records that the broker need not keep, once the proof is written."""

    def miss_unreadable(self, number: int) -> None:
        """Count events without a readable id that are missing of the ended runs."""
        self.ended.add(MISSING, number)
        self.ended_missing.append(f"{number} events without a readable event_id")

    @property
    def unknown_rows(self) -> int:
        """Stored rows that no recorded run has published, here or, by its own proof, in another pipeline."""
        return self.unrecorded.stored - self.others_rows

    @property
    def others_rows(self) -> int:
        """Stored rows of other pipelines in the same store, by the proofs of their own audits."""
        return min(self.unrecorded.stored, sum(self.known.others.values()))

    @property
    def total(self) -> Tally:
        """All runs together."""
        total = Tally()
        total += self.ended
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
        gone = "".join(
            f" {name}={number}" for name in RARE if name != "purged" and (number := getattr(total, name))
        )
        return (
            f"audit: published={total.published} stored={total.stored} dead={total.dead} "
            f"conflicts={total.conflicts}{purged} pending={total.pending} undelivered={total.undelivered}"
            f"{gone} missing={total.missing}"
        )
