"""Make a reader of a source: by its format, with its header, from a position on."""

import functools
import logging
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from services.contract.event import DEFAULT_ENTRY_BYTES
from services.contract.producing.outgoing import FIELD_NAMES, TRACE_NAMES
from services.producer.files.account import Account
from services.producer.files.decode import BOM, SourceBroken, SourceUnusable
from services.producer.files.documents import Documents
from services.producer.files.lines import MAX_RECORD_BYTES, Bytes, Quotes, Record, Records
from services.producer.files.read import MOST_OF_A_RECORD, HeaderAgain, Reader, Source
from services.producer.keeping import OTHERS, LeftOut
from services.producer.mapping.mapped import ATTRIBUTES, BLANKS, UNIT, Format, Mapped
from services.producer.rows.forms import with_defaults
from services.producer.rows.influx import parse_line, rows_of
from services.producer.rows.nested import (
    COLUMNS,
    finder,
    outward,
    parse_json,
    parse_object,
    path_of_lists,
    resolved,
    unfold,
)
from services.producer.rows.pick import Find, Picked, Picker, Resolve
from services.producer.rows.plain import plain_rows
from services.producer.rows.problem import Problem
from services.producer.rows.table import (
    ColumnDoubled,
    cell_cutter,
    find_column,
    find_delimiter,
    named_columns,
    row_cutter,
    text_of,
)
from services.producer.rows.times import TimeReader
from services.runtime.redact import shortened
from services.runtime.telemetry.metrics import Metrics

