"""Processor time of processes, from Linux's /proc."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from bench.plan import BenchFailed

_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")


class Times(NamedTuple):
    """Seconds of processor time."""

    own_s: float
    """Of the process itself, in its own code and in the kernel's."""
    of_ended_s: float
    """Of its children that have ended."""


def spent_s(pids: Iterable[int]) -> float:
    """Add up what processes have spent. Raises BenchFailed where one of them has ended, or without /proc."""
    return sum(times_of(_stat(pid)).own_s for pid in pids)


def family_spent_s(parent: int) -> float:
    """Add up what a process and all of its children have spent, those too that have ended.

    Raises BenchFailed as `spent_s` does.
    """
    own = times_of(_stat(parent))
    children = (times_of(text).own_s for text in _children(parent))
    return own.own_s + own.of_ended_s + sum(children)


def times_of(stat: str) -> Times:
    """Read a process's times in the text of its /proc/PID/stat."""
    # The name in parentheses may have anything in it.
    fields = stat.rpartition(")")[2].split()
    user, system, user_of_ended, system_of_ended = map(int, fields[11:15])
    return Times((user + system) / _TICKS_A_SECOND, (user_of_ended + system_of_ended) / _TICKS_A_SECOND)


def _children(parent: int) -> list[str]:
    texts = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = place.read_text(encoding="utf-8", errors="replace")
        except OSError:  # it has ended, and counts among those
            continue
        if int(text.rpartition(")")[2].split()[1]) == parent:
            texts.append(text)
    return texts


def _stat(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BenchFailed(
            f"process {pid} has ended, or this is no Linux: {error.filename}: {error.strerror}"
        ) from None
