"""Which events have spans of their own: those that were sampled upstream, and those that died.

How many they may be is bounded (docs/decisions/0011).
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from services.contract.codec import REQUIRED
from services.contract.consuming.doors import Dead, Entry
from services.contract.trace_context import TraceContext, context_of, parse

_SPANS_OF_A_BATCH: Final = 7
_SPANS_OF_AN_EVENT: Final = 3
"""With those that it shares with others of its parent."""


class Followed(NamedTuple):
    """An event with spans of its own."""

    entry: Entry
    parent: TraceContext
    dead: Dead | None


def find_followed(entries: Sequence[Entry], dead: dict[bytes, Dead]) -> Iterator[Followed]:
    """Find the events that were sampled upstream, and those that died and have a trace at all."""
    # By its length alone: to look for the name in each entry would take as long as to recognise it.
    ordinary = 2 * len(REQUIRED)
    longer = [entry for entry in entries if len(entry.fields) > ordinary]
    read = functools.cache(parse)
    for entry in [*longer, *(one.entry for one in dead.values() if len(one.entry.fields) <= ordinary)]:
        fields = entry.fields
        if len(fields) == ordinary + 2 and fields[ordinary] == b"traceparent":
            context = read(fields[ordinary + 1], b"")
        else:
            context = context_of(fields, read)
        death = dead.get(entry.entry_id)
        if context is not None and (context.is_sampled or death is not None):
            yield Followed(entry, context, death)


def afford(followed: Sequence[Followed], left: float) -> Sequence[Followed]:
    """Choose those that there may be spans of: the dead, the last of each trace, then the others.

    `left`: how many spans may be made now, those of the batch included.
    """
    left -= _SPANS_OF_A_BATCH
    if len(followed) * _SPANS_OF_AN_EVENT <= left:
        return followed
    chosen = {one.entry.entry_id for one in followed if one.dead is not None}
    parents = {one.parent for one in followed if one.dead is not None}
    left -= len(chosen) + (_SPANS_OF_AN_EVENT - 1) * len(parents)
    # The last of each trace: of the last event of a batch a log line tells.
    for one in reversed(followed):
        if one.parent not in parents:
            left -= _SPANS_OF_AN_EVENT
            if left < 0:
                break
            parents.add(one.parent)
            chosen.add(one.entry.entry_id)
    for one in followed:
        if one.entry.entry_id not in chosen:
            left -= 1
            if left < 0:
                break
            chosen.add(one.entry.entry_id)
    return [one for one in followed if one.entry.entry_id in chosen]
