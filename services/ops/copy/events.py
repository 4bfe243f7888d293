"""Events from one store to another, looked at side by side in the order of their ids.

A look reads every event of the source, a page at a time, brings it to the target, and has the target count
how many of the page are there as they were given, once it is durable. Where it is not all of them, both sides
are put beside each other, and what differs is named. So a copy that was killed goes on where it was, and what
a look calls copied was seen there. Nothing is overwritten: another content under an id is told.

The next page is read while the target writes and compares this one.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from services.contract.errors import RowsRefused
from services.stores.copying import CONTENT, EVENTS, CopiedRows, Extent, Row

EVENTS_AT_ONCE: Final = 10_000
_MOST_NAMED: Final = 20
_STORED_AT: Final = tuple(EVENTS.columns).index("stored_at")


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
    newest_us: int = 0
    """When the last of them was stored there."""
    added: int = 0
    conflicts: Named = field(default_factory=Named)
    """Ids with another content at the target."""
    refused: Named = field(default_factory=Named)
    """What the target takes no row for."""
    why_refused: str = ""
    restamped: int = 0
    """The same events, stored at another time there, or judged by another threshold."""
    gone: int = 0
    """Written, and not there when it was looked for: somebody removes rows at the target."""

    @property
    def extent(self) -> Extent:
        """Say how much of the source was looked at."""
        return Extent(self.events, self.newest_us)

    @property
    def is_whole(self) -> bool:
        """Tell whether the target has all of it now."""
        return not (self.conflicts.number or self.refused.number or self.gone)


def look(source: CopiedRows, target: CopiedRows, progress: Callable[[int], None]) -> Look:
    """Look at every event once. `progress` is told how many were looked at."""
    found = Look()
    for rows in _pages(source):
        refused = found.refused.number
        if _bring(target, rows, found) < len(rows):
            _compare(target, rows, found, found.refused.number - refused)
        found.events += len(rows)
        found.newest_us = max(found.newest_us, *[row[_STORED_AT] for row in rows])
        progress(found.events)
    return found


def _pages(source: CopiedRows) -> Iterator[list[Row]]:
    """Give the events in the order of their ids; the next ones are read meanwhile."""
    with ThreadPoolExecutor(1, "copy-reads-ahead") as reader:
        coming = reader.submit(source.page, "", EVENTS_AT_ONCE)
        while rows := coming.result():
            coming = reader.submit(source.page, rows[-1][0], EVENTS_AT_ONCE)
            yield rows


def _bring(target: CopiedRows, rows: Sequence[Row], found: Look) -> int:
    """Bring rows, of those that are refused all but the guilty ones; gives how many are the same there."""
    try:
        added, same = target.bring(rows)
    except RowsRefused as error:
        if len(rows) == 1:
            found.refused.add(rows[0][0])
            found.why_refused = found.why_refused or str(error)
            return 0
        half = len(rows) // 2
        return _bring(target, rows[:half], found) + _bring(target, rows[half:], found)
    found.added += added
    return same


def _compare(target: CopiedRows, rows: Sequence[Row], found: Look, refused: int) -> None:
    """Tell which of the rows are at the target otherwise; so many of them were refused there."""
    there = {row[0]: row for row in target.those([row[0] for row in rows])}
    found.gone += max(0, len(rows) - len(there) - refused)
    for row in rows:
        other = there.get(row[0], row)
        if other[:CONTENT] != row[:CONTENT]:
            found.conflicts.add(row[0])
        elif other != row:
            found.restamped += 1
