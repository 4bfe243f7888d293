"""`/livez`, `/readyz` and `/metrics`."""

import asyncio
import errno
import http.client
import io
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeClock
from hostile import HOSTILE, faults
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from servers import eventually, free_port

from services.runtime.endpoint import HealthServer, _encoder
from services.runtime.health import Health
from services.runtime.logs.gate import build_logger
from services.runtime.telemetry.metrics import Metrics

OPENMETRICS = "application/openmetrics-text"


class Endpoint:
    """A served Health, its clock, and a way to ask."""

    def __init__(self, host: str = "") -> None:
        self.clock = FakeClock()
        self.health = Health(60.0, self.clock.monotonic)
        self.metrics = Metrics("consumer")
        self.port = free_port()
        self.log = io.StringIO()
        logger = build_logger("consumer", "INFO", self.log)
        self.server = HealthServer(self.port, self.health, self.metrics, logger, host)

    def get(self, path: str, method: str = "GET", accept: str = "*/*") -> tuple[int, str]:
        """Ask, and give status and body."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection:
            connection.request(method, path, headers={"Accept": accept})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def raw(self, request: bytes) -> bytes:
        """Send bytes, and give all that comes back until the connection is closed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=15) as connection:
            connection.sendall(request)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """Serve a Health."""
    one = Endpoint()
    with one.server:
        yield one


def test_a_process_that_starts_is_alive_and_not_ready(endpoint: Endpoint) -> None:
    """It becomes ready when its start is over."""
    assert endpoint.get("/livez") == (200, "ok\n")
    assert endpoint.get("/readyz") == (503, "start: starting\n")
    endpoint.health.started()
    assert endpoint.get("/readyz") == (200, "ok\n")


def test_what_keeps_a_process_from_its_job_is_told(endpoint: Endpoint) -> None:
    """Every part that fails is named with its reason, until it is cleared."""
    endpoint.health.started()
    endpoint.health.fail("sink", "disk full")
    endpoint.health.fail("redis", "away")
    assert endpoint.get("/readyz?verbose=1") == (503, "sink: disk full; redis: away\n")
    endpoint.health.clear("sink")
    endpoint.health.clear("never failed")
    assert endpoint.get("/readyz") == (503, "redis: away\n")
    assert endpoint.get("/livez")[0] == 200


def test_a_loop_that_hangs_is_not_alive(endpoint: Endpoint) -> None:
    """Without a turn for longer than the limit, /livez fails; a turn mends it."""
    endpoint.clock.sleep(60.0)
    assert endpoint.get("/livez")[0] == 200
    endpoint.clock.sleep(0.5)
    assert endpoint.get("/livez") == (503, "the loop has not turned for 60.5 s\n")
    endpoint.health.turn()
    assert endpoint.get("/livez")[0] == 200


def test_metrics_are_served_in_prometheus_text(endpoint: Endpoint) -> None:
    """A scrape finds what was counted."""
    endpoint.metrics.count("telemetry_lost_entries_total", 3)
    status, body = endpoint.get("/metrics")
    families = {family.name: family for family in text_string_to_metric_families(body)}
    assert status == 200
    assert families["telemetry_lost_entries"].samples[0].value == 3


def test_who_asks_for_openmetrics_gets_the_exemplars(endpoint: Endpoint) -> None:
    """As Prometheus asks; others get the text of old, which has none."""
    name = "telemetry_consumer_publish_to_commit_seconds"
    endpoint.metrics.observe(name, 0.2, "ab" * 16)
    asked = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
    status, body = endpoint.get("/metrics", accept=asked)
    families = {family.name: family for family in openmetrics(body)}  # type: ignore[no-untyped-call]
    examples = [sample.exemplar for sample in families[name].samples if sample.exemplar]
    assert (status, [(one.labels, one.value) for one in examples]) == (200, [({"trace_id": "ab" * 16}, 0.2)])
    assert body.endswith("# EOF\n")
    _, plain = endpoint.get("/metrics")
    assert "abab" not in plain
    assert {family.name for family in text_string_to_metric_families(plain)} == set(families)


