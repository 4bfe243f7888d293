"""The cases by name, in the order in which they are run."""

from collections.abc import Callable, Collection, Mapping
from typing import Final

from bench import (
    auditing,
    door,
    files,
    growth,
    latency,
    memory,
    observing,
    packed,
    publishing,
    subscriber,
    throughput,
)
from bench.bench import Bench
from bench.figure import Figure
from bench.plan import BenchFailed
from bench.postgres import auditing as postgres_auditing
from bench.postgres import consumer, copying, dropping, store
from bench.postgres import growth as postgres_growth

_ALONE: Final[Mapping[str, Callable[[Bench], list[Figure]]]] = {
    "packed": packed.compare,
    "producer": publishing.compare,
    "files": files.compare_files,
    "latency": latency.watch_latency,
    "memory": memory.watch_memory,
    "growth": growth.watch_growth,
    "audit": auditing.compare,
    "observability": observing.watch_cost,
    "postgres-store": store.watch_cost,
    "postgres-consumer": consumer.compare,
    "postgres-growth": postgres_growth.watch_growth,
    "postgres-audit": postgres_auditing.compare,
    "copy": copying.compare,
    "retention": dropping.compare,
    "http": door.compare,
    "mqtt": subscriber.compare,
}

NAMES: Final = (*throughput.CONTESTANTS, *_ALONE)


def choose(only: str) -> tuple[str, ...]:
    """Read a list of cases, separated by commas; empty: all.

    Raises BenchFailed for a name that is none.
    """
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in NAMES]
    if unknown:
        raise BenchFailed(
            f"--only: no such case: {', '.join(unknown)}; there are {', '.join(NAMES)}", exit_code=2
        )
    return tuple(name for name in NAMES if not wanted or name in wanted)


def measure(bench: Bench, cases: Collection[str]) -> list[Figure]:
    """Run cases, and give their figures."""
    figures: list[Figure] = []
    if any(name in cases for name in throughput.CONTESTANTS):
        figures += throughput.compare(bench, cases)
    for name, case in _ALONE.items():
        if name in cases:
            figures += case(bench)
    return figures
