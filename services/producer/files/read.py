"""Read a file of events: JSON lines or CSV, of any size, from where the last replay stopped.

A record that can't be used is one line in the log and one more in the count; the rest goes on. How far
the file is published stands in the run's hash (see runs.py), written in the same step as the events.
"""

import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.contract.attributes import AttributesInvalid
from services.contract.errors import Stopping
from services.contract.event import DEFAULT_ENTRY_BYTES
from services.contract.producing.outgoing import (
    FIELD_NAMES,
    TRACE_NAMES,
    Batch,
    Numbering,
    Outgoing,
    Position,
    flat,
)
from services.producer.files.inputs import BOM, SourceUnusable
from services.producer.files.lines import MAX_RECORD_BYTES, Bytes, Record, Records
from services.producer.files.texts import (
    Format,
    Mapped,
    Problem,
    Texts,
    csv_parser,
    id_bytes,
    parse_json,
    parse_row,
    pick,
    pick_trace,
)
from services.producer.keeping import LeftOut, kept
from services.producer.spellings import Spellings
from services.runtime.telemetry.metrics import Metrics

_TURN_S: Final = 0.25
"""How long a batch is read for; then it is as large as it is by then."""
_MOST_NAMED: Final = 100
_BATCH_BYTES: Final = 2 << 20
"""What a batch is made of at most, but for the last record."""
_ENVELOPE_BYTES: Final = sum(map(len, (*FIELD_NAMES, *TRACE_NAMES, "attributes"))) + 36 + 55
"""Of an event beside its own values: names, an id, and the trace context that it may be given."""


@dataclass(slots=True)
class Reader:
    """Events of one source, from a position on."""

    name: str
    """How it is named in the log."""
    records: Records
    parse: Callable[[bytes], Texts]
    mapped: Mapped
    spellings: Spellings
    logger: logging.Logger
    metrics: Metrics
    columns_known: bool
    """Whether the columns were told already; otherwise the first record tells them."""
    monotonic: Callable[[], float] = time.monotonic
    max_entry_bytes: int = DEFAULT_ENTRY_BYTES
    read: int = 0
    unreadable: int = 0
    unreadable_lines: list[int] = field(default_factory=list)
    """The first hundred: their warnings are held back where there are many."""
    left_out: LeftOut = field(init=False)
    _iterator: Iterator[Record | None] | None = None
    _is_done: bool = False

    def __post_init__(self) -> None:
        self.left_out = LeftOut(self.mapped.published())

    def next_batch(self, size: int, now: float, numbering: Numbering) -> Batch | None:
        """Give at most `size` events; fewer, or none, when no more are there just now. None: the end."""
        if self._is_done:
            return None
        if self._iterator is None:
            self._iterator = iter(self.records)
        events: list[Outgoing] = []
        position = (self.records.offset, self.records.line)
        now_ms = int(now * 1000)
        seen_bytes = 0
        constant_bytes = sum(map(len, self.mapped.constants.values()))
        # Bounded by time too: a file full of nonsense, or a slow one, must not hold the loop. And in bytes:
        # of long lines a whole batch fits into no memory.
        ends = self.monotonic() + _TURN_S
        while len(events) < size and seen_bytes < _BATCH_BYTES and self.monotonic() < ends:
            record = next(self._iterator, _END)
            if record is None:
                break
            if record is _END:
                self._is_done = True
                break
            seen_bytes += len(record.data) + constant_bytes
            event = self._event(record, now_ms, numbering)
            if event is not None:
                events.append(event)
            if event is not None or record.is_terminated:
                # A last line without an end may only be half written: it is looked at again.
                position = (record.end, record.end_line)
        return Batch(events, Position(*position, is_done=self._is_done))

    def pass_over(self, events: int, is_stopping: Callable[[], bool]) -> Position | None:
        """Read over so many events, which are published already; gives where they end, None for no events.

        Raises SourceUnusable where there are fewer, and Stopping.
        """
        position = None
        while events > 0:
            if is_stopping():
                raise Stopping("asked to stop while published events were passed over")
            batch = self.next_batch(events, 0.0, Numbering(""))
            if batch is None:
                raise SourceUnusable(f"{self.name}: it has fewer events than are published of it")
            events -= len(batch.events)
            position = batch.position
        return position

    def _event(self, record: Record, now_ms: int, numbering: Numbering) -> Outgoing | None:
        data = record.data
        if record.line == 1 and data.startswith(BOM):
            data = data[len(BOM) :]
        if not record.problem and not data.strip():
            return None
        try:
            texts = self.parse(_usable(record, data))
            self._tell_unused(texts)
            values, own_id = pick(texts, self.mapped, self.spellings)
            more = pick_trace(texts, self.mapped)
            if (attributes := kept(texts, self.mapped.kept)) is not None:
                more += ("attributes", attributes)
            content = _small_enough("".join([*values, *more]).encode(), self.max_entry_bytes)
            is_plain = b"\n" not in content and not more
        except (Problem, AttributesInvalid) as problem:
            self._report(record.line, str(problem))
            return None
        except UnicodeEncodeError:
            self._report(record.line, "a lone surrogate in it, which is no character")
            return None
        self.read += 1
        self.left_out.saw(texts)
        if own_id is not None:
            return _outgoing((own_id, *values), more, None, id_bytes(own_id), is_plain=is_plain)
        event_id, sequence = numbering.take(now_ms)
        return _outgoing((event_id, *values), more, sequence, None, is_plain=is_plain)

    def _tell_unused(self, texts: Texts) -> None:
        if not self.columns_known:
            self.columns_known = True
            tell_unused(self.name, self.mapped, list(texts), self.logger)

    def _report(self, line: int, reason: str) -> None:
        self.unreadable += 1
        self.metrics.count("telemetry_producer_events_total", outcome="unreadable")
        about = {"file": self.name, "line_number": line, "reason": reason}
        if len(self.unreadable_lines) < _MOST_NAMED:
            self.unreadable_lines.append(line)
            self.logger.warning("line_unreadable", extra=about)
        else:
            self.logger.warning("more_lines_unreadable", extra=about)


