"""retention.lua and reap.lua: nothing that is needed is removed, and nothing else stays."""

import logging
from contextlib import closing
from typing import Any

import pytest
import redis
from consumers import KEYS, entry_ids, publish
from fakes import FakeClock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from integration.producer.parts import Bench
from servers import Server, eventually, new_client

from services.brokers.redis.consuming.backlog import read_backlog
from services.brokers.redis.consuming.entries import about
from services.brokers.redis.consuming.observer import Observer
from services.brokers.redis.consuming.upkeep import Upkeep
from services.brokers.redis.producing.publisher import Limits
from services.brokers.redis.server.scripts import read_script
from services.runtime.clock import SystemClock
from services.runtime.telemetry.metrics import Metrics

GROUPS = ("one", "two")
REMOVED = "telemetry_stream_removed_by_others_total"
LIMIT_MS = 500


def script(client: redis.Redis, name: str) -> Any:
    """Load a script of the consumer."""
    return client.register_script(read_script(f"consuming/{name}"))


class Retention(RuleBasedStateMachine):
    """Two groups that read and acknowledge as they like, and a model of what each still needs."""

    client: redis.Redis
    trim: Any

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.groups: dict[str, tuple[list[bytes], int]] = {}
        self.published: list[bytes] = []
        self.removed: set[bytes] = set()

    @rule(count=st.integers(1, 4))
    def publish(self, count: int) -> None:
        for _ in range(count):
            self.published.append(self.client.execute_command("XADD", "s", "*", "a", "b"))

    @precondition(lambda self: self.published)
    @rule(group=st.sampled_from(GROUPS), from_start=st.booleans())
    def make_group(self, group: str, from_start: bool) -> None:
        if group not in self.groups:
            self.client.xgroup_create("s", group, "0" if from_start else "$")
            self.groups[group] = ([], len(self.removed if from_start else self.published))

    @rule(group=st.sampled_from(GROUPS), count=st.integers(1, 5))
    def read(self, group: str, count: int) -> None:
        if group not in self.groups:
            return
        reply: Any = self.client.xreadgroup(group, "c", {"s": ">"}, count=count)
        pending, position = self.groups[group]
        for entry_id, _ in reply[0][1] if reply else []:
            if entry_id not in pending:
                pending.append(entry_id)
            position = self.published.index(entry_id) + 1
        self.groups[group] = (pending, position)

    @rule(group=st.sampled_from(GROUPS), data=st.data())
    def acknowledge(self, group: str, data: st.DataObject) -> None:
        pending, position = self.groups.get(group, ([], 0))
        if pending:
            settled = data.draw(st.sampled_from(pending))
            assert self.client.xack("s", group, settled) == 1
            self.groups[group] = ([one for one in pending if one != settled], position)

    @rule(group=st.sampled_from(GROUPS), data=st.data())
    def rewind(self, group: str, data: st.DataObject) -> None:
        """Set a group back to read again what is still there, as an operator may."""
        pending, position = self.groups.get(group, ([], 0))
        left = [number for number in range(position) if self.published[number] not in self.removed]
        if group in self.groups and left:
            back = data.draw(st.sampled_from(left))
            self.client.xgroup_setid("s", group, self.published[back])
            self.groups[group] = (pending, back + 1)

    @rule()
    def trim_now(self) -> None:
        needed = self.needed()
        expected = self.published[: self.published.index(needed[0])] if needed else list(self.published)
        gone = set(expected) - self.removed if self.groups else set()
        assert self.trim(keys=["s"]) == len(gone)
        self.removed |= gone

    def needed(self) -> list[bytes]:
        """List what some group has not acknowledged, the oldest first."""
        return sorted(
            {
                one
                for pending, position in self.groups.values()
                for one in [*pending, *self.published[position:]]
            },
            key=self.published.index,
        )

    @invariant()
    def everything_needed_is_there(self) -> None:
        there = entry_ids(self.client, "s")
        assert there == [one for one in self.published if one not in self.removed]
        assert not set(self.needed()) & self.removed


def test_retention_removes_what_all_have_acknowledged_and_nothing_else(server: Server) -> None:
    """Whatever two groups do, a trim takes exactly the entries before the first that any still needs."""
    with closing(server.client()) as client:

        class OnThisServer(Retention):
            pass

        OnThisServer.client = client
        OnThisServer.trim = staticmethod(script(client, "retention.lua"))
        run_state_machine_as_test(
            OnThisServer,
            settings=settings(settings.get_profile("quick"), max_examples=25, stateful_step_count=25),
        )


