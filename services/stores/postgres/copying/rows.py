"""The tables of a database, open for a copy.

Events go in by the sink's own way: arrays in binary, one statement a batch. The days that they are of are
made before them, so that no row has to be moved afterwards.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from logging import Logger
from typing import Any, Final

import psycopg

from services.contract.errors import RowsRefused, SinkAbsent, SinkUnusable
from services.stores.copying import (
    EVENTS,
    PROOFS,
    PROVEN,
    RETENTION,
    TABLES,
    Brought,
    Extent,
    Proven,
    Row,
    Table,
    before,
    in_order,
)
from services.stores.postgres import arrays
from services.stores.postgres.arrays import Unstorable
from services.stores.postgres.connection import Database
from services.stores.postgres.copying.writing import LIMIT_S, reading, writing
from services.stores.postgres.errors import is_moved, ours
from services.stores.postgres.exchange import Exchange, Statement
from services.stores.postgres.partitions import FIRST, LAST, READERS_LOCK, Taken, days, following, make_day
from services.stores.postgres.schema import check_version, refuse_unfit, update, version_of

_MOST_DAYS: Final = 1000
"""Partitions, at most, with those that a copy makes: each makes every plan longer."""
_ATTRIBUTES: Final = tuple(EVENTS.columns).index("attributes")
_VERSION_AT: Final = 14
_TIMED: Final = frozenset("78")
_TYPES: Final = {
    "id": "uuid",
    "text": "text",
    "json": "text",
    "time": "float8",
    "number": "float8",
    "flag": "bool",
}
_EPOCH: Final = "(timestamptz 'epoch' + {} * interval '1 microsecond')"
_SCOPE: Final = "(pipeline, stream, consumer_group) = (%s, %s, %s)"


class PostgresCopied:
    """One database. `may_write`: tables are made there, or brought up to date."""

    def __init__(self, database: Database, logger: Logger, *, may_write: bool) -> None:
        """Connect. Raises SinkAbsent, SinkUnusable and SinkUnavailable."""
        self._place = database.place
        self._texts = arrays.Texts()
        try:
            self._connection = database.named("copy").connect(limit_s=LIMIT_S)
        except psycopg.Error as error:
            raise ours(error, self._place, is_start=True) from error
        try:
            with self._errors(is_start=True):
                if may_write:
                    refuse_unfit(self._connection, self._place)
                    update(self._connection, self._place, logger)
                self._check()
                self._columns = {table.name: self._columns_of(table) for table in TABLES}
                self._days = set(days(self._connection))
            self._exchange = Exchange(self._connection, LIMIT_S, database.lock_timeout_s)
        except BaseException:
            self._connection.close()
            raise

    @property
    def place(self) -> str:
        """Name the database, without user and password."""
        return f"PostgreSQL at {self._place}"

    def identity(self) -> str:
        """Name the database of this server, since it was started."""
        (row,) = self._ask(
            "SELECT oid, pg_postmaster_start_time() FROM pg_database WHERE datname = current_database()"
        )
        return f"postgresql {row[0]} {row[1].timestamp()}"

    def extent(self) -> Extent:
        """Count the events, and tell when the last of them was stored."""
        newest = _read_as("max(stored_at)", "time", ["max(stored_at)"])
        with self._errors(), reading(self._connection, by_key=False):
            asked = f"SELECT count(*), coalesce({newest}, 0) FROM telemetry.events"  # noqa: S608 - no data
            (found,) = self._connection.execute(asked.encode()).fetchall()
        return Extent(*found)

    def page(self, after: str, most: int) -> list[Row]:
        """Give events with ids after this one, in their order."""
        condition, values = ("WHERE event_id > %s", [after]) if after else ("", [])
        return self._read(EVENTS, f"{condition} ORDER BY events.event_id LIMIT %s", [*values, most])

    def those(self, ids: Sequence[str]) -> list[Row]:
        """Give the events of these ids that are there, in the order of their ids."""
        if not ids:
            return []
        # All between the first and the last is read sooner than each by itself, where there is little else.
        most = 2 * len(ids)
        between = "WHERE event_id BETWEEN %s AND %s ORDER BY events.event_id LIMIT %s"
        rows = self._read(EVENTS, between, [ids[0], ids[-1], most])
        if len(rows) < most:
            wanted = set(ids)
            return [row for row in rows if row[0] in wanted]
        # The planner leaves out the other days by the bounds alone.
        condition = "WHERE event_id = ANY(%s::uuid[]) AND event_id BETWEEN %s AND %s ORDER BY events.event_id"
        return self._read(EVENTS, condition, [list(ids), ids[0], ids[-1]])

    def bring(self, rows: Sequence[Row]) -> Brought:
        """Add events whose ids are not there yet, in one transaction, and compare all of them after it."""
        kinds = list(EVENTS.columns.values())
        try:
            columns = [
                self._array(kind, column) for kind, column in zip(kinds, zip(*rows, strict=True), strict=True)
            ]
        except (Unstorable, UnicodeEncodeError) as error:
            raise RowsRefused(str(error), "binding") from error
        insert = Statement(_INSERT, columns, [1] * len(columns))
        with self._errors():
            self._make_days(rows)
            try:
                (done,) = self._exchange.transact(insert, is_durable=True)
            except psycopg.errors.CheckViolation as error:
                if not is_moved(error):
                    raise
                (done,) = self._exchange.transact(insert, is_durable=True)
            return Brought(int(done.command_tuples), self._same(rows[0][0], rows[-1][0], columns))

    def _same(self, first: str, last: str, columns: Sequence[bytes]) -> int:
        """Count the events that are in the table as they were given."""
        bounds = [first.encode(), last.encode()]
        same = Statement(_SAME, [*columns, *bounds], [1] * len(columns) + [0, 0])
        # A day that is attached while a statement is planned would be missed by it. And each event is
        # looked for by its id: between the first and the last there may be a hundred times as many.
        lock = Statement(f"SELECT pg_advisory_xact_lock_shared({READERS_LOCK})".encode())
        _, _, found = self._exchange.transact(lock, _BY_ID, same)
        return int.from_bytes(found.get_value(0, 0), "big")

    def proven(self, pipeline: str, stream: str) -> Proven:
        """Give all that is proven of a pipeline's stream."""
        with self._errors(), reading(self._connection):
            found = {
                table.name: self._read_now(
                    table, f"WHERE (pipeline, stream) = (%s, %s) ORDER BY {_keys(table)}", (pipeline, stream)
                )
                for table in (PROOFS, *PROVEN)
            }
            drops = self._read_now(RETENTION, "WHERE id = 1", ())
        groups = {row[2]: row for row in found.pop(PROOFS.name)}
        return Proven(groups, found, drops[0][1:] if drops else (0, 0))

    def others(self, pipeline: str, stream: str) -> list[tuple[str, str]]:
        """Name other pipelines' streams of which there are proofs or dead letters."""
        tables = [name for name in ("proofs", "dead_letters") if name != "proofs" or self._columns["proofs"]]
        asked = " UNION ".join(f"SELECT pipeline, stream FROM telemetry.{name}" for name in tables)  # noqa: S608
        found = self._ask(f"{asked} ORDER BY 1, 2")
        return [(one, other) for one, other in found if (one, other) != (pipeline, stream)]

    def put_proven(self, group: Row, rows: Sequence[tuple[str, Row]]) -> None:
        """Put what is proven of a group in the place of what is older."""
        scope, generation = group[:3], group[3]
        with self._errors(), writing(self._connection):
            known = self._connection.execute(
                f"SELECT generation FROM telemetry.proofs WHERE {_SCOPE} FOR UPDATE",  # noqa: S608
                scope,
            ).fetchone()
            if known is not None and known[0] >= generation:
                return
            with self._connection.cursor() as cursor:
                for table in (PROOFS, *PROVEN):
                    given = [group] if table is PROOFS else [row for name, row in rows if name == table.name]
                    cursor.execute(f"DELETE FROM telemetry.{table.name} WHERE {_SCOPE}".encode(), scope)  # noqa: S608
                    cursor.executemany(_insert_one(table), given)

    def put_drops(self, generation: int, dropped_before: int) -> None:
        """Note that proven rows of before that time are dropped, where not more is noted."""
        with self._errors(), writing(self._connection):
            self._connection.execute(
                "INSERT INTO telemetry.retention AS known (id, generation, dropped_before) "
                "VALUES (1, %s, %s) ON CONFLICT (id) DO UPDATE SET "
                "generation = greatest(known.generation + 1, excluded.generation), "
                "dropped_before = excluded.dropped_before "
                "WHERE known.dropped_before < excluded.dropped_before",
                (generation, dropped_before),
            )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _check(self) -> None:
        version = version_of(self._connection, self._place)
        if version == 0:
            raise SinkAbsent(f"PostgreSQL at {self._place}: no tables yet; a consumer makes them", "absent")
        check_version(version, self._place)

    def _columns_of(self, table: Table) -> list[str]:
        """Name the columns that are there. Raises SinkUnusable for one that would be lost."""
        found = self._connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 "
            "AND NOT attisdropped",
            (f"telemetry.{table.name}",),
        )
        names = [name for (name,) in found]
        if unknown := sorted(set(names) - table.columns.keys()):
            raise SinkUnusable(
                f"PostgreSQL at {self._place}: telemetry.{table.name} has a column {unknown[0]} that this "
                "version does not know: copy with the version that made it",
                "newer_schema",
            )
        return names

    def _read(self, table: Table, condition: str, values: Sequence[Any]) -> list[Row]:
        with self._errors(), reading(self._connection):
            return self._read_now(table, condition, values)

    def _read_now(self, table: Table, condition: str, values: Sequence[Any]) -> list[Row]:
        there = self._columns[table.name]
        if not there:
            return []
        columns = ", ".join(_read_as(name, kind, there) for name, kind in table.columns.items())
        asked = f"SELECT {columns} FROM telemetry.{table.name} {condition}"  # noqa: S608 - no data
        rows = self._connection.execute(asked.encode(), values, binary=True).fetchall()
        if table is EVENTS and any(row[_ATTRIBUTES] is not None for row in rows):
            return [(*row[:_ATTRIBUTES], in_order(row[_ATTRIBUTES]), *row[_ATTRIBUTES + 1 :]) for row in rows]
        return rows

    def _ask(self, text: str) -> list[tuple[Any, ...]]:
        with self._errors(), reading(self._connection):
            return self._connection.execute(text.encode()).fetchall()

    def _array(self, kind: str, column: Sequence[Any]) -> bytes:
        # A float holds every microsecond till the year 2255.
        writers: dict[str, Callable[[Sequence[Any]], bytes]] = {
            "id": arrays.ids,
            "text": self._texts,
            "json": arrays.some_texts,
            "flag": arrays.flags,
        }
        return writers.get(kind, arrays.floats)(column)

    def _make_days(self, rows: Sequence[Row]) -> None:
        """Make the days that events are of; one that somebody else makes, or took away, is left."""
        found = {
            dt.date(1970, 1, 1) + dt.timedelta(milliseconds=int(f"{row[0][:8]}{row[0][9:13]}", 16))
            for row in {row[0][:13]: row for row in rows if row[0][_VERSION_AT] in _TIMED}.values()
            if _is_believed(row[0])
        }
        for day in sorted(found - self._days):
            if len(self._days) >= _MOST_DAYS:
                return
            with suppress(Taken, psycopg.errors.LockNotAvailable):
                make_day(self._connection, day)
            self._days.add(day)

    @contextmanager
    def _errors(self, *, is_start: bool = False) -> Iterator[None]:
        """Turn psycopg's errors into ours."""
        try:
            yield
        except psycopg.Error as error:
            raise ours(error, self._place, is_start=is_start) from error


