"""Everything that can happen, at random and at once, for STORM_S seconds: nothing is lost, nothing doubled.

    make storm STORM_S=600 ARGS="-k everything"

Each storm prints its seed; STORM_SEED repeats one as far as processes and their timing let it.
"""

import contextlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
import redis
from acceptance.publisher import KEYS
from acceptance.rig import CROWDED, Process, Rig
from proxy import Proxy, Weather
from servers import eventually

pytestmark = pytest.mark.storm

STORM_S: Final = float(os.environ.get("STORM_S", "20"))
SEED: Final = int(os.environ.get("STORM_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
MOST_CONSUMERS: Final = 8
CALM_S: Final = 120.0
"""How long all may take to settle when it is over."""


class Storm:
    """A producer and some consumers behind a network, and what befalls them."""

    def __init__(self, rig: Rig, proxy: Proxy, chance: random.Random) -> None:
        self.rig = rig
        self.proxy = proxy
        self.chance = chance
        self.done: dict[str, int] = {}
        self._started = 0
        self._frozen: list[Process] = []
        self.producer = self._start_producer()
        self.consumers = [self._start_consumer()]
        self._faults: list[Callable[[], None]] = [
            self.kill_a_consumer, self.stop_a_consumer, self.freeze_a_consumer, self.scale,
            self.kill_the_producer, self.kill_the_server, self.freeze_the_server, self.fill_the_server,
            self.cut_connections,
            self.have_weather, self.lock_the_database, self.read_for_long, self.destroy_the_group,
            self.forget_scripts,
        ]  # fmt: skip

    def blow(self) -> None:
        """Do one of it."""
        self.thaw()
        fault = self.chance.choice(self._faults)
        self.done[fault.__name__] = self.done.get(fault.__name__, 0) + 1
        with contextlib.suppress(redis.ConnectionError):  # ours was among those that were cut
            fault()
        if self.chance.random() < 0.1 and self.rig.count():
            self.rig.assert_integrity()

    def pause(self, most_s: float) -> None:
        """Let it work on for a moment."""
        time.sleep(self.chance.uniform(0.0, most_s))

    def thaw(self) -> None:
        """Let those go on that were frozen."""
        while self._frozen:
            self._frozen.pop().signal(signal.SIGCONT)

    def kill_a_consumer(self) -> None:
        victim = self.chance.randrange(len(self.consumers))
        self.consumers[victim].kill()
        self.consumers[victim] = self._start_consumer()

    def stop_a_consumer(self) -> None:
        victim = self.chance.randrange(len(self.consumers))
        self.consumers[victim].stop()
        self.consumers[victim] = self._start_consumer()

    def freeze_a_consumer(self) -> None:
        self._frozen.append(self.chance.choice(self.consumers))
        self._frozen[-1].signal(signal.SIGSTOP)
        self.pause(4.0)

    def scale(self) -> None:
        wanted = self.chance.choice([1, 2, 4, MOST_CONSUMERS])
        while len(self.consumers) < wanted:
            self.consumers.append(self._start_consumer())
        while len(self.consumers) > wanted:
            self.consumers.pop().stop()

    def kill_the_producer(self) -> None:
        self.producer.kill()
        self.producer = self._start_producer()

    def kill_the_server(self) -> None:
        self.rig.server.kill()
        self.pause(2.0)
        self.rig.server.start()

    def freeze_the_server(self) -> None:
        self.rig.server.pause()
        self.pause(3.0)
        self.rig.server.resume()

    def fill_the_server(self) -> None:
        self.rig.client.config_set("maxmemory", 1)
        self.pause(2.0)
        self.rig.client.config_set("maxmemory", 0)

    def cut_connections(self) -> None:
        for _ in range(5):
            self.rig.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            self.pause(0.2)

    def have_weather(self) -> None:
        kinds = (
            Weather(resets=0.1),
            Weather(losses=0.05),
            Weather(piece_bytes=100, pause_s=0.001),
            Weather(is_open=False),
        )
        weather = self.chance.choice(kinds)
        with self.proxy.in_weather(weather):
            self.pause(3.0)
        if not weather.is_open:
            self.proxy.cut()

    def lock_the_database(self) -> None:
        with contextlib.suppress(sqlite3.OperationalError), self._opened() as connection:
            connection.execute("BEGIN IMMEDIATE")
            self.pause(2.0)
            connection.execute("ROLLBACK")

    def read_for_long(self) -> None:
        with contextlib.suppress(sqlite3.OperationalError), self._opened() as connection:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM telemetry_events").fetchone()
            self.pause(3.0)

    def destroy_the_group(self) -> None:
        # Nothing is trimmed before all is acknowledged, so all that was not is read again.
        self.rig.client.xgroup_destroy(KEYS.stream, KEYS.group)

    def forget_scripts(self) -> None:
        self.rig.client.script_flush()

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.rig.settings.database, isolation_level=None)) as one:
            yield one

    def _start_consumer(self) -> Process:
        self._started += 1
        size = self.chance.choice(["10", "50", "200"])
        return self.rig.consumer(
            f"consumer-{self._started}", **CROWDED, BATCH_SIZE=size, MAX_DELIVERIES="1000000"
        )

    def _start_producer(self) -> Process:
        command = [*self.rig.python, "-m", "services.producer", "--rate", "500", "--duration", "0"]
        odd = {"INVALID_RATIO": "0.02", "DUPLICATE_RATIO": "0.02", "PRODUCER_METRICS_PORT": "0"}
        return self.rig.start("producer", command, {**odd, "BATCH_SIZE": "50"})