def test_what_another_group_has_pending_at_the_same_id_is_kept(server: Server) -> None:
    """One group is done with the entry that both were given last, the other is not; in either order."""
    with closing(server.client()) as client:
        trim = script(client, "retention.lua")
        for done, waits in (("one", "two"), ("two", "one")):
            client.flushall()
            entries: Any = [client.xadd("s", {"a": "b"}) for _ in range(3)]
            for group in GROUPS:
                client.xgroup_create("s", group, "0")
                client.xreadgroup(group, "c", {"s": ">"}, count=3)
            client.xack("s", done, *entries)
            client.xack("s", waits, *entries[:2])
            assert trim(keys=["s"]) == 2
            assert entry_ids(client, "s") == entries[2:]
            client.xack("s", waits, entries[2])
            assert trim(keys=["s"]) == 1


def test_what_a_group_that_was_set_back_reads_again_is_kept(server: Server) -> None:
    """Its position lies before its oldest pending entry then, and what is between is still to be read."""
    with closing(server.client()) as client:
        trim = script(client, "retention.lua")
        entries: Any = [client.xadd("s", {"a": "b"}) for _ in range(5)]
        client.xgroup_create("s", "one", "0")
        client.xreadgroup("one", "c", {"s": ">"}, count=5)
        client.xack("s", "one", *entries[:3])
        client.xgroup_setid("s", "one", entries[0])
        assert trim(keys=["s"]) == 1
        assert entry_ids(client, "s") == entries[1:]


def test_a_stream_nobody_reads_is_kept(server: Server) -> None:
    """Without a group nothing is acknowledged; without a stream nothing is to be done."""
    with closing(server.client()) as client:
        trim = script(client, "retention.lua")
        assert trim(keys=[KEYS.stream]) == 0
        publish(client, 3)
        assert trim(keys=[KEYS.stream]) == 0
        assert client.xlen(KEYS.stream) == 3


def test_ids_are_compared_as_numbers(server: Server) -> None:
    """Ids of different lengths and beyond 53 bits are put in their right order."""
    with closing(server.client()) as client:
        entries = ["5-9007199254740993", "5-18446744073709551615", "9-1", "10-0", "123-5"]
        for entry_id in entries:
            client.xadd("s", {"a": "b"}, id=entry_id)
        for group, position in (("a", "5-18446744073709551615"), ("b", "10-0"), ("c", "5-9007199254740993")):
            client.xgroup_create("s", group, position)
        assert script(client, "retention.lua")(keys=["s"]) == 1
        assert [entry_id.decode() for entry_id in entry_ids(client, "s")] == entries[1:]


def test_milliseconds_count_before_the_sequence(server: Server) -> None:
    """An id of an earlier millisecond is the smaller one, whatever stands behind the dash."""
    with closing(server.client()) as client:
        trim = script(client, "retention.lua")
        for groups in (("a", "b"), ("b", "a")):
            client.flushall()
            for entry_id in ("100-8", "100-9", "200-1", "200-2"):
                client.xadd("s", {"a": "b"}, id=entry_id)
            for group, position in zip(groups, ("100-8", "200-1"), strict=True):
                client.xgroup_create("s", group, position)
            assert trim(keys=["s"]) == 1
            assert entry_ids(client, "s") == [b"100-9", b"200-1", b"200-2"]


def test_only_long_idle_consumers_with_nothing_pending_are_removed(server: Server) -> None:
    """A consumer that holds entries, one that was there a moment ago, and we ourselves stay."""
    with closing(server.client()) as client:
        reap = script(client, "reap.lua")
        client.xgroup_create(KEYS.stream, KEYS.group, "0", mkstream=True)
        for name in ("holds", "gone", "ourselves"):
            work(client, name)
        eventually(lambda: all(one["idle"] >= LIMIT_MS for one in consumers(client)), 5, "all are idle")
        work(client, "fresh")
        assert reap(keys=[KEYS.stream], args=[KEYS.group, LIMIT_MS, "ourselves"]) == 1
        assert {one["name"] for one in consumers(client)} == {b"holds", b"fresh", b"ourselves"}
        assert reap(keys=[KEYS.stream], args=[KEYS.group, 3_600_000, "ourselves"]) == 0
        assert client.xpending(KEYS.stream, KEYS.group)["pending"] == 1


