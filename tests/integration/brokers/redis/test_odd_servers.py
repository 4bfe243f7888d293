"""Servers as they are out there: without some commands, full, impatient, a sentinel, a node, a socket."""

import io
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
import redis
from consumers import KEYS, Consumer, ids, publish
from integration.producer.parts import Bench
from samples import dead
from servers import (
    Absent,
    LocalServer,
    Server,
    eventually,
    form_cluster,
    free_port,
    local_binary,
    system_redis,
)

from services.brokers.redis.consuming.backlog import read_backlog
from services.brokers.redis.consuming.dead_letters import DeadLetterStream
from services.brokers.redis.consuming.entries import LAST_ID
from services.brokers.redis.consuming.observer import Observer
from services.brokers.redis.consuming.upkeep import Upkeep
from services.brokers.redis.keys import slot_of
from services.brokers.redis.server.connection import connect, explain, is_passing
from services.contract.errors import (
    BrokerRefuses,
    BrokerUnavailable,
    DeadLettersUnavailable,
    SourceUnavailable,
)
from services.runtime.clock import SystemClock
from services.runtime.logs.gate import build_logger
from services.runtime.settings import ConsumerSettings
from services.runtime.telemetry.metrics import Metrics

ROOT: Final = Path(__file__).resolve().parents[4]
LOGGER: Final = logging.getLogger("test.odd")
REMOVED: Final = ("CONFIG", "CLIENT", "INFO", "KEYS", "DEBUG", "MONITOR", "ACL", "SCRIPT")
"""What those remove who run servers for others."""

OwnServer = Callable[..., LocalServer]


@pytest.fixture
def old_server(tmp_path: Path) -> Iterator[OwnServer]:
    """Start redis-servers of this machine: the oldest version that we support, where it is Debian's."""
    started: list[LocalServer] = []

    def start(*options: str) -> LocalServer:
        try:
            one = LocalServer(system_redis(), tmp_path / f"old-{len(started)}", *options)
        except Absent as why:
            pytest.skip(str(why))
        started.append(one)
        one.start()
        return one

    yield start
    for one in started:
        one.kill()


