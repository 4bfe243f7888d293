"""read_backlog tells the true lag on every server, also where the server itself is wrong."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import redis
from consumers import KEYS, Consumer, publish
from samples import dead
from servers import Server

from services.brokers.redis.consuming.backlog import Backlog, read_backlog, read_settled
from services.brokers.redis.consuming.dead_letters import DeadLetterStream
from services.brokers.redis.consuming.entries import count, pages


def read(client: redis.Redis, count: int) -> None:
    """Let the group read so many, and acknowledge none."""
    client.xreadgroup(KEYS.group, "c", {KEYS.stream: ">"}, count=count)


def true_lag(client: redis.Redis) -> int:
    """Count what the group has not been given, by hand."""
    groups: Any = client.xinfo_groups(KEYS.stream)
    return len(client.xrange(KEYS.stream, "(" + groups[0]["last-delivered-id"].decode(), "+"))  # type: ignore[arg-type]


def backlog(client: redis.Redis) -> Backlog:
    """Read the backlog of a stream that is there."""
    found = read_backlog(client, KEYS)
    assert found is not None
    return found


def make(client: redis.Redis, count: int, start: str = "0") -> list[bytes]:
    """Publish, with a group at `start`."""
    published = publish(client, count)
    client.xgroup_create(KEYS.stream, KEYS.group, start)
    return published


def nothing_odd(client: redis.Redis) -> None:
    make(client, 10)
    read(client, 4)


def deleted_unread(client: redis.Redis) -> None:
    published = make(client, 10)
    read(client, 4)
    client.xdel(KEYS.stream, published[6], published[9])


def deleted_last_after_catching_up(client: redis.Redis) -> None:
    published = make(client, 10)
    read(client, 10)
    client.xdel(KEYS.stream, published[9])


def deleted_read(client: redis.Redis) -> None:
    published = make(client, 10)
    read(client, 4)
    client.xdel(KEYS.stream, published[1])


def trimmed_unread(client: redis.Redis) -> None:
    make(client, 10)
    read(client, 2)
    client.xtrim(KEYS.stream, maxlen=5, approximate=False)


def trimmed_unread_then_caught_up(client: redis.Redis) -> None:
    trimmed_unread(client)
    read(client, 100)


def trimmed_unread_then_caught_up_then_published(client: redis.Redis) -> None:
    trimmed_unread_then_caught_up(client)
    publish(client, 1, first=50)


def trimmed_unread_of_a_fresh_group(client: redis.Redis) -> None:
    make(client, 10)
    client.xtrim(KEYS.stream, maxlen=7, approximate=False)
    read(client, 7)
    publish(client, 1, first=50)


def trimmed_after_catching_up(client: redis.Redis) -> None:
    make(client, 10)
    read(client, 10)
    client.xtrim(KEYS.stream, maxlen=0, approximate=False)


def trimmed_after_catching_up_then_published(client: redis.Redis) -> None:
    trimmed_after_catching_up(client)
    publish(client, 3, first=50)


def group_in_the_middle(client: redis.Redis) -> None:
    published = make(client, 1)
    client.xgroup_destroy(KEYS.stream, KEYS.group)
    published = publish(client, 9, first=2)
    client.xgroup_create(KEYS.stream, KEYS.group, published[3])


def group_in_the_middle_that_reads(client: redis.Redis) -> None:
    group_in_the_middle(client)
    read(client, 2)


def group_at_an_id_never_given(client: redis.Redis) -> None:
    make(client, 10, start="5-5")


def group_at_the_end(client: redis.Redis) -> None:
    make(client, 10, start="$")
    publish(client, 2, first=50)


def set_back(client: redis.Redis) -> None:
    published = make(client, 10)
    read(client, 10)
    client.xgroup_setid(KEYS.stream, KEYS.group, published[4])


def empty(client: redis.Redis) -> None:
    client.xgroup_create(KEYS.stream, KEYS.group, "0", mkstream=True)


SITUATIONS: list[Callable[[redis.Redis], None]] = [
    nothing_odd,
    deleted_unread,
    deleted_last_after_catching_up,
    deleted_read,
    trimmed_unread,
    trimmed_unread_then_caught_up,
    trimmed_unread_then_caught_up_then_published,
    trimmed_unread_of_a_fresh_group,
    trimmed_after_catching_up,
    trimmed_after_catching_up_then_published,
    group_in_the_middle,
    group_in_the_middle_that_reads,
    group_at_an_id_never_given,
    group_at_the_end,
    set_back,
    empty,
]


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda one: one.__name__)
def test_the_lag_is_the_true_one(server: Server, situation: Callable[[redis.Redis], None]) -> None:
    """Whatever was deleted, trimmed or set, the lag is what the group has not been given."""
    with closing(server.client()) as client:
        situation(client)
        found = backlog(client)
        assert found.lag == true_lag(client)
        assert found.length == client.xlen(KEYS.stream)


def test_a_lag_that_nobody_disturbed_is_known(server: Server) -> None:
    """In ordinary life the server's own number is believed."""
    with closing(server.client()) as client:
        nothing_odd(client)
        assert (backlog(client).lag, backlog(client).lag_known) == (6, True)


