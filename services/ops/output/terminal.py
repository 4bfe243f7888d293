"""Answers on a terminal, drawn by rich. Texts are shown as they are: a `[` in one is no markup."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType  # noqa: TID251 - each text of it is printable()
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from services.ops.output.parts import Column, Facts, Part, Table, printable


class Terminal:
    """The terminal at standard output. Colours follow NO_COLOR and TERM."""

    def __init__(self) -> None:
        self._console = Console(markup=False, highlight=False, emoji=False)

    def show(self, part: Part) -> None:
        """Show a part below what is there."""
        self._console.print(self._drawn(part))

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
        table = self._table(part)
        return Group(Text(printable(part.title), style="bold"), table) if part.title else table

    def _table(self, part: Table) -> RichTable:
        """Draw a table, without its optional columns where it would be too wide."""
        cells = [[column.text(record) for record in part.records] for column in part.columns]
        columns = list(zip(part.columns, cells, strict=True))
        if sum(_width(column, texts) for column, texts in columns) > self._console.width:
            columns = [(column, texts) for column, texts in columns if not column.optional]
        table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
        for column, _ in columns:
            table.add_column(
                Text(column.heading),
                justify="right" if column.right else "left",
                overflow="fold" if column.wraps else "ellipsis",
                no_wrap=not column.wraps,
            )
        for row in zip(*(texts for _, texts in columns), strict=True):
            table.add_row(*map(Text, row))
        return table


def _width(column: Column, texts: Sequence[str]) -> int:
    """Measure a column, with the space beside it; one that wraps needs little."""
    width = max(map(cell_len, (column.heading, *texts)))
    return 3 + (min(width, 20) if column.wraps else width)


def _facts(part: Facts) -> RenderableType:
    grid = RichTable.grid(padding=(0, 2))
    for name, text in part.pairs:
        grid.add_row(Text(printable(name), style="cyan"), Text(printable(text)))
    return Group(Text(printable(part.title), style="bold"), grid, Text()) if part.title else grid