def command(
    server: LocalServer, folder: Path, *module: str, **settings: str
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m MODULE ARGUMENTS` against a server."""
    environment = {
        "PATH": os.environ["PATH"],
        "REDIS_HOST": server.host,
        "REDIS_PORT": str(server.port),
        "DATA_DIR": str(folder / "data"),
        "PYTHONPATH": str(ROOT),
        "PRODUCER_METRICS_PORT": "0",
        "CONSUMER_METRICS_PORT": "0",
        "LOG_FORMAT": "json",
        **settings,
    }
    return subprocess.run(
        [sys.executable, "-m", *module],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def upkeep(client: redis.Redis, logger: logging.Logger = LOGGER) -> Upkeep:
    return Upkeep(client, KEYS, "consumer-1", 0.001, 3600.0, SystemClock(), Metrics("consumer"), logger)


def observed(client: redis.Redis, logger: logging.Logger = LOGGER) -> dict[str, float]:
    observer = Observer(client, KEYS, "consumer-1", SystemClock(), logger)
    observer.look()
    client.delete(KEYS.observer)
    return dict(observer.figures())


def test_a_server_without_some_commands_is_no_outage(old_server: OwnServer, tmp_path: Path) -> None:
    """It is trimmed by EVAL, observed without its memory, and `status` says what is not known."""
    server = old_server(*(word for name in REMOVED for word in ("--rename-command", name, "")))
    said = io.StringIO()
    logger = build_logger("odd", "INFO", said)
    with closing(server.client()) as client, closing(Consumer(server)) as source:
        publish(client, 20)
        source.settle_all()
        time.sleep(0.002)  # the upkeep is due
        upkeep(client, logger).run_due()
        assert client.xlen(KEYS.stream) == 20, "it is due from its start on"
        one = upkeep(client, logger)
        time.sleep(0.002)
        one.run_due()
        assert client.xlen(KEYS.stream) == 0
        figures = observed(client, logger)
    assert "telemetry_group_lag_entries" in figures
    assert "telemetry_redis_memory_used_bytes" not in figures
    lines = [json.loads(line) for line in said.getvalue().splitlines()]
    assert [(line["message"], line["part"]) for line in lines] == [("right_lacking", "memory")]
    status = command(server, tmp_path, "services.ops", "status")
    assert status.returncode == 0, status.stderr
    assert "of an unknown version (it gives us no INFO)" in status.stdout
    assert command(server, tmp_path, "services.ops", "audit").returncode in {0, 1}
    document = json.loads(command(server, tmp_path, "services.ops", "status", "--json").stdout)
    assert document["server"]["version"] is None
    assert document["stream"]["length"] == 0


def test_an_upkeep_that_is_refused_is_told_and_no_outage(own_server: OwnServer) -> None:
    """By an ACL: consuming goes on; an outage is raised as before."""
    server = own_server()
    said = io.StringIO()
    with closing(server.client()) as client:
        publish(client)
        client.execute_command("ACL", "SETUSER", "poor", "on", "nopass", "~*", "+@all", "-xtrim")
        client.xgroup_create(KEYS.stream, KEYS.group, "$")
        with closing(server.client(username="poor", password="x")) as poor:  # noqa: S106 - it has none
            one = upkeep(poor, build_logger("odd", "INFO", said))
            time.sleep(0.002)
            one.run_due()
    (line,) = (json.loads(text) for text in said.getvalue().splitlines())
    assert (line["message"], line["stream"]) == ("upkeep_refused", KEYS.stream)
    server.kill()
    time.sleep(0.002)
    with pytest.raises(BrokerUnavailable):
        upkeep_due(server)


def upkeep_due(server: LocalServer) -> None:
    with closing(server.client()) as client:
        one = upkeep(client)
        time.sleep(0.002)
        one.run_due()


def test_a_full_server_is_looked_at_and_audited(old_server: OwnServer, tmp_path: Path) -> None:
    """At maxmemory Redis 7.0 refuses MULTI, and `status`, `audit` and the figures are what one wants then."""
    server = old_server()
    with closing(server.client()) as client, closing(Consumer(server)) as source:
        publish(client, 20)
        source.read()
        client.config_set("maxmemory", 1)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("a", "b")
        backlog = read_backlog(client, KEYS)
        assert backlog is not None
        assert (backlog.length, backlog.pending) == (20, 20)  # a batch, and the next, asked for ahead
        figures = observed(client)
        assert figures["telemetry_group_pending_entries"] == 20
        assert figures["telemetry_redis_memory_max_bytes"] == 1
        for letters in ("file", "stream"):
            for arguments in ("status --json", "audit", "dlq list"):
                done = command(server, tmp_path, "services.ops", *arguments.split(), DEAD_LETTERS=letters)
                assert "used memory" not in done.stderr
                assert "Traceback" not in done.stderr
                assert "maxmemory" not in done.stdout
                if arguments == "status --json":
                    assert json.loads(done.stdout)["stream"]["length"] == 20
                if arguments == "audit":  # it has looked at all, and no producer has recorded these
                    assert "no producer run was ever recorded" in done.stderr
                else:
                    assert done.returncode == 0, done.stderr


def test_the_proof_of_a_full_server_is_shown_where_it_can_t_be_recorded(
    own_server: OwnServer, tmp_path: Path
) -> None:
    """The line with the numbers, and then that they are not kept."""
    server = own_server()
    done = command(server, tmp_path, "services.producer", "--duration", "0.5", "--rate", "100")
    assert done.returncode == 0, done.stdout
    with closing(server.client()) as client:
        client.config_set("maxmemory", 1)
        done = command(server, tmp_path, "services.ops", "audit", "--record")
        assert "audit: published=" in done.stdout
        assert "not recorded: Redis at" in done.stderr
        assert done.returncode == 1
        client.config_set("maxmemory", 0)
    done = command(server, tmp_path, "services.ops", "audit", "--record")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed_by", ["timeout", "kill"])
def test_a_connection_that_was_idle_and_is_closed_is_no_outage(own_server: OwnServer, closed_by: str) -> None:
    """A server's `timeout` below CLAIM_INTERVAL_S: the next command goes over a new connection, quietly."""
    server = own_server()
    settings = ConsumerSettings(redis_host=server.host, redis_port=server.port)
    with closing(server.client()) as client, closing(Consumer(server, client=connect(settings))) as source:
        publish(client, 3)
        source.ack(source.read())
        assert source.read() == []
        if closed_by == "timeout":
            client.config_set("timeout", 1)
            eventually(lambda: len(client.client_list()) == 1, 20, "the server closes what is idle")
            client.config_set("timeout", 0)
        else:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        published = publish(client, 3)
        page = source.read()  # it raises SourceUnavailable, was it an outage
        assert ids(page) == published
        source.ack(page)
        assert source.read() == []


def test_what_was_under_way_on_a_closed_connection_is_no_quiet_matter(own_server: OwnServer) -> None:
    """An acknowledgement may be lost there: it is told, and made good."""
    server = own_server()
    settings = ConsumerSettings(redis_host=server.host, redis_port=server.port)
    with closing(server.client()) as client, closing(Consumer(server, client=connect(settings))) as source:
        publish(client, 3)
        page = source.read()
        killer = client.connection_pool.get_connection()
        try:
            server.pause()
            source.ack(page)
            # It waits beside the acknowledgement, so that no answer is out before the connection is closed.
            killer.send_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            server.resume()
            killer.read_response()
        finally:
            client.connection_pool.release(killer)
        with pytest.raises(SourceUnavailable):
            source.read()
        assert source.read() == []
        assert client.xpending(KEYS.stream, KEYS.group)["pending"] == 0


def test_few_connections_are_enough(own_server: OwnServer, tmp_path: Path) -> None:
    """The smallest number that is not refused serves a consumer with all that it does."""
    server = own_server()
    url = f"redis://{server.host}:{server.port}/0?max_connections=3"
    settings = {"BROKER_URL": url, "DEAD_LETTERS": "stream", "RETENTION_INTERVAL_S": "0.1"}
    done = command(server, tmp_path, "services.producer", "--duration", "1", "--rate", "200", **settings)
    assert done.returncode == 0, done.stdout
    done = command(server, tmp_path, "services.consumer", CONSUMER_RUN_DURATION="2", **settings)
    assert done.returncode == 0, done.stdout
    assert "redis_unavailable" not in done.stdout + done.stderr
    assert command(server, tmp_path, "services.ops", "audit", **settings).returncode == 0


def test_a_socket_in_the_file_system_leads_to_a_server(own_server: OwnServer, tmp_path: Path) -> None:
    """The whole pipeline, by unix://."""
    server = own_server("--unixsocket", str(tmp_path / "r s.sock"))
    url = {"BROKER_URL": f"unix://{tmp_path}/r%20s.sock?db=0"}
    done = command(server, tmp_path, "services.producer", "--duration", "1", "--rate", "200", **url)
    assert done.returncode == 0, done.stdout
    done = command(server, tmp_path, "services.consumer", CONSUMER_RUN_DURATION="2", **url)
    assert done.returncode == 0, done.stdout
    assert "redis_unavailable" not in done.stdout + done.stderr
    assert command(server, tmp_path, "services.ops", "audit", **url).returncode == 0
    gone = ConsumerSettings(broker_url=f"unix://{tmp_path}/gone.sock")
    with closing(connect(gone)) as client:
        with pytest.raises(redis.ConnectionError) as caught:
            client.ping()
        assert f"Redis at unix://{tmp_path}/gone.sock can't be reached" in explain(caught.value, gone)


@contextmanager
def saying(words: bytes) -> Iterator[int]:
    """Listen, and say the same to whoever connects, unasked; then hang up."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    connection.sendall(words)
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (b"-DENIED Redis is running in protected mode because ...\r\n", "says: DENIED Redis is running in"),
        (b"-ERR max number of clients reached\r\n", "can't be reached: max number of clients reached"),
        (b"-NOAUTH whatever is to come\r\n", "whatever is to come"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "says: Protocol error"),
        (b"", "can't be reached: "),
    ],
)
def test_what_a_server_says_before_it_is_asked_is_told(words: bytes, told: str) -> None:
    """It is said and hung up at once, so it is there before the first command, or comes with it."""
    with saying(words) as port:
        settings = ConsumerSettings(redis_host="127.0.0.1", redis_port=port)
        for _ in range(20):
            with closing(connect(settings)) as client, pytest.raises(redis.RedisError) as caught:
                client.ping()
            assert told in (line := explain(caught.value, settings))
            assert "not ready" not in line


def test_a_consumer_in_front_of_protected_mode_says_that_alone(caplog: pytest.LogCaptureFixture) -> None:
    """It is not the user who lacks a right."""
    with saying(b"-DENIED Redis is running in protected mode\r\n") as port:
        server = Server("protected", "127.0.0.1", port)
        client = connect(ConsumerSettings(redis_host=server.host, redis_port=server.port))
        with closing(Consumer(server, client=client)) as source:
            for _ in range(20):
                with pytest.raises(SourceUnavailable, match="DENIED Redis is running in protected mode"):
                    source.read()
    assert "right_lacking" not in caplog.text


def test_a_server_that_takes_no_more_clients_says_so(own_server: OwnServer) -> None:
    """Whichever comes first, its words or our command."""
    server = own_server()
    settings = ConsumerSettings(redis_host=server.host, redis_port=server.port)
    with closing(server.client()) as client:
        client.config_set("maxclients", 1)
        for _ in range(30):
            with closing(connect(settings)) as other, pytest.raises(redis.ConnectionError) as caught:
                other.ping()
            assert is_passing(caught.value)
            assert "Connection not ready" not in str(caught.value)
        client.config_set("maxclients", 10)
        with closing(connect(settings)) as other:
            assert other.ping()


@pytest.fixture
def sentinel(tmp_path: Path, own_server: OwnServer) -> Iterator[LocalServer]:
    """Start a sentinel that watches a master."""
    master = own_server()
    folder = tmp_path / "sentinel"
    folder.mkdir()
    configuration = folder / "sentinel.conf"
    port = free_port()
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor mymaster 127.0.0.1 {master.port} 1\n"
    )
    process = subprocess.Popen(
        [local_binary(), str(configuration), "--sentinel"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    one = LocalServer(local_binary(), folder)
    one.port = port
    try:
        one.wait()
        yield one
    finally:
        process.kill()
        process.wait()


def test_a_sentinel_is_told_as_what_it_is(sentinel: LocalServer, tmp_path: Path) -> None:
    """With the master that it watches, and what to write; by the services and by the commands."""
    for arguments in (
        ("services.producer", "--duration", "1"),
        ("services.consumer",),
        ("services.ops", "status"),
        ("services.ops", "audit"),
        ("services.ops", "groups"),
    ):
        done = command(sentinel, tmp_path, *arguments, CONSUMER_RUN_DURATION="1", DEAD_LETTERS="stream")
        said = done.stdout + done.stderr
        assert "is a Redis Sentinel, which has no streams" in said, (arguments, said)
        assert "mymaster" in said
        assert "unknown command" not in said
        assert "Traceback" not in said


def test_the_wrong_node_of_a_cluster_is_told_with_the_right_one(tmp_path: Path) -> None:
    """And not as `11822 127.0.0.1:45861`."""
    try:
        binary = local_binary()
    except Absent as why:
        pytest.skip(str(why))
    nodes = [LocalServer(binary, tmp_path / str(number), "--cluster-enabled", "yes") for number in range(2)]
    try:
        for node in nodes:
            node.start()
        form_cluster(*nodes)
        right, wrong = nodes if slot_of(KEYS.stream) < 8192 else reversed(nodes)
        settings = ConsumerSettings(redis_host=wrong.host, redis_port=wrong.port)
        wanted = f"another one, 127.0.0.1:{right.port}, has the stream telemetry_stream"
        with closing(connect(settings)) as client:
            with pytest.raises(redis.exceptions.MovedError) as caught:
                client.xlen(KEYS.stream)
            assert is_passing(caught.value), "behind one address, the next connection may reach the right one"
            line = explain(caught.value, settings)
            assert f"Redis at 127.0.0.1:{wrong.port} is a node of a Redis cluster" in line
            assert wanted in line
            assert "name that node (REDIS_HOST, REDIS_PORT)" in line
            elsewhere = f"another node of the cluster, 127.0.0.1:{right.port}"
            with pytest.raises(DeadLettersUnavailable, match=elsewhere):
                DeadLetterStream(client, KEYS, lambda: 1.0).put([dead(1)])
        for arguments in ("status", "audit", "groups"):
            done = command(wrong, tmp_path, "services.ops", arguments)
            assert done.returncode == 2
            assert wanted in done.stderr
    finally:
        for node in nodes:
            node.kill()


NEARLY_LAST = "18446744073709551615-18446744073709551612"


@pytest.mark.parametrize(
    ("newest", "size"), [(NEARLY_LAST, 5), ("18446744073709551615-18446744073709547520", 4096)]
)
def test_no_batch_is_written_by_half_near_the_last_id(own_server: OwnServer, newest: str, size: int) -> None:
    """The server takes fewer than a batch has: none of it is there, and the record says so.

    Who may not read events may not ask for the newest id: test_cut_batches.py.
    """
    with closing(own_server().client()) as client:
        bench = Bench(client)
        bench.publisher.publish(bench.batch(5))
        client.xadd(KEYS.stream, {"a": "b"}, id=newest)
        length = client.xlen(KEYS.stream)
        with pytest.raises(BrokerRefuses, match=r"nearly the last possible id.*TelemetryStreamIdAhead"):
            bench.publisher.publish(bench.batch(size))
        assert client.xlen(KEYS.stream) == length
        assert client.hget(KEYS.run(bench.run.name), "last") == b"5"


def test_the_last_number_of_an_earlier_time_is_no_end(own_server: OwnServer) -> None:
    """The server goes on with the next time."""
    with closing(own_server().client()) as client:
        client.xadd(KEYS.stream, {"a": "b"}, id="5-18446744073709551615")
        bench = Bench(client)
        bench.publisher.publish(bench.batch(5))
        assert client.xlen(KEYS.stream) == 6


@pytest.mark.parametrize("last", [NEARLY_LAST, LAST_ID])
def test_all_works_on_a_stream_with_the_last_id(own_server: OwnServer, tmp_path: Path, last: str) -> None:
    """It is read, trimmed, observed, audited; and `status` and a figure tell."""
    server = own_server()
    with closing(server.client()) as client, closing(Consumer(server)) as source:
        publish(client, 3)
        client.xadd(KEYS.stream, {"a": "b"}, id=last)
        before = command(server, tmp_path, "services.ops", "audit", "--json")
        assert json.loads(before.stdout)["undelivered"] == 0  # they are of no run
        page = source.read()
        assert len(page) == 4
        for arguments in ("status", "audit", "groups"):
            done = command(server, tmp_path, "services.ops", arguments)
            assert "Traceback" not in done.stderr
            assert "invalid start ID" not in done.stdout + done.stderr
        status = command(server, tmp_path, "services.ops", "status")
        assert f"the newest is {last}, with the last possible time" in status.stdout
        source.ack(page)
        assert source.read() == []
        assert observed(client)["telemetry_stream_id_ahead_seconds"] > 1e15
        assert (
            json.loads(command(server, tmp_path, "services.ops", "status", "--json").stdout)["stream"][
                "length"
            ]
            == 4
        )
        one = upkeep(client)
        time.sleep(0.002)
        one.run_due()
        assert client.xlen(KEYS.stream) == 0
        assert read_backlog(client, KEYS) is not None
        assert command(server, tmp_path, "services.ops", "audit").returncode in {0, 1}


def test_the_ids_of_a_wrong_clock_are_told(own_server: OwnServer, tmp_path: Path) -> None:
    """An hour ahead: a figure has it, and `status` says it."""
    server = own_server()
    with closing(server.client()) as client:
        publish(client, 1)
        client.xgroup_create(KEYS.stream, KEYS.group, "0")
        assert observed(client)["telemetry_stream_id_ahead_seconds"] < 60
        client.xadd(KEYS.stream, {"a": "b"}, id=f"{int(time.time() * 1000) + 3_600_000}-0")
        assert 3500 < observed(client)["telemetry_stream_id_ahead_seconds"] <= 3600
    status = command(server, tmp_path, "services.ops", "status")
    assert "ahead of our clock: ages and latencies are not true" in status.stdout
    assert "TelemetryStreamIdAhead" in status.stdout
