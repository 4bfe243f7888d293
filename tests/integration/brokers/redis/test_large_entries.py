"""Entries too large to be read, or to be sent: looked at on the server, cut, kept aside; and nobody waits."""

import base64
import json
import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import redis
from consumers import KEYS, Consumer, ids, pending_of, publish
from fakes import FakeDeadLetters
from hypothesis import given
from hypothesis import strategies as st
from samples import event_fields, raw_fields
from servers import KINDS, LocalServer, Server, Servers, shared_server

from services.brokers.redis.consuming.reading.sizes import MOST_PIECES, PIECE_BYTES, Sizes
from services.brokers.redis.operating.side import RedisOperatorSide
from services.brokers.redis.server.scripts import read_script
from services.contract.consuming.doors import Entry
from services.contract.consuming.large import (
    BATCH_WEIGHT,
    UNKNOWN_BYTES,
    beginning,
    burden_of,
    size_of,
    weight_of,
)
from services.contract.errors import SourceUnavailable
from services.contract.event import DEFAULT_ENTRY_BYTES, LEAST_ENTRY_BYTES
from services.ops.dlq.raw import raw_json
from services.runtime.settings import ConsumerSettings

OwnServer = Callable[..., LocalServer]

LARGE = 3_000_000


def publish_large(client: redis.Redis, size: int = LARGE, number: int = 1000) -> bytes:
    """Publish an entry of this size, give or take its other fields."""
    (entry_id,) = publish(client, fields=[*event_fields(number), b"blob", b"b" * size])
    return entry_id


def packed(number: int, size: int) -> list[bytes]:
    """Make an entry of so many events, each of so many bytes."""
    return [b"events", b"%d" % number, b"lines", (b"x" * (size - 1) + b"\n") * number]


def raw(client: redis.Redis, entry_id: bytes) -> list[bytes]:
    """Read all of an entry that was kept aside."""
    text = "".join(
        raw_json(RedisOperatorSide(client, ConsumerSettings()), FakeDeadLetters(), entry_id.decode())
    )
    return [base64.b64decode(part["base64"]) for pair in json.loads(text)["fields"] for part in pair]


def die_with(server: Server | LocalServer, batch_size: int = 1000, name: str = "consumer-1") -> None:
    """Have a consumer that was given everything, and settled nothing."""
    with closing(server.client()) as client:
        groups: Any = client.execute_command("EXISTS", KEYS.stream) and client.xinfo_groups(KEYS.stream)
        if not groups:
            client.xgroup_create(KEYS.stream, KEYS.group, "0")
        script = (
            "redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')"
        )
        client.eval(script, 1, KEYS.stream, KEYS.group, name, str(batch_size))


def settle(source: Consumer, errors: int = 0) -> list[Entry]:
    """Read and acknowledge all; so many reads may fail on the way."""
    settled: list[Entry] = []
    while True:
        try:
            page = source.read()
            source.ack(page)
        except SourceUnavailable:
            errors -= 1
            assert errors >= 0
            continue
        if not page:
            return settled
        settled += page


@pytest.fixture(params=[kind.name for kind in KINDS], scope="module")
def sizes(request: pytest.FixtureRequest, servers: Servers) -> Iterator[tuple[redis.Redis, Sizes]]:
    """Give the scripts of each server in turn, for the many examples of a property."""
    with closing(shared_server(servers, request.param).client()) as client:
        command = client.execute_command
        yield client, Sizes(command, KEYS, "consumer-1", 4096)


@given(st.lists(raw_fields | st.just([b"name" * 300, b"\xff" * 5000] * 40), min_size=1, max_size=4))
def test_the_server_measures_and_cuts_as_we_do(
    sizes: tuple[redis.Redis, Sizes], entries: list[list[bytes]]
) -> None:
    """Size, weight and beginning are the same, whoever looks."""
    client, scripts = sizes
    published = [publish(client, fields=fields)[0] for fields in entries]
    looks = scripts.look([*published, b"1-1"], 1 << 40)
    assert [look.size for look in looks] == [*map(size_of, entries), -1]
    assert [look.weight for look in looks[:-1]] == [weight_of([Entry(b"", fields)]) for fields in entries]
    assert [scripts.beginning(one) for one in published] == [*map(beginning, entries)]


