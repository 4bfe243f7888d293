"""One suite over every source: what the consumer relies on, whatever is behind it."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Protocol

import pytest
from fakes import FakeSource, FakeStream
from law import pack
from partitioned import FakeTopic, PartitionedSource
from samples import event_fields, flat
from servers import KINDS, Server, Servers, shared_server

from services.brokers.redis.consuming.reading.source import RedisSource
from services.brokers.redis.keys import StreamKeys
from services.consumer.packed.suspects import Settled
from services.consumer.packed.unpacking import UnpackingSource
from services.contract.consuming.doors import Entry, Source
from services.contract.consuming.large import beginning
from services.contract.errors import SourceUnavailable
from services.runtime.telemetry.metrics import Metrics

KEYS = StreamKeys()


class Rig(Protocol):
    """A stream, its consumers, and a look at both that doesn't go through them."""

    knows_entries: bool
    """Whether the broker knows of each entry who has it, and how often it came, and takes the acknowledgement
    of one in the middle. What a source does where it knows a position alone: test_partitioned_sources.py."""

    def publish(self, fields: list[bytes]) -> bytes: ...
    def open(self, batch_size: int) -> Source: ...

    def pending(self) -> set[bytes]:
        """Name what was delivered and is not acknowledged; of a position, all that lies behind it."""
        ...

    def break_next_ack(self, source: Source) -> None: ...


class FakeRig:
    knows_entries = True

    def __init__(self) -> None:
        self._stream = FakeStream()

    def publish(self, fields: list[bytes]) -> bytes:
        return self._stream.publish(fields)

    def open(self, batch_size: int) -> Source:
        return FakeSource(self._stream, batch_size)

    def pending(self) -> set[bytes]:
        return set(self._stream.pending)

    def break_next_ack(self, source: Source) -> None:
        assert isinstance(source, FakeSource)
        source.failures.append("ack")


class PartitionedRig:
    """One partition of a topic that has more: in order is only what has the same key."""

    knows_entries = False

    def __init__(self) -> None:
        self._topic = FakeTopic(3)

    def publish(self, fields: list[bytes]) -> bytes:
        return self._topic.publish(fields, 1)

    def open(self, batch_size: int) -> Source:
        logger = logging.getLogger("test")
        return PartitionedSource(self._topic.join(), Metrics("consumer"), logger, batch_size)

    def pending(self) -> set[bytes]:
        return self._topic.unsettled()

    def break_next_ack(self, source: Source) -> None:
        assert isinstance(source, PartitionedSource)
        source.member.failures.append("commit")


class RedisRig:
    knows_entries = True

    def __init__(self, server: Server) -> None:
        self._server = server
        self._client = server.client()

    def publish(self, fields: list[bytes]) -> bytes:
        entry_id: bytes = self._client.execute_command("XADD", KEYS.stream, "*", *fields)
        return entry_id

    def open(self, batch_size: int) -> Source:
        return RedisSource(
            self._server.client(),
            KEYS,
            "consumer-1",
            batch_size=batch_size,
            block_ms=20,
            claim_idle_ms=60_000,
            claim_interval_s=60.0,
            monotonic=time.monotonic,
            metrics=Metrics("consumer"),
            logger=logging.getLogger("test"),
        )

    def pending(self) -> set[bytes]:
        found: Any = self._client.xpending_range(KEYS.stream, KEYS.group, "-", "+", 1000)
        return {one["message_id"] for one in found}

    def break_next_ack(self, source: Source) -> None:
        assert isinstance(source, RedisSource)
        self._client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def close(self) -> None:
        self._client.close()


FAKES: dict[str, Callable[[], Rig]] = {"fake": FakeRig, "partitioned": PartitionedRig}
SERVERS = [kind.name for kind in KINDS]


@contextmanager
def _open(kind: str, servers: Servers) -> Iterator[Rig]:
    if kind in FAKES:
        yield FAKES[kind]()
        return
    with closing(RedisRig(shared_server(servers, kind))) as one:
        yield one


@pytest.fixture(params=[*FAKES, *SERVERS])
def rig(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Rig]:
    """Give each source's stream in turn, empty."""
    with _open(request.param, servers) as one:
        yield one


@pytest.fixture(params=["fake", *SERVERS])
def entrywise(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Rig]:
    """Give each stream in turn whose broker knows entries."""
    with _open(request.param, servers) as one:
        assert one.knows_entries
        yield one


def take(source: Source, reads: int = 20) -> list[Entry]:
    """Read, without acknowledging, until nothing comes."""
    taken: list[Entry] = []
    for _ in range(reads):
        page = source.read()
        if not page:
            break
        taken += page
    return taken


