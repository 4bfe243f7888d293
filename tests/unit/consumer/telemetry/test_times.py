"""The durations of a batch and its stages, and what its oldest entry waited."""

import pytest
from fakes import FakeClock
from samples import event_fields, row

from services.consumer.batch import Outcome
from services.consumer.stages import Stage
from services.consumer.telemetry.times import Times
from services.consumer.telemetry.traces import NoTraces
from services.contract.consuming.doors import Dead, Entry
from services.contract.event import Rejection
from services.runtime.telemetry.metrics import Metrics
from services.runtime.telemetry.spans import begin_trace, set_current

STAGES: tuple[Stage, ...] = ("decode", "validate", "process", "store", "dead-letter", "ack")
WAITED = "telemetry_consumer_publish_to_commit_seconds"


class Desk:
    """Times with a clock of its own."""

    def __init__(self) -> None:
        self.clock = FakeClock(now=1_700_000_000.0)
        self.metrics = Metrics("consumer")
        self.times = Times(self.metrics, self.clock)

    def run(self, *, letters: bool = False, rows: bool = True) -> None:
        """Pass a batch through its stages: each takes a second longer than the one before it."""
        entries = [Entry(b"1699999990000-0", event_fields(1)), Entry(b"1699999999000-0", event_fields(2))]
        with self.times.batch(entries):
            for seconds, stage in enumerate(STAGES, 1):
                if letters and stage == "dead-letter":
                    self.times.burying()
                self.clock.sleep(seconds)
                self.times.done(stage)
            dead = [Dead(entries[1], Rejection("sink", "conflict", "told"))] if letters else []
            self.times.settled(Outcome(entries, [row(1)] if rows else [], int(rows), dead))

    def stage(self, stage: str, what: str = "sum") -> float:
        """Read a stage's histogram."""
        return self.metrics.value(f"telemetry_consumer_stage_duration_seconds_{what}", {"stage": stage})


def test_each_stage_is_measured_from_the_end_of_the_one_before() -> None:
    """Two batches are two observations; the time between them is nobody's."""
    desk = Desk()
    desk.run()
    desk.clock.sleep(100)
    desk.run()
    assert [desk.stage(stage) for stage in ("decode", "validate", "process", "store", "ack")] == [
        2, 4, 6, 8, 12,
    ]  # fmt: skip
    assert desk.stage("store", "count") == 2


def test_the_stage_of_dead_letters_counts_where_there_are_any() -> None:
    """A batch without letters passes it in no time, which would only hide the others."""
    desk = Desk()
    desk.run()
    assert desk.stage("dead_letter", "count") == 0
    desk.run(letters=True)
    assert (desk.stage("dead_letter", "count"), desk.stage("dead_letter")) == (1, 5)
    desk.run()
    assert desk.stage("dead_letter", "count") == 1


def test_the_oldest_entry_waits_until_its_batch_is_stored() -> None:
    """Ten seconds in the stream, and ten until the end of the store; what comes behind is not its wait."""
    desk = Desk()
    desk.run(letters=True)
    assert (desk.metrics.value(f"{WAITED}_sum"), desk.metrics.value(f"{WAITED}_count")) == (20, 1)


def test_a_batch_that_stores_nothing_commits_nothing() -> None:
    """Its entries were not late: they were refused."""
    desk = Desk()
    desk.run(rows=False)
    assert desk.metrics.value(f"{WAITED}_count") == 0


def test_no_wait_is_negative() -> None:
    """The server's clock may be ahead of ours."""
    desk = Desk()
    desk.clock.started_at -= 1000
    desk.run()
    assert desk.metrics.value(f"{WAITED}_sum") == 0


class Kept(NoTraces):
    """Traces that keep every batch, or none."""

    def __init__(self, *, keep: bool) -> None:
        self.context = begin_trace() if keep else None

    def settled(self, outcome: Outcome) -> None:  # noqa: ARG002
        set_current(self.context)


@pytest.mark.parametrize("keep", [True, False])
def test_the_wait_of_a_batch_with_a_span_names_its_trace(keep: bool) -> None:
    """As an exemplar, and only where there is a trace to be found."""
    desk = Desk()
    traces = Kept(keep=keep)
    desk.times = Times(desk.metrics, desk.clock, traces)
    desk.run()
    set_current(None)
    examples = [
        sample.exemplar.labels
        for family in desk.metrics.registry.collect()
        if family.name == WAITED
        for sample in family.samples
        if sample.exemplar is not None
    ]
    assert examples == ([{"trace_id": traces.context.trace_id}] if traces.context else [])
