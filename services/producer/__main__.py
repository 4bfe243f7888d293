"""`python -m services.producer`: wire a producer, run it, close it in reverse order.

Exit codes: 0 stopped as asked, or all is published; 1 the server refuses what we ask for; 2 the
settings, the options or the file can't be used; 3 of a file not everything is published (files/ending.py).
"""

import functools
import gc
import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
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
from services.producer.files.decode import SourceUnusable
from services.producer.files.ending import NOT_ALL, Ending
from services.producer.files.inputs import fingerprint, is_same, source_key
from services.producer.files.read import MOST_OF_A_RECORD
from services.producer.files.reading import Reading
from services.producer.files.rejected import Rejected
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
            _finish(parts, "", Totals())
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
    key = None if file is None else source_key(file, reading.mapped)
    begins = "" if file is None else fingerprint(file)
    is_exact = opener.is_exact
    replayed = _take_over(parts, reading, file, key, is_exact=is_exact) if file and key else None
    ending = Ending(reader, reading, is_resumed=replayed is not None)
    if replayed is not None:
        told = {"file": str(file), "run": replayed.run.name}
        if file and replayed.is_done and is_exact and replayed.offset == file.stat().st_size:
            parts.logger.info("already_published", extra=told)
            _finish(parts, replayed.run.name, Totals())
            return 0
        ending.reader = reader = opener.open((replayed.offset, replayed.line))
        behind = reader.pass_over(replayed.ahead, parts.clock.is_stopping)
        parts.logger.info("resumed", extra={**told, "after_line": behind.line if behind else replayed.line})
    open_new = functools.partial(parts.side.open_run, opener.name, key, begins)
    run = open_new() if replayed is None else replayed.run
    ending.rejected = reader.refusals = stack.enter_context(
        closing(
            Rejected(
                parts.told.settings.data_dir,
                opener.name,
                key or run.name,
                parts.logger,
                after_line=0 if replayed is None else replayed.line,
            )
        )
    )
    show = stack.enter_context(progress.shown(file))

    def on_batch() -> None:
        reader.confirm()
        show(opener.bytes_read)

    return _run(parts, reader, run, open_new, behind, on_batch, ending)


def _opener(parts: _Parts, reading: Reading, stack: ExitStack) -> Opener:

    def is_stopping() -> bool:
        parts.health.turn()  # whoever waits for the first line of a pipe is alive
        return parts.clock.is_stopping()

    settings = parts.told.settings
    return Opener(
        reading,
        Spellings(settings.kpis),
        is_stopping,
        parts.logger,
        parts.metrics,
        stack,
        settings.max_entry_bytes,
        # A batch that is larger than the stream would wait for room for ever.
        min(MOST_OF_A_RECORD, settings.stream_max_length or MOST_OF_A_RECORD),
    )


def _file_of(reading: Reading) -> Path | None:
    """Give the file; None for what gives its bytes once: none for a fingerprint. Raises SourceUnusable."""
    path = reading.path
    if path is None or path.is_file():
        return path
    if reading.resume:
        raise SourceUnusable(f"{path}: not a regular file, so it can't be read again by --resume")
    return None


class _Another(Exception):
    """What lies under this path now is not what was published before, or nothing of it was."""


def _take_over(parts: _Parts, reading: Reading, file: Path, key: str, *, is_exact: bool) -> Replayed | None:
    """Go on with what is published of a file; None where nothing is. Raises SourceUnusable.

    A file that was published is refused unless somebody says what is to become of it.
    """

    def check(found: Replayed) -> None:
        is_begun = bool(found.run.batches or found.offset or found.is_done)
        if not is_same(file, found.run.fingerprint, found.offset if is_exact else 0):
            if reading.resume and is_begun and not found.is_done:
                raise SourceUnusable(
                    f"{file}: not the file that was published up to line {found.line}, or it was changed "
                    "since; --again publishes it from its beginning, and so does another name"
                )
            parts.logger.warning("another_file", extra={"file": str(file)})
            raise _Another
        if not reading.resume and is_begun:
            is_whole = found.is_done and found.offset >= (file.stat().st_size if is_exact else 0)
            how_far = "" if is_whole else f"up to line {found.line} "
            raise SourceUnusable(
                f"{file}: published {how_far}before, with this mapping (run {found.run.name}); "
                "--resume goes on behind that, --again publishes all of it once more"
            )
        if not reading.resume:
            raise _Another

    if reading.again:
        return None
    try:
        return parts.side.take_over(key, check)
    except _Another:
        return None


def _run(
    parts: _Parts,
    feed: Feed,
    run: Run,
    open_new: Callable[[Position | None], Run],
    behind: Position | None = None,
    on_batch: Callable[[], None] = lambda: None,
    ending: Ending | None = None,
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
        most_of_a_record=0 if ending is None else MOST_OF_A_RECORD,
    )
    parts.health.started()
    parts.logger.info("producer_started", extra={"run": run.name, "source": run.source})
    loop.run()
    publisher.end()
    if ending is None:
        _finish(parts, publisher.run.name, loop.totals)
        return 0
    _finish(parts, publisher.run.name, loop.totals, ending.as_record())
    return NOT_ALL if ending.failures() else 0


def _pacer(parts: _Parts) -> Pacer:
    told = parts.told
    if told.settings.rate:
        return at_rate(told.settings.rate, told.settings.stream_max_length, parts.clock.monotonic)
    return Pacer(told.batch_size, told.sleep_interval_s, parts.clock.monotonic)


def _finish(parts: _Parts, run: str, totals: Totals, of_file: Mapping[str, Any] | None = None) -> None:
    """Write the last line: what the whole process has done, for people and for `telemetry run`."""
    parts.in_hand.ending()
    parts.logs.tell_rest()
    summary = {"run": run, **asdict(totals), "unreadable": 0, **(of_file or {})}
    parts.logger.info("producer_finished", extra=summary)


if __name__ == "__main__":
    prepare()
    sys.exit(main())