def settle(source: Source, on_batch: Callable[[Sequence[Entry]], object] = lambda _: None) -> list[Entry]:
    """Read and acknowledge until nothing comes."""
    settled: list[Entry] = []
    while page := source.read():
        on_batch(page)
        source.ack(page)
        settled += page
    return settled


def unpacking(source: Source) -> Source:
    """Take entries of many events apart. None of them is delivered so often that it is suspected."""

    def untold(_entry_id: bytes, _events: Sequence[Entry]) -> Settled:
        raise AssertionError

    return UnpackingSource(
        source, untold, logging.getLogger("test"), batch_size=10, max_entry_bytes=1 << 20, max_deliveries=5
    )


def ack_and_read(source: Source, entries: Sequence[Entry]) -> None:
    """Acknowledge, and read: a failure shows at the one or at the other."""
    source.ack(entries)
    source.read()


def test_entries_come_in_the_order_of_their_publication(rig: Rig) -> None:
    """What was published before the first consumer came is given whole, in order, at most a batch a read."""
    published = [(rig.publish(event_fields(number)), event_fields(number)) for number in range(25)]
    sizes: list[int] = []
    with closing(rig.open(batch_size=10)) as source:
        settled = settle(source, lambda page: sizes.append(len(page)))
    assert [(entry.entry_id, entry.fields) for entry in settled] == published
    assert sizes == [10, 10, 5]
    assert {entry.deliveries for entry in settled} == {1}


def test_an_empty_stream_gives_an_empty_read(rig: Rig) -> None:
    """A read gives nothing after its waiting time, and what is published later still comes."""
    with closing(rig.open(batch_size=10)) as source:
        assert source.read() == []
        entry_id = rig.publish(event_fields(1))
        assert [entry.entry_id for entry in source.read()] == [entry_id]


def test_what_was_not_acknowledged_comes_again_after_a_restart(rig: Rig) -> None:
    """A restarted consumer gets what is not settled before what is new, and nothing else."""
    ids = [rig.publish(event_fields(number)) for number in range(3)]
    with closing(rig.open(batch_size=10)) as source:
        source.ack(source.read()[:1])
        source.drain()
    ids.append(rig.publish(event_fields(4)))
    with closing(rig.open(batch_size=10)) as source:
        assert [entry.entry_id for entry in settle(source)] == ids[1:]


def test_an_entry_in_the_middle_is_acknowledged_alone(entrywise: Rig) -> None:
    """A restarted consumer gets the others, with the delivery counted."""
    ids = [entrywise.publish(event_fields(number)) for number in range(3)]
    with closing(entrywise.open(batch_size=10)) as source:
        source.ack(source.read()[1:2])
        source.drain()
    late = entrywise.publish(event_fields(4))
    with closing(entrywise.open(batch_size=10)) as source:
        again = source.read()
        assert [(entry.entry_id, entry.deliveries) for entry in again] == [(ids[0], 2), (ids[2], 2)]
        source.ack(again)
        assert [(entry.entry_id, entry.deliveries) for entry in source.read()] == [(late, 1)]


def test_every_delivery_is_counted(entrywise: Rig) -> None:
    """An entry that is never settled tells how often it came, and comes alone after the second time."""
    ids = [entrywise.publish(event_fields(number)) for number in range(3)]
    seen = []
    for _ in range(5):
        with closing(entrywise.open(batch_size=10)) as source:
            page = source.read()
            seen.append(([entry.entry_id for entry in page], page[0].deliveries))
    assert seen == [(ids, 1), (ids, 2), (ids[:1], 3), (ids[:1], 4), (ids[:1], 5)]


def test_an_acknowledged_entry_never_comes_again(rig: Rig) -> None:
    """After a restart only new entries are given."""
    for number in range(5):
        rig.publish(event_fields(number))
    with closing(rig.open(batch_size=2)) as source:
        settle(source)
    assert rig.pending() == set()
    with closing(rig.open(batch_size=2)) as source:
        assert source.read() == []


@pytest.mark.parametrize(
    "fields",
    [
        flat([(b"\xff\xfe", b"\x00\x80"), ("value", "")]),
        flat([("event_id", "1"), ("event_id", "2")]),
        flat([("only", "one")]),
        flat([("big", b"\x00" * 300_000)]),
        flat([(f"name-{number}", "x") for number in range(3000)]),
    ],
    ids=["not UTF-8", "a name twice", "foreign", "large", "many fields"],
)
def test_foreign_entries_come_untouched(rig: Rig, fields: list[bytes]) -> None:
    """Whatever bytes were published are given as they are, at recovery as at first."""
    rig.publish(fields)
    rig.publish(event_fields(2))
    for _ in range(2):
        with closing(rig.open(batch_size=10)) as source:
            assert [entry.fields for entry in source.read()] == [fields, event_fields(2)]


