"""The span of replayed letters: a `send` with links to where each of them died (docs/tracing.md).

A replay is rare and somebody's decision: each is traced, whatever TRACE_SAMPLE_RATIO says.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from services.contract.consuming.letter import DeadLetter
from services.runtime.logs.gate import build_logger
from services.runtime.otlp.switch import open_spans
from services.runtime.settings import ConsumerSettings, Sources
from services.runtime.telemetry import conventions as named
from services.runtime.telemetry.conventions import operation_attributes, span_name
from services.runtime.telemetry.spans import Link, Span, Spans, begin_trace


class ReplayTraces:
    """Follows the letters that are published together. `spans` None: follows nothing."""

    def __init__(self, spans: Spans | None, stream: str) -> None:
        self._spans = spans
        self._stream = stream

    @contextmanager
    def batch(self, letters: Sequence[DeadLetter]) -> Iterator[str]:
        """Follow letters; gives the `traceparent` for those that have none, or an empty text."""
        if self._spans is None or not letters:
            yield ""
            return
        context = begin_trace()
        started_at = time.time()
        error = ""
        try:
            yield context.traceparent
        except BaseException as failure:
            error = type(failure).__name__
            raise
        finally:
            origins = [
                Link(origin, {named.MESSAGE_ID: one.entry_id, named.REASON: one.reason})
                for one in letters
                if (origin := one.context) is not None
            ]
            attributes = operation_attributes(named.SEND, self._stream) | {named.BATCH_SIZE: len(letters)}
            if len(origins) > named.LINK_LIMIT:
                attributes[named.UNLINKED] = len(origins) - named.LINK_LIMIT
            if error:
                attributes[named.ERROR] = error
            span = Span(
                name=span_name(named.SEND, self._stream),
                kind="producer",
                context=context,
                started_at=started_at,
                ended_at=time.time(),
                attributes=attributes,
                links=origins[: named.LINK_LIMIT],
                error=error,
            )
            self._spans.put([span])


@contextmanager
def open_traces(settings: ConsumerSettings, sources: Sources) -> Iterator[ReplayTraces]:
    """Follow replays where OTEL_ variables switch traces on. Raises SettingsInvalid."""
    logger = build_logger("replay", "WARNING", sys.stderr)  # noqa: TID251 - a log, with its gate
    spans = open_spans("telemetry-replay", settings.name, sources, logger)
    try:
        yield ReplayTraces(spans, settings.stream_name)
    finally:
        if spans is not None:
            spans.close()
