"""Reading what the sink stores, beside the consumers: every answer is streamed, in bounded memory.

Each statement is a short transaction of its own, which first takes the readers' lock, shared: a day that is
attached while a statement is planned would be missed by it (partitions.py). Nothing is written, so a
standby can be asked, and a user with SELECT alone can ask.

A time filter is one on event times, which need not be those in the ids: a file that is replayed has old
events under new ids. So it goes by the index on `ts` of each day, a BRIN: of days with other times no row
is read.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from services.contract.errors import PipelineError, SinkAbsent
from services.contract.ids import id_from
from services.stores.postgres.connection import Connection, Database
from services.stores.postgres.errors import ours
from services.stores.postgres.partitions import FIRST, LAST, READERS_LOCK, days, following, low
from services.stores.postgres.schema import check_version, no_tables, version_of
from services.stores.rows import (
    EVERY_ROW,
    ByAttribute,
    Grouping,
    Progress,
    RowFilter,
    Rows,
    StoredRow,
    SummaryRow,
    no_progress,
)

_IDS_A_STATEMENT: Final = 20_000
_FETCHED: Final = 2000
_ROWS_A_PAGE: Final = 2000
_LIMIT_S: Final = 600.0
"""How long one statement may take: a person waits, and can press Ctrl-C."""
_COLUMNS: Final = (
    "event_id::text, device_id, zone, extract(epoch FROM ts)::float8, kpi, value, is_degraded, "
    "extract(epoch FROM stored_at)::float8, coalesce(attributes, '{}')"
)
_GROUPS: Final = {
    "zone": "zone",
    "device": "device_id",
    "hour": "floor(extract(epoch FROM ts) / 3600)::bigint * 3600",
    "day": "floor(extract(epoch FROM ts) / 86400)::bigint * 86400",
}
_LEAST_ID: Final = "00000000-0000-0000-0000-000000000000"
_BEYOND: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"


class PostgresRows(Rows):
    """The events of one database, read-only.

    Opening raises SinkAbsent where there are no tables yet, SinkUnusable for those of somebody else or of a
    newer version, and SinkUnavailable where it can't be read now. Reading raises SinkUnavailable.
    """

    def __init__(self, database: Database) -> None:
        self._database = database.named("rows")
        self._place = database.place
        try:
            self._connection = self._database.connect()
        except psycopg.Error as error:
            raise ours(error, self._place, is_start=True) from error
        try:
            with self._errors(is_start=True):
                version = version_of(self._connection, self._place)
                if version == 0:
                    raise SinkAbsent(no_tables(self._place), "absent")
                check_version(version, self._place)
        except PipelineError:
            self._connection.close()
            raise
        self._connection.limit_s = _LIMIT_S  # it answers; what is asked from now on may take its time

    def close(self) -> None:
        """Close the connection; an answer that is still being read ends with it."""
        self._connection.close()

    def count(self) -> int:
        """Count the rows."""
        return int(self._ask("SELECT count(*) FROM telemetry.events")[0][0])

    def has_any(self, asked: RowFilter = EVERY_ROW) -> bool:
        """Tell whether there is a row of that kind."""
        condition, values = _where(asked)
        return bool(self._ask(f"SELECT 1 FROM telemetry.events {condition} LIMIT 1", values))  # noqa: S608 - no data

    def event_ids(self, first_ms: int = 0, beyond_ms: int | None = None) -> Iterator[str]:
        """Give every event id, or those that begin with a time in Unix ms, in ascending order.

        Of rows stored meanwhile, those that come after.
        """
        beyond = _BEYOND if beyond_ms is None else id_from(beyond_ms)
        return itertools.chain.from_iterable(self._id_chunks(id_from(first_ms), beyond))

    def stored_at(self, ids: Sequence[str]) -> dict[str, float]:
        """Tell when each of these ids that is stored was, in Unix seconds."""
        if not ids:
            return {}
        return dict(
            self._ask(
                "SELECT stored.event_id::text, extract(epoch FROM stored.stored_at)::float8 "
                "FROM telemetry.events AS stored WHERE stored.event_id = ANY(%s::uuid[]) "
                "AND stored.event_id BETWEEN %s AND %s",
                (list(ids), min(ids), max(ids)),
            )
        )

    def missing_of(self, ids: Sequence[str]) -> list[str]:
        """Give those of these ids that are not stored, in the order given."""
        if not ids:
            return []
        rows = self._ask(
            "SELECT number - 1 FROM unnest(%s::uuid[]) WITH ORDINALITY AS given (event_id, number) "
            "WHERE NOT EXISTS (SELECT FROM telemetry.events AS stored "
            "WHERE stored.event_id = given.event_id AND stored.event_id BETWEEN %s AND %s) ORDER BY 1",
            (list(ids), min(ids), max(ids)),
        )
        return [ids[position] for (position,) in rows]

    def events(self, asked: RowFilter = EVERY_ROW, limit: int | None = None) -> Iterator[StoredRow]:
        """Give rows, the newest id first; at most `limit`.

        The order of publication, since our ids begin with their time. Ids of foreign producers that don't
        stand wherever their first digits put them.
        """
        condition, values = _where(asked)
        with self._reading() as connection, connection.cursor(name="events") as cursor:
            cursor.itersize = _FETCHED
            cursor.execute(
                f"SELECT {_COLUMNS} FROM telemetry.events {condition} "  # noqa: S608 - no data
                # Of the table: a mere event_id would be the text that is given.
                "ORDER BY events.event_id DESC LIMIT %s",
                [*values, limit],
            )
            yield from map(StoredRow._make, cursor)

    def pages(self, asked: RowFilter = EVERY_ROW) -> Iterator[list[StoredRow]]:
        """Give rows in ascending order of their ids, by pages; nothing is held between two of them.

        A day after the other: of the others' partitions none is opened for a page.
        """
        condition, values = _where(asked)
        rest = f"{condition} AND" if condition else "WHERE"
        for first, beyond in self._ranges():
            comparison, last = ">=", first
            while True:
                rows = self._ask(
                    f"SELECT {_COLUMNS} FROM telemetry.events {rest} event_id {comparison} %s "  # noqa: S608 - no data
                    f"AND event_id {_upto(beyond)} %s ORDER BY events.event_id LIMIT %s",
                    [*values, last, beyond, _ROWS_A_PAGE],
                )
                if rows:
                    yield list(map(StoredRow._make, rows))
                if len(rows) < _ROWS_A_PAGE:
                    break
                comparison, last = ">", rows[-1][0]

    def summary(
        self, asked: RowFilter = EVERY_ROW, progress: Progress = no_progress, by: Grouping = "zone"
    ) -> Iterator[SummaryRow]:
        """Count rows by KPI and group, in their order: a day after the other."""
        condition, values = _where(asked)
        group, named = _group(by)
        found: dict[tuple[str, str | int], SummaryRow] = {}
        ranges = self._ranges()
        for number, (first, beyond) in enumerate(ranges):
            progress(number, len(ranges))
            within = f"{condition} AND" if condition else "WHERE"
            rows = self._ask(
                f"SELECT kpi, {group}, count(*), count(*) FILTER (WHERE is_degraded), "  # noqa: S608 - no data
                f"min(value), max(value), sum(value) FROM telemetry.events {within} event_id >= %s "
                f"AND event_id {_upto(beyond)} %s "
                "GROUP BY 1, 2",
                [*named, *values, first, beyond],
            )
            for row in map(SummaryRow._make, rows):
                key = (row.kpi, row.group)
                found[key] = row if key not in found else _together(found[key], row)
        progress(len(ranges), len(ranges))
        yield from (found[key] for key in sorted(found))

    def _ranges(self) -> list[tuple[str, str]]:
        """Cut all ids into days that have a partition, and what is between them."""
        with self._errors():
            bounds = {bound for day in days(self._connection) for bound in (low(day), low(following(day)))}
        cuts = sorted({_LEAST_ID, *bounds, low(FIRST), low(following(LAST)), _BEYOND})
        return list(itertools.pairwise(cuts))

    def _id_chunks(self, last: str, beyond: str) -> Iterator[list[str]]:
        """Give the ids by many: one text of 20,000 ids is read sooner than 20,000 rows."""
        comparison = ">="
        while True:
            ((text,),) = self._ask(
                "SELECT string_agg(event_id::text, ',' ORDER BY event_id) FROM "  # noqa: S608 - no data
                "(SELECT event_id FROM telemetry.events "
                f"WHERE event_id {comparison} %s AND event_id {_upto(beyond)} %s "
                "ORDER BY event_id LIMIT %s) AS page",
                (last, beyond, _IDS_A_STATEMENT),
            )
            if text is None:
                return
            chunk = text.split(",")
            yield chunk
            last, comparison = chunk[-1], ">"

    def _ask(self, text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._reading() as connection:
            return connection.execute(text.encode(), values).fetchall()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._errors(), self._connection.transaction():
            self._connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (READERS_LOCK,))
            yield self._connection

    @contextmanager
    def _errors(self, *, is_start: bool = False) -> Iterator[None]:
        """Turn psycopg's errors into ours."""
        try:
            yield
        except psycopg.Error as error:
            raise ours(error, self._place, is_start=is_start) from error


def _upto(beyond: str) -> str:
    return "<=" if beyond == _BEYOND else "<"


def _where(asked: RowFilter) -> tuple[str, list[str | float | bool]]:
    """Write the condition, and the parameters in it."""
    conditions = asked.conditions()
    parts = [
        f"ts {operator} to_timestamp(%s)" if name == "ts" else f"{name} {operator} %s"
        for name, operator, _ in conditions
    ]
    parts += ["attributes ->> %s = %s"] * len(asked.attributes)
    values = [value for _, _, value in conditions]
    values += [part for pair in asked.attributes.items() for part in pair]
    return (f"WHERE {' AND '.join(parts)}" if parts else "", values)


def _together(one: SummaryRow, other: SummaryRow) -> SummaryRow:
    return SummaryRow(
        one.kpi,
        one.group,
        one.events + other.events,
        one.degraded + other.degraded,
        min(one.value_min, other.value_min),
        max(one.value_max, other.value_max),
        one.value_total + other.value_total,
    )


def _group(by: Grouping) -> tuple[str, list[str]]:
    """Write what is counted by, and the parameters in it."""
    if isinstance(by, ByAttribute):
        return "coalesce(attributes ->> %s, '')", [by.name]
    return _GROUPS[by], []
