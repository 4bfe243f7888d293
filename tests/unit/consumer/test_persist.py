"""Retries, bisection, and waiting: what a write can come to."""

import itertools
import logging
from collections.abc import Callable

import pytest
from fakes import FakeClock, FakeDeadLetters, FakeSink
from hypothesis import given
from hypothesis import strategies as st
from samples import dead, entry, id_of, row

from services.consumer.persist import Persist
from services.contract.consuming.doors import Processed
from services.contract.errors import Stopping
from services.contract.event import Event
from services.runtime.health import Health
from services.runtime.telemetry.metrics import Metrics


class Desk:
    """A Persist with its fakes at hand."""

    def __init__(self, max_retries: int = 3, stop_after: int | None = None) -> None:
        self.sink = FakeSink()
        self.letters = FakeDeadLetters()
        self.clock = FakeClock(stop_after=stop_after)
        self.health = Health(60.0, self.clock.monotonic)
        self.health.started()
        self.metrics = Metrics("consumer")
        self.persist = Persist(
            self.sink,
            self.letters,
            max_retries,
            0.5,
            self.clock,
            self.health,
            self.metrics,
            logging.getLogger("test.persist"),
        )


def processed(*numbers: int) -> list[Processed]:
    """Make entries with their rows."""
    return [(entry(number), row(number)) for number in numbers]


def one_of(*numbers: int) -> Callable[[Event], bool]:
    """Make a judge who finds these rows guilty."""
    guilty = {id_of(number) for number in numbers}
    return lambda one: one.event_id in guilty


def test_a_write_that_works_is_written_once() -> None:
    """No retry, no probe, no pause."""
    desk = Desk()
    stored = desk.persist.store(processed(1, 2, 3))
    assert ([one.entry_id for one in stored.entries], stored.inserted, stored.dead) == (
        [entry(1).entry_id, entry(2).entry_id, entry(3).entry_id],
        3,
        [],
    )
    assert (desk.sink.sizes, desk.sink.probes, desk.clock.sleeps) == ([3], 0, [])


def test_no_rows_are_no_write() -> None:
    """A batch of dead letters alone doesn't trouble the sink."""
    desk = Desk()
    assert desk.persist.store([]) == ([], 0, [])
    assert desk.sink.sizes == []


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_passing_failure_is_retried_with_linear_back_off(failures: int) -> None:
    """Retry n comes after n times 0.5 s; the process stays ready, and nothing is dead."""
    desk = Desk()
    desk.sink.outages = [True] * failures
    stored = desk.persist.store(processed(1, 2))
    assert (stored.inserted, stored.dead) == (2, [])
    assert desk.clock.sleeps == [0.5, 1.0, 1.5][:failures]
    assert desk.metrics.value("telemetry_retries_total", {"stage": "sink"}) == failures
    assert desk.metrics.value("telemetry_sink_errors_total", {"error": "other"}) == failures
    assert desk.health.readiness() == ""


def test_no_retries_means_none() -> None:
    """MAX_RETRIES 0 goes to the probe at once."""
    desk = Desk(max_retries=0)
    desk.sink.is_stuck = one_of(1)
    stored = desk.persist.store(processed(1))
    assert [one.rejection.reason for one in stored.dead] == ["retries_exhausted"]
    assert desk.clock.sleeps == []


@given(st.sets(st.integers(0, 19)), st.integers(1, 20))
def test_refused_rows_alone_are_dead(guilty: set[int], size: int) -> None:
    """Whichever rows are refused: they are dead letters, all others are stored, and nobody waits."""
    desk = Desk()
    desk.sink.refuses = one_of(*guilty)
    stored = desk.persist.store(processed(*range(size)))
    numbers = set(range(size))
    assert {one.entry.entry_id for one in stored.dead} == {entry(one).entry_id for one in guilty & numbers}
    assert {one.rejection.reason for one in stored.dead} <= {"refused_by_sink"}
    assert {one.entry_id for one in stored.entries} == {entry(one).entry_id for one in numbers - guilty}
    assert stored.inserted == len(numbers - guilty) == len(desk.sink.rows)
    assert desk.clock.sleeps == []


