"""What an audit has to remember and memory can't hold, in temporary files: gone when they are closed."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Self


class Unnumbered:
    """Events that no run has numbered, met in the stream or among the dead letters, and all conflicts.

    Where an event was met is a number above 0; of several places the highest counts.
    """

    def __init__(self) -> None:
        self._file = _new_file(
            "met (event_id TEXT PRIMARY KEY, place INTEGER)",
            "unreadable (entry_id TEXT PRIMARY KEY, place INTEGER)",
            "asked (event_id TEXT PRIMARY KEY, run TEXT)",
            "conflicts (event_id TEXT, content TEXT, place INTEGER, PRIMARY KEY (event_id, content))",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def meet(self, event_id: str, place: int, *, unless_met: bool = False) -> None:
        """Note where an event with a readable id was met; `unless_met`: only if it was met nowhere else."""
        self._file.execute(
            "INSERT INTO met VALUES (?1, ?2) ON CONFLICT (event_id) DO UPDATE SET place = max(place, ?2) "
            "WHERE NOT ?3",
            (event_id, place, unless_met),
        )

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

    def ask(self, run: str, event_ids: Iterable[str]) -> list[str]:
        """Note ids that a run has published; gives those that are asked for the first time."""
        # A file may have an id in two lines.
        return [
            event_id
            for event_id in event_ids
            if self._file.execute(
                "INSERT INTO asked VALUES (?, ?) ON CONFLICT DO NOTHING", (event_id, run)
            ).rowcount
        ]

    def place_of(self, event_id: str) -> int:
        """Tell where an event was met; 0 where it was not."""
        met = self._file.execute("SELECT place FROM met WHERE event_id = ?", (event_id,)).fetchone()
        return int(met[0]) if met else 0

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
            "SELECT conflicts.event_id, place, run FROM conflicts LEFT JOIN asked USING (event_id)"
        )

    def not_asked(self) -> Iterator[tuple[str, int]]:
        """Give what was met and no run has published."""
        yield from self._file.execute(
            "SELECT event_id, place FROM met WHERE event_id NOT IN (SELECT event_id FROM asked)"
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
