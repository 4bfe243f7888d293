"""Entries of many events on their way in: in batches, acknowledged whole, tried alone where they kill."""

import functools
import logging
from collections.abc import Callable, Collection, Sequence

import pytest
from fakes import FakeClock, FakeDeadLetters, FakeSink, FakeSource, FakeStream
from hypothesis import example, given
from hypothesis import strategies as st
from law import pack
from samples import KPIS, event_fields, id_of

from services.consumer.batch import Rules, run_batch
from services.consumer.breaker import Breaker
from services.consumer.packed.suspects import CannotTell, Settled, find_settled
from services.consumer.packed.unpacking import UnpackingSource
from services.consumer.persist import Persist
from services.contract.consuming.doors import Entry
from services.contract.consuming.large import size_of
from services.contract.errors import DeadLettersUnavailable, SourceUnavailable
from services.runtime.health import Health
from services.runtime.telemetry.metrics import Metrics

MOST_BYTES = 1 << 20
LOGGER = logging.getLogger("test.unpacking")


class Killed(BaseException):
    """The process ends here."""


def untold(_entry_id: bytes, _events: Sequence[Entry]) -> Settled:
    """Tell nothing: no entry of the test is delivered so often."""
    raise AssertionError


def opened(
    stream: FakeStream,
    batch_size: int = 10,
    max_deliveries: int = 5,
    settled: Callable[[bytes, Sequence[Entry]], Settled] = untold,
) -> tuple[UnpackingSource, FakeSource]:
    """Open a consumer's source, and the one that it is over."""
    inner = FakeSource(stream, batch_size)
    apart = UnpackingSource(
        inner,
        settled,
        LOGGER,
        batch_size=batch_size,
        max_entry_bytes=MOST_BYTES,
        max_deliveries=max_deliveries,
    )
    return apart, inner


def filled(*sizes: int) -> FakeStream:
    """Publish events numbered from 1, so many in each entry."""
    stream = FakeStream()
    numbers = range(1, sum(sizes) + 1)
    pack(stream.publish, [(b"%d" % number, event_fields(number)) for number in numbers], sizes)
    return stream


def ids(entries: Sequence[Entry]) -> list[str]:
    """Name the events of entries by their places."""
    return [entry.entry_id.decode().removeprefix("1700000000000-") for entry in entries]


def test_events_come_in_order_and_a_batch_at_a_time() -> None:
    """Whatever entries they are in, each comes as an entry of one event, named by entry and line."""
    source, _ = opened(filled(1, 3, 1, 5), batch_size=4)
    read = [source.read() for _ in range(4)]
    assert [ids(batch) for batch in read] == [
        ["1", "2/1", "2/2", "2/3"], ["3", "4/1", "4/2", "4/3"], ["4/4", "4/5"], [],
    ]  # fmt: skip
    events = [entry for batch in read for entry in batch]
    assert [entry.fields for entry in events] == [event_fields(number) for number in range(1, 11)]
    assert {entry.deliveries for entry in events} == {1}


def test_an_entry_is_acknowledged_with_the_last_of_its_events() -> None:
    """Not before, in whatever order they are settled; those of one event are not kept waiting."""
    stream = filled(1, 6)
    source, inner = opened(stream, batch_size=4)
    first = source.read()
    source.ack(first)
    assert stream.acked == [b"1700000000000-1"]
    second = source.read()
    assert ids(second) == ["2/4", "2/5", "2/6"]
    source.ack(second[1:])
    assert stream.pending == {b"1700000000000-2": 1}
    source.ack(second[:1])
    assert stream.is_drained
    assert inner.most == 1, "an entry has six events, and a batch has four"


def test_what_its_batch_has_given_up_is_acknowledged_by_no_later_one() -> None:
    """Events that were never settled leave their entry pending, though all others of it are."""
    stream = filled(4)
    source, _ = opened(stream, batch_size=2)
    source.read()
    source.ack(source.read())
    assert source.read() == []
    assert stream.pending == {b"1700000000000-1": 1}


