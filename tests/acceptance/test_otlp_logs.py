"""Log lines of real processes, through a real collector: each one, with its trace."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import pytest
from acceptance.rig import PATIENCE_S, Rig
from observability import LoggedRecord, Observability
from servers import eventually

SEVERITIES = {"DEBUG": 5, "INFO": 9, "WARNING": 13, "ERROR": 17, "CRITICAL": 21}


class _Said(NamedTuple):
    """What is the same of a line and of its record."""

    message: str
    level: str
    severity: int
    trace_id: str
    milliseconds: int


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_every_line_is_at_the_collector_too(rig: Rig, observability: Observability, protocol: str) -> None:
    """With its time, severity, fields, process, and the trace that Jaeger has."""
    name = f"consumer-{protocol[:4]}"
    sent = observability.environment(protocol) | {
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_BLRP_SCHEDULE_DELAY": "100",
        "TRACE_SAMPLE_RATIO": "1",
        "LOG_LEVEL": "DEBUG",
    }
    rig.publisher().valid(20).unreadable().send()
    consumer = rig.consumer(name, **sent)
    rig.drain(consumer)
    consumer.stop()
    lines = Counter(_line(line) for line in consumer.lines())
    assert {"consumer_started", "batch_settled", "event_healthy", "event_dead_lettered"} <= {
        line.message for line in lines
    }

    def all_found() -> bool:
        return observability.logs.found(name, "consumer_finished") != []

    eventually(all_found, PATIENCE_S, "the last line")
    assert Counter(_record(one) for one in observability.logs.found(name)) == lines
    (dead,) = observability.logs.found(name, "event_dead_lettered")
    (said,) = consumer.lines("event_dead_lettered")
    assert dead.attributes["stage"] == said["stage"]
    assert dead.attributes["events"] == 1
    assert (dead.resource["service.name"], dead.resource["service.version"]) == (
        "telemetry-consumer",
        said["version"],
    )
    trace = eventually(lambda: observability.trace(dead.trace_id), PATIENCE_S, "the trace of the line")
    assert dead.raw["spanId"] in {span["spanID"] for span in trace.spans}


def test_without_the_variable_no_line_is_sent(rig: Rig, observability: Observability) -> None:
    """An endpoint alone switches on the traces."""
    rig.publisher().valid(5).send()
    consumer = rig.consumer("consumer-quiet", **observability.environment(), TRACE_SAMPLE_RATIO="1")
    rig.drain(consumer)
    consumer.stop()
    (settled,) = consumer.lines("batch_settled")
    eventually(lambda: observability.trace(settled["trace_id"]), PATIENCE_S, "the trace of the line")
    assert observability.logs.found("consumer-quiet") == []


def _line(line: Mapping[str, Any]) -> _Said:
    milliseconds = round(datetime.fromisoformat(line["asctime"]).timestamp() * 1000)
    return _Said(
        line["message"],
        line["levelname"],
        SEVERITIES[line["levelname"]],
        line.get("trace_id", ""),
        milliseconds,
    )


def _record(one: LoggedRecord) -> _Said:
    milliseconds = int(one.raw["timeUnixNano"]) // 1_000_000
    return _Said(one.body, one.raw["severityText"], one.raw["severityNumber"], one.trace_id, milliseconds)