def test_the_server_looks_no_farther_than_a_weight(sizes: tuple[redis.Redis, Sizes]) -> None:
    """It ends with the entry by which the weight is reached: each costs it a copy."""
    client, scripts = sizes
    published = publish(client, 4)
    weights = [look.weight for look in scripts.look(published, 1 << 40)]
    for number in range(1, 5):
        reached = sum(weights[:number])
        assert len(scripts.look(published, reached)) == number
        assert len(scripts.look(published, reached - 1)) == number
    assert len(scripts.look(published, 0)) == 1


def test_a_pending_entry_that_is_too_large_is_not_read(server: Server) -> None:
    """Its beginning comes alone, little crosses the network, its mates are whole, and the server keeps it."""
    with closing(server.client()) as client:
        healthy = publish(client, 3)
        large = publish_large(client)
        healthy += publish(client, 3, first=4)
        die_with(server)
        with closing(Consumer(server)) as source:
            sent = _sent_bytes(client)
            settled = settle(source)
            assert _sent_bytes(client) - sent < 100_000
        assert ids(settled) == [*healthy[:3], large, *healthy[3:]]
        whole = {entry.entry_id: entry.fields for entry in settled if not entry.is_cut}
        assert set(whole) == set(healthy)
        (cut,) = (entry for entry in settled if entry.is_cut)
        fields = [*event_fields(1000), b"blob", b"b" * LARGE]
        assert (cut.full_size, cut.fields) == (size_of(fields), beginning(fields))
        assert pending_of(client) == {}
        assert raw(client, large) == fields
        assert client.xlen(KEYS.large) == math.ceil(LARGE / PIECE_BYTES)


def test_a_new_entry_that_is_too_large_is_not_read_where_such_are_expected(server: Server) -> None:
    """Behind one large entry others are looked at before they are delivered, by whichever consumer."""
    with closing(server.client()) as client, closing(Consumer(server)) as source:
        first = publish_large(client)
        assert [entry.is_cut for entry in settle(source)] == [True]
        published = [*publish(client, 12), publish_large(client), *publish(client, 12, first=20)]
        sent = _sent_bytes(client)
        settled = settle(source)
        assert _sent_bytes(client) - sent < 100_000
        assert ids(settled) == published
        assert [entry.entry_id for entry in settled if entry.is_cut] == [published[12]]
        assert {entry.deliveries for entry in settled} == {1}
        assert raw(client, first)[-1] == raw(client, published[12])[-1] == b"b" * LARGE


def test_new_entries_are_taken_by_weight_where_they_are_large(server: Server) -> None:
    """Forty entries of almost a megabyte come in batches that fit into memory, in their order."""
    with closing(server.client()) as client, closing(Consumer(server, batch_size=40)) as source:
        published = [publish_large(client, 1_000_000) for _ in range(40)]
        settled: list[bytes] = []
        while page := source.read():
            assert weight_of(page) <= BATCH_WEIGHT
            settled += ids(page)
            source.ack(page)
        assert settled == published
        assert client.xlen(KEYS.large) == 0


@given(
    raw_fields
    | st.builds(packed, st.integers(1, 40), st.integers(1, 9000))
    | st.builds(lambda size: [*event_fields(2), b"blob", b"b" * size], st.integers(1, 9000))
)
def test_only_what_is_larger_than_a_valid_event_makes_us_careful(
    sizes: tuple[redis.Redis, Sizes], fields: list[bytes]
) -> None:
    """Not an entry of many events, or an ordinary one, that is just too much beside the others."""
    client, _ = sizes
    client.delete(KEYS.stream)
    client.xgroup_create(KEYS.stream, KEYS.group, "0", mkstream=True)
    publish(client)
    publish(client, fields=fields)
    large = Sizes(client.execute_command, KEYS, "consumer-1", DEFAULT_ENTRY_BYTES)
    taken, is_heavy_next = large.take(2, weight_of([Entry(b"", event_fields(1))]))
    assert len(taken) == 1
    assert is_heavy_next == (burden_of(fields) > LEAST_ENTRY_BYTES)


