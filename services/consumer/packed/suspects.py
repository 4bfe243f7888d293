"""Which event of an entry kills its consumers: the first one that is neither stored nor dead-lettered.

Its events were tried one after the other, each in a transaction of its own, and a consumer that dies runs no
`except`: only what is durable tells how far it came.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from services.contract.consuming.doors import DeadLetters, Entry
from services.contract.errors import PipelineError
from services.contract.ids import CANONICAL


class CannotTell(Exception):
    """The store or the dead letters can't be read; the message says why."""


class Settled(NamedTuple):
    """How far the events of an entry are."""

    suspect: Entry | None
    """The first that is neither stored nor dead-lettered; None: all of them are."""
    buried: frozenset[bytes]
    """The ids of those that have a dead letter."""


def find_settled(
    missing_of: Callable[[Sequence[str]], list[str]],
    dead_letters: DeadLetters,
    entry_id: bytes,
    events: Sequence[Entry],
) -> Settled:
    """Tell how far the events of an entry are. Raises CannotTell.

    `missing_of` gives those of some event ids that are not stored.
    """
    try:
        buried = frozenset(one.encode() for one in dead_letters.events_of(entry_id.decode()))
        ids = {event.entry_id: _event_id(event) for event in events}
        known = [one for one in ids.values() if one is not None]
        missing = set(missing_of(known)) if known else set()
    except PipelineError as error:
        raise CannotTell(str(error)) from error
    for event in events:
        event_id = ids[event.entry_id]
        if event.entry_id not in buried and (event_id is None or event_id in missing):
            return Settled(event, buried)
    return Settled(None, buried)


def _event_id(event: Entry) -> str | None:
    """Read the id of an event, its first value; None where no event of it can be stored."""
    text = event.fields[1].decode(errors="replace")
    return text if CANONICAL.fullmatch(text) else None
