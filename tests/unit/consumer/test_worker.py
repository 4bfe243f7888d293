"""The loop: what it does in each turn, and what it makes of each kind of error."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fakes import FakeClock, FakeSource, FakeStream
from samples import entry, event_fields, row

from services.brokers.consuming.side import Upkeep
from services.consumer.batch import Outcome
from services.consumer.telemetry.report import Reporter
from services.consumer.worker import Worker
from services.contract.consuming.doors import Entry
from services.contract.errors import BreakerOpen, BrokerUnavailable, SinkWrong, SourceUnavailable, Stopping
from services.runtime.health import Health
from services.runtime.telemetry.metrics import Metrics

LOGGER = logging.getLogger("test.worker")


class CountedUpkeep(Upkeep):
    """An upkeep that is counted, and fails when told to."""

    def __init__(self) -> None:
        self.turns = 0
        self.failures: list[BrokerUnavailable] = []

    def run_due(self) -> None:
        self.turns += 1
        if self.failures:
            raise self.failures.pop(0)


class Desk:
    """A Worker with its fakes at hand. `outcomes`: what becomes of the next batches; then, all is stored."""

    def __init__(self, count: int = 0, stop_after: int | None = None) -> None:
        self.clock = FakeClock(stop_after=stop_after)
        self.stream = FakeStream()
        for number in range(1, count + 1):
            self.stream.publish(event_fields(number))
        self.source = FakeSource(self.stream, batch_size=2)
        self.source.on_empty = self.clock.stop
        self.upkeep = CountedUpkeep()
        self.health = Health(60.0, self.clock.monotonic)
        self.metrics = Metrics("consumer")
        self.batches: list[int] = []
        self.errors: list[Exception] = []
        self.worker = Worker(
            self.source,
            self.settle,
            self.upkeep,
            Reporter(self.metrics, LOGGER, self.clock),
            self.clock,
            self.health,
            self.metrics,
            LOGGER,
        )

    def settle(self, entries: Sequence[Entry]) -> Outcome:
        self.batches.append(len(entries))
        if self.errors:
            raise self.errors.pop(0)
        self.clock.elapsed += 0.5
        self.source.ack(entries)
        return Outcome(entries, [row(number) for number in range(len(entries))], len(entries), [])

    def value(self, name: str, **labels: str) -> float:
        """Read a metric."""
        return self.metrics.value(name, labels)


def test_each_turn_reads_settles_and_looks_after_the_stream() -> None:
    """Also where nothing came; and the process counts as started from the first answer."""
    desk = Desk(count=3)
    assert desk.health.readiness() != ""
    desk.worker.run()
    assert desk.batches == [2, 1]
    # Two with a batch, one with nothing, and the last that gives what was asked for ahead.
    assert desk.upkeep.turns == 4
    assert desk.stream.is_drained
    assert desk.health.readiness() == ""
    assert desk.value("telemetry_redis_up") == 1
    assert desk.clock.sleeps == []


def test_what_has_to_be_so_is_seen_once_before_the_first_entry() -> None:
    """Where the broker can't be asked yet it is seen later, and nothing is read till then."""
    desk = Desk(count=3)
    seen: list[int] = []
    failures = [BrokerUnavailable("told to be away", "told")]

    def begin() -> None:
        seen.append(desk.stream.given)
        if failures:
            raise failures.pop()

    desk.worker.begin = begin
    desk.worker.turn()
    assert (desk.stream.given, desk.value("telemetry_redis_up")) == (0, 0)
    desk.worker.run()
    assert seen == [0, 0]
    assert desk.batches == [2, 1]


def test_a_store_that_is_not_to_be_begun_in_ends_the_loop() -> None:
    """Before anything is taken from the stream."""
    desk = Desk(count=3)

    def begin() -> None:
        raise SinkWrong("told to be blank", "told")

    desk.worker.begin = begin
    with pytest.raises(SinkWrong, match="told to be blank"):
        desk.worker.run()
    assert desk.stream.given == 0


def test_what_was_asked_for_ahead_is_settled_at_the_end() -> None:
    """Asked to stop, it reads no more, and gives the rest of what is on its way to the batch, all of it."""
    desk = Desk(count=3)
    desk.clock.stop()
    ahead: list[list[Entry]] = [[], [entry(8)], [entry(7)]]
    vars(desk.source)["drain"] = ahead.pop
    desk.worker.run()
    assert desk.batches == [1, 1]
    assert desk.stream.given == 0


