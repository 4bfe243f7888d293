"""The main figures of the pipeline: how fast, how late, is anything lost. What the Overview dashboard shows.

Rates and latency are of the time between two looks, so a single look has none. What is not known is None.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.ops.status.scrapes import Scrape, sum_over

_OUTCOMES: Final = ("stored", "duplicate", "dead", "pending")
_SETTLED: Final = "telemetry_consumer_settled_events_total"
_DEAD: Final = "telemetry_consumer_dead_events_total"
_LATENCY: Final = "telemetry_consumer_publish_to_commit_seconds_bucket"


@dataclass(frozen=True, slots=True)
class Counts:
    """What one look counted; two of them make the rates."""

    at: float
    """Seconds of a clock that is not set."""
    added: int | None
    """Entries that the stream has ever had."""
    rows: int | None
    letters: int | None
    scrapes: Sequence[Scrape]


def figures(now: Counts, before: Counts | None, audit: Mapping[str, Any] | None) -> dict[str, Any]:
    """Make the figures of this moment, and of the time since `before`."""
    seconds = None if before is None else max(1e-3, now.at - before.at)
    return {
        "seconds": seconds,
        "in_per_s": _rate(now, before, lambda one: one.added),
        "stored_per_s": _outcome_rate(now, before, "stored", lambda one: one.rows),
        "dead_per_s": _outcome_rate(now, before, "dead", lambda one: one.letters),
        "latency_p50_s": _latency(now, before, 0.5),
        "latency_p99_s": _latency(now, before, 0.99),
        "law": law(now.scrapes),
        "conflicts": _conflicts(now.scrapes),
        "breaker_open": _breaker(now.scrapes),
        "clock_behind_s": max(
            (one.sum("telemetry_clock_behind_seconds") or 0.0 for one in now.scrapes), default=0.0
        ),
        "audit": audit,
        "processes": [
            {"name": one.name, "address": one.address, "answers": one.samples is not None}
            for one in now.scrapes
        ],
    }


def law(scrapes: Sequence[Scrape]) -> dict[str, int] | None:
    """Add up what became of the entries received; None where no consumer answers.

    received = stored + duplicate + dead + pending + in flight + unaccounted, and the last is 0.
    """
    received = sum_over(scrapes, "telemetry_consumer_received_events_total")
    if received is None:
        return None
    settled = {outcome: int(sum_over(scrapes, _SETTLED, outcome=outcome) or 0) for outcome in _OUTCOMES}
    in_flight = int(sum_over(scrapes, "telemetry_consumer_in_flight_events") or 0)
    unaccounted = int(received) - sum(settled.values()) - in_flight
    return {"received": int(received), **settled, "in_flight": in_flight, "unaccounted": unaccounted}


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """Estimate a quantile of a histogram, upper bounds to cumulative counts, as Prometheus does.

    Within a bucket it is linear; above the last bound it is that bound. None without observations.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0
    if total <= 0:
        return None
    rank = share * total
    below, start = 0.0, 0.0
    for bound in bounds:
        count = buckets[bound]
        if count >= rank:
            if math.isinf(bound):
                return start
            return start + (bound - start) * (rank - below) / max(count - below, 1e-9)
        below, start = count, bound
    return start


def _conflicts(scrapes: Sequence[Scrape]) -> int | None:
    """Tell how many of the dead are conflicts; None where no consumer answers."""
    if law(scrapes) is None:
        return None
    return int(sum_over(scrapes, _DEAD, reason="conflict") or 0)


def _breaker(scrapes: Sequence[Scrape]) -> bool | None:
    open_ones = sum_over(scrapes, "telemetry_breaker_open")
    return None if open_ones is None else open_ones > 0


def _rate(now: Counts, before: Counts | None, count: Callable[[Counts], int | None]) -> float | None:
    if before is None:
        return None
    new, old = count(now), count(before)
    if new is None or old is None:
        return None
    return max(0, new - old) / max(1e-3, now.at - before.at)


def _outcome_rate(
    now: Counts, before: Counts | None, outcome: str, otherwise: Callable[[Counts], int | None]
) -> float | None:
    """Take the consumers' counters, else what is in the sink or among the dead letters."""
    if before is None:
        return None
    grown = _grown(now.scrapes, before.scrapes, lambda one: {"": one.sum(_SETTLED, outcome=outcome)})
    if "" not in grown:
        return _rate(now, before, otherwise)
    return grown[""] / max(1e-3, now.at - before.at)


def _latency(now: Counts, before: Counts | None, share: float) -> float | None:
    if before is None:
        return None
    grown = _grown(now.scrapes, before.scrapes, lambda one: one.by(_LATENCY, "le"))
    return quantile(share, {float(bound): count for bound, count in grown.items()})


def _grown(
    now: Sequence[Scrape], before: Sequence[Scrape], read: Callable[[Scrape], Mapping[str, float | None]]
) -> dict[str, float]:
    """Add up by how much counters have grown, process by process; one that fell began again at 0."""
    old = {one.name: read(one) for one in before}
    grown: dict[str, float] = {}
    for one in now:
        for key, value in read(one).items():
            if value is None or one.name not in old:
                continue
            start = old[one.name].get(key) or 0.0
            grown[key] = grown.get(key, 0.0) + (value - start if value >= start else value)
    return grown