def work(client: redis.Redis, name: str) -> None:
    """Let a consumer take an entry, and acknowledge it unless it holds; it ends without a word."""
    publish(client, 1)  # Redis 7.0 knows a consumer only by what was delivered to it
    taken: Any = client.xreadgroup(KEYS.group, name, {KEYS.stream: ">"})
    if name != "holds":
        client.xack(KEYS.stream, KEYS.group, *(entry_id for entry_id, _ in taken[0][1]))


def consumers(client: redis.Redis) -> list[Any]:
    """List the group's consumers."""
    found: list[Any] = client.xinfo_consumers(KEYS.stream, KEYS.group)
    return found


def test_without_a_group_nobody_is_removed(server: Server) -> None:
    """A stream that has just been lost is an error of the server, which the loop waits out."""
    with closing(server.client()) as client, pytest.raises(redis.ResponseError):
        script(client, "reap.lua")(keys=[KEYS.stream], args=[KEYS.group, 0, "x"])


def removed_by_others(client: redis.Redis) -> int | None:
    """Ask as the observer does."""
    backlog = read_backlog(client, KEYS)
    assert backlog is not None
    return backlog.removed_by_others


def test_what_others_remove_is_counted_beside_what_we_trim(server: Server) -> None:
    """Also where the group reads on at once, and the server's own counts show no gap any more."""
    with closing(server.client()) as client:
        trim, keys = script(client, "retention.lua"), [KEYS.stream, KEYS.trimmed]
        client.xgroup_create(KEYS.stream, KEYS.group, "0", mkstream=True)

        def settle(number: int) -> None:
            for _ in range(number):
                client.xadd(KEYS.stream, {"a": "b"})
            taken: Any = client.xreadgroup(KEYS.group, "c", {KEYS.stream: ">"})
            client.xack(KEYS.stream, KEYS.group, *(entry_id for entry_id, _ in taken[0][1]))

        settle(3)
        client.xtrim(KEYS.stream, maxlen=1, approximate=False)
        assert removed_by_others(client) is None, "not known before the first trim"
        assert trim(keys=keys) == 1
        assert removed_by_others(client) == 0, "what was gone by then is not held against anybody"
        settle(5)
        assert trim(keys=keys) == 5
        assert removed_by_others(client) == 0
        for number in range(1, 4):
            client.xadd(KEYS.stream, {"unread": "a"}, maxlen=0, approximate=False)
            settle(4)
            assert trim(keys=keys) == 4
            assert removed_by_others(client) == number
        deleted: Any = client.xadd(KEYS.stream, {"a": "b"})
        client.xdel(KEYS.stream, deleted)
        assert removed_by_others(client) == 4


