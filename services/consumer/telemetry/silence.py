"""Which devices have fallen silent: what is stored is noted by device, and one replica counts.

    what this consumer stores      -> Heard, in memory: the newest reading of each device
    every minute, or more often    -> last_readings in the store, a row for each device (stores/readings.py),
                                      without those that are to be forgotten
    who observes the group         -> counts those rows, for the metric

It works beside the batches, in a thread of its own: a batch only writes down what it has in hand. A consumer
that is killed has not noted what it stored since its last look, a minute at most; the next reading of a
device makes that good.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Final

from services.contract.consuming.columns import Columns
from services.contract.consuming.doors import Sink, Written
from services.contract.consuming.readings import LastReadings, Reading
from services.contract.errors import PipelineError
from services.contract.event import Event
from services.runtime.telemetry.metrics import Figures

MOST_HELD: Final = 100_000
"""Devices that are held in memory; of further ones the next reading is noted."""
LONGEST_LOOK_S: Final = 60.0
"""Between two looks, where silence is not shorter than ten of them."""
_SHORTEST_LOOK_S: Final = 0.2
_TURN_S: Final = 5.0
"""Until it is looked again whether this replica observes the group, as often as that may change."""
_END_S: Final = 5.0
_DAY_S: Final = 86_400.0

_Noted = tuple[str, str, str, float, str, float, float]
"""The first fields of a device's newest event, in their order, and when it was stored."""


class HeardSink:
    """A sink that keeps the newest reading of each device until it is taken. `now` in Unix seconds."""

    def __init__(self, sink: Sink, now: Callable[[], float]) -> None:
        self._sink = sink
        self._now = now
        self._lock = threading.Lock()
        self._heard: dict[str, _Noted] = {}

    def write(self, rows: Sequence[Event]) -> Written:
        """Store rows as the sink does, and hear whom they are of.

        Where nothing is new, nobody was heard: entries came again.
        """
        written = self._sink.write(rows)
        if written.inserted:
            columns = Columns.of(rows)
            # Of each event what is noted of it, and no Event: the last one of a device stays.
            noted = zip(*columns.columns[:6], repeat(self._now()), strict=False)
            heard = zip(columns.device_id, noted, strict=False)
            with self._lock:
                if len(self._heard) < MOST_HELD:
                    self._heard.update(_without(heard, written.conflicts) if written.conflicts else heard)
        return written

    def probe(self) -> None:
        """Probe the sink."""
        self._sink.probe()

    def close(self) -> None:
        """Close the sink."""
        self._sink.close()

    def take(self) -> list[Reading]:
        """Give the newest reading of each device since the last time."""
        with self._lock:
            heard, self._heard = self._heard, {}
        return [
            Reading(device, zone, kpi, value, ts, at, event_id)
            for event_id, device, zone, ts, kpi, value, at in heard.values()
        ]

    def put_back(self, readings: Sequence[Reading]) -> int:
        """Take back what could not be noted, where nothing newer was heard meanwhile; gives how many."""
        with self._lock:
            for one in readings:
                noted = (
                    one.event_id, one.device_id, one.zone, one.ts, one.kpi, one.value, one.stored_at,
                )  # fmt: skip
                self._heard.setdefault(one.device_id, noted)
            return len(self._heard)


def _without(heard: Iterable[tuple[str, _Noted]], refused: Sequence[int]) -> Iterator[tuple[str, _Noted]]:
    """Leave out those at some places."""
    return (one for place, one in enumerate(heard) if place not in refused)


class Silence:
    """Notes whom the sink has heard, and counts who is silent, until it is closed.

    `is_observing`: whether this replica is the one to count.
    """

    def __init__(
        self,
        heard: HeardSink,
        readings: LastReadings,
        is_observing: Callable[[], bool],
        now: Callable[[], float],
        monotonic: Callable[[], float],
        logger: logging.Logger,
        *,
        silent_after_s: float,
        forget_days: int,
    ) -> None:
        self._heard = heard
        self._readings = readings
        self._is_observing = is_observing
        self._now = now
        self._monotonic = monotonic
        self._logger = logger
        self._silent_after_s = silent_after_s
        self._forget_after_s = forget_days * _DAY_S
        self._look_s = max(_SHORTEST_LOOK_S, min(LONGEST_LOOK_S, silent_after_s / 10))
        self._figures: Figures = {}
        self._note_at = self._count_at = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="silence", daemon=True)

    def start(self) -> None:
        """Look from now on, in the background."""
        self._thread.start()

    def figures(self) -> Figures:
        """Give what was counted last; nothing where another replica counts."""
        return self._figures if self._is_observing() else {}

    def look(self) -> None:
        """Do what is due: note and forget, and count where this replica observes the group."""
        now = self._monotonic()
        if now >= self._note_at:
            self._note_at = now + self._look_s
            self._note()
        if not self._is_observing():
            self._figures, self._count_at = {}, 0.0
        elif now >= self._count_at:
            self._count_at = now + self._look_s
            self._count()

    def close(self) -> None:
        """Note what was heard since the last look, and end it."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_END_S)

    def _go_on(self) -> None:
        while not self._ended.wait(min(_TURN_S, self._look_s)):
            self.look()
        self._note(is_last=True)

    def _note(self, *, is_last: bool = False) -> None:
        taken = self._heard.take()
        try:
            if taken:
                self._readings.note(taken)
                taken = []
            if not is_last:
                self._readings.forget(self._now() - self._forget_after_s)
        except PipelineError as error:
            self._say(error, self._heard.put_back(taken))

    def _count(self) -> None:
        now = self._now()
        try:
            silent = self._readings.count_silent(now - self._silent_after_s)
        except PipelineError as error:
            self._figures = {}
            self._say(error, 0)
        else:
            self._figures = {"telemetry_silent_devices": silent}

    def _say(self, error: PipelineError, devices: int) -> None:
        self._logger.warning("last_readings_not_noted", extra={"error": str(error), "devices": devices})
