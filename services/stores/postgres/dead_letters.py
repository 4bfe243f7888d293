"""Dead letters in the database, where consumers share no volume.

    telemetry.dead_letters            a row a letter: its line of JSON, and what one asks for; authoritative
    telemetry.dead_letters_replayed   when each replayed letter was replayed, and as which entry
    telemetry.dead_letters_purged     what is kept of a letter that was purged

Each key begins with the names of pipeline and stream: two pipelines in one database don't meet. Letters are
written after the rows, in a transaction of their own, and durable before their entries are acknowledged. A
line of JSON is ASCII, so there is nothing in it that the database refuses; only its columns may hold less
than was received.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Final, NamedTuple

import psycopg

from services.contract.consuming.damage import Damages, why
from services.contract.consuming.doors import Dead
from services.contract.consuming.letter import DeadLetter, Progress, Purged, letter_lines, parse_letter
from services.contract.consuming.packed_letters import single_letters
from services.contract.errors import DeadLettersUnavailable, PipelineError
from services.runtime.telemetry.spans import current
from services.stores.postgres import arrays
from services.stores.postgres.connection import Connection, Database
from services.stores.postgres.errors import kind_of, told
from services.stores.postgres.exchange import Exchange, Statement
from services.stores.postgres.schema import no_tables

MOST_ENTRY_BYTES: Final = 32 << 20
"""Of an entry whose letter fits: it may be twenty times as large, and a value of the database is 1 GB "
"at most."""

_FETCHED: Final = 200
_INSERT: Final = (
    b"INSERT INTO telemetry.dead_letters "
    b"(pipeline, stream, entry_id, failed_at, stage, reason, event_id, letter) "
    b"SELECT $1::text, $2::text, given.entry_id, to_timestamp($3::float8), stage, reason, event_id, letter "
    b"FROM unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[]) WITH ORDINALITY "
    b"AS given (entry_id, stage, reason, event_id, letter, number) ORDER BY number"
)
_BINARY: Final = (1,) * 8


class _Kept(NamedTuple):
    position: int
    entry_id: str
    line: str


