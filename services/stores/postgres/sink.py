"""Events in PostgreSQL: one round trip a batch, from any number of consumers on any node.

    telemetry.events              a partition a day, by event_id; authoritative for what is stored
    telemetry.events_default      rows of days that have no partition (yet); the keeper moves them (keeper.py)
    telemetry.sink_probe          one row, by which we ask whether the database takes writes

A batch is one statement over arrays, sorted by its key: two consumers that write the same ids in opposite
order would end in a deadlock. It is sorted here, since it comes nearly in order. Fewer rows inserted than
given: some ids were there before, and a second statement compares. It sees what others have committed
meanwhile, since each statement of READ COMMITTED has a snapshot of its own.

No answer to a COMMIT is no commit: the batch is written again, and what is there already is a duplicate.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

import psycopg

from services.contract.consuming.doors import Written
from services.contract.errors import PipelineError, RowsRefused, SinkUnavailable
from services.contract.event import Event
from services.stores.postgres import arrays
from services.stores.postgres.arrays import Unstorable
from services.stores.postgres.connection import Database
from services.stores.postgres.errors import is_moved, meaning_of, ours
from services.stores.postgres.exchange import Exchange, Statement
from services.stores.postgres.partitions import READERS_LOCK
from services.stores.postgres.schema import made_at, refuse_unfit, update

_LOGGER: Final = logging.getLogger(__name__)

_TYPES: Final = ("uuid", "text", "text", "float8", "text", "float8", "bool")
_NAMES: Final = ("event_id", "device_id", "zone", "ts", "kpi", "value", "is_degraded")


class _Statements(NamedTuple):
    """How rows go in, and how they are compared with what is there."""

    insert: bytes
    conflicts: bytes


def _statements(*, with_attributes: bool) -> _Statements:
    """Write the statements. An array that holds nothing but nulls would cost all who have no attributes."""
    types = (*_TYPES, *(("text",) if with_attributes else ()))
    given_ = [f"${number}::{kind}[]" for number, kind in enumerate(types, start=1)]
    names = ", ".join((*_NAMES, *(("attributes",) if with_attributes else ())))
    following = len(types) + 1
    attributes = "attributes::jsonb" if with_attributes else "NULL::jsonb"
    # Functions in a SELECT list give a row at a time; in FROM each of them is stored as a whole first.
    rows = ", ".join(f"unnest({array})" for array in given_)
    insert = (
        "INSERT INTO telemetry.events "  # noqa: S608
        "(event_id, device_id, zone, ts, kpi, value, is_degraded, attributes, stored_at) "
        f"SELECT event_id, device_id, zone, to_timestamp(ts), kpi, value, is_degraded, {attributes}, "
        f"to_timestamp(${following}::float8) "
        f"FROM (SELECT {rows}) AS given ({names}) ON CONFLICT (event_id) DO NOTHING"
    )
    conflicts = (
        f"SELECT given.number - 1, stored.event_id IS NULL FROM unnest({', '.join(given_)}) "  # noqa: S608
        f"WITH ORDINALITY AS given ({names}, number) "
        "LEFT JOIN telemetry.events AS stored ON stored.event_id = given.event_id "
        # The planner leaves out the other days; given.event_id alone would not let it.
        f"AND stored.event_id BETWEEN ${following}::uuid AND ${following + 1}::uuid "
        "WHERE (stored.device_id, stored.zone, stored.ts, stored.kpi, stored.value, stored.attributes) "
        "IS DISTINCT FROM (given.device_id, given.zone, to_timestamp(given.ts), given.kpi, given.value, "
        f"{'given.attributes::jsonb' if with_attributes else 'NULL::jsonb'}) ORDER BY 1"
    )
    return _Statements(insert.encode(), conflicts.encode())


_PLAIN: Final = _statements(with_attributes=False)
_WITH_ATTRIBUTES: Final = _statements(with_attributes=True)
_BINARY: Final = 1
_TRUE: Final = b"\1"
_ID: Final = itemgetter(0)
_WAIT_FOR_DAY: Final = Statement(f"SELECT pg_advisory_xact_lock_shared({READERS_LOCK})".encode())
"""A day may just be attached, and what is planned before that would miss its rows."""
_PROBE: Final = (
    # Of each partition: a lock that somebody holds on one of them would keep the rows out as well.
    Statement(b"LOCK TABLE telemetry.events IN ROW EXCLUSIVE MODE"),
    Statement(
        b"INSERT INTO telemetry.sink_probe VALUES (1, now()) ON CONFLICT (id) DO UPDATE SET probed_at = now()"
    ),
)


class PostgresSink:
    """The sink in a database. `now` in Unix seconds.

    Asked to stop, it waits for an answer for a second at most.
    """

    def __init__(
        self,
        database: Database,
        now: Callable[[], float],
        logger: logging.Logger = _LOGGER,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Connect, make or update the tables, and write once. Raises SinkUnusable or SinkUnavailable."""
        self._database = database.named("sink")
        self._now = now
        self._logger = logger
        self._is_stopping = is_stopping
        self._exchange: Exchange | None = None
        self._made_at: float | None = None
        """By which the database that we began with is known from another."""
        self._close_also: list[Callable[[], None]] = []
        self._texts = arrays.Texts()
        # Why the last write failed, where that was no row's fault: a probe may pass where a write does not.
        self._down: str | None = None
        try:
            self._open(is_start=True)
            self.probe()
        except BaseException:
            self.close()
            raise

    def write(self, rows: Sequence[Event]) -> Written:
        """Store rows in one transaction, idempotent by event id, durable on return.

        Raises SinkUnavailable or RowsRefused; nothing of the call is stored then, or nobody knows: it may
        come again.
        """
        if not rows:
            return Written(0, [])
        try:
            columns = self._columns(_sorted(rows))
        except Unstorable as error:
            raise RowsRefused(str(error), "binding") from error
        try:
            exchange = self._open()
            parameters = [*columns, arrays.float_value(self._now())]
            insert = Statement(_statements_of(columns).insert, parameters, [_BINARY] * len(parameters))
            try:
                inserted = exchange.transact(insert, is_durable=True)[0].command_tuples
            except psycopg.errors.CheckViolation as error:
                if not is_moved(error):
                    raise
                inserted = exchange.transact(insert, is_durable=True)[0].command_tuples
            conflicts = [] if inserted == len(rows) else _conflicts(exchange, self._columns(rows), rows)
        except psycopg.Error as error:
            raise self._failed(error) from error
        except PipelineError as error:  # it was fit at the start, and may be so again
            self._down = str(error)
            raise SinkUnavailable(str(error), error.kind) from error
        self._down = None
        return Written(inserted, conflicts)

    def probe(self) -> None:
        """Write something that is no event. Raises SinkUnavailable.

        Also where the last write has met what is no row's fault (a full disk, a table that is gone), though
        this one works: the events would all be dead letters.
        """
        try:
            self._open().transact(*_PROBE)
        except psycopg.Error as error:
            raise SinkUnavailable(*_cause(ours(error, self._database.place))) from error
        except PipelineError as error:
            raise SinkUnavailable(str(error), error.kind) from error
        if self._down is not None:
            raise SinkUnavailable(self._down, "down")

    def on_close(self, close: Callable[[], None]) -> None:
        """Have something else end with the sink, before it."""
        self._close_also.append(close)

    def close(self) -> None:
        """Close the connection."""
        while self._close_also:
            self._close_also.pop()()
        if self._exchange is not None:
            with contextlib.suppress(psycopg.Error):
                self._exchange.close()
            self._exchange = None

    def _columns(self, rows: Sequence[Event]) -> list[bytes]:
        event_id, device_id, zone, ts, kpi, value, is_degraded, attributes = zip(*rows, strict=True)
        texts = self._texts
        columns = [
            arrays.ids(event_id), texts(device_id), texts(zone), arrays.floats(ts), texts(kpi),
            arrays.floats(value), arrays.flags(is_degraded),
        ]  # fmt: skip
        if not any(attributes):
            return columns
        try:
            return [*columns, arrays.some_texts(attributes)]
        except (AttributeError, UnicodeEncodeError) as error:
            raise Unstorable(f"attributes are no text that can be stored: {error}") from None

    def _open(self, *, is_start: bool = False) -> Exchange:
        """Give the connection, or a new one to a database that was looked at.

        Raises psycopg.Error, or ours.
        """
        if self._exchange is not None and not self._exchange.is_closed:
            return self._exchange
        place, database = self._database.place, self._database
        try:
            connection = database.connect(self._is_stopping)
        except psycopg.Error as error:
            raise ours(error, place, is_start=is_start) from error
        try:
            refuse_unfit(connection, place)
            if self._made_at is not None and made_at(connection, place) != self._made_at:
                # Our tables there would take what comes next, away from all that is acknowledged.
                raise SinkUnavailable(
                    f"PostgreSQL at {place} is another database than before, or its tables were made anew: "
                    "bring the one of before back; where this one is meant, restart the consumers",
                    "replaced",
                )
            update(connection, place, self._logger)
            self._made_at = made_at(connection, place)
            self._exchange = Exchange(connection, database.timeout_s, database.lock_timeout_s)
        except psycopg.Error as error:
            connection.close()
            raise ours(error, place, is_start=is_start) from error
        except PipelineError:
            connection.close()
            raise
        return self._exchange

    def _failed(self, error: psycopg.Error) -> PipelineError:
        meant = meaning_of(error)
        failure = ours(error, self._database.place)
        self._down = str(failure) if meant.verdict in {"down", "unusable"} else None
        return failure


