"""`python -m services.producer`: wire a producer, run it, close it in reverse order.

Exit codes: 0 stopped as asked, or all is published; 1 the server refuses what we ask for; 2 the
settings, the options or the file can't be used.
"""

import functools
import gc
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, Final, Literal, cast

import redis

from services.brokers.patience import Patience
from services.brokers.redis.keys import keys_of
from services.brokers.redis.publisher import Limits, Publisher
from services.brokers.redis.runs import open_run, take_over
from services.brokers.redis.server.connection import connect, explain
from services.brokers.redis.server.links import Attention
from services.contract.errors import BrokerRefuses, Stopping
from services.contract.outgoing import Feed, Position
from services.contract.publishing import Replayed, Run
from services.producer.files import progress
from services.producer.files.read import Reader, SourceUnusable, check_same, fingerprint, source_key
from services.producer.files.reading import Reading
from services.producer.files.replay import Opener
from services.producer.generate import Generator
from services.producer.loop import Loop, Totals
from services.producer.options import Told, read_options
from services.producer.pace import Pacer, at_rate
from services.runtime.clock import SystemClock
from services.runtime.endpoint import HealthServer
from services.runtime.health import Health
from services.runtime.logs.gate import Logs, refuse
from services.runtime.otlp.switch import open_log_sender, open_metric_sender, open_spans
from services.runtime.outlet import hold_standard
from services.runtime.screen import prepare
from services.runtime.settings import SettingsInvalid, read_sources
from services.runtime.stopping import StopSignals, end_when_asked
from services.runtime.telemetry.metrics import Metrics
from services.runtime.telemetry.send_traces import NO_TRACES, SendTraces, Traces
from services.runtime.telemetry.spans import Spans

