"""What audits have proven, kept beside the rows: a backup has both, and no producer can forge it.

Proven means: was there then. Of each run it says up to which number all events were stored or dead, so that
the next audit reads only what came since.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, Self


class Scope(NamedTuple):
    """Whose events a proof is about."""

    pipeline: str
    stream: str
    group: str


@dataclass(frozen=True, slots=True)
class ProvenRun:
    """What is proven of one run. The fields are the columns of the table, in their order."""

    run: str
    source: str = ""
    last: int = 0
    """The highest of its numbers that was met."""
    proven: int = 0
    """Its numbers 1 to this one are proven."""
    from_ms: int = 0
    """What is not proven has ids from this time on, Unix milliseconds; 0 where that is not known."""
    unnumbered: int = 0
    """Events without a readable id that were met."""
    chunk: int = 0
    """The first chunk of the ids that it did not number which is not wholly proven."""
    ids: int = 0
    """How many of those ids are proven, in their order, repeats included."""
    ids_seen: int = 0
    """How many of them were looked at."""
    id_events: int = 0
    """Different events among the proven ones."""
    expired: int = 0
    """Of the proven numbers, how many rows retention has dropped."""
    expired_last: int = 0
    """The highest of those numbers."""
    expired_ids: int = 0
    """Of the events with other ids, how many rows retention has dropped."""
    accepted: int = 0
    """Of the proven events, how many are accepted losses."""
    folded_at: float | None = None
    """Unix seconds: since when it is ended, and all of it is proven; None while it goes on."""
    hidden: int = 0
    """Of the proven numbers, how many had no row when retention dropped the others; with accepted ones."""
    hidden_ids: int = 0
    """Of the proven events with other ids, how many are gone, and nobody knows which; with accepted ones."""

    @property
    def events(self) -> int:
        """How many events of it are proven."""
        return self.proven + self.id_events


@dataclass(frozen=True, slots=True)
class Accepted:
    """Losses of one run that a person has closed."""

    run: str
    accepted_at: float
    """Unix seconds."""
    accepted_by: str
    reason: str
    events: int
    numbers: Sequence[tuple[int, int]] = ()
    """Which numbers: the first and the last of each piece."""
    ids: Collection[str] = ()
    """Which of the ids that the run did not number."""
    unreadable: int = 0
    """How many events without a readable id."""
    unnamed: int = 0
    """How many events whose ids nobody knows any more."""
    hidden: int = 0
    """How many proven numbers, of those among which retention has dropped rows."""
    proven_ids: int = 0
    """How many proven events of other ids, which nobody knows any more."""
    last: int | None = None
    """The last number by its record, where that said less than was known; -1: the record was gone."""

    def what(self) -> str:
        """Write which events, as one line of JSON."""
        return json.dumps(
            {
                "numbers": [list(one) for one in self.numbers],
                "ids": sorted(self.ids),
                "unreadable": self.unreadable,
                "unnamed": self.unnamed,
                "hidden": self.hidden,
                "proven_ids": self.proven_ids,
                "last": self.last,
            }
        )

    @classmethod
    def of(cls, run: str, at: float, by: str, reason: str, events: int, what: str) -> Self:
        """Read it from the columns of its row."""
        told = json.loads(what)
        numbers = [(int(first), int(last)) for first, last in told["numbers"]]
        return cls(
            run, at, by, reason, events, numbers, frozenset(told["ids"]), told["unreadable"], told["unnamed"],
            told.get("hidden", 0), told.get("proven_ids", 0), told["last"],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Folded:
    """All runs together that are ended and proven."""

    runs: int = 0
    events: int = 0
    unnumbered: int = 0
    expired: int = 0
    accepted: int = 0


@dataclass(frozen=True, slots=True)
class Proven:
    """What is known of a scope before an audit."""

    generation: int = 0
    """One more with each proof; 0: nothing was ever proven."""
    proven_at: float = 0.0
    """Unix seconds: when the audit of the last proof began."""
    unrecorded: int = 0
    """Rows that no run has published, of those with ids before `unrecorded_from`."""
    unrecorded_from: int = 0
    """Unix milliseconds."""
    runs: Mapping[str, ProvenRun] = field(default_factory=dict[str, ProvenRun])
    """By name: those that go on, and the folded ones that were asked for."""
    folded: Folded = field(default_factory=Folded)
    without_row: Mapping[str, str] = field(default_factory=dict)
    """The run of each proven event that had no row then, by its id.

    Without a run: what is proven, and was published again by a run that is not proven so far.
    """
    accepted: Sequence[Accepted] = ()
    others: Mapping[str, int] = field(default_factory=dict)
    """How many rows audits of other pipelines in this store have proven, by pipeline."""
    drops: int = 0
    """One more with each step that drops rows."""
    dropped_before: int = 0
    """Unix milliseconds: proven rows with ids before that are dropped."""


@dataclass(slots=True)
class Proof:
    """What an audit has proven, to be written over what was known."""

    proven_at: float = 0.0
    unrecorded: int = 0
    unrecorded_from: int = 0
    runs: list[ProvenRun] = field(default_factory=list)
    """Those of which something changed. What retention has dropped is left as it stands."""
    without_row: dict[str, str] = field(default_factory=dict)
    """Events that are proven from now on, and have no row: their runs, by id; as in Proven."""
    with_row: list[str] = field(default_factory=list)
    """Events that had no row, and have one now."""
    id_days: dict[tuple[str, int], int] = field(default_factory=dict)
    """Events with ids that their run did not number: how many more, by run and day since 1970."""
    missing_from: int | None = 0
    """What is missing, or can't be told, has ids from this time on, Unix milliseconds; None: nothing is."""
    others_from: float = 0.0
    """Rows of ids that no run has numbered, stored from then on, may not be proven; Unix seconds."""


class Proofs(Protocol):
    """Where the proofs of one scope are kept. Whatever asks it raises SinkUnavailable."""

    def read(self, names: Iterable[str] = (), *, folded_too: bool = False) -> Proven:
        """Give what is known. `names`: runs that are given though they are folded; or all of them."""
        ...

    def generation(self) -> tuple[int, int]:
        """Tell how many proofs were written, and how many steps of retention were taken."""
        ...

    def proven_by(self, groups: Sequence[str], run: str) -> tuple[int, bool]:
        """Tell what the proofs of other groups of the stream need no more of a run.

        The first chunk of ids that one of them still needs, and whether all of them have folded the run.
        """
        ...

    def write(self, proof: Proof, generation: int) -> str:
        """Write a proof over what was known as of a generation, durably: all of it or nothing.

        Says why nothing was written: another audit was sooner, or we may not.
        """
        ...

    def accept(self, loss: Accepted, generation: int) -> bool:
        """Keep durably that a person has closed a loss as of a generation; all of it or nothing.

        False where somebody has written since: the loss may be another one now, or closed. What it has of
        proven events counts as accepted from then on, in the proof itself. Raises SinkUnavailable and
        SinkUnusable.
        """
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...