def test_a_full_batch_does_not_hide_the_next(rig: Rig) -> None:
    """What was asked for ahead is given, by the next read or by a drain, and nothing is left unseen."""
    ids = [rig.publish(event_fields(number)) for number in range(6)]
    with closing(rig.open(batch_size=2)) as source:
        first, second = source.read(), source.read()
        drained = source.drain()
        seen = [entry.entry_id for entry in (*first, *second, *drained)]
        assert seen == ids[: len(seen)]
        assert rig.pending() == set(seen if rig.knows_entries else ids)
        assert source.drain() == []


def test_the_events_of_entries_of_many_come_in_batches_and_are_settled_with_their_entry(rig: Rig) -> None:
    """Beside entries of one event; stopped in the middle of an entry, all of it comes again, and no other."""
    numbers = range(1, 38)
    flat_ones = [(b"%d" % number, event_fields(number)) for number in numbers]
    names = pack(rig.publish, flat_ones, [1, 7, 12, 1])
    with closing(unpacking(rig.open(batch_size=10))) as source:
        first = source.read()
        assert [event.entry_id for event in first] == list(names.values())[:10]
        source.ack(first)
        source.drain()
    sizes: list[int] = []
    with closing(unpacking(rig.open(batch_size=10))) as source:
        again = settle(source, lambda page: sizes.append(len(page)))
    assert max(sizes) == 10
    assert [event.entry_id for event in again] == list(names.values())[8:]
    assert [event.fields for event in again] == [event_fields(number) for number in numbers][8:]
    assert rig.pending() == set()


def test_as_many_entries_are_read_as_have_a_batch_of_events(entrywise: Rig) -> None:
    """What one consumer holds back, no other can work on."""
    numbers = [(b"%d" % number, event_fields(number)) for number in range(1, 401)]
    pack(entrywise.publish, numbers, [10])
    with closing(unpacking(entrywise.open(batch_size=10))) as source:
        source.ack(source.read())
        while len(entrywise.pending()) > 1:
            page = source.read()
            assert page, "a batch of entries is read at once, though each has ten events"
            source.ack(page)
        assert len(settle(source)) > 100
    assert entrywise.pending() == set()


def test_entries_that_were_read_and_left_come_again_after_a_failure(rig: Rig) -> None:
    """After an error of the stream, everything unsettled is given again before anything new."""
    ids = [rig.publish(event_fields(number)) for number in range(4)]
    with closing(rig.open(batch_size=2)) as source:
        first = source.read()
        rig.break_next_ack(source)
        with pytest.raises(SourceUnavailable):
            ack_and_read(source, first[:1])
        rest = settle(source)
    assert [entry.entry_id for entry in rest] == ids[1:]
    assert rig.pending() == set()


def test_a_failed_acknowledgement_is_made_good_before_the_next_read(rig: Rig) -> None:
    """What is durable is acknowledged later and never given again."""
    for number in range(3):
        rig.publish(event_fields(number))
    with closing(rig.open(batch_size=10)) as source:
        page = source.read()
        rig.break_next_ack(source)
        with pytest.raises(SourceUnavailable) as caught:
            ack_and_read(source, page)
        assert caught.value.kind
        assert rig.pending() == {entry.entry_id for entry in page}
        assert source.read() == []
        assert rig.pending() == set()
    with closing(rig.open(batch_size=10)) as source:
        assert take(source) == []


def test_a_large_entry_comes_again_as_its_beginning(rig: Rig) -> None:
    """Whoever read it before, at recovery it is cut, its size is told, and its neighbours are whole."""
    fields = [*event_fields(2), b"blob", b"b" * 2_000_000]
    rig.publish(event_fields(1))
    large = rig.publish(fields)
    rig.publish(event_fields(3))
    with closing(rig.open(batch_size=10)) as source:
        for _ in range(3):
            source.read()
    assert len(rig.pending()) == 3
    with closing(rig.open(batch_size=10)) as source:
        again = settle(source)
    assert [entry.full_size for entry in again] == [0, sum(map(len, fields)), 0]
    assert [entry.fields for entry in again] == [event_fields(1), beginning(fields), event_fields(3)]
    assert again[1].entry_id == large
    assert rig.pending() == set()


def test_a_source_tells_the_time_of_its_broker_or_none(rig: Rig) -> None:
    """In Unix seconds, whatever is in hand meanwhile."""
    rig.publish(event_fields(1))
    with closing(rig.open(10)) as source:
        before = time.time()
        found = source.read()
        assert all(
            told is None or before - 60 <= told <= time.time() + 60 for told in (source.now(), source.now())
        )
        source.ack(found)
        source.now()
        source.read()
    assert rig.pending() == set()
