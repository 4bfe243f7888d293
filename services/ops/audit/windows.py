"""Which part of the stored rows an audit reads: what came since the last proof, and all where need be.

Ids begin with their time, and what is not proven yet was made after the last audit, unless a clock was set
back or a late replay brought it: what is not met in its time is looked for in ever larger pieces before it,
and then in the whole table, before it is called missing.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from services.contract.consuming.proofs import Proven
from services.contract.ids import id_from
from services.ops.audit.ledger import MISSING, PAGE, PAGE_BITS, STORED, Rows
from services.ops.audit.places import Followed
from services.stores.sqlite.scratch import Unnumbered

SLACK_MS: Final = 60_000
"""How far the clocks of producers and of the audit may differ before the rows of more time are read."""
AHEAD_MS: Final = 86_400_000
"""How far ids may lie ahead of the audit's clock to be taken for those of new events."""
_AT_ONCE: Final = 10_000
_HOUR_MS: Final = 3_600_000
_BACK_MS: Final = (_HOUR_MS, 24 * _HOUR_MS)


def keep_from(now_ms: int, waits_from: int | None, before_ms: int) -> int:
    """Tell from what time on the next audit reads rows again, Unix milliseconds.

    What waits is not stored yet; but it may wait for long, and what an audit has counted is counted.
    """
    wanted = now_ms - SLACK_MS if waits_from is None else min(now_ms - SLACK_MS, waits_from)
    return max(before_ms, wanted, now_ms - _HOUR_MS)


class Window(NamedTuple):
    """A range of times, Unix milliseconds: `beyond_ms` is behind its end, and None is no end."""

    first_ms: int
    beyond_ms: int | None

    def has(self, at_ms: int) -> bool:
        """Tell whether a time is in it."""
        return self.first_ms <= at_ms and (self.beyond_ms is None or at_ms < self.beyond_ms)


class Scan:
    """Reads rows, and notes in the books which events are stored."""

    def __init__(
        self,
        rows: Rows,
        runs: Mapping[str, Followed],
        unnumbered: Unnumbered,
        known: Proven,
        now_ms: int,
        keep_ms: int,
    ) -> None:
        """`keep_ms`: from this time on rows are read again by the next audit."""
        self._rows = rows
        self._runs = runs
        self._find = {name: (run.book.last, run.book.pages) for name, run in runs.items()}
        self._unnumbered = unnumbered
        self.others = 0
        """Rows that no run has numbered, of those that no audit before has counted."""
        self.kept_others = 0
        """Those of them that the next audit does not read again."""
        self.window = Window(known.unrecorded_from, now_ms + AHEAD_MS)
        """Where rows of no run are counted."""
        self._keep_ms = keep_ms
        self._now_ms = now_ms

    def everything(self) -> None:
        """Read all rows."""
        self.window = Window(0, None)
        self._read(self.window)

    def since(self, first_ms: int) -> None:
        """Read the rows from a time on, and those before it where an event isn't met."""
        first_ms = min(first_ms, self.window.first_ms)
        end_ms = self.window.beyond_ms
        self._read(Window(first_ms, end_ms))
        for back_ms in _BACK_MS:
            if not self._is_any_missing():
                return
            self._look(Window(max(0, first_ms - back_ms), first_ms))
            first_ms = max(0, first_ms - back_ms)
        if self._is_any_missing():
            self._look(Window(0, first_ms))
            self._look(Window(end_ms or 0, None))

    def is_kept(self, at_ms: int) -> bool:
        """Tell whether the next audit does not read a row of this time again."""
        return not self._keep_ms <= at_ms < self._now_ms + AHEAD_MS

    def _is_any_missing(self) -> bool:
        return any(run.book.counts(run.book.floor + 1, run.book.last)[MISSING] for run in self._runs.values())

    def _read(self, window: Window) -> None:
        """Note every row, and count what no run has numbered."""
        counted, kept = id_from(self.window.first_ms), id_from(self._keep_ms)
        future = id_from(self._now_ms + AHEAD_MS)
        others = self._others(window)
        while some := list(itertools.islice(others, _AT_ONCE)):
            self._unnumbered.see(some)
            for event_id in some:
                if event_id >= counted:
                    self.others += 1
                    self.kept_others += event_id < kept or event_id >= future

    def _look(self, window: Window) -> None:
        """Note rows that were counted before."""
        for _ in self._others(window):
            pass

    def _others(self, window: Window) -> Iterator[str]:
        """Note every row of a run; gives the others."""
        find, runs = self._find, self._runs
        for event_id in self._rows.event_ids(*window):
            # The same cut as in contract.ids, without its checks: a million of them in about a second.
            found = find.get(event_id[14:27])
            if found is None:
                yield event_id
                continue
            try:
                sequence = int(event_id[27:], 16)
            except ValueError:  # somebody else's row
                yield event_id
                continue
            last, pages = found
            page = pages.get(sequence >> PAGE_BITS)
            if page is not None and 0 < sequence <= last:
                page[sequence & PAGE - 1] = STORED
                continue
            is_asked = sequence > last and self._unnumbered.is_asked(event_id)
            if is_asked or not runs[event_id[14:27]].book.put(sequence, STORED):
                yield event_id