def test_a_failed_acknowledgement_ends_no_entry_that_waits() -> None:
    """What is left of an entry is given all the same, and all of it is acknowledged at the end."""
    stream = filled(1, 5)
    source, inner = opened(stream, batch_size=3)
    inner.failures = ["ack"]
    with pytest.raises(SourceUnavailable):
        source.ack(source.read())
    while events := source.read():
        source.ack(events)
    assert stream.is_drained


def test_as_many_entries_are_asked_for_as_have_a_batch_of_events() -> None:
    """And with entries of one event, a whole batch again."""
    stream = filled(*[10] * 20, *[1] * 200)
    source, inner = opened(stream, batch_size=20)
    asked = []
    while events := source.read():
        asked.append(inner.most)
        source.ack(events)
    assert asked[0] == 2
    assert asked[-1] == 20


def test_what_waits_is_given_at_the_end_too() -> None:
    """Asked to stop, a consumer settles what it has, batch by batch."""
    source, _ = opened(filled(5), batch_size=2)
    assert [ids(source.read()), ids(source.drain()), ids(source.drain())] == [
        ["1/1", "1/2"], ["1/3", "1/4"], ["1/5"],
    ]  # fmt: skip
    assert source.drain() == []


def test_an_event_of_an_entry_that_is_just_not_too_large_is_kept_whole() -> None:
    """By itself it has more bytes, with its names; cut, the rest of it would be nowhere."""
    stream = FakeStream()
    lacking = MOST_BYTES - size_of(packed_of(event_fields(1, zone="")))
    fields = event_fields(1, zone="z" * lacking)
    stream.publish(packed_of(fields))
    assert size_of(stream.entries[0][1]) == MOST_BYTES < size_of(fields)
    letters = FakeDeadLetters()
    consume(stream, FakeSink(), letters, (), 5, 10)
    (letter,) = letters.read()
    assert (letter.entry_id, letter.reason) == ("1700000000000-1/1", "zone_invalid")
    assert letter.fields == fields


def packed_of(fields: Sequence[bytes]) -> list[bytes]:
    """Write one event as an entry of many."""
    return [b"events", b"1", b"lines", b"\t".join(fields[1::2]) + b"\n"]


def consume(
    stream: FakeStream,
    sink: FakeSink,
    letters: FakeDeadLetters,
    deadly: Collection[str],
    most: int,
    size: int,
) -> None:
    """Run consumers, one after the other as each of them dies, until all is settled."""

    def judge(row: object) -> bool:
        if getattr(row, "event_id", "") in deadly:
            raise Killed
        return False

    sink.refuses = judge
    for _ in range((most + len(deadly) + 3) * len(stream.entries)):
        if stream.is_drained:
            return
        source, _ = opened(
            stream,
            size,
            most,
            functools.partial(
                find_settled, lambda ids: [one for one in ids if one not in sink.rows], letters
            ),
        )
        clock = FakeClock()
        persist = Persist(
            sink, letters, 3, 0.5, clock, Health(60.0, clock.monotonic), Metrics("consumer"), LOGGER
        )
        rules = Rules(KPIS, 300.0, most)
        try:
            while events := source.read():
                run_batch(events, source, rules, persist, Breaker(0.0), clock.now)
        except Killed:
            continue
    raise AssertionError("entries are delivered without end")


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    deadly=st.sets(st.integers(1, 20), max_size=4),
    invalid=st.sets(st.integers(1, 20), max_size=4),
    most=st.integers(3, 5),  # with fewer, entries of one event die beside a deadly one
    batch_size=st.integers(1, 12),
)
@example(sizes=[8], deadly={3, 4}, invalid={1, 2, 8}, most=1, batch_size=4)
@example(sizes=[2, 2], deadly={3, 4}, invalid=set(), most=3, batch_size=1)
@example(sizes=[5], deadly={2, 5}, invalid={1}, most=2, batch_size=20)
def test_only_what_kills_its_consumers_is_given_up(
    sizes: list[int], deadly: set[int], invalid: set[int], most: int, batch_size: int
) -> None:
    """However many of an entry's events do, and whatever is wrong with others: the rest is stored."""
    stream = FakeStream()
    events = range(1, sum(sizes) + 1)
    bad = {number: event_fields(number, value="-1") for number in invalid - deadly}
    pack(stream.publish, [(b"%d" % one, bad.get(one, event_fields(one))) for one in events], sizes)
    sink, letters = FakeSink(), FakeDeadLetters()
    consume(stream, sink, letters, {id_of(number) for number in deadly}, most, batch_size)
    found = {(letter.text("event_id"), letter.reason) for letter in letters.read()}
    guilty = {(id_of(number), "deliveries_exhausted") for number in deadly if number in events}
    assert {one for one in found if one[1] == "deliveries_exhausted"} == guilty
    assert found - guilty == {(id_of(number), "value_negative") for number in bad if number in events}
    assert set(sink.rows) == {id_of(number) for number in events if number not in deadly | invalid}
    assert len(sink.inserts) == len(set(sink.inserts))


