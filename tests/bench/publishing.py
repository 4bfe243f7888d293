"""Case `producer`: our publisher against a plain redis-py pipeline, on the same events."""

import gc
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Final, TypeVar

import redis

from bench.bench import Bench
from bench.events import generate
from bench.figure import Figure, at_least
from bench.plan import BATCH_SIZE, BenchFailed, in_turn
from bench.sample import Sample
from bench.server import Server
from bench.stream import KEYS
from services.brokers.choice import producer_side
from services.brokers.producing.side import ProducerTools
from services.contract.codec import encode
from services.contract.event import Event
from services.contract.producing.outgoing import Batch, Outgoing
from services.runtime.clock import SystemClock
from services.runtime.health import Health
from services.runtime.settings import ProducerSettings
from services.runtime.telemetry.metrics import Metrics

T = TypeVar("T")

_MOST_EVENTS: Final = 100_000
"""More of them would only fill our memory: they are prepared before the clock runs."""


def compare(bench: Bench) -> list[Figure]:
    """Publish the same events in both ways, in turns."""
    events = list(generate(min(bench.plan.events, _MOST_EVENTS)))
    plain = _chunks([_as_mapping(event) for event in events])
    batches = [Batch(chunk) for chunk in _chunks([_as_outgoing(*one) for one in enumerate(events, 1)])]
    ways: dict[str, Callable[[], float]] = {
        "plain pipeline": lambda: _pipeline(bench.server, plain),
        "our publisher": lambda: _publisher(bench.server, batches),
    }
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    # What is prepared is no garbage; looking for some in it would be timed.
    gc.collect()
    gc.freeze()
    for number in range(bench.plan.rounds):
        for name in in_turn(list(ways), number):
            speed = _timed(bench.server, len(events), ways[name])
            speeds[name].append(speed)
            bench.say(f"round {number + 1}/{bench.plan.rounds}  {name:<24}{speed:>10,.0f} events/s")
    gc.unfreeze()
    theirs, mine = (Sample(tuple(values)) for values in speeds.values())
    return [
        Figure("producer", "plain pipeline", "events/s", theirs),
        Figure("producer", "our publisher", "events/s", mine),
        Figure("producer", "our publisher / plain pipeline", "x", mine.over(theirs), at_least(2.0)),
    ]


def _timed(server: Server, events: int, way: Callable[[], float]) -> float:
    """Publish to an empty server; gives events a second. Raises BenchFailed if one isn't there."""
    with server.client() as client:
        client.flushall()
        seconds = way()
        published = client.xlen(KEYS.stream)
    if published != events:
        raise BenchFailed(f"producer: wanted {events} events in the stream, and there are {published}")
    return events / seconds


def _pipeline(server: Server, chunks: Sequence[Sequence[dict[str, str]]]) -> float:
    """Publish as the documentation of redis-py shows; gives seconds."""
    with redis.Redis(host="127.0.0.1", port=server.port) as client:
        client.ping()
        started = time.perf_counter()
        for chunk in chunks:
            pipeline = client.pipeline(transaction=False)
            for fields in chunk:
                pipeline.xadd(KEYS.stream, fields)
            pipeline.execute()
        return time.perf_counter() - started


def _publisher(server: Server, batches: Sequence[Batch]) -> float:
    """Publish as our producer does, with the record of the run; gives seconds."""
    settings = ProducerSettings(redis_url=server.url)
    clock, logger = SystemClock(), logging.getLogger(__name__)
    tools = ProducerTools(clock, Metrics("producer"), logger, Health(60.0, clock.monotonic))
    with closing(producer_side(settings, tools)) as side:
        publisher = side.publisher(side.open_run("bench"))
        started = time.perf_counter()
        for batch in batches:
            publisher.publish(batch)
        return time.perf_counter() - started


def _as_mapping(event: Event) -> dict[str, str]:
    flat = encode(event)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _as_outgoing(number: int, event: Event) -> Outgoing:
    return Outgoing(tuple(encode(event)[1::2]), number)


def _chunks(items: Iterable[T]) -> list[list[T]]:
    remaining = iter(items)
    return list(iter(lambda: list(itertools.islice(remaining, BATCH_SIZE)), []))
