"""The law: every entry is stored, dead-lettered or left pending, and none is acked before it is durable."""

import functools
import itertools
import logging
import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from fakes import FakeClock, FakeDeadLetters, FakeSink, FakeSource, FakeStream, NoUpkeep
from hypothesis import example, given
from hypothesis import strategies as st
from law import (
    CONTENTS,
    GUILTY,
    LARGE_BYTES,
    MAX_ENTRY_BYTES,
    POISON,
    check_metrics,
    figures,
    is_poison,
    outages,
    pack,
    publish,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from samples import KPIS, event_fields, id_of, row
from servers import eventually

from services.consumer.batch import Outcome, Rules, decode, run_batch
from services.consumer.breaker import Breaker
from services.consumer.packed.suspects import find_settled
from services.consumer.packed.unpacking import UnpackingSource
from services.consumer.persist import Persist
from services.consumer.telemetry.report import Reporter
from services.consumer.telemetry.times import Times
from services.consumer.telemetry.traces import NO_TRACES, BatchTraces, Traces
from services.consumer.worker import Worker
from services.contract.codec import Packed, unpack
from services.contract.consuming.doors import Dead, Decoded, Entry
from services.contract.errors import BreakerOpen, SourceUnavailable
from services.contract.event import Event, Rejection
from services.runtime.health import Health
from services.runtime.otlp.tracing import OTelSpans
from services.runtime.telemetry.metrics import Metrics
from services.runtime.telemetry.spans import Spans
from services.steps import reject

LOGGER = logging.getLogger("test.law")


@dataclass(frozen=True)
class Plan:
    """What is published, and what fails when."""

    entries: list[tuple[str, int]]
    batch_size: int
    outages: list[bool]
    dead_letters_fail: list[bool]
    source_failures: list[list[str]]
    stops: list[int]
    packs: Sequence[int] = ()
    """How many events go together in an entry, in turn."""


plans = st.builds(
    Plan,
    entries=st.lists(
        st.tuples(
            st.sampled_from(["event", "event", *CONTENTS, POISON, *GUILTY]),
            st.integers(1, 12),
        ),
        min_size=1,
        max_size=40,
    ),
    batch_size=st.integers(1, 12),
    outages=outages,
    dead_letters_fail=st.lists(st.booleans(), max_size=4),
    source_failures=st.lists(st.lists(st.sampled_from(["read", "ack", "settle"]), max_size=3), max_size=4),
    stops=st.lists(st.integers(1, 6), max_size=3),
    packs=st.lists(st.sampled_from([1, 1, 2, 5, 30]), max_size=4),
)


class World:
    """A stream, a sink and dead letters that outlive their consumers, watched for the law."""

    def __init__(
        self, plan: Plan, traces: Sequence[list[bytes]] = (), spans: Spans | None = None, ratio: float = 0.0
    ) -> None:
        self.plan = plan
        self.spans = spans
        self.ratio = ratio
        self.stream, alone = FakeStream(), FakeStream()
        guilty = publish(alone.publish, plan.entries, traces)
        names = pack(self.stream.publish, alone.entries, plan.packs)
        self.guilty = {names[entry_id]: reason for entry_id, reason in guilty.items()}
        self.sink = FakeSink()
        self.sink.refuses = is_poison
        self.sink.outages = list(plan.outages)
        self.dead_letters = FakeDeadLetters()
        self.dead_letters.failures = list(plan.dead_letters_fail)
        self.metrics = Metrics("consumer")
        self.outcomes: list[Outcome] = []

    def check_durable(self, entries: Sequence[Entry]) -> None:
        """Refuse an acknowledgement of what is neither stored nor dead-lettered."""
        self.check_metrics()  # in the middle of a batch
        buried = {letter.entry_id.encode() for letter in self.dead_letters.read()}
        for entry in entries:
            packed = unpack(entry.fields)
            events = {entry.entry_id: entry.fields}
            if isinstance(packed, Packed):
                events = {b"%s/%d" % (entry.entry_id, n): one for n, one in enumerate(packed.events(), 1)}
            for name, event in events.items():
                fields = dict(zip(event[::2], event[1::2], strict=True))
                row = self.sink.rows.get(fields.get(b"event_id", b"").decode())
                is_stored = row is not None and repr(row.value).encode() == fields.get(b"value")
                assert is_stored or name in buried, f"{name!r} is acknowledged and not durable"

    def consume(self, failures: list[str], stop_after: int | None = None, breaker: float = 0.0) -> FakeClock:
        """Run one consumer until it is stopped, or has nothing more to read."""
        clock = FakeClock(stop_after=stop_after)
        health = Health(60.0, clock.monotonic)
        inner = FakeSource(self.stream, self.plan.batch_size, MAX_ENTRY_BYTES)
        inner.failures = list(failures)
        inner.on_ack = self.check_durable
        inner.on_empty = clock.stop
        source = UnpackingSource(
            inner,
            functools.partial(find_settled, self.missing_of, self.dead_letters),
            LOGGER,
            batch_size=self.plan.batch_size,
            max_entry_bytes=MAX_ENTRY_BYTES,
            max_deliveries=1000,
        )
        traces: Traces = (
            NO_TRACES
            if self.spans is None
            else BatchTraces(self.spans, clock, stream="s", group="g", consumer="c", ratio=self.ratio)
        )
        persist = Persist(self.sink, self.dead_letters, 3, 0.5, clock, health, self.metrics, LOGGER, traces)
        settle = functools.partial(
            run_batch,
            source=source,
            rules=Rules(KPIS, 300.0, 1000, max_entry_bytes=MAX_ENTRY_BYTES),
            persist=persist,
            breaker=Breaker(breaker),
            now=clock.now,
            stages=traces,
        )

        def remember(entries: Sequence[Entry]) -> Outcome:
            assert self.in_flight() == len(entries) <= self.plan.batch_size
            self.check_metrics()
            outcome = settle(entries)
            assert len(outcome.received) == len(entries)
            assert outcome.inserted + outcome.duplicates + len(outcome.dead) + outcome.pending == len(entries)
            assert outcome.pending == 0
            self.outcomes.append(outcome)
            return outcome

        Worker(
            source,
            remember,
            NoUpkeep(),
            Reporter(self.metrics, LOGGER, clock),
            clock,
            health,
            self.metrics,
            LOGGER,
            traces,
        ).run()
        return clock

    def missing_of(self, ids: Sequence[str]) -> list[str]:
        """Name those of these events that are not stored."""
        return [one for one in ids if one not in self.sink.rows]

    def settled(self, outcome: str) -> float:
        """Read how many entries the metrics say had this outcome."""
        return self.metrics.value("telemetry_consumer_settled_events_total", {"outcome": outcome})

    def received(self) -> float:
        """Read how many entries the metrics say were received."""
        return figures(self.metrics)[0]

    def in_flight(self) -> float:
        """Read how many entries the metrics say are being worked on."""
        return figures(self.metrics)[2]

    def check_metrics(self) -> None:
        """Check the law in the metrics, as any scrape would find it."""
        check_metrics(self.metrics)


@given(plans)
@example(Plan([("event", 1)], 1, [True] * 4, [], [], []))
@example(Plan([("attributed", 1), ("event", 1)], 3, [], [], [], []))
@example(Plan([("event", one) for one in range(1, 9)], 3, [], [], [["ack"]], [], [5, 1]))
@example(Plan([("event", 1), ("value_negative", 1), ("other", 1)], 2, [], [True], [["settle"]], [1], [3]))
@example(Plan([("event", 1), ("other", 1), (POISON, 1)], 3, [], [True], [["ack", "settle"]], [1]))
def test_the_law_holds_whatever_fails(plan: Plan) -> None:
    """Whatever fails at whichever step, in the end all is stored or dead-lettered, once, with its reason."""
    world = World(plan)
    failures = iter(plan.source_failures)
    for stop_after in plan.stops:
        world.consume(next(failures, []), stop_after)
        world.check_metrics()
        undelivered = {entry_id for entry_id, _ in world.stream.entries[world.stream.given :]}
        everything = {entry_id for entry_id, _ in world.stream.entries}
        assert set(world.stream.acked) | set(world.stream.pending) | undelivered == everything
    for _ in range(10):
        if world.stream.is_drained:
            break
        world.consume(next(failures, []))
    assert world.stream.is_drained
    world.check_metrics()
    assert world.in_flight() == 0

    buried = {letter.entry_id.encode(): letter.reason for letter in world.dead_letters.read()}
    assert buried == world.guilty
    # Whether it was read by luck or looked at: a letter of it has its beginning and its size.
    large = {entry_id for entry_id, reason in world.guilty.items() if reason == "entry_too_large"}
    for letter in world.dead_letters.read():
        assert letter.truncated == (letter.entry_id.encode() in large)
        if letter.truncated:
            assert (letter.text("event_id"), letter.size_bytes) == (id_of(1), LARGE_BYTES)
            assert len(letter.text("blob") or "") == 1024
    innocent = {number for kind, number in plan.entries if kind in {"event", *CONTENTS}}
    assert set(world.sink.rows) == {id_of(number) for number in innocent}
    assert len(world.sink.inserts) == len(set(world.sink.inserts))
    assert len(world.stream.acked) == len(set(world.stream.acked)) == len(world.stream.entries)


TRACES = [
    [],
    [b"traceparent", b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-01"],
    [b"traceparent", b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-00", b"tracestate", b"a=1"],
    [b"traceparent", b"00-" + b"0" * 32 + b"-" + b"cd" * 8 + b"-01"],
    [b"traceparent", b"00-" + b"12" * 16 + b"-" + b"34" * 8 + b"-01", b"tracestate", b",,=\x7f"],
    [b"traceparent", b"\xff\xfe", b"tracestate", b"\xff"],
    [b"traceparent", b""],
    [b"tracestate", b"a=1"],
]


@given(
    plans,
    st.lists(st.sampled_from(TRACES), max_size=5),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_tracing_never_changes_an_outcome(plan: Plan, traces: list[list[bytes]], ratio: float) -> None:
    """Whatever fails, and whatever stands in the trace fields: with tracing all ends as it does without."""
    exporter = InMemorySpanExporter()
    spans = OTelSpans(exporter, Resource.get_empty(), LOGGER)
    worlds = [World(plan, traces), World(plan, traces, spans, ratio)]
    for world in worlds:
        failures = iter(plan.source_failures)
        for stop_after in [*plan.stops, *[None] * 10]:
            world.consume(next(failures, []), stop_after)
        world.check_metrics()
    without, with_traces = worlds
    assert with_traces.sink.rows == without.sink.rows
    assert with_traces.sink.inserts == without.sink.inserts
    assert with_traces.stream.acked == without.stream.acked
    became = [
        [replace(one, received=[*one.received], rows=[*one.rows]) for one in world.outcomes]
        for world in worlds
    ]
    assert became[0] == became[1]
    letters = [
        [replace(letter, trace_id=None, span_id=None) for letter in world.dead_letters.read()]
        for world in worlds
    ]
    assert letters[0] == letters[1]
    assert all(letter.context for letter in with_traces.dead_letters.read()), "a letter names no span"
    spans.close()
    if letters[1]:
        assert exporter.get_finished_spans(), "a batch with dead letters has no span"


@given(plans)
def test_stored_and_duplicate_tell_the_truth_where_nothing_fails(plan: Plan) -> None:
    """Without failures the metrics count each row and each letter exactly once."""
    world = World(Plan(plan.entries, plan.batch_size, [], [], [], [], plan.packs))
    world.consume([])
    assert world.settled("stored") == len(world.sink.rows)
    assert world.settled("dead") == len(world.dead_letters.lines)
    assert world.settled("pending") == 0
    assert world.received() == len(plan.entries)


def test_the_law_holds_at_every_scrape_beside_a_running_batch() -> None:
    """A scrape in another thread never sees a batch half counted, whatever its outcome."""
    metrics = Metrics("consumer")
    reporter = Reporter(metrics, LOGGER, FakeClock())
    entries = [Entry(b"1700000000000-%d" % number, event_fields(number + 1)) for number in range(4)]
    rows = [row(1), row(2)]
    dead = [Dead(entries[2], Rejection("sink", "conflict", "told"))]
    outcomes = [
        None,
        Outcome(entries, rows, 2, dead),
        Outcome(entries[:3], rows, 1, dead),
        Outcome(entries[:2], [], 0, []),
    ]
    enough = threading.Event()

    def work() -> None:
        for outcome in itertools.cycle(outcomes):
            reporter.received(3 if outcome is None else len(outcome.received), 0)
            if outcome is None:
                reporter.unsettled(3)
            else:
                reporter.batch(outcome, 0.1)
            if enough.is_set():
                break

    seen: list[float] = []

    def scrape() -> bool:
        scraped = {
            (sample.name, *sample.labels.values()): sample.value
            for family in metrics.registry.collect()
            for sample in family.samples
        }
        by_name: defaultdict[str, float] = defaultdict(float)
        for (name, *_), value in scraped.items():
            by_name[name] += value
        received, settled = (f"telemetry_consumer_{what}_events_total" for what in ("received", "settled"))
        in_flight = by_name["telemetry_consumer_in_flight_events"]
        assert by_name[received] == by_name[settled] + in_flight
        seen.append(in_flight)
        return len(seen) >= 100 and len(set(seen)) > 1

    worker = threading.Thread(target=work)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    worker.start()
    try:
        eventually(scrape, 60.0, "scrapes in the middle of a batch and between two")
    finally:
        enough.set()
        worker.join()
        sys.setswitchinterval(interval)
    for outcome in ("stored", "duplicate", "dead", "pending"):
        assert metrics.value("telemetry_consumer_settled_events_total", {"outcome": outcome}) > 0


def test_ten_thousand_devices_add_no_series() -> None:
    """Nor do their zones, ids and errors: a scrape is as large after them as before."""
    clock, metrics = FakeClock(), Metrics("consumer", {"kpi": KPIS})
    health = Health(60.0, clock.monotonic)
    times = Times(metrics, clock)
    persist = Persist(FakeSink(), FakeDeadLetters(), 3, 0.5, clock, health, metrics, LOGGER, times)
    reporter = Reporter(metrics, LOGGER, clock)
    metrics.set("telemetry_sink_up", 1)
    before = _series(metrics)
    entries = [
        Entry(
            b"1700000000000-%d" % number,
            event_fields(
                number, device_id=f"device-{number}", zone=f"zone-{number}", value=str(number % 7 - 1)
            ),
        )
        for number in range(1, 10_001)
    ]
    source = FakeSource(FakeStream())
    rules = Rules(KPIS, 300.0, 5)
    with times.batch(entries):
        reporter.received(len(entries), 0)
        outcome = run_batch(entries, source, rules, persist, Breaker(0.0), clock.now, times)
        times.settled(outcome)
        reporter.batch(outcome, 0.1)
    assert len({row.device_id for row in outcome.rows}) + len(outcome.dead) == 10_000
    assert outcome.dead
    assert _series(metrics) == before


def _series(metrics: Metrics) -> set[str]:
    """Name every series that a scrape would find."""
    return {
        f"{sample.name}{sample.labels}" for family in metrics.registry.collect() for sample in family.samples
    }


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 90)), min_size=1, max_size=6),
    st.integers(1, 60),
    st.sampled_from([0.1, 0.5, 0.9]),
)
@example([(True, 100)], 10, 0.5)
@example([(False, 90), (True, 90)], 7, 0.5)
@example([(False, 100), (True, 11)], 55, 0.1)
def test_an_open_breaker_settles_nothing_of_its_batch(
    runs: list[tuple[bool, int]], batch_size: int, ratio: float
) -> None:
    """Where the breaker opens, its batch is neither stored nor dead-lettered, and stays pending."""
    invalid = [is_bad for is_bad, count in runs for _ in range(count)]
    opens_at = _opens_at(invalid, batch_size, ratio)
    entries = [("value_negative" if bad else "event", number + 1) for number, bad in enumerate(invalid)]
    world = World(Plan(entries, batch_size, [], [], [], []))
    clock = world.consume([], stop_after=3, breaker=ratio)
    settled = sum(len(outcome.received) for outcome in world.outcomes)
    assert settled == (len(invalid) if opens_at is None else opens_at)
    assert len(world.sink.rows) + len(world.dead_letters.lines) == settled == len(world.stream.acked)
    assert bool(world.metrics.value("telemetry_breaker_open")) == (opens_at is not None)
    assert len(world.stream.pending) == (0 if opens_at is None else len(invalid[opens_at:][:batch_size]))
    assert clock.is_stopping()
    world.check_metrics()


