"""Case `retention`: a day that is too old is dropped while a consumer writes, in both stores.

All rows of that day are proven; then one sink writes batch after batch, some time alone and then beside an
audit that drops the day. What a batch takes meanwhile is held against what it took before.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from bench.auditing import Place, in_sqlite
from bench.bench import Bench
from bench.events import batches
from bench.figure import Figure, at_most
from bench.plan import BATCH_SIZE, BenchFailed
from bench.postgres.auditing import in_postgres
from bench.postgres.server import serving
from bench.processes import clean_environment
from bench.sample import Sample, percentile
from services.brokers.redis.keys import StreamKeys
from services.contract.consuming.doors import Sink
from services.contract.ids import run_name
from services.stores.postgres.connection import Database
from services.stores.postgres.sink import PostgresSink
from services.stores.sqlite.sink import SQLiteSink

_CASE: Final = "retention"
_DAY_MS: Final = 86_400_000
_DAYS_AGO: Final = 3
_BUSY_MS: Final = 30_000
_PAUSE_S: Final = 0.02
"""Between two batches: a consumer that is not at its limit, as one that nobody is to notice the drop at."""
_BEFORE: Final = 20
"""Times as many are written before as the case growth compares: a 99th percentile of few is chance."""
_TIMEOUT_S: Final = 3600
_KEYS: Final = StreamKeys()
_DROP: Final = """
import json, sys, time
from pathlib import Path
from services.ops.audit.proving import prove
from services.ops.audit.retaining import retain
from services.runtime.settings import ConsumerSettings

port, folder, url, days = sys.argv[1:]
settings = ConsumerSettings(
    redis_host="127.0.0.1",
    redis_port=int(port),
    data_dir=Path(folder),
    database_url=url,
    retain_days=int(days),
)
result = prove(settings)
started = time.monotonic()
done = retain(settings, result)
seconds = time.monotonic() - started
print(json.dumps([seconds, result.total.missing, done.rows if done else 0, done.waits if done else ""]))
"""


def compare(bench: Bench) -> list[Figure]:
    """Drop a day of so many rows in each store."""
    with serving() as postgres, tempfile.TemporaryDirectory(prefix="telemetry-bench-") as name:
        here = in_sqlite(Path(name) / "sqlite")
        there = in_postgres(postgres, Path(name) / "postgres")
        return [
            *_dropped(bench, "SQLite", here, partial(_sqlite, here)),
            *_dropped(bench, "PostgreSQL", there, partial(_postgres, there)),
        ]


def figures(store: str, rows: int, seconds: float, before: list[float], beside: list[float]) -> list[Figure]:
    """Make the figures of one store. Times in seconds: of the drop, and of each batch."""
    usual = percentile(before, 0.99)

    def ms(value: float) -> Sample:
        return Sample.of(value * 1000)

    return [
        Figure(_CASE, f"{store}, a day of {rows:,} rows dropped", "rows/s", Sample.of(rows / seconds)),
        Figure(_CASE, f"{store}, a batch before, 99th percentile", "ms", ms(usual)),
        Figure(_CASE, f"{store}, a batch beside it, 99th percentile", "ms", ms(percentile(beside, 0.99))),
        Figure(_CASE, f"{store}, the slowest batch beside it", "ms", ms(max(beside))),
        Figure(
            _CASE,
            f"{store}, 99th percentile beside it / before",
            "x",
            Sample.of(percentile(beside, 0.99) / usual),
            at_most(1.0),
        ),
    ]


def _dropped(bench: Bench, store: str, place: Place, open_sink: Callable[[], Sink]) -> list[Figure]:
    rows, run = bench.plan.long_rows, run_name(1)
    midnight_ms = int(time.time() * 1000) // _DAY_MS * _DAY_MS
    place.fill(1, rows, run, midnight_ms - _DAYS_AGO * _DAY_MS, max(1, _DAY_MS // (rows + 1)))
    with closing(bench.server.client()) as client:
        client.flushall()
        client.sadd(_KEYS.runs, run)
        record = {"last": rows, "published": rows, "batches": 1, "started_at": time.time()}
        client.hset(_KEYS.run(run), mapping=record)  # type: ignore[arg-type]
    _answer(_start(bench, place, retain_days=0))
    with closing(open_sink()) as sink:
        new = _timed(sink)
        before = [next(new) for _ in range(_BEFORE * bench.plan.growth_batches)]
        dropping = _start(bench, place, retain_days=1)
        beside = [next(new)]
        while dropping.poll() is None:
            beside.append(next(new))
    seconds, missing, dropped, waits = _answer(dropping)
    if (missing, dropped, waits) != (0, rows, ""):
        raise BenchFailed(
            f"{_CASE}: {dropped} of {rows} rows dropped, {missing} missing; {waits or 'no wait'}"
        )
    bench.say(f"{_CASE}: {store}: {rows:,} rows in {seconds:.1f} s, beside {len(beside):,} batches")
    return figures(store, rows, seconds, before, beside)


def _start(bench: Bench, place: Place, *, retain_days: int) -> "subprocess.Popen[str]":
    """Start an audit that drops what is older; 0: that drops nothing."""
    return subprocess.Popen(
        [sys.executable, "-c", _DROP, str(bench.server.port), str(place.folder), place.url, str(retain_days)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )


def _answer(process: "subprocess.Popen[str]") -> tuple[float, int, int, str]:
    """Read what came of it. Raises BenchFailed."""
    try:
        told, error = process.communicate(timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise BenchFailed(f"{_CASE}: no end after {_TIMEOUT_S} s") from None
    if process.returncode:
        raise BenchFailed(f"{_CASE}: {error.strip()}")
    seconds, missing, dropped, waits = json.loads(told)
    return seconds, missing, dropped, waits


def _timed(sink: Sink) -> Iterator[float]:
    """Write a batch of now each time; gives how many seconds it took."""
    while True:
        (batch,) = batches(BATCH_SIZE)
        time.sleep(_PAUSE_S)
        started = time.monotonic()
        sink.write(batch)
        yield time.monotonic() - started


def _sqlite(place: Place) -> Sink:
    return SQLiteSink(place.folder / "telemetry.db", _BUSY_MS, time.time)


def _postgres(place: Place) -> Sink:
    return PostgresSink(Database.of(place.url), time.time)