def test_an_empty_answer_at_the_end_says_nothing_about_the_server() -> None:
    """Nothing was asked for ahead, so nobody has answered."""
    desk = Desk()
    desk.clock.stop()
    desk.worker.run()
    assert desk.health.readiness() != ""
    assert desk.value("telemetry_redis_up") == 0


def test_a_server_that_is_away_is_waited_for_with_growing_pauses() -> None:
    """Unready with its reason, alive, and counted; 0.1 s at first, doubled up to 5 s."""
    desk = Desk(count=1)
    desk.worker.turn()
    desk.source.failures = ["read"] * 9
    seen: list[str] = []
    desk.clock.on_sleep = lambda: seen.append(desk.health.readiness())
    for _ in range(9):
        desk.worker.turn()
        assert desk.value("telemetry_redis_up") == 0
        assert desk.health.liveness() == ""
    assert desk.clock.sleeps == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert set(seen) == {"redis: told to fail at read"}
    assert desk.value("telemetry_redis_errors_total", error="other") == 9
    desk.source.on_empty = lambda: None
    desk.worker.turn()
    assert desk.health.readiness() == ""
    assert desk.value("telemetry_redis_up") == 1
    desk.source.failures = ["read"]
    desk.worker.turn()
    assert desk.clock.sleeps[-1] == 0.1


def test_a_long_outage_pauses_no_longer_than_a_short_one() -> None:
    """However often it failed: no number grows without an end."""
    desk = Desk()
    desk.source.failures = ["read"] * 3000
    for _ in range(3000):
        desk.worker.turn()
    assert desk.clock.sleeps[-1] == 5.0


def test_asked_to_stop_it_pauses_no_more() -> None:
    """The last look at the server may fail, and the process ends at once."""
    desk = Desk()
    desk.clock.stop()

    def fail() -> list[Entry]:
        raise SourceUnavailable("gone", "told")

    vars(desk.source)["drain"] = fail
    desk.worker.run()
    assert desk.clock.sleeps == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SourceUnavailable("no answer to the acknowledgement", "told"), "no answer"),
        (BrokerUnavailable("cut", "told"), "cut"),
    ],
)
def test_a_batch_or_an_upkeep_that_meets_a_dead_server_is_waited_for_too(error: Any, told: str) -> None:
    """What it had in hand counts as pending again."""
    for of_batch in (True, False):
        desk = Desk(count=2)
        (desk.errors if of_batch else desk.upkeep.failures).append(error)
        desk.worker.turn()
        assert told in desk.health.readiness()
        assert desk.clock.sleeps == [0.1]
        settled = "telemetry_consumer_settled_events_total"
        assert desk.value(settled, outcome="pending") == (2 if of_batch else 0)
        assert desk.value("telemetry_consumer_in_flight_events") == 0


def test_recovered_entries_are_counted_as_such() -> None:
    """By the server's count of deliveries: one is new, more is not."""
    desk = Desk()
    pages = [[entry(1), entry(2, deliveries=2), entry(3, deliveries=7)]]
    vars(desk.source)["read"] = pages.pop
    desk.worker.turn()
    received = "telemetry_consumer_received_events_total"
    assert desk.value(received, source="new") == 1
    assert desk.value(received, source="recovered") == 2
    assert desk.value("telemetry_consumer_batch_duration_seconds_sum") == 0.5


def _stop_after(desk: Desk, sleeps: int) -> Callable[[], None]:
    def look() -> None:
        assert desk.health.liveness() == ""
        assert "half of it is invalid" in desk.health.readiness()
        if len(desk.clock.sleeps) == sleeps:
            desk.clock.stop()

    return look


def test_an_open_breaker_stands_still_alive_and_unready() -> None:
    """For hours, and nothing is read meanwhile; it ends when it is asked to."""
    desk = Desk(count=5)
    desk.errors = [BreakerOpen("half of it is invalid")]
    desk.clock.on_sleep = _stop_after(desk, 5000)
    desk.worker.run()
    assert set(desk.clock.sleeps) == {1.0}
    assert desk.stream.given == 2
    assert desk.value("telemetry_breaker_open") == 1


def test_a_batch_that_was_given_up_for_a_stop_ends_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    """It is no error, and what was read stays pending."""
    desk = Desk(count=2)
    desk.errors = [Stopping("asked to stop")]
    with caplog.at_level("WARNING"):
        desk.worker.turn()
    assert [record.message for record in caplog.records] == ["stopped_while_waiting"]
    assert desk.value("telemetry_consumer_settled_events_total", outcome="pending") == 2
    assert len(desk.stream.pending) == 2
