"""The spans of a batch, made when it is over (docs/tracing.md shows them).

    process STREAM    consumer   the batch, a trace of its own, with a link to each span that the events
                                 with spans of their own are below, and how many they are
      decode, validate, process, store, dead-letter, ack STREAM       its stages, with retries as events

and in the trace of each event that was sampled by whoever wrote it, or that died:

    wait STREAM       from its publication to its receipt
    process STREAM    consumer   from its receipt until it is durable, with a link to the batch
    store, dead-letter           the write that made it durable

Events of one published batch have one parent and were written in one step: `wait`, `store` and
`dead-letter` are made once for all of them.
"""

import functools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, NamedTuple, Protocol, get_args

from services.consumer.batch import Outcome
from services.consumer.stages import Nobody, Stage, Stages
from services.contract.codec import REQUIRED
from services.contract.doors import Dead, Entry
from services.contract.errors import PipelineError
from services.contract.trace_context import TraceContext, context_of, parse
from services.runtime.clock import Clock
from services.runtime.telemetry import conventions as named
from services.runtime.telemetry.conventions import Attribute, operation_attributes, span_name
from services.runtime.telemetry.spans import (
    Budget,
    Link,
    Mark,
    Span,
    Spans,
    begin_trace,
    child_of,
    is_drawn,
    set_current,
)

_SPANS_OF_A_BATCH: Final = 7
_SPANS_OF_AN_EVENT: Final = 3
"""With those that it shares with others of its parent."""

_ORDER: Final[tuple[Stage, ...]] = get_args(Stage)


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


class _Done(NamedTuple):
    """A stage that is over, in Unix seconds."""

    stage: Stage
    started_at: float
    ended_at: float
    marks: Sequence[Mark]


class _Over(NamedTuple):
    """The same as it is noted, for each batch: most of them are never told of."""

    stage: Stage
    monotonic: float
    marks: Sequence[Mark]


class _Followed(NamedTuple):
    """An event with spans of its own."""

    entry: Entry
    parent: TraceContext
    dead: Dead | None


