"""One replica observes the group: the lease, what is seen, and what happens without the rights for it."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from consumers import KEYS, Consumer, publish
from fakes import FakeClock
from servers import LocalServer, Server, eventually, new_client

from services.brokers.redis.consuming.backlog import read_backlog
from services.brokers.redis.consuming.observer import Observer
from services.runtime.clock import Clock, SystemClock
from services.runtime.logs.gate import build_logger

LEASE_S = 0.4
PATIENCE_S = 10.0
OF_THE_GROUP = {
    "telemetry_stream_length_entries",
    "telemetry_stream_length_events",
    "telemetry_stream_added_entries_total",
    "telemetry_stream_trimmed_unread",
    "telemetry_stream_id_ahead_seconds",
    "telemetry_group_read_entries_total",
    "telemetry_group_lag_entries",
    "telemetry_group_lag_known",
    "telemetry_group_pending_entries",
    "telemetry_group_oldest_pending_seconds",
    "telemetry_group_oldest_unread_seconds",
    "telemetry_group_consumers",
}
OF_THE_SERVER = {"telemetry_redis_memory_used_bytes", "telemetry_redis_memory_max_bytes"}


class Replica:
    """An observer, and what it logs."""

    def __init__(
        self, server: Server | LocalServer, name: str, clock: Clock | None = None, **login: Any
    ) -> None:
        self.clock = clock or SystemClock()
        self.log = io.StringIO()
        logger = build_logger(name, "INFO", self.log)
        self.observer = Observer(new_client(server, **login), KEYS, name, self.clock, logger, LEASE_S)

    def observes(self) -> bool:
        """Ask for the lease; tell whether there are figures then."""
        self.observer.look()
        return self.observer.figures().get("telemetry_group_observer") == 1

    def said(self) -> list[dict[str, Any]]:
        """Read its log."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


@pytest.fixture
def replicas(server: Server) -> Iterator[list[Replica]]:
    """Give three replicas that could observe."""
    found = [Replica(server, f"consumer-{number}") for number in range(3)]
    yield found
    for one in found:
        one.observer.close()


def test_one_replica_observes_and_goes_on_observing(replicas: list[Replica]) -> None:
    """Who has the lease keeps it at each look, and nobody else has a figure."""
    first, *others = replicas
    assert first.observes()
    for _ in range(3):
        assert [one.observes() for one in others] == [False, False]
        assert first.observes()
    assert [one.observer.figures() for one in others] == [{}, {}]


def test_a_replica_that_ends_hands_over_at_once(replicas: list[Replica]) -> None:
    """It gives the lease back, and exports nothing from then on."""
    first, second, third = replicas
    assert first.observes()
    first.observer.close()
    assert first.observer.figures() == {}
    eventually(second.observes, LEASE_S / 2, "the next look has the lease")
    third.observer.close()  # never had it, and takes it from nobody
    assert second.observes()


def test_a_replica_that_was_killed_is_followed_when_its_lease_ends(replicas: list[Replica]) -> None:
    """Nobody gives the lease back, so it expires; the dead one's name does not help its successor."""
    first, second, _ = replicas
    assert first.observes()
    assert not second.observes()
    eventually(second.observes, PATIENCE_S, "the lease is another's")
    assert not first.observes()


def test_a_replica_that_was_frozen_tells_nothing_old(server: Server) -> None:
    """Its own clock ends its figures when the lease may be another's, though it has not looked since."""
    clock = FakeClock()
    frozen = Replica(server, "consumer-1", clock)
    assert frozen.observes()
    clock.sleep(LEASE_S * 0.9)
    assert frozen.observer.figures()
    clock.sleep(LEASE_S * 0.2)
    assert frozen.observer.figures() == {}
    frozen.observer.close()


def test_the_figures_are_those_of_the_group(server: Server) -> None:
    """Fifteen published, nine delivered, three of them acknowledged."""
    clock = FakeClock()
    replica = Replica(server, "consumer-1", clock)
    with closing(server.client()) as client, closing(Consumer(server)) as source:
        assert replica.observes()
        assert set(replica.observer.figures()) == {"telemetry_group_observer", *OF_THE_SERVER}
        published = publish(client, 9)  # less than a batch, so none is asked for ahead
        source.ack(source.read()[:3])
        source.drain()
        publish(client, 6, first=10)
        client.set(KEYS.limit, 1000)
        clock.started_at = int(published[-1].partition(b"-")[0]) / 1000 + 60
        assert replica.observes()
        figures = replica.observer.figures()
        memory: Any = client.info("memory")
    assert set(figures) == {
        "telemetry_group_observer", "telemetry_stream_length_limit_events", *OF_THE_GROUP, *OF_THE_SERVER,
    }  # fmt: skip
    wanted = {
        "telemetry_stream_length_entries": 15,
        "telemetry_stream_length_events": 15,
        "telemetry_stream_length_limit_events": 1000,
        "telemetry_stream_added_entries_total": 15,
        "telemetry_stream_trimmed_unread": 0,
        "telemetry_stream_id_ahead_seconds": 0,
        "telemetry_group_read_entries_total": 9,
        "telemetry_group_lag_entries": 6,
        "telemetry_group_lag_known": 1,
        "telemetry_group_pending_entries": 6,
        "telemetry_group_consumers": 1,
        "telemetry_redis_memory_max_bytes": memory["maxmemory"],
    }
    assert {name: figures[name] for name in wanted} == wanted
    assert figures["telemetry_redis_memory_used_bytes"] > 100_000
    for age in ("telemetry_group_oldest_pending_seconds", "telemetry_group_oldest_unread_seconds"):
        assert 59 < figures[age] < 90
    replica.observer.close()


