"""Looks after the days, beside the batches and on a connection of its own: no write waits for it.

Each consumer has one, and one of them takes the turn of a minute: who has written so into telemetry.upkeep.
The others read there what it has found. Besides, a lock in the database lets one at a time make a day. At
each turn: the days ahead that are missing, then the days of which rows lie in the DEFAULT partition, then
the figures. The index by device has a lock of its own, and no turn waits for it (device_index.py).
"""

import datetime as dt
import json
import logging
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Final

import psycopg

from services.contract.errors import PipelineError, SinkUnavailable
from services.stores.postgres import device_index
from services.stores.postgres.connection import Connection, Database
from services.stores.postgres.errors import told
from services.stores.postgres.partitions import (
    FIRST,
    LAST,
    Taken,
    days,
    make_day,
    rows_in_default,
    stray_days,
    today,
)

DAYS_AHEAD: Final = 14
"""So long may nobody look after the days before a row lies in the DEFAULT partition."""
INTERVAL_S: Final = 60.0
_MOST_STRAY_DAYS: Final = 1000
"""Days that are made, at most, of what lies in the DEFAULT partition: each makes every plan longer."""
_SOON_S: Final = 0.2
"""Until it is looked again whether another keeper is through."""
_SOON_FOR_S: Final = 5.0
"""How long it is looked so often: as long as a start waits for it."""
_EARLY: Final = 0.9
"""Of the time between two turns, what has to have passed: else who took the last one might come too early."""
_LIMIT_S: Final = 600.0
_END_S: Final = 5.0


class Keeper:
    """Makes days until it is closed. `interval_s`: between two turns."""

    def __init__(
        self,
        database: Database,
        logger: logging.Logger,
        interval_s: float = INTERVAL_S,
        days_ahead: int = DAYS_AHEAD,
        *,
        has_device_index: bool = False,
    ) -> None:
        self._database = database.named("keeper")
        self._logger = logger
        self._interval_s = interval_s
        self._days_ahead = days_ahead
        self._has_device_index = has_device_index
        self._is_index_dropped = False
        self._figures: Mapping[str, float] = {}
        self._asked_to_end = threading.Event()
        self._first_turn = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self, wait_s: float = 0.0) -> None:
        """Take the turns in a thread of its own; `wait_s`: how long the end of the first is waited for."""
        self._thread.start()
        self._first_turn.wait(wait_s)

    def figures(self) -> Mapping[str, float]:
        """Give what the last turn has found; nothing before it."""
        return self._figures

    def close(self) -> None:
        """End it; what it is about is broken off and has changed nothing."""
        self._asked_to_end.set()
        if self._thread.is_alive():
            self._thread.join(_END_S)

    def turn(self) -> bool:
        """Do once what is due; gives False where another one is at it. Raises SinkUnavailable.

        What was done is done.
        """
        place = self._database.place
        taken: list[Taken] = []
        is_done = False
        try:
            with closing(self._database.connect(self._asked_to_end.is_set, _LIMIT_S)) as connection:
                if not _begin(connection, self._interval_s * _EARLY):
                    is_over, self._figures = _found(connection)
                    return is_over
                is_failed = True
                try:
                    is_done = self._make_due(connection, taken)
                    is_failed = False
                finally:
                    if not connection.closed:
                        self._figures = _measure(connection)
                        # What is only not through is for whoever comes first; what has failed, for later.
                        _end(connection, self._figures, is_over=is_done or is_failed)
        except psycopg.Error as error:
            raise SinkUnavailable(told(error, place), error.sqlstate or type(error).__name__) from error
        if taken:
            raise SinkUnavailable(f"PostgreSQL at {place}: {taken[0]}", "taken")
        return is_done

    def tend_index(self) -> bool:
        """Make or drop the index by device for as long as a turn is apart; gives False where more is to do.

        Raises SinkUnavailable. It is dropped once and no more: in a rolling update the consumers before
        may want it still, and the two would do nothing else.
        """
        if self._is_index_dropped:
            return True
        until = time.monotonic() + self._interval_s
        try:
            is_done = device_index.tend(
                self._database,
                is_wanted=self._has_device_index,
                is_stopping=self._asked_to_end.is_set,
                until=until,
            )
        except psycopg.Error as error:
            raise SinkUnavailable(
                told(error, self._database.place), error.sqlstate or type(error).__name__
            ) from error
        self._is_index_dropped = is_done and not self._has_device_index
        return is_done

    def _complain(self, error: PipelineError) -> None:
        """Say that a turn has failed; the next one tries it again."""
        self._logger.warning(
            "days_not_made",
            extra={
                "error": str(error),
                "kind": error.kind,
                "hint": "rows of a day without a partition lie in telemetry.events_default, and move later",
            },
        )

    def _make_due(self, connection: Connection, taken: list[Taken]) -> bool:
        """Make what is due; gives False where somebody else is at it.

        A day that somebody has taken away is no reason to leave out the others.
        """
        first = today(connection) - dt.timedelta(days=1)
        wanted = [first + dt.timedelta(days=number) for number in range(self._days_ahead + 2)]
        there = days(connection)
        room = max(0, _MOST_STRAY_DAYS - len(there))
        # Of what lies in the DEFAULT partition the newest days come first: somebody may write there still.
        stray = [day for day in stray_days(connection, _MOST_STRAY_DAYS) if FIRST <= day <= LAST][:room]
        for day in dict.fromkeys([*wanted, *stray]):
            if self._asked_to_end.is_set():
                return False
            if day in there:
                continue
            try:
                moved = make_day(connection, day)
            except Taken as error:
                taken.append(error)
                continue
            if moved.rows:
                self._logger.info("rows_moved", extra={"day": day.isoformat(), "rows": moved.rows})
        return len(taken) > 0 or set(days(connection)) >= set(wanted)

    def _run(self) -> None:
        soon_until = time.monotonic() + _SOON_FOR_S
        while not self._asked_to_end.is_set():
            is_done = True
            try:
                is_done = self.turn()
            except PipelineError as error:
                if not self._asked_to_end.is_set():
                    self._complain(error)
            if is_done:
                self._first_turn.set()
            if is_done:
                self._index()
            soon_s = _SOON_S if time.monotonic() < soon_until else max(_SOON_S, self._interval_s / 10)
            self._asked_to_end.wait(self._interval_s if is_done else soon_s)

    def _index(self) -> None:
        try:
            self.tend_index()
        except PipelineError as error:
            if not self._asked_to_end.is_set():
                self._logger.warning("device_index_not_kept", extra={"error": str(error), "kind": error.kind})