@dataclass
class _Batch:
    """What is noted of a batch while it is worked on."""

    entries: Sequence[Entry]
    started_at: float
    """Unix seconds."""
    monotonic: float
    """The other clock at that moment."""
    over: list[_Over] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    """Of the stage that is under way."""
    outcome: Outcome | None = None
    error: str = ""
    is_kept: bool = False
    is_untraced: bool = False
    """It is known that no event of it has a trace."""
    followed: Sequence[_Followed] = ()

    @functools.cached_property
    def context(self) -> TraceContext:
        """Name its span."""
        return begin_trace()

    @functools.cached_property
    def done(self) -> list[_Done]:
        """Tell when its stages were. Only when they are over."""
        done: list[_Done] = []
        begun = self.started_at
        for stage, monotonic, marks in self.over:
            ended = self.at(monotonic)
            done.append(_Done(stage, begun, ended, marks))
            begun = ended
        return done

    def at(self, monotonic: float) -> float:
        """Tell Unix seconds by the clock that isn't set: stages of a batch never overlap."""
        return self.started_at + monotonic - self.monotonic

    def time_of(self, stage: Stage) -> _Done | None:
        return next((one for one in self.done if one.stage == stage), None)

    def families(self) -> dict[TraceContext, list[_Followed]]:
        """Group the followed events by what they are below: those of one published batch are together."""
        families: dict[TraceContext, list[_Followed]] = {}
        for one in self.followed:
            families.setdefault(one.parent, []).append(one)
        return families


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
        self._stream = stream
        self._ratio = ratio
        self._budget = Budget(per_second, clock.monotonic)
        self._unfollowed = 0
        """Sampled events without a span of their own, until a batch's span tells of them."""
        self._name = span_name(named.PROCESS, stream)
        self._ack_name = span_name(named.SETTLE, stream)
        client: dict[str, Attribute] = {"messaging.client.id": consumer}
        self._process = operation_attributes(named.PROCESS, stream, group) | client
        # Who did it stands on the batch's span, one link away: each attribute costs as it is sent.
        self._event = operation_attributes(named.PROCESS, stream)
        self._settle = operation_attributes(named.SETTLE, stream, group) | client
        self._batch: _Batch | None = None

    def batch(self, entries: Sequence[Entry]) -> AbstractContextManager[None]:
        """Follow these entries, whatever becomes of them."""
        self._batch = _Batch(entries, self._clock.now(), self._clock.monotonic())
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
            made = self._made(batch)
            self._budget.spend(len(made))
            self._spans.put(made)
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

    def _end_stage(self, batch: _Batch, stage: Stage) -> None:
        batch.over.append(_Over(stage, self._clock.monotonic(), tuple(batch.marks)))
        batch.marks.clear()

    def _keep(self, batch: _Batch) -> None:
        batch.is_kept = True
        set_current(batch.context)

    def _decide(self, batch: _Batch) -> None:
        """Keep what failed, what was sampled upstream, and some of the rest."""
        dead = () if batch.outcome is None else batch.outcome.dead
        if not batch.is_untraced:
            followed = list(_followed(batch.entries, {one.entry.entry_id: one for one in dead}))
            batch.followed = self._afforded(followed) if followed else ()
        if batch.is_kept or batch.error or dead or batch.followed or is_drawn(self._ratio):
            self._keep(batch)

    def _afforded(self, followed: list[_Followed]) -> list[_Followed]:
        """Choose those that there may be spans of: the dead, the last of each trace, then the others."""
        left = self._budget.left() - _SPANS_OF_A_BATCH
        if len(followed) * _SPANS_OF_AN_EVENT <= left:
            return followed
        chosen = {one.entry.entry_id for one in followed if one.dead is not None}
        parents = {one.parent for one in followed if one.dead is not None}
        left -= len(chosen) + (_SPANS_OF_AN_EVENT - 1) * len(parents)
        # The last of each trace: of the last event of a batch a log line tells.
        for one in reversed(followed):
            if one.parent not in parents:
                left -= _SPANS_OF_AN_EVENT
                if left < 0:
                    break
                parents.add(one.parent)
                chosen.add(one.entry.entry_id)
        for one in followed:
            if one.entry.entry_id not in chosen:
                left -= 1
                if left < 0:
                    break
                chosen.add(one.entry.entry_id)
        self._unfollowed += len(followed) - len(chosen)
        return [one for one in followed if one.entry.entry_id in chosen]

    def _made(self, batch: _Batch) -> list[Span]:
        if batch.error and len(batch.over) < len(_ORDER):
            # What raised was the stage behind the last one that was done.
            self._end_stage(batch, _ORDER[len(batch.over)])
        ended_at = batch.at(self._clock.monotonic())
        return [
            self._batch_span(batch, ended_at),
            *self._stage_spans(batch, is_short=self._budget.left() <= 0),
            *self._event_spans(batch, ended_at),
        ]

    def _batch_span(self, batch: _Batch, ended_at: float) -> Span:
        attributes = self._process | {named.BATCH_SIZE: len(batch.entries)}
        if (outcome := batch.outcome) is not None:
            attributes[named.STORED] = outcome.inserted
            attributes[named.DUPLICATES] = outcome.duplicates
            attributes[named.DEAD] = len(outcome.dead)
        if batch.error:
            attributes[named.ERROR] = batch.error
        families = list(batch.families().items())
        if families:
            attributes[named.SAMPLED] = len(batch.followed)
        if self._unfollowed:
            attributes[named.UNFOLLOWED], self._unfollowed = self._unfollowed, 0
        if unlinked := sum(len(family) for _, family in families[named.LINK_LIMIT :]):
            attributes[named.UNLINKED] = unlinked
        return Span(
            name=self._name,
            kind="consumer",
            context=batch.context,
            started_at=batch.started_at,
            ended_at=ended_at,
            attributes=attributes,
            links=[
                Link(parent, _of_first(family) | {named.BATCH_SIZE: len(family)})
                for parent, family in families[: named.LINK_LIMIT]
            ],
            error=batch.error,
        )

    def _stage_spans(self, batch: _Batch, *, is_short: bool) -> Iterator[Span]:
        """Make the spans of the stages; where there were too many already, of those with trouble alone."""
        for number, (stage, started_at, ended_at, marks) in enumerate(batch.done):
            failed = batch.error if number == len(batch.done) - 1 else ""
            letters = _letters(batch) if stage == "dead-letter" else []
            is_ordinary = not (letters or failed or marks)
            if is_ordinary and (is_short or stage == "dead-letter"):
                continue
            attributes = self._settle if stage == "ack" else {}
            yield Span(
                name=self._ack_name if stage == "ack" else stage,
                kind="client" if stage == "ack" else "internal",
                context=child_of(batch.context),
                parent=batch.context,
                started_at=started_at,
                ended_at=ended_at,
                attributes={**attributes, named.ERROR: failed} if failed else attributes,
                marks=[*marks, *(Mark("dead letter", ended_at, letter) for letter in letters)],
                error=failed,
            )

    def _event_spans(self, batch: _Batch, ended_at: float) -> Iterator[Span]:
        """Make the spans of the events that are followed, in their own traces."""
        stored, buried = batch.time_of("store"), batch.time_of("dead-letter")
        to_batch = (Link(batch.context, {}),)
        for parent, family in batch.families().items():
            yield self._wait_span(batch, parent, family)
            for one in family:
                durable = stored if one.dead is None else buried
                yield self._event_span(batch, one, to_batch, durable.ended_at if durable else ended_at)
            for stage, dead in ((stored, False), (buried, True)):
                number = sum((one.dead is not None) == dead for one in family)
                if stage is not None and number:
                    yield Span(
                        name=stage.stage,
                        context=child_of(parent),
                        parent=parent,
                        started_at=stage.started_at,
                        ended_at=stage.ended_at,
                        attributes={named.BATCH_SIZE: number},
                        marks=stage.marks,
                    )

    def _wait_span(self, batch: _Batch, parent: TraceContext, family: Sequence[_Followed]) -> Span:
        published_at = family[0].entry.taken_at
        # The server's clock may be ahead of ours: no wait is negative.
        started_at = min(published_at, batch.started_at)
        return Span(
            name=span_name("wait", self._stream),
            context=child_of(parent),
            parent=parent,
            started_at=started_at,
            ended_at=batch.started_at,
            attributes={named.WAIT: round(batch.started_at - started_at, 6), named.BATCH_SIZE: len(family)},
        )

    def _event_span(self, batch: _Batch, one: _Followed, links: Sequence[Link], ended_at: float) -> Span:
        attributes = self._event | _about(one.entry)
        error = ""
        if one.dead is not None:
            rejection = one.dead.rejection
            error = rejection.reason
            attributes |= {named.OUTCOME: "dead", named.STAGE: rejection.stage, named.ERROR: error}
        elif batch.outcome is None:
            error = batch.error
            attributes |= {named.OUTCOME: "pending", named.ERROR: error}
        else:
            attributes[named.OUTCOME] = "stored"
        return Span(
            name=self._name,
            kind="consumer",
            context=child_of(one.parent),
            parent=one.parent,
            started_at=batch.started_at,
            ended_at=ended_at,
            attributes=attributes,
            links=links,
            error=error,
        )


