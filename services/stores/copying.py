"""What `telemetry copy` carries from one store to another, and what it asks of either of them.

Every table and column that is carried stands here, and a test compares them with the tables as each store
makes them. Between the stores a value has one form, whatever columns they have for it:

    id       canonical text              time     whole microseconds since 1970, UTC
    text     text                        number   float
    json     text, its names in order    whole    int
                                         flag     0 or 1, or a truth value

A row is a tuple in the order of the table's columns. Dead letters are carried as their lines of JSON.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol

from services.contract.consuming.damage import Damages
from services.contract.consuming.letter import DeadLetter
from services.contract.consuming.packed_letters import single_letters

Kind = Literal["id", "text", "json", "time", "number", "whole", "flag"]
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is carried: its name, its columns with their kinds, and how many of them are its key."""

    name: str
    columns: Mapping[str, Kind]
    keys: int = 1


EVENTS: Final = Table(
    "events",
    {
        "event_id": "id",
        "device_id": "text",
        "zone": "text",
        "ts": "time",
        "kpi": "text",
        "value": "number",
        "attributes": "json",
        "is_degraded": "flag",
        "stored_at": "time",
    },
)
CONTENT: Final = 7
"""The first columns of an event: what makes two of one id the same. Of one event the others may differ."""

_SCOPE: Final[Mapping[str, Kind]] = {"pipeline": "text", "stream": "text", "consumer_group": "text"}
PROOFS: Final = Table(
    "proofs",
    {
        **_SCOPE,
        "generation": "whole",
        "proven_at": "number",
        "unrecorded": "whole",
        "unrecorded_from": "whole",
    },
    keys=3,
)
PROVEN: Final = (
    Table(
        "proven_runs",
        {
            **_SCOPE,
            "run": "text",
            "source": "text",
            "last": "whole",
            "proven": "whole",
            "from_ms": "whole",
            "unnumbered": "whole",
            "chunk": "whole",
            "ids": "whole",
            "ids_seen": "whole",
            "id_events": "whole",
            "expired": "whole",
            "expired_last": "whole",
            "expired_ids": "whole",
            "accepted": "whole",
            "folded_at": "number",
            "hidden": "whole",
            "hidden_ids": "whole",
        },
        keys=4,
    ),
    Table("proven_without_row", {**_SCOPE, "event_id": "id", "run": "text"}, keys=4),
    Table("proven_id_days", {**_SCOPE, "run": "text", "day": "whole", "events": "whole"}, keys=5),
    Table(
        "accepted_losses",
        {
            **_SCOPE,
            "run": "text",
            "accepted_at": "number",
            "accepted_by": "text",
            "reason": "text",
            "events": "whole",
            "what": "text",
        },
        keys=5,
    ),
)
"""What belongs to the proof of one pipeline, stream and group; it is carried with it."""
RETENTION: Final = Table("retention", {"id": "whole", "generation": "whole", "dropped_before": "whole"})
TABLES: Final = (EVENTS, PROOFS, *PROVEN, RETENTION)

NOT_CARRIED: Final = {
    "schema_migrations": "what was done to the tables of that one store",
    "sink_probe": "by which a consumer asks whether that one store takes writes",
    "upkeep": "when the days of that one store were last looked after",
    "last_readings": "what follows from rows: consumers there note it with the next reading of each device",
    "retention_holds": "what of that one store may not be dropped yet: the next audit there writes it",
}
"""The other tables of the stores, and why they stay. Those of dead letters are carried as letters."""


class Proven(NamedTuple):
    """All that is proven of one pipeline's stream, as of one moment."""

    groups: Mapping[str, Row]
    """The row of each group in `proofs`."""
    rows: Mapping[str, Sequence[Row]]
    """Of the tables of PROVEN, by name, in the order of their keys."""
    drops: tuple[int, int]
    """How many steps of retention were taken, and before which time (Unix ms) rows are dropped."""

    def named(self, pipeline: str) -> "Proven":
        """Give the same of a pipeline of another name."""
        return Proven(
            {group: (pipeline, *row[1:]) for group, row in self.groups.items()},
            {name: [(pipeline, *row[1:]) for row in rows] for name, rows in self.rows.items()},
            self.drops,
        )

    def of(self, group: str) -> list[tuple[str, Row]]:
        """Give what is proven of a group: names of tables, and rows."""
        return [(table.name, row) for table in PROVEN for row in self.rows[table.name] if row[2] == group]


class Replay(NamedTuple):
    """The mark of a letter that was published again."""

    entry_id: str
    replayed_at_us: int
    replayed_as: str


