"""Case `postgres-growth`: whether the sink slows down as a day's table grows."""

import time
from contextlib import closing
from typing import Final

from bench import growth
from bench.bench import Bench
from bench.figure import Figure
from bench.plan import BATCH_SIZE
from bench.postgres.server import serving
from bench.processor import spent_s
from bench.sample import Sample
from services.stores.postgres.connection import Database
from services.stores.postgres.sink import PostgresSink

_CASE: Final = "postgres-growth"


def watch_growth(bench: Bench) -> list[Figure]:
    """Write batch after batch; the last ones take turns with the first of a fresh database.

    All of the ids are of one day, so one partition has all of the rows.
    """
    rows, window = bench.plan.long_rows, bench.plan.growth_batches
    bench.say(f"{_CASE}: {rows:,} rows")
    with serving() as postgres:
        large, fresh = postgres.new_database(), postgres.new_database()
        with closing(_sink(large)) as sink, closing(_sink(fresh)) as other:
            growth.fill(sink, rows - window * BATCH_SIZE)
            backends = (postgres.backend_of(fresh), postgres.backend_of(large))
            before = [spent_s([pid]) for pid in backends]
            first, last = growth.in_pairs(other, sink, window)
            of_first, of_last = (spent_s([pid]) - at for pid, at in zip(backends, before, strict=True))
        growth.check(rows, postgres.count_rows(large), _CASE)
    return [
        *growth.figures(first, last, rows, _CASE, "the slowest batches included"),
        Figure(_CASE, "last / first, the backend's processor time", "x", Sample.of(of_last / of_first)),
    ]


def _sink(url: str) -> PostgresSink:
    return PostgresSink(Database.of(url), time.time)
