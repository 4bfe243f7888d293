"""The spans of published batches."""

import pytest
from fakes import FakeClock, FakeSpans
from samples import id_of

from services.brokers.producing.send_traces import NO_TRACES, SendTraces
from services.contract.errors import BrokerRefuses, Stopping
from services.contract.producing.outgoing import Outgoing, flat
from services.contract.trace_context import TraceContext, parse
from services.runtime.telemetry.spans import current

SEND = "send telemetry_stream"
THEIRS = TraceContext("ab" * 16, "cd" * 8, is_sampled=True)


def _traces(ratio: float) -> tuple[SendTraces, FakeSpans, FakeClock]:
    spans, clock = FakeSpans(), FakeClock()
    return SendTraces(spans, clock, stream="telemetry_stream", ratio=ratio), spans, clock


def _event(number: int, traceparent: str = "") -> Outgoing:
    values = (id_of(number), "d", "z", "1700000000.5", "humidity", "1.0")
    if not traceparent:
        return Outgoing(values, number)
    return Outgoing([*flat(values), "traceparent", traceparent], number, is_plain=False)


def test_a_drawn_batch_has_a_span_whose_context_goes_with_it() -> None:
    """One, of kind producer, from the first try to the answer."""
    traces, spans, clock = _traces(1.0)
    with traces.batch([_event(1), _event(2)], "run-1") as traceparent:
        assert current() == parse(traceparent.encode())
        clock.sleep(0.25)
    span = spans.one(SEND)
    assert traceparent == span.context.traceparent
    assert (span.kind, span.parent, span.ended_at - span.started_at) == ("producer", None, 0.25)
    assert span.attributes == {
        "messaging.system": "redis",
        "messaging.destination.name": "telemetry_stream",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.batch.message_count": 2,
        "telemetry.run": "run-1",
    }
    assert current() is None


def test_a_batch_that_is_not_drawn_has_none() -> None:
    """And its entries carry nothing; no more does a batch without events."""
    traces, spans, _ = _traces(0.0)
    with traces.batch([_event(1)], "run-1") as traceparent:
        assert traceparent == ""
    everything, more, _ = _traces(1.0)
    with everything.batch([], "run-1") as traceparent:
        assert traceparent == ""
    with NO_TRACES.batch([_event(1)], "run-1") as traceparent:
        assert traceparent == ""
    assert spans.spans == more.spans == []


def test_a_batch_that_fails_has_a_span_though_it_was_not_drawn() -> None:
    """Its entries carry none all the same: they may have been written at the first try."""
    traces, spans, _ = _traces(0.0)
    with traces.batch([_event(1)], "run-1") as traceparent:
        traces.trouble("redis unavailable", "ConnectionError")
        assert current() is not None
    assert traceparent == ""
    span = spans.one(SEND)
    assert [(mark.name, mark.attributes) for mark in span.marks] == [
        ("redis unavailable", {"error.type": "ConnectionError"})
    ]
    assert span.error == ""
    with pytest.raises(RuntimeError), traces.batch([_event(2)], "run-1"):
        raise RuntimeError
    assert spans.spans[-1].error == "RuntimeError"
    traces.trouble("redis unavailable", "between two batches")
    assert len(spans.spans) == 2


@pytest.mark.parametrize(
    ("error", "name"), [(Stopping("asked to"), "Stopped"), (BrokerRefuses("never"), "ServerRefuses")]
)
def test_a_span_calls_an_error_as_it_always_has(error: Exception, name: str) -> None:
    """Whoever searches for them in a year of traces finds them all."""
    traces, spans, _ = _traces(0.0)
    with pytest.raises(type(error)), traces.batch([_event(1)], "run-1"):
        raise error
    assert (spans.one(SEND).error, spans.one(SEND).attributes["error.type"]) == (name, name)


def test_events_that_come_with_a_context_keep_it_and_are_followed() -> None:
    """A link from the batch, and a span in their own trace, with a link back."""
    traces, spans, _ = _traces(0.0)
    events = [_event(1), *(_event(number, THEIRS.traceparent) for number in (2, 3)), _event(4, "nonsense")]
    events.append(_event(5, f"00-{'12' * 16}-{'34' * 8}-00"))
    with traces.batch(events, "run-1") as traceparent:
        assert traceparent == ""
    batch, own = spans.named(SEND)
    assert [(link.context, link.attributes) for link in batch.links] == [
        (THEIRS, {"messaging.batch.message_count": 2})
    ]
    assert batch.attributes["telemetry.sampled_events"] == 2
    assert (own.parent, own.context.trace_id) == (THEIRS, THEIRS.trace_id)
    assert [link.context for link in own.links] == [batch.context]


def test_a_batch_links_to_128_and_counts_the_rest() -> None:
    """As a consumer's does."""
    traces, spans, _ = _traces(0.0)
    events = [_event(number, f"00-{number:032x}-{number:016x}-01") for number in range(1, 201)]
    with traces.batch(events, "run-1"):
        pass
    assert len(spans.spans[0].links) == 128
    assert spans.spans[0].attributes["telemetry.unlinked_events"] == 72
    assert len(spans.spans) == 201
