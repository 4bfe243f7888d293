"""The spans of a batch: which there are, what they say, and which batches have any."""

import functools
import logging
from collections.abc import Sequence

import pytest
from fakes import FakeClock, FakeDeadLetters, FakeSink, FakeSource, FakeSpans, FakeStream, NoUpkeep
from samples import KPIS, event_fields, id_of

from services.consumer.batch import Rules, run_batch
from services.consumer.breaker import Breaker
from services.consumer.persist import Persist
from services.consumer.telemetry.report import Reporter
from services.consumer.telemetry.traces import BatchTraces
from services.consumer.worker import Worker
from services.contract.trace_context import TraceContext
from services.runtime.health import Health
from services.runtime.telemetry.metrics import Metrics
from services.runtime.telemetry.spans import current
from services.steps import Step

LOGGER = logging.getLogger("test.traces")
BATCH = "process telemetry_stream"
STAGES = ["decode", "validate", "process", "store"]
PUBLISHED_AT = 1_700_000_000.0


class Consumer:
    """A consumer of a stream of its own; ten seconds behind the producers."""

    def __init__(self, ratio: float = 0.0, batch_size: int = 1000, per_second: float = 0.0) -> None:
        self.steps: list[Step] = []
        self.stream = FakeStream()
        self.source = FakeSource(self.stream, batch_size)
        self.sink = FakeSink()
        self.letters = FakeDeadLetters()
        self.spans = FakeSpans()
        self.clock = FakeClock(PUBLISHED_AT + 10)
        self.traces = BatchTraces(
            self.spans,
            self.clock,
            stream="telemetry_stream",
            group="g",
            consumer="c-1",
            ratio=ratio,
            per_second=per_second,
        )
        self.source.on_empty = self.clock.stop

    def publish(self, fields: Sequence[bytes], traceparent: str = "") -> None:
        trace = [b"traceparent", traceparent.encode()] if traceparent else []
        self.stream.publish([*fields, *trace])

    def run(self) -> None:
        metrics = Metrics("consumer")
        health = Health(60.0, self.clock.monotonic)
        persist = Persist(
            self.sink, self.letters, 3, 0.5, self.clock, health, metrics, LOGGER, self.traces
        )  # fmt: skip
        settle = functools.partial(
            run_batch,
            source=self.source,
            rules=Rules(KPIS, 1e9, 5, self.steps),
            persist=persist,
            breaker=Breaker(0.0),
            now=self.clock.now,
            stages=self.traces,
        )
        reporter = Reporter(metrics, LOGGER, self.clock)
        Worker(
            self.source, settle, NoUpkeep(), reporter, self.clock, health, metrics, LOGGER, self.traces
        ).run()


def _traceparent(number: int, flags: str = "01") -> str:
    return f"00-{number:032x}-{number:016x}-{flags}"


def _context(number: int) -> TraceContext:
    return TraceContext(f"{number:032x}", f"{number:016x}", is_sampled=True)


def test_a_batch_without_a_reason_has_no_span() -> None:
    """Nor has an empty read; nothing was drawn, sampled, wrong or dead."""
    consumer = Consumer()
    consumer.publish(event_fields(1))
    consumer.publish(event_fields(2), _traceparent(2, "00"))
    consumer.publish(event_fields(3), "nonsense")
    consumer.run()
    assert len(consumer.sink.rows) == 3
    assert consumer.spans.spans == []


def test_a_drawn_batch_has_a_span_and_its_stages() -> None:
    """A trace of its own, without gaps; no dead-letter stage where nothing died, no span of any event."""
    consumer = Consumer(ratio=1.0)
    for number in range(1, 6):
        consumer.publish(event_fields(number))
    consumer.run()
    batch = consumer.spans.one(BATCH)
    assert (batch.kind, batch.parent, batch.links, batch.error) == ("consumer", None, [], "")
    assert batch.attributes == {
        "messaging.system": "redis",
        "messaging.destination.name": "telemetry_stream",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": "g",
        "messaging.client.id": "c-1",
        "messaging.batch.message_count": 5,
        "telemetry.stored": 5,
        "telemetry.duplicates": 0,
        "telemetry.dead": 0,
    }
    stages = consumer.spans.spans[1:]
    assert [stage.name for stage in stages] == [*STAGES, "ack telemetry_stream"]
    assert {stage.parent for stage in stages} == {batch.context}
    begun = [stage.started_at for stage in stages]
    assert begun == [batch.started_at, *(stage.ended_at for stage in stages[:-1])]
    ack = stages[-1]
    assert (ack.kind, ack.attributes["messaging.operation.type"]) == ("client", "settle")


