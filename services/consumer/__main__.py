"""`python -m services.consumer`: wire a consumer, run it, close it in reverse order.

Exit codes: 0 stopped as asked; 1 the sink can't be used; 2 the settings can't be used, or lead to no sink.
"""

import functools
import gc
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from typing import Final, TypeVar

from services.brokers.choice import consumer_side
from services.brokers.consuming.side import ConsumerSide, Upkeep
from services.brokers.tools import Tools
from services.consumer.auditing import Auditor
from services.consumer.batch import Rules, run_batch
from services.consumer.breaker import Breaker
from services.consumer.packed.suspects import find_settled
from services.consumer.packed.unpacking import UnpackingSource
from services.consumer.persist import Persist
from services.consumer.steps import StepsInvalid, load_steps
from services.consumer.telemetry.report import Reporter
from services.consumer.telemetry.silence import HeardSink, Silence
from services.consumer.telemetry.times import Times
from services.consumer.telemetry.traces import NO_TRACES, BatchTraces, Traces
from services.consumer.worker import Worker
from services.contract.consuming.doors import DeadLetters, Sink, Source
from services.contract.errors import SinkUnavailable, SinkUnusable, SinkWrong, Stopping
from services.runtime.clock import SystemClock
from services.runtime.endpoint import HealthServer
from services.runtime.health import Health
from services.runtime.logs.gate import Logs, refuse
from services.runtime.otlp.switch import open_log_sender, open_metric_sender, open_spans
from services.runtime.outlet import hold_standard
from services.runtime.screen import answer, prepare, remark
from services.runtime.settings import ConsumerSettings, SettingsInvalid, load, read_sources
from services.runtime.stopping import StopSignals, end_when_asked
from services.runtime.telemetry.metrics import Figures, Metrics
from services.runtime.telemetry.spans import Spans
from services.stores.blank import refuse_blank
from services.stores.choice import figures_of, open_dead_letters, store_of
from services.stores.doors import Store

Doors = tuple[Source, Sink, DeadLetters]
_Answer = TypeVar("_Answer")

_SINK_PAUSE_S: Final = 0.5
"""Between two tries to open a database that is locked, or on a full disk."""


def main(dress: Callable[[Doors], Doors] = lambda doors: doors) -> int:
    """Run a consumer until it is told to stop. `dress` wraps the doors, to observe or disturb them."""
    hold_standard()
    end_when_asked()
    try:
        sources = read_sources()
        settings = load(ConsumerSettings, sources)
        steps = load_steps()
        logs = Logs("consumer", settings.log_level, settings.log_format)
        logger = logs.logger
        spans = open_spans("telemetry-consumer", settings.name, sources, logger)
        if (sender := open_log_sender("telemetry-consumer", settings.name, sources, logger)) is not None:
            logs.also_to(sender)
        metrics = Metrics("consumer", {"kpi": settings.kpis})
        metrics.ask_process()
        metrics.ask(logs.figures)
        store = store_of(settings)
        metrics.ask(figures_of(settings, store, logger))
        metric_sender = open_metric_sender("telemetry-consumer", settings.name, sources, metrics, logger)
    except (SettingsInvalid, StepsInvalid) as error:
        refuse("consumer", "settings_unusable", error)
        return 2
    logs.take_over()
    clock = SystemClock(settings.consumer_run_duration)
    in_hand = StopSignals(clock, logger)
    # Nothing that is made while starting is garbage. And a batch is thousands of objects that all die
    # together: looking for cycles among them every 700 takes a tenth of the time for nothing.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    health = Health(settings.liveness_timeout_s, clock.monotonic)
    rules = Rules(
        settings.kpis, settings.max_future_s, settings.max_deliveries, steps, settings.max_entry_bytes
    )
    with ExitStack() as stack:
        stack.enter_context(logs)  # closed last of all: those who close have something to say
        server = stack.enter_context(
            HealthServer(settings.metrics_port, health, metrics, logger, settings.metrics_host)
        )
        for one in (spans, metric_sender):
            if one is not None:  # closed behind the doors: what they do at last is settled by then
                stack.enter_context(closing(one))
        try:
            side = consumer_side(settings, Tools(clock, metrics, logger))
            sink = _open_sink(store, clock, health, metrics, logger)
            doors = dress(make_doors(settings, store, sink, side, clock))
        except SettingsInvalid as error:
            refuse("consumer", "settings_unusable", error)
            return 2
        except SinkUnusable as error:
            return _unusable(error, logger)
        except Stopping:
            in_hand.ending()
            logs.tell_rest()
            logger.info("consumer_finished", extra={"consumer": settings.name, "stored": 0, "dead": 0})
            return 0
        doors = unpacking(settings, doors, store, logger)
        source, sink, dead_letters = doors
        heard = HeardSink(sink, clock.now) if settings.silent_after_s else None
        if heard is not None:
            sink = heard
            doors = source, sink, dead_letters
        for door in (source, dead_letters, sink):
            stack.enter_context(closing(door))
        observed: Callable[[], Figures] = dict
        if server.is_serving or metric_sender is not None:
            # Only for who can tell: it keeps others from observing.
            observer = stack.enter_context(closing(side.observe()))
            metrics.ask(observer.figures)
            observed = observer.figures
        if heard is not None:
            silence = stack.enter_context(
                closing(watch_silence(settings, store, heard, observed, clock, logger))
            )
            metrics.ask(silence.figures)
        if settings.retain_days and settings.audit_interval_s:
            retention = store.open_retention()
            stack.enter_context(closing(Auditor(retention, settings.audit_interval_s, clock.now, logger)))
        times = Times(metrics, clock, make_traces(settings, spans, clock))
        worker = make_worker(
            settings, doors, rules, side.upkeep(), clock, health, metrics, logger, times, in_hand
        )
        logger.info("consumer_started", extra={"consumer": settings.name, "steps": len(steps)})
        see = functools.partial(refuse_blank, settings, store, side.settled)
        worker.begin = functools.partial(_with_store, see, clock, health, metrics, logger)
        try:
            worker.run()
        except SinkUnusable as error:
            return _unusable(error, logger)
        in_hand.ending()
        logs.tell_rest()
        logger.info(
            "consumer_finished",
            extra={
                "consumer": settings.name,
                "stored": worker.reporter.stored,
                "dead": worker.reporter.dead,
            },
        )
    return 0


