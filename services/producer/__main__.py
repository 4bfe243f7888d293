"""`python -m services.producer`: wire a producer, run it, close it in reverse order.

Exit codes: 0 stopped as asked, or all is published; 1 the server refuses what we ask for; 2 the
settings, the options or a file can't be used; 3 of the files not everything is published; 4 the same, but it
was only stopped: run again, it goes on there (files/ending.py).
"""

import functools
import gc
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from random import Random
from typing import Final

from services.brokers.choice import producer_side
from services.brokers.producing.send_traces import NO_TRACES, SendTraces, Traces
from services.brokers.producing.side import ProducerTools
from services.contract.errors import BrokerRefuses, Stopping
from services.producer.files.decode import SourceUnusable
from services.producer.generate import Generator
from services.producer.http.openapi import pages
from services.producer.loop import Totals
from services.producer.options import Told, read_options
from services.producer.replays.follow import Following
from services.producer.replays.publish import Publishing
from services.producer.wiring import Parts, finish, publish_feed
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
    parts = Parts(told, side, clock, health, metrics, logs, logger, in_hand)
    with ExitStack() as stack:
        stack.enter_context(logs)  # closed last of all: those who close have something to say
        stack.enter_context(
            HealthServer(
                told.settings.metrics_port,
                health,
                metrics,
                logger,
                told.settings.metrics_host,
                pages(told.settings) if told.settings.producer_mode == "http" else {},
            )
        )
        for one in (spans, metric_sender):
            if one is not None:
                stack.enter_context(closing(one))
        stack.enter_context(closing(side))
        try:
            if told.settings.producer_mode in {"http", "mqtt"}:
                return _take_in(parts, told.settings.producer_mode)
            return _read(parts) if told.readings else _generate(parts)
        except SettingsInvalid as error:
            refuse("producer", "settings_unusable", error)
            return 2
        except SourceUnusable as error:
            refuse("producer", "source_unusable", error)
            return 2
        except BrokerRefuses as error:
            logger.critical("redis_refuses", extra={"error": str(error)})
            return 1
        except Stopping:
            finish(parts, "", Totals())
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


def _read(parts: Parts) -> int:
    readings = parts.told.readings
    return (Following if readings[0].follow else Publishing)(parts, readings).run()


def _take_in(parts: Parts, mode: str) -> int:
    # Only now: its libraries are a large part of a start, and need not be there for all else.
    from services.producer.take import Build, take_in  # noqa: PLC0415

    build: Build
    try:
        if mode == "http":
            from services.producer.http.door import Door as HttpDoor  # noqa: PLC0415

            build = HttpDoor
        else:
            from services.producer.mqtt.door import Door as MqttDoor  # noqa: PLC0415

            build = MqttDoor
    except ModuleNotFoundError as error:
        raise SettingsInvalid(
            [f"PRODUCER_MODE={mode} needs the package {error.name}: pip install 'telemetry-pipeline[{mode}]'"]
        ) from None
    return take_in(parts, mode, build)


def _generate(parts: Parts) -> int:
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
    totals = Totals()
    run = publish_feed(
        parts,
        generator,
        open_new(),
        lambda _: open_new(),
        duration_s=parts.told.duration_s,
        totals=totals,
    )
    finish(parts, run, totals)
    return 0


if __name__ == "__main__":
    prepare()
    sys.exit(main())
