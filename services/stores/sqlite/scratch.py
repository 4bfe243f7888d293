"""What an audit has to remember and memory can't hold, in temporary files: gone when they are closed."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Self


class Met(NamedTuple):
    """What was met of an event that a run has published and not numbered."""

    place: int
    """The highest one; 0 where there is none."""
    is_seen: bool
    """Whether its row was seen."""
    has_conflict: bool
    """Whether another content was met under its id."""


class Unnumbered:
    """Events that no run has numbered, met in the stream or among the dead letters, and all conflicts.

    Where an event was met is a number above 0; of several places the highest counts.
    """

    def __init__(self) -> None:
        self._file = _new_file(
            "met (event_id TEXT PRIMARY KEY, place INTEGER)",
            "unreadable (entry_id TEXT PRIMARY KEY, place INTEGER)",
            "asked (event_id TEXT PRIMARY KEY, run TEXT, state INTEGER, seen INTEGER)",
            "conflicts (event_id TEXT, content TEXT, place INTEGER, PRIMARY KEY (event_id, content))",
            "lettered (run TEXT, sequence INTEGER, event_id TEXT, PRIMARY KEY (run, sequence))",
        )
        self._is_any_asked = False

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

    def ask(self, run: str, event_ids: Iterable[str]) -> None:
        """Note ids that a run has published; an id belongs to the first run that has."""
        self._is_any_asked = True
        # In order, so that neighbours are written together.
        self._file.execute(
            "INSERT INTO asked SELECT value, ?, 0, 0 FROM json_each(?) WHERE true ON CONFLICT DO NOTHING",
            (run, json.dumps(sorted(event_ids))),
        )

    def is_asked(self, event_id: str) -> bool:
        """Tell whether a run has published this id."""
        query = "SELECT 1 FROM asked WHERE event_id = ?"
        return self._is_any_asked and self._file.execute(query, (event_id,)).fetchone() is not None

    def see(self, event_ids: Iterable[str]) -> None:
        """Note that rows were seen, of ids that runs have published."""
        if self._is_any_asked:
            # json_each ends a text at its first NUL: of somebody else's id an asked one would be left.
            names = [one for one in event_ids if "\0" not in one]
            self._file.execute(
                "UPDATE asked SET seen = 1 WHERE event_id IN (SELECT value FROM json_each(?))",
                (json.dumps(names),),
            )

    def uncounted(self, event_ids: Sequence[str]) -> dict[str, Met]:
        """Give those of these ids that were asked for and are not counted yet, each once."""
        found = self._file.execute(
            "SELECT asked.event_id, coalesce(met.place, 0), seen, "
            "EXISTS (SELECT 1 FROM conflicts WHERE conflicts.event_id = asked.event_id) "
            "FROM json_each(?) AS given CROSS JOIN asked ON asked.event_id = given.value "
            "LEFT JOIN met ON met.event_id = asked.event_id WHERE state = 0",
            (json.dumps(event_ids),),
        )
        return {event_id: Met(place, bool(seen), bool(conflict)) for event_id, place, seen, conflict in found}

    def count(self, still_open: Sequence[str], proven: Sequence[str]) -> None:
        """Note that events that were asked for are counted, and which of them are proven there."""
        for state, event_ids in ((1, still_open), (2, proven)):
            self._file.execute(
                "UPDATE asked SET state = ? WHERE event_id IN (SELECT value FROM json_each(?))",
                (state, json.dumps(event_ids)),
            )

    def is_open(self, event_id: str) -> bool:
        """Tell whether an event was counted, and is not proven there."""
        found = self._file.execute("SELECT state FROM asked WHERE event_id = ?", (event_id,)).fetchone()
        return found is not None and found[0] == 1

    def take_unreadable(self, number: int) -> Counter[int]:
        """Give the places of at most `number` unreadable events, and use them up."""
        taken = self._file.execute(
            "DELETE FROM unreadable WHERE entry_id IN "
            "(SELECT entry_id FROM unreadable ORDER BY place DESC LIMIT ?) RETURNING place",
            (min(number, 1 << 62),),
        ).fetchall()
        return Counter(place for (place,) in taken)

    def letter(self, run: str, sequence: int, event_id: str) -> None:
        """Note the id of a numbered event that has a dead letter, or had one."""
        self._file.execute(
            "INSERT INTO lettered VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (run, sequence, event_id)
        )

    def lettered(self, run: str, first: int, last: int) -> Iterator[tuple[int, str]]:
        """Give number and id of each of these events of a run that has a letter, or had one."""
        yield from self._file.execute(
            "SELECT sequence, event_id FROM lettered WHERE run = ? AND sequence BETWEEN ? AND ?",
            (run, first, last),
        )

    def has_conflict(self, event_id: str) -> bool:
        """Tell whether another content was met under an id."""
        return bool(
            self._file.execute("SELECT 1 FROM conflicts WHERE event_id = ? LIMIT 1", (event_id,)).fetchone()
        )

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
