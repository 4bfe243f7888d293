"""What is noted of a batch while it is worked on: little, since of most batches nothing is told."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from services.consumer.batch import Outcome
from services.consumer.stages import Stage
from services.consumer.telemetry.followed import Followed
from services.contract.consuming.doors import Entry
from services.contract.trace_context import TraceContext
from services.runtime.telemetry.spans import Mark, begin_trace


class Done(NamedTuple):
    """A stage that is over, in Unix seconds."""

    stage: Stage
    started_at: float
    ended_at: float
    marks: Sequence[Mark]


class Over(NamedTuple):
    """The same as it is noted, for each batch: most of them are never told of."""

    stage: Stage
    monotonic: float
    marks: Sequence[Mark]


@dataclass
class Notes:
    """What is noted of a batch while it is worked on."""

    entries: Sequence[Entry]
    started_at: float
    """Unix seconds."""
    monotonic: float
    """The other clock at that moment."""
    over: list[Over] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    """Of the stage that is under way."""
    outcome: Outcome | None = None
    error: str = ""
    is_kept: bool = False
    is_untraced: bool = False
    """It is known that no event of it has a trace."""
    followed: Sequence[Followed] = ()
    """Its events with spans of their own."""
    unfollowed: int = 0
    """Sampled events without one, of this batch and of those before it that were not told of."""

    @functools.cached_property
    def context(self) -> TraceContext:
        """Name its span."""
        return begin_trace()

    @functools.cached_property
    def done(self) -> list[Done]:
        """Tell when its stages were. Only when they are over."""
        done: list[Done] = []
        begun = self.started_at
        for stage, monotonic, marks in self.over:
            ended = self.at(monotonic)
            done.append(Done(stage, begun, ended, marks))
            begun = ended
        return done

    def at(self, monotonic: float) -> float:
        """Tell Unix seconds by the clock that isn't set: stages of a batch never overlap."""
        return self.started_at + monotonic - self.monotonic

    def time_of(self, stage: Stage) -> Done | None:
        """Tell when a stage was; None where it was not reached."""
        return next((one for one in self.done if one.stage == stage), None)

    def families(self) -> dict[TraceContext, list[Followed]]:
        """Group the followed events by what they are below: those of one published batch are together."""
        families: dict[TraceContext, list[Followed]] = {}
        for one in self.followed:
            families.setdefault(one.parent, []).append(one)
        return families
