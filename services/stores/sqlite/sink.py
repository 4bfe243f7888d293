"""Events in one SQLite file, shared by the replicas of one node.

    DATA_DIR/telemetry.db        tables of schema.sql; authoritative for what is stored
    DATA_DIR/telemetry.db-wal    what is committed and not yet in the file; belongs to it
    DATA_DIR/telemetry.turn      who writes now, or wrote last; for people, nothing relies on it

WAL with synchronous=NORMAL, and a sync of our own behind each commit: only then is it on the disk, and may be
acknowledged. It is made when our turn is over, so that the next one writes meanwhile. That one may meet rows
which are not on the disk yet, and takes them for duplicates: its own sync is of the same file, and made
whether or not it has written anything (docs/decisions/0095). The WAL is folded into the file then, too.

Always BEGIN IMMEDIATE: a deferred transaction that turns from reading to writing fails at once, whatever the
busy timeout. ON CONFLICT(event_id) DO NOTHING, and not INSERT OR IGNORE, which swallows broken constraints
as well.

Rows go in by statements of many rows: one call of the driver for up to 256, so Python's share of an insert
is small. They have 256, 128, 64 rows and so on, so that there are few of them, and SQLite reads each of them
once (docs/decisions/0003, 0096).
"""

import contextlib
import functools
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise, repeat
from pathlib import Path
from typing import Any, Final, NamedTuple

from services.contract.consuming.columns import Columns
from services.contract.consuming.doors import Written
from services.contract.errors import RowsRefused, SinkUnavailable, SinkUnusable
from services.contract.event import Event
from services.stores.folders import make_folder
from services.stores.sqlite.check import (
    AT_A_WRITE_S,
    AT_START_S,
    damaged,
    find_damage,
    tells_damage,
)
from services.stores.sqlite.database import AUDIT_HINT, DEAF_MS, Database
from services.stores.sqlite.errors import not_made, of_a_write, unopened
from services.stores.sqlite.files import Note, turn_in

_MOST_ROWS: Final = 256
"""In a statement. A longer one takes SQLite long to read at first: 20 ms for 500 rows, 45 ms for 1,000."""
_PAGES_A_FOLD: Final = 1000
"""As many as SQLite waits for. It would fold them within a commit, and so in our turn."""
_PAGES_A_COMMIT: Final = 4
_ROWS_A_PAGE: Final = 30
"""How many pages a commit writes was measured for 1 to 4,000 rows; with attributes they are more."""
_GROWING: Final = frozenset("78")
"""Versions of UUIDs that begin with a time, so that rows come to lie side by side."""
_LOGGER: Final = logging.getLogger(__name__)
_COLUMNS: Final = Event._fields


class _Statement(NamedTuple):
    """An INSERT of some rows."""

    sql: str
    values: list[Any]
    """The first of them is when they are stored."""


