"""Case `copy`: `telemetry copy` both ways between SQLite and PostgreSQL, beside the speed of each store.

A store's own speed is what its sink writes of the same events, batch by batch, each durable. A copy reads
one side, writes the other, and has it compare what is there then with what was given.
"""

import logging
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from bench.bench import Bench
from bench.events import batches
from bench.figure import Figure, at_least
from bench.plan import BenchFailed
from bench.postgres.server import serving
from bench.sample import Sample
from services.contract.consuming.doors import Sink
from services.contract.event import Event
from services.ops.copy.copying import Place, copy
from services.runtime.settings import ConsumerSettings
from services.stores.choice import open_copied
from services.stores.postgres.connection import Database
from services.stores.postgres.sink import PostgresSink
from services.stores.sqlite.sink import SQLiteSink

_CASE: Final = "copy"
_LOGGER: Final = logging.getLogger(__name__)
_BUSY_MS: Final = 5000
_TO: Final = {"PostgreSQL": "SQLite to PostgreSQL", "SQLite": "PostgreSQL to SQLite"}
"""The ways, by the store that is written to."""


def compare(bench: Bench) -> list[Figure]:
    """Store so many events in each store, and copy them to an empty one of the other, round by round."""
    rows = bench.plan.copied_rows
    stored: dict[str, list[float]] = {name: [] for name in _TO}
    copied: dict[str, list[float]] = {name: [] for name in _TO}
    with serving() as postgres, tempfile.TemporaryDirectory(prefix="telemetry-bench-") as name:
        for number in range(bench.plan.rounds):
            folders = [Path(name) / f"{number}-{which}" for which in ("stored", "copied")]
            databases = [postgres.new_database() for _ in folders]
            events = list(batches(rows))
            stores = [ConsumerSettings(data_dir=one, dead_letters="file") for one in folders]
            others = [ConsumerSettings(database_url=one, dead_letters="file") for one in databases]
            stored["SQLite"].append(_written(partial(_sqlite, stores[0]), events, rows))
            stored["PostgreSQL"].append(_written(partial(_postgres, others[0]), events, rows))
            copied["PostgreSQL"].append(_copied(stores[0], others[1], rows))
            copied["SQLite"].append(_copied(others[0], stores[1], rows))
            for url in databases:
                postgres.drop(url)
            for store, way in _TO.items():
                bench.say(
                    f"round {number + 1}/{bench.plan.rounds}  {way:<24}{copied[store][-1]:>10,.0f} rows/s, "
                    f"the sink {stored[store][-1]:,.0f}"
                )
    return figures(stored, copied, rows)


def figures(stored: dict[str, list[float]], copied: dict[str, list[float]], rows: int) -> list[Figure]:
    """Make the figures: the speeds, rows a second, and each way against the store that is written to."""
    made = []
    for store, way in _TO.items():
        own, whole = Sample(tuple(stored[store])), Sample(tuple(copied[store]))
        made += [
            Figure(_CASE, f"{store}, its own speed, {rows:,} rows", "rows/s", own),
            Figure(_CASE, f"{way}, with the comparison", "rows/s", whole),
            Figure(_CASE, f"{way} / {store}'s own speed", "x", whole.over(own), at_least(0.5)),
        ]
    return made


def _sqlite(settings: ConsumerSettings) -> Sink:
    return SQLiteSink(settings.database, _BUSY_MS, time.time)


def _postgres(settings: ConsumerSettings) -> Sink:
    return PostgresSink(Database.of(settings.database_url), time.time)


def _written(open_sink: Callable[[], Sink], events: Iterable[list[Event]], rows: int) -> float:
    """Write all events by a sink; gives rows a second. Raises BenchFailed."""
    with closing(open_sink()) as sink:
        started = time.monotonic()
        inserted = sum(sink.write(batch).inserted for batch in events)
        seconds = time.monotonic() - started
    if inserted != rows:
        raise BenchFailed(f"{_CASE}: a sink has stored {inserted} of {rows} events")
    return rows / seconds


def _copied(source: ConsumerSettings, target: ConsumerSettings, rows: int) -> float:
    """Copy all events; gives rows a second. Raises BenchFailed."""
    here = open_copied(source, _LOGGER, may_write=False)
    with closing(here), closing(open_copied(target, _LOGGER, may_write=True)) as there:
        started = time.monotonic()
        done = copy(
            Place(rows=here, letters=None, pipeline="telemetry"),
            Place(rows=there, letters=None, pipeline="telemetry"),
            "telemetry_stream",
            lambda _read, _rows: None,
        )
        seconds = time.monotonic() - started
        if (done.added, there.extent().events, done.is_moving) != (rows, rows, False):
            raise BenchFailed(f"{_CASE}: copied {done.added} of {rows} events, and not the same in the end")
    return rows / seconds
