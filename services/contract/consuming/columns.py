"""Events column by column, as they are recognised and stored: an Event is made only for who looks at one."""

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Any, Self, overload

from services.contract.event import Event


class Columns(Sequence[Event]):
    """Events as a sequence for each of their fields, in the order of an Event's."""

    __slots__ = ("columns",)

    def __init__(self, columns: Sequence[Sequence[Any]]) -> None:
        self.columns = columns

    @classmethod
    def of(cls, events: Sequence[Event]) -> Self:
        """Give events as columns."""
        if isinstance(events, cls):
            return events
        return cls([*zip(*events, strict=True)] if events else [()] * len(Event._fields))

    @property
    def device_id(self) -> Sequence[str]:
        """The device of each."""
        return self.columns[1]

    @property
    def kpi(self) -> Sequence[str]:
        """The KPI of each."""
        return self.columns[4]

    @property
    def value(self) -> Sequence[float]:
        """The value of each, in the unit of its KPI."""
        return self.columns[5]

    @property
    def is_degraded(self) -> Sequence[int]:
        """Whether each is degraded, 0 or 1."""
        return self.columns[6]

    def degraded(self, is_degraded: Sequence[int]) -> Self:
        """Give the same events, of which others are degraded."""
        return type(self)([*self.columns[:6], is_degraded, *self.columns[7:]])

    def chosen(self, are_chosen: Sequence[object]) -> Self:
        """Give those for which something true stands in a list."""
        return type(self)([list(compress(column, are_chosen)) for column in self.columns])

    def __len__(self) -> int:
        """Tell how many events there are."""
        return len(self.columns[0])

    def __iter__(self) -> Iterator[Event]:
        """Make each event."""
        return map(Event._make, zip(*self.columns, strict=True))

    @overload
    def __getitem__(self, place: int) -> Event: ...
    @overload
    def __getitem__(self, place: slice) -> Self: ...
    def __getitem__(self, place: int | slice) -> Event | Self:
        """Make one event, or give some as columns."""
        if isinstance(place, slice):
            return type(self)([column[place] for column in self.columns])
        return Event._make([column[place] for column in self.columns])
