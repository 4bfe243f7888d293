"""Realistic telemetry: devices in zones, each KPI drifting slowly around its typical value. Pure.

With a seed everything but ids and times repeats, whatever the sizes of the batches: each event draws
its chances in one order.
"""

import math
from collections import deque
from collections.abc import Iterator
from random import Random
from typing import Final

from services.contract.kpis import Kpi, Kpis
from services.contract.producing.outgoing import Batch, Numbering, Outgoing
from services.producer.invalid import WAYS, Spoil, without_id

_PULL: Final = 0.1
"""Share of the way back to where it belongs that a value goes at each reading."""
_STEP: Final = 0.08
"""Largest random step, as a share of the distance from typical to threshold."""
_EXCURSION_CHANCE: Final = 0.002
_EXCURSION_READINGS: Final = (20, 60)
"""How many readings an excursion above the threshold lasts; so some 5 % of events are degraded."""


class Walk:
    """One KPI of one device."""

    __slots__ = ("_decimals", "_kpi", "_left", "_step", "_target", "_value")

    def __init__(self, kpi: Kpi, random: Random) -> None:
        self._kpi = kpi
        self._step = 2 * _STEP * max(abs(kpi.threshold - kpi.typical), (kpi.max - kpi.min) / 1000)
        # Steps have to be seen: two decimals say nothing of a range of a hundredth.
        self._decimals = max(2, 1 - math.floor(math.log10(self._step)))
        self._value = kpi.typical + self._step * (random.random() - 0.5)
        self._target = kpi.typical
        self._left = 0

    def next(self, random: Random) -> float:
        """Give the next reading, in the KPI's unit, with two decimals or as many as its range asks for."""
        kpi = self._kpi
        if self._left:
            self._left -= 1
            if not self._left:
                self._target = kpi.typical
        elif random.random() < _EXCURSION_CHANCE:
            self._left = random.randint(*_EXCURSION_READINGS)
            self._target = kpi.threshold + (kpi.threshold - kpi.typical) * random.uniform(0.1, 0.4)
        value = self._value
        value += (self._target - value) * _PULL + self._step * (random.random() - 0.5)
        self._value = value = min(max(value, kpi.min), kpi.max)
        return min(max(round(value, self._decimals), kpi.min), kpi.max)


class Generator:
    """A feed without end. `random` is drawn from for everything."""

    def __init__(
        self,
        kpis: Kpis,
        device_count: int,
        zone_count: int,
        random: Random,
        *,
        invalid_ratio: float = 0.0,
        duplicate_ratio: float = 0.0,
    ) -> None:
        self._random = random
        self._invalid_ratio = invalid_ratio
        self._duplicate_ratio = duplicate_ratio
        self._next_way = random.randrange(len(WAYS))
        self._again: deque[Outgoing] = deque()
        self._readings = self._read_for_ever(list(kpis.values()), device_count, zone_count)

    def next_batch(self, size: int, now: float, numbering: Numbering) -> Batch:
        """Give `size` events of the moment `now`, in Unix seconds."""
        now_ms = int(now * 1000)
        ts = f"{now_ms // 1000}.{now_ms % 1000:03d}"
        if self._invalid_ratio or self._duplicate_ratio:
            return Batch([self._any(now_ms, ts, numbering) for _ in range(size)])
        events = []
        for _ in range(size):
            device, zone, kpi, value = next(self._readings)
            event_id, sequence = numbering.take(now_ms)
            events.append(Outgoing((event_id, device, zone, ts, kpi.name, repr(value)), sequence))
        return Batch(events)

    def _any(self, now_ms: int, ts: str, numbering: Numbering) -> Outgoing:
        """Give an event that may be invalid, or one that was published before."""
        random = self._random
        if self._again and random.random() < 0.5:
            return self._again.popleft()._replace(is_duplicate=True)
        device, zone, kpi, value = next(self._readings)
        texts = (device, zone, ts, kpi.name, repr(value))
        way = self._draw_way()
        if way is without_id:
            return Outgoing(way(("", *texts), kpi), None, is_plain=False)
        event_id, sequence = numbering.take(now_ms)
        values = (event_id, *texts)
        event = (
            Outgoing(values, sequence)
            if way is None
            else Outgoing(way(values, kpi), sequence, is_plain=False)
        )
        if self._duplicate_ratio and random.random() < self._duplicate_ratio:
            self._again.append(event)
        return event

    def _draw_way(self) -> Spoil | None:
        """Decide whether the next event is invalid, and how: the ways take turns."""
        if not (self._invalid_ratio and self._random.random() < self._invalid_ratio):
            return None
        self._next_way = (self._next_way + 1) % len(WAYS)
        return WAYS[self._next_way][1]

    def _read_for_ever(
        self, kpis: list[Kpi], device_count: int, zone_count: int
    ) -> Iterator[tuple[str, str, Kpi, float]]:
        """Ask the devices in turn, one KPI a round."""
        random = self._random
        walks: dict[tuple[int, int], Walk] = {}
        digits = len(str(device_count))
        names = [f"device-{number:0{digits}d}" for number in range(1, device_count + 1)]
        zones = [f"zone-{number}" for number in range(1, zone_count + 1)]
        while True:
            for which, kpi in enumerate(kpis):
                for device, name in enumerate(names):
                    walk = walks.get((device, which))
                    if walk is None:
                        walk = walks[device, which] = Walk(kpi, random)
                    yield name, zones[device % zone_count], kpi, walk.next(random)