def test_a_process_tells_about_itself(endpoint: Endpoint) -> None:
    """Processor time, memory, open files, start, and the version of Python."""
    endpoint.metrics.ask_process()
    _, body = endpoint.get("/metrics")
    names = {family.name for family in text_string_to_metric_families(body)}
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "python_info"} <= names
    assert "process_start_time_seconds" in names


def test_other_paths_say_what_there_is(endpoint: Endpoint) -> None:
    """A wrong path is 404 with the right ones in it, a wrong method is refused."""
    status, body = endpoint.get("/")
    assert (status, "/readyz" in body) == (404, True)
    assert endpoint.get("/livez", "POST")[0] == 501


def test_one_who_never_asks_holds_nobody_up(endpoint: Endpoint) -> None:
    """A connection that sends nothing doesn't keep others from their answer."""
    with socket.create_connection(("127.0.0.1", endpoint.port)):
        assert endpoint.get("/livez")[0] == 200


def _broken_off(port: int, request: bytes) -> None:
    """Ask, and reset the connection at once, as a scraper does that is cut off by its timeout or a policy."""
    asked = socket.create_connection(("127.0.0.1", port))
    asked.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    asked.sendall(request)
    asked.close()


@pytest.mark.parametrize("request_", [b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /met"])
def test_a_scrape_that_is_broken_off_is_a_line_and_no_traceback(
    endpoint: Endpoint, capfd: pytest.CaptureFixture[str], request_: bytes
) -> None:
    """While the answer is made, or while the question is read; and the next one is answered."""
    went_on = threading.Event()
    collect = endpoint.metrics.registry.collect

    def slow() -> Iterable[Metric]:
        # The answer is not begun before the one who asked is gone.
        went_on.wait(10)
        return collect()

    endpoint.metrics.registry.collect = slow  # type: ignore[method-assign]

    def said() -> list[dict[str, Any]]:
        _broken_off(endpoint.port, request_)
        went_on.set()
        lines = [json.loads(line) for line in endpoint.log.getvalue().splitlines()]
        return [line for line in lines if line["message"] == "health_client_gone"]

    (line,) = eventually(said, 20, "a line")
    assert (line["levelname"], line["client"]) == ("WARNING", "127.0.0.1")
    assert endpoint.get("/metrics")[0] == 200
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("number", [0, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.EPIPE])
def test_who_goes_away_before_the_end_of_an_answer_is_a_line_and_no_traceback(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whatever the system calls it: a socket that is reset (0: a real one), or a way that is gone."""
    write_eof = asyncio.StreamWriter.write_eof
    asked = socket.create_connection(("127.0.0.1", endpoint.port), timeout=15)
    asked.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def go_away_first(writer: asyncio.StreamWriter) -> None:
        asked.close()  # with a reset
        if number:
            raise OSError(number, os.strerror(number))
        write_eof(writer)

    monkeypatch.setattr(asyncio.StreamWriter, "write_eof", go_away_first)
    asked.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
    line = eventually(lambda: endpoint.log.getvalue().splitlines()[1:], 20, "a line")[0]  # behind "it serves"
    said = json.loads(line)
    assert (said["message"], said["levelname"], said["client"]) == (
        "health_client_gone",
        "WARNING",
        "127.0.0.1",
    )
    assert f"[Errno {number or errno.ENOTCONN}]" in said["error"]
    assert endpoint.get("/livez") == (200, "ok\n")


def test_no_part_of_an_answer_waits_until_the_one_before_is_confirmed(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client takes up to 40 ms to confirm the first."""
    write_eof = asyncio.StreamWriter.write_eof
    at_once: list[int] = []

    def look_first(writer: asyncio.StreamWriter) -> None:
        taken = writer.get_extra_info("socket")
        at_once.append(taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        write_eof(writer)

    monkeypatch.setattr(asyncio.StreamWriter, "write_eof", look_first)
    assert endpoint.raw(b"GET /livez HTTP/1.0\r\n\r\n").endswith(b"ok\n")
    assert [bool(one) for one in at_once] == [True]


@pytest.mark.parametrize("error", [ValueError("no number"), OSError("no disk"), ConnectionError("no server")])
def test_a_request_that_fails_is_a_line_with_its_traceback(
    endpoint: Endpoint, capfd: pytest.CaptureFixture[str], error: Exception
) -> None:
    """A bug in a collector costs one answer, and is told in the log's form."""

    def fail() -> Iterable[Metric]:
        raise error

    endpoint.metrics.registry.collect = fail  # type: ignore[method-assign]
    with pytest.raises(http.client.RemoteDisconnected):
        endpoint.get("/metrics")
    line = json.loads(endpoint.log.getvalue().splitlines()[-1])
    assert (line["message"], line["levelname"]) == ("health_request_failed", "ERROR")
    assert line["exc_info"].endswith(f"{type(error).__name__}: {error}\n")
    assert capfd.readouterr() == ("", "")


def test_a_taken_port_costs_the_endpoint_alone(endpoint: Endpoint) -> None:
    """The process goes on, and says that it has no endpoint."""
    log = io.StringIO()
    logger = build_logger("consumer", "INFO", log)
    with HealthServer(endpoint.port, endpoint.health, endpoint.metrics, logger):
        pass
    assert json.loads(log.getvalue())["message"] == "health_port_taken"
    assert endpoint.get("/livez")[0] == 200


def test_port_zero_serves_nothing() -> None:
    """Switched off, there is no line and no port."""
    log = io.StringIO()
    health = Health(1.0, time.monotonic)
    with HealthServer(0, health, Metrics("consumer"), build_logger("consumer", "INFO", log)):
        assert log.getvalue() == ""


def test_a_closed_server_lets_go_of_its_port() -> None:
    """After the end the port can be taken by the next process."""
    one = Endpoint()
    with one.server:
        assert one.get("/livez")[0] == 200
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", one.port))


@pytest.mark.parametrize(
    "accept",
    [
        f"{OPENMETRICS}; version=x.y",
        f"{OPENMETRICS}; version=",
        f"{OPENMETRICS}; version=1;;==",
        f"{OPENMETRICS}; version=99999999999999999999.0.0",
        f"{OPENMETRICS}; version=\x1b[31m",
        f"{OPENMETRICS}; version=1.0.0\xff",
        f"{OPENMETRICS}; version=1.0.0; escaping=nonsense",
        f"text/plain; version=1.0.0,{OPENMETRICS}; version=0.0.1; q=",
        "text/plain;version=1..0",
        "text/plain; version=1.0.0; escaping",
        "*/*;q=x",
        ";,;",
        "=" * 5000,
    ],
)
def test_an_odd_wish_for_a_form_gets_an_answer(endpoint: Endpoint, accept: str) -> None:
    """What can't be understood of it counts for nothing."""
    answer = endpoint.raw(
        f"GET /metrics HTTP/1.1\r\nAccept: {accept}\r\nConnection: close\r\n\r\n".encode("latin-1")
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"telemetry_build_info" in body
    assert head.isascii()
    assert b"\x1b" not in head
    assert "health_request_failed" not in endpoint.log.getvalue()


@given(accept=st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_wish_for_a_form_is_one(accept: str) -> None:
    """No text in its place raises anything."""
    for kind in (f"{OPENMETRICS};", "text/plain;version=", ""):
        encode, told = _encoder(kind + accept)
        assert callable(encode)
        assert told.isascii()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\r\n\r\n", 400),
        (b"GET /livez\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\n\n", 400),
        (b"get /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/2.0\r\n\r\n", 505),
        (b"HEAD /livez HTTP/1.1\r\n\r\n", 501),
        (b"CONNECT h:1 HTTP/1.1\r\n\r\n", 501),
        (b"POST /livez HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 501),
        (b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /livez HTTP/1.1\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n", 431),
        (b"GET /livez HTTP/1.1\r\n" + b"X: a\r\n" * 5000 + b"\r\n", 431),
        (b"GET /../livez HTTP/1.0\r\n\r\n", 404),
        (b"GET /livez%00 HTTP/1.0\r\n\r\n", 404),
        (b"GET http://h/livez HTTP/1.0\r\n\r\n", 404),
        (b"GET //livez HTTP/1.0\r\n\r\n", 200),
        (b"GET /livez?x=1 HTTP/1.1\r\nConnection: close\r\n\r\n", 200),
        (b"GET /livez HTTP/1.1\nconnection:CLOSE\n\n", 200),
        (b"GET /livez HTTP/1.1\r\nContent-Length: 19\r\n\r\nGET /metrics HTTP/1", 200),
    ],
)
def test_what_is_no_request_of_ours_is_refused_at_once(
    endpoint: Endpoint, request_: bytes, status: int
) -> None:
    """With a status, in one answer, and without a line in the log."""
    answer = endpoint.raw(request_)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert answer.count(b"HTTP/1.1") == 1
    assert len(endpoint.log.getvalue().splitlines()) == 1  # health_serving


def test_an_answer_names_no_version(endpoint: Endpoint) -> None:
    """Of Python or of the server: whoever looks for old ones finds none."""
    answer = endpoint.raw(b"GET /livez HTTP/1.0\r\n\r\n")
    (server,) = [line for line in answer.splitlines() if line.startswith(b"Server:")]
    assert server == b"Server: telemetry-pipeline"
    assert b"python" not in answer.lower()


def test_many_requests_come_over_one_connection(endpoint: Endpoint) -> None:
    """As Prometheus asks."""
    with closing(http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=5)) as connection:
        for _ in range(3):
            connection.request("GET", "/livez")
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b"ok\n")
            assert answer.getheader("Connection") == "keep-alive"


def test_what_a_server_says_is_shown_on_no_terminal_raw(endpoint: Endpoint) -> None:
    """The reason of an unready process may be a text of somebody else."""
    endpoint.health.started()
    endpoint.health.fail("redis", HOSTILE)
    status, body = endpoint.get("/readyz")
    assert status == 503
    assert faults(body) == []
    assert body.count("\n") == 1


def test_a_host_is_listened_on_alone() -> None:
    """With METRICS_HOST=127.0.0.1 nobody asks from outside; without it at every address, IPv6 too."""
    inside, outside = Endpoint("127.0.0.1"), Endpoint()
    with inside.server, outside.server:
        assert inside.get("/livez")[0] == 200
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((OTHER_LOOPBACK, inside.port), timeout=5)
        socket.create_connection((OTHER_LOOPBACK, outside.port), timeout=5).close()
        if socket.has_dualstack_ipv6():
            socket.create_connection(("::1", outside.port), timeout=5).close()


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b", "192.0.2.1"])
def test_a_host_that_is_none_costs_the_endpoint_alone(host: str) -> None:
    """It is named in the log, and the process goes on."""
    one = Endpoint(host)
    assert not one.server.is_serving
    assert "health_port_taken" in one.log.getvalue()


OTHER_LOOPBACK = "127.0.0.2"


def _slow(port: int, number: int, begin: bytes = b"GET /metrics HTTP/1.1\r\nX: ") -> list[socket.socket]:
    slow = []
    for _ in range(number):
        one = socket.create_connection(("127.0.0.1", port), timeout=5)
        one.sendall(begin)
        slow.append(one)
    return slow


def _is_closed(one: socket.socket) -> bool:
    one.settimeout(0)
    try:
        return one.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_slow_ones_by_the_hundred_cost_neither_threads_nor_probes(endpoint: Endpoint) -> None:
    """The oldest are closed; who asks at once has an answer at once."""
    before = threading.active_count()
    slow: list[socket.socket] = []
    try:
        for _ in range(4):
            slow += _slow(endpoint.port, 100)
            assert endpoint.get("/livez")[0] == 200
            assert endpoint.get("/metrics")[0] == 200
        assert threading.active_count() <= before + 1
        still = eventually(lambda: [one for one in slow if not _is_closed(one)], 10, "some are left")
        assert len(still) <= 128
        assert "health_crowded" in endpoint.log.getvalue()
    finally:
        for one in slow:
            one.close()


def test_a_request_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """However steadily its bytes drip in, or however little is read of the answer."""
    monkeypatch.setattr("services.runtime.endpoint._DEADLINE_S", 0.5)
    one = Endpoint()
    one.metrics.registry.collect = lambda: [Metric("x", "y" * 20_000_000, "gauge")]  # type: ignore[method-assign]
    with one.server:
        (idle,) = _slow(one.port, 1, b"")
        (dripping,) = _slow(one.port, 1)
        (unread,) = _slow(one.port, 1, b"GET /metrics HTTP/1.1\r\n\r\n")
        started = time.monotonic()
        while not _is_closed(dripping):
            with suppress(OSError):
                dripping.send(b"x")
            time.sleep(0.02)
            assert time.monotonic() - started < 10
        eventually(lambda: _is_closed(idle), 10, "the idle one is closed")
        unread.settimeout(10)
        read = 0
        with suppress(ConnectionError):
            while piece := unread.recv(1 << 20):
                time.sleep(0.2)
                read += len(piece)
        assert read < 20_000_000
        lines = [json.loads(line) for line in one.log.getvalue().splitlines()]
        assert [line["message"] for line in lines[1:2]] == ["health_client_gone"]
        for slow in (idle, dripping, unread):
            slow.close()


def test_a_disk_that_hangs_keeps_no_probe_waiting(endpoint: Endpoint) -> None:
    """A scrape asks it; eight of them that hang hold up one another, and neither /livez nor the end."""
    release = threading.Event()

    def hang() -> Iterable[Metric]:
        release.wait(30)
        return []

    endpoint.metrics.registry.collect = hang  # type: ignore[method-assign]
    before = threading.active_count()
    asked = _slow(endpoint.port, 8, b"GET /metrics HTTP/1.1\r\n\r\n")
    eventually(lambda: threading.active_count() > before, 10, "a scrape hangs")
    assert endpoint.get("/livez")[0] == 200
    assert threading.active_count() <= before + 4
    endpoint.server.__exit__()
    release.set()
    for one in asked:
        one.close()


DESCRIPTORS = """
import logging, resource, socket, sys, time
from services.runtime.endpoint import HealthServer, _encoder
from services.runtime.health import Health
from services.runtime.logs.gate import Logs
from services.runtime.telemetry.metrics import Metrics
logs = Logs("consumer", "INFO", "json", sys.stdout)
with HealthServer(int(sys.argv[1]), Health(60, time.monotonic), Metrics("consumer"), logs.logger):
    limit = 3 + sum(1 for _ in __import__("pathlib").Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    print("go", flush=True)
    sys.stdin.read()
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
logs.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is of Linux")
def test_without_descriptors_it_says_so_and_goes_on() -> None:
    """They are the process's own; the next connection is taken a second later."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-c", DESCRIPTORS, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        while process.stdout.readline() != "go\n":
            pass
        for one in _slow(port, 8):
            one.close()
        told = ""
        while "health_crowded" not in told:
            told = process.stdout.readline()
            assert told
        assert "Too many open files" in told
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            connection.request("GET", "/livez")
            assert connection.getresponse().status == 200
        process.stdin.close()
        assert process.wait(20) == 0
