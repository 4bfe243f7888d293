"""Dropping rows by small deletes, whatever the store: nobody waits for one of them for long."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import ClassVar, Final

from services.contract.consuming.proofs import Scope
from services.contract.consuming.retention import DAY_MS, Again, Step, Waits
from services.contract.ids import id_from, time_of
from services.stores.retention import NO_DAY, Ask, Dialect, Held, Piece, RetentionTables

_LEAST_PAUSE_S: Final = 0.005
"""Between two steps, so that who waits for the lock meanwhile has it."""


class PagedRetention(ABC):
    """Drops the rows of a table by pages. `scope`: whose broker is asked for what was published again."""

    table: ClassVar[str]
    """Which has all rows."""
    rows_a_step = 1000
    """Most rows that one transaction deletes."""
    busy_share = 0.5
    """So much of the time at most rows are being deleted, and others may have to wait."""

    def __init__(self, scope: Scope, dialect: Dialect) -> None:
        self._scope = scope
        self._in = dialect
        self._held_s = 0.0
        """How long the last step kept others from writing."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[Ask]:
        """Ask several things as of one moment."""

    @abstractmethod
    def writing(self) -> AbstractContextManager[Ask]:
        """One transaction, durable at its end, beside which no proof is written."""

    def dropping(self) -> AbstractContextManager[Ask]:
        """One of many that follow each other: durable at the latest with the next `writing`."""
        return self.writing()

    def take(self, ask: Ask, piece: Piece) -> Piece:
        """Have nobody find the rows of a piece any more; gives where they are to be counted."""
        del ask
        return piece

    def delete(self, ask: Ask, piece: Piece) -> None:
        """Delete the rows that were taken and counted."""
        ask(f"DELETE {piece.text}", piece.values)

    def claim_audit(self, now: float, interval_s: float) -> bool:
        """Take it upon us to audit, once in an interval."""
        with self.writing() as ask:
            return RetentionTables(ask, self._in).claim_audit(self._scope, now, interval_s)

    @abstractmethod
    def now(self) -> float | None:
        """Tell the time by a clock that is not ours; None where there is none."""

    def oldest_day(self, before_ms: int) -> int | None:
        """Tell the oldest day with rows that ends at a time or before it, since 1970; None: there is none."""
        return self._first_day(self.table, before_ms)

    def drop(self, before_ms: int, again: Again) -> Iterator[Step | Waits]:
        """Drop the days that end at a time or before it, the oldest first."""
        for one in self.days(before_ms, again):
            yield one
            if isinstance(one, Waits):
                return
        with self.reading() as ask:
            is_new = RetentionTables(ask, self._in).dropped_before() < before_ms
        if not is_new:  # no index leads to what has no time: once a day is enough to look through all
            return
        for one in self.others(before_ms, again):
            yield one
            if isinstance(one, Waits):
                return
        with self.writing() as ask:
            RetentionTables(ask, self._in).took(before_ms)

    @abstractmethod
    def days(self, before_ms: int, again: Again) -> Iterator[Step | Waits]:
        """Drop the rows whose ids begin with a time."""

    @abstractmethod
    def others(self, before_ms: int, again: Again) -> Iterator[Step | Waits]:
        """Drop all others."""

    def timed(self, table: str, before_ms: int, again: Again) -> Iterator[Step | Waits]:
        """Drop the rows whose ids begin with a time before another, day by day."""
        while (day := self._first_day(table, before_ms)) is not None:
            if why := self._why_not(self._day_of(table, day)):
                yield Waits(day, why)
                return
            is_over = False
            while not is_over:
                try:
                    rows = self._step(table, day, again)
                except Held as error:
                    yield Waits(day, str(error))
                    return
                is_over = rows < self.rows_a_step
                yield Step(rows, day if is_over else None)
                self._pause()

    def timeless(self, table: str, before_ms: int, again: Again) -> Iterator[Step | Waits]:
        """Drop the rows whose ids carry no time, and whose `ts` is before one."""
        after = ""
        while True:
            try:
                ids = self._page(table, before_ms, after)
                if not ids:
                    return
                marks = ", ".join("?" * len(ids))
                rows = self._drop(Piece(f"FROM {table} WHERE event_id IN ({marks})", ids, NO_DAY), again)
            except Held as error:
                yield Waits(before_ms // DAY_MS - 1, str(error))
                return
            after = ids[-1]
            yield Step(rows)
            self._pause()

    def _page(self, table: str, before_ms: int, after: str) -> list[str]:
        with self.reading() as ask:
            stored = RetentionTables(ask, self._in).others_from(NO_DAY)
            found = ask(
                f"SELECT {self._in.id} FROM {table} WHERE event_id > ? AND {self._in.ts} < ? "  # noqa: S608
                f"AND {self._in.stored_at} < ? AND NOT {self._in.timed} ORDER BY event_id LIMIT ?",
                (after or id_from(0), before_ms / 1000, min(stored, 1e12), self.rows_a_step),
            )
        return [event_id for (event_id,) in found]

    def _first_day(self, table: str, before_ms: int) -> int | None:
        with self.reading() as ask:
            found = ask(
                f"SELECT {self._in.id} FROM {table} WHERE event_id < ? AND {self._in.timed} "  # noqa: S608
                "ORDER BY event_id LIMIT 1",
                (id_from(before_ms),),
            )
        return time_of(found[0][0]) // DAY_MS if found else None

    def _day_of(self, table: str, day: int) -> Piece:
        text = f"FROM {table} WHERE event_id >= ? AND event_id < ? AND {self._in.timed}"
        return Piece(text, (id_from(day * DAY_MS), id_from((day + 1) * DAY_MS)), day)

    def _why_not(self, piece: Piece) -> str:
        """Say why rows may not go; empty where they may."""
        try:
            with self.reading() as ask:
                tables = RetentionTables(ask, self._in)
                tables.judge(piece, tables.own(piece))
        except Held as error:
            return str(error)
        return ""

    def _step(self, table: str, day: int, again: Again) -> int:
        whole = self._day_of(table, day)
        with self.reading() as ask:
            found = ask(
                f"SELECT {self._in.id} {whole.text} ORDER BY event_id LIMIT ?",
                (*whole.values, self.rows_a_step),
            )
        if not found:
            return 0
        # One bound behind them and no second one: SQLite may take the farther one, and read the whole day.
        text = f"FROM {table} WHERE event_id >= ? AND event_id <= ? AND {self._in.timed}"
        piece = Piece(text, (id_from(day * DAY_MS), found[-1][0]), day)
        rows = self._drop(piece, again)
        return rows if len(found) < self.rows_a_step else self.rows_a_step

    def _drop(self, piece: Piece, again: Again) -> int:
        """Drop a piece in one transaction; gives how many rows. Raises Held."""
        with self.dropping() as ask:
            began = time.monotonic()
            tables = RetentionTables(ask, self._in)
            taken = self.take(ask, piece)
            ((rows,),) = ask(f"SELECT count(*) {taken.text}", taken.values)
            if rows:
                tables.count(taken, tables.judge(taken, tables.own(taken)), self._scope, again)
                self.delete(ask, taken)
            self._held_s = time.monotonic() - began
        return int(rows)

    def _pause(self) -> None:
        time.sleep(max(_LEAST_PAUSE_S, self._held_s * (1 / self.busy_share - 1)))