def _opens_at(invalid: Sequence[bool], batch_size: int, ratio: float) -> int | None:
    """Tell where the batch begins at which the share of the last hundred is too large; None: nowhere."""
    for begin in range(0, len(invalid), batch_size):
        end = min(begin + batch_size, len(invalid))
        # The window is of whole batches: the fewest last ones with a hundred entries together.
        first = begin
        while first > 0 and end - first < 100:
            first -= batch_size
        recent = invalid[first:end]
        if len(recent) >= 100 and sum(recent) / len(recent) > ratio:
            return begin
    return None


def test_an_entry_delivered_too_often_is_dead_and_its_mates_are_not() -> None:
    """Past MAX_DELIVERIES an entry goes to the dead letters without being looked at."""
    clock = FakeClock()
    metrics = Metrics("consumer")
    sink, letters, source = FakeSink(), FakeDeadLetters(), FakeSource(FakeStream())
    health = Health(60.0, clock.monotonic)
    persist = Persist(sink, letters, 3, 0.5, clock, health, metrics, LOGGER)
    entries = [Entry(b"1-%d" % count, event_fields(count), deliveries=count) for count in (1, 5, 6)]
    outcome = run_batch(entries, source, Rules(KPIS, 300.0, 5), persist, Breaker(0.0), clock.now)
    assert [(one.entry.entry_id, one.rejection.reason) for one in outcome.dead] == [
        (b"1-6", "deliveries_exhausted")
    ]
    assert set(sink.rows) == {id_of(1), id_of(5)}


