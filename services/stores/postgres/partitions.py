"""Days: which partition of telemetry.events has which, and how one is made.

    telemetry.events_dYYYYMMDD        a day of ids, from 0:00 to 24:00 UTC
    telemetry.events_before, _beyond  ids before 2020 and from 2100 on: those without a time, most of them
    telemetry.events_default          the rest: days without a partition; looked at when a day is made
    telemetry.moving_YYYYMMDD         a day being made, not attached yet: copies of rows of the DEFAULT one

A day can't be attached while the DEFAULT partition has rows of it, and rows that lie in a table that is not
attached would be inserted again when they come again. So rows are copied, in batches, while they are where
they were: a row is never changed. One short transaction does the rest (docs/decisions/0042): it locks the
DEFAULT partition, takes over what came meanwhile, removes the day's rows there, and attaches the day. It
waits for that lock for a second and no longer, since everybody who comes behind it would wait as well; then
it is for the next turn.
"""

import datetime as dt
import re
from collections.abc import Iterator
from typing import Any, Final, LiteralString, NamedTuple, cast

import psycopg
from psycopg import sql

from services.stores.postgres.connection import Connection
from services.stores.postgres.schema import LOCK

FIRST: Final = dt.date(2020, 1, 1)
LAST: Final = dt.date(2099, 12, 31)
"""The days that ids are believed of."""
COPIED_AT_ONCE: Final = 10_000
LOCK_MS: Final = 1000
_FEW: Final = 10_000

_NAME: Final = re.compile(r"events_d(\d{8})")
_DAY_MS: Final = 86_400_000
KEEPER_LOCK: Final = LOCK + 1
READERS_LOCK: Final = LOCK + 2


class Taken(Exception):
    """A table of the day's name is there, and no partition: somebody has detached it.

    The message says which.
    """


class Moved(NamedTuple):
    """What making a day came to."""

    is_made: bool
    """False: somebody else had it made, or makes it."""
    rows: int
    """Taken out of the DEFAULT partition."""


def name_of(day: dt.date) -> str:
    """Name a day's partition."""
    return f"events_d{day:%Y%m%d}"


def low(day: dt.date) -> str:
    """Give the first id that a day can have."""
    time = f"{_ms(day):012x}"
    return f"{time[:8]}-{time[8:]}-0000-0000-000000000000"


def following(day: dt.date) -> dt.date:
    """Give the day after it."""
    return day + dt.timedelta(days=1)


def _ms(day: dt.date) -> int:
    return (day - dt.date(1970, 1, 1)).days * _DAY_MS


def days(connection: Connection) -> list[dt.date]:
    """List the days that have a partition. Raises psycopg.Error."""
    rows = connection.execute(
        "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
        "WHERE inhparent = 'telemetry.events'::regclass"
    )
    found = (_NAME.fullmatch(name) for (name,) in rows)
    return sorted(
        dt.datetime.strptime(one[1], "%Y%m%d").replace(tzinfo=dt.UTC).date() for one in found if one
    )


def today(connection: Connection) -> dt.date:
    """Ask the server for its day, UTC: one clock for all consumers. Raises psycopg.Error."""
    row = connection.execute("SELECT (now() AT TIME ZONE 'UTC')::date").fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has a row
    return cast("dt.date", row[0])


def stray_days(connection: Connection, most: int) -> list[dt.date]:
    """Name days of which rows with a time in their id lie in the DEFAULT partition. Raises psycopg.Error."""
    # The digit behind the second dash is the version: 7 is of a time, and so is ours of version 8.
    rows = connection.execute(
        "SELECT DISTINCT ('x' || translate(left(event_id::text, 13), '-', ''))::bit(48)::bigint / %s "
        "FROM telemetry.events_default WHERE substr(event_id::text, 15, 1) IN ('7', '8') ORDER BY 1 DESC "
        "LIMIT %s",
        (_DAY_MS, most),
    )
    return [dt.date(1970, 1, 1) + dt.timedelta(days=number) for (number,) in rows]


def rows_in_default(connection: Connection) -> int:
    """Count the rows of the DEFAULT partition. Raises psycopg.Error."""
    row = connection.execute("SELECT count(*) FROM telemetry.events_default").fetchone()
    return int(row[0]) if row is not None else 0


def make_day(connection: Connection, day: dt.date) -> Moved:
    """Make a day's partition, and move there what the DEFAULT one has of it.

    Raises Taken, and psycopg.Error: LockNotAvailable where somebody reads or writes there for too long.
    Then nothing has changed for anybody, and what was copied serves the next try.
    """
    moving = f"moving_{day:%Y%m%d}"
    if not _prepare(connection, day, moving):
        return Moved(is_made=False, rows=0)
    for _ in _copied(connection, day, moving):
        pass
    return _attach(connection, day, moving)