def test_pending_entries_and_consumers_are_told(server: Server) -> None:
    """How many, whose, and how old the oldest is."""
    with closing(server.client()) as client, closing(Consumer(server, "c-1")) as source:
        published = publish(client, 3)
        source.ack(source.read()[:1])
        found = backlog(client)
        assert (found.pending, found.oldest_pending_id) == (2, published[1].decode())
        assert [(one.name, one.pending) for one in found.consumers] == [("c-1", 2)]
        milliseconds = int(published[1].split(b"-")[0])
        assert found.oldest_pending_age_s(milliseconds / 1000 + 2.5) == pytest.approx(2.5)
        assert found.oldest_pending_age_s(0.0) == 0.0


def test_no_stream_and_no_group_are_no_backlog(server: Server) -> None:
    """Before anything exists there is nothing to tell, and it is no error."""
    with closing(server.client()) as client:
        assert read_backlog(client, KEYS) is None
        publish(client)
        assert read_backlog(client, KEYS) is None


def test_a_key_of_another_type_is_an_error(server: Server) -> None:
    """That is not the same as nothing."""
    with closing(server.client()) as client:
        client.set(KEYS.stream, "x")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            read_backlog(client, KEYS)


@pytest.mark.parametrize("rights", [(), ("-eval", "-evalsha", "-@scripting")], ids=["scripts", "none"])
def test_large_entries_are_counted_where_they_are(server: Server, rights: tuple[str, ...]) -> None:
    """Forty megabytes wait unread: they are counted, and with scripts none of it leaves the server."""
    with closing(server.client()) as client:
        client.xgroup_create(KEYS.stream, KEYS.group, "$", mkstream=True)
        for _ in range(40):
            client.xadd(KEYS.stream, {"blob": b"b" * 1_000_000})
        found: Any = client.xrange(KEYS.stream)
        ids = [entry_id.decode() for entry_id, _ in found]
        client.execute_command("ACL", "SETUSER", "narrow", "reset", "on", ">narrow", "~*", "+@all", *rights)
        login = {"username": "narrow", "password": "narrow"}
        with closing(server.client(**login)) as narrow:
            sent = _sent_bytes(client)
            backlog = read_backlog(narrow, KEYS)
            counted = count(narrow, KEYS.stream, "-", 1000)
            some = count(narrow, KEYS.stream, f"({ids[3]}", 7)
            assert (_sent_bytes(client) - sent < 100_000) == (not rights)
        client.execute_command("ACL", "DELUSER", "narrow")
    assert backlog is not None
    assert (backlog.length, backlog.lag, backlog.first_id) == (40, 40, ids[0])
    assert counted == (40, ids[0], ids[-1])
    assert some.first == ids[4]
    assert some.number >= 7