def _open_sink(
    store: Store, clock: SystemClock, health: Health, metrics: Metrics, logger: logging.Logger
) -> Sink:
    """Open the sink, however long it is locked or full. Raises SinkUnusable and Stopping."""
    sink = _with_store(lambda: store.open_sink(clock, logger), clock, health, metrics, logger)
    logger.info("sink_opened", extra={"place": store.place})
    return sink


def _with_store(
    ask: Callable[[], _Answer], clock: SystemClock, health: Health, metrics: Metrics, logger: logging.Logger
) -> _Answer:
    """Ask a store, however long it is away, locked or full. Raises what `ask` does, and Stopping."""
    while True:
        health.turn()
        try:
            found = ask()
        except SinkUnavailable as error:
            health.fail("sink", str(error))
            metrics.set("telemetry_sink_up", 0)
            logger.error("sink_unavailable", extra={"error": str(error)})
            clock.sleep(_SINK_PAUSE_S)
        else:
            health.clear("sink")
            metrics.set("telemetry_sink_up", 1)
            return found
        if clock.is_stopping():
            raise Stopping("asked to stop while the sink could not be opened")


def _unusable(error: SinkUnusable, logger: logging.Logger) -> int:
    """Say what can't be used; gives the exit code."""
    logger.critical("sink_unusable", extra={"error": str(error)})
    return 2 if isinstance(error, SinkWrong) else 1


def make_doors(
    settings: ConsumerSettings, store: Store, sink: Sink, side: ConsumerSide, clock: SystemClock
) -> Doors:
    """Make what entries come in by, and what they leave by."""
    at_broker = settings.letters_in == "stream"
    dead_letters = side.dead_letters() if at_broker else open_dead_letters(settings, store, clock)
    return side.source(), sink, dead_letters


def unpacking(settings: ConsumerSettings, doors: Doors, store: Store, logger: logging.Logger) -> Doors:
    """Have entries of many events taken apart at the first door."""
    source, sink, dead_letters = doors

    def missing_of(ids: Sequence[str]) -> list[str]:
        with closing(store.open_rows()) as rows:
            return rows.missing_of(ids)

    apart = UnpackingSource(
        source,
        functools.partial(find_settled, missing_of, dead_letters),
        logger,
        batch_size=settings.batch_size,
        max_entry_bytes=settings.max_entry_bytes,
        max_deliveries=settings.max_deliveries,
    )
    return apart, sink, dead_letters


def watch_silence(
    settings: ConsumerSettings,
    store: Store,
    heard: HeardSink,
    observed: Callable[[], Figures],
    clock: SystemClock,
    logger: logging.Logger,
) -> Silence:
    """Note from now on whom the sink hears, and count who is silent where this replica observes the group."""
    silence = Silence(
        heard,
        store.open_readings(),
        lambda: bool(observed()),
        clock.now,
        clock.monotonic,
        logger,
        silent_after_s=settings.silent_after_s,
        forget_days=settings.silent_forget_days,
    )
    silence.start()
    return silence


def make_worker(
    settings: ConsumerSettings,
    doors: Doors,
    rules: Rules,
    upkeep: Upkeep,
    clock: SystemClock,
    health: Health,
    metrics: Metrics,
    logger: logging.Logger,
    traces: Traces,
    in_hand: AbstractContextManager[None] | None = None,
) -> Worker:
    """Make the loop, and all that it works with."""
    source, sink, dead_letters = doors
    persist = Persist(
        sink,
        dead_letters,
        settings.max_retries,
        settings.retry_backoff_s,
        clock,
        health,
        metrics,
        logger,
        traces,
        source.still_working,
    )
    return Worker(
        source,
        functools.partial(
            run_batch,
            source=source,
            rules=rules,
            persist=persist,
            breaker=Breaker(settings.dlq_breaker_ratio),
            now=clock.now,
            stages=traces,
        ),
        upkeep,
        Reporter(metrics, logger, clock),
        clock,
        health,
        metrics,
        logger,
        traces,
        in_hand or nullcontext(),
    )


def make_traces(settings: ConsumerSettings, spans: Spans | None, clock: SystemClock) -> Traces:
    """Make what follows the batches; nothing does where there are no spans."""
    if spans is None:
        return NO_TRACES
    return BatchTraces(
        spans,
        clock,
        stream=settings.stream_name,
        group=settings.group_name,
        consumer=settings.name,
        ratio=settings.trace_sample_ratio,
        per_second=settings.trace_spans_per_second,
    )


def _main() -> int:
    prepare()
    if len(sys.argv) > 1:
        is_asked = sys.argv[1] in {"-h", "--help"}
        tell = answer if is_asked else remark
        tell(
            "python -m services.consumer takes no arguments: settings come from the environment "
            "(telemetry settings lists them)"
        )
        return 0 if is_asked else 2
    return main()


if __name__ == "__main__":
    sys.exit(_main())
