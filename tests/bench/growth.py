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
            for batch in batches(rows - window * BATCH_SIZE):
                sink.write(batch)
            pairs = [(_timed(other, batch), _timed(sink, batch)) for batch in batches(window * BATCH_SIZE)]
        stored = count_rows(large)
    if stored != rows:
        raise BenchFailed(f"growth: wrote {rows} rows and has {stored}")
    first, last = zip(*pairs, strict=True)
    return figures(first, last, rows)


def figures(first: Sequence[float], last: Sequence[float], rows: int) -> list[Figure]:
    """Make the figures of the seconds of each batch: the first ones of a table, and the last of `rows`."""
    return [
        Figure("growth", f"first {len(first) * BATCH_SIZE:,} rows", "rows/s", Sample.of(_typical(first))),
        Figure("growth", f"up to {rows:,} rows", "rows/s", Sample.of(_typical(last))),
        Figure("growth", "last / first", "x", Sample.of(_typical(last) / _typical(first)), at_least(0.9)),
        # The median passes over the batches that fold the WAL into the file; the sum doesn't.
        Figure("growth", "last / first, folding the WAL included", "x", Sample.of(sum(first) / sum(last))),
    ]


def _sink(path: Path) -> SQLiteSink:
    return SQLiteSink(path, busy_timeout_ms=5000, now=time.time)


def _timed(sink: SQLiteSink, batch: Sequence[Event]) -> float:
    """Write a batch; gives seconds."""
    started = time.perf_counter()
    sink.write(batch)
    return time.perf_counter() - started


def _typical(seconds: Sequence[float]) -> float:
    """Give rows a second of the median batch."""
    return BATCH_SIZE / median(seconds)
