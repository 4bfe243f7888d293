"""Dropping old days in PostgreSQL: a partition as a whole, and the rows of all other tables by small deletes.

    telemetry.events_dYYYYMMDD             emptied in one transaction, and removed in a second one
    telemetry.events_default               rows of days without a partition, and of ids without a time
    telemetry.events_before, _beyond       ids outside of the years that ids are believed of: by `ts`

A partition is emptied (TRUNCATE), since that locks nothing but itself: consumers write into another one.
While its rows are counted, nobody writes there. To remove it takes a lock on the whole table, so that is
tried for a moment only, and again with the next turn. Ids that carry no time, and fall into a day all the
same, stay there until their `ts` is old enough.
"""

import contextlib
import datetime as dt
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final, NamedTuple

from services.contract.consuming.proofs import Scope
from services.contract.consuming.retention import DAY_MS, Again, Step, Waits
from services.contract.errors import SinkAbsent, SinkUnavailable
from services.contract.ids import id_from
from services.stores.postgres.connection import Connection, Database
from services.stores.postgres.partitions import KEEPER_LOCK, days, name_of
from services.stores.postgres.proving.proofs import asking, transaction
from services.stores.postgres.schema import no_tables
from services.stores.retention import Ask, Dialect, Found, Held, Piece, RetentionTables
from services.stores.retention_pages import PagedRetention

_DIALECT: Final = Dialect(
    "telemetry.",
    "event_id::text",
    "extract(epoch FROM stored_at)::float8",
    "extract(epoch FROM ts)::float8",
    "get_byte(uuid_send(event_id), 6) BETWEEN 112 AND 143",
)
_EPOCH: Final = dt.date(1970, 1, 1)
_DEFAULT: Final = "telemetry.events_default"
_UNDATED: Final = ("telemetry.events_before", "telemetry.events_beyond")
_LOCK_MS: Final = 1000
"""How long a step waits for who reads or writes the old rows themselves."""
_TABLE_LOCK_MS: Final = 50
"""How long the removal of an empty partition waits for the whole table, and all behind it as well."""
_LIMIT_S: Final = 600.0


class _Look(NamedTuple):
    """What a table has: where it is the same again, nobody has written there."""

    rows: int
    newest: float
    """When the last one was stored, Unix seconds."""


