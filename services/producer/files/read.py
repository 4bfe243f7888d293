"""Read a file of events, of any size, from where the last replay stopped.

What becomes of each line is in the account (account.py). Refusals are kept with their reasons (rejected.py),
and the rest goes on. How far the file is published stands in the run's hash,
written in the same step as the events.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from services.contract.errors import Stopping
from services.contract.event import DEFAULT_ENTRY_BYTES
from services.contract.producing.outgoing import (
    Batch,
    Numbering,
    Outgoing,
    Position,
)
from services.producer.files.account import Account
from services.producer.files.decode import BOM, SourceBroken, SourceUnusable
from services.producer.files.lines import Half, Record, Records
from services.producer.rows.pick import Picked, Picker
from services.producer.rows.plain import PlainRows
from services.producer.rows.problem import Problem
from services.producer.rows.publishable import checked, numbered
from services.producer.rows.times import TimeReader
from services.runtime.telemetry.metrics import Metrics

MOST_OF_A_RECORD: Final = 10_000
"""Events: they are published in one step, so that a replay goes on between two records."""
_TURN_S: Final = 0.25
"""How long a batch is read for; then it is as large as it is by then."""
_MOST_NAMED: Final = 100
_MOST_PLAIN: Final = 1024
"""Lines that are taken together."""
_LONGEST_PAUSE: Final = 255
"""Lines that are taken one by one, where none was plainly right."""
_BATCH_BYTES: Final = 2 << 20
"""What a batch is made of at most, but for the last record."""


class HeaderAgain(Exception):
    """A row is no row, but the table's header once more: files were put one behind the other."""


Parse = Callable[[Record, bytes], Iterable[Any]]
"""Makes rows of a record and its bytes; raises Problem."""


class Source(Protocol):
    """Where records come from, and how far they are read."""

    @property
    def offset(self) -> int:
        """How many bytes are behind the last record."""
        ...

    @property
    def line(self) -> int:
        """How many lines are."""
        ...

    def __iter__(self) -> Iterator[Record | None]:
        """Give each record; None where there is none just now. Raises SourceBroken."""
        ...


class Refusals(Protocol):
    """Keeps what was refused."""

    def add(self, line: int, reason: str, data: bytes, /) -> None:
        """Keep one refusal."""
        ...

    def flush(self) -> None:
        """Give it to the system."""
        ...


