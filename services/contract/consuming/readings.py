"""The last reading of each device, and which devices are silent: they used to send, and stopped.

It is noted beside the rows, by device, so that nobody has to look through all rows for it.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Reading(NamedTuple):
    """The last reading of a device. Times in Unix seconds, UTC; `value` in the KPI's unit."""

    device_id: str
    zone: str
    kpi: str
    value: float
    ts: float
    """When it was measured."""
    stored_at: float
    """When it was stored: a device that sends old readings is not silent."""
    event_id: str


class LastReadings(Protocol):
    """The last readings of the devices of one pipeline and stream. Everything raises SinkUnavailable."""

    def note(self, readings: Sequence[Reading]) -> None:
        """Put them in the place of older ones, one of each device."""
        ...

    def forget(self, before: float) -> None:
        """Forget devices of which nothing was stored since a time, in Unix seconds."""
        ...

    def drop(self, device_id: str) -> bool:
        """Forget one device; False where it is not known. One that sends again is known again."""
        ...

    def count_silent(self, before: float) -> int:
        """Count the devices of which nothing was stored since a time, in Unix seconds."""
        ...

    def silent(self, before: float, most: int | None = None) -> list[Reading]:
        """Name them, who fell silent last first; at most so many. Also raises SinkAbsent and SinkUnusable."""
        ...
