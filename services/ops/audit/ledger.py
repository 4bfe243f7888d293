"""Where each event was met, while the audit reads: a byte for each numbered event."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from services.contract.ids import CANONICAL, numbered

MISSING: Final = 0
ACCEPTED: Final = 1
UNDELIVERED: Final = 2
PENDING: Final = 3
PURGED: Final = 4
DEAD: Final = 5
STORED: Final = 6
"""Where an event is. The later places win: a replayed dead letter that is stored counts as stored."""

PLACES: Final = ("missing", "accepted", "undelivered", "pending", "purged", "dead", "stored")
_ALL_MET: Final = re.compile(b"[^%c]+" % MISSING)
_UNSETTLED: Final = re.compile(b"[%c%c%c]" % (MISSING, UNDELIVERED, PENDING))
PAGE_BITS: Final = 10
PAGE: Final = 1 << PAGE_BITS
"""Events of a page of a book. Of pages in which nothing was met there are none, however far a number is."""
_EMPTY: Final = bytes(PAGE)
_FARTHEST_BEYOND: Final = 10_000_000
"""How far beyond a run's recorded number an id is believed: further, it is somebody else's id."""


class Rows(Protocol):
    """What is read of a sink to account for events."""

    def event_ids(self, first_ms: int = 0, beyond_ms: int | None = None) -> Iterable[str]:
        """Give every stored event id, or those that begin with a time, in ascending order."""
        ...

    def stored_at(self, ids: Sequence[str]) -> Mapping[str, float]:
        """Tell when each of these ids that is stored was, in Unix seconds."""
        ...

    def missing_of(self, ids: Sequence[str]) -> list[str]:
        """Give those of these ids that are not stored."""
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
    """Where each numbered event of a run is: a byte an event. Those up to `floor` are not asked for."""

    def __init__(self, last: int, floor: int = 0) -> None:
        self.last = last
        self.floor = floor
        self.pages: dict[int, bytearray] = {}

    def put(self, sequence: int, place: int, *, unless_met: bool = False) -> bool:
        """Note a place. False for a number that can't be this run's."""
        if not 0 < sequence <= self.last + _FARTHEST_BEYOND:
            return False
        if sequence <= self.floor:
            return True
        page = self.pages.setdefault(sequence >> PAGE_BITS, bytearray(PAGE))
        at = sequence & PAGE - 1
        if not (unless_met and page[at]):
            page[at] = place
        return True

    def place(self, sequence: int) -> int:
        """Tell where an event was met; MISSING where it was not."""
        page = self.pages.get(sequence >> PAGE_BITS)
        return MISSING if page is None else page[sequence & PAGE - 1]

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
        """The highest number that was met, or is proven; 0 where none is."""
        for number in sorted(self.pages, reverse=True):
            if filled := self.pages[number].rstrip(b"\0"):
                return max(self.floor, (number << PAGE_BITS) + len(filled) - 1)
        return self.floor

    def settled(self, first: int, last: int) -> int:
        """Give the number up to which, from `first` on, every event is stored, dead or accepted."""
        for number in range(first >> PAGE_BITS, (last >> PAGE_BITS) + 1):
            page = self.pages.get(number, _EMPTY)
            found = _UNSETTLED.search(page, max(0, first - (number << PAGE_BITS)))
            if found is not None:
                return min(last, (number << PAGE_BITS) + found.start() - 1)
        return max(last, first - 1)

    def missing(self, last: int) -> Iterator[tuple[int, int]]:
        """Give the first and the last number of each piece that was not met, up to a number."""
        begun = self.floor + 1
        """From here on nothing was met, as far as it is read."""
        for number in sorted(self.pages):
            start = number << PAGE_BITS
            for met in _ALL_MET.finditer(self.pages[number], max(0, self.floor + 1 - start)):
                if begun > last:
                    return
                if begun < start + met.start():
                    yield begun, min(last, start + met.start() - 1)
                begun = start + met.end()
        if begun <= last:
            yield begun, last
