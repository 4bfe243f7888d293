"""Events of packed entries, as they came: as lines, each of which is made an entry only for who looks at it.

Of nearly every event its line is all that anybody needs (services/consumer/recognise.py). So a batch names
runs of lines:

    Lines(pack, 0, 100)   all of an entry of 100 events
    Lines(pack, 7, 3)     three lines of another one, which are `ENTRY/8` to `ENTRY/10`
    Entry(...)            an entry of one event between them

`list(events)` is the same batch, an entry for each event.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import Final, NamedTuple, overload

from services.contract.codec import MARK, REQUIRED, Packed, fields_of
from services.contract.consuming.doors import Entry

_NAMES = list(REQUIRED)
_DELIVERIES: Final = attrgetter("deliveries")
_TABS = len(REQUIRED) - 1


class Pack:
    """A packed entry, and which of its events are not settled yet. `deliveries`: as its events have them."""

    def __init__(self, entry: Entry, packed: Packed, deliveries: int) -> None:
        self.entry = entry
        self.packed = packed
        self.deliveries = deliveries
        self.left = (1 << packed.number) - 1
        """A bit for each line."""

    @cached_property
    def lines(self) -> list[bytes]:
        """Give its lines without their ends."""
        return self.packed.lines

    def event(self, place: int) -> Entry:
        """Make an entry of a line, counted from 0."""
        fields = fields_of(self.lines[place], self.packed.trace)
        return Entry(b"%s%s%d" % (self.entry.entry_id, MARK, place + 1), fields, self.deliveries)


class Lines(NamedTuple):
    """Some lines of a packed entry, one behind the other."""

    pack: Pack
    first: int
    """Counted from 0."""
    number: int

    @property
    def text(self) -> bytes:
        """Give them as they came, each with its end; empty ones where their context may be no text."""
        pack, first, number = self
        if not all(map(bytes.isascii, pack.packed.trace)):
            return b"\n" * number
        if number == pack.packed.number:
            return pack.packed.text
        return b"\n".join(pack.lines[first : first + number]) + b"\n"

    @property
    def bits(self) -> int:
        """Give a bit for each of them, as in `Pack.left`."""
        return ((1 << self.number) - 1) << self.first


class Events(Sequence[Entry]):
    """A batch with events of packed entries."""

    def __init__(self, parts: Sequence[Lines | Entry]) -> None:
        self.parts = parts
        self._ends = list(accumulate(_number_of(part) for part in parts))

    @property
    def text(self) -> bytes:
        """Write a line for each event, in turn; an empty one for an entry that has no such line."""
        return b"".join([part.text if isinstance(part, Lines) else _line_of(part) for part in self.parts])

    @property
    def is_untraced(self) -> bool:
        """Tell whether no event has a field `traceparent`."""
        return not any(
            b"traceparent" in (part.pack.packed.trace if isinstance(part, Lines) else part.fields)[::2]
            for part in self.parts
        )

    def deliveries(self) -> Iterator[tuple[int, int]]:
        """Tell how often events were delivered, and how many events so often."""
        for part in self.parts:
            yield (part.pack if isinstance(part, Lines) else part).deliveries, _number_of(part)

    def without(self, places: Sequence[int]) -> "Events":
        """Leave out the events at these places, given in order."""
        parts: list[Lines | Entry] = []
        for part, end in zip(self.parts, self._ends, strict=True):
            begin = end - _number_of(part)
            gaps = places[bisect_left(places, begin) : bisect_left(places, end)]
            if not gaps:
                parts.append(part)
            elif isinstance(part, Lines):
                parts += [
                    Lines(part.pack, part.first + before + 1 - begin, after - before - 1)
                    for before, after in pairwise([begin - 1, *gaps, end])
                    if after - before > 1
                ]
        return Events(parts)

    def __len__(self) -> int:
        """Tell how many events there are."""
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Entry]:
        """Make an entry of each event."""
        for part in self.parts:
            if isinstance(part, Lines):
                pack, first, number = part
                yield from map(pack.event, range(first, first + number))
            else:
                yield part

    @overload
    def __getitem__(self, place: int) -> Entry: ...
    @overload
    def __getitem__(self, place: slice) -> list[Entry]: ...
    def __getitem__(self, place: int | slice) -> Entry | list[Entry]:
        """Make an entry of one event, or of some."""
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        at = place + len(self) if place < 0 else place
        if not 0 <= at < len(self):
            raise IndexError(place)
        index = bisect_right(self._ends, at)
        part = self.parts[index]
        if isinstance(part, Lines):
            return part.pack.event(part.first + at - (self._ends[index] - part.number))
        return part


def delivered_more(entries: Sequence[Entry], times: int) -> int:
    """Tell how many of them were delivered more often than that."""
    if isinstance(entries, Events):
        return sum(number for deliveries, number in entries.deliveries() if deliveries > times)
    # True counts as 1, and no entry is looked at in Python.
    return sum(map(times.__lt__, map(_DELIVERIES, entries)))


def together(entries: Sequence[Entry], others: Sequence[Entry]) -> Sequence[Entry]:
    """Put some entries behind others."""
    if isinstance(entries, Events):
        return Events([*entries.parts, *others])
    return [*entries, *others]


def _number_of(part: Lines | Entry) -> int:
    return part.number if isinstance(part, Lines) else 1


def _line_of(entry: Entry) -> bytes:
    """Write an entry of one event as a line of a packed one; an empty line where it has no such line."""
    fields = entry.fields
    if fields[::2] == _NAMES:
        line = b"\t".join(fields[1::2])
        if b"\n" not in line and line.count(b"\t") == _TABS:
            return line + b"\n"
    return b"\n"
