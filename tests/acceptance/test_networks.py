"""The network between us and the server: it cuts, loses, delays, holds, and leads somewhere else."""

import shutil
import signal
from collections.abc import Iterator
from typing import Any, Final, cast

import pytest
from acceptance.publisher import KEYS
from acceptance.rig import PATIENCE_S, Process, Rig, free_port
from proxy import Proxy, Weather
from servers import LocalServer, eventually

from services.ops.audit.result import Audit

RATE: Final = 300


@pytest.fixture
def proxy(rig: Rig) -> Iterator[Proxy]:
    """Give a network that all processes of the rig go through, and the test itself does not."""
    one = Proxy(rig.server)
    rig.environment["REDIS_PORT"] = str(one.port)
    yield one
    one.close()


def producer(rig: Rig, **environment: str) -> Process:
    """Start a real producer, with some of what is odd."""
    command = [*rig.python, "-m", "services.producer", "--rate", str(RATE), "--duration", "0"]
    ratios = {"INVALID_RATIO": "0.02", "DUPLICATE_RATIO": "0.02", "PRODUCER_METRICS_PORT": "0"}
    return rig.start("producer", command, {**ratios, "BATCH_SIZE": "30", **environment})


def settle(rig: Rig, one: Process, *consumers: Process) -> Audit:
    """End the producer, let the consumers finish, and give the audit."""
    one.signal(signal.SIGTERM)
    assert one.wait() == 0, one.text
    eventually(lambda: is_settled(rig, *consumers), PATIENCE_S, "all is settled")
    for consumer in consumers:
        consumer.stop()
    rig.assert_integrity()
    return rig.audit(show=100_000)


def is_settled(rig: Rig, *consumers: Process) -> bool:
    """Tell whether the group has read and acknowledged everything."""
    assert [one.exit_code for one in consumers] == [None] * len(consumers)
    groups: Any = rig.client.xinfo_groups(KEYS.stream)
    newest = rig.client.xinfo_stream(KEYS.stream)["last-generated-id"]
    return bool(groups) and groups[0]["last-delivered-id"] == newest and groups[0]["pending"] == 0


def assert_whole(rig: Rig, result: Audit) -> None:
    """See that nothing is missing, and that each event that is stored is stored once."""
    total = result.total
    assert (total.missing, total.pending, total.undelivered) == (0, 0, 0), result
    assert total.stored == len(rig.stored())
    assert total.published > 0


def test_connections_reset_in_the_middle_of_a_reply_cost_nothing(rig: Rig, proxy: Proxy) -> None:
    """Half a reply is none: what it was about is read, published or acknowledged again, and is there once."""
    consumers = [rig.consumer(f"consumer-{number}") for number in range(2)]
    source = producer(rig)
    rig.wait_for_rows(100)
    with proxy.in_weather(Weather(resets=0.1)):
        eventually(lambda: proxy.resets >= 40, PATIENCE_S, "40 resets in the middle of replies")
    assert_whole(rig, settle(rig, source, *consumers))
    assert source.lines("redis_unavailable")
    assert any(one.lines("redis_unavailable") for one in consumers)


def test_replies_that_are_lost_cost_nothing(rig: Rig, proxy: Proxy) -> None:
    """The server has done what it was asked, and nobody hears of it: nothing is lost, and nothing doubled."""
    consumers = [rig.consumer(f"consumer-{number}", REDIS_TIMEOUT_S="0.5") for number in range(2)]
    source = producer(rig, REDIS_TIMEOUT_S="0.5")
    rig.wait_for_rows(100)
    with proxy.in_weather(Weather(losses=0.1)):
        eventually(lambda: proxy.losses >= 15, PATIENCE_S, "15 lost replies")
    assert_whole(rig, settle(rig, source, *consumers))


@pytest.mark.parametrize(
    "weather",
    [
        Weather(piece_bytes=7),
        pytest.param(Weather(pause_s=0.05), marks=pytest.mark.storm),
        pytest.param(Weather(piece_bytes=500, pause_s=0.01), marks=pytest.mark.storm),
    ],
)
def test_a_slow_network_costs_time_and_nothing_else(rig: Rig, proxy: Proxy, weather: Weather) -> None:
    """Seven bytes at a time, 50 ms each way, or 50 kB a second: all arrives, and nobody is called away."""
    publisher = rig.publisher()
    with proxy.in_weather(weather):
        consumer = rig.consumer(BATCH_SIZE="50")
        publisher.mix(200).send()
        rig.drain(consumer)
        consumer.stop()
    rig.assert_complete()
    assert consumer.lines("redis_unavailable") == []


