"""The publisher against real servers: atomic, idempotent, within its limits."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from random import Random
from typing import Any, cast

import pytest
import redis
from fakes import FakeSpans
from integration.producer.parts import KEYS, Bench, entries, lose_an_answer, sequences
from samples import KPIS
from servers import LocalServer, Server

from services.brokers.producing.send_traces import SendTraces
from services.brokers.redis.keys import StreamKeys, chunk_key
from services.brokers.redis.producing.publisher import Limits
from services.brokers.redis.producing.runs import open_run
from services.contract.errors import BrokerRefuses, Stopping
from services.contract.ids import MAX_SEQUENCE, draw_name
from services.contract.producing.outgoing import FIELD_NAMES, Batch, Outgoing, Position, flat
from services.contract.producing.publishing import Replayed
from services.producer.generate import Generator
from services.producer.loop import Loop
from services.producer.pace import Pacer


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """Give a client of an empty server."""
    with closing(server.client()) as one:
        yield one


def test_a_batch_and_its_record_are_written_together(client: redis.Redis) -> None:
    """Every kind of event is in the stream as it was given, and the record counts it."""
    bench = Bench(client)
    first = bench.event()
    odd = Outgoing([*flat(bench.event().fields), "extra", b"\xff"], 2, is_plain=False)
    nameless = Outgoing(["device_id", "d"], None, is_plain=False)
    theirs = Outgoing(
        ("0e8c4f1a-0000-4000-8000-000000000001", "d", "", "1", "k", ""), None, b"0123456789abcdef"
    )
    events = [first, first._replace(is_duplicate=True), odd, nameless, theirs, bench.event()]
    sent = bench.publisher.publish(Batch(events, Position(120, 4)))
    assert (sent.published, sent.duplicates, sent.dropped) == (5, 1, 0)
    expected = [flat(one.fields) if one.is_plain else one.fields for one in events]
    assert [list(sum(one.items(), ())) for one in entries(client)] == [
        [part.encode() if isinstance(part, str) else part for part in fields] for fields in expected
    ]
    record = bench.record
    assert {name: record[name] for name in ("last", "batches", "published", "duplicates", "unnumbered")} == {
        "last": "3", "batches": "1", "published": "3", "duplicates": "1", "unnumbered": "1",
    }  # fmt: skip
    assert (record["offset"], record["line"], record["done"]) == ("120", "4", "0")
    assert client.get(chunk_key(KEYS.run_ids(bench.run.name), 1)) == b"0" * 16 + b"0123456789abcdef"
    assert (record["foreign"], record["chunk"]) == ("1", "1")
    assert client.sismember(KEYS.runs, bench.run.name)


def test_a_lost_answer_doubles_nothing(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch is sent again after the answer was lost, and the script says that it is there."""
    bench = Bench(client)
    bench.publisher.publish(bench.batch(2))
    lost = lose_an_answer(client, monkeypatch, "EVALSHA")
    bench.publisher.publish(bench.batch(3))
    bench.publisher.publish(bench.batch(2))
    assert lost[0][0] == b"applied"
    assert sequences(client, bench.run.name) == list(range(1, 8))
    assert bench.record["published"] == "7"
    assert bench.metrics.value("telemetry_producer_events_total", {"outcome": "published"}) == 7
    assert bench.metrics.value("telemetry_redis_errors_total", {"error": "ConnectionError"}) == 1


def test_a_run_name_is_never_shared(client: redis.Redis) -> None:
    """When a drawn name exists, another one is drawn."""
    bench = Bench(client)
    names = [bench.run.name, draw_name()]
    run = open_run(client, KEYS, bench.side.patience, "test", draw=iter(names).__next__)
    assert run.name == names[1]
    assert len(bench.log.named("run_name_taken")) == 1


