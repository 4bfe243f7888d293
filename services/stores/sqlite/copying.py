"""The tables of a SQLite file, open for a copy.

Read as rows are, beside the consumers and without being in their way; written as a sink writes, in our turn
among the replicas. A file of an earlier version is read as it is: what it has no table or column for is not
there.
"""

import functools
import itertools
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from services.contract.errors import SinkUnusable
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
    microseconds,
)
from services.stores.sqlite.errors import of_a_write
from services.stores.sqlite.rows import SQLiteRows
from services.stores.sqlite.sink import SQLiteSink

_NAMES: Final = {"events": "telemetry_events"}
"""Tables that have another name here."""
_ATTRIBUTES: Final = tuple(EVENTS.columns).index("attributes")

Ask = Callable[[str, Sequence[Any]], list[Row]]


class SQLiteCopied:
    """One file. `sink`: by which it is written, where it is written at all."""

    def __init__(self, path: Path, sink: SQLiteSink | None = None) -> None:
        """Open it. Raises as SQLiteRows does, and SinkUnusable for columns that this version can't carry."""
        self._path = path
        self._sink = sink
        self._rows = SQLiteRows(path)
        try:
            self._columns = {table.name: self._columns_of(table) for table in TABLES}
        except BaseException:
            self._rows.close()
            raise

    @property
    def place(self) -> str:
        """Name the file."""
        return str(self._path)

    def identity(self) -> str:
        """Give its number on its disk."""
        found = self._path.stat()
        return f"sqlite {found.st_dev} {found.st_ino}"

    def extent(self) -> Extent:
        """Count the events, and tell when the last of them was stored."""
        with self._rows.moment() as ask:
            ((events, newest),) = ask("SELECT count(*), max(stored_at) FROM telemetry_events", ())
        return Extent(events, microseconds(newest or 0.0))

    def page(self, after: str, most: int) -> list[Row]:
        """Give events with ids after this one, in their order."""
        with self._rows.moment() as ask:
            return self._read(ask, EVENTS, "WHERE event_id > ? ORDER BY event_id LIMIT ?", (after, most))

    def those(self, ids: Sequence[str]) -> list[Row]:
        """Give the events of these ids that are there, in the order of their ids."""
        if not ids:
            return []
        # All between the first and the last is read sooner than each by itself, where there is little else.
        most = 2 * len(ids)
        between = "WHERE event_id BETWEEN ? AND ? ORDER BY event_id LIMIT ?"
        where = "WHERE event_id IN (SELECT value FROM json_each(?)) ORDER BY event_id"
        with self._rows.moment() as ask:
            rows = self._read(ask, EVENTS, between, (ids[0], ids[-1], most))
            if len(rows) < most:
                wanted = set(ids)
                return [row for row in rows if row[0] in wanted]
            return self._read(ask, EVENTS, where, (json.dumps(list(ids)),))

    def bring(self, rows: Sequence[Row]) -> Brought:
        """Add events whose ids are not there yet, in one transaction, and compare all of them after it."""
        with self._writing() as connection:
            connection.execute(_BROUGHT)
            connection.execute("DELETE FROM temp.brought")
            # What crosses from Python costs most, so it crosses once: the rest is SQLite's own.
            for first in range(0, len(rows), _ROWS_A_STATEMENT):
                some = rows[first : first + _ROWS_A_STATEMENT]
                connection.execute(_bring(len(some)), list(itertools.chain.from_iterable(some)))
            added = connection.execute(_ADD).rowcount
        return Brought(added, self._same(connection))

    def _same(self, connection: sqlite3.Connection) -> int:
        """Count the brought events that are in the table as they were given."""
        try:
            return int(connection.execute(_SAME).fetchone()[0])
        except sqlite3.Error as error:
            raise of_a_write(error) from error

    def proven(self, pipeline: str, stream: str) -> Proven:
        """Give all that is proven of a pipeline's stream."""
        with self._rows.moment() as ask:
            scope = "WHERE (pipeline, stream) = (?, ?) ORDER BY "
            found = {
                table.name: self._read(ask, table, scope + _keys(table), (pipeline, stream))
                for table in (PROOFS, *PROVEN)
            }
            drops = self._read(ask, RETENTION, "WHERE id = 1", ())
        groups = {row[2]: row for row in found.pop(PROOFS.name)}
        return Proven(groups, found, drops[0][1:] if drops else (0, 0))

    def others(self, pipeline: str, stream: str) -> list[tuple[str, str]]:
        """Name other pipelines' streams of which there are proofs."""
        if not self._columns[PROOFS.name]:
            return []
        with self._rows.moment() as ask:
            return ask(
                "SELECT DISTINCT pipeline, stream FROM proofs WHERE (pipeline, stream) <> (?, ?) "
                "ORDER BY 1, 2",
                (pipeline, stream),
            )

    def put_proven(self, group: Row, rows: Sequence[tuple[str, Row]]) -> None:
        """Put what is proven of a group in the place of what is older."""
        scope, generation = group[:3], group[3]
        where = "WHERE (pipeline, stream, consumer_group) = (?, ?, ?)"
        with self._writing() as connection:
            known = connection.execute(f"SELECT generation FROM proofs {where}", scope).fetchone()  # noqa: S608
            if known is not None and known[0] >= generation:
                return
            for table in (PROOFS, *PROVEN):
                given = [group] if table is PROOFS else [row for name, row in rows if name == table.name]
                connection.execute(f"DELETE FROM {table.name} {where}", scope)  # noqa: S608
                connection.executemany(_insert(table, self._columns[table.name]), self._values(table, given))

    def put_drops(self, generation: int, dropped_before: int) -> None:
        """Note that proven rows of before that time are dropped, where not more is noted."""
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO retention (id, generation, dropped_before) VALUES (1, ?, ?) ON CONFLICT (id) "
                "DO UPDATE SET generation = max(generation + 1, excluded.generation), "
                "dropped_before = excluded.dropped_before WHERE dropped_before < excluded.dropped_before",
                (generation, dropped_before),
            )

    def close(self) -> None:
        """Close the file."""
        self._rows.close()
        if self._sink is not None:
            self._sink.close()

    def _columns_of(self, table: Table) -> list[str]:
        """Name the columns that are there. Raises SinkUnusable for one that would be lost."""
        with self._rows.moment() as ask:
            found = ask("SELECT name FROM pragma_table_info(?)", (_NAMES.get(table.name, table.name),))
        names = [name for (name,) in found]
        if unknown := sorted(set(names) - table.columns.keys()):
            raise SinkUnusable(
                f"{self._path}: {table.name} has a column {unknown[0]} that this version does not know: copy "
                "with the version that made it",
                "newer_schema",
            )
        return names

    def _read(self, ask: Ask, table: Table, where: str, values: Sequence[Any]) -> list[Row]:
        there = self._columns[table.name]
        if not there:
            return []
        columns = ", ".join(_read_as(name, kind, there) for name, kind in table.columns.items())
        rows = ask(
            f"SELECT {columns} FROM {_NAMES.get(table.name, table.name)} {where}",  # noqa: S608 - no data
            values,
        )
        if table is EVENTS and any(row[_ATTRIBUTES] is not None for row in rows):
            return [(*row[:_ATTRIBUTES], in_order(row[_ATTRIBUTES]), *row[_ATTRIBUTES + 1 :]) for row in rows]
        return rows

    def _values(self, table: Table, rows: Sequence[Row]) -> Iterator[list[Any]]:
        """Give values as the columns have them. Raises SinkUnusable for one that has no column."""
        there = self._columns[table.name]
        kept = [(at, kind) for at, (name, kind) in enumerate(table.columns.items()) if name in there]
        lacking = [at for at, name in enumerate(table.columns) if name not in there]
        for row in rows:
            if any(row[at] is not None for at in lacking):
                raise SinkUnusable(f"{self._path}: {table.name} has no column for all that is to be copied")
            yield [_written(row[at], kind) for at, kind in kept]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        assert self._sink is not None, "it was opened to be read"  # noqa: S101 - wiring
        with self._sink.transaction() as connection:
            yield connection


