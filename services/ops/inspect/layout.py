"""How a table is laid out: what separates its cells, where its header is, and what stands around it."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.ops.inspect.columns import MOST_CELLS, MOST_COLUMNS, Column, style_of, tell_kinds
from services.producer.files.decode import BOM
from services.producer.mapping.mapped import BLANKS, Layout, Mapped
from services.producer.rows.problem import Problem
from services.producer.rows.table import cell_cutter
from services.producer.spellings import NumberStyle, split

_LIKELY: Final = (",", ";", "\t", "|", BLANKS)
_LINES: Final = 60
"""By which the layout is told."""
_COMMENTS: Final = ("#", "//", "%")
_WORD: Final = re.compile(r"[^\W\d_]{2,}")
_NUMBERED: Final = re.compile(r"#\d+")
_MOST_BEHIND: Final = 3
"""Lines between the header and the data."""
_MOST_BYTES: Final = 1 << 16
"""Of a line: one that is longer tells no layout."""


@dataclass(slots=True)
class Seen:
    """A table's layout and its columns."""

    layout: Layout
    columns: list[Column]
    header_line: int = 0
    """From 1; 0: there is none."""


def see_table(text: bytes, given: Mapped) -> Seen:
    """Tell a table's layout from its beginning; what is given stays."""
    lines = [line.rstrip(b"\r") for line in text.removeprefix(BOM).split(b"\n", MOST_CELLS + _LINES)]
    lines = [line if len(line) <= _MOST_BYTES else b"" for line in lines[: MOST_CELLS + _LINES]]
    layout = given.layout
    if not layout.comment and (mark := _comment(lines)):
        layout = replace(layout, comment=mark)
    comment = layout.comment.encode()
    at = [
        number
        for number, line in enumerate(lines)
        if line.strip() and not (comment and line.lstrip().startswith(comment))
    ]
    if at and lines[at[0]].lower().startswith(b"sep=") and len(lines[at[0]]) == 5:
        if layout.delimiter is None:
            layout = replace(layout, delimiter=lines[at[0]][4:].decode("ascii", "replace"))
        del at[0]
    at = [number for number in at if number >= layout.skip_lines]
    if layout.delimiter is None:
        first_lines = [lines[number] for number in at[:_LINES]]
        layout = replace(layout, delimiter=_delimiter(first_lines, layout.quote))
    rows = {number: cells for number in at if (cells := _cells(lines[number], layout))}
    first = layout.skip_lines and next(iter(rows), 0)
    if not layout.skip_lines:
        first = _first_full(rows)
        if behind_it := _behind_a_wider(rows, first):
            # A logger's own line may have more in it than the names of the columns below.
            later = [cells for number, cells in rows.items() if number >= behind_it]
            first = first if _has_data(later[0], later, given) else behind_it
        if any(number < first and lines[number].lower()[:4] != b"sep=" for number in at):
            layout = replace(layout, skip_lines=first)
    body = [cells for number, cells in rows.items() if number >= first]
    if not body:
        return Seen(layout, [])
    is_header = layout.has_header and (bool(layout.skip_after_header) or not _has_data(body[0], body, given))
    layout = replace(layout, has_header=is_header)
    head = body[0]
    if is_header:
        body = body[1:]
    titles = list(layout.columns) or (head if is_header else [""] * len(head))
    behind = layout.skip_after_header
    if is_header and not behind:
        behind = _behind(body, len(titles), given)
        layout = replace(layout, skip_after_header=behind)
    columns = [Column(name, title) for name, title in zip(_named(titles), titles, strict=True)]
    for row in body[:behind] if is_header else []:
        for column, cell in zip(columns, row, strict=False):
            column.unit = column.unit or cell.strip()
    _fill(columns, body[behind:] if is_header else body)
    return Seen(layout, columns, first + 1 if is_header else 0)


def _comment(lines: Sequence[bytes]) -> str:
    """Find what lines that are no data begin with, if some are such and some are none."""
    filled = [line.lstrip() for line in lines if line.strip()]
    for mark in _COMMENTS:
        marked = sum(line.startswith(mark.encode()) for line in filled)
        if 0 < marked < len(filled) and filled[0].startswith(mark.encode()):
            return mark
    return ""


def _cells(line: bytes, layout: Layout) -> list[str]:
    try:
        return cell_cutter(layout.delimiter or ",", layout.quote)(line)
    except (Problem, csv.Error):
        return []


