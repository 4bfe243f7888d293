"""What waits for the stream: published together, and told what became of it, once."""

import logging
import threading
from collections.abc import Sequence
from functools import partial

import pytest
from fakes import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from services.contract.errors import BrokerRefuses, Stopping
from services.contract.producing.outgoing import Batch, Outgoing, Position
from services.contract.producing.publishing import Run, Sent
from services.producer.loop import Loop
from services.producer.pace import Pacer
from services.producer.rows.pick import Picked
from services.producer.taking.desk import MOST_TOGETHER, AsItCame, Bundle, Desk, Offering, Outcome
from services.producer.taking.making import ARRIVAL
from services.runtime.clock import SystemClock
from services.runtime.health import Health

RUN = "7abc-8def-012"


class Stream:
    """A publisher that does with a batch what it is told: `take` it, say `full`, or stop before or after."""

    def __init__(self, turns: Sequence[str] = ()) -> None:
        self.run = Run(RUN, "w", "http")
        self.position: Position | None = None
        self.turns = list(turns)
        self.batches: list[list[str]] = []
        self.numbers: list[int] = []

    def use(self, run: Run) -> None:
        self.run = run

    def end(self) -> None:
        """Say nothing."""

    def publish(self, batch: Batch) -> Sent:
        raise AssertionError(f"a door waits for no room: {batch}")

    def offer(self, batch: Batch) -> Sent | None:
        turn = self.turns.pop(0) if self.turns else "take"
        if turn == "full":
            return None
        if turn in {"take", "stop_after"}:
            self.batches.append([str(one.fields[1]) for one in batch.events])
            self.numbers += [one.sequence for one in batch.events if one.sequence is not None]
        if turn.startswith("stop"):
            raise Stopping("asked to stop")
        if turn == "refuse":
            raise BrokerRefuses("never")
        return Sent(len(batch.events), 0, 0)


class Patient(Stream):
    """A publisher that waits for room."""

    def publish(self, batch: Batch) -> Sent:
        self.turns = []
        sent = super().offer(batch)
        assert sent is not None
        return sent

    def offer(self, batch: Batch) -> Sent | None:
        raise AssertionError(f"nobody is there who could be told: {batch}")


class Request:
    """A bundle, and what it hears."""

    def __init__(self, *devices: str, ts: str = ARRIVAL) -> None:
        own = None if ts == ARRIVAL else "018e25a8-c000-84fe-ad4a-d504b1400664"
        self.events = [Picked([one, "z", ts, "temperature", "1"], own, []) for one in devices]
        self.heard: list[Outcome] = []
        self.bundle = Bundle(self.events, self.heard.append)


def loop_of(desk: Desk, stream: Stream, clock: FakeClock) -> Loop:
    return Loop(
        desk,
        Offering(stream, desk),
        lambda: stream.run,
        Pacer(MOST_TOGETHER, 0.0, clock.monotonic),
        clock,
        Health(60, clock.monotonic),
        logging.getLogger("silent"),
    )


def open_desk() -> tuple[Desk, FakeClock]:
    clock = FakeClock()
    return Desk(0.0, clock.monotonic), clock


def test_bundles_that_wait_are_published_together() -> None:
    """In one step, each hears of it, and what has no time of its own has that of its arrival."""
    desk, clock = open_desk()
    stream, requests = Stream(), [Request("a", "b"), Request("c", ts="1.5"), Request("d")]
    for one in requests:
        assert desk.hand_in(one.bundle)
        assert one.heard == []
    batch = desk.next_batch(MOST_TOGETHER, 1_700_000_000.25, loop_of(desk, stream, clock)._numbering)
    assert batch is not None
    assert [one.fields[3] for one in batch.events] == ["1700000000.250"] * 2 + ["1.5"] + ["1700000000.250"]
    assert [one.sequence for one in batch.events] == [1, 2, None, 3]
    Offering(stream, desk).publish(batch)
    assert [one.heard for one in requests] == [["taken"]] * 3
    assert stream.batches == [["a", "b", "c", "d"]]


def test_enough_events_wait_for_no_others() -> None:
    """A few do, so that many senders of one event each share a step; a hundred are worth one."""
    desk = Desk(3600.0, SystemClock().monotonic)
    few, more = Request(*["a"] * 60), Request(*["b"] * 60)
    stream = Stream()
    loop = loop_of(desk, stream, FakeClock())
    desk.hand_in(few.bundle)
    publishing = threading.Thread(target=loop.publish_next, daemon=True)
    publishing.start()
    desk.hand_in(more.bundle)
    publishing.join(60)
    assert [one.heard for one in (few, more)] == [["taken"]] * 2
    assert [len(one) for one in stream.batches] == [120]


def test_events_that_are_ready_are_published_as_they_are() -> None:
    """Beside others, in the order in which they came; they have an id, and need no number."""
    desk, clock = open_desk()
    ready = Outgoing(("id", "b", "z", "1", "temperature", "1"), None, b"bytes of the id.")
    desk.hand_in(Request("a").bundle)
    desk.hand_in(Bundle([ready], lambda _: None))
    desk.hand_in(Request("c").bundle)
    batch = desk.next_batch(MOST_TOGETHER, 0.0, loop_of(desk, Stream(), clock)._numbering)
    assert batch is not None
    assert [one.sequence for one in batch.events] == [1, None, 2]
    assert batch.events[1] == ready


