"""Nothing that was delivered stays stranded: own entries, lost answers, dead consumers, poison."""

import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import redis
from consumers import KEYS, Consumer, entry_ids, ids, pending_of, publish
from servers import LocalServer, Server, eventually

from services.contract.errors import SourceUnavailable

OwnServer = Callable[..., LocalServer]


def test_own_entries_come_first_after_a_restart(server: Server) -> None:
    """What a killed consumer held comes before what is new, in its order, delivery counted."""
    with closing(server.client()) as client:
        held = publish(client, 3)
        with closing(Consumer(server)) as first:
            assert ids(first.read()) == held
        fresh = publish(client, 2, first=4)
        with closing(Consumer(server)) as second:
            again = second.read()
            assert [(entry.entry_id, entry.deliveries) for entry in again] == [(one, 2) for one in held]
            second.ack(again)
            assert ids(second.read()) == fresh


def _names(server: Server) -> set[bytes]:
    with closing(server.client()) as client:
        found: Any = client.xinfo_consumers(KEYS.stream, KEYS.group)
    return {one["name"] for one in found}


def test_a_consumer_that_ends_in_order_leaves_the_group(server: Server) -> None:
    """With nothing pending its name goes, and the others' stay; its next start makes it anew."""
    with closing(server.client()) as client:
        publish(client, 3)
        other, ending = Consumer(server, "other"), Consumer(server, "ending")
        taken = other.read()
        assert len(taken) == 3
        publish(client, 1, first=4)
        assert len(ending.settle_all()) == 1
        assert _names(server) == {b"other", b"ending"}
        ending.close()
        assert _names(server) == {b"other"}
        publish(client, 1, first=5)
        again = Consumer(server, "ending")
        assert len(again.settle_all()) == 1
        other.ack(taken)
        again.close()
        other.close()
        assert _names(server) == set()
        assert pending_of(client) == {}


def test_a_consumer_that_ends_with_entries_pending_stays_in_the_group(server: Server) -> None:
    """They would be thrown away with its name. What the server sent ahead of its end is such a one too."""
    with closing(server.client()) as client:
        publish(client, 15)
        ending = Consumer(server, "ending")
        ending.ack(ending.read())  # a full batch: the next one is asked for already
        ending.close()
        assert _names(server) == {b"ending"}
        assert len(pending_of(client)) == 5
        again = Consumer(server, "ending")
        assert len(again.settle_all()) == 5
        again.close()
        assert _names(server) == set()


def test_what_was_asked_for_ahead_survives_a_kill(server: Server) -> None:
    """Entries that the server sent ahead to a consumer that died come again."""
    with closing(server.client()) as client:
        everything = publish(client, 6)
        first = Consumer(server, batch_size=2)
        first.ack(first.read())
        eventually(lambda: len(pending_of(client)) == 2, 5, "the next batch is on its way")
        first.close()
        with closing(Consumer(server, batch_size=2)) as second:
            assert ids(second.settle_all()) == everything[2:]


def test_an_answer_lost_with_its_connection_comes_again(server: Server) -> None:
    """A connection killed while the server's answer is on its way strands nothing."""
    with closing(server.client()) as client, closing(Consumer(server, batch_size=2)) as source:
        everything = publish(client, 6)
        settled = source.read()
        source.ack(settled)
        eventually(lambda: len(pending_of(client)) == 2, 5, "the next batch is on its way")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        # The answer may stand in our socket already; what matters is that nothing is missing.
        for _ in range(10):
            try:
                page = source.read()
                source.ack(page)
            except SourceUnavailable:
                continue
            settled += page
            if not page:
                break
        assert sorted(set(ids(settled))) == everything
        assert pending_of(client) == {}


def test_a_blocked_read_that_is_killed_is_an_error_and_no_empty_answer(server: Server) -> None:
    """A killed connection is told, and the next read works and makes nothing up."""
    with closing(server.client()) as client, closing(Consumer(server, block_ms=5000)) as source:
        publish(client)
        source.ack(source.read())
        killer = threading.Thread(target=_kill_blocked, args=(server,))
        killer.start()
        with pytest.raises(SourceUnavailable) as caught:
            source.read()
        killer.join()
        assert caught.value.kind
        late = publish(client, first=2)
        assert ids(source.read()) == late


def _kill_blocked(server: Server) -> None:
    with closing(server.client()) as client:
        eventually(lambda: client.info("clients")["blocked_clients"], 5, "a client is blocked")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def test_a_frozen_server_strands_nothing(own_server: OwnServer) -> None:
    """A read that timed out may have been served all the same: those entries are given after it."""
    server = own_server()
    with closing(server.client()) as client, closing(Consumer(server, timeout_s=0.3)) as source:
        first = publish(client)
        source.ack(source.read())
        server.pause()
        with pytest.raises(SourceUnavailable, match=r"[Tt]imeout"):
            source.read()
        server.resume()
        late = publish(client, 3, first=2)
        assert ids(source.settle_all()) == late
        assert first[0] not in pending_of(client)
        assert pending_of(client) == {}


