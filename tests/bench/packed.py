"""Case `packed`: entries of a hundred events each, against loops over entries of one and of a hundred."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from bench.bench import Bench
from bench.events import generate
from bench.figure import Figure, Goal, at_least, at_most
from bench.plan import BATCH_SIZE, LARGEST_BATCH, in_turn
from bench.race import Contestant, Raced, faststream, floor, ours_packed, packed_loop, race
from bench.sample import Sample
from bench.stream import preload, preload_packed

FLOOR: Final = floor(LARGEST_BATCH)
PACKED_LOOP: Final = packed_loop(LARGEST_BATCH)
ONE: Final = ours_packed(LARGEST_BATCH)
SMALLER: Final = replace(ours_packed(BATCH_SIZE), name=f"{ONE.name}, batches of {BATCH_SIZE}")
TWO: Final = ours_packed(LARGEST_BATCH, replicas=2)
APART: Final = replace(TWO, name=f"{TWO.name}, two files", has_own_files=True)
"""What two consumers come to where they share the processors, and no lock."""
FASTSTREAM: Final = faststream("documented", LARGEST_BATCH)
CONTESTANTS: Final = (FLOOR, PACKED_LOOP, FASTSTREAM, ONE, SMALLER, TWO, APART)


def compare(bench: Bench) -> list[Figure]:
    """Let each settle the same events, round by round."""
    flat, packed = bench.plan.events, bench.plan.packed_events
    bench.say(f"packed: preload {flat:,} events, and {packed:,} by the hundred")
    preload(bench.server, generate(flat))
    preload_packed(bench.server, generate(packed))
    raced: dict[Contestant, list[Raced]] = {one: [] for one in CONTESTANTS}
    for number in range(bench.plan.rounds):
        for one in in_turn(CONTESTANTS, number):
            result = race(one, bench.server, flat if one.events_per_entry == 1 else packed)
            raced[one].append(result)
            bench.say(
                f"round {number + 1}/{bench.plan.rounds}  {one.name:<30}{result.rate:>10,.0f} events/s"
                f"{result.client_us:>8.2f} + {result.server_us:.2f} µs an event"
            )
    with bench.server.client() as client:
        client.flushall()  # the cases behind this one have the memory for themselves
    return figures(raced)


def figures(raced: Mapping[Contestant, Sequence[Raced]]) -> list[Figure]:
    """Make the figures: speeds, ratios, and what an event takes of the processor."""

    def ratio(one: Contestant, other: Contestant, goal: Goal | None) -> Figure:
        return Figure("packed", f"{one.name} / {other.name}", "x", rates[one].over(rates[other]), goal)

    rates = {one: Sample(tuple(result.rate for result in results)) for one, results in raced.items()}
    server = {one: Sample(tuple(result.server_us for result in results)) for one, results in raced.items()}
    client = Sample(tuple(result.client_us for result in raced[ONE]))
    return [
        *(Figure("packed", one.name, "events/s", rate) for one, rate in rates.items()),
        ratio(ONE, FLOOR, at_least(3.0)),
        ratio(ONE, PACKED_LOOP, at_least(1.3)),
        ratio(ONE, FASTSTREAM, at_least(5.0)),
        ratio(SMALLER, FLOOR, None),
        ratio(TWO, ONE, at_least(1.5)),
        ratio(APART, ONE, None),
        Figure("packed", "processor time, the consumer's", "µs", client, at_most(3.0)),
        Figure("packed", "processor time, the server's for it", "µs", server[ONE], at_most(0.5)),
        Figure("packed", "processor time, the server's for the floor", "µs", server[FLOOR]),
    ]
