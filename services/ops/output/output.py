"""How answers are shown, decided here alone.

    json    --json: one document, or one JSON object a line for lists; for programs
    rich    standard output is a terminal: tables and colours
    plain   it is none: aligned columns, no colours

Only answers go to standard output; remarks go to standard error, so a list with nothing in it is empty.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Final, Literal

import typer

from services.ops.output.parts import Column, Facts, Part, Record, Screen, Table, printable
from services.runtime.screen import answer, answer_json, answers_on_terminal, remark, shown

__all__ = [
    "MOST_SHOWN",
    "AsJson",
    "Style",
    "Wide",
    "answer",
    "choose_style",
    "confirmed",
    "remark",
    "show_as_it_comes",
    "show_document",
    "show_records",
    "watch",
]

MOST_SHOWN: Final = 1_000_000_000
"""What `--limit` takes at most: SQLite's numbers end somewhere."""

Style = Literal["json", "rich", "plain"]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]

_wide = False


def _be_wide(asked: bool) -> bool:
    global _wide  # noqa: PLW0603 - of the one answer that a process gives
    _wide = asked
    return asked


Wide = Annotated[
    bool,
    typer.Option(
        "--wide", callback=_be_wide, help="Show all columns, also on a terminal that is too narrow."
    ),
]

_ROWS_A_TABLE: Final = 1000
"""Rows that are aligned together; what is shown is bounded in memory, however much it is."""


def confirmed(question: str) -> bool:
    """Ask a person; whatever is no yes is a no."""
    return typer.confirm(shown(question), err=True)  # noqa: TID251 - it reads the answer as well


def choose_style(as_json: bool) -> Style:
    """Decide how to answer."""
    if as_json:
        return "json"
    return "rich" if answers_on_terminal() else "plain"


def show_records(records: Iterable[Record], columns: Sequence[Column], *, as_json: bool) -> int:
    """Show a list as it comes, in bounded memory; gives how many records there were."""
    style = choose_style(as_json)
    if style == "json":
        return sum(_json_line(record) for record in records)
    count = 0
    widths = [len(column.heading) for column in columns]
    for page in _pages(records):
        if style == "rich":
            _screen().show(Table("", columns, page))
        else:
            cells = [[column.text(record) for column in columns] for record in page]
            widths = _wider(widths, cells)
            _print_aligned(columns, cells, widths, with_heading=count == 0)
        count += len(page)
    return count


def show_as_it_comes(records: Iterable[Record], columns: Sequence[Column], *, as_json: bool) -> None:
    """Show each record at once, as one line; columns grow with what comes."""
    widths = [len(column.heading) for column in columns]
    for at, record in enumerate(records):
        if as_json:
            answer_json(record, flush=True)
            continue
        cells = [[column.text(record) for column in columns]]
        widths = _wider(widths, cells)
        _print_aligned(columns, cells, widths, with_heading=at == 0)
        answer(flush=True)


def show_document(document: Record, parts: Sequence[Part], *, as_json: bool) -> None:
    """Show one answer: the document to programs, its parts to people."""
    style = choose_style(as_json)
    if style == "json":
        answer_json(document, indent=2)
        return
    show = _screen().show if style == "rich" else _print_part
    for part in parts:
        show(part)


def watch(
    documents: Iterable[Record],
    parts_of: Callable[[Record], Sequence[Part]],
    line_of: Callable[[Record], str],
    *,
    as_json: bool,
) -> None:
    """Show an answer that changes: in place on a terminal, else as one line each time."""
    style = choose_style(as_json)
    if style == "rich":
        _screen().refresh(parts_of(document) for document in documents)
        return
    for document in documents:
        if style == "json":
            answer_json(document, flush=True)
        else:
            answer(line_of(document), flush=True)


def _json_line(record: Record) -> int:
    answer_json(record)
    return 1


def _pages(records: Iterable[Record]) -> Iterator[list[Record]]:
    source = iter(records)
    while page := list(itertools.islice(source, _ROWS_A_TABLE)):
        yield page


def _print_part(part: Part) -> None:
    """Show a part as plain lines: its title, then its rows, then an empty line."""
    if part.title:
        answer(part.title)
    if isinstance(part, Facts):
        pairs = [(printable(name), printable(text)) for name, text in part.pairs]
        width = max((len(name) for name, _ in pairs), default=0)
        for name, text in pairs:
            answer(f"  {name:<{width}}  {text}".rstrip())
    elif part.records:
        cells = [[column.text(record) for column in part.columns] for record in part.records]
        widths = _wider([len(column.heading) for column in part.columns], cells)
        _print_aligned(part.columns, cells, widths, with_heading=True, indent="  ")
    else:
        answer(f"  {part.empty}")
    answer("")


def _wider(widths: Sequence[int], cells: Iterable[Sequence[str]]) -> list[int]:
    widest = list(widths)
    for row in cells:
        widest = [max(width, len(text)) for width, text in zip(widest, row, strict=True)]
    return widest


def _print_aligned(
    columns: Sequence[Column],
    cells: Iterable[Sequence[str]],
    widths: Sequence[int],
    *,
    with_heading: bool,
    indent: str = "",
) -> None:
    heading = [[column.heading.upper() for column in columns]] if with_heading else []
    for row in itertools.chain(heading, cells):
        aligned = (
            f"{text:>{width}}" if column.right else f"{text:<{width}}"
            for column, text, width in zip(columns, row, widths, strict=True)
        )
        answer((indent + "  ".join(aligned)).rstrip())


def _screen() -> Screen:
    from services.ops.output.terminal import Terminal  # noqa: PLC0415 - rich takes longer than most commands

    return Terminal(is_wide=_wide)
