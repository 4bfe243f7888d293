"""Case `memory`: what our consumer holds while it works off a long backlog."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.bench import Bench
from bench.events import generate
from bench.figure import Figure, at_most
from bench.plan import LARGEST_BATCH, BenchFailed
from bench.race import Contestant, ours, ours_packed, race
from bench.sample import Sample
from bench.stream import PACKED, Progress, preload, preload_packed

_RESIDENT: Final = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Held:
    """What a process held when `settled` events were done with."""

    settled: int
    megabytes: float


def watch_memory(bench: Bench) -> list[Figure]:
    """Work off a long backlog of either form, and look at the resident memory on the way."""
    events = bench.plan.memory_events
    bench.say(f"memory: preload {events:,} events, and again by the hundred")
    preload(bench.server, generate(events))
    flat = _watch(bench, ours(), events)
    preload_packed(bench.server, generate(events))
    packed = _watch(bench, ours_packed(LARGEST_BATCH), events)
    with bench.server.client() as client:
        client.delete(PACKED.stream)
    return [*figures(flat, events), *figures(packed, events, ", packed")]


def _watch(bench: Bench, contestant: Contestant, events: int) -> list[Held]:
    held: list[Held] = []

    def look(progress: Progress, pids: Sequence[int]) -> None:
        settled = progress.settled * contestant.events_per_entry
        # A hundred looks are enough, and cost nothing.
        if settled >= (held[-1].settled if held else -1) + events // 100:
            held.append(Held(settled, resident_megabytes(pids[0])))

    rate = race(contestant, bench.server, events, look).rate
    bench.say(f"memory: {contestant.name}: {events:,} events at {rate:,.0f} events/s")
    return held


def figures(held: Sequence[Held], events: int, form: str = "") -> list[Figure]:
    """Make the figures: after a tenth of the events, half of them, all of them."""
    early, middle, late = (_at(held, int(events * share)) for share in (0.1, 0.5, 1.0))
    most = max(one.megabytes for one in held)
    return [
        Figure("memory", f"after a tenth{form}", "MB", Sample.of(early)),
        Figure("memory", f"in the middle{form}", "MB", Sample.of(middle)),
        Figure("memory", f"at the end{form}", "MB", Sample.of(late), at_most(80)),
        Figure("memory", f"at most{form}", "MB", Sample.of(most), at_most(80)),
        Figure("memory", f"end / a tenth{form} (flat)", "x", Sample.of(late / early), at_most(1.05)),
    ]


def resident_megabytes(pid: int) -> float:
    """Read the resident memory of a process, in millions of bytes. Raises BenchFailed without /proc."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError as error:
        raise BenchFailed(f"memory: {error.filename}: {error.strerror}; this case needs Linux") from None
    found = _RESIDENT.search(status)
    if found is None:
        raise BenchFailed(f"memory: process {pid} has ended")
    return int(found[1]) * 1024 / 1e6


def _at(held: Sequence[Held], settled: int) -> float:
    """Give the last look before `settled` events, or the first there is."""
    before = [one for one in held if one.settled <= settled]
    return (before or held)[-1 if before else 0].megabytes
