"""Metrics to a collector, beside /metrics, where OTEL_METRICS_EXPORTER=otlp asks for it.

The same numbers under the same names and labels, taken from the registry as a scrape takes them: counters as
monotonic sums, histograms with their own bounds, both cumulative since the start. Loaded by switch.py
alone.

The SDK's instruments would be a second place that counts, and have no histogram that is read when it is asked
for; its data model and exporters are used directly.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, cast

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from services import __version__
from services.runtime.otlp.sdk import finish, make_exporter, make_resource, speak_for_senders
from services.runtime.settings import SettingsInvalid
from services.runtime.telemetry.metrics import Family, Metrics, Sample

_SCOPE: Final = InstrumentationScope("telemetry-pipeline", __version__)
_INTERVAL: Final = "OTEL_METRIC_EXPORT_INTERVAL"
_DEFAULT_INTERVAL_MS: Final = "60000"
# Units as UCUM writes them.
_UNITS: Final = {"seconds": "s", "bytes": "By", "events": "{event}", "entries": "{entry}"}
_SINCE_THE_START: Final = AggregationTemporality.CUMULATIVE
_UNKNOWN: Final = cast("float", None)
"""For what may be absent in OTLP, and may not in the SDK's types: the largest and smallest of a histogram."""


class OTelMetrics:
    """Sends all metrics now and then, in the background."""

    def __init__(
        self,
        exporter: MetricExporter,
        resource: Resource,
        metrics: Metrics,
        logger: logging.Logger,
        interval_s: float,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._exporter = exporter
        self._resource = resource
        self._metrics = metrics
        self._logger = logger
        self._interval_s = interval_s
        self._now_ns = now_ns
        self._started_at = now_ns()
        self._sending = threading.Lock()
        self._ended = threading.Event()
        threading.Thread(target=self._go_on, name="metrics", daemon=True).start()

    def close(self) -> None:
        """Send the last numbers, within two seconds together with spans and logs."""
        self._ended.set()
        waited_s = finish(self._end, "last-metrics")
        if waited_s is not None:
            self._logger.warning(
                "last_metrics_given_up", extra={"waited_s": waited_s, "hint": "the collector did not answer"}
            )

    def _go_on(self) -> None:
        while not self._ended.wait(self._interval_s):
            self._send()

    def _end(self) -> None:
        self._send()
        self._exporter.shutdown()

    def _send(self) -> None:
        with self._sending:
            made = list(_made(self._metrics.registry.collect(), self._started_at, self._now_ns()))
            scope = ScopeMetrics(_SCOPE, made, "")
            # What goes wrong is said by the exporter itself, and comes through our log.
            self._exporter.export(MetricsData([ResourceMetrics(self._resource, [scope], "")]))


def start(service: str, instance: str, metrics: Metrics, logger: logging.Logger) -> OTelMetrics:
    """Start sending, as the OTEL_* variables of the environment say. Raises SettingsInvalid."""
    interval_s = _interval_s()
    exporter = make_exporter("metrics")
    speak_for_senders(logger)
    return OTelMetrics(exporter, make_resource(service, instance), metrics, logger, interval_s)


def _interval_s() -> float:
    text = os.environ.get(_INTERVAL, "").strip() or _DEFAULT_INTERVAL_MS
    if not text.isdecimal() or int(text) == 0:
        raise SettingsInvalid([f"{_INTERVAL}={text}: write milliseconds, a whole number above 0"])
    return int(text) / 1000


def _made(families: Iterable[Family], started_at: int, now: int) -> Iterator[Metric]:
    """Make OpenTelemetry's metrics of the registry's; times in nanoseconds."""
    for family in families:
        unit = _UNITS.get(family.name.rpartition("_")[2], "1")
        if family.type == "counter":
            # Without when each began, a series of its own where somebody switched those on.
            points = [_point(one, started_at, now) for one in family.samples if one.name.endswith("_total")]
            total = Sum(points, _SINCE_THE_START, is_monotonic=True)
            yield Metric(f"{family.name}_total", family.documentation, unit, total)
        elif family.type == "gauge":
            gauge = Gauge([_point(one, started_at, now) for one in family.samples])
            yield Metric(family.name, family.documentation, unit, gauge)
        elif family.type == "histogram":
            histogram = Histogram(list(_histograms(family, started_at, now)), _SINCE_THE_START)
            yield Metric(family.name, family.documentation, unit, histogram)


def _point(sample: Sample, started_at: int, now: int) -> NumberDataPoint:
    return NumberDataPoint(dict(sample.labels), started_at, now, sample.value)


def _histograms(family: Family, started_at: int, now: int) -> Iterator[HistogramDataPoint]:
    """Make the points of a histogram: its buckets count up to each bound, and OTLP's between two of them."""
    series: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for sample in family.samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        one = series.setdefault(tuple(labels.items()), {"bounds": [], "up_to": [], "sum": 0.0})
        if sample.name.endswith("_bucket"):
            one["bounds"].append(float(sample.labels["le"]))
            one["up_to"].append(int(sample.value))
        elif sample.name.endswith("_sum"):
            one["sum"] = sample.value
    for labels_of, one in series.items():
        yield _histogram(dict(labels_of), one, started_at, now)


def _histogram(
    labels: Mapping[str, str], one: Mapping[str, Any], started_at: int, now: int
) -> HistogramDataPoint:
    up_to: list[int] = one["up_to"]
    return HistogramDataPoint(
        attributes=labels,
        start_time_unix_nano=started_at,
        time_unix_nano=now,
        count=up_to[-1],
        sum=one["sum"],
        bucket_counts=[count - below for count, below in zip(up_to, [0, *up_to], strict=False)],
        explicit_bounds=one["bounds"][:-1],  # the last is infinite, and not written
        min=_UNKNOWN,
        max=_UNKNOWN,
    )