@given(st.sets(st.integers(0, 15), min_size=1), st.sets(st.integers(0, 15)))
def test_rows_at_which_a_write_is_stuck_alone_are_dead(stuck: set[int], refused: set[int]) -> None:
    """Where the sink answers and some rows' writes never pass, those rows are dead after the retries."""
    desk = Desk()
    desk.sink.is_stuck = one_of(*stuck)
    desk.sink.refuses = one_of(*refused)
    stored = desk.persist.store(processed(*range(16)))
    reasons = {one.entry.entry_id: one.rejection.reason for one in stored.dead}
    assert reasons == {entry(one).entry_id: "refused_by_sink" for one in refused} | {
        entry(one).entry_id: "retries_exhausted" for one in stuck
    }
    assert len(desk.sink.rows) == 16 - len(stuck | refused)
    assert desk.clock.sleeps == [0.5, 1.0, 1.5]
    assert desk.health.readiness() == ""


def test_a_letter_tells_how_often_its_write_was_tried() -> None:
    """Attempts are one for a refused row, and retries and all for a stuck one."""
    desk = Desk()
    desk.sink.refuses = one_of(1)
    assert desk.persist.store(processed(1, 2)).dead[0].attempts == 1
    assert desk.metrics.value("telemetry_sink_errors_total", {"error": "other"}) == 1
    desk.sink.is_stuck = one_of(3)
    # The first, three retries, and the one after the probe.
    assert desk.persist.store(processed(3, 4)).dead[0].attempts == 5


def test_a_write_is_measured() -> None:
    """How long it takes, and nothing else."""
    desk = Desk()
    desk.clock.sleep(100.0)

    def take_time(_: Event) -> bool:
        desk.clock.sleep(0.25)
        return False

    desk.sink.refuses = take_time
    desk.persist.store(processed(1, 2))
    assert desk.metrics.value("telemetry_sink_commit_duration_seconds_sum") == 0.5


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_sink_that_is_down_is_waited_for(size: int) -> None:
    """While the sink is away the process is unready and alive, and when it is back nothing is dead."""
    desk = Desk()
    desk.persist.store(processed(100))
    assert desk.metrics.value("telemetry_sink_up") == 1
    desk.sink.down = True
    unready: list[str] = []

    def look() -> None:
        unready.append(desk.health.readiness())
        assert desk.health.liveness() == ""
        if len(unready) == 100:
            assert desk.metrics.value("telemetry_sink_up") == 0
            desk.sink.down = False

    desk.clock.on_sleep = look
    stored = desk.persist.store(processed(*range(size)))
    assert (stored.inserted, stored.dead) == (size, [])
    assert "sink: told to be away" in unready
    assert desk.health.readiness() == ""
    assert desk.metrics.value("telemetry_sink_up") == 1
    assert max(desk.clock.sleeps) <= 5.0
    assert desk.letters.lines == []


@given(st.integers(0, 30), st.integers(1, 4))
def test_an_outage_of_any_length_kills_nobody(length: int, size: int) -> None:
    """Wherever an outage ends, just before the probe too, every row is stored in the end."""
    desk = Desk()
    desk.sink.outages = [True] * length
    stored = desk.persist.store(processed(*range(size)))
    assert (len(desk.sink.rows), stored.dead) == (size, [])


def test_the_sink_may_go_down_while_a_batch_is_split() -> None:
    """An outage between the halves starts the batch again; guilty rows are dead once, the others stored."""
    for moment in range(1, 8):
        desk = Desk()
        desk.sink.refuses = one_of(2)
        desk.sink.outages = [*[False] * moment, *[True] * 9]
        stored = desk.persist.store(processed(*range(6)))
        assert [one.entry.entry_id for one in stored.dead] == [entry(2).entry_id]
        assert [one.rejection.reason for one in stored.dead] == ["refused_by_sink"]
        assert len(stored.entries) == 5


def test_conflicts_are_dead_and_their_mates_stored() -> None:
    """An id that is stored with another content ends as `conflict`."""
    desk = Desk()
    desk.sink.write([row(2, value=1.0)])
    stored = desk.persist.store(processed(1, 2, 3))
    assert [(one.entry.entry_id, one.rejection.reason) for one in stored.dead] == [
        (entry(2).entry_id, "conflict")
    ]
    assert [one.entry_id for one in stored.entries] == [entry(1).entry_id, entry(3).entry_id]


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4, 6])
def test_asked_to_stop_a_waiting_write_ends(stop_after: int) -> None:
    """A process that is asked to stop waits no longer for the sink."""
    desk = Desk(stop_after=stop_after)
    desk.sink.down = True
    with pytest.raises(Stopping):
        desk.persist.store(processed(1))
    assert len(desk.clock.sleeps) == stop_after