class PostgresDeadLetters:
    """The dead letters of one pipeline's stream. `now` in Unix seconds; `consumer` signs the letters."""

    def __init__(
        self,
        database: Database,
        pipeline: str,
        stream: str,
        now: Callable[[], float],
        consumer: str = "",
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._database = database.named("letters")
        self._names = (pipeline, stream)
        self._now = now
        self._consumer = consumer
        self._is_stopping = is_stopping
        self._exchange: Exchange | None = None
        self._progress = Progress()
        self.damages = Damages()
        """What could not be read so far."""

    def put(self, dead: Sequence[Dead]) -> None:
        """Keep dead letters, durable on return. Raises DeadLettersUnavailable."""
        if not dead:
            return
        failed_at = self._now()
        pipeline, stream = (name.encode() for name in self._names)
        try:
            exchange = self._open()
            for portion in letter_lines(self._progress.rest(dead), failed_at, self._consumer, current()):
                columns = zip(*(_columns(one, line) for one, line in portion), strict=True)
                parameters = [
                    pipeline,
                    stream,
                    arrays.float_value(failed_at),
                    *map(arrays.some_texts, columns),
                ]
                exchange.transact(Statement(_INSERT, parameters, _BINARY))
                self._progress.kept(len(portion))
        except psycopg.Error as error:
            raise DeadLettersUnavailable(told(error, self._database.place), kind_of(error)) from error
        self._progress.done()

    def read(self) -> Iterator[DeadLetter]:
        """Give what was kept, the oldest first, as of one moment. Raises DeadLettersUnavailable."""
        return (letter for _, letter in self.lines())

    def lines(self) -> Iterator[tuple[str, DeadLetter]]:
        """Give each letter as it is written, and what it says; as `read` does."""
        for kept in self._kept():
            letter = self._parsed(kept)
            if letter is not None:
                yield kept.line, letter

    def events_of(self, entry_id: str) -> set[str]:
        """Name those events of an entry of many that have a letter, as `ENTRY/LINE`.

        Raises DeadLettersUnavailable.
        """
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT entry_id FROM telemetry.dead_letters "
                "WHERE (pipeline, stream) = (%s, %s) AND starts_with(entry_id, %s)",
                (*self._names, f"{entry_id}/"),
            )
            return {name for (name,) in rows}

    def replayed(self) -> dict[str, float]:
        """Tell when each replayed letter was replayed (Unix seconds), by entry id."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT entry_id, extract(epoch FROM replayed_at)::float8 FROM "
                "telemetry.dead_letters_replayed "
                "WHERE (pipeline, stream) = (%s, %s)",
                self._names,
            )
            return dict(rows.fetchall())

    def purged(self) -> Iterator[Purged]:
        """Give what is known of each purged letter."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT entry_id, event_id, content FROM telemetry.dead_letters_purged "
                "WHERE (pipeline, stream) = (%s, %s) ORDER BY entry_id",
                self._names,
            ).fetchall()
        yield from map(Purged._make, rows)

    def mark_replayed(self, replayed: Sequence[tuple[str, str]]) -> None:
        """Note that letters were published again: entry id of the letter, and of the new entry."""
        if not replayed:
            return
        with self._reading() as connection, connection.transaction():
            connection.execute(
                "INSERT INTO telemetry.dead_letters_replayed "
                "SELECT %s, %s, old, to_timestamp(%s), new FROM unnest(%s::text[], %s::text[]) AS given "
                "(old, new) "
                "ON CONFLICT (pipeline, stream, entry_id) "
                "DO UPDATE SET replayed_at = excluded.replayed_at, replayed_as = excluded.replayed_as",
                (*self._names, self._now(), *map(list, zip(*dict(replayed).items(), strict=True))),
            )

    def purge(self, entry_ids: Collection[str]) -> int:
        """Remove the letters of these entries and note it, at once; gives how many letters went."""
        now = self._now()
        notes: dict[str, tuple[str | None, str, str | None]] = {}
        positions: list[int] = []
        for kept in self._kept(entry_ids):
            letter = self._parsed(kept)
            if letter is not None:
                for one in single_letters(letter):
                    content = one.content if one.is_conflict else None
                    notes[one.entry_id] = (storable(one.text("event_id")), one.reason, content)
                positions.append(kept.position)
        if not positions:
            return 0
        with self._reading() as connection, connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO telemetry.dead_letters_purged VALUES (%s, %s, %s, %s, %s, %s, to_timestamp(%s)) "
                "ON CONFLICT (pipeline, stream, entry_id) DO UPDATE SET event_id = excluded.event_id, "
                "reason = excluded.reason, content = excluded.content, purged_at = excluded.purged_at",
                [(*self._names, entry_id, *note, now) for entry_id, note in notes.items()],
            )
            return cursor.execute(
                "DELETE FROM telemetry.dead_letters WHERE (pipeline, stream) = (%s, %s) AND position = "
                "ANY(%s)",
                (*self._names, positions),
            ).rowcount

    def close(self) -> None:
        """Let go of the connection."""
        if self._exchange is not None:
            with contextlib.suppress(psycopg.Error):
                self._exchange.close()
            self._exchange = None

    def _kept(self, entry_ids: Collection[str] | None = None) -> Iterator[_Kept]:
        """Give letters as they are kept, all of one moment: of these entries, or all."""
        chosen = "" if entry_ids is None else "AND entry_id = ANY(%s)"
        values = self._names if entry_ids is None else (*self._names, list(entry_ids))
        # A connection of its own, since its transaction lasts as long as somebody reads.
        with (
            self._errors(),
            closing(self._database.connect(self._is_stopping)) as connection,
            connection.transaction(),
            connection.cursor(name="letters") as cursor,
        ):
            cursor.itersize = _FETCHED
            cursor.execute(
                # {chosen} is one of two constants.
                "SELECT position, entry_id, letter FROM telemetry.dead_letters "  # noqa: S608
                f"WHERE (pipeline, stream) = (%s, %s) {chosen} ORDER BY position",
                values,
            )
            yield from map(_Kept._make, cursor)

    def _parsed(self, kept: _Kept) -> DeadLetter | None:
        try:
            return parse_letter(kept.line)
        except (ValueError, RecursionError) as error:
            self.damages.tell(f"telemetry.dead_letters position {kept.position}", why(error))
            return None

    def _open(self) -> Exchange:
        if self._exchange is None or self._exchange.is_closed:
            connection = self._database.connect(self._is_stopping)
            self._exchange = Exchange(connection, self._database.timeout_s, self._database.lock_timeout_s)
        return self._exchange

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """Connect for one answer: who asks now and then has nothing to close."""
        with self._errors(), closing(self._database.connect(self._is_stopping)) as connection:
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            raise DeadLettersUnavailable(no_tables(self._database.place), "absent") from error
        except psycopg.Error as error:
            raise DeadLettersUnavailable(told(error, self._database.place), kind_of(error)) from error
        except PipelineError as error:
            raise DeadLettersUnavailable(str(error), error.kind) from error


def _columns(dead: Dead, line: str) -> tuple[str, str, str, str | None, str]:
    event_id = _event_id(dead.entry.fields)
    return dead.entry.entry_id.decode(), dead.rejection.stage, dead.rejection.reason, event_id, line


def _event_id(fields: Sequence[bytes]) -> str | None:
    for name, value in zip(fields[::2], fields[1::2], strict=False):
        if name == b"event_id":
            try:
                return storable(value.decode())
            except UnicodeDecodeError:
                return None
    return None


def storable(text: str | None) -> str | None:
    """Give a text as the database can hold it; None where it has a NUL, or is long enough to be no id."""
    return None if text is None or "\0" in text or len(text) > 1024 else text