def test_what_was_trimmed_unread_is_seen_until_the_group_is_past_it(server: Server) -> None:
    """Acknowledged entries may go; unread ones raise the gauge."""
    replica = Replica(server, "consumer-1")

    def is_trimmed() -> float:
        assert replica.observes()
        return replica.observer.figures()["telemetry_stream_trimmed_unread"]

    with closing(server.client()) as client, closing(Consumer(server)) as source:
        source.settle_all()
        assert is_trimmed() == 0
        publish(client, 20)
        assert is_trimmed() == 0
        client.xtrim(KEYS.stream, maxlen=15, approximate=False)
        assert is_trimmed() == 1
        source.settle_all()
        client.xtrim(KEYS.stream, maxlen=0, approximate=False)
        assert is_trimmed() == 0
        ids = publish(client, 5)
        assert is_trimmed() == 0
        client.xdel(KEYS.stream, ids[3])
        assert is_trimmed() == 1
        source.settle_all()
        assert is_trimmed() == 0
        publish(client, 5)
        client.xtrim(KEYS.stream, maxlen=0, approximate=False)
        assert is_trimmed() == 1
    replica.observer.close()


def test_the_recorded_audit_is_told(server: Server) -> None:
    """Absent before the first; something else in its place is none."""
    replica = Replica(server, "consumer-1")
    names = ("missing_events", "published_events", "last_run_timestamp_seconds")
    with closing(server.client()) as client:
        assert replica.observes()
        assert not [name for name in replica.observer.figures() if "audit" in name]
        client.hset(KEYS.audit, mapping={"missing": 2, "published": 10, "ended_at": "1700000000.250"})
        assert replica.observes()
        figures = replica.observer.figures()
        assert [figures[f"telemetry_audit_{name}"] for name in names] == [2, 10, 1_700_000_000.25]
        client.hset(KEYS.audit, mapping={"missing": "many"})
        assert replica.observes()
        assert "telemetry_audit_missing_events" not in replica.observer.figures()
    replica.observer.close()


@pytest.mark.parametrize("name", [b"\xff\xfe", b"\x1b]0;x\x07", b"x" * 100_000])
def test_a_name_that_is_no_text_ends_no_observer(server: Server, name: bytes) -> None:
    """Any client's XREADGROUP makes a consumer of any name; it is counted as the others are."""
    replica = Replica(server, "consumer-1")
    with closing(server.client()) as client:
        publish(client, 3)
        client.xgroup_create(KEYS.stream, KEYS.group, "0")
        client.execute_command("XGROUP", "CREATECONSUMER", KEYS.stream, KEYS.group, name)
        assert replica.observes()
        assert replica.observer.figures()["telemetry_group_consumers"] == 1
    assert replica.said() == []
    replica.observer.close()


def test_records_of_the_wrong_type_cost_their_own_figures_alone(server: Server) -> None:
    """The others are told; what can't be read is said once, and read again when it is mended."""
    replica = Replica(server, "consumer-1")
    with closing(server.client()) as client:
        publish(client, 3)
        client.xgroup_create(KEYS.stream, KEYS.group, "0")
        client.hset(KEYS.limit, "a", "b")
        client.set(KEYS.audit, "x")
        for _ in range(2):
            assert replica.observes()
            assert replica.observer.figures()["telemetry_group_lag_entries"] == 3
        assert [(one["message"], one["part"]) for one in replica.said()] == [
            ("group_unreadable", "limit"),
            ("group_unreadable", "audit"),
        ]
        client.delete(KEYS.limit, KEYS.audit)
        client.set(KEYS.limit, 10)
        assert replica.observes()
        assert replica.observer.figures()["telemetry_stream_length_limit_events"] == 10
    replica.observer.close()


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-5", "1e999", "many", "1" * 5000])
def test_numbers_that_are_none_are_left_out(server: Server, value: str) -> None:
    """Whoever may write to the server may write anything into these records."""
    replica = Replica(server, "consumer-1")
    with closing(server.client()) as client:
        client.set(KEYS.limit, value)
        client.hset(KEYS.audit, mapping={"missing": value, "published": 10, "ended_at": value})
        assert replica.observes()
        figures = replica.observer.figures()
    assert "telemetry_stream_length_limit_events" not in figures
    assert [name for name in figures if "audit" in name] == ["telemetry_audit_published_events"]
    replica.observer.close()