def test_an_event_may_be_as_far_ahead_of_our_clock_as_the_rules_say() -> None:
    """And one that is farther is a dead letter, whether it is ordinary or has a field of its own."""
    clock = FakeClock()
    sink, letters, source = FakeSink(), FakeDeadLetters(), FakeSource(FakeStream())
    health = Health(60.0, clock.monotonic)
    persist = Persist(sink, letters, 3, 0.5, clock, health, Metrics("consumer"), LOGGER)
    entries = []
    for number, ahead in enumerate((299.0, 301.0, 299.0, 301.0)):
        fields = event_fields(number, ts=f"{clock.now() + ahead}")
        trace = [b"traceparent", b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-01"] if number > 1 else []
        entries.append(Entry(b"1-%d" % number, [*fields, *trace]))
    run_batch(entries, source, Rules(KPIS, 300.0, 5), persist, Breaker(0.0), clock.now)
    assert set(sink.rows) == {id_of(0), id_of(2)}
    assert [(one.entry_id, one.reason) for one in letters.read()] == [
        ("1-1", "ts_in_future"),
        ("1-3", "ts_in_future"),
    ]


def test_with_steps_every_entry_has_an_outcome_and_few_are_looked_at_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a step gives is stored, what it refuses or fails at is dead, and so is what has no form for it."""
    careful: list[Entry] = []

    def watched(entries: Sequence[Entry]) -> tuple[list[Decoded], list[Dead]]:
        careful.extend(entries)
        return decode(entries)

    def step(event: Event) -> Event | Rejection:
        if event.device_id == "refused":
            return reject("not ours")
        if event.device_id == "failed":
            raise KeyError(event.kpi)
        return event._replace(kpi="temperature", value=event.value + 100) if event.kpi == "cold" else event

    monkeypatch.setattr("services.consumer.batch.decode", watched)
    plan = [
        (event_fields(1, kpi="cold", value="-20.5"), None),
        (event_fields(2), None),
        (event_fields(3, kpi="cold", value="-200"), "value_negative"),
        (event_fields(4, device_id="refused"), "rejected_by_step"),
        (event_fields(5, device_id="failed"), "step_failed"),
        (event_fields(6, kpi="unheard of"), "kpi_unknown"),
        (event_fields(7, value="warm"), "value_invalid"),
        (event_fields(8, kpi="cold", attributes='{"a": "b"}'), None),
    ]
    clock, stream = FakeClock(), FakeStream()
    for fields, _ in plan:
        stream.publish(fields)
    sink, letters, source = FakeSink(), FakeDeadLetters(), FakeSource(stream)
    health = Health(60.0, clock.monotonic)
    persist = Persist(sink, letters, 3, 0.5, clock, health, Metrics("consumer"), LOGGER)
    entries = source.read()
    outcome = run_batch(entries, source, Rules(KPIS, 300.0, 5, [step]), persist, Breaker(0.0), clock.now)
    assert outcome.pending == 0
    dead = {one.entry.entry_id: one.rejection.reason for one in outcome.dead}
    assert dead == {one.entry_id: why for one, (_, why) in zip(entries, plan, strict=True) if why}
    assert sorted(stream.acked) == sorted(one.entry_id for one in entries)
    assert {(one.kpi, one.value, one.attributes) for one in sink.rows.values()} == {
        ("temperature", 79.5, None), ("humidity", 42.25, None), ("temperature", 142.25, '{"a":"b"}'),
    }  # fmt: skip
    # Of any KPI and range: what the short cut knows goes by it, steps or none.
    assert careful == [entries[6], entries[7]]


def test_a_failed_acknowledgement_comes_up_after_all_is_durable() -> None:
    """The batch raises what the source raises, and by then everything is stored and buried."""
    stream = FakeStream()
    for fields in (event_fields(1), event_fields(2, value="-1")):
        stream.publish(fields)
    clock = FakeClock()
    sink, letters, source = FakeSink(), FakeDeadLetters(), FakeSource(stream)
    health = Health(60.0, clock.monotonic)
    persist = Persist(sink, letters, 3, 0.5, clock, health, Metrics("consumer"), LOGGER)
    entries = source.read()
    source.failures = ["ack"]
    with pytest.raises(SourceUnavailable):
        run_batch(entries, source, Rules(KPIS, 300.0, 5), persist, Breaker(0.0), clock.now)
    assert (len(sink.rows), len(letters.lines)) == (1, 1)
    assert stream.acked == []


def test_the_breaker_opens_before_anything_is_written() -> None:
    """A batch that opens the breaker touches neither sink nor dead letters."""
    clock = FakeClock()
    sink, letters, source = FakeSink(), FakeDeadLetters(), FakeSource(FakeStream())
    health = Health(60.0, clock.monotonic)
    persist = Persist(sink, letters, 3, 0.5, clock, health, Metrics("consumer"), LOGGER)
    entries = [Entry(b"1-%d" % number, [b"a", b"b"]) for number in range(100)]
    entries += [Entry(b"2-%d" % number, event_fields(number + 1)) for number in range(50)]
    with pytest.raises(BreakerOpen, match="100 of the last 150"):
        run_batch(entries, source, Rules(KPIS, 300.0, 5), persist, Breaker(0.5), clock.now)
    assert sink.sizes == []
    assert letters.lines == []