_LIVENESS_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Parts:
    """What every part of the wiring needs."""

    told: Told
    client: redis.Redis
    clock: SystemClock
    patience: Patience
    logs: Logs
    logger: logging.Logger
    in_hand: StopSignals


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a producer until it is told to stop, or everything is published; gives the exit code."""
    hold_standard()
    end_when_asked()
    try:
        told = read_options(sys.argv[1:] if arguments is None else arguments)
        clock = SystemClock()
        client = connect(told.settings, attention=Attention(clock.is_stopping))
        logs = Logs("producer", told.settings.log_level, told.settings.log_format)
        logger = logs.logger
        instance = f"{socket.gethostname()}-{os.getpid()}"
        sources = read_sources()
        spans = open_spans("telemetry-producer", instance, sources, logger)
        if (sender := open_log_sender("telemetry-producer", instance, sources, logger)) is not None:
            logs.also_to(sender)
        metrics = Metrics("producer")
        metrics.ask_process()
        metrics.ask(logs.figures)
        metric_sender = open_metric_sender("telemetry-producer", instance, sources, metrics, logger)
    except SettingsInvalid as error:
        refuse("producer", "settings_unusable", error)
        return 2
    logs.take_over()
    in_hand = StopSignals(clock, logger)
    # A batch is thousands of objects that die together: looking for cycles among them costs for nothing.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    health = Health(_LIVENESS_TIMEOUT_S, clock.monotonic)
    traces = _traces(told, spans, clock)
    patience = Patience(
        clock, health, metrics, logger, functools.partial(explain, settings=told.settings), traces
    )
    parts = _Parts(told, client, clock, patience, logs, logger, in_hand)
    with ExitStack() as stack:
        stack.enter_context(logs)  # closed last of all: those who close have something to say
        stack.enter_context(
            HealthServer(told.settings.metrics_port, health, metrics, logger, told.settings.metrics_host)
        )
        for one in (spans, metric_sender):
            if one is not None:
                stack.enter_context(closing(one))
        stack.enter_context(closing(client))
        try:
            return _generate(parts) if told.reading is None else _read(parts, told.reading, stack)
        except SourceUnusable as error:
            refuse("producer", "source_unusable", error)
            return 2
        except BrokerRefuses as error:
            logger.critical("redis_refuses", extra={"error": str(error)})
            return 1
        except Stopping:
            _finish(parts, "", Totals(), None)
            return 0


def _traces(told: Told, spans: Spans | None, clock: SystemClock) -> Traces:
    if spans is None:
        return NO_TRACES
    settings = told.settings
    return SendTraces(
        spans,
        clock,
        stream=settings.stream_name,
        ratio=settings.trace_sample_ratio,
        per_second=settings.trace_spans_per_second,
    )


def _generate(parts: _Parts) -> int:
    settings = parts.told.settings
    generator = Generator(
        settings.kpis,
        settings.device_count,
        settings.zone_count,
        Random(settings.seed) if settings.seed else Random(),
        invalid_ratio=settings.invalid_ratio,
        duplicate_ratio=settings.duplicate_ratio,
    )
    open_new = functools.partial(open_run, parts.client, keys_of(settings), parts.patience, "generator")
    return _run(parts, generator, open_new(), lambda _: open_new())


def _read(parts: _Parts, reading: Reading, stack: ExitStack) -> int:

    def is_stopping() -> bool:
        parts.patience.health.turn()  # whoever waits for the first line of a pipe is alive
        return parts.clock.is_stopping()

    opener = Opener(
        reading,
        is_stopping,
        parts.logger,
        parts.patience.metrics,
        stack,
        parts.told.settings.max_entry_bytes,
    )
    reader = opener.open()
    path = reading.path
    if path is not None and not path.is_file():
        if reading.resume:
            raise SourceUnusable(f"{path}: not a regular file, so it can't be read again by --resume")
        path = None  # a pipe gives its bytes once: none for a fingerprint
    key = None if path is None else source_key(path)
    begins = "" if path is None else fingerprint(path)
    replayed = _go_on(parts, path, key) if reading.resume and path and key else None
    if replayed is not None:
        if path and replayed.is_done and replayed.offset == path.stat().st_size:
            parts.logger.info("already_published", extra={"file": str(path), "run": replayed.run.name})
            _finish(parts, replayed.run.name, Totals(), reader)
            return 0
        reader = opener.open((replayed.offset, replayed.line))
        parts.logger.info(
            "resumed", extra={"file": str(path), "run": replayed.run.name, "after_line": replayed.line}
        )
    open_new = functools.partial(
        open_run, parts.client, keys_of(parts.told.settings), parts.patience, opener.name, key, begins
    )
    run = open_new() if replayed is None else replayed.run
    show = stack.enter_context(progress.shown(path))
    return _run(parts, reader, run, open_new, lambda: show(reader.records.offset))


def _go_on(parts: _Parts, path: Path, key: str) -> Replayed | None:
    def check(found: Replayed) -> None:
        check_same(path, found.run.fingerprint, found.offset)

    return take_over(parts.client, keys_of(parts.told.settings), parts.patience, key, check)


def _run(
    parts: _Parts,
    feed: Feed,
    run: Run,
    open_new: Callable[[Position | None], Run],
    on_batch: Callable[[], None] = lambda: None,
) -> int:
    settings = parts.told.settings
    when_full = cast("Literal['block', 'drop_oldest']", settings.stream_full)
    publisher = Publisher(
        parts.client, keys_of(settings), run, parts.patience, Limits(settings.stream_max_length, when_full)
    )
    loop = Loop(
        feed,
        publisher,
        lambda: open_new(publisher.position),
        _pacer(parts),
        parts.clock,
        parts.patience.health,
        parts.logger,
        parts.told.duration_s,
        on_batch,
        parts.in_hand,
    )
    parts.patience.health.started()
    parts.logger.info("producer_started", extra={"run": run.name, "source": run.source})
    loop.run()
    _finish(parts, publisher.run.name, loop.totals, feed)
    return 0


def _pacer(parts: _Parts) -> Pacer:
    told = parts.told
    if told.settings.rate:
        return at_rate(told.settings.rate, told.settings.stream_max_length, parts.clock.monotonic)
    return Pacer(told.batch_size, told.sleep_interval_s, parts.clock.monotonic)


def _finish(parts: _Parts, run: str, totals: Totals, feed: Feed | None) -> None:
    """Write the last line: what the whole process has done, for people and for `telemetry run`."""
    summary: dict[str, Any] = {"run": run, **asdict(totals)}
    if isinstance(feed, Reader):
        summary["unreadable"] = feed.unreadable
        if feed.unreadable_lines:
            summary["unreadable_lines"] = feed.unreadable_lines
    parts.in_hand.ending()
    parts.logs.tell_rest()
    parts.logger.info("producer_finished", extra={"unreadable": 0, **summary})


if __name__ == "__main__":
    prepare()
    sys.exit(main())