def test_entries_of_many_events_are_asked_for_ahead_though_a_batch_of_them_would_weigh_too_much(
    server: Server,
) -> None:
    """The first read is of as many entries as a batch has events, and these have a hundred each."""
    with closing(server.client()) as client, closing(Consumer(server, batch_size=4000)) as source:
        fields = packed(100, 100)
        pipeline = client.pipeline(transaction=False)
        for _ in range(1300):
            pipeline.execute_command("XADD", KEYS.stream, "*", *fields)
        pipeline.execute()
        first = source.read()
        assert weight_of(first) <= BATCH_WEIGHT < weight_of([*first, *first[:100]])
        source.ack(first)
        source.limit(10)
        scripts = _calls(client, "evalsha") + _calls(client, "eval")
        assert len(settle(source)) == 1300 - len(first) > 50
        assert _calls(client, "evalsha") + _calls(client, "eval") == scripts


def test_pending_entries_come_one_by_one_at_first_where_they_are_large(server: Server) -> None:
    """One, two, four, and so on, up to what fits into memory."""
    with closing(server.client()) as client:
        for _ in range(40):
            publish_large(client, 1_000_000)
        die_with(server)
        with closing(Consumer(server, batch_size=40)) as source:
            numbers = []
            while page := source.read():
                source.ack(page)
                numbers.append(len(page))
        assert numbers[:4] == [1, 2, 4, 8]
        assert max(numbers) * 1_000_000 <= BATCH_WEIGHT
        assert sum(numbers) == 40


@pytest.mark.parametrize(
    ("sizes", "max_entry_bytes", "cut"),
    [
        ([100, 5_000_000, 100, 5_000_000, 5_000_000, 100], 1 << 20, 3),  # larger than we take
        ([100, 5_000_000, 100, 5_000_000, 100], 1 << 24, 2),  # larger than the server sends
        ([900_000] * 8 + [100] + [900_000] * 8, 1 << 20, 0),  # larger than it sends together
    ],
)
def test_what_the_server_does_not_send_ends_too(
    own_server: OwnServer, sizes: list[int], max_entry_bytes: int, cut: int
) -> None:
    """Where it limits what waits to be sent, every entry comes to its end, and small ones whole."""
    server = own_server("--client-output-buffer-limit", "normal 2mb 2mb 5")
    with closing(server.client()) as client:
        published = [publish_large(client, size) for size in sizes]
        with closing(Consumer(server, batch_size=50, max_entry_bytes=max_entry_bytes)) as source:
            settled = settle(source, errors=2 + 2 * cut + 6)
        assert sorted(ids(settled)) == published
        assert sum(entry.is_cut for entry in settled) == cut
        assert all(size_of(entry.fields) > 100 for entry in settled)
        assert pending_of(client) == {}
        for entry in settled:
            if entry.is_cut:
                assert size_of(raw(client, entry.entry_id)) == entry.full_size > 5_000_000


def test_an_entry_that_nobody_survives_as_a_letter_is_cut_in_the_end(server: Server) -> None:
    """Past MAX_DELIVERIES it comes whole, for a letter with all of it, three times; and then cut."""
    with closing(server.client()) as client:
        large = publish_large(client, 500_000)
        small = publish(client)[0]
        seen = []
        for _ in range(12):
            with closing(Consumer(server, max_deliveries=3)) as source:
                page = source.read()
                seen.append([(entry.entry_id, entry.is_cut) for entry in page])
                if page[0].is_cut:
                    source.ack(page)
                    assert [(one.entry_id, one.is_cut) for one in source.read()] == [(small, False)]
                    break
        assert seen[-1] == [(large, True)]
        assert page[0].deliveries == 3 + 3 + 1
        assert all(not is_cut for page_seen in seen[:-1] for _, is_cut in page_seen)


def test_at_maxmemory_large_entries_end_all_the_same(own_server: OwnServer) -> None:
    """They are looked at and acknowledged; there is no room to keep them."""
    server = own_server()
    with closing(server.client()) as client:
        large = publish_large(client)
        publish(client, 2)
        die_with(server, 1)
        client.config_set("maxmemory", 1)
        with closing(Consumer(server)) as source:
            settled = settle(source)
        assert [(entry.entry_id == large, entry.is_cut) for entry in settled] == [(True, True)] + [
            (False, False)
        ] * 2
        assert pending_of(client) == {}
        assert client.xlen(KEYS.large) == 0


