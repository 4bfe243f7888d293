"""The events of the benchmark: six flat fields, every one valid, the same in every run but for their ids."""

import itertools
import secrets
import time
from collections.abc import Iterator
from typing import Final

from bench.plan import BATCH_SIZE
from services.contract.event import Event
from services.contract.ids import RUN_BITS, event_id, run_name

_DEVICES: Final = 100
_ZONES: Final = 8
_EVENTS_A_MS: Final = 50
_KPIS: Final = (("temperature", 62.0), ("humidity", 52.0), ("pressure", 1010.0), ("vibration", 2.5))


def generate(count: int) -> Iterator[Event]:
    """Generate events whose ids are of one run, and lie in the past."""
    run = run_name(secrets.randbits(RUN_BITS))
    first_ms = time.time_ns() // 1_000_000 - count // _EVENTS_A_MS - 1
    for number in range(count):
        now_ms = first_ms + number // _EVENTS_A_MS
        device = number % _DEVICES
        kpi, typical = _KPIS[number % len(_KPIS)]
        # Around the typical value, and above every threshold at times.
        value = round(typical * (0.9 + (number * 7919 % 1000) / 4000), 2)
        yield Event(
            event_id(run, number + 1, now_ms),
            f"device-{device:04d}",
            f"zone-{device % _ZONES}",
            now_ms / 1000,
            kpi,
            value,
        )


def batches(rows: int) -> Iterator[list[Event]]:
    """Generate events of one run, by batches."""
    made = generate(rows)
    while batch := list(itertools.islice(made, BATCH_SIZE)):
        yield batch
