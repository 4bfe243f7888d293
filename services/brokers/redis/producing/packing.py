"""Events as publish.lua reads them: in pieces, each opened by a number that says of what form it is.

 0    a text with ordinary events: six lines each, one entry each
 n    an event of another form: n names and values in turn
-n    a text with n ordinary events, a line each: one entry for all of them, where all consumers read that
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import attrgetter
from typing import Final

from services.contract.codec import REQUIRED
from services.contract.event import DEFAULT_ENTRY_BYTES
from services.contract.producing.outgoing import Outgoing

Arguments = list[str | bytes | int]

_is_plain = attrgetter("is_plain")
_fields = attrgetter("fields")

_MOST_BYTES: Final = 60 << 10
"""Of the lines of an entry: one of over 64 KiB in all is a danger of its own to consumers."""
_TABS: Final = len(REQUIRED) - 1
_NAMES_BYTES: Final = 512
"""More than all of an entry has but its lines."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How many events share an entry, at most, and how large one may be, in bytes."""

    events: int = 1
    entry_bytes: int = DEFAULT_ENTRY_BYTES

    @property
    def line_bytes(self) -> int:
        """How many bytes the lines of an entry may have together."""
        return min(self.entry_bytes - _NAMES_BYTES, _MOST_BYTES)


def pieces(events: Sequence[Outgoing], packing: Packing, traceparent: str = "") -> Arguments:
    """Write events in pieces: ordinary ones together, and each odd one alone.

    `traceparent` is for the odd ones that have none of their own; the script gives it to the others.
    """
    found: Arguments = []
    for is_plain, some in groupby(events, key=_is_plain):
        if is_plain:
            values = [*map(_fields, some)]
            if packing.events == 1:
                found += _alone(values)
            else:
                for first in range(0, len(values), packing.events):
                    found += _together(values[first : first + packing.events], packing)
        else:
            for event in some:
                fields = event.fields
                if traceparent and "traceparent" not in fields[::2]:
                    fields = [*fields, "traceparent", traceparent]
                found += (len(fields), *fields)
    return found


def _alone(events: Sequence[Sequence[str]]) -> Arguments:
    lines = "\n".join(chain.from_iterable(events))
    return [0, f"{lines}\n"]


def _together(events: Sequence[Sequence[str]], packing: Packing) -> Arguments:
    """Write events as one entry; by halves where that is too large, or one of them has a tab in a value."""
    if len(events) == 1:
        return _alone(events)
    lines = "\n".join(map("\t".join, events))
    text = f"{lines}\n".encode()
    if len(text) <= packing.line_bytes and text.count(b"\t") == _TABS * len(events):
        return [-len(events), text]
    half = len(events) // 2
    return _together(events[:half], packing) + _together(events[half:], packing)