def test_a_killed_and_restarted_server_is_found_again(own_server: OwnServer) -> None:
    """After a power cut of the server everything unsettled is given, nothing settled is."""
    server = own_server()
    with closing(Consumer(server)) as source:
        with closing(server.client()) as client:
            everything = publish(client, 4)
        page = source.read()
        source.ack(page[:2])
        source.drain()
        server.kill()
        with pytest.raises(SourceUnavailable):
            source.read()
        server.start()
        assert ids(source.settle_all()) == everything[2:]


def test_a_dead_consumers_entries_are_taken_over_when_idle(server: Server) -> None:
    """Past CLAIM_IDLE_MS, and not before, another consumer takes them; the claim counts no delivery."""
    with closing(server.client()) as client:
        held = publish(client, 25)
        with closing(Consumer(server, "dead", batch_size=25)) as dead:
            dead.read()
        with closing(Consumer(server, "patient", claim_idle_ms=60_000)) as patient:
            assert patient.read() == []
        with closing(Consumer(server, "heir", claim_idle_ms=1, claim_interval_s=0.0)) as heir:
            taken = eventually(heir.read, 5, "entries are claimed")
            assert {entry.deliveries for entry in taken} == {2}
            heir.ack(taken)
            assert sorted(ids(taken) + ids(heir.settle_all())) == sorted(held)
            assert heir.metrics.value("telemetry_claimed_events_total") == 25
        assert pending_of(client) == {}


def test_claims_wait_for_their_interval(server: Server) -> None:
    """Between two looks for idle entries there is no look."""
    now = [0.0]
    with closing(server.client()) as client:
        publish(client, 2)
        source = Consumer(server, "heir", claim_idle_ms=1, claim_interval_s=5.0, monotonic=lambda: now[0])
        with closing(source) as heir, closing(Consumer(server, "dead")) as dead:
            heir.settle_all()
            publish(client, 1, first=3)
            dead.read()
            eventually(lambda: idle_ms(client, b"dead") > 1, 5, "the entry is idle")
            assert heir.read() == []
            now[0] = 5.0
            assert len(heir.read()) == 1


def idle_ms(client: redis.Redis, name: bytes) -> int:
    """Tell how long a consumer has not been heard of."""
    found: Any = client.xinfo_consumers(KEYS.stream, KEYS.group)
    return int(next(one["idle"] for one in found if one["name"] == name))


def test_a_late_acknowledgement_of_a_slow_consumer_does_no_harm(server: Server) -> None:
    """A consumer whose entries were taken over acknowledges them again, and that is counted."""
    with closing(server.client()) as client:
        publish(client, 2)
        with (
            closing(Consumer(server, "slow")) as slow,
            closing(Consumer(server, "heir", claim_idle_ms=1, claim_interval_s=0.0)) as heir,
        ):
            page = slow.read()
            heir.ack(eventually(heir.read, 5, "entries are claimed"))
            heir.drain()
            slow.ack(page)
            slow.drain()
            assert slow.metrics.value("telemetry_ack_events_total", {"result": "already_acked"}) == 2


def test_a_poison_entry_is_isolated_from_its_batch(server: Server) -> None:
    """Whoever kills its consumer again and again goes on alone; its mates are settled meanwhile."""
    with closing(server.client()) as client:
        everything = publish(client, 5)
        poison = everything[2]
        settled: list[bytes] = []
        highest = 0
        died = 0
        while died < 20 and len(settled) < 5:  # each turn is a process that dies where it meets the poison
            with closing(Consumer(server)) as source:
                while page := source.read():
                    told = {one.entry_id: one.deliveries for one in page}
                    if told.get(poison, 6) < 6:
                        died += 1
                        break
                    highest = max([highest, *(told[one] for one in told if one != poison)])
                    source.ack(page)
                    settled += ids(page)
        assert sorted(settled) == everything
        assert died == 5
        assert highest <= 3
        assert pending_of(client) == {}


def test_pending_entries_that_were_trimmed_are_counted_as_lost(server: Server) -> None:
    """Own entries whose content is gone are named in the metrics, ended, and hold nothing up."""
    with closing(server.client()) as client:
        everything = publish(client, 6)
        with closing(Consumer(server)) as first:
            first.read()
        client.xtrim(KEYS.stream, minid=everything[4].decode(), approximate=False)
        with closing(Consumer(server)) as second:
            assert ids(second.settle_all()) == everything[4:]
            assert second.metrics.value("telemetry_lost_entries_total") == 4
        assert pending_of(client) == {}


