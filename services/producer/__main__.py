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
from typing import Any, Final

from services.brokers.choice import producer_side
from services.brokers.producing.send_traces import NO_TRACES, SendTraces, Traces
from services.brokers.producing.side import ProducerSide, ProducerTools
from services.contract.errors import BrokerRefuses, Stopping
from services.contract.producing.outgoing import Batch, Feed, Position
from services.contract.producing.publishing import Replayed, Run
from services.producer.files import progress
from services.producer.files.inputs import SourceUnusable, check_same, fingerprint, source_key
from services.producer.files.read import Reader
from services.producer.files.reading import Reading
from services.producer.files.replay import Opener
from services.producer.generate import Generator
from services.producer.loop import Loop, Totals
from services.producer.options import Told, read_options
from services.producer.pace import Pacer, at_rate
from services.producer.spellings import Spellings
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
from services.runtime.telemetry.spans import Spans

_LIVENESS_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Parts:
    """What every part of the wiring needs."""

    told: Told
    side: ProducerSide
    clock: SystemClock
    health: Health
    metrics: Metrics
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
        logs = Logs("producer", told.settings.log_level, told.settings.log_format)
        logger = logs.logger
        instance = f"{socket.gethostname()}-{os.getpid()}"
        sources = read_sources()
        spans = open_spans("telemetry-producer", instance, sources, logger)
        metrics = Metrics("producer")
        health = Health(_LIVENESS_TIMEOUT_S, clock.monotonic)
        tools = ProducerTools(clock, metrics, logger, health, _traces(told, spans, clock))
        side = producer_side(told.settings, tools)
        if (sender := open_log_sender("telemetry-producer", instance, sources, logger)) is not None:
            logs.also_to(sender)
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
    parts = _Parts(told, side, clock, health, metrics, logs, logger, in_hand)
    with ExitStack() as stack:
        stack.enter_context(logs)  # closed last of all: those who close have something to say
        stack.enter_context(
            HealthServer(told.settings.metrics_port, health, metrics, logger, told.settings.metrics_host)
        )
        for one in (spans, metric_sender):
            if one is not None:
                stack.enter_context(closing(one))
        stack.enter_context(closing(side))
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
    open_new = functools.partial(parts.side.open_run, "generator")
    return _run(parts, generator, open_new(), lambda _: open_new())


def _read(parts: _Parts, reading: Reading, stack: ExitStack) -> int:
    opener = _opener(parts, reading, stack)
    reader = opener.open()
    behind: Position | None = None
    file = _file_of(reading)
    key = None if file is None else source_key(file)
    begins = "" if file is None else fingerprint(file)
    replayed = _take_over(parts, file, key) if reading.resume and file and key else None
    if replayed is not None:
        told = {"file": str(file), "run": replayed.run.name}
        if file and replayed.is_done and replayed.offset == file.stat().st_size:
            parts.logger.info("already_published", extra=told)
            _finish(parts, replayed.run.name, Totals(), reader)
            return 0
        reader = opener.open((replayed.offset, replayed.line))
        behind = reader.pass_over(replayed.ahead, parts.clock.is_stopping)
        parts.logger.info("resumed", extra={**told, "after_line": behind.line if behind else replayed.line})
    open_new = functools.partial(parts.side.open_run, opener.name, key, begins)
    run = open_new() if replayed is None else replayed.run
    show = stack.enter_context(progress.shown(file))
    return _run(parts, reader, run, open_new, behind, lambda: show(reader.records.offset))


def _opener(parts: _Parts, reading: Reading, stack: ExitStack) -> Opener:

    def is_stopping() -> bool:
        parts.health.turn()  # whoever waits for the first line of a pipe is alive
        return parts.clock.is_stopping()

    settings = parts.told.settings
    max_entry_bytes = settings.max_entry_bytes
    return Opener(
        reading, Spellings(settings.kpis), is_stopping, parts.logger, parts.metrics, stack, max_entry_bytes
    )


def _file_of(reading: Reading) -> Path | None:
    """Give the file; None for what gives its bytes once: none for a fingerprint. Raises SourceUnusable."""
    path = reading.path
    if path is None or path.is_file():
        return path
    if reading.resume:
        raise SourceUnusable(f"{path}: not a regular file, so it can't be read again by --resume")
    return None


def _take_over(parts: _Parts, file: Path, key: str) -> Replayed | None:
    return parts.side.take_over(key, lambda found: check_same(file, found.run.fingerprint, found.offset))


def _run(
    parts: _Parts,
    feed: Feed,
    run: Run,
    open_new: Callable[[Position | None], Run],
    behind: Position | None = None,
    on_batch: Callable[[], None] = lambda: None,
) -> int:
    publisher = parts.side.publisher(run)
    if behind is not None:
        publisher.publish(Batch((), behind))
    loop = Loop(
        feed,
        publisher,
        lambda: open_new(publisher.position),
        _pacer(parts),
        parts.clock,
        parts.health,
        parts.logger,
        parts.told.duration_s,
        on_batch,
        parts.in_hand,
    )
    parts.health.started()
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
        if feed.left_out.counts:
            summary["left_out"] = dict(feed.left_out.counts)
        if feed.unreadable_lines:
            summary["unreadable_lines"] = feed.unreadable_lines
    parts.in_hand.ending()
    parts.logs.tell_rest()
    parts.logger.info("producer_finished", extra={"unreadable": 0, **summary})


if __name__ == "__main__":
    prepare()
    sys.exit(main())