@dataclass(slots=True)
class Reader:
    """Events of one source, from a position on."""

    name: str
    """How it is named in the log."""
    records: Source
    parse: Parse
    picker: Picker
    times: TimeReader
    logger: logging.Logger
    metrics: Metrics
    account: Account
    """Of what is read, published or not yet."""
    position: tuple[int, int]
    """Bytes and lines before the next batch."""
    comment: bytes = b""
    refusals: Refusals | None = None
    ahead: Iterator[Record | None] = field(default_factory=lambda: iter(()))
    """Records that were looked at already."""
    constant_bytes: int = 0
    monotonic: Callable[[], float] = time.monotonic
    max_entry_bytes: int = DEFAULT_ENTRY_BYTES
    most_of_a_record: int = MOST_OF_A_RECORD
    on_first: Callable[[Any], None] | None = None
    """Is shown the first row."""
    plain: tuple[Records, PlainRows] | None = None
    """Takes rows by many, where most of them are plainly right."""
    on_refused: Callable[[int, Any], None] | None = None
    """Is shown each row that is refused as a whole, with its line. Raises HeaderAgain and SourceBroken."""
    see: Callable[[Any], None] | None = None
    """Is shown each row of which something is published."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Values of columns that are not published."""
    half: Callable[[], Half] = lambda: "take"
    """What becomes of a last line without an end."""
    waiting_line: int = 0
    """Where the last line begins that is left for later; 0: there is none."""
    is_torn: bool = False
    """Whether the first bytes belong to a line of which the beginning is published."""
    read: int = 0
    unreadable: int = 0
    """Refusals: lines, and readings of lines of which others are published."""
    unreadable_lines: list[int] = field(default_factory=list)
    """The first hundred: their warnings are held back where there are many."""
    broken: str = ""
    """Why the source could not be read to its end."""
    published: Account = field(default_factory=Account)
    """The account up to the last batch that the broker has confirmed."""
    published_line: int = 0
    _iterator: Iterator[Record | None] | None = None
    _plain_lines: int = 8
    """So many lines at most are looked at together: as many as were plainly right before."""
    _careful_lines: int = 0
    """So many are taken with care before that is tried again."""
    _pause: int = 0
    _has_ahead: bool = True
    """Whether there may be records that were looked at already."""
    _held: tuple[Record, list[Picked | Problem | None]] | None = None
    _is_done: bool = False
    _passing: int = 0
    """Events that are still to be passed over."""

    @property
    def is_at_end(self) -> bool:
        """Whether all of it was read."""
        return self._is_done and not self.broken and not self.waiting_line

    def confirm(self) -> None:
        """Take note that the last batch is published."""
        self.published, self.published_line = self.account.copy(), self.position[1]

    def next_batch(self, size: int, now: float, numbering: Numbering) -> Batch | None:
        """Give at most `size` events, or all of one record; fewer, or none, when no more are there just now.

        None: the end.
        """
        if self._is_done:
            return None
        if self._iterator is None:
            self._iterator = iter(self.records)
        events: list[Outgoing] = []
        now_ms = int(now * 1000)
        seen_bytes = 0
        # Bounded by time too: a file full of nonsense, or a slow one, must not hold the loop. And in bytes:
        # of long lines a whole batch fits into no memory.
        ends = self.monotonic() + _TURN_S
        while len(events) < size and seen_bytes < _BATCH_BYTES and self.monotonic() < ends:
            if some := self._plain_events(size - len(events), now_ms, numbering):
                events += some
                continue
            record, made = self._held or (self._next(), None)
            self._held = None
            if record is None:
                break
            if record is not _END and not record.is_terminated:
                record = self._at_half(record)
            if record is _END:
                self._is_done = True
                break
            if made is None:
                try:
                    made = self._made(record)
                except SourceBroken as error:
                    self._break(error)
                    self._is_done = True
                    break
                if self._passing:
                    made = self._pass(made)
                    if not self._passing and any(isinstance(one, Picked) for one in made):
                        self._held = record, made
                        break
                    size = size if self._passing else 0  # this record is the last one
            if events and len(events) + len(made) > size:
                self._held = record, made
                break
            seen_bytes += len(record.data) + self.constant_bytes
            before = len(events)
            events += [numbered(one, now_ms, numbering) for one in made if isinstance(one, Picked)]
            if len(events) > before or record.is_terminated or not size:
                # A last line without an end may only be half written: it is looked at again.
                self.position = (record.end, record.end_line)
        if self.refusals is not None:
            self.refusals.flush()
        return Batch(events, Position(*self.position, is_done=self.is_at_end))

    def contents(self) -> Iterator[list[Sequence[str]]]:
        """Give device_id, zone, ts, kpi and value of all events, by the batch: for who only looks."""
        numbering = Numbering("")
        while (batch := self.next_batch(500, 0.0, numbering)) is not None:
            yield [
                [str(text) for text in (one.fields[1:] if one.is_plain else one.fields[3:12:2])]
                for one in batch.events
            ]

    def pass_over(self, events: int, is_stopping: Callable[[], bool]) -> Position | None:
        """Read over so many events, which are published already; gives where they end.

        None for no events, and where they end within a record: the rest of it is given next. Raises
        SourceUnusable where there are fewer, and Stopping.
        """
        position = None
        self._passing = events
        while self._passing:
            if is_stopping():
                raise Stopping("asked to stop while published events were passed over")
            batch = self.next_batch(1, 0.0, Numbering(""))
            if batch is None:
                raise SourceUnusable(f"{self.name}: it has fewer events than are published of it")
            position = batch.position
        return None if self._held else position

    def _plain_events(self, most: int, now_ms: int, numbering: Numbering) -> list[Outgoing]:
        """Take rows that are plainly right, and enter them in the account; none where the next one is not."""
        if self.plain is None or self._has_ahead or self._held or self._passing or self.is_torn:
            return []
        if self._careful_lines:
            self._careful_lines -= 1
            return []
        records, rows = self.plain
        lines = records.ahead(min(most // rows.readings, self._plain_lines))
        if not lines:
            return []
        if (taken := rows.take(lines, now_ms, numbering)) is None:
            # Where none is plain, to look for it costs more than it saves.
            self._pause = self._careful_lines = min(2 * self._pause + 1, _LONGEST_PAUSE)
            return []
        self._pause = 0
        is_all = taken.size == len(lines)
        self._plain_lines = min(2 * self._plain_lines, _MOST_PLAIN) if is_all else max(8, taken.rows)
        records.pass_over(taken.size, taken.rows)
        self.position = (records.offset, records.line)
        self.account.publish(taken.rows, len(taken.events))
        self.account.missing_readings += taken.missing
        self.read += len(taken.events)
        return taken.events

    def _pass(self, made: list[Picked | Problem | None]) -> list[Picked | Problem | None]:
        """Leave out those that are to be passed over."""
        kept: list[Picked | Problem | None] = []
        for one in made:
            if self._passing and isinstance(one, Picked):
                self._passing -= 1
            else:
                kept.append(one)
        return kept

    def _at_half(self, record: Record) -> Record:
        """Give what a last line without an end is; `_END` where it is left for later."""
        half = self.half()
        if half == "take" or not record.data.strip():
            return record
        if half == "refuse":
            why = "it has no end, and its file is not written any more"
            return record._replace(problem=why, is_terminated=True)
        self.waiting_line = record.line
        self.logger.warning("half_line_waits", extra={"file": self.name, "line_number": record.line})
        return _END

    def _next(self) -> Record | None:
        if (record := next(self.ahead, None)) is not None:
            return record
        self._has_ahead = False
        try:
            return next(self._iterator or iter(()), _END)
        except SourceBroken as error:
            self._break(error)
            return _END

    def _break(self, error: SourceBroken) -> None:
        self.broken = str(error)
        self.logger.error("source_broken", extra={"error": self.broken})

    def _made(self, record: Record) -> list[Picked | Problem | None]:
        """Make the events of a record, without their numbers, and enter it in the account.

        Raises SourceBroken where another table begins.
        """
        data, lines = record.data, self._lines(record)
        data = data.removeprefix(BOM)  # of the first line, and where another file was put behind it
        is_torn, self.is_torn = self.is_torn, False
        if not record.problem:
            if not data or data.isspace():
                self.account.leave_out(lines, "blank")
                return []
            if self.comment and data.lstrip().startswith(self.comment):
                self.account.leave_out(lines, "comment")
                return []
            if is_torn:
                record = record._replace(problem="its beginning was published before it had an end")
        try:
            made = self._events(record, data)
        except HeaderAgain:
            self.account.leave_out(lines, "header")
            return []
        except Problem as problem:
            self.account.refuse(lines, problem.kind)
            self._report(record, problem, data)
            return []
        if len(made) == 1 and isinstance(made[0], Picked):
            self.account.publish(lines, 1)
            self.read += 1
            return made
        problems = [one for one in made if isinstance(one, Problem)]
        good = sum(isinstance(one, Picked) for one in made)
        if good:
            self.account.publish(lines, good)
            self.account.refused_readings += len(problems)
            self.account.missing_readings += made.count(None)
            for one in problems:
                self.account.blame(one.kind)
        elif problems:
            self.account.refuse(lines, problems[0].kind)
        else:
            self.account.leave_out(lines, "missing")
        for one in problems:
            self._report(record, one, data)
        self.read += good
        return made

    def _lines(self, record: Record) -> int:
        return record.end_line - record.line + 1 if self.account.unit == "lines" else 1

    def _events(self, record: Record, data: bytes) -> list[Picked | Problem | None]:
        if record.problem:
            raise Problem(record.problem)
        made: list[Picked | Problem | None] = []
        for row in self.parse(record, data):
            if self.on_first is not None:
                self.on_first(row)
                self.on_first = None
            before = len(made)
            made.extend(
                checked(one, self.max_entry_bytes) if isinstance(one, Picked) else one
                for one in self._picked(record, row)
            )
            if self.see is not None and any(isinstance(one, Picked) for one in made[before:]):
                self.see(row)
            if len(made) > self.most_of_a_record:
                raise Problem(f"more than {self.most_of_a_record} readings in it", "too many readings")
        return made

    def _picked(self, record: Record, row: Any) -> Sequence[Picked | Problem | None]:
        try:
            picked: Sequence[Picked | Problem | None] = self.picker.events(row)
        except Problem as problem:
            picked = [problem]
        if self.on_refused is not None and not any(isinstance(one, Picked) for one in picked):
            self.on_refused(record.line, row)
        return picked

    def _report(self, record: Record, problem: Problem, data: bytes) -> None:
        self.unreadable += 1
        self.metrics.count("telemetry_producer_events_total", outcome="unreadable")
        if self.refusals is not None:
            self.refusals.add(record.line, str(problem), data)
        about = {"file": self.name, "line_number": record.line, "reason": str(problem)}
        if len(self.unreadable_lines) < _MOST_NAMED:
            self.unreadable_lines.append(record.line)
            self.logger.warning("line_unreadable", extra=about)
        else:
            self.logger.warning("more_lines_unreadable", extra=about)


_END: Final = Record(b"", 0, 0, 0)
