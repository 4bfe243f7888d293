"""What is read of stored rows, whatever the store."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Protocol, Self


class StoredRow(NamedTuple):
    """A row as it stands in the table. Times in Unix seconds, UTC; `value` in the KPI's unit."""

    event_id: str
    device_id: str
    zone: str
    ts: float
    kpi: str
    value: float
    is_degraded: bool
    stored_at: float
    attributes: Mapping[str, str]
    """By name; empty where the event has none."""


class ByAttribute(NamedTuple):
    """Counting by what an attribute of this name says."""

    name: str


GroupName = Literal["zone", "device", "hour", "day"]
Grouping = GroupName | ByAttribute
"""What a summary counts by, beside the KPI. Hours and days are those of the event times, in UTC."""


class SummaryRow(NamedTuple):
    """What is stored of one KPI in one group. `value_total` is the sum of all values."""

    kpi: str
    group: str | int
    """A zone, a device, an attribute's text (empty where an event has none), or when an hour or a day begins,
    in Unix seconds."""
    events: int
    degraded: int
    value_min: float
    value_max: float
    value_total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFilter:
    """Which rows are asked for; None asks for all. `since` and `until` are event times, both included.

    `attributes`: those that a row has to have, with these texts.
    """

    event_id: str | None = None
    first_id: str | None = None
    """The least of the ids that are asked for."""
    device_id: str | None = None
    zone: str | None = None
    kpi: str | None = None
    since: float | None = None
    until: float | None = None
    is_degraded: bool | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    def conditions(self) -> list[tuple[str, str, str | float | bool]]:
        """Give the conditions that all have to be met: a field's name, `=`, `>=` or `<=`, and the value.

        Those on attributes are met besides.
        """
        asked: tuple[tuple[str, str, str | float | bool | None], ...] = (
            ("event_id", "=", self.event_id),
            ("event_id", ">=", self.first_id),
            ("device_id", "=", self.device_id),
            ("zone", "=", self.zone),
            ("kpi", "=", self.kpi),
            ("ts", ">=", self.since),
            ("ts", "<=", self.until),
            ("is_degraded", "=", self.is_degraded),
        )
        return [(name, operator, value) for name, operator, value in asked if value is not None]


EVERY_ROW: Final = RowFilter()

Progress = Callable[[int, int], None]
"""Told, now and then, how many of how many parts are read."""


def no_progress(_read: int, _parts: int) -> None:
    """Show nothing."""


class Rows(Protocol):
    """The rows of one store, read-only, and closed by `with`. Reading raises SinkUnavailable."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close them; an answer that is still being read ends with it."""
        ...

    def count(self) -> int:
        """Count the rows."""
        ...

    def has_any(self, asked: RowFilter = EVERY_ROW) -> bool:
        """Tell whether there is a row of that kind."""
        ...

    def event_ids(self, first_ms: int = 0, beyond_ms: int | None = None) -> Iterator[str]:
        """Give every event id, in ascending order; or those that begin with a time, Unix milliseconds.

        `beyond_ms` is the first time that is not asked for; None: to the end. Rows that are stored meanwhile
        are given where they come after the one given last.
        """
        ...

    def missing_of(self, ids: Sequence[str]) -> list[str]:
        """Give those of these ids that are not stored, in the order given."""
        ...

    def stored_at(self, ids: Sequence[str]) -> dict[str, float]:
        """Tell when each of these ids that is stored was, in Unix seconds."""
        ...

    def events(self, asked: RowFilter = EVERY_ROW, limit: int | None = None) -> Iterator[StoredRow]:
        """Give rows, the newest first by event id; at most `limit`, None: all."""
        ...

    def pages(self, asked: RowFilter = EVERY_ROW) -> Iterator[list[StoredRow]]:
        """Give rows in ascending order of their ids, some thousands at a time.

        Nothing is held between two pages, however long that is: no lock, and no snapshot that would keep
        what writers leave behind. Rows that are stored meanwhile are given where they come after the one
        given last.
        """
        ...

    def summary(
        self, asked: RowFilter = EVERY_ROW, progress: Progress = no_progress, by: Grouping = "zone"
    ) -> Iterator[SummaryRow]:
        """Count rows by KPI and group, in their order; `progress` is told how far it is."""
        ...
