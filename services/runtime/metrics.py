"""Every metric of the pipeline: one catalogue, from which the registry and the docs are made.

Prometheus conventions: base units, `_total` on counters, bounded labels. They are counted a batch at
a time, from the same outcome that is logged, so the two can't disagree.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services import __version__

Service = Literal["producer", "consumer", "both"]

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 4000)


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the catalogue."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    service: Service
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = _SECONDS


CATALOGUE: Final = (
    Metric(
        "telemetry_producer_events_total",
        "counter",
        "producer",
        "Events by what became of them: published, duplicate (published twice on purpose), unreadable "
        "(a line of a file), dropped (oldest entries given up at STREAM_MAX_LENGTH)",
        ("outcome",),
    ),
    Metric("telemetry_producer_send_duration_seconds", "histogram", "producer", "Time of one round trip"),
    Metric(
        "telemetry_producer_blocked_seconds_total",
        "counter",
        "producer",
        "Time spent waiting because the stream was full",
    ),
    Metric(
        "telemetry_consumer_received_events_total",
        "counter",
        "consumer",
        "Entries received, by where from: new, or recovered (delivered before)",
        ("source",),
    ),
    Metric(
        "telemetry_consumer_settled_events_total",
        "counter",
        "consumer",
        "Entries by outcome: stored, duplicate, dead, pending. Together they are the entries received",
        ("outcome",),
    ),
    Metric(
        "telemetry_consumer_dead_events_total",
        "counter",
        "consumer",
        "Dead letters, by stage and reason",
        ("stage", "reason"),
    ),
    Metric(
        "telemetry_consumer_degraded_events_total",
        "counter",
        "consumer",
        "Events above their threshold",
        ("kpi",),
    ),
    Metric(
        "telemetry_consumer_batch_size_events", "histogram", "consumer", "Entries in a batch", buckets=_SIZES
    ),
    Metric(
        "telemetry_consumer_batch_duration_seconds",
        "histogram",
        "consumer",
        "From a batch's receipt to its ack",
    ),
    Metric(
        "telemetry_consumer_queue_latency_seconds",
        "histogram",
        "consumer",
        "From an entry's publication to its commit, for the oldest entry of each batch",
    ),
    Metric(
        "telemetry_sink_commit_duration_seconds", "histogram", "consumer", "Time of one write to the sink"
    ),
    Metric("telemetry_sink_errors_total", "counter", "consumer", "Failed writes to the sink", ("error",)),
    Metric("telemetry_sink_up", "gauge", "consumer", "1 while the sink takes writes"),
    Metric("telemetry_dlq_write_errors_total", "counter", "consumer", "Failed writes of dead letters"),
    Metric("telemetry_retries_total", "counter", "consumer", "Writes tried again", ("stage",)),
    Metric(
        "telemetry_ack_events_total",
        "counter",
        "consumer",
        "Acknowledgements by result: acked, or already_acked (by another consumer)",
        ("result",),
    ),
    Metric("telemetry_claimed_events_total", "counter", "consumer", "Entries taken over from idle consumers"),
    Metric(
        "telemetry_lost_entries_total",
        "counter",
        "consumer",
        "Pending entries whose content was gone from the stream when they were recovered",
    ),
    Metric(
        "telemetry_trimmed_entries_total",
        "counter",
        "consumer",
        "Acknowledged entries removed from the stream",
    ),
    Metric(
        "telemetry_consumers_removed_total", "counter", "consumer", "Idle consumers removed from the group"
    ),
    Metric(
        "telemetry_group_creations_total", "counter", "consumer", "Times the consumer group had to be made"
    ),
    Metric("telemetry_breaker_open", "gauge", "consumer", "1 while DLQ_BREAKER_RATIO has stopped consuming"),
    Metric(
        "telemetry_last_commit_timestamp_seconds",
        "gauge",
        "consumer",
        "When a batch was last stored, Unix time",
    ),
    Metric("telemetry_stream_length_entries", "gauge", "consumer", "Entries in the stream"),
    Metric("telemetry_group_lag_entries", "gauge", "consumer", "Entries not yet delivered to the group"),
    Metric(
        "telemetry_group_lag_known", "gauge", "consumer", "1 where the server knows the lag; 0: it is counted"
    ),
    Metric("telemetry_group_pending_entries", "gauge", "consumer", "Entries delivered and not acknowledged"),
    Metric(
        "telemetry_group_oldest_pending_seconds",
        "gauge",
        "consumer",
        "Age of the oldest entry that is not acknowledged",
    ),
    Metric("telemetry_redis_up", "gauge", "both", "1 while the server answers"),
    Metric(
        "telemetry_redis_errors_total",
        "counter",
        "both",
        "Errors of the server or the connection to it",
        ("error",),
    ),
    Metric("telemetry_build_info", "gauge", "both", "Always 1; the version is its label", ("version",)),
)


class Metrics:
    """A process's metrics, by their full names in the catalogue."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for one in CATALOGUE:
            if one.service not in {service, "both"}:
                continue
            if one.kind == "counter":
                self._counters[one.name] = Counter(one.name, one.meaning, one.labels, registry=self.registry)
            elif one.kind == "gauge":
                self._gauges[one.name] = Gauge(one.name, one.meaning, one.labels, registry=self.registry)
            else:
                self._histograms[one.name] = Histogram(
                    one.name, one.meaning, one.labels, buckets=one.buckets, registry=self.registry
                )

        self.set("telemetry_build_info", 1, version=__version__)

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        if amount:
            counter = self._counters[name]
            (counter.labels(**labels) if labels else counter).inc(amount)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        gauge = self._gauges[name]
        (gauge.labels(**labels) if labels else gauge).set(value)

    def observe(self, name: str, value: float) -> None:
        """Add to a histogram."""
        self._histograms[name].observe(value)

    def value(self, name: str, labels: Mapping[str, str] | None = None) -> float:
        """Read a metric; 0 for one that never counted."""
        return self.registry.get_sample_value(name, dict(labels or {})) or 0.0