def test_a_trim_of_ours_during_the_look_accuses_nobody(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count and the stream are then of two moments: nothing is told this time."""
    with closing(server.client()) as client:
        trim, keys = script(client, "retention.lua"), [KEYS.stream, KEYS.trimmed]
        client.xgroup_create(KEYS.stream, KEYS.group, "0", mkstream=True)
        trim(keys=keys)
        client.xadd(KEYS.stream, {"a": "b"})
        taken: Any = client.xreadgroup(KEYS.group, "c", {KEYS.stream: ">"})
        client.xack(KEYS.stream, KEYS.group, taken[0][1][0][0])

        def trimmed_meanwhile(*arguments: Any) -> Any:
            assert trim(keys=keys) == 1
            return about(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr("services.brokers.redis.consuming.backlog.about", trimmed_meanwhile)
            assert removed_by_others(client) is None
        assert removed_by_others(client) == 0


def test_a_producer_that_drops_the_oldest_is_none_of_the_others(server: Server) -> None:
    """It counts what it drops, read or not, where somebody has begun to count."""
    with closing(server.client()) as client:
        bench = Bench(client, Limits(5, "drop_oldest"))
        bench.publisher.publish(bench.batch(5))
        client.xgroup_create(KEYS.stream, KEYS.group, "0")
        bench.publisher.publish(bench.batch(2))
        assert client.get(KEYS.trimmed) is None
        script(client, "retention.lua")(keys=[KEYS.stream, KEYS.trimmed])
        bench.publisher.publish(bench.batch(3))
        assert client.get(KEYS.trimmed) == b"5"
        assert removed_by_others(client) == 0


def test_a_producer_that_may_not_count_drops_all_the_same(server: Server) -> None:
    """A user of an earlier version has no right to it, and nothing of the batch is refused for it."""
    with closing(server.client()) as client:
        client.set(KEYS.trimmed, 7)
        client.execute_command("ACL", "SETUSER", "earlier", "reset", "on", "nopass", "~*", "+@all", "-incrby")
        with closing(new_client(server, username="earlier", password="any")) as earlier:  # noqa: S106
            bench = Bench(earlier, Limits(5, "drop_oldest"))
            bench.clock.stop_after = 1
            bench.publisher.publish(bench.batch(5))
            assert bench.publisher.publish(bench.batch(2)).dropped == 2
        assert client.get(KEYS.trimmed) == b"7"
        client.execute_command("ACL", "DELUSER", "earlier")


def test_a_stream_made_anew_is_counted_anew(server: Server) -> None:
    """The count of the one before it would hide what is removed from this one."""
    with closing(server.client()) as client:
        trim, keys = script(client, "retention.lua"), [KEYS.stream, KEYS.trimmed]
        client.set(KEYS.trimmed, 1000)
        client.xadd(KEYS.stream, {"a": "b"})
        client.xgroup_create(KEYS.stream, KEYS.group, "0")
        observer = Observer(new_client(server), KEYS, "o", SystemClock(), logging.getLogger("o"))
        with closing(observer):
            observer.look()
            assert REMOVED not in observer.figures()
            eventually(lambda: client.get(KEYS.trimmed) is None, 10.0, "the old count is gone")
            trim(keys=keys)
            client.xtrim(KEYS.stream, maxlen=0, approximate=False)
            observer.look()
            assert observer.figures()[REMOVED] == 1


def test_trimming_goes_on_where_the_count_may_not_be_kept(server: Server) -> None:
    """A user of an earlier version has no right to the count; the stream is trimmed all the same."""
    granted = "+eval +evalsha +script|load +exists +xinfo +xpending +xrange +xtrim"
    login: dict[str, Any] = {"username": "earlier", "password": "any"}
    with closing(server.client()) as client, closing(new_client(server, **login)) as earlier:
        rules = f"reset on nopass ~{KEYS.stream} -@all {granted}".split()
        client.execute_command("ACL", "SETUSER", "earlier", *rules)
        entry_id: Any = client.xadd(KEYS.stream, {"a": "b"})
        client.xgroup_create(KEYS.stream, KEYS.group, "0")
        client.xreadgroup(KEYS.group, "c", {KEYS.stream: ">"})
        client.xack(KEYS.stream, KEYS.group, entry_id)
        clock = FakeClock()
        upkeep = Upkeep(
            earlier, KEYS, "c", 1.0, 3600.0, clock, Metrics("consumer"), logging.getLogger("upkeep")
        )
        clock.sleep(2.0)
        upkeep.run_due()
        assert client.xlen(KEYS.stream) == 0
        client.execute_command("ACL", "DELUSER", "earlier")


@pytest.mark.parametrize(("interval_s", "stays"), [(1.0, False), (0.0, True)])
def test_without_an_interval_nothing_is_trimmed_and_nobody_removed(
    server: Server, interval_s: float, stays: bool
) -> None:
    """As RETENTION_INTERVAL_S says; with one, an acknowledged entry and an idle consumer go."""
    with closing(server.client()) as client:
        entry_id: Any = client.xadd(KEYS.stream, {"a": "b"})
        client.xgroup_create(KEYS.stream, KEYS.group, "0")
        client.xreadgroup(KEYS.group, "idle", {KEYS.stream: ">"})
        client.xack(KEYS.stream, KEYS.group, entry_id)
        clock = FakeClock()
        logger = logging.getLogger("upkeep")
        upkeep = Upkeep(client, KEYS, "c", interval_s, 0.0, clock, Metrics("consumer"), logger)
        clock.sleep(3600.0)
        upkeep.run_due()
        consumers: Any = client.xinfo_consumers(KEYS.stream, KEYS.group)
        assert (client.xlen(KEYS.stream), len(consumers)) == (int(stays), int(stays))
