"""What an answer is made of: tables of records, and facts; and how each value of them is written."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.runtime.screen import shown

Record = Mapping[str, Any]


def printable(value: object) -> str:
    """Write a value for a person, as one line; what isn't printable is escaped, and secrets are hidden."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return shown(str(value))


def counted(value: int | None) -> str:
    """Write a count for a person."""
    return "" if value is None else f"{value:,}"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: which value of a record, under which title, and how it is written."""

    name: str
    title: str = ""
    show: Callable[[Any], str] = printable
    right: bool = False
    """Numbers stand at the right."""
    wraps: bool = False
    """A long text: on a narrow terminal it takes several lines, or stands below its row."""
    optional: bool = False
    """Left out on a terminal that is too narrow for all columns."""

    @property
    def heading(self) -> str:
        """The title; the name with spaces where none is given."""
        return self.title or self.name.replace("_", " ")

    def text(self, record: Record) -> str:
        """Write the column's value of a record, as one line."""
        return printable(self.show(record[self.name]))


def number(
    name: str, title: str = "", show: Callable[[Any], str] = counted, *, optional: bool = False
) -> Column:
    """Make a column of numbers."""
    return Column(name, title, show, right=True, optional=optional)


@dataclass(frozen=True, slots=True)
class Table:
    """Records under their columns; `empty` is said where there are none."""

    title: str
    columns: Sequence[Column]
    records: Sequence[Record]
    empty: str = "none"


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and texts in two columns."""

    title: str
    pairs: Sequence[tuple[str, str]]


Part = Table | Facts


class Screen(Protocol):
    """A terminal that can show more than lines."""

    def show(self, part: Part) -> None:
        """Show a part below what is there."""
        ...

    def refresh(self, frames: Iterable[Sequence[Part]]) -> None:
        """Show one frame after the other in the same place."""
        ...