@pytest.fixture
def proxy(rig: Rig) -> Iterator[Proxy]:
    """Give a network that all processes of the rig go through."""
    one = Proxy(rig.server, SEED)
    rig.environment["REDIS_PORT"] = str(one.port)
    yield one
    one.close()


def settled(rig: Rig) -> bool:
    """Tell whether the group has read and acknowledged everything."""
    groups: Any = rig.client.xinfo_groups(KEYS.stream)
    newest = rig.client.xinfo_stream(KEYS.stream)["last-generated-id"]
    return bool(groups) and groups[0]["last-delivered-id"] == newest and groups[0]["pending"] == 0


def test_a_storm_of_everything_loses_nothing(rig: Rig, proxy: Proxy) -> None:
    """Consumers, producers, server, network and database are killed, frozen, cut, filled and locked."""
    print(f"seed {SEED}")
    storm = Storm(rig, proxy, random.Random(SEED))
    rig.client.config_set("maxmemory-policy", "noeviction")
    rig.wait_for_rows(1)
    ends = time.monotonic() + STORM_S
    while time.monotonic() < ends:
        storm.blow()
        storm.pause(1.0)
    storm.thaw()
    storm.producer.says("run_opened")  # before that, a signal ends it as it ends any program
    storm.producer.signal(signal.SIGTERM)
    assert storm.producer.wait() == 0, storm.producer.text[-2000:]
    eventually(lambda: settled(rig), CALM_S, "all is settled")
    for one in storm.consumers:
        one.stop()
    result = rig.audit()
    print(f"seed {SEED}: {storm.done}, {result.line()}, {len(result.runs)} runs, {proxy.resets} resets")
    total = result.total
    assert (total.missing, total.pending, total.undelivered) == (0, 0, 0), result
    assert total.stored == len(rig.stored()) > 0
    reasons = {letter.reason for letters in rig.letters().values() for letter in letters}
    assert reasons.isdisjoint({"deliveries_exhausted", "retries_exhausted", "refused_by_sink"}), reasons
    rig.assert_integrity()


def test_consumers_from_one_to_eight_and_back_lose_nothing(rig: Rig) -> None:
    """Scaled up and down under load, again and again: by SIGTERM, as Kubernetes does it."""
    publisher = rig.publisher(SEED)
    consumers = [rig.consumer("consumer-0", **CROWDED)]
    ends = time.monotonic() + STORM_S
    while True:
        consumers += [rig.consumer(f"consumer-{number}", **CROWDED) for number in range(1, MOST_CONSUMERS)]
        for one in consumers:
            one.says("consumer_started")
        before = rig.count()
        publisher.mix(3000).send()
        rig.wait_for_rows(before + 100)
        while len(consumers) > 1:
            consumers.pop().stop()
            rig.assert_law()
        if time.monotonic() > ends:
            break
    rig.drain(*consumers, timeout_s=CALM_S)
    consumers.pop().stop()
    rig.assert_complete()
    assert all(letter.reason != "deliveries_exhausted" for one in rig.letters().values() for letter in one)


@pytest.mark.parametrize(
    "number", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT, signal.SIGBUS]
)
def test_whatever_signal_ends_a_consumer_its_successor_goes_on(rig: Rig, number: signal.Signals) -> None:
    """A terminal that is closed, Ctrl-C, one that nobody handles: as with any other kill."""
    rig.publisher(seed=6).mix(300).send()
    doomed = rig.doomed_consumer("after_commit", 2, "consumer-1", number=number.name)
    doomed.wait()
    rig.assert_law()
    successor = rig.consumer("consumer-1")
    rig.drain(successor)
    successor.stop()
    rig.assert_complete()