def test_a_lost_answer_opens_no_second_run(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own name in the record says that it was opened, whether at first or after a loss."""
    lost = lose_an_answer(client, monkeypatch, "EVAL")
    bench = Bench(client)
    assert client.smembers(KEYS.runs) == {bench.run.name.encode()}
    bench.publisher.publish(bench.batch(2))
    client.flushall()
    lost.clear()
    bench.publisher.publish(bench.batch(2))
    assert (len(lost), sequences(client, bench.run.name)) == (1, [3, 4])


def test_no_run_is_opened_by_half(client: redis.Redis) -> None:
    """A record that the set of runs doesn't name would be no part of any proof."""
    client.set(KEYS.runs, "a text")
    with pytest.raises(BrokerRefuses, match="WRONGTYPE"):
        Bench(client)
    assert list(client.scan_iter()) == [KEYS.runs.encode()]


def test_a_run_has_one_writer(client: redis.Redis) -> None:
    """Who takes a replay over keeps its former process out."""
    bench = Bench(client)
    run = bench.side.open_run("file", "source", "0:")
    old = Bench(client, run=run)
    old.publisher.publish(old.batch(2, Position(20, 2)))
    taken = bench.side.take_over("source", lambda _: None)
    assert taken is not None
    assert (taken.offset, taken.line, taken.run.last, taken.run.batches) == (20, 2, 2, 1)
    with pytest.raises(BrokerRefuses, match="another process"):
        old.publisher.publish(old.batch(1))
    new = Bench(client, run=taken.run)
    new.publisher.publish(Batch([], Position(30, 3)))
    assert new.record["last"] == "2"
    new.publisher.publish(new.batch(1))
    assert sequences(client, run.name) == [1, 2, 3]


def test_a_replay_is_taken_over_as_far_as_it_came(client: redis.Redis) -> None:
    """What its former process publishes until it is kept out counts; a refusal before writes nothing."""
    bench = Bench(client)
    old = Bench(client, run=bench.side.open_run("file", "source", "7:abc"))

    def refuse(found: Replayed) -> None:
        assert (found.run.fingerprint, found.run.source, found.offset) == ("7:abc", "file", 0)
        raise BrokerRefuses("another file")

    with pytest.raises(BrokerRefuses, match="another file"):
        bench.side.take_over("source", refuse)
    assert old.record["writer"] == old.run.writer

    def publish(_: Replayed) -> None:
        old.publisher.publish(old.batch(2, Position(20, 2, is_done=True)))

    taken = bench.side.take_over("source", publish)
    assert taken is not None
    assert (taken.offset, taken.line, taken.is_done) == (20, 2, True)
    assert (taken.run.last, taken.run.batches) == (2, 1)


def test_a_replay_whose_record_is_gone_is_not_taken_over(client: redis.Redis) -> None:
    """Its name alone tells nothing; nor is a file found that nobody has replayed."""
    bench = Bench(client)
    run = bench.side.open_run("file", "source", "7:abc")
    client.delete(KEYS.run(run.name))
    assert bench.side.take_over("source", lambda _: None) is None
    assert bench.side.take_over("another", lambda _: None) is None
    assert not client.exists(KEYS.run(run.name))


@pytest.mark.parametrize("is_done", [False, True])
def test_a_replay_of_an_earlier_version_goes_on_in_a_new_run(client: redis.Redis, is_done: bool) -> None:
    """With its place in the file, under the names of today; where all is read, no run is opened."""
    bench = Bench(client)
    keys = StreamKeys("events:{zone1}")
    assert keys.former is not None
    side, former = replace(bench.side, keys=keys), replace(bench.side, keys=keys.former)
    old = former.open_run("file", "source", "7:abc")
    writes = former.publisher(old)
    writes.publish(bench.batch(2, Position(20, 2, is_done=is_done)))
    taken = side.take_over("source", lambda _: None)
    assert taken is not None
    assert (taken.offset, taken.line, taken.is_done) == (20, 2, is_done)
    with pytest.raises(BrokerRefuses, match="another process"):
        writes.publish(bench.batch(1))
    if is_done:
        assert not client.exists(keys.runs)
        return
    assert taken.run.name != old.name
    found = cast("dict[bytes, bytes]", client.hgetall(keys.run(taken.run.name)))
    names = (b"offset", b"line", b"done", b"fingerprint", b"source", b"last", b"batches")
    assert [found[name] for name in names] == [b"20", b"2", b"0", b"7:abc", b"file", b"0", b"0"]
    again = side.take_over("source", lambda _: None)
    assert again is not None
    assert again.run.name == taken.run.name


def test_a_writer_that_has_counted_fewer_batches_is_kept_out(client: redis.Redis) -> None:
    """Whoever holds the same record from before would write the count back."""
    bench = Bench(client)
    bench.publisher.publish(bench.batch(1))
    bench.publisher.publish(bench.batch(1))
    stale = Bench(client, run=bench.run)
    with pytest.raises(BrokerRefuses, match="another process"):
        stale.publisher.publish(stale.batch(1))
    assert sequences(client, bench.run.name) == [1, 2]


def test_a_record_tells_when_it_was_written_last(client: redis.Redis) -> None:
    """A run that is not among the runs any more is named there again."""
    bench = Bench(client)
    opened_at = bench.record["updated_at"]
    client.delete(KEYS.runs)
    bench.clock.sleep(5.0)
    bench.publisher.publish(bench.batch(1))
    assert float(bench.record["updated_at"]) - float(opened_at) == 5.0
    assert bench.record["started_at"] == opened_at
    assert client.sismember(KEYS.runs, bench.run.name)


def test_the_last_number_never_goes_back(client: redis.Redis) -> None:
    """A batch of repeated events, or of events without a number, leaves it: the audit asks up to there."""
    bench = Bench(client)
    events = [bench.event() for _ in range(3)]
    bench.publisher.publish(Batch(events))
    bench.publisher.publish(Batch([events[0]._replace(is_duplicate=True)]))
    assert bench.record["last"] == "3"
    bench.publisher.publish(Batch([Outgoing(["device_id", "d"], None, is_plain=False)]))
    assert {name: bench.record[name] for name in ("last", "published", "duplicates", "unnumbered")} == {
        "last": "3", "published": "3", "duplicates": "1", "unnumbered": "1",
    }  # fmt: skip


def test_a_full_stream_is_waited_for(client: redis.Redis) -> None:
    """With `block` nothing is written until there is room; the time is counted, and logged at both ends."""
    bench = Bench(client, Limits(5, "block"))
    bench.publisher.publish(bench.batch(4))
    lengths = []

    def make_room() -> None:
        lengths.append(client.xlen(KEYS.stream))
        if len(lengths) == 3:
            client.xtrim(KEYS.stream, maxlen=0, approximate=False)

    bench.clock.on_sleep = make_room
    bench.publisher.publish(bench.batch(2))
    assert lengths == [4, 4, 4]
    assert sequences(client, bench.run.name) == [5, 6]
    assert bench.metrics.value("telemetry_producer_blocked_seconds_total") == sum(bench.clock.sleeps)
    assert len(bench.log.named("stream_full")) == 1
    (line,) = bench.log.named("stream_has_room")
    assert (vars(line)["blocked_s"], vars(line)["length"]) == (round(sum(bench.clock.sleeps), 3), 2)
    assert client.get(KEYS.limit) == b"5"


def test_what_is_offered_to_a_full_stream_is_given_back(client: redis.Redis) -> None:
    """At once, with nothing written; and who has held it is told once in a while."""
    bench = Bench(client, Limits(5, "block"))
    sent = bench.publisher.offer(bench.batch(4))
    assert sent is not None
    assert sent.published == 4
    numbers = bench.numbering.last
    before = bench.record
    for _ in range(2):
        assert bench.publisher.offer(bench.batch(2)) is None
        bench.numbering.last = numbers
    assert bench.record == before
    assert client.xlen(KEYS.stream) == 4
    client.xtrim(KEYS.stream, maxlen=0, approximate=False)
    assert bench.publisher.offer(bench.batch(2)) is not None
    assert sequences(client, bench.run.name) == [5, 6]
    assert bench.clock.sleeps == []
    assert len(bench.log.named("stream_full")) == 1


def test_the_limit_itself_may_be_reached(client: redis.Redis) -> None:
    """The entry that fills the stream is written, and so is what adds none to a stream that is too full."""
    bench = Bench(client, Limits(3, "block"))
    bench.publisher.publish(bench.batch(1))
    bench.publisher.publish(bench.batch(2))
    client.xadd(KEYS.stream, {"a": "b"})
    bench.publisher.publish(Batch([], Position(20, 2, is_done=True)))
    assert bench.clock.sleeps == []
    assert (bench.record["offset"], bench.record["done"]) == ("20", "1")


def _told_of_a_full_stream(bench: Bench) -> dict[str, Any]:
    """Run into the end of the stream, give up at once, and give what the log says of it."""
    bench.clock.stop_after = 1
    with pytest.raises(Stopping):
        bench.publisher.publish(bench.batch(1))
    (line,) = bench.log.named("stream_full")
    return vars(line)


def test_a_full_stream_names_the_group_that_holds_it(client: redis.Redis) -> None:
    """The one whose oldest entry is the oldest of all; and how to be rid of it, unless it is our own."""
    bench = Bench(client, Limits(4, "block"))
    for group in (KEYS.group, "readers_of_before"):
        client.xgroup_create(KEYS.stream, group, "0", mkstream=True)
    bench.publisher.publish(bench.batch(4))
    [[_, ours]] = cast("Any", client.xreadgroup(KEYS.group, "c", {KEYS.stream: ">"}, count=4))
    [[_, taken]] = cast("Any", client.xreadgroup("readers_of_before", "c", {KEYS.stream: ">"}, count=1))
    client.xack(KEYS.stream, "readers_of_before", *[entry_id for entry_id, _ in taken])
    line = _told_of_a_full_stream(bench)
    assert (line["held_by"], line["held_entries"]) == (KEYS.group, 4)
    assert "telemetry status" in line["hint"]
    client.xack(KEYS.stream, KEYS.group, *[entry_id for entry_id, _ in ours])
    line = _told_of_a_full_stream(Bench(client, Limits(4, "block")))
    assert (line["held_by"], line["held_entries"]) == ("readers_of_before", 3)
    assert "telemetry groups remove" in line["hint"]


def test_a_full_stream_that_no_group_holds_says_so(client: redis.Redis) -> None:
    """Nobody reads it; or all is read and nobody trims."""
    bench = Bench(client, Limits(2, "block"))
    bench.publisher.publish(bench.batch(2))
    line = _told_of_a_full_stream(bench)
    assert "held_by" not in line
    assert "no group reads this stream" in line["hint"]
    client.xgroup_create(KEYS.stream, KEYS.group, "$")
    assert "RETENTION_INTERVAL_S" in _told_of_a_full_stream(Bench(client, Limits(2, "block")))["hint"]


def test_a_user_who_may_not_see_groups_waits_all_the_same(client: redis.Redis) -> None:
    """Where the server is somebody else's, the line is shorter."""
    client.execute_command("ACL", "SETUSER", "blind", "on", "nopass", "~*", "+@all", "-xinfo|groups")
    client.execute_command("AUTH", "blind", "")
    try:
        bench = Bench(client, Limits(2, "block"))
        bench.publisher.publish(bench.batch(2))
        assert "telemetry groups" in _told_of_a_full_stream(bench)["hint"]
    finally:
        client.execute_command("AUTH", "default", "")
        client.execute_command("ACL", "DELUSER", "blind")


def test_a_user_who_may_not_tell_the_limit_publishes_all_the_same(client: redis.Redis) -> None:
    """It is a figure for whoever watches, and no part of publishing."""
    client.execute_command("ACL", "SETUSER", "mute", "on", "nopass", "~*", "+@all", "-set")
    client.execute_command("AUTH", "mute", "")
    try:
        bench = Bench(client, Limits(2, "block"))
        bench.publisher.publish(bench.batch(2))
        assert bench.clock.sleeps == []
        assert not client.exists(KEYS.limit)
    finally:
        client.execute_command("AUTH", "default", "")
        client.execute_command("ACL", "DELUSER", "mute")


def test_a_stop_ends_the_wait_for_room(client: redis.Redis) -> None:
    """The batch in hand is given up, and the record doesn't count it."""
    bench = Bench(client, Limits(2, "block"))
    bench.publisher.publish(bench.batch(2))
    bench.clock.stop_after = 1
    with pytest.raises(Stopping):
        bench.publisher.publish(bench.batch(1))
    assert bench.record["last"] == "2"


def test_the_oldest_are_dropped_and_counted(client: redis.Redis) -> None:
    """With `drop_oldest` acknowledged entries go first, and only the others count as dropped."""
    bench = Bench(client, Limits(5, "drop_oldest"))
    client.xgroup_create(KEYS.stream, KEYS.group, "0", mkstream=True)
    bench.publisher.publish(bench.batch(5))
    [[_, delivered]] = cast("Any", client.xreadgroup(KEYS.group, "c", {KEYS.stream: ">"}, count=2))
    client.xack(KEYS.stream, KEYS.group, *[entry_id for entry_id, _ in delivered])
    assert bench.publisher.publish(bench.batch(2)).dropped == 0
    assert sequences(client, bench.run.name) == [3, 4, 5, 6, 7]
    assert bench.publisher.publish(bench.batch(2)).dropped == 2
    assert sequences(client, bench.run.name) == [5, 6, 7, 8, 9]
    assert bench.metrics.value("telemetry_producer_events_total", {"outcome": "dropped"}) == 2


@pytest.mark.parametrize("forgotten", [1, 2])
def test_writes_that_the_server_forgot_are_told(client: redis.Redis, forgotten: int) -> None:
    """When the server knows less than it had confirmed, the gap is logged and stays a gap."""
    bench = Bench(client)
    key = KEYS.run(bench.run.name)
    bench.publisher.publish(bench.batch(2))
    known = cast("Any", client.hgetall(key))
    for _ in range(forgotten):
        bench.publisher.publish(bench.batch(3))
    client.delete(key)
    client.hset(key, mapping=known)
    bench.publisher.publish(bench.batch(1))
    [line] = bench.log.named("redis_lost_writes")
    assert (line.__dict__["lost_batches"], line.__dict__["lost_events"]) == (forgotten, 3 * forgotten)
    assert (bench.record["batches"], bench.record["last"]) == ("2", str(3 + 3 * forgotten))


def test_an_emptied_server_is_told_and_goes_on(client: redis.Redis) -> None:
    """After FLUSHALL the record is written anew, with the numbers going on."""
    bench = Bench(client)
    bench.publisher.publish(bench.batch(4))
    client.flushall()
    bench.publisher.publish(bench.batch(2))
    assert len(bench.log.named("redis_lost_writes")) == 1
    assert sequences(client, bench.run.name) == [5, 6]
    assert (bench.record["batches"], bench.record["last"], bench.record["source"]) == ("2", "6", "test")
    assert client.sismember(KEYS.runs, bench.run.name)
    assert client.get(KEYS.limit) == b"0"


def test_each_loss_is_told_once(client: redis.Redis) -> None:
    """Whoever adds up the lines has what was lost: a second loss is of what came behind the first."""
    bench = Bench(client)
    key = KEYS.run(bench.run.name)
    for events in (4, 3):
        bench.publisher.publish(bench.batch(events))
        client.flushall()
    bench.publisher.publish(bench.batch(2))
    known = cast("Any", client.hgetall(key))
    for events in (5, 6):
        bench.publisher.publish(bench.batch(events))
        client.delete(key)
        client.hset(key, mapping=known)
    bench.publisher.publish(bench.batch(1))
    lines = [line.__dict__ for line in bench.log.named("redis_lost_writes")]
    told = [(line["lost_batches"], line["lost_events"]) for line in lines]
    assert told == [(1, 4), (1, 3), (1, 5), (1, 6)]


def test_a_backup_that_is_restored_to_an_emptied_server_is_behind(client: redis.Redis) -> None:
    """The record in it was written before, by the same process: it goes on behind what it has numbered."""
    bench = Bench(client)
    key = KEYS.run(bench.run.name)
    for events in (4, 3, 2):
        bench.publisher.publish(bench.batch(events))
    backup = cast("Any", client.hgetall(key))
    client.flushall()
    bench.publisher.publish(bench.batch(5))
    client.hset(key, mapping=backup)
    client.sadd(KEYS.runs, bench.run.name)
    client.delete(KEYS.stream)
    bench.publisher.publish(bench.batch(1))
    assert sequences(client, bench.run.name) == [15]
    assert (bench.record["batches"], bench.record["last"]) == ("4", "15")
    lines = [line.__dict__ for line in bench.log.named("redis_lost_writes")]
    assert [(line["lost_batches"], line["lost_events"]) for line in lines] == [(3, 9), (1, 5)]


@pytest.mark.parametrize(("is_emptied", "second"), [(True, (3, 8)), (False, (2, 4))])
def test_what_a_backup_has_brought_back_can_be_lost_later(
    client: redis.Redis, is_emptied: bool, second: tuple[int, int]
) -> None:
    """It was there when the first loss was told, so it counts in the second."""
    bench = Bench(client)
    key = KEYS.run(bench.run.name)
    backups = []
    for events in (4, 3, 2):
        bench.publisher.publish(bench.batch(events))
        backups.append(cast("Any", client.hgetall(key)))
    client.hset(key, mapping=backups[1])
    bench.publisher.publish(bench.batch(1))
    if is_emptied:
        client.flushall()
    else:
        client.hset(key, mapping=backups[0])
    bench.publisher.publish(bench.batch(1))
    lines = [line.__dict__ for line in bench.log.named("redis_lost_writes")]
    assert [(line["lost_batches"], line["lost_events"]) for line in lines] == [(1, 2), second]


def test_where_nothing_was_confirmed_nothing_is_lost(client: redis.Redis) -> None:
    """A server that is emptied before the first batch takes it, and no line accuses it."""
    bench = Bench(client)
    client.flushall()
    bench.publisher.publish(bench.batch(2))
    assert sequences(client, bench.run.name) == [1, 2]
    assert bench.log.named("redis_lost_writes") == []


def test_the_place_in_a_file_outlives_an_emptied_server(client: redis.Redis) -> None:
    """It is written with the record, before the next batch is: whoever dies in between resumes there."""
    bench = Bench(client)
    run = bench.side.open_run("file", "source", "0:")
    bench = Bench(client, Limits(4, "block"), run=run)
    bench.publisher.publish(bench.batch(2, Position(20, 2)))
    client.flushall()
    bench.clock.stop_after = 1
    with pytest.raises(Stopping):
        bench.publisher.publish(bench.batch(5, Position(70, 7)))
    taken = bench.side.take_over("source", lambda _: None)
    assert taken is not None
    assert (taken.offset, taken.line, taken.run.last, taken.is_done) == (20, 2, 2, False)


def test_a_run_that_was_taken_over_is_counted_on_on_an_emptied_server(client: redis.Redis) -> None:
    """The record counts as we do: else its first batch would pass for one that is there."""
    bench = Bench(client)
    old = Bench(client, run=bench.side.open_run("file", "source", "0:"))
    old.publisher.publish(old.batch(2, Position(20, 2)))
    taken = bench.side.take_over("source", lambda _: None)
    assert taken is not None
    new = Bench(client, run=taken.run)
    client.flushall()
    new.publisher.publish(new.batch(2, Position(40, 4)))
    assert sequences(client, taken.run.name) == [3, 4]
    assert {name: new.record[name] for name in ("batches", "last", "published", "offset")} == {
        "batches": "2", "last": "4", "published": "2", "offset": "40",
    }  # fmt: skip


def test_a_run_that_somebody_else_has_opened_anew_is_left_to_them(client: redis.Redis) -> None:
    """Of two that meet an emptied server the first goes on, and the second ends."""
    bench = Bench(client)
    bench.publisher.publish(bench.batch(2))
    client.flushall()
    client.hset(KEYS.run(bench.run.name), "writer", "somebody else")
    with pytest.raises(BrokerRefuses, match="by another process after the loss"):
        bench.publisher.publish(bench.batch(2))
    assert not client.exists(KEYS.stream)


@pytest.mark.parametrize("wrong", ["stream", "ids", "runs"])
def test_a_key_of_another_type_is_refused_before_any_write(client: redis.Redis, wrong: str) -> None:
    """It won't pass by itself, and nothing is written by half."""
    bench = Bench(client)
    name = {"stream": KEYS.stream, "ids": chunk_key(KEYS.run_ids(bench.run.name), 1), "runs": KEYS.runs}[
        wrong
    ]
    client.delete(name)
    client.hset(name, "a", "b")
    with pytest.raises(BrokerRefuses, match="WRONGTYPE"):
        bench.publisher.publish(bench.batch(1))
    assert bench.record["batches"] == "0"


def test_a_server_without_memory_is_waited_for(own_server: Callable[..., LocalServer]) -> None:
    """OOM refuses the script as a whole; when there is memory the batch is there once."""
    with closing(own_server().client()) as client:
        bench = Bench(client)
        client.config_set("maxmemory", "1")

        def give_memory() -> None:
            client.config_set("maxmemory", "0")

        bench.clock.on_sleep = give_memory
        bench.publisher.publish(bench.batch(3))
        assert sequences(client, bench.run.name) == [1, 2, 3]
        assert bench.metrics.value("telemetry_redis_errors_total", {"error": "oom"}) >= 1


@pytest.mark.parametrize("command", ["xadd", "hset", "eval|evalsha"])
def test_a_missing_right_is_waited_for(own_server: Callable[..., LocalServer], command: str) -> None:
    """An operator may grant it meanwhile: the process stays, unready, and nothing is written by half."""
    server = own_server()
    with closing(server.client()) as admin:
        admin.execute_command("ACL", "SETUSER", "p", "on", ">pass", "~*", "+@all")
        with closing(server.client(username="p", password="pass")) as client:  # noqa: S106 - a test's own
            bench = Bench(client)
            admin.execute_command("ACL", "SETUSER", "p", *[f"-{one}" for one in command.split("|")])
            why: list[tuple[str, int]] = []

            def grant() -> None:
                why.append((bench.health.readiness(), admin.xlen(KEYS.stream)))
                admin.execute_command("ACL", "SETUSER", "p", "+@all")

            bench.clock.on_sleep = grant
            bench.publisher.publish(bench.batch(1))
            [(unready, length)] = why
            assert "redis:" in unready
            assert length == 0
            assert sequences(client, bench.run.name) == [1]
            assert len(bench.log.named("redis_unavailable")) == 1


def test_a_run_without_numbers_left_is_followed_by_another(client: redis.Redis) -> None:
    """Sequence numbers end at 36 bits; the next batch opens a new run from 1."""
    bench = Bench(client)
    bench = Bench(client, run=replace(bench.run, last=MAX_SEQUENCE - 5))
    bench.clock.on_sleep = bench.clock.stop
    loop = Loop(
        Generator(KPIS, 2, 2, Random(1)),
        bench.publisher,
        lambda: bench.side.open_run("next"),
        Pacer(5, 0.0, bench.clock.monotonic),
        bench.clock,
        bench.health,
        bench.tools.logger,
        on_batch=lambda: bench.clock.stop() if client.xlen(KEYS.stream) >= 10 else None,
    )
    loop.run()
    assert sequences(client, bench.run.name) == list(range(MAX_SEQUENCE - 4, MAX_SEQUENCE + 1))
    assert sequences(client, bench.publisher.run.name) == [1, 2, 3, 4, 5]
    assert loop.totals.published == 10


def test_a_drawn_batch_carries_its_context_in_every_entry(client: redis.Redis) -> None:
    """In ordinary events, in odd ones and in repeated ones; an event's own context stays."""
    spans = FakeSpans()
    bench = Bench(client, traces=lambda clock: SendTraces(spans, clock, stream=KEYS.stream, ratio=1.0))
    theirs = f"00-{'ab' * 16}-{'cd' * 8}-01"
    first = bench.event()
    odd = Outgoing([*flat(bench.event().fields), "extra", b"\xff"], 2, is_plain=False)
    traced = Outgoing([*flat(bench.event().fields), "traceparent", theirs], 3, is_plain=False)
    named = Outgoing([*flat(bench.event().fields), "extra", "traceparent"], 4, is_plain=False)
    again = first._replace(is_duplicate=True)
    bench.publisher.publish(Batch([first, again, odd, traced, named, bench.event()]))
    ours = spans.spans[0].context.traceparent
    found = [entry[b"traceparent"].decode() for entry in entries(client)]
    assert found == [ours, ours, ours, theirs, ours, ours]
    assert spans.spans[0].attributes["messaging.batch.message_count"] == 6
    assert [list(entry)[:6] for entry in entries(client)] == [
        [name.encode() for name in FIELD_NAMES] for _ in range(6)
    ]


def test_a_batch_that_was_not_drawn_is_published_as_without_tracing(client: redis.Redis) -> None:
    """Not a byte more."""
    bench = Bench(client, traces=lambda clock: SendTraces(FakeSpans(), clock, stream=KEYS.stream, ratio=0.0))
    bench.publisher.publish(bench.batch(3))
    assert [len(entry) for entry in entries(client)] == [6, 6, 6]
