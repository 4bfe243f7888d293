"""Follows the batches of a consumer: notes what happens, decides which are told of, and has their spans made.

A batch has spans where it failed, where an event of it was sampled or died, and otherwise by chance
(docs/decisions/0009).
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Final, Protocol, get_args

from services.consumer.batch import Outcome
from services.consumer.stages import Nobody, Stage, Stages
from services.consumer.telemetry.batch_spans import BatchSpans
from services.consumer.telemetry.followed import afford, find_followed
from services.consumer.telemetry.notes import Notes, Over
from services.contract.consuming.doors import Entry
from services.contract.errors import PipelineError
from services.runtime.clock import Clock
from services.runtime.telemetry import conventions as named
from services.runtime.telemetry.conventions import Attribute
from services.runtime.telemetry.spans import Budget, Mark, Spans, is_drawn, set_current

_ORDER: Final[tuple[Stage, ...]] = tuple(stage for stage in get_args(Stage) if stage != "steps")
"""The stages that every batch passes. Steps raise nothing: an error of theirs is an event's."""


class Traces(Stages, Protocol):
    """Follows the batches of a consumer, one at a time."""

    def batch(self, entries: Sequence[Entry]) -> AbstractContextManager[None]:
        """Follow these entries, whatever becomes of them."""
        ...

    def settled(self, outcome: Outcome) -> None:
        """Hear what became of them."""
        ...


_UNTRACED: Final = nullcontext()


class NoTraces(Nobody):
    """Follows nothing."""

    __slots__ = ()

    def batch(self, entries: Sequence[Entry]) -> AbstractContextManager[None]:  # noqa: ARG002
        """Follow nothing."""
        return _UNTRACED

    def settled(self, outcome: Outcome) -> None:
        """Hear nothing."""


NO_TRACES: Final = NoTraces()


class BatchTraces:
    """Makes the spans of a consumer's batches.

    `ratio`: share of batches kept without a reason. `per_second`: spans that may be made of what was
    sampled; 0: any number.
    """

    def __init__(
        self,
        spans: Spans,
        clock: Clock,
        *,
        stream: str,
        group: str,
        consumer: str,
        ratio: float,
        per_second: float = 0.0,
    ) -> None:
        self._spans = spans
        self._clock = clock
        self._batch_spans = BatchSpans(stream=stream, group=group, consumer=consumer)
        self._ratio = ratio
        self._budget = Budget(per_second, clock.monotonic)
        self._unfollowed = 0
        """Sampled events without a span of their own, until a batch's span tells of them."""
        self._batch: Notes | None = None

    def batch(self, entries: Sequence[Entry]) -> AbstractContextManager[None]:
        """Follow these entries, whatever becomes of them."""
        self._batch = Notes(entries, self._clock.now(), self._clock.monotonic())
        return self

    def __enter__(self) -> None:
        """Nothing is to be done: what is noted has begun."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Make the spans of the batch, if it is one to be told of."""
        batch, self._batch = self._batch, None
        if batch is None:
            return
        if error is not None:
            batch.error = error.kind if isinstance(error, PipelineError) else type(error).__name__
        if batch.outcome is None:
            self._decide(batch)
        if batch.is_kept:
            self._put(batch)
            set_current(None)

    def untraced(self) -> None:
        """Hear that no entry of the batch carries a trace context."""
        if self._batch is not None:
            self._batch.is_untraced = True

    def settled(self, outcome: Outcome) -> None:
        """Hear what became of them. From now on log lines name the batch's span, if it will have one."""
        if self._batch is not None:
            self._batch.outcome = outcome
            self._decide(self._batch)

    def done(self, stage: Stage) -> None:
        """Hear that a stage is over; the next one begins."""
        if self._batch is not None:
            self._end_stage(self._batch, stage)

    def trouble(self, what: str, error: str, attempt: int, pause_s: float) -> None:
        """Hear that something failed and is tried again after a pause, in seconds."""
        if (batch := self._batch) is None:
            return
        self._keep(batch)
        if len(batch.marks) < named.LINK_LIMIT:  # an outage may last for days
            said: dict[str, Attribute] = {named.ERROR: error, named.ATTEMPT: attempt, named.PAUSE: pause_s}
            batch.marks.append(Mark(what, batch.at(self._clock.monotonic()), said))

    def burying(self) -> None:
        """Hear that there are dead letters to be written: they are signed with the batch's span."""
        if self._batch is not None:
            self._keep(self._batch)

    def _end_stage(self, batch: Notes, stage: Stage) -> None:
        batch.over.append(Over(stage, self._clock.monotonic(), tuple(batch.marks)))
        batch.marks.clear()

    def _keep(self, batch: Notes) -> None:
        batch.is_kept = True
        set_current(batch.context)

    def _decide(self, batch: Notes) -> None:
        """Keep what failed, what was sampled upstream, and some of the rest."""
        dead = () if batch.outcome is None else batch.outcome.dead
        if not batch.is_untraced:
            followed = list(find_followed(batch.entries, {one.entry.entry_id: one for one in dead}))
            batch.followed = afford(followed, self._budget.left()) if followed else ()
            self._unfollowed += len(followed) - len(batch.followed)
        if batch.is_kept or batch.error or dead or batch.followed or is_drawn(self._ratio):
            self._keep(batch)

    def _put(self, batch: Notes) -> None:
        """Have its spans made."""
        passed = sum(one.stage != "steps" for one in batch.over)
        if batch.error and passed < len(_ORDER):
            # What raised was the stage behind the last one that was done.
            self._end_stage(batch, _ORDER[passed])
        batch.unfollowed, self._unfollowed = self._unfollowed, 0
        ended_at = batch.at(self._clock.monotonic())
        made = self._batch_spans.make(batch, ended_at, is_short=self._budget.left() <= 0)
        self._budget.spend(len(made))
        self._spans.put(made)