def _statements_of(columns: Sequence[bytes]) -> _Statements:
    return _PLAIN if len(columns) == len(_TYPES) else _WITH_ATTRIBUTES


def _cause(error: PipelineError) -> tuple[str, str]:
    return str(error), error.kind


def _conflicts(exchange: Exchange, columns: Sequence[bytes], rows: Sequence[Event]) -> list[int]:
    """Name the positions of rows whose id is stored with another content. Raises psycopg.Error."""
    ids = [row.event_id for row in rows]
    bounds = [min(ids).encode(), max(ids).encode()]
    formats = [*[_BINARY] * len(columns), 0, 0]
    compare = Statement(_statements_of(columns).conflicts, [*columns, *bounds], formats)
    found = exchange.transact(_WAIT_FOR_DAY, compare)[1]
    if any(found.get_value(row, 1) == _TRUE for row in range(found.ntuples)):
        # They were deleted in between. Nothing is certain of what nobody has seen.
        raise psycopg.errors.SerializationFailure("rows that were there are not to be seen at the moment")
    return [int.from_bytes(found.get_value(row, 0), "big") for row in range(found.ntuples)]


def _sorted(rows: Sequence[Event]) -> list[Event]:
    """Sort rows by id, those of one id as they came. Raises Unstorable."""
    try:
        return sorted(rows, key=_ID)
    except TypeError as error:
        raise Unstorable(f"event_id is no canonical UUID: {error}") from None
