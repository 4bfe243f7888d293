"""Dead letters of one pipeline's stream in a database, open for a copy.

Letters that are added keep their order and come behind those that are there. Whoever adds some has the table
to itself for as long as a portion takes: two copies at once would add the same letter twice.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psycopg

from services.contract.consuming.letter import DeadLetter, parse_letter
from services.contract.errors import DeadLettersUnavailable
from services.stores.copying import Purge, Replay, is_purged, microseconds
from services.stores.postgres.connection import Database
from services.stores.postgres.copying.writing import LIMIT_S, writing
from services.stores.postgres.dead_letters import PostgresDeadLetters, storable
from services.stores.postgres.errors import kind_of, told

_LETTERS_AT_ONCE: Final = 200
_CHARS_AT_ONCE: Final = 4 << 20
"""A letter may be twenty times as large as its entry."""
_OURS: Final = "(pipeline, stream) = (%s, %s)"
_TIME: Final = "timestamptz 'epoch' + %s * interval '1 microsecond'"
_MARK: Final = (
    "INSERT INTO telemetry.dead_letters_replayed AS known "  # noqa: S608 - a constant
    "(pipeline, stream, entry_id, replayed_at, replayed_as) "
    f"VALUES (%s, %s, %s, {_TIME}, %s) ON CONFLICT (pipeline, stream, entry_id) "
    "DO UPDATE SET replayed_at = excluded.replayed_at, replayed_as = excluded.replayed_as "
    "WHERE known.replayed_at < excluded.replayed_at"
)
_NOTE: Final = (
    "INSERT INTO telemetry.dead_letters_purged AS known "  # noqa: S608 - as above
    "(pipeline, stream, entry_id, purged_at, event_id, reason, content) "
    f"VALUES (%s, %s, %s, {_TIME}, %s, %s, %s) ON CONFLICT (pipeline, stream, entry_id) "
    "DO UPDATE SET purged_at = excluded.purged_at, event_id = excluded.event_id, reason = excluded.reason, "
    "content = excluded.content WHERE known.purged_at < excluded.purged_at"
)
_DELETE: Final = (
    "DELETE FROM telemetry.dead_letters AS letter USING telemetry.dead_letters_purged AS note "
    "WHERE (letter.pipeline, letter.stream) = (%s, %s) AND (note.pipeline, note.stream) "
    "= (letter.pipeline, letter.stream) AND note.entry_id = letter.entry_id "
    "AND letter.failed_at <= note.purged_at"
)
_NOTED_BY_LINE: Final = (
    "SELECT position, letter FROM telemetry.dead_letters AS letter "
    "WHERE (pipeline, stream) = (%s, %s) AND EXISTS (SELECT FROM telemetry.dead_letters_purged AS note "
    "WHERE (note.pipeline, note.stream, note.entry_id) "
    "= (letter.pipeline, letter.stream, letter.entry_id || '/1'))"
)
"""Letters of whole entries of many events: a purge notes each event, not the entry."""
_DELETE_THOSE: Final = f"DELETE FROM telemetry.dead_letters WHERE {_OURS} AND position = ANY(%s)"  # noqa: S608
_THERE: Final = f"SELECT letter FROM telemetry.dead_letters WHERE {_OURS} AND entry_id = ANY(%s)"  # noqa: S608
_INSERT: Final = (
    "INSERT INTO telemetry.dead_letters "  # noqa: S608 - as above
    "(pipeline, stream, entry_id, failed_at, stage, reason, event_id, letter) "
    f"VALUES (%s, %s, %s, {_TIME}, %s, %s, %s, %s)"
)


class PostgresCopiedLetters:
    """The letters of one pipeline's stream."""

    def __init__(self, database: Database, pipeline: str, stream: str) -> None:
        """Connect. Raises DeadLettersUnavailable."""
        self._place = database.place
        self._names = (pipeline, stream)
        self._letters = PostgresDeadLetters(database, pipeline, stream, float)
        self.damages = self._letters.damages
        """What could not be read so far."""
        with self._errors():
            self._connection = database.named("copy").connect(limit_s=LIMIT_S)

    @property
    def place(self) -> str:
        """Name it."""
        return f"PostgreSQL at {self._place}"

    def lines(self) -> Iterator[tuple[str, DeadLetter]]:
        """Give every letter that can be read, the oldest first."""
        return self._letters.lines()

    def replays(self) -> dict[str, Replay]:
        """Give the mark of each replayed letter, by entry id."""
        with self._errors():
            rows = self._connection.execute(
                "SELECT entry_id, (extract(epoch FROM replayed_at) * 1000000)::bigint, replayed_as "  # noqa: S608
                f"FROM telemetry.dead_letters_replayed WHERE {_OURS} ORDER BY replayed_at, entry_id",
                self._names,
            ).fetchall()
        return {row[0]: Replay._make(row) for row in rows}

    def purges(self) -> dict[str, Purge]:
        """Give the note on each purged letter, by entry id."""
        with self._errors():
            rows = self._connection.execute(
                "SELECT entry_id, (extract(epoch FROM purged_at) * 1000000)::bigint, "  # noqa: S608
                "event_id, reason, content FROM telemetry.dead_letters_purged "
                f"WHERE {_OURS} ORDER BY purged_at, entry_id",
                self._names,
            ).fetchall()
        return {row[0]: Purge._make(row) for row in rows}

    def mark(self, replays: Iterable[Replay], purges: Iterable[Purge]) -> None:
        """Add marks and notes, and remove the letters that are purged by them."""
        notes = [(*self._names, *one._replace(event_id=storable(one.event_id))) for one in purges]
        with self._errors(), writing(self._connection), self._connection.cursor() as cursor:
            cursor.executemany(_MARK, [(*self._names, *one) for one in replays])
            cursor.executemany(_NOTE, notes)
            cursor.execute(_DELETE, self._names)
            if gone := self._purged_by_line():
                cursor.execute(_DELETE_THOSE, (*self._names, gone))

    def take(self, lines: Iterable[tuple[str, DeadLetter]]) -> int:
        """Add letters that are not there yet, in portions."""
        added = 0
        for portion in _portions(lines):
            with self._errors(), writing(self._connection), self._connection.cursor() as cursor:
                cursor.execute("LOCK TABLE telemetry.dead_letters IN SHARE ROW EXCLUSIVE MODE")
                cursor.execute(
                    _THERE,
                    (*self._names, [letter.entry_id for _, letter in portion]),
                )
                there = {line for (line,) in cursor}
                new = {line: letter for line, letter in portion if line not in there}
                cursor.executemany(_INSERT, [self._row(line, letter) for line, letter in new.items()])
                added += len(new)
        return added

    def close(self) -> None:
        """Close the connections."""
        self._letters.close()
        self._connection.close()

    def _purged_by_line(self) -> list[int]:
        """Name the positions of letters of whole entries, all of whose events are purged."""
        notes: dict[str, Purge] = {}
        gone = []
        with self._connection.cursor(name="noted") as cursor:
            cursor.itersize = _LETTERS_AT_ONCE
            for position, line in cursor.execute(_NOTED_BY_LINE, self._names):
                notes = notes or self.purges()
                with suppress(ValueError, RecursionError):  # who reads the lines tells of it
                    if is_purged(parse_letter(line), notes):
                        gone.append(position)
        return gone

    def _row(self, line: str, letter: DeadLetter) -> tuple[object, ...]:
        event_id = storable(letter.text("event_id"))
        failed_at = microseconds(letter.failed_at)
        return (*self._names, letter.entry_id, failed_at, letter.stage, letter.reason, event_id, line)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise DeadLettersUnavailable(told(error, self._place), kind_of(error)) from error


def _portions(lines: Iterable[tuple[str, DeadLetter]]) -> Iterator[list[tuple[str, DeadLetter]]]:
    """Give letters in portions that fit into memory."""
    portion: list[tuple[str, DeadLetter]] = []
    chars = 0
    for line, letter in lines:
        portion.append((line, letter))
        chars += len(line)
        if len(portion) >= _LETTERS_AT_ONCE or chars >= _CHARS_AT_ONCE:
            yield portion
            portion, chars = [], 0
    if portion:
        yield portion