def _outgoing(
    values: Sequence[str],
    more: Sequence[str],
    sequence: int | None,
    foreign: bytes | None,
    *,
    is_plain: bool,
) -> Outgoing:
    fields = values if is_plain else [*flat(values), *more]
    return Outgoing(fields, sequence, foreign, is_plain=is_plain)


def _small_enough(content: bytes, max_entry_bytes: int) -> bytes:
    """Give the content of an event. Raises Problem where it would be too large with what comes around it."""
    size = _ENVELOPE_BYTES + len(content)
    if size > max_entry_bytes:
        raise Problem(f"{size} bytes as an event, more than MAX_ENTRY_BYTES {max_entry_bytes}")
    return content


def _usable(record: Record, data: bytes) -> bytes:
    """Give a record's bytes. Raises Problem for one that could not be cut out."""
    if record.problem:
        raise Problem(record.problem)
    return data


_END: Final = Record(b"", 0, 0, 0)


def tell_unused(name: str, mapped: Mapped, columns: list[str], logger: logging.Logger) -> None:
    """Say once which columns are not published."""
    if unused := mapped.unused(columns):
        logger.warning("columns_not_published", extra={"file": name, "columns": unused[:100]})


def open_reader(
    source: Bytes,
    name: str,
    kind: Format,
    mapped: Mapped,
    spellings: Spellings,
    logger: logging.Logger,
    metrics: Metrics,
    *,
    start: tuple[int, int] = (0, 0),
    seek: Callable[[int], object] | None = None,
    is_stopping: Callable[[], bool] = lambda: False,
    max_entry_bytes: int = DEFAULT_ENTRY_BYTES,
) -> Reader:
    """Make a reader; `start` is the byte and the number of lines to pass over, by `seek`.

    Raises SourceUnusable when the header of a CSV file can't be used.
    """
    cut = functools.partial(Records, source, max_bytes=max(MAX_RECORD_BYTES, max_entry_bytes))

    def make(records: Records, parse: Callable[[bytes], Texts], *, columns_known: bool) -> Reader:
        return Reader(
            name,
            records,
            parse,
            mapped,
            spellings,
            logger,
            metrics,
            columns_known,
            max_entry_bytes=max_entry_bytes,
        )

    if kind == "jsonl":
        if seek is not None and start[0]:
            seek(start[0])
        records = cut(quoted=False, offset=start[0], line=start[1])
        return make(records, parse_json, columns_known=False)
    records = cut(quoted=True)
    columns = _header(records, name, mapped, is_stopping)
    tell_unused(name, mapped, columns, logger)
    if seek is not None and start[0] > records.offset:
        seek(start[0])
        records = cut(quoted=True, offset=start[0], line=start[1])
    return make(records, csv_parser(columns), columns_known=True)


def _header(records: Records, name: str, mapped: Mapped, is_stopping: Callable[[], bool]) -> list[str]:
    """Read the columns. An empty file has none, and no records either; nor has one that is not waited for."""
    for record in records:
        if record is None and is_stopping():
            break
        if record is None and records.is_too_long:
            raise SourceUnusable(f"{name}:{records.line + 1}: the header can't be read: it has no end")
        if record is None or (not record.problem and not record.data.removeprefix(BOM).strip()):
            continue
        try:
            columns = parse_row(_usable(record, record.data.removeprefix(BOM)))
        except Problem as problem:
            raise SourceUnusable(f"{name}:{record.line}: the header can't be read: {problem}") from None
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice:
            raise SourceUnusable(f"{name}:{record.line}: the header names {', '.join(twice)} twice")
        if lost := [name for name in mapped.kept if name not in columns]:
            raise SourceUnusable(
                f"{name}:{record.line}: no column {lost[0]} to keep (--keep); its columns are "
                f"{', '.join(columns)}"
            )
        if absent := mapped.absent(columns):
            raise SourceUnusable(
                f"{name}:{record.line}: no column for {', '.join(absent)}; its columns are "
                f"{', '.join(columns)} (--map {absent[0]}=COLUMN, or --const {absent[0]}=VALUE)"
            )
        return columns
    return []
