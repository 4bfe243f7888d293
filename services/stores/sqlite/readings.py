"""The last readings in the file: read as rows are, and noted in our turn among the replicas."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from services.contract.consuming.proofs import Scope
from services.contract.consuming.readings import Reading
from services.stores.proofs import Ask
from services.stores.readings import ReadingTables, in_turns
from services.stores.sqlite.proofs import writing
from services.stores.sqlite.rows import SQLiteRows

_ROWS_A_STATEMENT: Final = 500


class SQLiteReadings:
    """The last readings of one file. `busy_timeout_ms`: how long a write waits for another."""

    def __init__(self, path: Path, busy_timeout_ms: int, scope: Scope) -> None:
        self._path = path
        self._busy_timeout_ms = busy_timeout_ms
        self._scope = scope

    def note(self, readings: Sequence[Reading]) -> None:
        """Put them in the place of older ones, in short turns."""
        for some in in_turns(readings):
            with writing(self._path, self._busy_timeout_ms) as ask:
                for at in range(0, len(some), _ROWS_A_STATEMENT):
                    rows = [(*self._scope[:2], *one) for one in some[at : at + _ROWS_A_STATEMENT]]
                    marks = ", ".join([f"({', '.join('?' * len(rows[0]))})"] * len(rows))
                    self._tables(ask).put(f"VALUES {marks}", list(itertools.chain.from_iterable(rows)))

    def forget(self, before: float) -> None:
        """Forget devices that were last heard before a time."""
        with writing(self._path, self._busy_timeout_ms) as ask:
            self._tables(ask).forget(before)

    def drop(self, device_id: str) -> bool:
        """Forget one device."""
        with writing(self._path, self._busy_timeout_ms) as ask:
            return self._tables(ask).drop(device_id)

    def count_silent(self, before: float) -> int:
        """Count the devices that were last heard before a time."""
        with SQLiteRows(self._path) as rows, rows.moment() as ask:
            return self._tables(ask).count_silent(before)

    def silent(self, before: float, most: int | None = None) -> list[Reading]:
        """Name them; none in a file that no consumer of this version has opened."""
        with SQLiteRows(self._path) as rows:
            if not rows.has_readings:
                return []
            with rows.moment() as ask:
                return self._tables(ask).silent(before, most)

    def _tables(self, ask: Ask) -> ReadingTables:
        return ReadingTables(lambda text, values: ask(text.replace("{t}", ""), values), self._scope)