def open_to_write(path: Path, sink: SQLiteSink) -> SQLiteCopied:
    """Open a file that a sink has made or brought up to date; it is closed with it."""
    try:
        return SQLiteCopied(path, sink)
    except BaseException:
        sink.close()
        raise


def _read_as(name: str, kind: str, there: Sequence[str]) -> str:
    if name not in there:
        return f"{before(kind)} AS {name}"
    if kind != "time":
        return name
    # As `microseconds`. To round by digits costs more than all else of a row, and only times of earlier
    # versions need it: others are the nearest number to a whole microsecond, as the division tells.
    near = f"CAST({name} * 1e6 + 0.5 AS INTEGER)"
    far = f"CAST(round(round({name}, 6) * 1e6) AS INTEGER)"
    return f"CASE WHEN {near} / 1e6 = {name} THEN {near} ELSE {far} END"


def _written(value: Any, kind: str) -> Any:
    return value / 1_000_000 if kind == "time" else value


def _taken(kind: str) -> str:
    """As `_written`, by SQLite."""
    return "? / 1e6" if kind == "time" else "?"


def _insert(table: Table, there: Sequence[str]) -> str:
    names = [name for name in table.columns if name in there]
    return (
        f"INSERT INTO {_NAMES.get(table.name, table.name)} ({', '.join(names)}) "  # noqa: S608 - no data
        f"VALUES ({', '.join('?' * len(names))})"
    )


@functools.lru_cache(maxsize=2)
def _bring(rows: int) -> str:
    row = f"({', '.join(map(_taken, EVENTS.columns.values()))})"
    return f"INSERT INTO temp.brought VALUES {', '.join([row] * rows)}"  # noqa: S608


_EVENT: Final = ", ".join(EVENTS.columns)
_BROUGHT: Final = f"CREATE TEMP TABLE IF NOT EXISTS brought ({_EVENT})"
_ROWS_A_STATEMENT: Final = 100
"""Each call waits for Python's lock in the end: a thread reads the next page meanwhile."""
_ADD: Final = (
    f"INSERT INTO telemetry_events ({_EVENT}) SELECT {_EVENT} FROM temp.brought WHERE true "  # noqa: S608
    "ORDER BY brought.rowid ON CONFLICT (event_id) DO NOTHING"
)
_SAME: Final = (
    "SELECT count(*) FROM temp.brought AS given CROSS JOIN telemetry_events AS there "  # noqa: S608
    "ON there.event_id = given.event_id WHERE "
    + " AND ".join(f"there.{name} IS given.{name}" for name in EVENTS.columns)
)


def _keys(table: Table) -> str:
    return ", ".join(list(table.columns)[: table.keys])
