"""Where each event was met, while the audit reads: a byte for each numbered event."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol

from services.contract.ids import CANONICAL, id_pattern, numbered

MISSING: Final = 0
UNDELIVERED: Final = 1
PENDING: Final = 2
PURGED: Final = 3
DEAD: Final = 4
STORED: Final = 5
"""Where an event is. The later places win: a replayed dead letter that is stored counts as stored."""

PLACES: Final = ("missing", "undelivered", "pending", "purged", "dead", "stored")
PAGE_BITS: Final = 10
PAGE: Final = 1 << PAGE_BITS
"""Events of a page of a book. Of pages in which nothing was met there are none, however far a number is."""
_FARTHEST_BEYOND: Final = 10_000_000
"""How far beyond a run's recorded number an id is believed: further, it is somebody else's id."""


class Rows(Protocol):
    """What is read of a sink to account for events."""

    def event_ids(self) -> Iterable[str]:
        """Give every stored event id."""
        ...


def readable_id(event_id: str | None) -> str | None:
    """Read an event id that may be spoilt by the case of its letters; None where it is none."""
    text = (event_id or "").strip().lower()
    return text if CANONICAL.fullmatch(text) else None


def is_numbered(event_id: str, last_numbers: Mapping[str, int]) -> bool:
    """Tell whether one of these runs, by their last numbers, has numbered the event of this id."""
    own = numbered(event_id)
    return own is not None and 0 < own.sequence <= last_numbers.get(own.run, 0)


class Book:
    """Where each numbered event of a run is: a byte an event."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.pages: dict[int, bytearray] = {}

    def put(self, sequence: int, place: int, *, unless_met: bool = False) -> bool:
        """Note a place. False for a number that can't be this run's."""
        if not 0 < sequence <= self.last + _FARTHEST_BEYOND:
            return False
        page = self.pages.setdefault(sequence >> PAGE_BITS, bytearray(PAGE))
        at = sequence & PAGE - 1
        if not (unless_met and page[at]):
            page[at] = place
        return True

    def counts(self, first: int, last: int) -> Counter[int]:
        """Count the events of these numbers by place; MISSING has those that were not met."""
        found: Counter[int] = Counter()
        for number, page in self.pages.items():
            start = max(0, first - (number << PAGE_BITS))
            end = min(PAGE, last + 1 - (number << PAGE_BITS))
            if start < end:
                found.update({place: page.count(place, start, end) for place in range(1, len(PLACES))})
        found[MISSING] = max(0, last + 1 - first) - found.total()
        return found

    @property
    def highest(self) -> int:
        """The highest number that was met; 0 where none was."""
        for number in sorted(self.pages, reverse=True):
            if filled := self.pages[number].rstrip(b"\0"):
                return (number << PAGE_BITS) + len(filled) - 1
        return 0

    def missing(self, run: str, last: int) -> Iterator[str]:
        """Name the events up to a number that were not met."""
        for number in range((last >> PAGE_BITS) + 1):
            page = self.pages.get(number, bytes(PAGE))
            at = page.find(MISSING, 1 if number == 0 else 0)
            while at >= 0 and (sequence := (number << PAGE_BITS) + at) <= last:
                yield id_pattern(run, sequence)
                at = page.find(MISSING, at + 1)
