"""What an audit has to remember and memory can't hold, in temporary files: gone when they are closed."""

import itertools
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Self


class Unnumbered:
    """Events that no run has numbered, by where they were met, and all conflicts.

    Where an event was met is a number above 0; of several places the highest counts, and 0 is none.
    """

    def __init__(self) -> None:
        self._file = _new_file(
            "events (event_id TEXT PRIMARY KEY, place INTEGER, run TEXT, asked INTEGER)",
            "unreadable (entry_id TEXT PRIMARY KEY, place INTEGER)",
            "conflicts (event_id TEXT, content TEXT, place INTEGER, PRIMARY KEY (event_id, content))",
        )
        self._is_empty = True
        self._asked = itertools.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def ask(self, run: str, event_ids: Iterable[str]) -> None:
        """Note ids that a run has published; an id belongs to the first run that has."""
        self._is_empty = False
        self._file.executemany(
            "INSERT INTO events VALUES (?1, 0, ?2, ?3) "
            "ON CONFLICT (event_id) DO UPDATE SET run = ?2, asked = ?3 WHERE run IS NULL",
            ((event_id, run, number) for event_id, number in zip(event_ids, self._asked, strict=False)),
        )

    def is_asked(self, event_id: str) -> bool:
        """Tell whether a run has published this id."""
        query = "SELECT 1 FROM events WHERE event_id = ? AND run IS NOT NULL"
        return not self._is_empty and self._file.execute(query, (event_id,)).fetchone() is not None

    def meet(self, event_id: str, place: int, *, unless_met: bool = False) -> None:
        """Note where an event with a readable id was met; `unless_met`: only if it was met nowhere else."""
        self._is_empty = False
        self._file.execute(
            "INSERT INTO events VALUES (?1, ?2, NULL, NULL) "
            "ON CONFLICT (event_id) DO UPDATE SET place = max(place, ?2) WHERE place = 0 OR NOT ?3",
            (event_id, place, unless_met),
        )

    def meet_known(self, event_ids: Sequence[str], place: int) -> int:
        """Note where these were met, of those that are known already; gives how many are."""
        if self._is_empty:
            return 0
        return self._file.executemany(
            "UPDATE events SET place = max(place, ?1) WHERE event_id = ?2",
            ((place, event_id) for event_id in event_ids),
        ).rowcount

    def meet_unreadable(self, entry_id: str, place: int) -> None:
        """Note where an event without a readable id was met."""
        self._file.execute(
            "INSERT INTO unreadable VALUES (?1, ?2) "
            "ON CONFLICT (entry_id) DO UPDATE SET place = max(place, ?2)",
            (entry_id, place),
        )

    def meet_conflict(self, event_id: str, content: str, place: int) -> None:
        """Note another content under the id of a stored event, and where its letter is."""
        self._file.execute(
            "INSERT INTO conflicts VALUES (?1, ?2, ?3) "
            "ON CONFLICT (event_id, content) DO UPDATE SET place = max(place, ?3)",
            (event_id, content, place),
        )

    def places(self, run: str | None) -> Counter[int]:
        """Count the events that belong to a run, or to none, by place."""
        found = self._file.execute(
            "SELECT place, count(*) FROM events WHERE run IS ? GROUP BY place", (run,)
        ).fetchall()
        return Counter(dict(found))

    def not_met(self, run: str, most: int) -> list[str]:
        """Name events of a run that were met nowhere, as it has published them."""
        found = self._file.execute(
            "SELECT event_id FROM events WHERE run = ? AND place = 0 ORDER BY asked LIMIT ?", (run, most)
        )
        return [event_id for (event_id,) in found]

    def take_unreadable(self, number: int) -> Counter[int]:
        """Give the places of at most `number` unreadable events, and use them up."""
        taken = self._file.execute(
            "DELETE FROM unreadable WHERE entry_id IN "
            "(SELECT entry_id FROM unreadable ORDER BY place DESC LIMIT ?) RETURNING place",
            (min(number, 1 << 62),),
        ).fetchall()
        return Counter(place for (place,) in taken)

    def conflicts(self) -> Iterator[tuple[str, int, str | None]]:
        """Give id and place of each conflict, and the run that published the id without numbering it."""
        yield from self._file.execute(
            "SELECT event_id, conflicts.place, run FROM conflicts LEFT JOIN events USING (event_id)"
        )


class DifferentIds:
    """Counts ids of which some may come more than once."""

    def __init__(self) -> None:
        self._file = _new_file("ids (id BLOB PRIMARY KEY)")

    def add(self, ids: Iterable[bytes]) -> int:
        """Add ids; gives how many of them are new."""
        # In order, so that neighbours are written together.
        return self._file.executemany(
            "INSERT INTO ids VALUES (?) ON CONFLICT DO NOTHING", ((one,) for one in sorted(ids))
        ).rowcount

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


def _new_file(*tables: str) -> sqlite3.Connection:
    # An empty name: a file of SQLite's own, gone when it is closed.
    file = sqlite3.connect("", isolation_level=None)
    for table in tables:
        file.execute(f"CREATE TABLE {table} WITHOUT ROWID")
    file.execute("BEGIN")
    return file