class PostgresRetention(PagedRetention):
    """Drops rows of one database."""

    busy_share = 0.2
    rows_a_page = 2500
    """So many rows of a partition are counted at once, in some 15 ms: no longer than a batch takes."""
    table = "telemetry.events"

    def __init__(self, database: Database, scope: Scope) -> None:
        super().__init__(scope, _DIALECT)
        self._database = database.named("retention")

    def now(self) -> float:
        """Tell the server's time, in Unix seconds."""
        with self.reading() as ask:
            ((now,),) = ask("SELECT extract(epoch FROM clock_timestamp())::float8", ())
        return float(now)

    def drop(self, before_ms: int, again: Again) -> Iterator[Step | Waits]:
        """Drop the days that end at a time or before it, the oldest first."""
        with self.reading() as ask:
            if not _is_there(ask, "telemetry.retention_holds"):
                raise SinkAbsent(no_tables(self._database.place), "absent")
        yield from super().drop(before_ms, again)
        self._remove_empty(self._old(before_ms))

    def days(self, before_ms: int, again: Again) -> Iterator[Step | Waits]:
        """Empty partitions, and before them the DEFAULT one of rows whose day has none."""
        for one in self.timed(_DEFAULT, before_ms, again):
            yield one
            if isinstance(one, Waits):
                return
        for day in self._old(before_ms):
            number = _ms(day) // DAY_MS
            try:
                rows = self._empty(day, number, again)
            except Held as error:
                yield Waits(number, str(error))
                return
            except SinkUnavailable as error:
                if error.kind != "locked":
                    raise
                yield Waits(number, "somebody reads or writes its rows")
                return
            if rows:
                yield Step(rows, number)

    def others(self, before_ms: int, again: Again) -> Iterator[Step | Waits]:
        """Drop all others: some lie in partitions, whose days are gone by now."""
        for table in (*_UNDATED, _DEFAULT, *(f"telemetry.{name_of(day)}" for day in self._old(before_ms))):
            yield from self.timeless(table, before_ms, again)

    def _old(self, before_ms: int) -> list[dt.date]:
        with self._connected() as connection:
            return [day for day in days(connection) if _ms(day) + DAY_MS <= before_ms]

    @contextmanager
    def reading(self) -> Iterator[Ask]:
        """Ask several things as of one moment."""
        with transaction(self._database, "REPEATABLE READ, READ ONLY", limit_s=_LIMIT_S) as ask:
            _leave_room(ask)
            yield ask

    @contextmanager
    def writing(self) -> Iterator[Ask]:
        """One transaction, beside which no day is made and no proof is written."""
        with transaction(self._database, limit_s=_LIMIT_S) as ask:
            _leave_room(ask)
            _wait_at_most(ask, _LOCK_MS)
            _be_alone(ask)
            yield ask

    def take(self, ask: Ask, piece: Piece) -> Piece:
        """Delete the rows, and keep them aside: who finds one of them meanwhile waits for the end."""
        ask("CREATE TEMPORARY TABLE going (LIKE telemetry.events) ON COMMIT DROP", ())
        ask(
            f"WITH gone AS (DELETE {piece.text} RETURNING *) "  # noqa: S608
            "INSERT INTO pg_temp.going SELECT * FROM gone",
            piece.values,
        )
        return Piece("FROM pg_temp.going WHERE true", (), piece.day)

    def delete(self, ask: Ask, piece: Piece) -> None:
        """Do nothing: they are."""

    def _empty(self, day: dt.date, number: int, again: Again) -> int:
        """Empty a partition; gives how many rows it had. Raises Held.

        It is counted first, as of one moment. While it is locked, only that it is still the same is seen.
        """
        table = f"telemetry.{name_of(day)}"
        piece = Piece(f"FROM {table} WHERE {_DIALECT.timed}", (), number)
        with self.reading() as ask:
            if not _is_there(ask, table):  # somebody else was sooner
                return 0
            tables = RetentionTables(ask, _DIALECT)
            moment = tables.moment()
            look, found = self._read(ask, table, number)
            if not found.rows:
                return 0
            tables.judge(piece, found)
        with self.writing() as ask:
            ask(f"LOCK TABLE {table} IN SHARE MODE", ())
            tables = RetentionTables(ask, _DIALECT)
            if (_look_of(ask, table), tables.moment()) != (look, moment):
                raise Held("rows came, or an audit was made, while it was counted")
            tables.count(piece, tables.judge(piece, found), self._scope, again)
            is_shared = found.rows < look.rows
            if is_shared:
                ask(
                    "CREATE TEMPORARY TABLE staying ON COMMIT DROP AS "  # noqa: S608
                    f"SELECT * FROM {table} WHERE NOT {_DIALECT.timed}",
                    (),
                )
            ask(f"TRUNCATE {table}", ())
            if is_shared:
                ask(f"INSERT INTO {table} SELECT * FROM pg_temp.staying", ())  # noqa: S608
        return found.rows

    def _read(self, ask: Ask, table: str, day: int) -> tuple["_Look", Found]:
        """Read a partition page by page, with pauses: a batch of a consumer is hardly slower meanwhile."""
        rows, newest, last = 0, 0.0, id_from(0)
        found = Found()
        while True:
            began = time.monotonic()
            page = (
                f"(SELECT * FROM {table} WHERE event_id > ? "  # noqa: S608
                f"ORDER BY event_id LIMIT {self.rows_a_page}) AS page"
            )
            ((some, at, end),) = ask(
                f"SELECT count(*), coalesce(max({_DIALECT.stored_at}), 0), "  # noqa: S608
                f'max({_DIALECT.id} COLLATE "C") FROM {page}',
                (last,),
            )
            if some:
                piece = Piece(f"FROM {page} WHERE {_DIALECT.timed}", (last,), day)
                found = found.and_(RetentionTables(ask, _DIALECT).own(piece))
                rows, newest, last = rows + some, max(newest, at), end
            if some < self.rows_a_page:
                return _Look(rows, newest), found
            self._held_s = time.monotonic() - began
            self._pause()

    def _remove_empty(self, old: list[dt.date]) -> None:
        """Remove partitions that have no row any more; what can't be now is for the next time."""
        for day in old:
            table = f"telemetry.{name_of(day)}"
            with (
                contextlib.suppress(SinkUnavailable),
                self._connected() as connection,
                connection.transaction(),
            ):
                connection.execute(f"SET LOCAL lock_timeout = {_TABLE_LOCK_MS}")
                row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (KEEPER_LOCK,)).fetchone()
                if row is None or not row[0]:
                    return
                found = connection.execute(f"SELECT FROM {table} LIMIT 1".encode()).fetchone()
                if found is not None:
                    continue
                connection.execute("LOCK TABLE telemetry.events IN ACCESS EXCLUSIVE MODE")
                if connection.execute(f"SELECT FROM {table} LIMIT 1".encode()).fetchone() is None:
                    connection.execute(f"DROP TABLE {table}".encode())

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with asking(self._database.place), closing(self._database.connect(limit_s=_LIMIT_S)) as connection:
            yield connection


def register(database: Database, scope: Scope) -> None:
    """Note that rows of a pipeline, stream and group come here. Raises SinkUnavailable."""
    with transaction(database) as ask:
        RetentionTables(ask, _DIALECT).register(scope)


def _leave_room(ask: Ask) -> None:
    """Count by one process: several would take all processors, and each batch of a consumer would wait."""
    ask("SET LOCAL max_parallel_workers_per_gather = 0", ())


def _wait_at_most(ask: Ask, lock_ms: int) -> None:
    ask(f"SET LOCAL lock_timeout = {lock_ms}", ())
    ask("SET LOCAL statement_timeout = 0", ())


def _be_alone(ask: Ask) -> None:
    """Keep out others who drop or make days, and audits that write a proof, to the end of the transaction."""
    ask("SELECT pg_advisory_xact_lock(?)", (KEEPER_LOCK,))
    ask("SELECT FROM telemetry.proofs ORDER BY pipeline, stream, consumer_group FOR UPDATE", ())


def _is_there(ask: Ask, table: str) -> bool:
    return bool(ask("SELECT to_regclass(?) IS NOT NULL", (table,))[0][0])


def _look_of(ask: Ask, table: str) -> _Look:
    ((rows, newest),) = ask(
        f"SELECT count(*), coalesce(max({_DIALECT.stored_at}), 0) FROM {table}",  # noqa: S608
        (),
    )
    return _Look(int(rows), float(newest))


def _ms(day: dt.date) -> int:
    return (day - _EPOCH).days * DAY_MS