def test_what_is_kept_aside_is_bounded_and_whole(own_server: OwnServer) -> None:
    """The oldest entries make room, all of their pieces; no more than a quarter of the memory is taken."""
    server = own_server()
    with closing(server.client()) as client, closing(Consumer(server)) as source:
        published = [publish_large(client, 20 * PIECE_BYTES) for _ in range(4)]
        settle(source)
        assert client.xlen(KEYS.large) <= MOST_PIECES
        assert [size_of(raw(client, one)) > 20 * PIECE_BYTES for one in published[1:]] == [True] * 3
        found: Any = client.xrange(KEYS.large, count=1)
        assert (found[0][1][b"entry"], found[0][1][b"part"]) == (published[1], b"1")
        client.config_set("maxmemory", 40 * PIECE_BYTES)
        client.delete(KEYS.large)
        client.xtrim(KEYS.stream, maxlen=0, approximate=False)
        publish_large(client, 15 * PIECE_BYTES)
        settle(source)
        assert client.xlen(KEYS.large) == 0, "it took more than a quarter"
        kept = publish_large(client, 3 * PIECE_BYTES)
        client.xtrim(KEYS.stream, minid=kept.decode(), approximate=False)
        settle(source)
        assert size_of(raw(client, kept)) > 3 * PIECE_BYTES


def test_an_entry_is_not_kept_aside_where_its_copies_would_not_fit(own_server: OwnServer) -> None:
    """Though it is less than a quarter of the memory: it is acknowledged, and the server goes on."""
    server = own_server()
    with closing(server.client()) as client, closing(Consumer(server)) as source:
        client.set("filler", bytes(64 << 20))
        publish_large(client, 3 * PIECE_BYTES)
        memory: Any = client.info("memory")
        client.config_set("maxmemory", memory["used_memory"] + 6 * PIECE_BYTES)
        assert [entry.is_cut for entry in settle(source)] == [True]
        assert client.xlen(KEYS.large) == 0
        assert pending_of(client) == {}


def test_an_entry_of_exactly_the_limit_is_taken_whole(server: Server) -> None:
    """By the server's rule as by ours; one byte more is cut."""
    with closing(server.client()) as client, closing(Consumer(server)) as source:
        publish_large(client)
        settle(source)
        for more in (0, 1):
            fields = [*event_fields(1), b"blob", b""]
            fields[-1] = b"b" * (DEFAULT_ENTRY_BYTES + more - size_of(fields))
            publish(client, fields=fields)
        assert [entry.is_cut for entry in settle(source)] == [False, True]


def test_many_fields_and_a_long_name_are_kept_aside_as_they_are(server: Server) -> None:
    """A hundred thousand fields, more than Lua hands over at once, and a name of two megabytes."""
    many = [part for number in range(100_000) for part in (b"name-%d" % number, b"\x00\xff")]
    named = [b"n" * 2_000_000, b"", b"name", b"\n" * 10]
    with closing(server.client()) as client, closing(Consumer(server)) as source:
        published = [publish(client, fields=fields)[0] for fields in (many, named)]
        settled = settle(source)
        assert [entry.is_cut for entry in settled] == [True, True]
        assert [raw(client, one) for one in published] == [many, named]


def test_an_entry_that_somebody_else_has_ended_is_not_kept_again(server: Server) -> None:
    """A late acknowledgement of a large entry changes nothing."""
    with closing(server.client()) as client, closing(Consumer(server)) as source:
        publish_large(client)
        page = source.read()
        source.ack(page)
        assert client.xlen(KEYS.large) == 3
        source.expect_large()
        source.ack(page)
        assert client.xlen(KEYS.large) == 3
        for result in ("acked", "already_acked"):
            assert source.metrics.value("telemetry_ack_events_total", {"result": result}) == 1


def test_trimming_goes_past_an_entry_that_was_kept_aside(server: Server) -> None:
    """Nothing of it holds the stream up."""
    with closing(server.client()) as client, closing(Consumer(server)) as source:
        publish_large(client)
        publish(client, 2)
        settle(source)
        assert client.eval(read_script("consuming/retention.lua"), 1, KEYS.stream) == 3
        assert client.xlen(KEYS.stream) == 0


@contextmanager
def user(client: redis.Redis, *rules: str) -> Iterator[dict[str, str]]:
    """Make a user for a time."""
    name = {"username": "narrow", "password": "narrow"}
    client.execute_command("ACL", "SETUSER", "narrow", "reset", "on", ">narrow", "~*", "+@all", *rules)
    yield name
    client.execute_command("ACL", "DELUSER", "narrow")


