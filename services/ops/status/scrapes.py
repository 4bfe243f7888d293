"""What the processes of the pipeline say on `/metrics`, where they can be reached from here.

They are those that `telemetry run` started on this machine (DATA_DIR/observe/targets.json), or else the
consumer at CONSUMER_METRICS_PORT, as in a pod.
"""

import http.client
import math
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from services.ops.run.targets import read_targets
from services.runtime.settings import ConsumerSettings

_MOST_BYTES: Final = 16 << 20
_TIMEOUT_S: Final = 1.0
"""An answer takes milliseconds; a process that hangs is told as one that does not answer."""

THE_ONE_HERE: Final = "consumer"
"""Names the consumer of this pod, of whose replicas nothing is known."""

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Scrape:
    """What a process said; `samples` is None where it did not answer."""

    name: str
    address: str
    samples: Mapping[str, Mapping[Labels, float]] | None

    def sum(self, name: str, **labels: str) -> float | None:
        """Add up the series of a name that have these labels; None where there is none."""
        wanted = labels.items()
        series = (self.samples or {}).get(name, {})
        found = [value for having, value in series.items() if wanted <= having]
        return sum(found) if found else None

    def by(self, name: str, label: str) -> dict[str, float]:
        """Give the series of a name by the value of a label."""
        series = (self.samples or {}).get(name, {})
        return {dict(labels)[label]: value for labels, value in series.items() if label in dict(labels)}


def scrape_all(settings: ConsumerSettings) -> list[Scrape]:
    """Ask every process that is known. At the consumer's port there may be nobody, or somebody else."""
    targets = read_targets(settings.data_dir)
    if targets:
        return [Scrape(name, address, _samples(address)) for name, address in targets.items()]
    if settings.metrics_port == 0:
        return []
    address = f"127.0.0.1:{settings.metrics_port}"
    samples = _samples(address)
    return [] if samples is None else [Scrape(THE_ONE_HERE, address, samples)]


def sum_over(scrapes: Sequence[Scrape], name: str, **labels: str) -> float | None:
    """Add a figure up over the processes that have it; None where none has."""
    found = [value for one in scrapes if (value := one.sum(name, **labels)) is not None]
    return sum(found) if found else None


def _samples(address: str) -> dict[str, dict[Labels, float]] | None:
    """Ask one; None where nobody answers, or somebody else does."""
    request = urllib.request.Request(f"http://{address}/metrics", headers={"Accept": "text/plain"})
    # Without a proxy, which the environment may name for other addresses.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            text = answer.read(_MOST_BYTES).decode()
        samples: dict[str, dict[Labels, float]] = {}
        for name, labels, value in _parsed(text):
            if math.isfinite(value):
                samples.setdefault(name, {})[labels] = value
    except (OSError, ValueError, http.client.HTTPException):
        return None
    return samples if "telemetry_build_info" in samples else None


def _parsed(text: str) -> Iterator[tuple[str, Labels, float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, frozenset(sample.labels.items()), float(sample.value)
