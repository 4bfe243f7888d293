"""Metrics of real processes, through a real collector: the numbers that a scrape has."""

from collections.abc import Mapping
from typing import Any

import pytest
from acceptance.rig import PATIENCE_S, Rig
from observability import Observability
from servers import eventually

EVENTS, GUILTY = 20, 1


def _points(metrics: Mapping[str, Mapping[str, Any]], name: str, label: str = "") -> dict[str, float]:
    """Read the values of a counter or gauge, by a label."""
    raw = metrics.get(name, {})
    found = {}
    for point in (raw.get("sum") or raw.get("gauge") or {"dataPoints": ()})["dataPoints"]:
        labels = {one["key"]: one["value"]["stringValue"] for one in point.get("attributes", ())}
        found[labels.get(label, "")] = float(point["asDouble"] if "asDouble" in point else point["asInt"])
    return found


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_the_numbers_are_at_the_collector_too(rig: Rig, observability: Observability, protocol: str) -> None:
    """Counters, gauges, histograms and the group's figures, of a consumer that serves no port."""
    name = f"measured-{protocol[:4]}"
    sent = observability.environment(protocol) | {
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "OTEL_TRACES_EXPORTER": "none",
    }
    rig.publisher().valid(EVENTS).unreadable().send()
    consumer = rig.consumer(name, **sent)
    rig.drain(consumer)

    def settled() -> dict[str, float]:
        found = observability.logs.metrics(name)
        return _points(found, "telemetry_consumer_settled_events_total", "outcome")

    eventually(lambda: sum(settled().values()) == EVENTS + GUILTY, PATIENCE_S, "all is told")
    assert settled() == {"stored": EVENTS, "duplicate": 0, "dead": GUILTY, "pending": 0}
    # Who has become the observer says so, and looks at the stream after that.
    eventually(
        lambda: _points(observability.logs.metrics(name), "telemetry_stream_length_entries"),
        PATIENCE_S,
        "the figures of the group",
    )
    found = observability.logs.metrics(name)
    assert _points(found, "telemetry_group_observer") == {"": 1}
    assert found["telemetry_disk_free_bytes"]["unit"] == "By"
    (commit,) = found["telemetry_sink_commit_duration_seconds"]["histogram"]["dataPoints"]
    assert int(commit["count"]) == sum(map(int, commit["bucketCounts"])) >= 1
    assert len(commit["bucketCounts"]) == len(commit["explicitBounds"]) + 1
    assert not {"min", "max"} & set(commit)
    assert _points(found, "process_cpu_seconds_total")[""] > 0
    consumer.stop()
    assert "_not_sent" not in consumer.text
