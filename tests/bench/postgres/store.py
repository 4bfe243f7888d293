"""Case `postgres-store`: the processor time that a row takes, of the client and of the server's backend.

Processor time and not rows a second: that is nearly the same on a busy machine, and whoever pays for the
database pays for it.
"""

import gc
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from bench.bench import Bench
from bench.events import batches
from bench.figure import Figure, at_most
from bench.plan import BATCH_SIZE, BenchFailed, in_turn
from bench.postgres.server import Postgres, serving
from bench.postgres.ways import BARE, COPIES, OURS, WAYS, Way
from bench.processor import spent_s
from bench.sample import Sample

_CASE: Final = "postgres-store"
_FIRST: Final = 6
"""Batches that are in no figure: psycopg prepares at the sixth, and a connection learns the tables."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of processor time a row."""

    client: float
    server: float

    @property
    def both(self) -> float:
        """Of both sides."""
        return self.client + self.server


def watch_cost(bench: Bench) -> list[Figure]:
    """Let all ways write the same batches, each to a database of its own, batch by batch in turns."""
    costs: dict[str, list[Cost]] = {name: [] for name in WAYS}
    with serving() as postgres, ExitStack() as stack:
        urls = {name: postgres.new_database() for name in WAYS}
        ways: dict[str, Way] = {}
        for name, open_way in WAYS.items():
            ways[name] = open_way(urls[name])
            stack.callback(ways[name].close)
        backends = {name: postgres.backend_of(url) for name, url in urls.items()}
        _take_turns(ways, backends, _FIRST)
        for number in range(bench.plan.rounds):
            for name, cost in _take_turns(ways, backends, bench.plan.store_batches).items():
                costs[name].append(cost)
                bench.say(
                    f"round {number + 1}/{bench.plan.rounds}  {name:<24}{cost.both:>6.2f} µs a row, "
                    f"{cost.client:.2f} of them the client's"
                )
        _check(postgres, urls, (_FIRST + bench.plan.rounds * bench.plan.store_batches) * BATCH_SIZE)
    return figures(costs)


def figures(costs: Mapping[str, Sequence[Cost]]) -> list[Figure]:
    """Make the figures: each way's time a row, then ours against the others."""
    both = {name: Sample(tuple(one.both for one in values)) for name, values in costs.items()}
    ours = Sample(tuple(one.client for one in costs[OURS]))
    return [
        *(Figure(_CASE, f"{name}, client and server", "µs", sample) for name, sample in both.items()),
        Figure(_CASE, f"{OURS}, client alone", "µs", ours),
        Figure(_CASE, f"{OURS} / {BARE}, processor time", "x", both[OURS].over(both[BARE])),
        *(
            Figure(_CASE, f"{OURS} / {copy}, processor time", "x", both[OURS].over(both[copy]), at_most(1.2))
            for copy in COPIES
        ),
    ]


def _take_turns(ways: Mapping[str, Way], backends: Mapping[str, int], count: int) -> dict[str, Cost]:
    """Write batches in each way; gives what each took."""
    clients = dict.fromkeys(ways, 0.0)
    before = {name: spent_s([pid]) for name, pid in backends.items()}
    prepared = list(batches(count * BATCH_SIZE))
    # What is prepared is no garbage; looking for some in it would be timed.
    gc.collect()
    gc.freeze()
    for number, batch in enumerate(prepared):
        for name in in_turn(list(ways), number):
            started = time.thread_time()
            ways[name].write(batch)
            clients[name] += time.thread_time() - started
    gc.unfreeze()
    a_row = 1e6 / (count * BATCH_SIZE)
    return {
        name: Cost(clients[name] * a_row, (spent_s([backends[name]]) - before[name]) * a_row) for name in ways
    }


def _check(postgres: Postgres, urls: Mapping[str, str], rows: int) -> None:
    """See that each way has stored every row. Raises BenchFailed."""
    for name, url in urls.items():
        if (stored := postgres.count_rows(url)) != rows:
            raise BenchFailed(f"{_CASE}: {name} wrote {rows} rows and has {stored}")