def test_a_sampled_event_is_followed_in_its_own_trace() -> None:
    """Wait, process, store: below what wrote it into the stream, with a link to its batch and back."""
    consumer = Consumer()
    consumer.publish(event_fields(1))
    consumer.publish(event_fields(2), _traceparent(7))
    consumer.run()
    batch, own = consumer.spans.named(BATCH)
    wait, store = consumer.spans.one("wait telemetry_stream"), consumer.spans.named("store")[1]
    assert [link.context for link in batch.links] == [_context(7)]
    assert batch.links[0].attributes == {
        "messaging.message.id": "1700000000000-2", "messaging.batch.message_count": 1,
    }  # fmt: skip
    assert batch.attributes["telemetry.sampled_events"] == 1
    assert [span.parent for span in (wait, own, store)] == [_context(7)] * 3
    assert {span.context.trace_id for span in (wait, own, store)} == {_context(7).trace_id}
    assert [link.context for link in own.links] == [batch.context]
    assert own.attributes["messaging.message.id"] == "1700000000000-2"
    assert (own.attributes["telemetry.event_id"], own.attributes["telemetry.outcome"]) == (id_of(2), "stored")
    assert (wait.started_at, wait.ended_at) == (PUBLISHED_AT, own.started_at)
    assert wait.attributes["telemetry.wait_s"] == 10.0


def test_events_of_one_published_batch_share_what_happened_to_all_of_them() -> None:
    """A span for each event, one wait, one store, and one link with their number."""
    consumer = Consumer()
    for number in range(1, 201):
        consumer.publish(event_fields(number), _traceparent(7))
    consumer.run()
    batch = consumer.spans.spans[0]
    assert len(consumer.spans.named(BATCH)) == 201
    assert len(consumer.spans.named("wait telemetry_stream")) == 1
    assert len(consumer.spans.named("store")) == 2
    (link,) = batch.links
    assert link.attributes["messaging.batch.message_count"] == 200
    assert batch.attributes["telemetry.sampled_events"] == 200


def test_a_batch_links_to_128_and_counts_the_rest() -> None:
    """More would be dropped in silence; each event still has its own span."""
    consumer = Consumer()
    for number in range(1, 201):
        consumer.publish(event_fields(number), _traceparent(number))
    consumer.run()
    batch = consumer.spans.spans[0]
    assert len(batch.links) == 128
    assert batch.attributes["telemetry.sampled_events"] == 200
    assert batch.attributes["telemetry.unlinked_events"] == 72
    assert len(consumer.spans.named(BATCH)) == 201


def test_what_is_sampled_makes_no_more_spans_than_there_may_be() -> None:
    """One event of each trace comes first, the others are counted; time brings more."""
    consumer = Consumer(per_second=300.0)
    for number in range(3000):
        consumer.publish(event_fields(number), _traceparent(1 + number % 600))
    consumer.run()
    assert len(consumer.sink.rows) == 3000
    batches = [span for span in consumer.spans.named(BATCH) if span.parent is None]
    events = [span for span in consumer.spans.named(BATCH) if span.parent is not None]
    assert 500 < len(consumer.spans.spans) <= 512
    assert len({span.parent for span in events}) == len(events)
    assert sum(int(span.attributes["telemetry.sampled_events"]) for span in batches) == len(events)
    before = len(consumer.spans.spans)
    consumer.clock = FakeClock(PUBLISHED_AT + 20)
    consumer.source.on_empty = consumer.clock.stop
    consumer.publish(event_fields(3000, value="-1"), _traceparent(601))
    consumer.run()
    died = [span for span in consumer.spans.spans[before:] if span.error == "value_negative"]
    assert [span.parent for span in died] == [_context(601)], "a dead letter is in whatever was spent"
    told = [span.attributes.get("telemetry.unfollowed_events", 0) for span in consumer.spans.named(BATCH)]
    assert sum(map(int, told)) == 3000 - len(events)


def test_dead_letters_in_every_batch_cost_two_spans_each_at_most() -> None:
    """Once the limit is used up: they are always in, and the stages where nothing happened are not."""
    consumer = Consumer(batch_size=1, per_second=10.0)
    for number in range(300):
        consumer.publish(event_fields(number, value="-1"))
    consumer.run()
    assert len(consumer.spans.named(BATCH)) == len(consumer.spans.named("dead-letter")) == 300
    assert 40 < len(consumer.spans.named("decode")) < 100
    assert len(consumer.spans.spans) < 2 * 300 + 512


def test_the_last_event_of_a_batch_is_followed_before_others_of_its_trace() -> None:
    """Of that one a log line tells, whose reader looks for it in the trace."""
    consumer = Consumer(per_second=300.0)
    for number in range(1000):
        consumer.publish(event_fields(number), _traceparent(7))
    consumer.run()
    followed = [span for span in consumer.spans.named(BATCH) if span.parent is not None]
    assert 400 < len(followed) < 512
    assert followed[-1].attributes["telemetry.event_id"] == id_of(999)


def test_dead_letters_are_always_in_and_name_their_span() -> None:
    """Though nothing was drawn or sampled: the letter's ids lead to the batch."""
    consumer = Consumer()
    consumer.publish(event_fields(1))
    consumer.publish(event_fields(2, value="-1"))
    consumer.run()
    batch, stage = consumer.spans.one(BATCH), consumer.spans.one("dead-letter")
    assert batch.attributes["telemetry.dead"] == 1
    (mark,) = stage.marks
    assert mark.name == "dead letter"
    assert mark.attributes == {
        "messaging.message.id": "1700000000000-2",
        "telemetry.event_id": id_of(2),
        "telemetry.stage": "validate",
        "telemetry.reason": "value_negative",
    }
    (letter,) = consumer.letters.read()
    assert (letter.trace_id, letter.span_id) == (batch.context.trace_id, batch.context.span_id)


