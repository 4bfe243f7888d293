"""Where spans go, as the standard OTEL_* variables say.

Loaded only where they switch traces on (see switch.py); without them nothing of it is imported by us.

- A collector that is away, slow or refusing costs no event: spans wait in a queue of bounded length that
  another thread empties, and what doesn't fit is dropped. It costs one line in ten seconds in our log,
  with the SDK's own words, and no traceback.
- The end is bounded here: the SDK waits up to 30 s for a collector that does not answer.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event as SdkEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link as SdkLink
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from services import __version__
from services.contract.trace_context import TraceContext
from services.runtime.otlp.sdk import finish, make_exporter, make_resource, speak_for_senders
from services.runtime.telemetry.spans import Kind, Span

_KINDS: Final[Mapping[Kind, SpanKind]] = {
    "internal": SpanKind.INTERNAL,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
_SCOPE: Final = InstrumentationScope("telemetry-pipeline", __version__)
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_NOT_SAMPLED: Final = TraceFlags(TraceFlags.DEFAULT)


class OTelSpans:
    """Sends spans through an exporter, in the background."""

    def __init__(self, exporter: SpanExporter, resource: Resource, logger: logging.Logger) -> None:
        self._resource = _Process(resource)
        self._logger = logger
        self._processor = BatchSpanProcessor(exporter)

    def put(self, spans: Iterable[Span]) -> None:
        """Take spans. Never waits, and never raises: what can't be sent is dropped."""
        for span in spans:
            self._processor.on_end(_readable(span, self._resource))

    def close(self) -> None:
        """Send what is left, within two seconds; says so when that was not enough."""
        waited_s = finish(self._processor.shutdown, "last-spans")
        if waited_s is not None:
            self._logger.warning(
                "last_spans_given_up", extra={"waited_s": waited_s, "hint": "the collector did not answer"}
            )


class _Process(Resource):
    """The resource of this process. The exporter asks for its hash at each span: it is counted once."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(resource.attributes, resource.schema_url)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash


def start(service: str, instance: str, logger: logging.Logger) -> OTelSpans:
    """Start sending, as the OTEL_* variables of the environment say.

    `service` and `instance` name the process where they don't. Raises SettingsInvalid.
    """
    exporter = make_exporter("traces")
    speak_for_senders(logger)
    return OTelSpans(exporter, make_resource(service, instance), logger)


def _readable(span: Span, resource: Resource) -> ReadableSpan:
    # Made directly and not by a tracer: that one has to be asked at a span's start whether to sample it,
    # and takes ten times as long. The exporters' input is this class either way.
    return ReadableSpan(
        name=span.name,
        context=_span_context(span.context, is_remote=False),
        parent=None if span.parent is None else _span_context(span.parent, is_remote=True),
        resource=resource,
        attributes=span.attributes,
        events=[SdkEvent(mark.name, mark.attributes, _nanoseconds(mark.at)) for mark in span.marks],
        links=[SdkLink(_span_context(link.context, is_remote=True), link.attributes) for link in span.links],
        kind=_KINDS[span.kind],
        status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
        start_time=_nanoseconds(span.started_at),
        # A clock that was set back meanwhile makes no span that ends before it starts.
        end_time=_nanoseconds(max(span.started_at, span.ended_at)),
        instrumentation_scope=_SCOPE,
    )


def _span_context(context: TraceContext, *, is_remote: bool) -> SpanContext:
    return SpanContext(
        int(context.trace_id, 16),
        int(context.span_id, 16),
        is_remote,
        _SAMPLED if context.is_sampled else _NOT_SAMPLED,
        TraceState.from_header([context.tracestate]) if context.tracestate else None,
    )


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000) * 1000  # a float's own digits end at microseconds
