"""A process's metrics, made from the catalogue and counted a batch at a time.

They come from the same outcome that is logged, so the two can't disagree. What costs a look at the disk
or the server is asked for when somebody scrapes, and never by a batch.
"""

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import prometheus_client.metrics
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client import Metric as Family
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from services import __version__
from services.runtime.telemetry.catalogue import CATALOGUE, OTHER, Label, Metric, Service

__all__ = ["CATALOGUE", "Family", "Figures", "Metric", "Metrics", "Sample", "Service"]

_BY_NAME: Final = {one.name: one for one in CATALOGUE}

# The law's numbers: read at one moment, so that they add up at every scrape.
_LAW: Final = (
    "telemetry_consumer_received_events_total",
    "telemetry_consumer_settled_events_total",
    "telemetry_consumer_in_flight_events",
)

_MOST_PUT_BY: Final = 500
"""Values that wait to be taken in; less than a millisecond of work."""

Figures = Mapping[str, float]
"""Values by the full names of metrics without labels."""


class Metrics:
    """A process's metrics, by their full names in the catalogue.

    `values` gives those of labels whose values the catalogue does not know, by the label's name.
    """

    def __init__(self, service: Service, values: Mapping[str, Iterable[str]] | None = None) -> None:
        # When each series began: a second series for each, and nobody asks.
        prometheus_client.metrics.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._put_by: deque[tuple[Histogram, float]] = deque()
        self.registry: CollectorRegistry = _Registry(self._take_in)
        self.at_once: Final = threading.Lock()
        """Held while numbers change that a scrape must see together."""
        self._labels: dict[str, tuple[Label, ...]] = {}
        self._made: dict[str, Counter | Gauge | Histogram] = {}
        self._late: dict[str, Metric] = {}
        self._making = threading.Lock()
        self._children: dict[tuple[str, ...], Counter | Gauge | Histogram] = {}
        for one in CATALOGUE:
            if one.service not in {service, "both"} or one.is_asked:
                continue
            if one.is_late:
                self._late[one.name] = one
            else:
                self._make(one, {name: tuple(given) for name, given in (values or {}).items()})
        if together := [self._made[name] for name in _LAW if name in self._made]:
            self.registry.register(_Together(together, self.at_once))
        self.set("telemetry_build_info", 1, version=__version__)

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        if amount:
            counter = self._child(name, labels)
            assert isinstance(counter, Counter)  # noqa: S101 - for the type checker; a mistake of ours
            counter.inc(amount)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        gauge = self._child(name, labels)
        assert isinstance(gauge, Gauge)  # noqa: S101 - for the type checker; a mistake of ours
        gauge.set(value)

    def observe(self, name: str, value: float, trace_id: str | None = None, **labels: str) -> None:
        """Add to a histogram; with `trace_id`, as an example of a value of that size.

        Values are put by, and taken in by the hundred: one at a time, in the middle of other work, each takes
        the processor four times as long.
        """
        histogram = self._child(name, labels)
        assert isinstance(histogram, Histogram)  # noqa: S101 - for the type checker; a mistake of ours
        if trace_id is not None:
            histogram.observe(value, {"trace_id": trace_id})
            return
        self._put_by.append((histogram, value))
        if len(self._put_by) >= _MOST_PUT_BY:
            self._take_in()

    def ask(self, figures: Callable[[], Figures]) -> None:
        """Have `figures` asked at each scrape; what it leaves out is absent. It may not raise."""
        self.registry.register(_Asked(figures))

    def ask_process(self) -> None:
        """Have what every process tells about itself: processor time, memory, files, version of Python."""
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def value(self, name: str, labels: Mapping[str, str] | None = None) -> float:
        """Read a metric; 0 for one that never counted."""
        return self.registry.get_sample_value(name, dict(labels or {})) or 0.0

    def _take_in(self) -> None:
        # A scrape may do so at the same time: each takes what it gets.
        with suppress(IndexError):
            while True:
                histogram, value = self._put_by.popleft()
                histogram.observe(value)

    def _make(self, one: Metric, values: Mapping[str, tuple[str, ...]]) -> None:
        labels = tuple(
            Label(label.name, (*values.get(label.name, ()), OTHER)) if label.given else label
            for label in one.labels
        )
        registry = None if one.name in _LAW else self.registry
        names = [label.name for label in labels]
        if one.kind == "histogram":
            made: Counter | Gauge | Histogram = Histogram(
                one.name, one.meaning, names, buckets=one.buckets, registry=registry
            )
        else:
            made = (Counter if one.kind == "counter" else Gauge)(
                one.name, one.meaning, names, registry=registry
            )
        self._made[one.name] = made
        self._labels[one.name] = labels
        # There from the start, at 0: a series that begins with its first error hides it from rate().
        for series in one.combinations or itertools.product(*(label.values for label in labels)):
            self._children[one.name, *series] = made.labels(*series) if series else made

    def _child(self, name: str, labels: Mapping[str, str]) -> Counter | Gauge | Histogram:
        """Give the series, made at the start for all values but those that are `other`."""
        if (found := self._children.get((name, *labels.values()))) is not None:
            return found
        if name in self._late:
            with self._making:  # by whoever is first
                if name not in self._made:
                    self._make(self._late[name], {})
            return self._child(name, labels)
        declared = self._labels[name]
        values = [label.bounded(labels[label.name]) for label in declared]
        return self._made[name].labels(*values)


class _Registry(CollectorRegistry):
    """Has everything taken in before it is read."""

    def __init__(self, take_in: Callable[[], None]) -> None:
        super().__init__()
        self._take_in = take_in

    def collect(self) -> Iterator[Family]:
        self._take_in()
        yield from super().collect()


@dataclass(slots=True, eq=False)
class _Together(Collector):
    """Metrics that are read at one moment."""

    metrics: Iterable[Counter | Gauge | Histogram]
    lock: threading.Lock

    def describe(self) -> Iterable[Family]:
        """Name them, for whoever asks for some by name."""
        return [family for one in self.metrics for family in one.describe()]

    def collect(self) -> Iterable[Family]:
        with self.lock:
            return [family for one in self.metrics for family in one.collect()]


@dataclass(slots=True, eq=False)
class _Asked(Collector):
    """Metrics that are found out at a scrape."""

    figures: Callable[[], Figures]

    def collect(self) -> Iterator[Family]:
        for name, value in self.figures().items():
            meaning = _BY_NAME[name].meaning
            if _BY_NAME[name].kind == "counter":
                yield CounterMetricFamily(name, meaning, float(value))
            else:
                yield GaugeMetricFamily(name, meaning, float(value))
