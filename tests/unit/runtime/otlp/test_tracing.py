"""What becomes of our spans in the SDK, and that whoever receives them can't hold us up."""

import io
import json
import logging
import math
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from fakes import FakeClock
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from services import __version__
from services.contract.trace_context import TraceContext
from services.runtime.logs.gate import build_logger
from services.runtime.otlp import sdk as otel
from services.runtime.otlp.tracing import OTelSpans
from services.runtime.redact import redact
from services.runtime.telemetry.spans import (
    BURST,
    Budget,
    Link,
    Mark,
    Span,
    begin_trace,
    child_of,
    current,
    is_drawn,
    set_current,
)

LOGGER = logging.getLogger("test.tracing")
SIGNALS = 3


def _span(name: str = "work") -> Span:
    return Span(name=name, context=begin_trace(), started_at=1_700_000_000.25, ended_at=1_700_000_001.5)


def _exported(*spans: Span) -> Sequence[ReadableSpan]:
    exporter = InMemorySpanExporter()
    sender = OTelSpans(exporter, Resource({"service.name": "x"}), LOGGER)
    sender.put(spans)
    sender.close()
    return exporter.get_finished_spans()


def test_a_span_arrives_whole() -> None:
    """Ids, kind, times, attributes, links, events and status."""
    parent = TraceContext("ab" * 16, "cd" * 8, is_sampled=True, tracestate="a=1,b=2")
    other = TraceContext("12" * 16, "34" * 8, is_sampled=False)
    (found,) = _exported(
        Span(
            name="process s",
            kind="consumer",
            context=child_of(parent),
            parent=parent,
            started_at=1_700_000_000.25,
            ended_at=1_700_000_001.5,
            attributes={"a": 1, "b": "text"},
            links=[Link(other, {"c": 2})],
            marks=[Mark("retry", 1_700_000_000.5, {"d": True})],
            error="conflict",
        )
    )
    assert (found.name, found.kind) == ("process s", SpanKind.CONSUMER)
    assert found.parent is not None
    assert (found.context.trace_id, found.parent.span_id) == (int("ab" * 16, 16), int("cd" * 8, 16))
    assert found.context.span_id not in {0, found.parent.span_id}
    assert found.context.trace_flags.sampled
    assert dict(found.context.trace_state) == {"a": "1", "b": "2"}
    assert (found.start_time, found.end_time) == (1_700_000_000_250_000_000, 1_700_000_001_500_000_000)
    assert dict(found.attributes or {}) == {"a": 1, "b": "text"}
    (link,) = found.links
    assert (link.context.trace_id, link.context.trace_flags, dict(link.attributes or {})) == (
        int("12" * 16, 16), 0, {"c": 2},
    )  # fmt: skip
    (event,) = found.events
    assert (event.name, event.timestamp, dict(event.attributes or {})) == (
        "retry", 1_700_000_000_500_000_000, {"d": True},
    )  # fmt: skip
    assert (found.status.status_code, found.status.description) == (StatusCode.ERROR, "conflict")


def test_a_clock_that_was_set_back_makes_no_span_end_before_it_starts() -> None:
    """It then takes no time."""
    (found,) = _exported(Span(name="x", context=begin_trace(), started_at=100.0, ended_at=99.0))
    assert found.start_time == found.end_time
    assert found.status.status_code == StatusCode.UNSET