@pytest.mark.parametrize("part", ["sink", "dead_letters"])
def test_the_source_hears_that_its_entries_are_still_worked_on(part: str) -> None:
    """However long a write waits, never more than some seconds pass without a word."""
    desk = Desk()
    heard: list[float] = []
    desk.persist.still_working = lambda: heard.append(desk.clock.elapsed)
    desk.letters.failures = [True] * 50
    desk.sink.outages = [True] * 50
    if part == "sink":
        desk.persist.store(processed(1))
    else:
        desk.persist.bury([dead(1)])
    assert desk.clock.elapsed > 60
    told = [0.0, *heard, desk.clock.elapsed]
    assert max(later - earlier for earlier, later in itertools.pairwise(told)) <= 5.0


def test_a_long_back_off_is_waited_for_in_slices() -> None:
    """With RETRY_BACKOFF_S 60 the third retry comes after 60, 120 and 180 s, and nobody takes us for dead."""
    desk = Desk()
    desk.persist.retry_backoff_s = 60.0
    heard: list[float] = []
    desk.persist.still_working = lambda: heard.append(desk.clock.elapsed)
    alive: set[str] = set()
    desk.clock.on_sleep = lambda: alive.add(desk.health.liveness())
    desk.sink.outages = [True] * 3
    desk.persist.store(processed(1))
    assert alive == {""}
    assert desk.clock.elapsed == 360.0
    assert heard == [5.0 * number for number in range(72)]


def test_the_source_hears_of_each_part_of_a_split_batch() -> None:
    """Where each failing write takes its time, many of them take long."""
    desk = Desk()
    heard: list[float] = []
    desk.persist.still_working = lambda: heard.append(desk.clock.elapsed)

    def refuse(one: Event) -> bool:
        desk.clock.elapsed += 20.0
        return one.event_id == id_of(1)

    desk.sink.refuses = refuse
    desk.persist.store(processed(*range(1, 33)))
    writes = len(desk.sink.sizes)
    assert writes == 11
    assert len(heard) == writes - 1


def test_dead_letters_are_waited_for_too() -> None:
    """While they can't be written the process is unready; every failure is counted, none is given up."""
    desk = Desk()
    desk.letters.failures = [True] * 20
    unready: list[str] = []
    desk.clock.on_sleep = lambda: unready.append(desk.health.readiness())
    desk.metrics.set("telemetry_sink_up", 1)
    desk.persist.bury([dead(1)])
    assert desk.metrics.value("telemetry_sink_up") == 1
    assert len(desk.letters.lines) == 1
    assert desk.metrics.value("telemetry_dlq_write_errors_total") == 20
    assert set(unready) == {"dead_letters: told to be away"}
    assert desk.health.readiness() == ""
    assert desk.clock.sleeps[:3] == [0.5, 1.0, 1.5]
    assert max(desk.clock.sleeps) <= 5.0


def test_asked_to_stop_waiting_dead_letters_end() -> None:
    """A process that is asked to stop raises, so that nothing of the batch is acknowledged."""
    desk = Desk(stop_after=2)
    desk.letters.failures = [True] * 20
    with pytest.raises(Stopping):
        desk.persist.bury([dead(1)])
    assert desk.letters.lines == []


def test_nothing_to_bury_is_no_write() -> None:
    """A batch without dead letters doesn't touch their place."""
    desk = Desk()
    desk.letters.failures = [True]
    desk.persist.bury([])
    assert desk.letters.failures == [True]


def _dead_of(desk: Desk, size: int) -> set[bytes]:
    stored = desk.persist.store(processed(*range(size)))
    assert {one.entry_id for one in stored.entries} == {
        entry(number).entry_id for number in range(size) if id_of(number) in desk.sink.rows
    }
    return {one.entry.entry_id for one in stored.dead}


@pytest.mark.parametrize("moment", range(1, 7))
def test_one_failure_while_a_refused_row_is_looked_for_kills_no_other(moment: int) -> None:
    """A sink that fails once, between two writes that it answers, begins the batch again."""
    desk = Desk()
    desk.sink.refuses = one_of(1)
    desk.sink.outages = [*[False] * moment, True]
    assert _dead_of(desk, 4) == {entry(1).entry_id}


@pytest.mark.parametrize("length", range(2, 12))
@pytest.mark.parametrize("moment", range(2, 10))
def test_an_outage_while_a_stuck_row_is_looked_for_kills_no_other(moment: int, length: int) -> None:
    """The row at which writes are stuck is dead; those that only met the outage are stored."""
    desk = Desk(max_retries=0)
    desk.sink.is_stuck = one_of(1)
    desk.sink.outages = [*[False] * moment, *[True] * length]
    assert _dead_of(desk, 4) == {entry(1).entry_id}