def _begin(connection: Connection, least_s: float) -> bool:
    """Take the turn; False where another one has, less than so many seconds ago. Raises psycopg.Error."""
    row = connection.execute(
        "INSERT INTO telemetry.upkeep (id, begun_at) VALUES (1, clock_timestamp()) "
        "ON CONFLICT (id) DO UPDATE SET begun_at = clock_timestamp(), ended_at = NULL "
        "WHERE upkeep.begun_at < clock_timestamp() - make_interval(secs => %s) RETURNING id",
        (least_s,),
    ).fetchone()
    return row is not None


def _end(connection: Connection, figures: Mapping[str, float], *, is_over: bool) -> None:
    """Give the turn back, with what was found; not `is_over`: anybody may take it at once."""
    connection.execute(
        "UPDATE telemetry.upkeep SET figures = %s::jsonb, ended_at = clock_timestamp(), "
        "begun_at = CASE WHEN %s THEN begun_at ELSE '-infinity' END",
        (json.dumps(figures), is_over),
    )


def _found(connection: Connection) -> tuple[bool, Mapping[str, float]]:
    """Tell whether the turn of another one is over, and what was found last. Raises psycopg.Error."""
    row = connection.execute("SELECT ended_at IS NOT NULL, figures FROM telemetry.upkeep").fetchone()
    return (False, {}) if row is None else (row[0], row[1])


def _measure(connection: Connection) -> dict[str, float]:
    ahead = max((day - today(connection)).days for day in [*days(connection), FIRST])
    row = connection.execute(
        "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('telemetry.events')"
    ).fetchone()
    return {
        "telemetry_sink_unpartitioned_events": float(rows_in_default(connection)),
        "telemetry_sink_partitions_ahead_seconds": max(0, ahead) * 86_400.0,
        "telemetry_sink_database_bytes": float(row[0]) if row is not None else 0.0,
    }
