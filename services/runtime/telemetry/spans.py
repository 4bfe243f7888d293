"""Spans as values, and where they go. Knows nothing of OpenTelemetry: tracing.py does.

A span is made when it is over, from times that were noted meanwhile. So it can be decided at the end
whether it is worth keeping, a batch that fails is never lost to the sampling, and what is not kept costs
a few clock readings.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal, NamedTuple, Protocol

from services.contract.trace_context import TraceContext
from services.runtime.telemetry.conventions import Attributes

BURST: Final = 512
"""Spans that may be made at once: what the SDK sends in one request, unless OTEL_BSP_ variables differ."""

Kind = Literal["internal", "client", "producer", "consumer"]

# Apart from the generator's random numbers, which a seed makes repeatable.
_random: Final = Random()


class Link(NamedTuple):
    """That a span has to do with another one, in whatever trace."""

    context: TraceContext
    attributes: Attributes


class Mark(NamedTuple):
    """Something that happened during a span. `at` in Unix seconds."""

    name: str
    at: float
    attributes: Attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A span that is over. Times in Unix seconds."""

    name: str
    kind: Kind = "internal"
    context: TraceContext
    parent: TraceContext | None = None
    started_at: float
    ended_at: float
    attributes: Attributes = field(default_factory=dict)
    links: Sequence[Link] = ()
    marks: Sequence[Mark] = ()
    error: str = ""
    """What went wrong; empty: nothing."""


class Spans(Protocol):
    """Where spans go."""

    def put(self, spans: Iterable[Span]) -> None:
        """Take spans. Never waits, and never raises: what can't be sent is dropped."""
        ...

    def close(self) -> None:
        """Send what is left, within two seconds."""
        ...


class Budget:
    """How many spans may still be made: `per_second` more each second, at most BURST at once. 0: any number.

    A span costs some 75 microseconds of processor time until it is sent, so a share of the events that is
    small at a hundred a second slows a process down at fifty thousand.
    """

    def __init__(self, per_second: float, monotonic: Callable[[], float]) -> None:
        self._per_second = per_second
        self._monotonic = monotonic
        self._most = max(float(BURST), per_second)
        self._left = self._most
        self._counted_at = monotonic()

    def left(self) -> float:
        """Tell how many there may be now."""
        if self._per_second == 0:
            return math.inf
        now = self._monotonic()
        self._left = min(self._most, self._left + (now - self._counted_at) * self._per_second)
        self._counted_at = now
        return self._left

    def spend(self, spans: int) -> None:
        """Note that so many were made; what has to be made may overdraw it."""
        self._left -= spans


def begin_trace() -> TraceContext:
    """Make the context of a trace's first span."""
    return TraceContext(_hex(128), _hex(64), is_sampled=True)


def child_of(parent: TraceContext) -> TraceContext:
    """Make the context of a span below another one."""
    return TraceContext(parent.trace_id, _hex(64), is_sampled=True, tracestate=parent.tracestate)


def is_drawn(ratio: float) -> bool:
    """Draw whether something is sampled, with the chance `ratio`, 0 to 1."""
    return ratio > 0 and _random.random() < ratio


def _hex(bits: int) -> str:
    # Zero is no id.
    return f"{_random.getrandbits(bits) or 1:0{bits // 4}x}"


_current: Final[ContextVar[TraceContext | None]] = ContextVar("current", default=None)


def current() -> TraceContext | None:
    """Give the span that the work in hand will have; None where it will have none."""
    return _current.get()


def set_current(context: TraceContext | None) -> None:
    """Say which span the work in hand will have: log lines and dead letters name it."""
    _current.set(context)