def test_thousands_of_trimmed_entries_are_no_problem(server: Server) -> None:
    """However many pages of lost entries there are, they are gone through in one read."""
    with closing(server.client()) as client:
        publish(client, 1200)
        with closing(Consumer(server, batch_size=1200)) as first:
            first.read()
        client.xtrim(KEYS.stream, maxlen=0, approximate=False)
        late = publish(client)
        with closing(Consumer(server, batch_size=1)) as second:
            assert ids(second.settle_all()) == late
            assert second.metrics.value("telemetry_lost_entries_total") == 1200


def test_a_dead_consumers_trimmed_entries_are_counted_too(server: Server) -> None:
    """What is gone when it is claimed is counted as lost by the claimer."""
    with closing(server.client()) as client:
        publish(client, 4)
        with closing(Consumer(server, "dead")) as dead:
            dead.read()
        client.xtrim(KEYS.stream, maxlen=1, approximate=False)
        with closing(Consumer(server, "heir", claim_idle_ms=1, claim_interval_s=0.0)) as heir:
            assert len(eventually(heir.read, 5, "the rest is claimed")) == 1
            assert heir.metrics.value("telemetry_lost_entries_total") == 3


@pytest.mark.parametrize("count", [3, 1200])
def test_own_entries_trimmed_between_two_looks_for_idle_ones_are_counted_too(
    server: Server, count: int
) -> None:
    """They are met where we read our own again, and not by a claim: however many, the rest is given."""
    with closing(server.client()) as client, closing(Consumer(server, batch_size=50)) as source:
        publish(client, count + 2)
        everything: list[bytes] = []
        while page := source.read():
            everything += ids(page)
        assert len(everything) == count + 2
        client.xtrim(KEYS.stream, minid=everything[count].decode(), approximate=False)
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        again: list[bytes] = []
        with pytest.raises(SourceUnavailable):
            _read_twice(source)
        while page := source.read():
            source.ack(page)
            again += ids(page)
        source.drain()
        assert again == everything[count:]
        assert source.metrics.value("telemetry_lost_entries_total") == count
        assert source.metrics.value("telemetry_claimed_events_total") == 0
        assert pending_of(client) == {}


def _read_twice(source: Consumer) -> None:
    """Read past an answer that may have been in our socket before the connection was cut."""
    source.read()
    source.read()


def test_a_busy_consumer_looks_for_idle_entries_too(server: Server) -> None:
    """Where every read gives a full batch, a dead consumer's entries wait no longer than the interval."""
    now = [0.0]
    with (
        closing(server.client()) as client,
        closing(Consumer(server, "dead", batch_size=2)) as dead,
        closing(
            Consumer(server, "busy", claim_idle_ms=1, claim_interval_s=2.0, monotonic=lambda: now[0])
        ) as busy,
    ):
        publish(client, 102)
        page = busy.read()  # looks, and finds nothing
        held = ids(dead.read())
        for _ in range(3):
            busy.ack(page)
            page = busy.read()
            assert len(page) == 10
            assert not set(held) & set(ids(page))
        eventually(lambda: idle_ms(client, b"dead") > 1, 5, "they are idle")
        now[0] = 2.0
        given: list[bytes] = []
        for _ in range(3):
            busy.ack(page)
            page = busy.read()
            given += ids(page)
        assert set(held) <= set(given)


@pytest.mark.parametrize(
    "command", [("FLUSHALL",), ("DEL", KEYS.stream), ("XGROUP", "DESTROY", KEYS.stream, KEYS.group)]
)
def test_a_group_that_vanished_is_made_again(server: Server, command: tuple[str, ...]) -> None:
    """The loss is one error, the group is made from the start of the stream, and that is counted."""
    with closing(server.client()) as client, closing(Consumer(server)) as source:
        publish(client, 2)
        source.settle_all()
        client.execute_command(*command)
        remaining = entry_ids(client, KEYS.stream)
        late = publish(client, 3, first=3)
        with pytest.raises(SourceUnavailable) as caught:
            source.read()
        assert caught.value.kind == "nogroup"
        assert ids(source.settle_all()) == remaining + late
        assert source.metrics.value("telemetry_group_creations_total") == 2


def test_a_group_destroyed_under_a_waiting_read_is_made_again(server: Server) -> None:
    """The wait ends with an error, not with silence for ever."""
    with closing(server.client()) as client, closing(Consumer(server, block_ms=5000)) as source:
        publish(client)
        source.ack(source.read())

        def destroy() -> None:
            with closing(server.client()) as other:
                eventually(lambda: other.info("clients")["blocked_clients"], 5, "a client is blocked")
                other.xgroup_destroy(KEYS.stream, KEYS.group)

        thread = threading.Thread(target=destroy)
        thread.start()
        with pytest.raises(SourceUnavailable):
            source.read()
        thread.join()
        assert len(source.read()) == 1