_LONGEST_COUNTED: Final = 128
_MOST_COLUMNS: Final = 100
"""That are named in a log line."""
_LONGEST_SHOWN: Final = 200
"""Characters of a row that a message quotes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """What a reader is made with, whatever it reads."""

    name: str
    logger: logging.Logger
    metrics: Metrics
    resolve: Resolve
    is_stopping: Callable[[], bool] = lambda: False
    max_entry_bytes: int = DEFAULT_ENTRY_BYTES
    most_of_a_record: int = MOST_OF_A_RECORD


def open_reader(
    source: Bytes,
    kind: Format,
    mapped: Mapped,
    wants: Wants,
    *,
    start: tuple[int, int] = (0, 0),
    rewind: Callable[[int], Bytes] | None = None,
) -> Reader:
    """Make a reader; `start` is the byte and the number of lines to pass over.

    `rewind` gives the source again from a byte on; without it what was read before is read again and dropped.
    Raises SourceUnusable when the header of a table can't be used.
    """
    mapped = with_defaults(mapped, kind)
    if kind == "csv":
        return _table(source, mapped, wants, start, rewind)
    if kind in {"json", "jsonl"}:
        mapped = _with_unit(mapped, [UNIT])
    max_bytes = max(MAX_RECORD_BYTES, wants.max_entry_bytes)
    account = Account()
    records: Source
    if kind in {"json", "senml"}:
        keys, others = path_of_lists(mapped.readings)
        account.unit = "readings"
        records = Documents(
            source,
            wants.name,
            keys=keys,
            whole=kind == "senml",
            offset=start[0],
            line=start[1],
            max_bytes=max_bytes,
        )
        has_columns = mapped.readings.endswith(COLUMNS)
        parse = (
            _senml if kind == "senml" else functools.partial(_element, others=others, has_columns=has_columns)
        )
        find: Find = finder if kind == "senml" else lambda path: outward(finder(path))
    else:
        if rewind is not None and start[0]:
            source = rewind(start[0])
        records = Records(
            source, offset=start[0] if rewind else 0, line=start[1] if rewind else 0, max_bytes=max_bytes
        )
        if rewind is None and start[0]:
            records = _Behind(records, start[0])
        if kind == "influx":
            parse = functools.partial(_fields, is_wide=bool(mapped.values))
            find = lambda name: lambda row: row.get(name)  # noqa: E731
            mapped = replace(mapped, layout=replace(mapped.layout, comment=mapped.layout.comment or "#"))
        elif mapped.readings:
            first, others = path_of_lists(mapped.readings)
            has_columns = mapped.readings.endswith(COLUMNS)
            parse = functools.partial(_unfolded, others=(first, *others), has_columns=has_columns)
            find = lambda path: outward(finder(path))  # noqa: E731
        else:
            parse = lambda _, data: (parse_object(data),)  # noqa: E731
            find = finder
    reader = _reader(records, parse, mapped, wants, find, account, start)
    if kind == "jsonl" and not mapped.readings:
        reader.on_first = lambda row: tell_unused(wants, _with_attributes(mapped, list(row)), list(row))
        seen = LeftOut({re.split(r"[.\[]", name)[0] for name in _wanted(mapped)} | set(_wanted(mapped)))
        own_id = finder(mapped.column("event_id"))
        reader.see = lambda row: seen.saw(
            {
                name: one
                for name, one in row.items()
                if one is not None and not (name == ATTRIBUTES and own_id(row) and not mapped.id_from)
            }
        )
        reader.left_out = seen.counts
    return reader


def _with_attributes(mapped: Mapped, columns: Sequence[str]) -> Mapped:
    """Have a column `attributes` be taken where there is one of event ids: such events are whole."""
    names = {name.strip().casefold() for name in columns}
    is_whole = {mapped.column("event_id").casefold(), ATTRIBUTES} <= names
    if mapped.values or mapped.id_from or ATTRIBUTES in mapped.columns or not is_whole:
        return mapped
    return replace(mapped, columns={**mapped.columns, ATTRIBUTES: ATTRIBUTES})


def _with_unit(mapped: Mapped, columns: Sequence[str]) -> Mapped:
    """Have a column `unit` say what values are measured in, where they stand in one of our own name too."""
    names = [name.strip().casefold() for name in columns]
    is_told = UNIT in mapped.columns or UNIT in mapped.constants or UNIT in map(str.casefold, _wanted(mapped))
    is_ours = not mapped.values and mapped.column("value").strip().casefold() == "value"
    if is_told or not is_ours or names.count(UNIT) != 1:
        return mapped
    return replace(mapped, columns={**mapped.columns, UNIT: columns[names.index(UNIT)]})


def _reader(
    records: Source,
    parse: Callable[[Record, bytes], Iterable[Any]],
    mapped: Mapped,
    wants: Wants,
    find: Find,
    account: Account,
    position: tuple[int, int],
    columns: Sequence[str] = (),
) -> Reader:
    times = TimeReader(mapped.times)
    return Reader(
        wants.name,
        records,
        parse,
        Picker(mapped, find, times, wants.resolve, _usual(columns, mapped)),
        times,
        wants.logger,
        wants.metrics,
        account,
        position,
        comment=mapped.layout.comment.encode(),
        constant_bytes=sum(map(len, mapped.constants.values())),
        max_entry_bytes=wants.max_entry_bytes,
        most_of_a_record=wants.most_of_a_record,
        published=account.copy(),
        published_line=position[1],
    )


def _usual(columns: Sequence[str], mapped: Mapped) -> Callable[[list[str]], tuple[str, ...]] | None:
    """Make what takes the five fields of a row at once; None where there is more to it."""
    if not columns or mapped.values or mapped.times.columns:
        return None
    own, *fields = (find_column(mapped.column(name), columns) for name in FIELD_NAMES)
    traces = [name for name in TRACE_NAMES if find_column(mapped.column(name), columns) is not None]
    if own is not None or traces or {UNIT, ATTRIBUTES} & mapped.columns.keys() or UNIT in mapped.constants:
        return None
    constants = list(mapped.constants.values())
    constant_at = {name: len(columns) + at for at, name in enumerate(mapped.constants)}
    places = [
        constant_at[name] if at is None else at for name, at in zip(FIELD_NAMES[1:], fields, strict=True)
    ]
    take: Callable[[list[str]], tuple[str, ...]] = operator.itemgetter(*places)
    return (lambda row: take(row + constants)) if constants else take


class _Behind:
    """Records behind a byte, of a source that is read from its beginning."""

    def __init__(self, records: Source, start: int) -> None:
        self._records = records
        self._start = start

    @property
    def offset(self) -> int:
        return self._records.offset

    @property
    def line(self) -> int:
        return self._records.line

    def __iter__(self) -> Any:
        return (record for record in self._records if record is None or record.end > self._start)


def _element(
    record: Record, data: bytes, *, others: tuple[tuple[str, ...], ...], has_columns: bool
) -> Iterable[Any]:
    return unfold((parse_json(data), *record.around), others, has_columns=has_columns)


def _unfolded(
    _: Record, data: bytes, *, others: tuple[tuple[str, ...], ...], has_columns: bool
) -> Iterable[Any]:
    return unfold((parse_json(data),), others, has_columns=has_columns)


def _senml(_: Record, data: bytes) -> Iterable[Any]:
    found = parse_json(data)
    return resolved(found if isinstance(found, list) else [found])


def _fields(_: Record, data: bytes, *, is_wide: bool) -> Iterable[Any]:
    return rows_of(parse_line(data), is_wide=is_wide)


def _table(
    source: Bytes,
    mapped: Mapped,
    wants: Wants,
    start: tuple[int, int],
    rewind: Callable[[int], Bytes] | None,
) -> Reader:
    max_bytes = max(MAX_RECORD_BYTES, wants.max_entry_bytes)
    records = Records(source, max_bytes=max_bytes)
    head = _Head(records, mapped, wants)
    columns = head.read()
    mapped = _with_unit(_with_attributes(mapped, columns), columns)
    cut = cell_cutter(head.delimiter, mapped.layout.quote)
    find = _finder_of(columns, mapped, wants, head.line)
    named = named_columns(columns, {find_column(name, columns) for name in _wanted(mapped)})
    row = row_cutter(cut, len(columns), named, head.delimiter)
    tell_unused(wants, mapped, columns)
    quotes = None
    if mapped.layout.quote and head.delimiter != BLANKS:
        looking = Picker(mapped, find, TimeReader(mapped.times), wants.resolve)
        quotes = Quotes(
            head.delimiter.encode(),
            mapped.layout.quote.encode(),
            mapped.layout.comment.encode(),
            is_row=functools.partial(
                _is_row, looking, row, head.delimiter, mapped.layout.quote, len(columns)
            ),
            fits=functools.partial(_fits, row),
        )
    account, position = head.account, head.position
    ahead: list[Record | None] = [] if head.first is None else [head.first]
    if start[0] > position[0]:
        account, position = Account(), start
        if rewind is not None:
            records = Records(
                rewind(start[0]), quotes=quotes, offset=start[0], line=start[1], max_bytes=max_bytes
            )
            ahead = []
    records.quotes = quotes
    behind: Source = records if rewind is not None or not start[0] else _Behind(records, start[0])
    if ahead and head.first is not None and head.first.end <= start[0]:
        ahead = []
    reader = _reader(behind, lambda _, data: (row(data),), mapped, wants, find, account, position, columns)
    reader.ahead = iter(ahead)
    if mapped.layout.has_header and columns:
        reader.on_refused = _Headers(head.cells, wants.name, _wanted(mapped)).look
    unused, counts = _unused(mapped, columns), Counter[str]()
    if behind is records:
        plain = plain_rows(
            columns,
            mapped,
            head.delimiter,
            reader.times,
            wants.resolve,
            min(wants.max_entry_bytes, max_bytes),
            unused,
            counts,
            named,
        )
        reader.plain = None if plain is None else (records, plain)
    if unused:
        reader.see, reader.left_out = functools.partial(_count_left_out, unused, counts), counts
    return reader


def _is_row(
    picker: Picker, row: Callable[[bytes], list[str]], delimiter: str, quote: str, width: int, line: bytes
) -> bool:
    """Tell whether a line is a row by itself, with a time and a reading; its own last quote may be open."""
    try:
        cells = [cell.strip() for cell in text_of(line).split(delimiter)]
        if len(cells) != width:
            cells = row(line)
        is_open = False
        for at, cell in enumerate(cells):
            if quote not in cell:
                continue
            if is_open or not cell.startswith(quote):
                return False  # what closes here was opened in a line before
            rest = cell[1:].replace(quote * 2, "")
            if quote in rest[:-1]:
                return False
            is_open = not rest.endswith(quote)
            cells[at] = cell.strip(quote)
        return any(isinstance(one, Picked) for one in picker.events(cells))
    except Problem:
        return False


def _fits(row: Callable[[bytes], list[str]], data: bytes) -> bool:
    try:
        row(data)
    except Problem:
        return False
    return True


class _Head:
    """What stands before the rows of a table: lines to skip, the header, and more lines to skip."""

    def __init__(self, records: Records, mapped: Mapped, wants: Wants) -> None:
        self.account = Account()
        self.delimiter = mapped.layout.delimiter or ","
        self.line = 0
        self.first: Record | None = None
        """The first row, where it had to be looked at."""
        self.cells: list[str] = []
        """Of the header itself, whatever its columns are to be called."""
        self.position = (0, 0)
        self._records = records
        self._layout = mapped.layout
        self._wants = wants

    def read(self) -> list[str]:
        """Give the names of the columns; none for a source that is empty, or not waited for."""
        layout = self._layout
        for _ in range(layout.skip_lines):
            if (record := self._next()) is None:
                return []
            self._count(record, "skipped")
        if layout.quote:
            self._records.quotes = Quotes(
                self.delimiter[:1].encode(), layout.quote.encode(), layout.comment.encode()
            )
        record = self._header()
        if record is None:
            return []
        data = record.data.removeprefix(BOM)
        delimiter = find_delimiter(data, layout) if self.delimiter == "," else self.delimiter
        self.delimiter = layout.delimiter or delimiter
        if record.problem:
            raise SourceUnusable(f"{self._place(record)}: the header can't be read: {record.problem}")
        try:
            cells = cell_cutter(self.delimiter, layout.quote)(data)
        except Problem as problem:
            raise SourceUnusable(f"{self._place(record)}: the header can't be read: {problem}") from None
        if not layout.has_header:
            self.first = record
            return list(layout.columns) or [f"#{number}" for number in range(1, len(cells) + 1)]
        self._count(record, "header")
        self.cells = cells
        self._records.quotes = None
        for _ in range(layout.skip_after_header):
            if (record := self._next()) is None:
                break
            self._count(record, "after")
        return list(layout.columns) or cells

    def _header(self) -> Record | None:
        """Find the first line that is none of what may stand before it."""
        comment = self._layout.comment.encode()
        while (record := self._next()) is not None:
            data = record.data.removeprefix(BOM)
            self.line = record.line
            if record.problem:
                return record
            if not data.strip():
                self._count(record, "blank")
            elif comment and data.lstrip().startswith(comment):
                self._count(record, "comment")
            elif data.lower().startswith(b"sep=") and len(said := data[4:].rstrip(b"\r\n")) == 1:
                self._count(record, "header")  # what spreadsheets write, and read
                self.delimiter = said.decode("ascii", "replace")
            else:
                return record
        return None

    def _next(self) -> Record | None:
        for record in self._records:
            if record is not None:
                return record
            if self._wants.is_stopping():
                return None
            if self._records.is_too_long:
                raise SourceUnusable(
                    f"{self._wants.name}:{self._records.line + 1}: the header can't be read: it has no end"
                )
        return None

    def _count(self, record: Record, why: Any) -> None:
        self.account.leave_out(record.end_line - record.line + 1, why)
        self.position = (record.end, record.end_line)

    def _place(self, record: Record) -> str:
        return f"{self._wants.name}:{record.line}"


class _Headers:
    """Tells a header that stands between rows: of the same table once more, or of another one.

    Behind the header of another one, values would be taken for those of the columns that were there before.
    """

    def __init__(self, header: Sequence[str], name: str, wanted: Sequence[str]) -> None:
        self._header = [_plain(cell) for cell in header]
        self._names = {cell for cell in self._header if cell}
        self._name = name
        taken = {_plain(one) for one in wanted}
        self._taken = [at for at, cell in enumerate(self._header) if cell in taken or f"#{at + 1}" in taken]

    def look(self, line: int, row: Sequence[str]) -> None:
        """Look at a row that is refused. Raises HeaderAgain, and SourceBroken for that of another table."""
        cells = [_plain(cell) for cell in row]
        if cells == self._header:
            raise HeaderAgain
        filled = [cell for cell in cells if cell]
        known = sum(cell in self._names for cell in filled)
        has_own = any(cells[at] and cells[at] == self._header[at] for at in self._taken)
        is_mostly_names = known > 1 and 2 * known >= len(filled)
        if is_mostly_names or (has_own and not any(map(_has_digits, filled))):
            shown = shortened(", ".join(cell.strip() for cell in row), _LONGEST_SHOWN)
            raise SourceBroken(
                f"{self._name}:{line}: another header: {shown}; what stands behind it is another "
                "table: put it into a file of its own"
            )


def _plain(text: str) -> str:
    return text.strip().casefold()


def _has_digits(text: str) -> bool:
    return any(map(str.isdigit, text))


def _finder_of(columns: Sequence[str], mapped: Mapped, wants: Wants, line: int) -> Find:
    """Make what finds columns, once it is sure that what is wanted is there. Raises SourceUnusable."""
    if not columns:
        return lambda _: None
    found: dict[str, int | None] = {}
    errors: list[str] = []
    for name in _wanted(mapped):
        try:
            found[name] = find_column(name, columns)
        except ColumnDoubled as error:
            errors.append(str(error))
    absent = [name for name in _absent_fields(mapped) if found.get(mapped.column(name), 0) is None]
    if absent:
        hint = f"--map {absent[0]}=COLUMN, or --const {absent[0]}=VALUE"
        errors.append(f"no column for {', '.join(absent)}; its columns are {', '.join(columns)} ({hint})")
    if lost := [name for name in mapped.kept if found.get(name, 0) is None]:
        errors.append(f"no column {lost[0]} to keep (--keep); its columns are {', '.join(columns)}")
    others = [*mapped.times.columns, *(one.column for one in mapped.values)]
    if gone := [name for name in others if found.get(name, 0) is None]:
        errors.append(f"no column {', '.join(gone)}; its columns are {', '.join(columns)}")
    if errors:
        raise SourceUnusable(f"{wants.name}:{line}: {'; '.join(errors)}")

    def find(name: str) -> Callable[[Any], Any] | None:
        at = found.get(name)
        return None if at is None else lambda row: row[at]

    return find


def _wanted(mapped: Mapped) -> list[str]:
    """List the columns that a mapping looks for."""
    fields = [mapped.column(name) for name in (*FIELD_NAMES, *TRACE_NAMES)]
    fields += [mapped.columns[name] for name in (UNIT, ATTRIBUTES) if name in mapped.columns]
    if mapped.id_from:
        fields.remove(mapped.column("event_id"))
    if mapped.values:
        fields = [name for name in fields if name not in {"event_id", "kpi", "value"}]
    if mapped.times.columns:
        fields = [name for name in fields if name != "ts"]
    return [*fields, *mapped.times.columns, *(one.column for one in mapped.values), *mapped.kept]


def _absent_fields(mapped: Mapped) -> list[str]:
    """List the fields that have to be found."""
    given = set(mapped.constants)
    if mapped.times.columns:
        given.add("ts")
    if mapped.values:
        given |= {"kpi", "value"}
        given |= {
            name for name in ("device_id", "zone") if all(name in one.constants for one in mapped.values)
        }
    wanted = [*FIELD_NAMES[1:], *((UNIT,) if UNIT in mapped.columns else ())]
    return [name for name in wanted if name not in given]


def _count_left_out(unused: Sequence[tuple[int, str]], counts: Counter[str], row: list[str]) -> None:
    for at, name in unused:
        if row[at]:
            counts[name] += 1


def _unused(mapped: Mapped, columns: Sequence[str]) -> list[tuple[int, str]]:
    """List the columns that nothing is taken from: their places, and the names that they are counted by."""
    used = {find_column(name, columns) for name in _wanted(mapped)}
    rest = [(at, name) for at, name in enumerate(columns) if at not in used]
    return [
        (at, name if number < _MOST_COLUMNS and len(name) <= _LONGEST_COUNTED else OTHERS)
        for number, (at, name) in enumerate(rest)
    ]


def tell_unused(wants: Wants, mapped: Mapped, columns: Sequence[str]) -> None:
    """Say once which columns are not published."""
    used = {name.strip().casefold() for name in _wanted(mapped)}
    numbers = {f"#{at}" for at in range(1, len(columns) + 1)} & used
    unused = [
        name
        for at, name in enumerate(columns, 1)
        if name.strip().casefold() not in used
        and f"#{at}" not in numbers
        and not any(one.startswith((f"{name.casefold()}.", f"{name.casefold()}[")) for one in used)
    ]
    if unused:
        wants.logger.warning(
            "columns_not_published", extra={"file": wants.name, "columns": unused[:_MOST_COLUMNS]}
        )