class SQLiteSink:
    """The SQLite sink. `busy_timeout_ms`: how long a write waits for another replica's, or a stranger's.

    `who`: how we are named to replicas that wait for us. Asked to stop, it waits for a second at most.
    """

    def __init__(
        self,
        path: Path,
        busy_timeout_ms: int,
        now: Callable[[], float],
        logger: logging.Logger = _LOGGER,
        who: str = "",
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Open the file, made where there is none. Raises SinkUnusable or SinkUnavailable."""
        self._path = path
        self._database = Database(path, logger)
        self._busy_timeout_ms = busy_timeout_ms
        self._now = now
        self._logger = logger
        self._note = Note(who) if who else None
        self._is_stopping = is_stopping
        # Whether the WAL may show what is not on the disk: whoever was here before may have died of that.
        self._is_doubtful = True
        self._unfolded_pages = 0
        # What a write has met. No other is acknowledged before it is gone.
        self._damage: str | None = None
        with self._turn() as patience_ms:
            connection = self._database.open(patience_ms)
        try:
            self._refuse_damaged(connection)
            # A full disk opens well enough. Whoever finds out only with a batch in hand has it delivered
            # once more at each restart, until it counts as poison.
            self.probe()
        except BaseException:
            # Left to the garbage collector it would be closed at any time, in anybody's turn.
            self.close()
            raise

    def write(self, rows: Sequence[Event]) -> Written:
        """Store rows in one transaction, idempotent by event id, durable on return.

        Raises SinkUnavailable or RowsRefused. Nothing of the call is stored then, or all of it, and it is not
        certain to stay.
        """
        statements = _statements(rows)  # before it is our turn: others wait for us meanwhile
        with self.transaction() as connection:
            inserted = self._insert(connection, statements)
            # Fewer inserted than given: some ids were there before. The same content is a
            # duplicate; another content must not be lost in silence.
            conflicts = [] if inserted == len(rows) else _conflicts(connection, rows)
        self._damage = None
        self._unfolded_pages += _pages_of(rows)
        return Written(inserted, conflicts)

    def probe(self) -> None:
        """Write something that is no event. Raises SinkUnavailable.

        Also where a write has met damage, though this one works: it is no fault of the events then.
        """
        with self.transaction() as connection:
            connection.execute(
                "INSERT INTO sink_probe VALUES (1, ?) "
                "ON CONFLICT (id) DO UPDATE SET probed_at = excluded.probed_at",
                (self._now(),),
            )
        if self._damage is not None:
            raise SinkUnavailable(damaged(self._path, self._damage), "SQLITE_CORRUPT")

    def close(self) -> None:
        """Close the file; its WAL is folded into it when we are the last."""
        try:
            if self._database.is_replaced():
                with turn_in(
                    self._path.parent, self._busy_timeout_ms, self._note, self._waits
                ) as patience_ms:
                    self._database.abandon(patience_ms)
        except (SinkUnavailable, OSError) as error:
            self._logger.error("wal_not_saved", extra={"error": str(error), "hint": AUDIT_HINT})
        self._database.close()
        if self._note is not None:
            self._note.close()

    def commit(self, connection: sqlite3.Connection) -> None:
        """Commit the open transaction: others see it from here on, and it is not on the disk yet."""
        connection.execute("COMMIT")

    def _insert(self, connection: sqlite3.Connection, statements: Sequence[_Statement]) -> int:
        stored_at = self._now()
        inserted = 0
        for sql, values in statements:
            values[0] = stored_at
            inserted += connection.execute(sql, values).rowcount
        return inserted

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction, in our turn among the replicas; durable on return.

        Raises SinkUnavailable and RowsRefused. Nothing is written then, or all of it, and it is not certain
        to stay: the sync failed, or the files were taken away meanwhile.
        """
        try:
            with self._turn() as patience_ms, self._committing(patience_ms) as connection:
                yield connection
            self._settle()
        except SinkUnusable as error:  # it was usable at the start, and may be so again
            raise SinkUnavailable(str(error), error.kind) from error
        except OSError as error:  # the folder's rights were changed, say
            raise SinkUnavailable(str(not_made(self._path, error)), "directory") from error

    @contextmanager
    def _turn(self) -> Iterator[int]:
        """Wait for our turn; gives what is left of the time to wait, in milliseconds."""
        with contextlib.ExitStack() as stack:
            try:
                make_folder(self._path.parent)
                most_ms = (
                    min(self._busy_timeout_ms, DEAF_MS) if self._is_stopping() else self._busy_timeout_ms
                )
                patience_ms = stack.enter_context(
                    turn_in(self._path.parent, most_ms, self._note, self._waits)
                )
            except OSError as error:
                raise not_made(self._path, error) from error
            yield patience_ms

    @contextmanager
    def _committing(self, patience_ms: int) -> Iterator[sqlite3.Connection]:
        """Begin and commit; SQLite's errors become ours, and leave nothing half done."""
        try:
            connection = self._begin(patience_ms)
            yield connection
            self.commit(connection)
            if self._database.is_replaced():  # the next turn is the one to clear up
                raise self._database.replaced("during a write")
        except sqlite3.Error as error:
            self._undo(error)
            if tells_damage(error):
                self._damage = str(error)
            raise of_a_write(error) from error
        except (OverflowError, UnicodeEncodeError) as error:  # raised while a row is bound
            self._undo(error)
            raise RowsRefused(str(error), "binding") from error

    def _settle(self) -> None:
        """Have the disk take what is committed, and fold the WAL where it is long."""
        self._unfolded_pages += _PAGES_A_COMMIT
        try:
            self._database.sync()
            if self._unfolded_pages >= _PAGES_A_FOLD:
                self._unfolded_pages = 0
                self._database.fold()
        except SinkUnavailable:
            self._is_doubtful = True
            raise

    def _begin(self, patience_ms: int) -> sqlite3.Connection:
        """Begin on a connection that is opened anew after an error, or when its files are gone."""
        before = self._database.connection
        connection = self._database.ready(patience_ms)
        # A descriptor that is new hears of no sync that has failed before.
        self._is_doubtful |= connection is not before
        if self._note is not None:
            self._note.make(self._path.parent)
        if self._damage is not None:
            found = find_damage(connection, AT_A_WRITE_S)
            if found is not None:
                self._database.close()  # it remembers pages that may be mended meanwhile
                raise SinkUnavailable(damaged(self._path, found), "SQLITE_CORRUPT")
        self._begin_immediate(connection, patience_ms)
        if self._is_doubtful:
            self._database.write_wal_anew()
            self._is_doubtful = False
        return connection

    def _begin_immediate(self, connection: sqlite3.Connection, patience_ms: int) -> None:
        """Wait for SQLite's own lock, a slice at a time: within one nothing else is heard."""
        started, left_ms = time.monotonic(), patience_ms
        while True:
            self._database.wait_at_most(min(left_ms, DEAF_MS))
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                waited_ms = int((time.monotonic() - started) * 1000)
                is_busy = getattr(error, "sqlite_errorname", "") == "SQLITE_BUSY"
                left_ms = patience_ms - waited_ms
                if not is_busy or left_ms <= 0 or not self._waits(waited_ms):
                    raise
            else:
                return

    def _waits(self, waited_ms: int) -> bool:
        """Tell whether to go on waiting for a lock: not for long when asked to stop."""
        return waited_ms < DEAF_MS or not self._is_stopping()

    def _refuse_damaged(self, connection: sqlite3.Connection) -> None:
        """Look for damaged pages before anything is written. Raises SinkUnusable and SinkUnavailable."""
        try:
            found = find_damage(connection, AT_START_S)
        except sqlite3.Error as error:
            raise unopened(self._path, error) from error
        if found is not None:
            raise SinkUnusable(damaged(self._path, found), "SQLITE_CORRUPT")

    def _undo(self, error: Exception) -> None:
        """Leave the transaction, and the connection too where it may be the cause."""
        connection = self._database.connection
        if connection is None:
            return
        with contextlib.suppress(sqlite3.Error):
            # After a full disk or an I/O error SQLite has rolled back by itself.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        self._is_doubtful |= getattr(error, "sqlite_errorname", "").startswith("SQLITE_IOERR")
        is_sound = isinstance(error, sqlite3.IntegrityError) or not isinstance(error, sqlite3.DatabaseError)
        if not self._database.is_replaced() and (connection.in_transaction or not is_sound):
            self._database.close()


def _statements(rows: Sequence[Event]) -> list[_Statement]:
    """Write the statements that insert rows. When they are stored is not known yet."""
    columns = Columns.of(rows).columns
    # A column of nulls would cost all who have no attributes a tenth of their write.
    if not any(columns[-1]):
        columns = columns[:-1]
    return [
        _statement([column[start:end] for column in columns])
        for start, end in pairwise(accumulate(_sizes(len(rows)), initial=0))
    ]


def _sizes(number: int) -> Iterator[int]:
    """Divide rows among statements: as many of the largest as go in, then smaller powers of two."""
    yield from repeat(_MOST_ROWS, number // _MOST_ROWS)
    rest = number % _MOST_ROWS
    while rest:
        yield (size := 1 << rest.bit_length() - 1)
        rest -= size


def _statement(columns: Sequence[Sequence[Any]]) -> _Statement:
    """Write the statement of some rows, given as columns."""
    width, number = len(columns), len(columns[0])
    values: list[Any] = [None] * (1 + number * width)
    for place, column in enumerate(columns, start=1):
        values[place::width] = column
    return _Statement(_insert_statement(number, width), values)


@functools.cache
def _insert_statement(count: int, columns: int) -> str:
    """Write the statement that inserts `count` rows of the first columns; ?1 is when all are stored."""
    rows = (
        ", ".join(f"?{first + column}" for column in range(columns))
        for first in range(2, 2 + count * columns, columns)
    )
    values = "), (".join(f"{row}, ?1" for row in rows)
    return (
        f"INSERT INTO telemetry_events ({', '.join(_COLUMNS[:columns])}, stored_at) "  # noqa: S608 - numbered parameters, no data
        f"VALUES ({values}) ON CONFLICT (event_id) DO NOTHING"
    )


def _pages_of(rows: Sequence[Event]) -> int:
    """Tell about how many pages rows take that are written together: one each, where ids don't grow."""
    if not rows:
        return 0
    grows = Columns.of(rows).columns[0][-1][14:15] in _GROWING
    return len(rows) // _ROWS_A_PAGE if grows else len(rows)


def _conflicts(connection: sqlite3.Connection, rows: Sequence[Event]) -> list[int]:
    """Find rows whose id is stored with another content. `is_degraded` is none: thresholds change."""
    cursor = connection.execute(
        "SELECT event_id, device_id, zone, ts, kpi, value, attributes FROM telemetry_events "
        "WHERE event_id IN (SELECT value FROM json_each(?))",
        (json.dumps([row.event_id for row in rows]),),
    )
    stored = {content[0]: content for content in cursor}
    if unseen := [row.event_id for row in rows if row.event_id not in stored]:
        error = sqlite3.DatabaseError(f"database is malformed: {unseen[0]} is neither inserted nor found")
        error.sqlite_errorname = "SQLITE_CORRUPT"
        raise error
    return [
        position
        for position, row in enumerate(rows)
        if _content(stored[row.event_id]) != _content((*row[:6], row.attributes))
    ]


def _content(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give what makes two rows of one id the same: microseconds, though earlier versions stored more."""
    event_id, device_id, zone, ts, kpi, value, attributes = row
    return event_id, device_id, zone, round(ts, 6), kpi, value, attributes
