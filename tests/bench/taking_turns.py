"""Three consumers of one process, in turns of a batch: `python -m bench.taking_turns N`.

    unobserved    counts nothing, logs nothing, traces nothing; of the stream `plain`
    ours          metrics and logs; of the stream `plain`
    traced        the same, and traces; of the stream `traced`, in which 1 % of the batches carry contexts

While traces are off a batch still tells how far it is, to somebody who does not listen. These calls are made
once more after each turn of `unobserved`, and timed by themselves: they are `calls`.

Each has its group, named as itself, its database and its counters. What else runs in the process for those
who watch (the answers to scrapes, the observer of the group, the thread that exports spans) is told apart: it
is all that did not pass in this thread. Written as JSON, in seconds of processor time, after N turns of each;
the first fifth of them is not counted: what may be traced at once at the start would weigh more than it does.

In turns, batch by batch, because a machine that is slower for a while is then slower for all of them.
"""

import gc
import json
import logging
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, get_args

from bench.plan import in_turn
from services.brokers.choice import consumer_side
from services.brokers.tools import Tools
from services.consumer.__main__ import make_doors, make_traces, make_worker, unpacking
from services.consumer.batch import Outcome, Rules
from services.consumer.stages import Stage
from services.consumer.telemetry.times import Times
from services.consumer.telemetry.traces import NO_TRACES, Traces
from services.consumer.worker import Worker
from services.runtime.clock import SystemClock
from services.runtime.endpoint import HealthServer
from services.runtime.health import Health
from services.runtime.logs.gate import Logs
from services.runtime.otlp.switch import open_spans
from services.runtime.settings import ConsumerSettings, Sources, load, read_sources
from services.runtime.telemetry.metrics import Metrics
from services.stores.choice import store_of
from services.stores.sqlite.sink import SQLiteSink
from services.stores.storage import Storage

STREAMS: Final = {"unobserved": "plain", "ours": "plain", "traced": "traced"}
BESIDE: Final = "beside"
"""What passed in other threads."""
CALLS: Final = "calls"
"""What a batch tells nobody."""
_STAGES: Final[tuple[Stage, ...]] = tuple(stage for stage in get_args(Stage) if stage != "steps")
_NOTHING: Final = Outcome((), (), 0, ())
_UNCOUNTED: Final = 5
"""The first of so many parts of the turns."""


class NoMetrics(Metrics):
    """Takes every number, and keeps none."""

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Count nothing."""

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set nothing."""

    def observe(self, name: str, value: float, trace_id: str | None = None, **labels: str) -> None:
        """Observe nothing."""


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all of them have in common."""

    settings: ConsumerSettings
    sources: Sources
    clock: SystemClock
    logger: logging.Logger
    stack: ExitStack


def run(turns: int) -> dict[str, float]:
    """Let each take so many turns; gives the seconds of processor time of each, and those beside them."""
    sources = read_sources()
    settings = load(ConsumerSettings, sources)
    with ExitStack() as stack:
        logs = stack.enter_context(Logs("consumer", "INFO", "json"))
        logs.take_over()
        shared = _Shared(settings, sources, SystemClock(0), logs.logger, stack)
        workers = {"unobserved": _unobserved(shared), "ours": _observed(shared), "traced": _traced(shared)}
        # As the consumer does.
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        return _take_turns(workers, turns)


def _take_turns(workers: dict[str, Worker], turns: int) -> dict[str, float]:
    spent: dict[str, float] = {}
    names = list(workers)
    mine = everyones = 0.0
    for number in range(turns):
        if number in {0, turns // _UNCOUNTED}:
            spent = dict.fromkeys([*workers, CALLS], 0.0)
            mine, everyones = time.thread_time(), time.process_time()
        for name in in_turn(names, number):
            before = time.thread_time()
            workers[name].turn()
            spent[name] += time.thread_time() - before
            if name == "unobserved":
                before = time.thread_time()
                _tell_nobody()
                spent[CALLS] += time.thread_time() - before
    mine, everyones = time.thread_time() - mine, time.process_time() - everyones
    return {**spent, BESIDE: everyones - mine}


def _tell_nobody() -> None:
    with NO_TRACES.batch(()):
        NO_TRACES.untraced()
        for stage in _STAGES:
            NO_TRACES.done(stage)
        NO_TRACES.settled(_NOTHING)


def _unobserved(shared: _Shared) -> Worker:
    silent = logging.getLogger("silent")
    silent.setLevel(logging.CRITICAL)
    return _worker(shared, "unobserved", NoMetrics("consumer"), silent, NO_TRACES)


def _observed(shared: _Shared) -> Worker:
    metrics = Metrics("consumer", {"kpi": shared.settings.kpis})
    return _worker(shared, "ours", metrics, shared.logger, Times(metrics, shared.clock))


def _traced(shared: _Shared) -> Worker:
    """Make the one that has all of it, with what runs beside it."""
    settings, clock, logger, stack = shared.settings, shared.clock, shared.logger, shared.stack
    metrics = Metrics("consumer", {"kpi": settings.kpis})
    metrics.ask_process()
    metrics.ask(Storage(settings, logger).figures)
    health = Health(settings.liveness_timeout_s, clock.monotonic)
    stack.enter_context(HealthServer(settings.metrics_port, health, metrics, logger))
    spans = open_spans("telemetry-consumer", settings.name, shared.sources, logger)
    assert spans is not None, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT says where to"
    stack.enter_context(closing(spans))
    own = _own(settings, "traced")
    observer = stack.enter_context(closing(consumer_side(own, Tools(clock, metrics, logger)).observe()))
    metrics.ask(observer.figures)
    return _worker(shared, "traced", metrics, logger, Times(metrics, clock, make_traces(own, spans, clock)))


def _own(settings: ConsumerSettings, name: str) -> ConsumerSettings:
    return replace(
        settings, stream_name=STREAMS[name], group_name=name, data_dir=Path(settings.data_dir) / name
    )


def _worker(shared: _Shared, name: str, metrics: Metrics, logger: logging.Logger, traces: Traces) -> Worker:
    settings, clock = _own(shared.settings, name), shared.clock
    side = consumer_side(settings, Tools(clock, metrics, logger))
    sink = SQLiteSink(settings.database, settings.sqlite_busy_timeout_ms, clock.now)
    store = store_of(settings)
    doors = unpacking(settings, make_doors(settings, store, sink, side, clock), store, logger)
    for door in doors:
        shared.stack.enter_context(closing(door))
    health = Health(settings.liveness_timeout_s, clock.monotonic)
    rules = Rules(settings.kpis, settings.max_future_s, settings.max_deliveries)
    return make_worker(settings, doors, rules, side.upkeep(), clock, health, metrics, logger, traces)


if __name__ == "__main__":
    json.dump(run(int(sys.argv[1])), sys.stderr)