def test_connections_that_carry_nothing_are_noticed_and_left(rig: Rig, proxy: Proxy) -> None:
    """Half open: nothing is closed and nothing comes. Unready within the timeout; then all goes on."""
    consumer = rig.consumer(CONSUMER_METRICS_PORT=str(free_port()))
    source = producer(rig)
    rig.wait_for_rows(100)
    for _ in range(2):
        before = rig.count()
        with proxy.in_weather(Weather(is_open=False)):
            assert consumer.is_unready("does not answer")
            assert consumer.probe("/livez")[0] == 200
            proxy.cut()  # what a firewall that forgot them does, in the end
        rig.wait_for_rows(before + 100)
        assert consumer.is_ready()
    assert_whole(rig, settle(rig, source, consumer))


def test_writes_that_a_failover_has_lost_are_named(rig: Rig, proxy: Proxy) -> None:
    """A replica that lacks the last writes takes over behind the same address: all goes on, once.

    What was stored and is now unknown to the server is told; what was lost before it was stored is named.
    """
    replica = LocalServer(rig.server.binary, rig.folder / "replica", name="replica")
    replica.start()
    try:
        _fail_over(rig, proxy, replica)
    finally:
        replica.kill()


def _fail_over(rig: Rig, proxy: Proxy, replica: LocalServer) -> None:
    replica.client().replicaof(rig.server.host, str(rig.server.port))
    consumer = rig.consumer("consumer-1")
    source = producer(rig)
    rig.wait_for_rows(200)
    eventually(lambda: replica.client().info("replication")["master_link_status"] == "up", 20, "it follows")
    eventually(lambda: replica.client().xlen(KEYS.stream) or rig.count() > 400, 20, "it has the stream")
    replica.client().replicaof("NO", "ONE")
    # From here on the replica lacks what the master takes: some is stored, some is lost unread.
    rig.wait_for_rows(rig.count() + 300)
    consumer.signal(signal.SIGSTOP)
    (name,) = cast("set[bytes]", rig.client.smembers(KEYS.runs))
    run = name.decode()
    seen = int(rig.client.hget(KEYS.run(run), "last") or 0)
    eventually(lambda: int(rig.client.hget(KEYS.run(run), "last") or 0) > seen + 100, PATIENCE_S, "some more")
    stored = set(rig.stored())
    lost_after = int(replica.client().hget(KEYS.run(run), "last") or 0)
    rig.client = replica.client()
    master, rig.server = rig.server, replica
    proxy.lead_to(replica)
    consumer.signal(signal.SIGCONT)
    source.says("redis_lost_writes")
    rig.wait_for_rows(len(stored) + 200)
    result = settle(rig, source, consumer)
    master.kill()
    (audited,) = result.runs
    assert stored <= set(rig.stored()), "a stored row is gone"
    assert result.total.missing >= 100 - RATE // 10
    # Named: each of them above what the replica had, none of them stored.
    numbers = [int(name.strip("*-")[-9:], 16) for name in audited.missing]
    assert len(numbers) == result.total.missing
    assert min(numbers) > lost_after
    rows = {int(one[27:], 16) for one in rig.stored()}
    assert rows.isdisjoint(numbers)
    assert result.total.stored == len(rows)


def test_an_older_snapshot_that_is_restored_doubles_nothing(rig: Rig) -> None:
    """An old backup: it is read again as far as it goes, no row is twice there, and it is told."""
    consumer = rig.consumer()
    source = producer(rig)
    rig.wait_for_rows(200)
    backup, folder = rig.folder / "backup", rig.server.folder
    rig.server.kill()
    shutil.copytree(folder, backup)
    rig.server.start()
    rig.wait_for_rows(rig.count() + 300)
    rig.server.kill()
    stored = rig.stored()
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)
    rig.server.start()
    source.says("redis_lost_writes")
    rig.wait_for_rows(len(stored) + 100)
    result = settle(rig, source, consumer)
    after = rig.stored()
    assert {name: after[name] for name in stored} == stored
    # All that was not stored when the server was killed is named, and nothing else.
    (audited,) = result.runs
    numbers = {int(name.strip("*-")[-9:], 16) for name in audited.missing}
    assert len(numbers) == result.total.missing
    assert numbers.isdisjoint(int(one[27:], 16) for one in after)
    assert result.total.stored == len(after)


@pytest.mark.storm
def test_one_who_is_called_away_by_another_server_comes_back(rig: Rig, proxy: Proxy) -> None:
    """An address that leads to an empty server for a while and then back: what it has is read, once."""
    other = LocalServer(rig.server.binary, rig.folder / "other", name="other")
    other.start()
    try:
        publisher = rig.publisher()
        consumer = rig.consumer()
        publisher.mix(200).send()
        rig.drain(consumer)
        proxy.lead_to(other)
        # MKSTREAM: where there was nothing there is a group now.
        eventually(lambda: other.client().exists(KEYS.stream), PATIENCE_S, "it asks the other server")
        proxy.lead_to(rig.server)
        publisher.mix(200).send()
        rig.drain(consumer)
        consumer.stop()
        rig.assert_complete()
    finally:
        other.kill()