def _is_believed(event_id: str) -> bool:
    """Tell whether an id begins with a time of a day that can have a partition."""
    ms = int(f"{event_id[:8]}{event_id[9:13]}", 16)
    first, beyond = ((one - dt.date(1970, 1, 1)).days * 86_400_000 for one in (FIRST, following(LAST)))
    return first <= ms < beyond


def _read_as(name: str, kind: str, there: Sequence[str]) -> str:
    if name not in there:
        return f"{before(kind)} AS {name}"
    if kind == "time":
        return f"{_us(name)}::bigint"
    return f"{name}::text" if kind in {"id", "json"} else name


def _write_as(name: str, kind: str) -> str:
    if kind == "time":
        return _EPOCH.format(name)
    return f"{name}::jsonb" if kind == "json" else name


def _insert_events() -> bytes:
    names = ", ".join(EVENTS.columns)
    values = ", ".join(_write_as(f"given.{name}", kind) for name, kind in EVENTS.columns.items())
    types = enumerate(EVENTS.columns.values(), 1)
    # As the sink does: in FROM all of it would be stored as a whole first. It is given in the order of ids.
    rows = ", ".join(f"unnest(${at}::{_TYPES[kind]}[])" for at, kind in types)
    return (
        f"INSERT INTO telemetry.events ({names}) SELECT {values} FROM (SELECT {rows}) AS given ({names}) "  # noqa: S608
        "ON CONFLICT (event_id) DO NOTHING"
    ).encode()


