"""Rows of a table that are plainly right, by many at once. Pure.

`pick` takes a row with care, and names what is wrong with it; most rows need none of that. One pattern for a
whole line tells them from the others: as many cells as columns, none of them quoted, blanks around none that
is taken, the value a number and the time one of seconds, as the stream has them. Of such rows the events are
the same as with care, in a third of the time. What the pattern does not fit may be right all the same: it is
taken with care.
"""

import functools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from services.contract.attributes import AttributesInvalid, write_attributes
from services.contract.ids import derived_id
from services.contract.producing.outgoing import FIELD_NAMES, TRACE_NAMES, Numbering, Outgoing
from services.producer.mapping.mapped import ATTRIBUTES, BLANKS, UNIT, Mapped
from services.producer.rows.pick import Resolve, id_bytes
from services.producer.rows.problem import Problem
from services.producer.rows.table import ColumnDoubled, find_column
from services.producer.rows.times import TimeReader

_MOST_CHARS: Final = 126
"""Between the first and the last character of a text."""
_LEAST_ENTRY_BYTES: Final = 16_384
"""With less for an entry, each event has to be measured."""
_VALUE: Final = r"[0-9]{1,15}(?:\.[0-9]{1,15})?"
_SECONDS: Final = r"(?:[1-9][0-9]{8}|[1-6][0-9]{9})(?:\.[0-9]{1,15})?"
_FIRST_SECOND: Final = 100_000_000
"""Of those that the pattern fits."""
_MOST_KEPT: Final = 4096
_NAMES: Final = FIELD_NAMES[1:]

Row = Sequence[str]


class _Reading(NamedTuple):
    """One event of each row: where its five fields are. Behind the cells of a row lie the constants."""

    places: tuple[int, int, int, int, int]


class _Content(NamedTuple):
    """What an event says."""

    row: int
    values: tuple[str, ...]
    attributes: str | None


class Taken(NamedTuple):
    """What was made of some rows."""

    events: list[Outgoing]
    rows: int
    size: int
    """Of these rows, in bytes."""
    missing: int
    """Cells without a reading, of rows with others."""


class PlainRows:
    """Makes events of the rows of one table."""

    def __init__(
        self,
        pattern: re.Pattern[str],
        readings: Sequence[_Reading],
        constants: tuple[str, ...],
        mapped: Mapped,
        times: TimeReader,
        ts_at: int | None,
        resolve: Resolve,
        kept: Sequence[int],
        unused: Sequence[tuple[int, str]],
        counts: Counter[str],
    ) -> None:
        self.readings = len(readings)
        """Most events of a row."""
        self._pattern = pattern
        self._is_wide = bool(mapped.values)
        """Whether a cell of a value may be empty, and is no reading then."""
        self._readings = readings
        self._constants = constants
        self._times = times
        self._ts_at = ts_at
        self._id_from = [(name, FIELD_NAMES.index(name) - 1) for name in mapped.id_from]
        self._kpis: dict[str, str] = {}
        self._resolve = resolve
        self._kept = itemgetter(*kept) if kept else None
        self._attributes = functools.lru_cache(_MOST_KEPT)(functools.partial(_attributes, mapped.kept))
        self._unused = unused
        self._counts = counts

    def take(self, data: bytes, now_ms: int, numbering: Numbering) -> Taken | None:
        """Make events of the first of some whole lines, as many as are plainly right; None: not one is."""
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return None
        found: list[Row] = self._pattern.findall(text)
        rows = found if len(found) == text.count("\n") else self._first(text)
        contents = self._contents(rows)
        if not contents:
            return None
        count = contents[-1].row + 1
        if count < len(rows) or rows is not found:
            rows = rows[:count]
            text = text[: len(text) - len(text.split("\n", count)[-1])]
        for at, name in self._unused:
            self._counts[name] += sum(map(bool, map(itemgetter(at), rows)))
        size = len(text) if text.isascii() else len(text.encode())
        missing = count * len(self._readings) - len(contents)
        return Taken(self._events(contents, now_ms, numbering), count, size, missing)

    def _first(self, text: str) -> list[Row]:
        """Give the rows before the first that is not plain."""
        rows: list[Row] = []
        end = 0
        for found in self._pattern.finditer(text):
            if found.start() != end:
                break
            rows.append(found.groups(""))
            end = found.end()
        return rows

    def _contents(self, rows: Sequence[Row]) -> list[_Content]:
        """Give what the events of rows say, up to the first row of which something has to be said."""
        made: list[_Content] = []
        kpis, constants, times = self._kpis, self._constants, self._times
        takes = [(itemgetter(*one.places), one.places[4]) for one in self._readings]
        is_wide = self._is_wide
        attributes: str | None = None
        content = functools.partial(tuple.__new__, _Content)
        for number, row in enumerate(rows):
            cells = (*row, *constants) if constants else row
            if is_wide and not any(cells[at] for _, at in takes):
                break
            try:
                if self._kept is not None:
                    attributes = self._attributes(self._kept(row))
                moment = None if self._ts_at is None else times.seconds(row[self._ts_at])
            except (Problem, AttributesInvalid):
                break
            for take, at in takes:
                if cells[at]:
                    device_id, zone, ts, kpi, value = take(cells)
                    texts = (device_id, zone, moment or ts, kpis.get(kpi) or self._kpi(kpi), value)
                    made.append(content((number, texts, attributes)))
        return made

    def _kpi(self, name: str) -> str:
        if len(self._kpis) >= _MOST_KEPT:
            self._kpis.clear()
        found = self._kpis[name] = self._resolve(name, "0", "")[0]
        return found

    def _events(self, contents: Sequence[_Content], now_ms: int, numbering: Numbering) -> list[Outgoing]:
        if self._id_from:
            return [self._derived(*one[1:]) for one in contents]
        outgoing = functools.partial(tuple.__new__, Outgoing)
        return [
            outgoing(((event_id, *values), sequence, None, False, True))
            if attributes is None
            else _with_attributes((event_id, *values), attributes, sequence, None)
            for (event_id, sequence), (_, values, attributes) in zip(
                numbering.take_many(len(contents), now_ms), contents, strict=True
            )
        ]

    def _derived(self, values: tuple[str, ...], attributes: str | None) -> Outgoing:
        event_id = derived_id(values[2], {name: values[at] for name, at in self._id_from})
        foreign = id_bytes(event_id)
        if attributes is None:
            return Outgoing((event_id, *values), None, foreign)
        return _with_attributes((event_id, *values), attributes, None, foreign)


