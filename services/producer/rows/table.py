"""A line of a table: its cells, and which of them is which."""

import csv
import re
from collections.abc import Callable, Collection, Sequence
from typing import Final

from services.producer.mapping.mapped import BLANKS, Layout
from services.producer.rows.problem import Problem, shown

_NUMBERED: Final = re.compile(r"#([0-9]{1,5})")
_WHOLE: Final = re.compile(r"[+-]?[0-9]+")
_DIGITS: Final = re.compile(r"[0-9]+")
_LIKELY: Final = (",", ";", "\t", "|")


class ColumnDoubled(Exception):
    """Two columns have the name that is asked for."""


def text_of(data: bytes) -> str:
    """Read a line without its end. Raises Problem."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Problem(
            f"not UTF-8: {error.reason} at byte {error.start + 1} (--encoding latin-1?)", "not UTF-8"
        ) from None
    if "\0" in text:
        raise Problem("a NUL byte in it")
    return text.removesuffix("\n").removesuffix("\r")


def cell_cutter(delimiter: str, quote: str) -> Callable[[bytes], list[str]]:
    """Make what cuts a record into cells; it raises Problem."""
    if delimiter == BLANKS:
        return lambda data: text_of(data).split()

    dialect = csv.reader(
        [],
        strict=True,
        delimiter=delimiter,
        quotechar=quote or None,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        skipinitialspace=delimiter != " ",
    ).dialect

    blank_first = f"{delimiter} "

    def cut(data: bytes) -> list[str]:
        text = text_of(data)
        # What csv would find where nothing is quoted, in a third of the time.
        is_simple = quote and quote not in text and not text.startswith(" ") and blank_first not in text
        if is_simple and "\r" not in text and "\n" not in text:
            return text.split(delimiter)
        try:
            rows = list(csv.reader(_lines(text) if "\n" in text else [text], dialect))
        except csv.Error as error:
            raise Problem(f"not CSV: {error}") from None
        if len(rows) != 1:
            raise Problem(f"not CSV: {len(rows)} rows in one record", "not CSV")
        return rows[0]

    return cut


def _lines(text: str) -> list[str]:
    *first, last = text.split("\n")
    return [*(f"{line}\n" for line in first), last]


def find_delimiter(header: bytes, layout: Layout) -> str:
    """Tell what separates the cells of a header: of the usual ones, the one that cuts it into the most."""
    if layout.delimiter is not None:
        return layout.delimiter

    def cells(delimiter: str) -> int:
        try:
            return len(cell_cutter(delimiter, layout.quote)(header))
        except Problem:
            return 0

    return max(_LIKELY, key=cells)


def find_column(name: str, header: Sequence[str]) -> int | None:
    """Find a column: by its number (`#3`, from 1), its name, or its name but for case and blanks around it.

    Raises ColumnDoubled.
    """
    exact = [at for at, one in enumerate(header) if one == name]
    if not exact and (numbered := _NUMBERED.fullmatch(name)) is not None:
        return int(numbered[1]) - 1 if 0 < int(numbered[1]) <= len(header) else None
    near = exact or [at for at, one in enumerate(header) if one.strip().casefold() == name.strip().casefold()]
    if len(near) > 1:
        raise ColumnDoubled(
            f"{name} is there {len(near)} times: name it by its number, #{near[0] + 1} or another"
        )
    return near[0] if near else None


def named_columns(columns: Sequence[str], taken: Collection[int | None]) -> int:
    """Tell how many columns there are up to the last one that has a name, or is taken by its number."""
    return max((at + 1 for at, name in enumerate(columns) if name.strip() or at in taken), default=0)


def row_cutter(
    cut: Callable[[bytes], list[str]], width: int, named: int | None = None, delimiter: str = ","
) -> Callable[[bytes], list[str]]:
    """Make what cuts a record into as many cells as there are columns; it raises Problem.

    Behind the columns that are named, cells have to be empty: with a value there, it is not known which value
    is that of which column.
    """
    end = width if named is None else named

    def row(data: bytes) -> list[str]:
        cells = cut(data)
        if len(cells) != width:
            # Some writers end each line, or each line but the header, with a delimiter.
            if len(cells) < width or any(cells[width:]):
                raise Problem(
                    f"{len(cells)} columns, and the header has {width}", "another number of columns"
                )
            cells = cells[:width]
        if end < width and any(map(str.strip, cells[end:])):
            raise _without_name(cells, end, delimiter)
        return cells

    return row


def _without_name(cells: Sequence[str], named: int, delimiter: str) -> Problem:
    at = next(at for at in range(named, len(cells)) if cells[at].strip())
    hint = "name all columns (--columns)"
    if delimiter == "," and at and _WHOLE.fullmatch(cells[at - 1].strip()) and _DIGITS.fullmatch(cells[at]):
        hint = (
            f"if {shown(f'{cells[at - 1]},{cells[at]}', 40)} is one number, quote it, or use ; between cells"
        )
    message = f"{shown(cells[at], 40)} is in column #{at + 1}, which has no name: {hint}"
    return Problem(message, "a value in a column without a name")
