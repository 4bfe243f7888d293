"""`/livez`, `/readyz` and `/metrics`."""

import http.client
import io
import json
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import pytest
from fakes import FakeClock
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from servers import eventually, free_port

from services.runtime.health import Health, HealthServer
from services.runtime.logs import build_logger
from services.runtime.metrics import Metrics


class Endpoint:
    """A served Health, its clock, and a way to ask."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.health = Health(60.0, self.clock.monotonic)
        self.metrics = Metrics("consumer")
        self.port = free_port()
        self.log = io.StringIO()
        logger = build_logger("consumer", "INFO", self.log)
        self.server = HealthServer(self.port, self.health, self.metrics, logger)

    def get(self, path: str, method: str = "GET", accept: str = "*/*") -> tuple[int, str]:
        """Ask, and give status and body."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection:
            connection.request(method, path, headers={"Accept": accept})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()


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


def test_a_request_that_fails_is_a_line_with_its_traceback(
    endpoint: Endpoint, capfd: pytest.CaptureFixture[str]
) -> None:
    """A bug in a collector costs one answer, and is told in the log's form."""

    def fail() -> Iterable[Metric]:
        raise ValueError("no number")

    endpoint.metrics.registry.collect = fail  # type: ignore[method-assign]
    with pytest.raises(http.client.RemoteDisconnected):
        endpoint.get("/metrics")
    line = json.loads(endpoint.log.getvalue().splitlines()[-1])
    assert (line["message"], line["levelname"]) == ("health_request_failed", "ERROR")
    assert line["exc_info"].endswith("ValueError: no number\n")
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
