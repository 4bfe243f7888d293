"""What goes to the publisher: events as texts, and what the record must know about them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from services.contract.ids import MAX_SEQUENCE, event_id

FIELD_NAMES: Final = ("event_id", "device_id", "zone", "ts", "kpi", "value")
TRACE_NAMES: Final = ("traceparent", "tracestate")
"""What an event may have besides."""
_SEQUENCE_DIGITS: Final = 9
"""Of an id, at its end."""


class Outgoing(NamedTuple):
    """An event to publish. A named tuple: a hundred thousand of them are made a second."""

    fields: Sequence[str | bytes]
    """Six texts without a line feed, the values in the contract's order; when `is_plain` is False,
    names and values in turn."""
    sequence: int | None
    """Its number in the run; None when the id is foreign, or can't be read."""
    foreign: bytes | None = None
    """The 16 bytes of an id that is not ours."""
    is_duplicate: bool = False
    is_plain: bool = True


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file is published: the byte and the number of lines behind the last record."""

    offset: int
    line: int
    is_done: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Events published in one step, with the record of them."""

    events: Sequence[Outgoing]
    position: Position | None = None


class Feed(Protocol):
    """Where events come from."""

    def next_batch(self, size: int, now: float, numbering: "Numbering") -> Batch | None:
        """Give at most `size` events; `now` in Unix seconds. None: there are no more."""
        ...


class Numbering:
    """A run's sequence numbers: from 1, without a gap."""

    __slots__ = ("last", "run")

    def __init__(self, run: str, last: int = 0) -> None:
        self.run = run
        self.last = last

    def take(self, now_ms: int) -> tuple[str, int]:
        """Give the next id and its number. `now_ms` in Unix milliseconds."""
        self.last += 1
        return event_id(self.run, self.last, now_ms), self.last

    def take_many(self, events: int, now_ms: int) -> list[tuple[str, int]]:
        """Give so many ids of one moment, with their numbers."""
        first, self.last = self.last + 1, self.last + events
        head = event_id(self.run, 0, now_ms)[:-_SEQUENCE_DIGITS]
        return [(f"{head}{number:0{_SEQUENCE_DIGITS}x}", number) for number in range(first, self.last + 1)]

    def has_room_for(self, size: int) -> bool:
        """Tell whether the run has that many numbers left."""
        return self.last + size <= MAX_SEQUENCE


def flat(values: Sequence[str | bytes]) -> list[str | bytes]:
    """Write six values as names and values in turn."""
    return [part for pair in zip(FIELD_NAMES, values, strict=True) for part in pair]