def _prepare(connection: Connection, day: dt.date, moving: str) -> bool:
    """Make the table that is to be attached; False where the day is there already, or another is at it."""
    with connection.transaction():
        if not _is_alone(connection):
            return False
        row = connection.execute(
            "SELECT to_regclass(%s) IS NOT NULL, EXISTS (SELECT FROM pg_inherits WHERE inhrelid = "
            "to_regclass(%s))",
            (f"telemetry.{name_of(day)}",) * 2,
        ).fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM has a row
        exists, is_partition = row
        if exists and not is_partition:
            raise Taken(
                f"telemetry.{name_of(day)} is no partition of telemetry.events: attach it again, or rename it"
            )
        if exists:
            return False
        _run(
            connection,
            "CREATE TABLE IF NOT EXISTS {moving} (LIKE telemetry.events INCLUDING ALL)",
            day,
            moving,
        )
        # With it, nobody has to look at the rows when the table is attached.
        _run(connection, "ALTER TABLE {moving} DROP CONSTRAINT IF EXISTS of_day", day, moving)
        _run(
            connection,
            "ALTER TABLE {moving} ADD CONSTRAINT of_day CHECK (event_id >= {low} AND event_id < {high})",
            day,
            moving,
        )
        return True


def _copied(connection: Connection, day: dt.date, moving: str) -> Iterator[int]:
    """Copy the day's rows by many, in the order of their ids; gives how many each time."""
    last = low(day)
    while True:
        rows = _run(
            connection,
            "WITH page AS (SELECT * FROM telemetry.events_default WHERE event_id >= {last} AND event_id "
            "< {high} "
            "ORDER BY event_id LIMIT {most}), "
            "copied AS (INSERT INTO {moving} SELECT * FROM page ON CONFLICT (event_id) DO NOTHING) "
            "SELECT count(*), max(event_id::text) FROM page",
            day,
            moving,
            last=last,
        ).fetchone()
        assert rows is not None  # noqa: S101 - an aggregate has a row
        number, newest = rows
        yield number
        if number < COPIED_AT_ONCE:
            return
        last = newest


def _attach(connection: Connection, day: dt.date, moving: str) -> Moved:
    with connection.transaction():
        if not _is_alone(connection):
            return Moved(is_made=False, rows=0)
        connection.execute(f"SET LOCAL lock_timeout = {LOCK_MS}")
        # Who reads takes it shared before anything is planned: a plan without this day, that waits for the
        # DEFAULT partition meanwhile, would miss the rows in both.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (READERS_LOCK,))
        connection.execute("LOCK TABLE ONLY telemetry.events IN SHARE UPDATE EXCLUSIVE MODE")
        connection.execute("LOCK TABLE telemetry.events_default IN ACCESS EXCLUSIVE MODE")
        _run(
            connection,
            "INSERT INTO {moving} SELECT * FROM telemetry.events_default AS row "
            "WHERE event_id >= {low} AND event_id < {high} "
            "AND NOT EXISTS (SELECT FROM {moving} AS copy WHERE copy.event_id = row.event_id)",
            day,
            moving,
        )
        copies, rows, others = _count(connection, day, moving)
        if copies != rows:
            # What a person has deleted since it was copied stays deleted.
            _run(
                connection,
                "DELETE FROM {moving} AS copy WHERE NOT EXISTS "
                "(SELECT FROM telemetry.events_default AS row WHERE row.event_id = copy.event_id)",
                day,
                moving,
            )
        if others <= _FEW:
            # A million rows go in no time so; one by one they keep others waiting for seconds.
            _run(
                connection,
                "CREATE TEMPORARY TABLE others ON COMMIT DROP AS SELECT * FROM telemetry.events_default "
                "WHERE NOT (event_id >= {low} AND event_id < {high})",
                day,
                moving,
            )
            connection.execute("TRUNCATE telemetry.events_default")
            connection.execute("INSERT INTO telemetry.events_default SELECT * FROM pg_temp.others")
        else:
            _run(
                connection,
                "DELETE FROM telemetry.events_default WHERE event_id >= {low} AND event_id < {high}",
                day,
                moving,
            )
        _run(connection, "ALTER TABLE {moving} RENAME TO {name}", day, moving)
        _run(
            connection,
            "ALTER TABLE telemetry.events ATTACH PARTITION telemetry.{name} FOR VALUES FROM ({low}) TO "
            "({high})",
            day,
            moving,
        )
        _run(connection, "ALTER TABLE telemetry.{name} DROP CONSTRAINT of_day", day, moving)
    return Moved(is_made=True, rows=rows)


def _count(connection: Connection, day: dt.date, moving: str) -> tuple[int, int, int]:
    """Count the copies of a day, its rows in the DEFAULT partition, and the others there."""
    row = _run(
        connection,
        "SELECT (SELECT count(*) FROM {moving}), count(*) FILTER (WHERE event_id >= {low} AND event_id < "
        "{high}), "
        "count(*) FILTER (WHERE NOT (event_id >= {low} AND event_id < {high})) FROM telemetry.events_default",
        day,
        moving,
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate has a row
    return cast("tuple[int, int, int]", row)


def _is_alone(connection: Connection) -> bool:
    """Take the keepers' lock to the end of the transaction; False where another one has it."""
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (KEEPER_LOCK,)).fetchone()
    return row is not None and bool(row[0])


def _run(
    connection: Connection, text: LiteralString, day: dt.date, moving: str, last: str = ""
) -> psycopg.Cursor[tuple[Any, ...]]:
    """Run a statement on the tables of a day; what is no parameter in SQL stands in its text as a literal."""
    return connection.execute(
        sql.SQL(text).format(
            moving=sql.Identifier("telemetry", moving),
            name=sql.Identifier(name_of(day)),
            low=sql.Literal(low(day)),
            high=sql.Literal(low(following(day))),
            last=sql.Literal(last),
            most=sql.Literal(COPIED_AT_ONCE),
        )
    )
