"""Case `growth`: whether the sink slows down as its table grows."""

import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import median

from bench.bench import Bench
from bench.events import batches
from bench.figure import Figure, at_least
from bench.plan import BATCH_SIZE, BenchFailed
from bench.sample import Sample
from bench.table import count_rows
from services.contract.consuming.doors import Sink
from services.contract.event import Event
from services.stores.sqlite.sink import SQLiteSink


def watch_growth(bench: Bench) -> list[Figure]:
    """Write batch after batch to one table; its last batches take turns with the first of a fresh one.

    In turns, because a machine that is slower a minute later would look like a table that slows down.
    """
    rows, window = bench.plan.long_rows, bench.plan.growth_batches
    bench.say(f"growth: {rows:,} rows")
    with tempfile.TemporaryDirectory(prefix="telemetry-bench-") as name:
        large, fresh = Path(name) / "large.db", Path(name) / "fresh.db"
        with closing(_sink(large)) as sink, closing(_sink(fresh)) as other:
            fill(sink, rows - window * BATCH_SIZE)
            first, last = in_pairs(other, sink, window)
        check(rows, count_rows(large), "growth")
    return figures(first, last, rows)


def fill(sink: Sink, rows: int) -> None:
    """Write so many rows."""
    for batch in batches(rows):
        sink.write(batch)


def in_pairs(fresh: Sink, large: Sink, window: int) -> tuple[list[float], list[float]]:
    """Write each batch to both sinks; gives the seconds of each batch, of the one and the other."""
    first, last = [], []
    for batch in batches(window * BATCH_SIZE):
        first.append(_timed(fresh, batch))
        last.append(_timed(large, batch))
    return first, last


def check(rows: int, stored: int, case: str) -> None:
    """See that every row is there. Raises BenchFailed."""
    if stored != rows:
        raise BenchFailed(f"{case}: wrote {rows} rows and has {stored}")


def figures(
    first: Sequence[float],
    last: Sequence[float],
    rows: int,
    case: str = "growth",
    everything: str = "folding the WAL included",
) -> list[Figure]:
    """Make the figures of the seconds of each batch: the first ones of a table, and the last of `rows`.

    `everything` names what the median batch has no part of, and the sum of all has.
    """
    return [
        Figure(case, f"first {len(first) * BATCH_SIZE:,} rows", "rows/s", Sample.of(_typical(first))),
        Figure(case, f"up to {rows:,} rows", "rows/s", Sample.of(_typical(last))),
        Figure(case, "last / first", "x", Sample.of(_typical(last) / _typical(first)), at_least(0.9)),
        Figure(case, f"last / first, {everything}", "x", Sample.of(sum(first) / sum(last))),
    ]


def _sink(path: Path) -> SQLiteSink:
    return SQLiteSink(path, busy_timeout_ms=5000, now=time.time)


def _timed(sink: Sink, batch: Sequence[Event]) -> float:
    """Write a batch; gives seconds."""
    started = time.perf_counter()
    sink.write(batch)
    return time.perf_counter() - started


def _typical(seconds: Sequence[float]) -> float:
    """Give rows a second of the median batch."""
    return BATCH_SIZE / median(seconds)
