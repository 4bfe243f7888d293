"""Case `files`: tables from a file to the stream, against our generator's own publishing in the same run.

In this process, as fast as it goes: the file is read by the parts of `python -m services.producer --from`,
and both go through the same publisher, in batches of the same size.
"""

import gc
import logging
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random
from typing import Final

from bench.bench import Bench
from bench.figure import Figure, at_least
from bench.plan import BATCH_SIZE, BenchFailed, in_turn
from bench.sample import Sample
from bench.server import Server
from bench.stream import KEYS
from services.brokers.choice import producer_side
from services.brokers.producing.side import ProducerTools
from services.contract.producing.outgoing import Feed, Numbering
from services.producer.files.replay import Opener
from services.producer.generate import Generator
from services.producer.options import read_options
from services.producer.spellings import Spellings
from services.runtime.clock import SystemClock
from services.runtime.health import Health
from services.runtime.settings import ProducerSettings
from services.runtime.telemetry.metrics import Metrics

_MOST_EVENTS: Final = 500_000
_WIDE: Final = 4
"""Readings in a line of the wide table."""
_START: Final = 1_710_028_800


def compare_files(bench: Bench) -> list[Figure]:
    """Publish a table, a wide one, and as many generated events, in turns."""
    events = min(bench.plan.events, _MOST_EVENTS)
    with tempfile.TemporaryDirectory() as folder:
        table, wide = Path(folder, "table.csv"), Path(folder, "wide.csv")
        _write_table(table, events)
        _write_wide(wide, events // _WIDE)
        values = [f"--value=v{number}=humidity,device_id=probe-{number}" for number in range(_WIDE)]
        ways: dict[str, Callable[[], float]] = {
            "generator": lambda: _generated(bench.server, events),
            "table": lambda: _read(bench.server, table, []),
            "wide table": lambda: _read(bench.server, wide, ["--const=zone=z", *values]),
        }
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(bench.plan.rounds):
            for name in in_turn(list(ways), number):
                speed = _timed(
                    bench.server, events if name != "wide table" else events // _WIDE * _WIDE, ways[name]
                )
                speeds[name].append(speed)
                bench.say(f"round {number + 1}/{bench.plan.rounds}  {name:<24}{speed:>10,.0f} events/s")
    generator, plain, of_wide = (Sample(tuple(found)) for found in speeds.values())
    return [
        Figure("files", "generator", "events/s", generator),
        Figure("files", "table", "events/s", plain),
        Figure("files", "wide table", "events/s", of_wide),
        Figure("files", "table / generator", "x", plain.over(generator), at_least(0.5)),
        Figure("files", "wide table / generator", "x", of_wide.over(generator), at_least(0.5)),
    ]


def _timed(server: Server, events: int, way: Callable[[], float]) -> float:
    with server.client() as client:
        client.flushall()
        gc.collect()
        seconds = way()
        published = client.xlen(KEYS.stream)
    if published != events:
        raise BenchFailed(f"files: wanted {events} events in the stream, and there are {published}")
    return events / seconds


def _generated(server: Server, events: int) -> float:
    settings = ProducerSettings(redis_url=server.url)
    told = read_options([]).settings
    return _publish(Generator(told.kpis, 20, 4, Random(1)), settings, events)


def _read(server: Server, path: Path, options: list[str]) -> float:
    told = read_options(["--from", str(path), *options])
    if told.reading is None:
        raise BenchFailed("files: the options name no file")
    logger = logging.getLogger(__name__)
    with ExitStack() as stack:
        spellings = Spellings(told.settings.kpis)
        opener = Opener(told.reading, spellings, lambda: False, logger, Metrics("producer"), stack)
        return _publish(opener.open(), ProducerSettings(redis_url=server.url))


def _publish(feed: Feed, settings: ProducerSettings, events: int | None = None) -> float:
    """Publish all of a feed, or so many of its events; gives seconds."""
    clock, logger = SystemClock(), logging.getLogger(__name__)
    tools = ProducerTools(clock, Metrics("producer"), logger, Health(60.0, clock.monotonic))
    with closing(producer_side(settings, tools)) as side:
        run = side.open_run("bench")
        publisher, numbering = side.publisher(run), Numbering(run.name)
        started = time.perf_counter()
        left = events
        while left is None or left > 0:
            size = BATCH_SIZE if left is None else min(BATCH_SIZE, left)
            batch = feed.next_batch(size, time.time(), numbering)
            if batch is None:
                break
            if batch.events:
                publisher.publish(batch)
            left = None if left is None else left - len(batch.events)
        return time.perf_counter() - started


def _write_table(path: Path, rows: int) -> None:
    with path.open("w", encoding="ascii") as file:
        file.write("device_id,zone,ts,kpi,value\n")
        for number in range(rows):
            file.write(
                f"device-{number % 100},zone-{number % 4},{_START + number},humidity,{number % 900 / 10}\n"
            )


def _write_wide(path: Path, rows: int) -> None:
    with path.open("w", encoding="ascii") as file:
        file.write(f"ts,{','.join(f'v{number}' for number in range(_WIDE))}\n")
        for number in range(rows):
            file.write(f"{_START + number},{','.join(str(number % 900 / 10) for _ in range(_WIDE))}\n")