def test_no_right_to_script_is_needed(server: Server) -> None:
    """EVAL and EVALSHA are enough."""
    with closing(server.client()) as client, user(client, "-script") as who:
        large = publish_large(client)
        die_with(server)
        with closing(Consumer(server, client=server.client(**who))) as source:
            assert [entry.is_cut for entry in settle(source)] == [True]
        assert size_of(raw(client, large)) > LARGE


def test_without_scripts_entries_come_one_by_one_and_are_cut_here(server: Server) -> None:
    """Whoever may run none reads as it is, carefully; the outcome is the same but for the whole entry."""
    with closing(server.client()) as client, user(client, "-eval", "-evalsha", "-@scripting") as who:
        healthy = publish(client, 5)
        large = publish_large(client)
        die_with(server)
        with closing(Consumer(server, client=server.client(**who))) as source:
            numbers = []
            settled: list[Entry] = []
            while page := source.read():
                source.ack(page)
                numbers.append(len(page))
                settled += page
        assert numbers == [1, 2, 3]
        assert ids(settled) == [*healthy, large]
        assert [entry.is_cut for entry in settled] == [False] * 5 + [True]
        assert settled[-1].full_size > LARGE
        assert pending_of(client) == {}


def test_without_scripts_an_entry_that_kills_is_given_up_unread(server: Server) -> None:
    """Past MAX_DELIVERIES and three letters that were tried in vain it is read no more."""
    with closing(server.client()) as client, user(client, "-eval", "-evalsha", "-@scripting") as who:
        killer, behind = publish_large(client, 100_000), publish(client)[0]
        for _ in range(20):
            with closing(Consumer(server, client=server.client(**who), max_deliveries=3)) as source:
                page = source.read()
                if page[0].is_cut:
                    assert (page[0].entry_id, page[0].full_size) == (killer, UNKNOWN_BYTES)
                    source.ack(page)
                    assert ids(source.read()) == [behind]
                    return
        raise AssertionError("it is read without end")


def test_ten_thousand_trimmed_entries_of_our_own_are_ended(server: Server) -> None:
    """Also those that were delivered twice, and are read one by one where they are there."""
    with closing(server.client()) as client, closing(Consumer(server, batch_size=1000)) as source:
        publish(client, 10_001)
        left = publish(client)
        die_with(server, 20_000)
        client.execute_command(  # delivered once more, and never idle
            "EVAL", "redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'STREAMS', KEYS[1], '0')",
            1, KEYS.stream, KEYS.group, "consumer-1",
        )  # fmt: skip
        source._claims.due_at = math.inf
        client.xtrim(KEYS.stream, minid=left[0].decode(), approximate=False)
        assert ids(settle(source)) == left
        assert source.metrics.value("telemetry_lost_entries_total") == 10_001
        assert pending_of(client) == {}


def test_claims_go_on_where_they_were(server: Server) -> None:
    """Idle entries behind thousands of fresh ones are not looked for from the beginning each time."""
    with closing(server.client()) as client:
        publish(client, 5_000)
        die_with(server, 5_000, "alive")
        idle = publish(client, 300, first=6_000)
        die_with(server, 300, "dead")
        for name in (b"dead", b"alive"):
            _set_idle(client, name, 600_000 if name == b"dead" else 0)
        with closing(
            Consumer(server, "heir", batch_size=10, claim_idle_ms=60_000, claim_interval_s=0.0)
        ) as heir:
            calls = _calls(client, "xautoclaim")
            seen: list[bytes] = []
            while len(seen) < 300:
                page = heir.read()
                heir.ack(page)
                seen += ids(page)
            assert seen == idle
            assert _calls(client, "xautoclaim") - calls < 200, "a pass is 53 pages, and a claim is one more"


def _set_idle(client: redis.Redis, name: bytes, idle_ms: int) -> None:
    found: Any = client.xpending_range(KEYS.stream, KEYS.group, "-", "+", 100_000, consumername=name.decode())
    pending = [one["message_id"] for one in found]
    claim = "redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[4], 'IDLE', ARGV[3], 'JUSTID')"
    pipeline = client.pipeline(transaction=False)
    for entry_id in pending:
        pipeline.eval(claim, 1, KEYS.stream, KEYS.group, name, str(idle_ms), entry_id)
    pipeline.execute()


def _calls(client: redis.Redis, command: str) -> int:
    stats: Any = client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def _sent_bytes(client: redis.Redis) -> int:
    stats: Any = client.info("stats")
    return int(stats["total_net_output_bytes"])
