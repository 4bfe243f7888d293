"""`telemetry audit` with --wait and --record, on real servers."""

import json
import logging
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from forwarder import Forwarder
from psycopg.conninfo import conninfo_to_dict
from samples import RUN, event_fields
from servers import LocalServer, Server, eventually, free_port, local_binary
from telemetry_cli import telemetry

from services.brokers.redis.consuming.observer import Observer
from services.brokers.redis.keys import StreamKeys
from services.runtime.clock import SystemClock

KEYS = StreamKeys()


def _at(server: Server | LocalServer) -> dict[str, str]:
    return {"REDIS_HOST": server.host, "REDIS_PORT": str(server.port)}


def _deliver(client: Any, entries: int) -> list[bytes]:
    client.sadd(KEYS.runs, RUN)
    client.hset(KEYS.run(RUN), mapping={"last": 0, "source": "test"})
    for number in range(1, entries + 1):
        client.execute_command("XADD", KEYS.stream, "*", *event_fields(number))
    client.xgroup_create(KEYS.stream, KEYS.group, "0")
    reply: Any = client.xreadgroup(KEYS.group, "consumer-1", {KEYS.stream: ">"})
    return [entry_id for entry_id, _ in reply[0][1]]


def test_what_is_never_settled_ends_the_waiting_with_an_error(server: Server) -> None:
    """The audit is shown all the same, and a line says what it waited for."""
    with closing(server.client()) as client:
        _deliver(client, 2)
    result = telemetry("audit", "--wait", "0.1", "--json", **_at(server))
    assert result.exit_code == 1
    assert json.loads(result.stdout)["missing"] == 0
    assert "after 0.1 s, events that were published before it are still not settled" in result.stderr


@pytest.mark.parametrize("more", [0, 1])
def test_the_audit_comes_when_what_was_published_before_is_acknowledged(server: Server, more: int) -> None:
    """What is published meanwhile is not waited for."""
    with closing(server.client()) as client:
        entries = _deliver(client, 3)
        client.config_resetstat()

        def settle() -> None:
            eventually(lambda: "cmdstat_xinfo|groups" in client.info("commandstats"), 30, "the audit waits")
            for number in range(more):
                another = f"5f0b9c1e-8f0a-4d8b-9a1e-0c4f4a1b2c3{number}"
                client.execute_command("XADD", KEYS.stream, "*", *event_fields(event_id=another))
            client.xack(KEYS.stream, KEYS.group, *entries)

        later = threading.Thread(target=settle)
        later.start()
        result = telemetry("audit", "--wait", "30", "--json", **_at(server))
        later.join()
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("verb", ["audit", "status"])
def test_a_server_that_does_not_answer_yet_is_waited_for(verb: str, tmp_path: Path) -> None:
    """As in a new pod, which network policies let through a moment after it has started."""
    server = LocalServer(local_binary(), tmp_path, "--appendonly", "yes")
    with ExitStack() as stack:
        stack.callback(server.kill)
        server.start()
        with closing(server.client()) as client:
            client.xack(KEYS.stream, KEYS.group, *_deliver(client, 1))
        server.kill()
        assert telemetry(verb, "--wait", "0.1", **_at(server)).exit_code == 2
        later = threading.Timer(0.3, server.start)
        later.start()
        result = telemetry(verb, "--wait", "30", "--json", **_at(server))
        later.join()
    assert result.exit_code == 0, result.output
    assert "error" not in result.stdout


class _Place(NamedTuple):
    host: str
    port: int


@pytest.mark.parametrize("verb", ["audit", "status"])
def test_a_database_that_does_not_answer_yet_is_waited_for(
    server: Server, verb: str, postgres_url: str
) -> None:
    """That it has no tables yet is an answer."""
    where = conninfo_to_dict(postgres_url)
    there = _Place(str(where["host"]), int(where["port"] or 0))
    with (
        closing(Forwarder(_Place("127.0.0.1", free_port()))) as forwarder,
        closing(server.client()) as client,
    ):
        client.xack(KEYS.stream, KEYS.group, *_deliver(client, 1))
        user, password, database = where.get("user", ""), where.get("password", ""), where["dbname"]
        url = f"postgresql://{user}:{password}@{forwarder.host}:{forwarder.port}/{database}"
        settings = {"DATABASE_URL": url, **_at(server)}
        assert telemetry(verb, "--wait", "0.1", **settings).exit_code == 2
        later = threading.Timer(0.3, lambda: forwarder.lead_to(there))
        later.start()
        result = telemetry(verb, "--wait", "30", "--json", **settings)
        later.join()
    assert result.exit_code == 0, result.output


def test_a_recorded_audit_is_exported_by_the_observing_replica(server: Server) -> None:
    """What is missing, out of how many, and when: the last result stays until the next one."""
    observer = Observer(server.client(), KEYS, "consumer-1", SystemClock(), logging.getLogger("test.audit"))
    names = ("missing_events", "published_events", "last_run_timestamp_seconds")

    def told() -> list[float | None]:
        observer.look()
        return [observer.figures().get(f"telemetry_audit_{name}") for name in names]

    with closing(server.client()) as client, closing(observer):
        client.sadd(KEYS.runs, "run1")
        client.hset(KEYS.run("run1"), mapping={"last": 3, "source": "test"})
        assert telemetry("audit", **_at(server)).exit_code == 1
        assert told() == [None, None, None]
        before = time.time()
        assert telemetry("audit", "--record", "--wait", "0", **_at(server)).exit_code == 1
        missing, published, ended_at = told()
        assert (missing, published) == (3, 3)
        assert ended_at is not None
        assert before - 1 < ended_at <= time.time()
        client.hset(KEYS.run("run1"), "last", 0)
        assert telemetry("audit", "--record", **_at(server)).exit_code == 0
        assert told()[:2] == [0, 0]
        assert client.ttl(KEYS.audit) == -1
