"""An entry on its way through the consumer, and the protocols of the three doors."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol, Self, overload

from services.contract.errors import SourceUnavailable
from services.contract.event import Event, Fields, Rejection

SUSPECT_DELIVERIES: Final = 2
"""Delivered this often without being settled: tried alone from now on, since its consumers may die of it."""


class Entry(NamedTuple):
    """One delivery of one stream entry, or of one event of an entry of many."""

    entry_id: bytes
    """`MILLISECONDS-REST`: when the broker took it (Unix time, by its clock; 0 where it does not say), and
    what makes it unique in this pipeline: a sequence number, or a partition and its offset. Of one event of
    many `/` and the number of its line follow (services/contract/codec.py)."""
    fields: list[bytes]
    """Names and values in turn, as received."""
    deliveries: int = 1
    """How often it was delivered and never settled, this time included, as far as anybody knows: the broker
    counts, or the source does, at a place that outlives the process. 1: nobody is known to have failed."""
    full_size: int = 0
    """Bytes of an entry that is too large: `fields` are its beginning then. 0: they are the whole entry;
    UNKNOWN_BYTES of large.py where nobody could look."""

    @property
    def taken_at(self) -> float:
        """Tell when the broker took it, in Unix seconds; 0 where its id does not say."""
        milliseconds = self.entry_id.partition(b"-")[0]
        return int(milliseconds) / 1000 if milliseconds.isdigit() else 0.0

    @property
    def is_cut(self) -> bool:
        """Tell whether `fields` are the beginning alone."""
        return self.full_size != 0


_ENTRY_ID: Final = re.compile(rb"[0-9]+-[!-~]+")
_SHOWN: Final = 60


def check_form(entries: Iterable[Entry]) -> None:
    """See that a broker can have given these: an id, and names with their values, all of them bytes.

    Raises SourceUnavailable where one is none: whatever answers there is no broker, or something between
    changes what it says. For entries that are looked at with care, since each of their fields is.
    """
    for entry_id, fields, *_ in entries:
        if not (
            isinstance(entry_id, bytes)
            and _ENTRY_ID.fullmatch(entry_id)
            and isinstance(fields, list)
            and len(fields) % 2 == 0
            and all(isinstance(part, bytes) for part in fields)
        ):
            shown = f"{entry_id!r}: {fields!r}"[:_SHOWN]
            raise SourceUnavailable(f"what is there gives entries as no broker does ({shown})")


class Dead(NamedTuple):
    """An entry that won't be stored, and why."""

    entry: Entry
    rejection: Rejection
    attempts: int = 1
    """How often its write was tried."""


Decoded = tuple[Entry, Fields]
Valid = tuple[Entry, Event]
Processed = tuple[Entry, Event]


class Rows(Sequence[tuple[Entry, Event]]):
    """Events with their entries, side by side: a pair of them is made only for who looks at it."""

    __slots__ = ("entries", "events")

    def __init__(self, entries: Sequence[Entry], events: Sequence[Event]) -> None:
        self.entries = entries
        self.events = events

    @classmethod
    def of(cls, pairs: Sequence[tuple[Entry, Event]]) -> Self:
        """Give pairs as two lists."""
        if isinstance(pairs, cls):
            return pairs
        return cls([entry for entry, _ in pairs], [event for _, event in pairs])

    def __len__(self) -> int:
        """Tell how many they are."""
        return len(self.events)

    def __iter__(self) -> Iterator[tuple[Entry, Event]]:
        """Give them pair by pair."""
        return zip(self.entries, self.events, strict=True)

    @overload
    def __getitem__(self, place: int) -> tuple[Entry, Event]: ...
    @overload
    def __getitem__(self, place: slice) -> Self: ...
    def __getitem__(self, place: int | slice) -> tuple[Entry, Event] | Self:
        """Give one of them, or some."""
        if isinstance(place, slice):
            return type(self)(self.entries[place], self.events[place])
        return self.entries[place], self.events[place]


class Written(NamedTuple):
    """What a sink did with the rows of one write."""

    inserted: int
    conflicts: Sequence[int] = ()
    """Positions of rows whose id is stored with another content; they are not stored."""


class Source(Protocol):
    """Where entries come from."""

    def read(self) -> Sequence[Entry]:
        """Give the next entries, at most a batch; empty when none came in the waiting time.

        What was left pending by an earlier failure, or by a consumer that died, comes before what
        is new. Raises SourceUnavailable; entries delivered meanwhile come again.
        """
        ...

    def drain(self) -> Sequence[Entry]:
        """Give entries that were asked for ahead and have not been given yet; asks for no others."""
        ...

    def ack(self, entries: Sequence[Entry]) -> None:
        """Acknowledge entries whose outcome is durable; a server that can keeps aside what is too large.

        In any order. A broker that knows a position, and no entries, is told of what is settled without a
        gap; what lies behind a gap comes again after a restart. What has become another consumer's since it
        was read is left out in silence: it comes again there, and is a duplicate.

        Raises SourceUnavailable; the acknowledgement is then made good before the next read.
        """
        ...

    def limit(self, most: int) -> None:
        """Hear that entries have many events: give at most so many of them at a read from now on.

        Never more than a batch, whatever is said. What was asked for before may still come.
        """
        ...

    def still_working(self) -> None:
        """Hear that entries in hand take longer, every few seconds while a write waits or a clock is wrong.

        A broker that gives the work of who is silent to others is told here that we are alive, and takes
        from us here what it gives to others all the same. Raises nothing.
        """
        ...

    def expect_large(self) -> None:
        """Hear that large entries came unforeseen: others may follow."""
        ...

    def now(self) -> float | None:
        """Tell the broker's own time in Unix seconds; None where it has none, or does not tell us.

        Asked where the ids of entries say that our clock is wrong: somebody may have planted them.
        Raises SourceUnavailable.
        """
        ...

    def close(self) -> None:
        """Let go of the connection; unacknowledged entries stay pending."""
        ...


class Sink(Protocol):
    """Where rows are stored."""

    def write(self, rows: Sequence[Event]) -> Written:
        """Store rows in one transaction, idempotent by event id, durable on return.

        Raises SinkUnavailable or RowsRefused. Nothing of the call is stored then, or all of it where it is
        not certain to stay: it comes again, and is a duplicate.
        """
        ...

    def probe(self) -> None:
        """Write something that is no event. Raises SinkUnavailable."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...


class DeadLetters(Protocol):
    """Where entries go that can't be stored."""

    def put(self, dead: Sequence[Dead]) -> None:
        """Keep dead letters, durable on return. Raises DeadLettersUnavailable."""
        ...

    def read(self) -> "Iterator[object]":
        """Give what was kept, the oldest first."""
        ...

    def events_of(self, entry_id: str) -> Collection[str]:
        """Name those events of an entry of many that have a letter, as `ENTRY/LINE`.

        Raises DeadLettersUnavailable.
        """
        ...

    def close(self) -> None:
        """Let go of the file or connection."""
        ...
