"""The catalogue keeps Prometheus's conventions, and Metrics keeps to the catalogue."""

import re
import threading
from typing import cast, get_args

import pytest

from services import __version__
from services.contract.event import Reason
from services.runtime.telemetry.catalogue import OTHER, UNITS, Label
from services.runtime.telemetry.metrics import CATALOGUE, Metric, Metrics, Service

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
STATES = {
    "telemetry_sink_up",
    "telemetry_redis_up",
    "telemetry_breaker_open",
    "telemetry_group_lag_known",
    "telemetry_group_observer",
    "telemetry_stream_trimmed_unread",
    "telemetry_build_info",
    "telemetry_group_consumers",
    "telemetry_http_connections",
    "telemetry_mqtt_connected",
    "telemetry_mqtt_in_flight_messages",
    "telemetry_mqtt_broker_dropped_messages",
    "telemetry_mqtt_broker_waiting_messages",
    "telemetry_silent_devices",
}

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
    assert metric.name in STATES or metric.unit in UNITS or metric.kind == "counter"


@every_metric
def test_labels_are_few_named_well_and_bounded(metric: Metric) -> None:
    """No label is reserved, and all its values are known beforehand: no event can add one."""
    assert len(metric.labels) <= 2
    for label in metric.labels:
        assert re.fullmatch("[a-z][a-z_]*", label.name)
        assert label.name not in {"le", "quantile", "job", "instance", "device_id", "zone", "event_id"}
        assert bool(label.values) != bool(label.given)
        assert len(label.values) == len(set(label.values)) <= 24


@every_metric
def test_what_is_of_the_group_is_asked_for(metric: Metric) -> None:
    """A figure of the whole group is never held by a process, which would export it for ever."""
    assert metric.scope == "process" or (metric.is_asked and metric.service == "consumer")
    assert not (metric.is_asked and metric.labels)


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
        metric.name.removesuffix("_total")
        for metric in CATALOGUE
        if metric.service in {service, "both"} and not (metric.is_asked or metric.is_late)
    }
    assert names == wanted


def test_a_state_is_absent_until_it_is_known() -> None:
    """0 is down, and nothing is down that was not tried."""
    metrics = Metrics("consumer")
    assert metrics.registry.get_sample_value("telemetry_redis_up") is None
    metrics.set("telemetry_redis_up", 0)
    assert metrics.registry.get_sample_value("telemetry_redis_up") == 0
    metrics.set("telemetry_redis_up", 1)
    assert metrics.registry.get_sample_value("telemetry_redis_up") == 1
    with pytest.raises(KeyError):
        Metrics("producer").set("telemetry_sink_up", 1)


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


def test_nothing_that_is_observed_waits_or_is_lost_while_others_read() -> None:
    """Thousands of values, and scrapes all the while by two: each is counted once."""
    metrics = Metrics("consumer")
    name = "telemetry_consumer_batch_size_events"
    ended = threading.Event()
    seen: list[float] = []

    def scrape() -> None:
        while not ended.is_set():
            seen.append(metrics.value(f"{name}_count"))

    threads = [threading.Thread(target=scrape) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(20_000):
        metrics.observe(name, 3)
    ended.set()
    for thread in threads:
        thread.join()
    assert metrics.value(f"{name}_count") == 20_000
    assert metrics.value(f"{name}_sum") == 60_000
    assert max(seen) <= 20_000


def test_an_unknown_name_is_a_mistake_of_ours() -> None:
    """A metric outside of the catalogue can't be counted by accident."""
    with pytest.raises(KeyError):
        Metrics("consumer").count("telemetry_producer_events_total", outcome="published")


def _series(metrics: Metrics) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Name every series that a scrape would find."""
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in metrics.registry.collect()
        for sample in family.samples
    }


def test_every_series_is_there_from_the_start() -> None:
    """At 0, so that the first error is a rise and no new series; KPIs are those that are given."""
    metrics = Metrics("consumer", {"kpi": ("temperature", "noise")})
    there = _series(metrics)
    for outcome in ("stored", "duplicate", "dead", "pending"):
        assert ("telemetry_consumer_settled_events_total", (("outcome", outcome),)) in there
    kpis = {labels[0][1] for name, labels in there if name == "telemetry_consumer_degraded_events_total"}
    assert kpis == {"temperature", "noise", OTHER}
    assert ("telemetry_build_info", (("version", __version__),)) in there
    assert not [name for name, _ in there if name.endswith("_created")]


def test_every_reason_of_a_dead_letter_has_its_stage() -> None:
    """The combinations name each reason once, and no dead event adds a series."""
    (metric,) = (one for one in CATALOGUE if one.name == "telemetry_consumer_dead_events_total")
    assert sorted(reason for _, reason in metric.combinations) == sorted(get_args(Reason))
    metrics = Metrics("consumer")
    before = _series(metrics)
    for stage, reason in metric.combinations:
        metrics.count(metric.name, stage=stage, reason=reason)
    assert _series(metrics) == before


def test_a_value_that_nobody_declared_counts_as_other() -> None:
    """Ten thousand different errors are one series; an error's variants count as what they are."""
    metrics = Metrics("consumer")
    before = _series(metrics)
    for number in range(10_000):
        metrics.count("telemetry_sink_errors_total", error=f"error {number}")
    metrics.count("telemetry_sink_errors_total", error="SQLITE_IOERR_WRITE")
    assert _series(metrics) == before
    assert metrics.value("telemetry_sink_errors_total", {"error": OTHER}) == 10_000
    assert metrics.value("telemetry_sink_errors_total", {"error": "SQLITE_IOERR"}) == 1
    assert Label("error", ("busy",)).bounded("busybody") == OTHER


def test_what_is_asked_for_is_there_only_while_it_is_known() -> None:
    """A figure that is left out leaves no series behind."""
    metrics = Metrics("consumer")
    known = {"telemetry_disk_free_bytes": 7.0, "telemetry_stream_added_entries_total": 3.0}
    metrics.ask(lambda: known)
    assert metrics.registry.get_sample_value("telemetry_disk_free_bytes") == 7
    assert metrics.registry.get_sample_value("telemetry_stream_added_entries_total") == 3
    known = {}
    assert metrics.registry.get_sample_value("telemetry_disk_free_bytes") is None
