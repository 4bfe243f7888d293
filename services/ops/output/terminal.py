"""Answers on a terminal, drawn by rich. Texts are shown as they are: a `[` in one is no markup.

Nothing is cut. Where a table is too wide, in this order: long texts go below their rows, columns that can be
missed are left out and named below, and at last each record is a list of its values.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType  # noqa: TID251 - each text of it is printable()
from rich.live import Live
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from services.ops.output.parts import Column, Facts, Part, Table, printable

_BETWEEN: Final = 3
"""Cells between two columns."""
_EDGES: Final = 2
"""Cells that the ends of a table take; without room for them rich cuts a number, and does not say so."""
_READABLE: Final = 30
"""Cells that a long text has at least, beside other columns."""
_INDENT: Final = (0, 0, 0, 4)


class _Drawn(NamedTuple):
    """A column, and its texts in the order of the records."""

    column: Column
    texts: Sequence[str]

    @property
    def width(self) -> int:
        """Cells that its longest text takes."""
        return max(map(cell_len, (self.column.heading, *self.texts)))

    @property
    def least(self) -> int:
        """Cells that it needs, with the space beside it; a long text is wrapped."""
        return _BETWEEN + (min(self.width, _READABLE) if self.column.wraps else self.width)


class Terminal:
    """The terminal at standard output. Colours follow NO_COLOR and TERM.

    `is_wide`: tables are as wide as they need to be, whatever the terminal is.
    """

    def __init__(self, *, is_wide: bool = False) -> None:
        self._console = Console(markup=False, highlight=False, emoji=False)
        self._is_wide = is_wide

    def show(self, part: Part) -> None:
        """Show a part below what is there."""
        if self._is_wide and isinstance(part, Table):
            self._console.width = max(
                self._console.width, sum(one.width + _BETWEEN for one in _columns(part))
            )
        self._console.print(self._drawn(part), crop=not self._is_wide, soft_wrap=self._is_wide)

    def refresh(self, frames: Iterable[Sequence[Part]]) -> None:
        """Show one frame after the other in the same place."""
        with Live(console=self._console, auto_refresh=False) as live:
            for parts in frames:
                live.update(Group(*map(self._drawn, parts)), refresh=True)

    def _drawn(self, part: Part) -> RenderableType:
        if isinstance(part, Facts):
            return _facts(part)
        if not part.records:
            return Text.assemble((printable(part.title), "bold"), f"  {printable(part.empty)}\n")
        table = self._table(_columns(part))
        return Group(Text(printable(part.title), style="bold"), table) if part.title else table

    def _table(self, columns: list[_Drawn]) -> RenderableType:
        """Draw a table so that the terminal holds all that is not left out."""
        width = self._console.width + _BETWEEN
        if _need(columns) + _EDGES <= width:
            return _whole(columns)
        beside = [one for one in columns if not one.column.wraps]
        below = [one for one in columns if one.column.wraps]
        if not below:
            width -= _EDGES
        left_out: list[str] = []
        while _need(beside) > width and any(one.column.optional for one in beside):
            last = max(at for at, one in enumerate(beside) if one.column.optional)
            left_out.insert(0, beside.pop(last).column.heading)
        if _need(beside) > width:
            return _lists(columns)
        note = (
            [Text(f"left out: {', '.join(left_out)} (--wide shows all)\n", style="dim")] if left_out else []
        )
        return Group(*(_with_lines_below(beside, below) if below else [_whole(beside)]), *note)


def _columns(part: Table) -> list[_Drawn]:
    return [_Drawn(column, [column.text(record) for record in part.records]) for column in part.columns]


def _need(columns: Iterable[_Drawn]) -> int:
    return sum(one.least for one in columns)


def _whole(columns: Sequence[_Drawn]) -> RichTable:
    """Draw all columns side by side."""
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for one in columns:
        table.add_column(
            Text(one.column.heading),
            justify="right" if one.column.right else "left",
            overflow="fold",
            no_wrap=not one.column.wraps,
        )
    for row in zip(*(one.texts for one in columns), strict=True):
        table.add_row(*map(Text, row))
    return table


def _with_lines_below(beside: Sequence[_Drawn], below: Sequence[_Drawn]) -> Iterable[RenderableType]:
    """Draw some columns side by side, and the texts of the others below each row."""
    heading = _line(beside, [one.column.heading for one in beside])
    heading.stylize("bold")
    yield Text("")
    yield heading
    yield Text("─" * heading.cell_len)
    for at in range(len(beside[0].texts)):
        yield _line(beside, [one.texts[at] for one in beside])
        for one in below:
            if one.texts[at]:
                yield Padding(Text(one.texts[at], style="dim", overflow="fold"), _INDENT)
    yield Text("")


def _line(columns: Sequence[_Drawn], texts: Sequence[str]) -> Text:
    padded = []
    for one, text in zip(columns, texts, strict=True):
        space = " " * (one.width - cell_len(text))
        padded.append(space + text if one.column.right else text + space)
    return Text((" " * _BETWEEN).join(padded))


def _lists(columns: Sequence[_Drawn]) -> RenderableType:
    """Draw each record as a list of its values."""
    parts: list[RenderableType] = []
    for at in range(len(columns[0].texts)):
        grid = RichTable.grid(padding=(0, 2))
        grid.add_column()
        grid.add_column(overflow="fold")
        for one in columns:
            if one.texts[at]:
                grid.add_row(Text(one.column.heading, style="cyan"), Text(one.texts[at]))
        parts += [grid, Text("")]
    return Group(*parts)


def _facts(part: Facts) -> RenderableType:
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(overflow="fold")
    for name, text in part.pairs:
        grid.add_row(Text(printable(name), style="cyan"), Text(printable(text)))
    return Group(Text(printable(part.title), style="bold"), grid, Text()) if part.title else grid