def test_pages_are_no_larger_than_fits_into_memory(server: Server) -> None:
    """Of small entries more and more come at once; of large ones few. Each comes once, in order."""
    with closing(server.client()) as client:
        for number in range(300):
            client.xadd(KEYS.stream, {"blob": b"b" * (500_000 if number % 100 > 80 else 10)})
        found = list(pages(client, KEYS.stream, "-"))
        whole: Any = client.xrange(KEYS.stream)
    assert [one for page in found for one in page] == whole
    assert [len(page) for page in found[:4]] == [1, 2, 4, 8]
    assert max(sum(len(fields[b"blob"]) for _, fields in page) for page in found) < 25 * 500_000


def _sent_bytes(client: redis.Redis) -> int:
    stats: Any = client.info("stats")
    return int(stats["total_net_output_bytes"])


# An id that somebody has set for the group looks as if it had read all before it.
MADE_BY_US = [one for one in SITUATIONS if one is not group_in_the_middle_that_reads]


@pytest.mark.parametrize("situation", MADE_BY_US, ids=lambda one: one.__name__)
def test_a_group_that_has_acknowledged_nothing_is_never_said_to_have(
    server: Server, situation: Callable[[redis.Redis], None]
) -> None:
    """Whatever was trimmed, deleted, set back, or read by one that was killed: a consumer would not start."""
    with closing(server.client()) as client:
        situation(client)
        assert read_settled(client, KEYS, has_letters=False) == 0


def test_a_group_of_a_stream_that_was_trimmed_before_it_is_not_said_to_have(server: Server) -> None:
    """The server counts what was gone before it as read; killed in its first batch, it has nothing stored."""
    with closing(server.client()) as client:
        make(client, 10)
        client.xgroup_destroy(KEYS.stream, KEYS.group)
        client.xtrim(KEYS.stream, maxlen=6, approximate=False)
        client.xgroup_create(KEYS.stream, KEYS.group, "0")
        read(client, 2)
        assert read_settled(client, KEYS, has_letters=False) == 0
        read(client, 4)
        assert read_settled(client, KEYS, has_letters=False) == 0


def test_what_a_group_has_acknowledged_is_known_without_what_was_trimmed(server: Server) -> None:
    """The rest may be pending, in the middle or at the end."""
    with closing(server.client()) as client, closing(Consumer(server, "c-1")) as source:
        publish(client, 10)
        read_first = source.read()
        source.ack(read_first[:3] + read_first[8:])
        assert source.read() == []  # the server has confirmed it
        assert read_settled(client, KEYS, has_letters=False) == 5
        source.ack(read_first[3:8])
        assert source.read() == []
        client.xtrim(KEYS.stream, maxlen=0, approximate=False)
        assert read_settled(client, KEYS, has_letters=False) == 10


def test_dead_letters_that_the_server_keeps_are_not_counted(server: Server) -> None:
    """Nor those that were purged: none of them was ever to be in a database."""
    with closing(server.client()) as client, closing(Consumer(server, "c-1")) as source:
        publish(client, 3)
        source.settle_all()
        letters = DeadLetterStream(client, KEYS, lambda: 1_800_000_000.0)
        letters.put([dead(1), dead(2)])
        assert read_settled(client, KEYS, has_letters=False) == 3
        assert read_settled(client, KEYS, has_letters=True) == 1
        letters.purge([dead(1).entry.entry_id.decode()])
        assert read_settled(client, KEYS, has_letters=True) == 1
        letters.put([dead(3)])
        assert read_settled(client, KEYS, has_letters=True) == 0


@pytest.mark.parametrize("lacking", ["-xinfo|groups", "-hlen"])
def test_what_a_user_may_not_know_is_not_said(server: Server, lacking: str) -> None:
    """It may work without: a right that it lacked before is none that it needs to start."""
    with closing(server.client()) as client, closing(Consumer(server, "c-1")) as source:
        publish(client, 3)
        source.settle_all()
        client.execute_command("ACL", "SETUSER", "narrow", "reset", "on", ">narrow", "~*", "+@all", lacking)
        login = {"username": "narrow", "password": "narrow"}
        with closing(server.client(**login)) as narrow:
            assert read_settled(narrow, KEYS, has_letters=True) == 0
        client.execute_command("ACL", "DELUSER", "narrow")