def _followed(entries: Sequence[Entry], dead: dict[bytes, Dead]) -> Iterator[_Followed]:
    """Find the events that were sampled upstream, and those that died and have a trace at all."""
    # By its length alone: to look for the name in each entry would take as long as to recognise it.
    ordinary = 2 * len(REQUIRED)
    longer = [entry for entry in entries if len(entry.fields) > ordinary]
    read = functools.cache(parse)
    for entry in [*longer, *(one.entry for one in dead.values() if len(one.entry.fields) <= ordinary)]:
        fields = entry.fields
        if len(fields) == ordinary + 2 and fields[ordinary] == b"traceparent":
            context = read(fields[ordinary + 1], b"")
        else:
            context = context_of(fields, read)
        death = dead.get(entry.entry_id)
        if context is not None and (context.is_sampled or death is not None):
            yield _Followed(entry, context, death)


def _of_first(family: Sequence[_Followed]) -> dict[str, Attribute]:
    return {named.MESSAGE_ID: family[0].entry.entry_id.decode()}


def _letters(batch: _Batch) -> list[dict[str, Attribute]]:
    """Name the dead letters of a batch, as many as a span may have events."""
    if batch.outcome is None:
        return []
    return [
        {**_about(one.entry), named.STAGE: one.rejection.stage, named.REASON: one.rejection.reason}
        for one in batch.outcome.dead[: named.LINK_LIMIT]
    ]


def _about(entry: Entry) -> dict[str, Attribute]:
    about: dict[str, Attribute] = {named.MESSAGE_ID: entry.entry_id.decode()}
    names = entry.fields[::2]
    if b"event_id" in names:
        # Of a dead letter it may be anything, of any length.
        event_id = entry.fields[2 * names.index(b"event_id") + 1 :][:1]
        about[named.EVENT_ID] = b"".join(event_id)[:64].decode(errors="replace")
    if entry.deliveries > 1:
        about[named.DELIVERIES] = entry.deliveries
    return about
