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

from collections.abc import Iterator, Sequence

from services.consumer.telemetry.followed import Followed
from services.consumer.telemetry.notes import Notes
from services.contract.consuming.doors import Entry
from services.contract.trace_context import TraceContext
from services.runtime.telemetry import conventions as named
from services.runtime.telemetry.conventions import Attribute, operation_attributes, span_name
from services.runtime.telemetry.spans import Link, Mark, Span, child_of


class BatchSpans:
    """Makes the spans of a batch from what was noted of it. `consumer`: our name."""

    def __init__(self, *, stream: str, group: str, consumer: str) -> None:
        self._stream = stream
        self._name = span_name(named.PROCESS, stream)
        self._ack_name = span_name(named.SETTLE, stream)
        client: dict[str, Attribute] = {"messaging.client.id": consumer}
        self._process = operation_attributes(named.PROCESS, stream, group) | client
        # Who did it stands on the batch's span, one link away: each attribute costs as it is sent.
        self._event = operation_attributes(named.PROCESS, stream)
        self._settle = operation_attributes(named.SETTLE, stream, group) | client

    def make(self, batch: Notes, ended_at: float, *, is_short: bool) -> list[Span]:
        """Make them all, when the batch is over; fewer of its stages where there were too many spans already.

        `ended_at`: Unix seconds.
        """
        return [
            self._batch_span(batch, ended_at),
            *self._stage_spans(batch, is_short=is_short),
            *self._event_spans(batch, ended_at),
        ]

    def _batch_span(self, batch: Notes, ended_at: float) -> Span:
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
        if batch.unfollowed:
            attributes[named.UNFOLLOWED] = batch.unfollowed
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

    def _stage_spans(self, batch: Notes, *, is_short: bool) -> Iterator[Span]:
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

    def _event_spans(self, batch: Notes, ended_at: float) -> Iterator[Span]:
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

    def _wait_span(self, batch: Notes, parent: TraceContext, family: Sequence[Followed]) -> Span:
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

    def _event_span(self, batch: Notes, one: Followed, links: Sequence[Link], ended_at: float) -> Span:
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


def _of_first(family: Sequence[Followed]) -> dict[str, Attribute]:
    return {named.MESSAGE_ID: family[0].entry.entry_id.decode()}


def _letters(batch: Notes) -> list[dict[str, Attribute]]:
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
