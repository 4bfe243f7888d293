"""Case `postgres-consumer`: the consumer on PostgreSQL, beside itself on SQLite and beside FastStream."""

from collections.abc import Mapping, Sequence
from typing import Final

from bench.bench import Bench
from bench.events import generate
from bench.figure import Figure, at_least, at_most
from bench.plan import in_turn
from bench.postgres.server import Postgres, serving
from bench.processes import python
from bench.race import Contestant, Raced, ours, race
from bench.sample import Sample
from bench.stream import preload

_CASE: Final = "postgres-consumer"
OURS: Final = "ours, PostgreSQL"
ON_SQLITE: Final = "ours, SQLite"
FASTSTREAM: Final = "faststream, executemany"


def compare(bench: Bench) -> list[Figure]:
    """Let each of them settle the stream, round by round."""
    events = bench.plan.events
    bench.say(f"{_CASE}: preload {events:,} events")
    preload(bench.server, generate(events))
    raced: dict[str, list[Raced]] = {name: [] for name in (OURS, ON_SQLITE, FASTSTREAM)}
    with serving() as postgres:
        contestants: Mapping[str, tuple[Contestant, Postgres | None]] = {
            OURS: (ours(), postgres),
            ON_SQLITE: (ours(), None),
            FASTSTREAM: (_faststream(), postgres),
        }
        for number in range(bench.plan.rounds):
            for name in in_turn(list(raced), number):
                contestant, where = contestants[name]
                one = race(contestant, bench.server, events, postgres=where)
                raced[name].append(one)
                bench.say(
                    f"round {number + 1}/{bench.plan.rounds}  {name:<24}{one.rate:>10,.0f} events/s, "
                    f"{one.client_us:.2f} + {one.database_us:.2f} µs an event"
                )
    return figures(raced)


def figures(raced: Mapping[str, Sequence[Raced]]) -> list[Figure]:
    """Make the figures: the rates, then the processor time an event."""
    rates = {name: Sample(tuple(one.rate for one in values)) for name, values in raced.items()}
    clients = {name: Sample(tuple(one.client_us for one in values)) for name, values in raced.items()}
    both = {
        name: Sample(tuple(one.client_us + one.database_us for one in values))
        for name, values in raced.items()
    }
    return [
        *(Figure(_CASE, name, "events/s", rate) for name, rate in rates.items()),
        Figure(_CASE, f"{OURS} / {FASTSTREAM}", "x", rates[OURS].over(rates[FASTSTREAM]), at_least(2.5)),
        *(Figure(_CASE, f"{name}, the consumer", "µs", client) for name, client in clients.items()),
        *(
            Figure(_CASE, f"{name}, with the database's server", "µs", both[name])
            for name in (OURS, FASTSTREAM)
        ),
        Figure(
            _CASE,
            "PostgreSQL / SQLite, processor time of the consumer",
            "x",
            clients[OURS].over(clients[ON_SQLITE]),
            at_most(1.2),
        ),
        Figure(
            _CASE,
            "PostgreSQL / SQLite, with the database's server",
            "x",
            both[OURS].over(clients[ON_SQLITE]),
        ),
    ]


def _faststream() -> Contestant:
    module = "bench.postgres.faststream_peer"
    return Contestant(FASTSTREAM, lambda server, place: python(module, server.url, place.database))