class Purge(NamedTuple):
    """What is kept of a letter that was purged."""

    entry_id: str
    purged_at_us: int
    event_id: str | None
    reason: str
    content: str | None
    """Of a conflict: the name of its content."""

    def is_of(self, letter: DeadLetter) -> bool:
        """Tell whether a letter of this entry was there when it was purged: a later one was not."""
        return microseconds(letter.failed_at) <= self.purged_at_us


def is_purged(letter: DeadLetter, notes: Mapping[str, Purge]) -> bool:
    """Tell whether a letter was there when it was purged; of many events a purge notes each, `ENTRY/LINE`.

    `notes`: the newest of each entry id.
    """

    def is_noted(entry_id: str) -> bool:
        note = notes.get(entry_id)
        return note is not None and note.is_of(letter)

    return is_noted(letter.entry_id) or all(is_noted(one.entry_id) for one in single_letters(letter))


class Extent(NamedTuple):
    """How much a store has: one event more, and it is another."""

    events: int
    newest_us: int
    """When the last of them was stored, in microseconds since 1970; 0 where there is none."""


class Brought(NamedTuple):
    """What became of events that were brought."""

    added: int
    same: int
    """How many of them are there with every column as it was given: seen after the commit."""


class CopiedRows(Protocol):
    """The tables of one store, open for a copy: from it, to it, or both.

    Whatever asks raises SinkUnavailable and SinkUnusable; what writes is durable on return.
    """

    @property
    def place(self) -> str:
        """Name it for a person, without a password."""
        ...

    def identity(self) -> str:
        """Give a text that is the same for the same tables, whatever way leads to them."""
        ...

    def extent(self) -> "Extent":
        """Count the events, and tell when the last of them was stored."""
        ...

    def page(self, after: str, most: int) -> list[Row]:
        """Give at most so many events with ids after this one, in the order of ids; after "": all.

        By any thread, while nobody else asks.
        """
        ...

    def those(self, ids: Sequence[str]) -> list[Row]:
        """Give the events of these ids that are there, in the order of their ids; `ids` are in order."""
        ...

    def bring(self, rows: Sequence[Row]) -> "Brought":
        """Add events whose ids are not there yet, and look how many of all are there as given, durable.

        Where the second number is lower than that of the rows, `those` tells why. Raises RowsRefused, and
        adds none then.
        """
        ...

    def proven(self, pipeline: str, stream: str) -> Proven:
        """Give all that is proven of a pipeline's stream."""
        ...

    def others(self, pipeline: str, stream: str) -> list[tuple[str, str]]:
        """Name other pipelines' streams of which there are proofs or dead letters."""
        ...

    def put_proven(self, group: Row, rows: Sequence[tuple[str, Row]]) -> None:
        """Put what is proven of a group in the place of what is older; a newer or equal proof is left.

        All of it or nothing. `group`: its row in `proofs`.
        """
        ...

    def put_drops(self, generation: int, dropped_before: int) -> None:
        """Note that proven rows of before that time (Unix ms) are dropped, where not more is noted."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class CopiedLetters(Protocol):
    """The dead letters of one pipeline's stream, open for a copy. Raises as where they are kept."""

    @property
    def place(self) -> str:
        """Name it for a person."""
        ...

    @property
    def damages(self) -> Damages:
        """What could not be read so far."""
        ...

    def lines(self) -> Iterator[tuple[str, DeadLetter]]:
        """Give every letter that can be read, the oldest first: its line, and what it says."""
        ...

    def replays(self) -> dict[str, Replay]:
        """Give the newest mark of each replayed letter, by entry id."""
        ...

    def purges(self) -> dict[str, Purge]:
        """Give the newest note on each purged letter, by entry id."""
        ...

    def mark(self, replays: Iterable[Replay], purges: Iterable[Purge]) -> None:
        """Add marks and notes, and remove the letters that are purged by them."""
        ...

    def take(self, lines: Iterable[tuple[str, DeadLetter]]) -> int:
        """Add letters that are not there yet, line by line, in their order; gives how many were added."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def microseconds(unix_s: float) -> int:
    """Give a time as stores compare it."""
    # First as decimal digits: a product of what earlier versions stored may lie half-way between two.
    return round(round(unix_s, 6) * 1_000_000)


def before(kind: Kind | str) -> str:
    """Write what a column has that the tables of an earlier version lack: a count is 0."""
    return "0" if kind == "whole" else "NULL"


def digest(line: str) -> bytes:
    """Name the line of a letter: a letter may be a hundred megabytes."""
    return hashlib.blake2b(line.encode(), digest_size=16).digest()


def in_order(text: str | None) -> str | None:
    """Write JSON in the one way in which equal values are equal texts."""
    if text is None:
        return None
    return json.dumps(json.loads(text), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
