"""Events from one store to another, looked at side by side in the order of their ids.

A look reads every event of the source and what stands under its id at the target, and writes what is not
there. So a copy that was killed goes on where it was, and the look that finds nothing to write has compared
everything. Nothing is overwritten: another content under an id is told.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.contract.errors import RowsRefused
from services.stores.copying import CONTENT, CopiedRows, Row

EVENTS_AT_ONCE: Final = 4000
_MOST_NAMED: Final = 20


@dataclass(slots=True)
class Named:
    """A number of events, and the ids of the first of them."""

    number: int = 0
    ids: list[str] = field(default_factory=list)

    def add(self, event_id: str) -> None:
        """Count one more."""
        self.number += 1
        if len(self.ids) < _MOST_NAMED:
            self.ids.append(event_id)


@dataclass(slots=True)
class Look:
    """What one look at the events has found."""

    events: int = 0
    """Of the source."""
    added: int = 0
    conflicts: Named = field(default_factory=Named)
    """Ids with another content at the target."""
    refused: Named = field(default_factory=Named)
    """What the target takes no row for."""
    why_refused: str = ""
    restamped: int = 0
    """The same events, stored at another time there, or judged by another threshold."""

    @property
    def is_whole(self) -> bool:
        """Tell whether the target has all of it now."""
        return not (self.conflicts.number or self.refused.number)


def look(source: CopiedRows, target: CopiedRows, progress: Callable[[int], None]) -> Look:
    """Look at every event once. `progress` is told how many were looked at."""
    found = Look()
    after = ""
    while rows := source.page(after, EVENTS_AT_ONCE):
        after = rows[-1][0]
        there = target.those([row[0] for row in rows])
        if rows != there:
            _settle(target, rows, there, found)
        found.events += len(rows)
        progress(found.events)
    return found


def _settle(target: CopiedRows, rows: Sequence[Row], there: Sequence[Row], found: Look) -> None:
    """Write what is not there, and tell what is there otherwise."""
    known = {row[0]: row for row in there}
    _add(target, [row for row in rows if row[0] not in known], found)
    for row in rows:
        other = known.get(row[0], row)
        if other[:CONTENT] != row[:CONTENT]:
            found.conflicts.add(row[0])
        elif other != row:
            found.restamped += 1


def _add(target: CopiedRows, rows: Sequence[Row], found: Look) -> None:
    """Write rows; of those that are refused together, all but the guilty ones."""
    if not rows:
        return
    try:
        found.added += target.add(rows)
    except RowsRefused as error:
        if len(rows) == 1:
            found.refused.add(rows[0][0])
            found.why_refused = found.why_refused or str(error)
            return
        half = len(rows) // 2
        _add(target, rows[:half], found)
        _add(target, rows[half:], found)
