"""The catalogue keeps Prometheus's conventions, and Metrics keeps to the catalogue."""

import re
from typing import cast

import pytest

from services.runtime.metrics import CATALOGUE, Metric, Metrics, Service

UNITS = ("seconds", "bytes", "ratio", "events", "entries", "total", "info")
ABBREVIATED = {
    "s",
    "ms",
    "us",
    "ns",
    "sec",
    "secs",
    "b",
    "kb",
    "mb",
    "milliseconds",
    "minutes",
    "hours",
    "percent",
}
STATES = {"telemetry_sink_up", "telemetry_redis_up", "telemetry_breaker_open", "telemetry_group_lag_known"}

every_metric = pytest.mark.parametrize("metric", CATALOGUE, ids=lambda one: one.name)


@every_metric
def test_a_name_follows_the_conventions(metric: Metric) -> None:
    """Prefix, base unit, `_total` on counters and only there, no unit that is abbreviated or not basic."""
    words = metric.name.split("_")
    assert re.fullmatch("telemetry_[a-z][a-z0-9_]*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert not metric.name.endswith(("_count", "_sum", "_bucket", "_created"))
    assert not ABBREVIATED & set(words)
    assert metric.kind not in words
    assert metric.name in STATES or words[-1] in UNITS


@every_metric
def test_labels_are_few_and_named_well(metric: Metric) -> None:
    """No label is reserved, and none repeats what the name says."""
    assert len(metric.labels) <= 2
    for label in metric.labels:
        assert re.fullmatch("[a-z][a-z_]*", label)
        assert label not in {"le", "quantile", "job", "instance"}
        assert label not in metric.name.split("_")


@every_metric
def test_a_meaning_is_told(metric: Metric) -> None:
    """Every metric says what it counts, and its buckets grow."""
    assert metric.meaning
    assert list(metric.buckets) == sorted(set(metric.buckets))


def test_names_are_unique() -> None:
    """No two lines of the catalogue share a name, with or without suffix."""
    names = [metric.name.removesuffix("_total") for metric in CATALOGUE]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("service", ["producer", "consumer"])
def test_a_service_has_its_own_metrics(service: str) -> None:
    """The registry holds what the catalogue has for the service, and what is for both."""
    metrics = Metrics(cast("Service", service))
    names = {family.name for family in metrics.registry.collect()}
    wanted = {
        metric.name.removesuffix("_total") for metric in CATALOGUE if metric.service in {service, "both"}
    }
    assert names == wanted


def test_values_can_be_counted_set_observed_and_read() -> None:
    """Each kind takes its values by its full name; what never counted is 0."""
    metrics = Metrics("consumer")
    metrics.count("telemetry_lost_entries_total", 2)
    metrics.count("telemetry_ack_events_total", 3, result="acked")
    metrics.count("telemetry_ack_events_total", 0, result="already_acked")
    metrics.set("telemetry_sink_up", 1)
    metrics.observe("telemetry_sink_commit_duration_seconds", 0.5)
    assert metrics.value("telemetry_lost_entries_total") == 2
    assert metrics.value("telemetry_ack_events_total", {"result": "acked"}) == 3
    assert metrics.value("telemetry_ack_events_total", {"result": "already_acked"}) == 0
    assert metrics.value("telemetry_sink_up") == 1
    assert metrics.value("telemetry_sink_commit_duration_seconds_sum") == 0.5


def test_an_unknown_name_is_a_mistake_of_ours() -> None:
    """A metric outside of the catalogue can't be counted by accident."""
    with pytest.raises(KeyError):
        Metrics("consumer").count("telemetry_producer_events_total", outcome="published")
