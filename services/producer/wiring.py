"""What a producer process is made of, and how its parts publish one feed."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from services.brokers.producing.side import ProducerSide
from services.contract.producing.outgoing import Batch, Feed, Position
from services.contract.producing.publishing import Run
from services.producer.loop import Loop, Totals
from services.producer.options import Told
from services.producer.pace import Pacer, at_rate
from services.runtime.clock import SystemClock
from services.runtime.health import Health
from services.runtime.logs.gate import Logs
from services.runtime.stopping import StopSignals
from services.runtime.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Parts:
    """What every part of the wiring needs."""

    told: Told
    side: ProducerSide
    clock: SystemClock
    health: Health
    metrics: Metrics
    logs: Logs
    logger: logging.Logger
    in_hand: StopSignals


def publish_feed(
    parts: Parts,
    feed: Feed,
    run: Run,
    open_new: Callable[[Position | None], Run],
    *,
    duration_s: float,
    totals: Totals,
    behind: Position | None = None,
    on_batch: Callable[[], None] = lambda: None,
    most_of_a_record: int = 0,
) -> str:
    """Publish a feed until it ends, or one is asked to stop; gives the name of the run that is written last.

    What is published is added to `totals`. Raises BrokerRefuses and Stopping.
    """
    loop = loop_of(
        parts,
        feed,
        run,
        open_new,
        pacer_of(parts.told, parts.clock),
        duration_s=duration_s,
        totals=totals,
        behind=behind,
        on_batch=on_batch,
        most_of_a_record=most_of_a_record,
    )
    loop.run()
    loop.publisher.end()
    return loop.publisher.run.name


def loop_of(
    parts: Parts,
    feed: Feed,
    run: Run,
    open_new: Callable[[Position | None], Run],
    pacer: Pacer,
    *,
    totals: Totals,
    duration_s: float = 0.0,
    behind: Position | None = None,
    on_batch: Callable[[], None] = lambda: None,
    most_of_a_record: int = 0,
) -> Loop:
    """Make the loop that publishes a feed. Raises BrokerRefuses and Stopping."""
    publisher = parts.side.publisher(run)
    if behind is not None:
        publisher.publish(Batch((), behind))
    parts.health.started()
    parts.logger.info("producer_started", extra={"run": run.name, "source": run.source})
    return Loop(
        feed,
        publisher,
        lambda: open_new(publisher.position),
        pacer,
        parts.clock,
        parts.health,
        parts.logger,
        duration_s,
        on_batch,
        parts.in_hand,
        most_of_a_record=most_of_a_record,
        totals=totals,
    )


def pacer_of(told: Told, clock: SystemClock) -> Pacer:
    """Make the schedule that the settings name."""
    if told.settings.rate:
        return at_rate(told.settings.rate, told.settings.stream_max_length, clock.monotonic)
    return Pacer(told.batch_size, told.sleep_interval_s, clock.monotonic)


def finish(parts: Parts, run: str, totals: Totals, of_files: Mapping[str, Any] | None = None) -> None:
    """Write the last line: what the whole process has done, for people and for `telemetry run`."""
    parts.in_hand.ending()
    parts.logs.tell_rest()
    summary = {"run": run, **asdict(totals), "unreadable": 0, **(of_files or {})}
    parts.logger.info("producer_finished", extra=summary)