def test_the_resource_names_the_process_unless_somebody_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard variables stand above what we say."""
    ours = otel.make_resource("telemetry-consumer", "consumer-1").attributes
    assert {name: ours[name] for name in ("service.name", "service.version", "service.instance.id")} == {
        "service.name": "telemetry-consumer",
        "service.version": __version__,
        "service.instance.id": "consumer-1",
    }
    monkeypatch.setenv("OTEL_SERVICE_NAME", "theirs")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=pod-1,service.instance.id=7")
    theirs = otel.make_resource("telemetry-consumer", "consumer-1").attributes
    assert (theirs["service.name"], theirs["service.instance.id"]) == ("theirs", "7")
    assert (theirs["k8s.pod.name"], theirs["service.version"]) == ("pod-1", __version__)


@pytest.mark.parametrize("protocol", ["", "http/protobuf", "grpc"])
def test_the_exporter_is_that_of_the_protocol(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP where none is asked for; the variable of traces stands above the one of all."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret-t0ken,other=c%20dee")
    if not protocol:
        monkeypatch.delenv("OTEL_EXPORTER_OTLP_PROTOCOL")
    exporter = otel.make_exporter("traces")
    assert ("grpc" in type(exporter).__module__) == (protocol == "grpc")
    assert redact("a secret-t0ken, and c%20dee or c dee") == "a ***, and *** or ***"
    exporter.shutdown()


class StuckExporter(SpanExporter):
    """Takes spans, and comes back when it is let go."""

    def __init__(self) -> None:
        self.was_asked = threading.Event()
        self.let_go = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002 - it looks at none
        self.was_asked.set()
        self.let_go.wait()
        return SpanExportResult.FAILURE


def test_a_collector_that_never_answers_holds_up_the_end_no_longer_than_two_seconds() -> None:
    """What is left is given up, and it is said so."""
    out = io.StringIO()
    exporter = StuckExporter()
    sender = OTelSpans(exporter, Resource.get_empty(), build_logger("test", "INFO", out))
    sender.put([_span() for _ in range(5000)])
    assert exporter.was_asked.wait(10)
    started = time.monotonic()
    sender.close()
    assert time.monotonic() - started < 2.0
    line = json.loads(out.getvalue().splitlines()[-1])
    assert (line["levelname"], line["message"]) == ("WARNING", "last_spans_given_up")
    exporter.let_go.set()


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Give our log, where others' loggers speak through it."""
    out = io.StringIO()
    theirs = logging.getLogger("opentelemetry.test")
    otel.speak_for(logging.getLogger("opentelemetry"), build_logger("test", "INFO", out))
    yield out
    logging.getLogger("opentelemetry").handlers = []
    logging.getLogger("opentelemetry").propagate = True
    theirs.disabled = False


def test_the_sdks_complaints_are_one_line_of_our_log(lines: io.StringIO) -> None:
    """Without a traceback, and the next one in ten seconds."""
    theirs = logging.getLogger("opentelemetry.test")
    try:
        int("no number")
    except ValueError:
        theirs.exception("Exception while exporting %s.", "Span")
    theirs.error("again")
    theirs.info("not worth a line")
    (line,) = map(json.loads, lines.getvalue().splitlines())
    assert (line["message"], line["levelname"]) == ("spans_not_sent", "WARNING")
    assert line["error"].startswith("Exception while exporting Span.: invalid literal")


def test_log_lines_name_the_span_in_hand() -> None:
    """By the names that the specification gives to them."""
    out = io.StringIO()
    logger = build_logger("test", "INFO", out)
    context = begin_trace()
    set_current(context)
    logger.info("inside")
    set_current(None)
    assert current() is None
    logger.info("outside")
    inside, outside = map(json.loads, out.getvalue().splitlines())
    assert (inside["trace_id"], inside["span_id"]) == (context.trace_id, context.span_id)
    assert "trace_id" not in outside


def test_ids_are_well_formed_and_their_own() -> None:
    """32 and 16 hex digits, never the same again; a child stays in its trace."""
    made = [begin_trace() for _ in range(1000)]
    assert all(len(one.trace_id) == 32 and len(one.span_id) == 16 for one in made)
    assert len({one.trace_id for one in made}) == len({one.span_id for one in made}) == 1000
    assert child_of(made[0]).trace_id == made[0].trace_id


def test_the_ratio_is_the_share_that_is_drawn() -> None:
    """None at 0, all at 1, and about half between."""
    assert not any(is_drawn(0.0) for _ in range(1000))
    assert all(is_drawn(1.0) for _ in range(1000))
    assert 300 < sum(is_drawn(0.5) for _ in range(1000)) < 700


def test_a_budget_fills_with_time_and_no_further_than_the_queue() -> None:
    """It may be overdrawn, and 0 is no limit."""
    clock = FakeClock()
    budget = Budget(100.0, clock.monotonic)
    assert budget.left() == BURST
    budget.spend(BURST + 50)
    assert budget.left() == -50
    clock.sleep(1.0)
    assert budget.left() == 50
    clock.sleep(1e6)
    assert budget.left() == BURST
    endless = Budget(0.0, clock.monotonic)
    endless.spend(10_000)
    assert endless.left() == math.inf


def test_all_signals_together_end_within_two_seconds() -> None:
    """Whether each of them hangs, or the first took nearly all of it."""
    for first in (0.0, 1.0, otel.time_left_s(0.0)):
        passed = first
        for _ in range(SIGNALS - 1):
            passed += otel.time_left_s(passed)
        assert passed <= 2.0