def test_a_deadly_event_whose_id_is_stored_ends_with_its_entry() -> None:
    """Nobody can find it by what is missing: it is given up whole, with all of its content."""
    stream = filled(3)
    sink, letters = FakeSink(), FakeDeadLetters()
    consume(stream, sink, letters, (), 2, 10)
    again = FakeStream()
    again.publish(stream.entries[0][1])
    consume(again, sink, letters, {id_of(2)}, 2, 10)
    (letter,) = letters.read()
    assert (letter.entry_id, letter.reason) == ("1700000000000-1", "deliveries_exhausted")
    assert letter.fields == stream.entries[0][1]
    assert len(sink.rows) == 3


@pytest.mark.parametrize("passes", [True, False])
def test_while_nobody_can_tell_what_is_settled_each_is_tried_again(*, passes: bool) -> None:
    """A few times: what can never be read would have its consumers die of it for ever."""
    stream = filled(3)
    entry_id = b"1700000000000-1"
    stream.given = 1

    def cannot(_entry_id: bytes, events: Sequence[Entry]) -> Settled:
        if passes:
            return Settled(events[1], frozenset([events[0].entry_id]))
        raise CannotTell("told to fail")

    for before in (5, 8):
        stream.pending = {entry_id: before}
        source, _ = opened(stream, max_deliveries=5, settled=cannot)
        given_: list[tuple[str, int]] = []
        while events := source.read():
            (name,) = ids(events)
            given_.append((name, events[0].deliveries))
            source.ack(events)
        assert stream.is_drained
        if passes:
            assert given_ == [("1/2", before + 1), ("1/3", 5)]
        else:
            assert given_ == ([("1/1", 5), ("1/2", 5), ("1/3", 5)] if before == 5 else [("1", 9)])


def test_letters_that_cannot_be_read_are_said_so() -> None:
    """Whatever keeps them from being read, it is no judgement of an event."""

    class Away(FakeDeadLetters):
        def events_of(self, entry_id: str) -> set[str]:
            raise DeadLettersUnavailable(f"told to be away, asked for {entry_id}")

    events = [Entry(b"1-1/1", event_fields(1))]
    with pytest.raises(CannotTell, match="asked for 1-1"):
        find_settled(lambda _: [], Away(), b"1-1", events)


def test_a_line_without_an_id_of_its_own_is_never_stored() -> None:
    """It is looked for among the letters alone; a store would refuse to look for it."""
    events = [Entry(b"1-1/1", [b"event_id", b"\xff"]), Entry(b"1-1/2", event_fields(2))]

    def missing_of(asked: Sequence[str]) -> list[str]:
        assert list(asked) == [id_of(2)]
        return []

    assert find_settled(missing_of, FakeDeadLetters(), b"1-1", events).suspect == events[0]


@pytest.mark.parametrize(("events", "later"), [(1, 4000), (100, 40), (1000, 4)])
def test_a_start_takes_no_more_than_a_batch_of_large_entries(events: int, later: int) -> None:
    """Nobody knows yet how many events an entry has: another replica may have what we need not hold."""
    source, inner = opened(filled(*[events] * 200), batch_size=4000)
    assert inner.most == 100
    source.read()
    assert inner.stream.given == 100
    assert inner.most == later