def plain_rows(
    columns: Sequence[str],
    mapped: Mapped,
    delimiter: str,
    times: TimeReader,
    resolve: Resolve,
    max_entry_bytes: int,
    unused: Sequence[tuple[int, str]],
    counts: Counter[str],
    named: int | None = None,
) -> PlainRows | None:
    """Make what takes plain rows; None where a row needs more than that: units, marks of numbers, ids.

    `named`: behind so many columns every cell is empty.
    """
    layout = mapped.layout
    try:
        at = {name: find_column(mapped.column(name), columns) for name in (*FIELD_NAMES, *TRACE_NAMES)}
        values = [(find_column(one.column, columns), one.constants) for one in mapped.values]
        kept = [find_column(name, columns) for name in mapped.kept]
    except ColumnDoubled:
        return None
    needs_care = (
        delimiter == BLANKS
        or len(columns) < 2
        or mapped.decimal != "."
        or mapped.missing
        or mapped.times.columns
        or at["ts"] is None
        or (at["value"] is None and not mapped.values)
        or (at["event_id"] is not None and not mapped.id_from and not mapped.values)
        or any(at[name] is not None for name in TRACE_NAMES)
        or {UNIT, ATTRIBUTES} & mapped.columns.keys()
        or UNIT in mapped.constants
        or any(UNIT in own for _, own in values)
        or None in kept
        or any(one is None for one, _ in values)
        or any(
            "\n" in text for own in (mapped.constants, *(own for _, own in values)) for text in own.values()
        )
        or max_entry_bytes < _LEAST_ENTRY_BYTES
        or (layout.comment and delimiter.isspace())
    )
    if needs_care:
        return None
    constants: list[str] = []
    readings = _readings(at, values, mapped.constants, len(columns), constants)
    value_at = {one.places[4] for one in readings}
    texts = {place for one in readings for place in (*one.places[:2], one.places[3])}
    ts_at = at["ts"]
    if ts_at in value_at or (value_at | {ts_at}) & {*kept, *texts}:
        return None
    is_seconds = times.takes_seconds(_FIRST_SECOND)
    # A byte order mark begins a line where another file was put behind this one.
    edge, inside = (
        rf"[^{out}\x00-\x1f\x7f-\x9f{re.escape(delimiter + layout.quote)}]" for out in (r"\s\ufeff", "")
    )
    text = rf"{edge}(?:{inside}{{0,{_MOST_CHARS}}}{edge})?"
    cells = []
    for place in range(len(columns)):
        if place in value_at:
            cells.append(f"({_VALUE})?" if mapped.values else f"({_VALUE})")
        elif place == ts_at:
            cells.append(f"({_SECONDS})" if is_seconds else f"({text})")
        elif place in texts:
            cells.append(f"({text})")
        elif place in kept:
            cells.append(f"((?:{edge}{inside}{{0,{_MOST_CHARS}}})?)")
        elif named is not None and place >= named:
            cells.append("()")
        else:
            cells.append(f"((?:{edge}{inside}*)?)")
    no_comment = f"(?!{re.escape(layout.comment)})" if layout.comment else ""
    pattern = re.compile(f"^{no_comment}{re.escape(delimiter).join(cells)}\\r?\\n", re.MULTILINE)
    return PlainRows(
        pattern,
        readings,
        tuple(constants),
        mapped,
        times,
        None if is_seconds else ts_at,
        resolve,
        [one for one in kept if one is not None],
        unused,
        counts,
    )


def _readings(
    at: Mapping[str, int | None],
    values: Sequence[tuple[int | None, Mapping[str, str]]],
    given: Mapping[str, str],
    width: int,
    constants: list[str],
) -> list[_Reading]:
    """Tell where the fields of each event of a row are, and list the constants among them."""

    def place(name: str, own: Mapping[str, str]) -> int:
        column = at[name]
        if not own.get(name) and column is not None:
            return column
        constants.append(own.get(name) or given[name].strip())
        return width + len(constants) - 1

    made = []
    for column, own in values or [(None, {})]:
        found = [place(name, own) if name != "value" or column is None else column for name in _NAMES]
        made.append(_Reading((found[0], found[1], found[2], found[3], found[4])))
    return made


def _attributes(names: Sequence[str], found: str | tuple[str, ...]) -> str | None:
    """Write what is kept of a row; None where all of it is empty. Raises AttributesInvalid."""
    texts = (found,) if isinstance(found, str) else found
    return write_attributes({name: text for name, text in zip(names, texts, strict=True) if text})


def _with_attributes(
    values: Sequence[str], attributes: str, sequence: int | None, foreign: bytes | None
) -> Outgoing:
    event_id, device_id, zone, ts, kpi, value = values
    fields = [
        "event_id", event_id, "device_id", device_id, "zone", zone, "ts", ts, "kpi", kpi, "value", value,
        "attributes", attributes,
    ]  # fmt: skip
    return Outgoing(fields, sequence, foreign, is_plain=False)
