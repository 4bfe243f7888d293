"""What is sent of the metrics: the registry's numbers, under the same names, labels and units."""

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource
from servers import eventually

from services.runtime.otlp.metrics import OTelMetrics
from services.runtime.telemetry.metrics import CATALOGUE, Metrics

PATIENCE_S = 20.0


class Basket(MetricExporter):
    """Keeps what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[MetricsData] = []
        self.is_shut = False
        self.may_answer = threading.Event()
        self.may_answer.set()

    def export(self, metrics_data: MetricsData, *_: Any, **__: Any) -> MetricExportResult:
        self.may_answer.wait()
        self.sent.append(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, *_: Any) -> bool:
        return True

    def shutdown(self, *_: Any, **__: Any) -> None:
        self.is_shut = True

    def last(self) -> dict[str, Any]:
        """Give the metrics of the last sending, by name."""
        (of_process,) = self.sent[-1].resource_metrics
        (scope,) = of_process.scope_metrics
        assert len({one.name for one in scope.metrics}) == len(scope.metrics)
        return {one.name: one for one in scope.metrics}


@pytest.fixture
def basket() -> Iterator[Basket]:
    """Give a collector that answers in the end."""
    one = Basket()
    yield one
    one.may_answer.set()


def _send(basket: Basket, metrics: Metrics) -> dict[str, Any]:
    """Send once, at the end."""
    times = iter([1_000, 2_000])
    logger = logging.getLogger("test.otlp")
    sender = OTelMetrics(basket, Resource.get_empty(), metrics, logger, 3600.0, lambda: next(times))
    sender.close()
    assert basket.is_shut
    return basket.last()


def test_the_numbers_are_those_of_a_scrape(basket: Basket) -> None:
    """Counters are sums, gauges are gauges, a histogram has its own bounds; each since the start."""
    metrics = Metrics("consumer")
    metrics.count("telemetry_lost_entries_total", 3)
    metrics.count("telemetry_ack_events_total", 5, result="acked")
    metrics.set("telemetry_sink_up", 1)
    metrics.ask(lambda: {"telemetry_disk_free_bytes": 7.0, "telemetry_stream_added_entries_total": 9.0})
    for seconds in (0.0004, 0.3, 0.3, 1000.0):
        metrics.observe("telemetry_sink_commit_duration_seconds", seconds)
    sent = _send(basket, metrics)
    (lost,) = sent["telemetry_lost_entries_total"].data.data_points
    assert (lost.value, lost.start_time_unix_nano, lost.time_unix_nano) == (3, 1_000, 2_000)
    assert sent["telemetry_lost_entries_total"].data.is_monotonic
    acks = sent["telemetry_ack_events_total"].data.data_points
    assert {one.attributes["result"]: one.value for one in acks} == {"acked": 5, "already_acked": 0}
    assert [one.value for one in sent["telemetry_sink_up"].data.data_points] == [1]
    assert (sent["telemetry_disk_free_bytes"].unit, sent["telemetry_lost_entries_total"].unit) == (
        "By", "{entry}",
    )  # fmt: skip
    assert sent["telemetry_stream_added_entries_total"].data.data_points[0].value == 9
    commit = sent["telemetry_sink_commit_duration_seconds"]
    (point,) = commit.data.data_points
    assert (commit.unit, point.count, point.sum) == ("s", 4, pytest.approx(1000.6004))
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    filled = {
        bound for bound, count in zip(point.explicit_bounds, point.bucket_counts, strict=False) if count
    }
    assert filled == {0.001, 0.5}
    assert (sum(point.bucket_counts), point.bucket_counts[-1]) == (4, 1)


def test_all_of_the_catalogue_is_sent_that_a_scrape_has(basket: Basket) -> None:
    """With the series of each label; a histogram by labels is one point for each."""
    metrics = Metrics("consumer")
    for late in (one.name for one in CATALOGUE if one.is_late and one.service != "producer"):
        metrics.set(late, 1)
    sent = _send(basket, metrics)
    wanted = {one.name for one in CATALOGUE if one.service != "producer" and not one.is_asked}
    assert set(sent) == wanted
    stages = sent["telemetry_consumer_stage_duration_seconds"].data.data_points
    (labels,) = (one.labels for one in CATALOGUE if one.name == "telemetry_consumer_stage_duration_seconds")
    assert [one.attributes["stage"] for one in stages] == list(labels[0].values)


def test_it_is_sent_now_and_then(basket: Basket) -> None:
    """Each time with the numbers of that time."""
    metrics = Metrics("consumer")
    logger = logging.getLogger("test.otlp")
    sender = OTelMetrics(basket, Resource.get_empty(), metrics, logger, 0.01)
    eventually(lambda: len(basket.sent) >= 3, PATIENCE_S, "three sendings")
    metrics.count("telemetry_lost_entries_total", 3)

    def lost() -> float:
        value: float = basket.last()["telemetry_lost_entries_total"].data.data_points[0].value
        return value

    assert eventually(lambda: lost() == 3, PATIENCE_S, "the new number")
    sender.close()


def test_a_collector_that_does_not_answer_is_given_up(
    basket: Basket, caplog: pytest.LogCaptureFixture
) -> None:
    """The end comes all the same, and says so."""
    basket.may_answer.clear()
    logger = logging.getLogger("test.otlp")
    sender = OTelMetrics(basket, Resource.get_empty(), Metrics("consumer"), logger, 3600.0)
    sender.close()
    assert basket.sent == []
    assert [record.message for record in caplog.records] == ["last_metrics_given_up"]
