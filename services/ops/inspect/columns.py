"""Columns by what is in them: numbers and how they are written, times, texts."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from services.ops.inspect.names import rank
from services.producer.mapping.mapped import NO_READING, ORDERS, Times
from services.producer.rows.problem import Problem
from services.producer.rows.times import TimeReader
from services.producer.spellings import NumberStyle, number_text, split

Kind = Literal["number", "time", "clock", "text", "empty"]

MOST_CELLS: Final = 400
"""Of a column that are looked at."""
MOST_COLUMNS: Final = 500
_MOSTLY: Final = 0.8
_LIKELY: Final = 40
"""Times as far apart as by the best order: a day apart may be a month apart, and is hardly a year."""
_MARKS: Final = re.compile(r"[^\w\s]{1,8}|#[A-Z/0!?]{1,8}")
_CLOCK: Final = re.compile(r"\d{1,2}(?:[:h]\d{2}|[:.]\d{2}[:.]\d{2})(?:[:.,]\d+)*(?: ?[AaPp]\.?[Mm]\.?)?")
_EPOCH: Final = re.compile(r"\d{5,}(?:[.,]\d*)?|\d+[.,]\d+[eE]\+?\d+")
_DAY_AND_HOUR: Final = re.compile(
    r"20[0-2][0-9](?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])(?:[01][0-9]|2[0-3])"
)
_PATTERN: Final = "%Y%m%d%H"
_ZONED: Final = re.compile(r"[:T]\d[\d:.,]* ?(?:Z|z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)(?:\[.*)?\Z")
_THREE: Final = re.compile(r"[+-]?\d{1,3},\d{3}")
_STYLES: Final = (
    NumberStyle(),
    NumberStyle(","),
    NumberStyle(",", "."),
    NumberStyle(".", ","),
    NumberStyle(",", " "),
    NumberStyle(".", " "),
    NumberStyle(",", "'"),
    NumberStyle(".", "'"),
)
"""The usual ones first: of two that read as much, the earlier is taken."""


@dataclass(slots=True)
class Column:
    """A column, or a path in JSON."""

    name: str
    """As a mapping names it: by its name, or by its number where it has none of its own."""
    title: str
    """What the source calls it."""
    cells: list[str] = field(default_factory=list)
    unit: str = ""
    """What a row of units says of it."""
    kind: Kind = "text"
    time_format: str = "auto"
    use: str = ""
    """What the mapping takes it for."""

    @property
    def filled(self) -> list[str]:
        """The cells with something in them."""
        return [cell for cell in self.cells if cell.strip().casefold() not in NO_READING]

    @property
    def examples(self) -> list[str]:
        """Two or three different ones."""
        return list(dict.fromkeys(self.filled))[:3]


def style_of(columns: Sequence[Column]) -> NumberStyle:
    """Tell how a source writes numbers: the way in which most of its columns are some."""
    every = [
        [cell for cell in column.filled[:100] if any(map(str.isdigit, cell))]
        for column in columns[:MOST_COLUMNS]
    ]

    def read(style: NumberStyle) -> int:
        return sum(
            sum(number_text(cell, style) is not None for cell in cells) >= _MOSTLY * len(cells)
            for cells in every
            if cells
        )

    return max(_STYLES, key=read)


def is_unclear(columns: Sequence[Column], style: NumberStyle) -> str:
    """Give a number that may be another, such as 1,234; empty where there is none."""
    if style.decimal != ",":
        return ""
    cells = [cell for column in columns for cell in column.filled]
    commas = [cell for cell in cells if "," in cell and number_text(cell, style)]
    return commas[0] if commas and all(_THREE.fullmatch(cell.strip()) for cell in commas) else ""


def tell_kinds(columns: Sequence[Column], style: NumberStyle, times: Times) -> None:
    """Tell what each column holds."""
    for column in columns[:MOST_COLUMNS]:
        cells = column.filled[:MOST_CELLS]
        if not cells:
            column.kind = "empty"
            continue
        needed = _MOSTLY * len(cells)
        if sum(_CLOCK.fullmatch(cell.strip()) is not None for cell in cells) >= needed:
            column.kind = "clock"
            continue
        form, read = time_format(cells, times)
        numbers = sum(is_number(cell, style) for cell in cells)
        marks = sum(_MARKS.fullmatch(cell.strip()) is not None for cell in cells)
        # A large number is a time where it is called one.
        is_named = not column.title or rank("ts", column.title) is not None
        if read >= needed and (is_named or not all(map(_is_epoch, cells))):
            column.kind, column.time_format = "time", form
        elif numbers and numbers >= _MOSTLY * (len(cells) - marks):
            column.kind = "number"


def is_number(cell: str, style: NumberStyle) -> bool:
    """Tell whether a cell is a number, with its unit or without."""
    return split(cell, style)[0] is not None


def missing_marks(columns: Sequence[Column], style: NumberStyle) -> list[str]:
    """List what stands for no reading in columns of numbers: signs without a letter or digit."""
    found: Counter[str] = Counter()
    for column in columns:
        if column.kind == "number":
            found.update(
                cell.strip()
                for cell in column.filled
                if not is_number(cell, style) and _MARKS.fullmatch(cell.strip())
            )
    return [mark for mark, _ in found.most_common(10)]


def time_format(texts: Sequence[str], times: Times) -> tuple[str, int]:
    """Tell how times are written, and how many of them are some."""
    best, most = times.format, -1
    if best == "auto" and texts and all(map(_DAY_AND_HOUR.fullmatch, texts)):
        return _PATTERN, len(texts)  # as seconds they would be some of the year 2034
    for form in (times.format,) if times.format != "auto" else ("auto", "ms", "us", "ns", *_orders(texts)):
        reader = TimeReader(replace(times, format=form))
        read = sum(_is_time(reader, text) for text in texts)
        if read > most:
            best, most = form, read
        if read == len(texts):
            break
    return best, most


def other_order(texts: Sequence[str], form: str) -> str:
    """Give another order that days may be in as well; empty: there is none, or dots stand between them."""
    spans = _spans(texts)
    likely = _LIKELY * spans[form]
    others = [order for order, span in spans.items() if order != form and span <= likely]
    return others[0] if others and all("." not in text[:6] for text in texts) else ""


def names_no_zone(texts: Sequence[str]) -> bool:
    """Tell whether times are those of clocks on a wall."""
    return any(
        not _ZONED.search(text.strip()) and (not _is_epoch(text) or _DAY_AND_HOUR.fullmatch(text) is not None)
        for text in texts
    )


def _is_epoch(text: str) -> bool:
    """Tell whether a time is a number, such as that of the seconds since 1970."""
    return _EPOCH.fullmatch(text.strip()) is not None


def _orders(texts: Sequence[str]) -> tuple[str, ...]:
    """Give the orders in question: of two that fit, first the one in which times lie closer together."""
    spans = _spans(texts)
    return tuple(sorted(spans, key=lambda form: spans[form]))


def _spans(texts: Sequence[str]) -> dict[str, float]:
    """Give the seconds from the first to the last time by each order; infinite: they are in another."""
    spans = {}
    for form in (*ORDERS[1:], ORDERS[0]):
        reader = TimeReader(Times(format=form))
        read = [float(reader.seconds(text)) for text in texts if _is_time(reader, text)]
        spans[form] = max(read) - min(read) if len(read) == len(texts) and read else float("inf")
    return spans


def _is_time(reader: TimeReader, text: str) -> bool:
    try:
        reader.seconds(text)
    except Problem:
        return False
    return True
