"""The span of a published batch (docs/tracing.md shows it).

    send STREAM    producer   a batch, a trace of its own; its context is written into each of its entries
    send STREAM    producer   the same for events that came with a sampled context: below that, in its trace

Which batches are traced is drawn beforehand, since their entries have to carry the context. A batch that
wasn't drawn and fails gets its span all the same, and its entries none: they may be written already.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol

from services.contract.errors import BrokerRefuses, Stopping
from services.contract.producing.outgoing import Outgoing
from services.contract.trace_context import TraceContext, context_of
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

_NAMES: Final[Mapping[type[BaseException], str]] = {Stopping: "Stopped", BrokerRefuses: "ServerRefuses"}
"""What spans call an error by another name than its class has: who searches them knows these."""


class Traces(Protocol):
    """Follows the batches of a producer, one at a time."""

    def batch(self, events: Sequence[Outgoing], run: str) -> AbstractContextManager[str]:
        """Follow a batch; gives the `traceparent` that its entries are to carry, or an empty text."""
        ...

    def trouble(self, what: str, error: str) -> None:
        """Hear that the server failed, and that the batch will be sent again."""
        ...


_UNTRACED: Final = nullcontext("")


class NoTraces:
    """Follows nothing."""

    __slots__ = ()

    def batch(self, events: Sequence[Outgoing], run: str) -> AbstractContextManager[str]:  # noqa: ARG002
        """Follow nothing."""
        return _UNTRACED

    def trouble(self, what: str, error: str) -> None:
        """Hear nothing."""


NO_TRACES: Final = NoTraces()


@dataclass(slots=True)
class _Batch:
    """What is noted of a batch while it is sent."""

    started_at: float
    monotonic: float
    context: TraceContext = field(default_factory=begin_trace)
    marks: list[Mark] = field(default_factory=list)
    error: str = ""


class SendTraces:
    """Makes the spans of a producer's batches.

    `ratio`: share of batches that are drawn. `per_second`: spans that may be made of what was sampled;
    0: any number.
    """

    def __init__(
        self, spans: Spans, clock: Clock, *, stream: str, ratio: float, per_second: float = 0.0
    ) -> None:
        self._spans = spans
        self._clock = clock
        self._ratio = ratio
        self._budget = Budget(per_second, clock.monotonic)
        self._name = span_name(named.SEND, stream)
        self._send = operation_attributes(named.SEND, stream)
        self._batch: _Batch | None = None

    @contextmanager
    def batch(self, events: Sequence[Outgoing], run: str) -> Iterator[str]:
        """Follow a batch; gives the `traceparent` that its entries are to carry, or an empty text."""
        batch = self._batch = _Batch(self._clock.now(), self._clock.monotonic())
        left = self._budget.left()
        is_drawn_now = bool(events) and left >= 1 and is_drawn(self._ratio)
        origins = dict(islice(_origins(events).items(), None if left == math.inf else max(0, int(left))))
        if is_drawn_now:
            set_current(batch.context)
        try:
            yield batch.context.traceparent if is_drawn_now else ""
        except BaseException as error:
            batch.error = _NAMES.get(type(error)) or type(error).__name__
            raise
        finally:
            if is_drawn_now or origins or batch.marks or batch.error:
                made = list(self._made(batch, len(events), origins, run))
                self._budget.spend(len(made))
                self._spans.put(made)
            self._batch = None
            set_current(None)

    def trouble(self, what: str, error: str) -> None:
        """Hear that the server failed, and that the batch will be sent again."""
        if (batch := self._batch) is None:
            return
        set_current(batch.context)
        if len(batch.marks) < named.LINK_LIMIT:  # an outage may last for days
            batch.marks.append(Mark(what, self._now(batch), {named.ERROR: error}))

    def _now(self, batch: _Batch) -> float:
        return batch.started_at + self._clock.monotonic() - batch.monotonic

    def _made(
        self, batch: _Batch, number: int, origins: Mapping[TraceContext, int], run: str
    ) -> Iterator[Span]:
        ended_at = self._now(batch)
        attributes: dict[str, Attribute] = {**self._send, named.BATCH_SIZE: number, named.RUN: run}
        if batch.error:
            attributes[named.ERROR] = batch.error
        if origins:
            attributes[named.SAMPLED] = sum(origins.values())
        links = [Link(origin, {named.BATCH_SIZE: events}) for origin, events in origins.items()]
        if unlinked := sum(list(origins.values())[named.LINK_LIMIT :]):
            attributes[named.UNLINKED] = unlinked
        yield Span(
            name=self._name,
            kind="producer",
            context=batch.context,
            started_at=batch.started_at,
            ended_at=ended_at,
            attributes=attributes,
            links=links[: named.LINK_LIMIT],
            marks=batch.marks,
            error=batch.error,
        )
        for origin, events in origins.items():
            yield Span(
                name=self._name,
                kind="producer",
                context=child_of(origin),
                parent=origin,
                started_at=batch.started_at,
                ended_at=ended_at,
                attributes={**self._send, named.BATCH_SIZE: events},
                links=(Link(batch.context, {}),),
                error=batch.error,
            )


def _origins(events: Sequence[Outgoing]) -> Counter[TraceContext]:
    """Count events by the sampled context that they came with: an ordinary event has no room for one."""
    found = (context_of(_as_bytes(event.fields)) for event in events if not event.is_plain)
    return Counter(context for context in found if context is not None and context.is_sampled)


def _as_bytes(fields: Sequence[str | bytes]) -> list[bytes]:
    return [part if isinstance(part, bytes) else part.encode(errors="replace") for part in fields]