def test_a_bundle_is_never_parted() -> None:
    """It is a batch of its own, however large; and no batch is larger than it has to be."""
    desk, clock = open_desk()
    stream = Stream()
    large = Request(*map(str, range(MOST_TOGETHER + 500)))
    requests = [Request(*["x"] * 600), Request(*["y"] * 600), large, Request("z")]
    for one in requests:
        desk.hand_in(one.bundle)
    loop = loop_of(desk, stream, clock)
    while any(not one.heard for one in requests):
        loop.publish_next()
    assert [len(one) for one in stream.batches] == [600, 600, MOST_TOGETHER + 500, 1]


def test_what_makes_no_event_is_published_as_it_came() -> None:
    """With a number of the run, by which an audit finds its dead letter."""
    desk, clock = open_desk()
    stream = Stream()
    desk.hand_in(Bundle([AsItCame(["payload", b"\xff"])], lambda _: None))
    loop = loop_of(desk, stream, clock)
    batch = desk.next_batch(MOST_TOGETHER, 1_700_000_000.0, loop._numbering)
    assert batch is not None
    (one,) = batch.events
    assert list(one.fields[::2]) == ["event_id", "payload"]
    assert (one.fields[3], one.sequence, one.is_plain) == (b"\xff", 1, False)


def test_who_can_wait_waits_for_room() -> None:
    """A broker of messages keeps the rest meanwhile; nothing is given back."""
    desk, clock = open_desk()
    request = Request("a")
    desk.hand_in(request.bundle)
    stream = Patient()
    loop = loop_of(desk, stream, clock)
    loop.publisher = Offering(stream, desk, waits=True)
    loop.publish_next()
    assert (request.heard, stream.batches) == (["taken"], [["a"]])


def test_what_a_full_stream_did_not_take_is_given_back_with_its_numbers() -> None:
    """The next events have them: the audit would miss them otherwise."""
    desk, clock = open_desk()
    stream, requests = Stream(["take", "full", "take"]), [Request("a"), Request("b", "c"), Request("d")]
    loop = loop_of(desk, stream, clock)
    for one in requests:
        desk.hand_in(one.bundle)
        loop.publish_next()
    assert [one.heard for one in requests] == [["taken"], ["full"], ["taken"]]
    assert stream.numbers == [1, 2]
    assert loop.totals.published == 2


def test_nobody_publishes_for_who_has_gone() -> None:
    """A bundle that is withdrawn before its turn has no outcome, and no number."""
    desk, clock = open_desk()
    stream, gone, stays = Stream(), Request("a"), Request("b")
    for one in (gone, stays):
        desk.hand_in(one.bundle)
    gone.bundle.is_withdrawn = True
    loop_of(desk, stream, clock).publish_next()
    assert (gone.heard, stays.heard, stream.batches) == ([], ["taken"], [["b"]])


@pytest.mark.parametrize("turn", ["stop_before", "stop_after", "refuse"])
def test_behind_a_batch_of_which_nobody_knows_nothing_is_published(turn: str) -> None:
    """Another batch under its number would be taken for it: all that waits is given back."""
    desk, clock = open_desk()
    stream, requests = Stream([turn]), [Request(*["a"] * MOST_TOGETHER), Request("b")]
    for one in requests:
        desk.hand_in(one.bundle)
    with pytest.raises((Stopping, BrokerRefuses)):
        loop_of(desk, stream, clock).publish_next()
    assert [one.heard for one in requests] == [["away"]] * 2
    assert not desk.hand_in(Request("c").bundle)
    assert len(stream.batches) == (turn == "stop_after")


TURNS = st.lists(st.sampled_from(["take", "full", "stop_before", "stop_after"]), max_size=12)


@given(TURNS, st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=12))
def test_success_means_that_it_is_there_and_numbers_have_no_gap(
    turns: list[str], sent: list[tuple[int, bool]]
) -> None:
    """The law of the door, whatever the stream does.

    `sent`: of each request, how many events it has, and whether the loop turns then.
    """
    desk, clock = open_desk()
    stream = Stream(turns)
    loop = loop_of(desk, stream, clock)
    requests: list[Request] = []
    for number, (size, turns_now) in enumerate(sent):
        one = Request(*[str(number)] * size)
        if desk.hand_in(one.bundle):
            requests.append(one)
        if turns_now and requests and not requests[-1].heard:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("services.producer.taking.desk._TURN_S", 0.0)
                try:
                    loop.publish_next()
                except Stopping:
                    break
    desk.close()
    there = [device for batch in stream.batches for device in batch]
    for one in requests:
        assert len(one.heard) == 1
        count = there.count(one.events[0].values[0])
        assert count in {"taken": {len(one.events)}, "full": {0}, "away": {0, len(one.events)}}[one.heard[0]]
    assert stream.numbers == list(range(1, len(there) + 1))


def test_who_hands_in_from_many_threads_hears_once() -> None:
    """While one thread publishes; and events that come within the time of LINGER_MS share a batch."""
    clock = SystemClock()
    desk, stream = Desk(0.05, clock.monotonic), Stream()
    heard: list[Outcome] = []
    events = [Picked(["d", "z", ARRIVAL, "temperature", "1"], None, [])]
    senders = [
        threading.Thread(target=partial(desk.hand_in, Bundle(events, heard.append))) for _ in range(40)
    ]
    loop = Loop(
        desk,
        Offering(stream, desk),
        lambda: stream.run,
        Pacer(MOST_TOGETHER, 0.0, clock.monotonic),
        clock,
        Health(60, clock.monotonic),
        logging.getLogger("silent"),
    )
    for one in senders:
        one.start()
    while len(heard) < 40:
        loop.publish_next()
    assert heard == ["taken"] * 40
    assert stream.numbers == list(range(1, 41))
    assert len(stream.batches) < 20
