"""Cases `floor`, `faststream`, `ours` and `replicas`: in turns, on one stream that is loaded once."""

from collections.abc import Collection, Mapping
from typing import Final

from bench.bench import Bench
from bench.events import generate
from bench.figure import Figure, Goal, at_least
from bench.plan import in_turn
from bench.race import FLOOR, Contestant, faststream, ours, race
from bench.sample import Sample
from bench.stream import preload

_OURS: Final = ours()
_DOCUMENTED: Final = faststream("documented")
_TUNED: Final = faststream("tuned")
_TWO: Final = ours(replicas=2)
_FOUR: Final = ours(replicas=4)

CONTESTANTS: Final[Mapping[str, tuple[Contestant, ...]]] = {
    "floor": (FLOOR,),
    "faststream": (_DOCUMENTED, _TUNED),
    "ours": (_OURS,),
    "replicas": (_OURS, _TWO, _FOUR),
}
"""Who takes part, by case."""

# Who is divided by whom, in which case, and what it should come to.
_RATIOS: Final[tuple[tuple[str, Contestant, Contestant, Goal | None], ...]] = (
    ("ours", _OURS, FLOOR, at_least(1.6)),
    ("ours", _OURS, _DOCUMENTED, at_least(2.5)),
    ("ours", _OURS, _TUNED, at_least(2.5)),
    ("replicas", _TWO, _OURS, None),
    ("replicas", _FOUR, _OURS, None),
)


def compare(bench: Bench, cases: Collection[str]) -> list[Figure]:
    """Let everybody of these cases settle the stream, round by round."""
    # A contestant of two cases runs once a round.
    contestants = list(
        dict.fromkeys(one for case, group in CONTESTANTS.items() if case in cases for one in group)
    )
    events = bench.plan.events
    bench.say(f"preload: {events:,} events")
    preload(bench.server, generate(events))
    rates: dict[Contestant, list[float]] = {one: [] for one in contestants}
    for number in range(bench.plan.rounds):
        for one in in_turn(contestants, number):
            rate = race(one, bench.server, events).rate
            rates[one].append(rate)
            bench.say(f"round {number + 1}/{bench.plan.rounds}  {one.name:<24}{rate:>10,.0f} events/s")
    return figures({one: Sample(tuple(values)) for one, values in rates.items()}, cases)


def figures(samples: Mapping[Contestant, Sample], cases: Collection[str]) -> list[Figure]:
    """Make the figures of the cases: each one's speed, then one against the other."""
    speeds = [
        Figure(case, one.name, "events/s", samples[one])
        for case, group in CONTESTANTS.items()
        for one in group
        if case in cases and not (case == "replicas" and one is _OURS)
    ]
    ratios = [
        Figure(case, f"{one.name} / {other.name}", "x", samples[one].over(samples[other]), goal)
        for case, one, other, goal in _RATIOS
        if case in cases and one in samples and other in samples
    ]
    return [*speeds, *ratios]
