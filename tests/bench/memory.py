"""Case `memory`: what our consumer holds while it works off a long backlog."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.bench import Bench
from bench.events import generate
from bench.figure import Figure, at_most
from bench.plan import BenchFailed
from bench.race import ours, race
from bench.sample import Sample
from bench.stream import Progress, preload

_RESIDENT: Final = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Held:
    """What a process held when `settled` events were done with."""

    settled: int
    megabytes: float


def watch_memory(bench: Bench) -> list[Figure]:
    """Work off a long backlog, and look at the resident memory on the way."""
    events = bench.plan.memory_events
    bench.say(f"memory: preload {events:,} events")
    preload(bench.server, generate(events))
    held: list[Held] = []

    def look(progress: Progress, pids: Sequence[int]) -> None:
        # A hundred looks are enough, and cost nothing.
        if progress.settled >= (held[-1].settled if held else -1) + events // 100:
            held.append(Held(progress.settled, resident_megabytes(pids[0])))

    rate = race(ours(), bench.server, events, look).rate
    bench.say(f"memory: {events:,} events at {rate:,.0f} events/s")
    return figures(held, events)


def figures(held: Sequence[Held], events: int) -> list[Figure]:
    """Make the figures: after a tenth of the events, half of them, all of them."""
    early, middle, late = (_at(held, int(events * share)) for share in (0.1, 0.5, 1.0))
    most = max(one.megabytes for one in held)
    return [
        Figure("memory", "after a tenth", "MB", Sample.of(early)),
        Figure("memory", "in the middle", "MB", Sample.of(middle)),
        Figure("memory", "at the end", "MB", Sample.of(late), at_most(80)),
        Figure("memory", "at most", "MB", Sample.of(most), at_most(80)),
        Figure("memory", "end / a tenth (flat)", "x", Sample.of(late / early), at_most(1.05)),
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
