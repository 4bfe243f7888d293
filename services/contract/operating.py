"""What a broker tells those who look after it: runs, groups, what waits, the last audit; and dead letters.

All of it was written by others, whoever had the right: what can't be is told, and never believed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from services.contract.consuming.damage import Damages
from services.contract.consuming.letter import DeadLetter, Purged

AHEAD_S: Final = 300.0
"""How far the newest id may lie ahead of our clock: beyond it, somebody set it, or a clock is wrong."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What one run says of itself. What it does not say, or not readably, is None."""

    run: str
    ids_place: str
    """Where the broker keeps the ids that it published and did not number, and beside it their chunks."""
    numbers: Mapping[str, int | None]
    times: Mapping[str, float | None]
    """Unix seconds."""
    texts: Mapping[str, str | None]
    is_done: bool | None
    foreign: int
    """Ids that it published and did not number, repeats included."""
    chunk: int = 0
    """The chunk that the newest of them are in; 0: the one that earlier versions put all of them in."""
    has_said_end: bool = False
    """Whether its producer said that nothing more will come."""
    is_gone: bool = False
    """Whether the broker has no record of it any more, and only a proof tells of it."""

    def number(self, name: str) -> int:
        """Give a count; 0 where there is none."""
        return self.numbers[name] or 0

    @property
    def contradiction(self) -> str:
        """Say what can't be true at once in it; empty where all can."""
        last, published, batches = (self.number(name) for name in ("last", "published", "batches"))
        if published > last and self.numbers["last"] is not None:
            return f"it says {published:,} numbered events, and that the last of them is number {last:,}"
        others = sum(self.number(name) for name in ("unnumbered", "duplicates")) + self.foreign
        # Of a file a batch may tell how far it is read, and nothing else.
        if batches and not last and not others and self.numbers["line"] is None:
            return f"it says {batches:,} batches, and no event"
        return ""

    @property
    def source(self) -> str:
        """Where its events came from; empty where it does not say."""
        return self.texts["source"] or ""


class IdChunk(NamedTuple):
    """A chunk of the ids that a run published and did not number."""

    number: int
    start: int
    """How many of the run's ids are in the chunks before it."""
    ids: int


class Ended(NamedTuple):
    """What the broker keeps of a run whose record it need not keep: it was ended, and all of it proven."""

    last: int
    unnumbered: int
    foreign: int


@dataclass(slots=True)
class Records:
    """All runs, the oldest first, and what can't be read of their records."""

    runs: list[RunRecord] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


class Waiting(NamedTuple):
    """An event that our group has yet to acknowledge with its entry."""

    entry_id: str
    event_id: str | None
    """As it stands there; None where the entry names none."""
    is_delivered: bool
    has_content: bool = True
    """Not where it was delivered, and is gone from the stream all the same."""


class Unsettled(NamedTuple):
    """How many entries our group has yet to acknowledge."""

    unread: int
    """Not yet delivered; at most 100,000 where they had to be counted."""
    pending: int
    """Delivered, and not acknowledged."""


class About(NamedTuple):
    """What the server says it is."""

    name: str
    version: str | None
    """None where it doesn't say."""
    uptime_s: float
    """Infinite where it doesn't say."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """The stream as it is now."""

    length: int
    """Entries, acknowledged ones that are not trimmed yet included."""
    events: int | None
    """Of all these: never too few, at times a batch too many; None where nobody counts."""
    added: int | None
    """Entries that it has ever had; None where the server does not count them."""
    added_events: int | None
    """Their events, as far as producers of ours have put many into one; None where nobody counts."""
    last_generated_id: str
    """Of the newest entry."""
    id_ahead_s: float
    """How far that lies ahead of our clock."""


@dataclass(frozen=True, slots=True)
class GroupLag:
    """How far a group is with the stream."""

    name: str
    is_ours: bool
    lag: int
    """Entries not yet delivered to it."""
    lag_known: bool
    """Whether the server knows that itself."""
    pending: int
    oldest_pending_age_s: float
    oldest_unread_age_s: float
    last_delivered_id: str


@dataclass(frozen=True, slots=True)
class ConsumerSeen:
    """A consumer of a group."""

    name: str
    group: str
    pending: int
    idle_s: float
    """Since it asked for entries, as the server counts: no longer than that itself runs."""


class Overview(NamedTuple):
    """The stream, its groups, and their consumers."""

    stream: StreamState
    groups: Sequence[GroupLag]
    consumers: Sequence[ConsumerSeen]


@dataclass(frozen=True, slots=True)
class Group:
    """What a group holds back, and who reads by it."""

    key: bytes
    """Its name as the broker has it, which need not be text."""
    name: str
    is_ours: bool
    pending: int
    unread: int | None
    """None where the server does not know."""
    oldest_age_s: float | None
    """Of the oldest entry that it has yet to acknowledge; None where it has none."""
    oldest_pending_id: str | None
    last_delivered_id: str
    consumers: int
    live: int
    """Consumers that asked for entries within CLAIM_IDLE_MS."""
    idle_s: float | None
    """Since one of its consumers asked for entries; None where it has none."""


class AuditResult(NamedTuple):
    """What the last recorded audit has found; `ended_at` in Unix seconds."""

    missing: int
    published: int
    conflicts: int
    ended_at: float


class LetterStore(Protocol):
    """What the commands need of a place for dead letters."""

    @property
    def damages(self) -> Damages:
        """What could not be read so far."""
        ...

    def read(self) -> Iterator[DeadLetter]:
        """Give every letter, the oldest first."""
        ...

    def replayed(self) -> dict[str, float]:
        """Tell when each replayed letter was replayed (Unix seconds), by entry id."""
        ...

    def purged(self) -> Iterator[Purged]:
        """Give what is known of each purged letter."""
        ...

    def mark_replayed(self, replayed: Sequence[tuple[str, str]]) -> None:
        """Note that letters were published again: entry id of the letter, and of the new entry."""
        ...

    def purge(self, entry_ids: Collection[str]) -> int:
        """Remove the letters of these entries; gives how many letters went."""
        ...