def _delimiter(lines: Sequence[bytes], quote: str) -> str:
    """Take what cuts the most lines into the same number of cells; of several, into the most cells."""
    best, most = ",", (0.0, 0)
    for delimiter in _LIKELY:
        if delimiter == BLANKS and most[0] > 0.5:
            break  # a blank is in many a text
        widths = Counter(len(_cells(line, Layout(delimiter=delimiter, quote=quote))) for line in lines)
        for width in (0, 1):
            widths.pop(width, None)
        if widths:
            width, count = max(widths.items(), key=lambda pair: (pair[1], pair[0]))
            share = round(count / len(lines), 1)  # a header or two more do not matter
            if (share, width) > most:
                best, most = delimiter, (share, width)
    return best


def _first_full(rows: dict[int, list[str]]) -> int:
    """Find the first line that has about as many filled cells as the fullest."""
    filled = {number: sum(bool(cell.strip()) for cell in cells) for number, cells in rows.items()}
    most = max(filled.values(), default=0)
    usual = Counter(filled.values()).most_common(1)[0][0] if filled else 0
    wanted = max(min(2, most), 0.6 * min(most, 2 * usual))
    return next((number for number, count in filled.items() if count >= wanted), 0)


def _behind_a_wider(rows: dict[int, list[str]], first: int) -> int:
    """Find the first line behind `first` that has as many cells as most, where that one has more; 0: none."""
    width, count = Counter(map(len, rows.values())).most_common(1)[0] if rows else (0, 0)
    if first not in rows or 2 * count <= len(rows) or not any(rows[first][width:]):
        return 0
    return next((number for number, cells in rows.items() if number > first and len(cells) == width), 0)


def _has_data(head: Sequence[str], body: Sequence[Sequence[str]], given: Mapped) -> bool:
    """Tell whether a first line is data: a number or a time stands where the others have some."""
    probe = _probe(body[1:] or body, len(head), given)
    return any(
        cell.strip() and column.kind in {"number", "time", "clock"} and _kind_of(cell, given) == column.kind
        for column, cell in zip(probe, head, strict=True)
    )


def _behind(body: Sequence[Sequence[str]], width: int, given: Mapped) -> int:
    """Count lines between header and data, such as one of units: words where numbers and times are."""
    for behind in range(min(_MOST_BEHIND, len(body) - 1)):
        probe = _probe(body[behind + 1 :], width, given)
        cells = [
            cell.strip()
            for column, cell in zip(probe, body[behind], strict=False)
            if column.kind in {"number", "time", "clock"} and cell.strip()
        ]
        kinds = {_kind_of(cell, given) for cell in cells}
        times = any(column.kind in {"time", "clock"} for column in probe)
        if not cells or kinds & {"number", "time", "clock"} or not times:
            return behind
    return min(_MOST_BEHIND, max(len(body) - 1, 0))


def _probe(rows: Sequence[Sequence[str]], width: int, given: Mapped) -> list[Column]:
    columns = [Column("", "") for _ in range(width)]
    rows = rows if width <= MOST_COLUMNS else []
    _fill(columns, rows[:20])
    tell_kinds(columns, _style(columns, given), given.times)
    return columns


def _kind_of(cell: str, given: Mapped) -> str:
    one = Column("", "", [cell])
    style = _style([one], given)
    tell_kinds([one], style, given.times)
    # An id of two words is no number with a unit.
    return (
        "text"
        if one.kind == "number" and split(cell, _style([one], given))[1] and _WORD.search(cell)
        else one.kind
    )


def _style(columns: Sequence[Column], given: Mapped) -> NumberStyle:
    if (given.decimal, given.thousands) != (".", ""):
        return NumberStyle(given.decimal, given.thousands)
    return style_of(columns)


def _fill(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    for row in rows:
        if len(row) >= len(columns) and not any(row[len(columns) :]):
            for column, cell in zip(columns, row, strict=False):
                column.cells.append(cell.strip())


def _named(titles: Sequence[str]) -> list[str]:
    """Name columns as a mapping can: by number where a name is empty, or is there twice."""
    own = [title.strip() for title in titles]
    counts = Counter(map(str.casefold, own))
    return [
        title if title and counts[title.casefold()] == 1 and not _NUMBERED.fullmatch(title) else f"#{number}"
        for number, title in enumerate(own, 1)
    ]