def _same_events() -> bytes:
    names = ", ".join(EVENTS.columns)
    given = ", ".join(f"${at}::{_TYPES[kind]}[]" for at, kind in enumerate(EVENTS.columns.values(), 1))
    first, last = (f"${len(EVENTS.columns) + more}::uuid" for more in (1, 2))
    return (
        f"SELECT count(*) FROM unnest({given}) AS given ({names}) JOIN telemetry.events AS there "  # noqa: S608
        f"ON there.event_id = given.event_id AND there.event_id BETWEEN {first} AND {last} WHERE "
        + " AND ".join(_is_same(name, kind) for name, kind in EVENTS.columns.items())
    ).encode()


def _is_same(name: str, kind: str) -> str:
    """Compare as `page` reads it, and not as it was written."""
    if kind == "time":
        return f"{_us(f'there.{name}')} = given.{name}"
    if kind == "json":
        return f"there.{name} IS NOT DISTINCT FROM given.{name}::jsonb"
    return f"there.{name} = given.{name}"


def _us(name: str) -> str:
    # The nearest number of seconds tells every microsecond; a `numeric` of them costs five times as much.
    return f"round(date_part('epoch', {name}) * 1000000)"


_INSERT: Final = _insert_events()
_SAME: Final = _same_events()
_BY_ID: Final = Statement(
    b"SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), "
    b"set_config('enable_mergejoin', 'off', true)"
)


def _insert_one(table: Table) -> bytes:
    names = ", ".join(table.columns)
    values = ", ".join("%s::uuid" if kind == "id" else "%s" for kind in table.columns.values())
    return f"INSERT INTO telemetry.{table.name} ({names}) VALUES ({values})".encode()  # noqa: S608


def _keys(table: Table) -> str:
    return ", ".join(f"{table.name}.{name}" for name in list(table.columns)[: table.keys])