@pytest.mark.parametrize("error", [KeyError("pending"), ValueError("no number"), AttributeError("decode")])
def test_an_observer_that_fails_once_looks_again(
    server: Server, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever the reading raises: the thread lives on, the error is told once with its traceback."""
    monkeypatch.setattr("services.brokers.redis.consuming.observer.LOOK_S", 0.02)
    looks = iter(range(1000))

    def fails_twice(*arguments: Any, **more: Any) -> Any:
        if next(looks) < 2:
            raise error
        return read_backlog(*arguments, **more)

    monkeypatch.setattr("services.brokers.redis.consuming.observer.read_backlog", fails_twice)
    replica = Replica(server, "consumer-1")
    with closing(server.client()) as client:
        publish(client, 3)
        client.xgroup_create(KEYS.stream, KEYS.group, "0")
        replica.observer.start()
        eventually(
            lambda: "telemetry_group_lag_entries" in replica.observer.figures(), PATIENCE_S, "another look"
        )
    (said,) = replica.said()
    assert (said["message"], said["part"], said["kind"]) == (
        "group_unreadable",
        "group",
        type(error).__name__,
    )
    assert "fails_twice" in said["exc_info"]
    replica.observer.close()


def test_a_full_server_is_observed(own_server: Callable[..., LocalServer]) -> None:
    """At maxmemory writes are refused, and the lease is kept all the same: that is when one looks."""
    server = own_server("--maxmemory-policy", "noeviction")
    replica = Replica(server, "consumer-1")
    with closing(server.client()) as client:
        publish(client, 5)
        client.config_set("maxmemory", 1)
        assert replica.observes()
        assert replica.observes()
        assert replica.observer.figures()["telemetry_redis_memory_max_bytes"] == 1
        client.config_set("maxmemory", 0)
    replica.observer.close()


PASSWORD = "secret"  # noqa: S105
RIGHTS = ["on", f">{PASSWORD}", "-@all", "+ping", "+hello", "+auth", "+select", "+client|setname"]
LEASE_RIGHTS = [f"~{KEYS.observer}", "+eval", "+evalsha", "+script|load", "+get", "+set"]


@pytest.mark.parametrize(
    ("rights", "lacking"),
    [
        ([], ["EVALSHA, EVAL, GET and SET on {telemetry_stream}:observer"]),
        (
            [
                *LEASE_RIGHTS,
                f"~{KEYS.stream}",
                "+multi",
                "+exec",
                "+xinfo",
                "+xpending",
                "+xrange",
                "+hgetall",
            ],
            ["INFO", f"GET on {KEYS.limit}", f"HGETALL on {KEYS.audit}"],
        ),
        (
            [*LEASE_RIGHTS, f"~{KEYS.limit}", f"~{KEYS.audit}", "+hgetall", "+info"],
            [f"XINFO, XPENDING and XRANGE on {KEYS.stream}"],
        ),
    ],
)
def test_a_right_that_is_missing_is_named_once(server: Server, rights: list[str], lacking: list[str]) -> None:
    """Its figures are left out, the others are there, and nothing else goes wrong."""
    with closing(server.client()) as client, closing(Consumer(server)) as source:
        publish(client, 5)
        source.settle_all()
        client.execute_command("ACL", "SETUSER", "poor", "reset", *RIGHTS, *rights)
        try:
            replica = Replica(server, "consumer-1", username="poor", password=PASSWORD)
            for _ in range(3):
                assert replica.observes() == bool(rights)
            figures = set(replica.observer.figures())
            replica.observer.close()
        finally:
            client.execute_command("ACL", "DELUSER", "poor")
    said = replica.said()
    assert [(line["message"], line["right"]) for line in said] == [("right_lacking", one) for one in lacking]
    assert bool(figures & OF_THE_SERVER) == ("+info" in rights)
    assert bool(figures & OF_THE_GROUP) == ("+xinfo" in rights)


def test_a_server_that_is_away_costs_the_figures_when_the_lease_ends(
    own_server: Callable[..., LocalServer],
) -> None:
    """A look that fails says so once, keeps what was seen, and tells nothing when that is too old."""
    server, clock = own_server(), FakeClock()
    replica = Replica(server, "consumer-1", clock)
    assert replica.observes()
    server.kill()
    for _ in range(3):
        assert replica.observes()
    clock.sleep(LEASE_S)
    assert not replica.observes()
    server.start()
    assert replica.observes()
    assert [line["message"] for line in replica.said()] == ["group_not_observed"]
    replica.observer.close()


def test_it_looks_by_itself_until_it_is_closed(server: Server) -> None:
    """In a thread of its own, which the end waits for."""
    replica = Replica(server, "consumer-1")
    replica.observer.start()
    eventually(replica.observer.figures, PATIENCE_S, "a first look")
    replica.observer.close()
    assert replica.observer.figures() == {}
    assert not replica.observer._thread.is_alive()
    with closing(server.client()) as client:
        eventually(lambda: client.get(KEYS.observer) is None, PATIENCE_S, "the lease is given back")