@pytest.mark.parametrize("flags", ["00", "01"])
def test_a_dead_event_is_found_in_its_own_trace(flags: str) -> None:
    """Sampled upstream or not: the trace that its letter names has a span that says why it died."""
    consumer = Consumer()
    consumer.publish(event_fields(1, value="-1"), _traceparent(7, flags))
    consumer.run()
    (letter,) = consumer.letters.read()
    assert letter.trace_id == _context(7).trace_id
    own = consumer.spans.named(BATCH)[1]
    assert own.context.trace_id == letter.trace_id
    assert own.context.is_sampled
    assert (own.error, own.attributes["telemetry.outcome"]) == ("value_negative", "dead")
    assert (own.attributes["error.type"], own.attributes["telemetry.stage"]) == ("value_negative", "validate")
    assert [span.context.trace_id for span in consumer.spans.named("dead-letter")].count(letter.trace_id) == 1
    assert len(consumer.spans.named("store")) == 1


def test_retries_are_events_of_the_stage_that_was_tried_again() -> None:
    """In the batch's trace and in the sampled event's; a batch that failed once is always in."""
    consumer = Consumer()
    consumer.sink.outages = [True, True]
    consumer.publish(event_fields(1), _traceparent(7))
    consumer.run()
    for store in consumer.spans.named("store"):
        assert [(mark.name, mark.attributes["telemetry.attempt"]) for mark in store.marks] == [
            ("retry", 1), ("retry", 2),
        ]  # fmt: skip
        assert store.ended_at - store.started_at >= 1.5
    consumer = Consumer()
    consumer.sink.outages = [True]
    consumer.publish(event_fields(1))
    consumer.run()
    assert consumer.spans.one("store").marks[0].attributes == {
        "error.type": "told", "telemetry.attempt": 1, "telemetry.pause_s": 0.5,
    }  # fmt: skip


def test_a_long_outage_makes_no_endless_span() -> None:
    """Events of a span are limited, as its links are."""
    consumer = Consumer()
    consumer.sink.outages = [True] * 1000
    consumer.publish(event_fields(1))
    consumer.run()
    assert len(consumer.spans.one("store").marks) == 128


@pytest.mark.parametrize("steps", [[], [lambda event: event]])
def test_a_failed_acknowledgement_is_an_error_of_its_stage(steps: list[Step]) -> None:
    """The batch's span has it as well, and its events are pending as far as it knows. Or with steps."""
    consumer = Consumer()
    consumer.steps = steps
    consumer.publish(event_fields(1), _traceparent(7))
    consumer.source.failures = ["ack"]
    consumer.run()
    batch, own = consumer.spans.named(BATCH)
    assert (batch.error, batch.attributes["error.type"]) == ("told", "told")
    assert "telemetry.stored" not in batch.attributes
    assert consumer.spans.one("ack telemetry_stream").error == "told"
    assert (own.error, own.attributes["telemetry.outcome"]) == ("told", "pending")
    assert bool(consumer.spans.named("steps")) == bool(steps)


def test_what_is_delivered_again_says_so() -> None:
    """A span of its own, with the number of deliveries."""
    consumer = Consumer()
    consumer.publish(event_fields(1), _traceparent(7))
    consumer.source.read()  # by a predecessor, which died of it
    consumer.source = FakeSource(consumer.stream)
    consumer.source.on_empty = consumer.clock.stop
    consumer.run()
    assert consumer.spans.named(BATCH)[1].attributes["telemetry.deliveries"] == 2


def test_what_was_delivered_too_often_is_found_in_its_own_trace() -> None:
    """Though nobody looked at its fields, and the others of its batch carry no trace."""
    consumer = Consumer()
    consumer.publish(event_fields(1), _traceparent(7))
    for _ in range(5):
        FakeSource(consumer.stream).read()  # each died of it
    consumer.source = FakeSource(consumer.stream)
    consumer.source.on_empty = consumer.clock.stop
    consumer.run()
    own = consumer.spans.named(BATCH)[1]
    assert (own.context.trace_id, own.error) == (_context(7).trace_id, "deliveries_exhausted")


def test_log_lines_of_a_batch_name_its_span_where_it_has_one(caplog: pytest.LogCaptureFixture) -> None:
    """And no line does outside of it."""
    named: list[tuple[str, TraceContext | None]] = []

    class Remember(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            named.append((record.getMessage(), current()))

    handler = Remember()
    LOGGER.addHandler(handler)
    with caplog.at_level("INFO"):
        consumer = Consumer(batch_size=1)
        consumer.publish(event_fields(1))
        consumer.publish(event_fields(2, value="-1"))
        consumer.run()
    LOGGER.removeHandler(handler)
    batch = consumer.spans.one(BATCH)
    settled = [context for event, context in named if event == "batch_settled"]
    assert settled == [None, batch.context]
    assert ("event_dead_lettered", batch.context) in named
    assert current() is None
