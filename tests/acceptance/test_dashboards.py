"""Every query of the dashboards, asked of a real Prometheus beside a running pipeline: each has an answer.

The pipeline has some trouble, so that errors, retries and dead letters are on the dashboards as well.
What the cluster has to say (the Kubernetes dashboard) is not there; of those queries Prometheus tells whether
they are valid.
"""

import contextlib
import itertools
import json
import math
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from acceptance.door import post
from acceptance.mqtt import TOPICS, Gateway
from acceptance.rig import PATIENCE_S, QUICK, ROOT, Process
from mosquitto import Mosquitto, is_here
from observability import Observability
from postgres import PostgresServers, required
from prometheus import RULES, running
from prometheus import Prometheus as RunningPrometheus
from servers import Absent, LocalServer, eventually, free_port, local_binary

from charts.dashboards.__main__ import BOARDS, FILES
from charts.dashboards.answers import Prometheus, QueryFailed, Series, Target, Window, read_board, targets_of
from charts.dashboards.shared import NONE

SCRAPE_S: Final = 0.5
TOLD_S: Final = 2.5
"""What Grafana would be told instead: rates are then over 10 s, so that late scrapes on a busy machine hide
nothing."""
ANSWER_S: Final = 120.0
"""Recording rules ask for two samples, and the machine may be busy."""
FROM_THE_CLUSTER: Final = "kubernetes"


class Sender:
    """Sends a reading ten times a second to a door, good and bad in turn; port 0: to none."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._is_over = threading.Event()
        if port:
            threading.Thread(target=self._send, daemon=True).start()

    def _send(self) -> None:
        for value in itertools.cycle((20, "cold")):
            if self._is_over.wait(0.1):
                return
            event = {"device_id": "d", "zone": "z", "kpi": "temperature", "value": value}
            with contextlib.suppress(OSError):
                post(f"http://127.0.0.1:{self._port}/v1/events", json.dumps(event).encode())

    def close(self) -> None:
        self._is_over.set()


class Seen:
    """A pipeline in trouble, and the Prometheus that looks at it."""

    def __init__(
        self, folder: Path, server: LocalServer, prometheus: RunningPrometheus, postgres_url: str | None
    ) -> None:
        self.server = server
        self.postgres_url = postgres_url
        """None: there is no PostgreSQL on this machine."""
        self.data = folder / "data"
        self.prometheus = Prometheus(prometheus.address)
        self.started_at = time.time()
        self._folder = folder
        self._running = prometheus
        self._processes: list[Process] = []
        self._sender = Sender(0)
        self._gateway: Gateway | None = None
        self.broker = Mosquitto(folder / "mosquitto") if is_here() else None
        """None: there is no Mosquitto on this machine."""

    def start(self, observability: Observability) -> None:
        """Start a producer of much that is invalid, and two consumers; all is traced."""
        common = {
            **QUICK,
            **observability.environment(),
            "REDIS_HOST": self.server.host,
            "REDIS_PORT": str(self.server.port),
            "DATA_DIR": str(self.data),
            "TRACE_SAMPLE_RATIO": "1",
            "SILENT_AFTER_S": "5",
        }
        ports = {name: free_port() for name in ("producer", "door", "consumer-1", "consumer-2")}
        for name, port in ports.items():
            self._running.scrape(name, port, pod=name)
        producer = {
            "PRODUCER_RUN_DURATION": "0", "RATE": "100", "INVALID_RATIO": "0.2", "DUPLICATE_RATIO": "0.1",
            "STREAM_MAX_LENGTH": "100000", "PRODUCER_METRICS_PORT": str(ports["producer"]),
        }  # fmt: skip
        self.run("producer", "-m", "services.producer", **{**common, "SLEEP_INTERVAL": "", **producer})
        own = {"HTTP_PORT": str(free_port()), "PRODUCER_METRICS_PORT": str(ports["door"])}
        self.run("door", "-m", "services.producer", "--http", **{**common, **own})
        self._sender = Sender(int(own["HTTP_PORT"]))
        for name in ("consumer-1", "consumer-2"):
            own = {"CONSUMER_NAME": name, "CONSUMER_METRICS_PORT": str(ports[name])}
            self.run(name, "-m", "services.consumer", **{**common, **own})
        if self.postgres_url is not None:
            # Of another stream: what is audited here is in the file.
            ports["on-postgres"] = free_port()
            self._running.scrape("on-postgres", ports["on-postgres"], pod="on-postgres")
            own = {
                "CONSUMER_METRICS_PORT": str(ports["on-postgres"]), "STREAM_NAME": "of_another",
                "DATABASE_URL": self.postgres_url, "CLAIM_IDLE_MS": "60000",
            }  # fmt: skip
            self.run("on-postgres", "-m", "services.consumer", **{**common, **own})
        eventually(self.has_rows, PATIENCE_S, "the first rows")
        if self.broker is not None:
            self.broker.start()
            ports["mqtt"] = free_port()
            self._running.scrape("mqtt", ports["mqtt"], pod="mqtt")
            own = {
                "MQTT_URL": self.broker.url, "MQTT_TOPICS": TOPICS, "MQTT_CLIENT_ID": "dashboards",
                "PRODUCER_METRICS_PORT": str(ports["mqtt"]),
            }  # fmt: skip
            self.run("mqtt", "-m", "services.producer", "--mqtt", **{**common, **own})
            self._gateway = Gateway(self.broker, "gateway", pause_s=0.05)
        # What has risen before the first scrape has no rate.
        eventually(lambda: self.scraped() == len(ports), PATIENCE_S, "each process is scraped")
        self.common = common

    def run(self, name: str, *arguments: str, **environment: str) -> Process:
        """Start a process; it ends with the tests."""
        output = self._folder / f"{name}.log"
        one = Process([sys.executable, *arguments], environment, output, self._folder)
        self._processes.append(one)
        return one

    def has_rows(self) -> bool:
        if not (self.data / "telemetry.db").exists():  # to connect would make one
            return False
        with contextlib.closing(sqlite3.connect(self.data / "telemetry.db")) as connection:
            try:
                return bool(connection.execute("SELECT count(*) FROM telemetry_events").fetchone()[0])
            except sqlite3.OperationalError:  # no table yet
                return False

    def trouble(self) -> None:
        """Hold the database until a write is tried again, cut every connection, and record an audit."""
        with contextlib.closing(sqlite3.connect(self.data / "telemetry.db", isolation_level=None)) as holder:
            holder.execute("PRAGMA busy_timeout = 30000")
            holder.execute("BEGIN IMMEDIATE")
            eventually(lambda: self.counted("telemetry_retries_total"), PATIENCE_S, "a retry is counted")
            eventually(lambda: self.counted("telemetry_sink_errors_total"), PATIENCE_S, "an error is counted")
            holder.execute("ROLLBACK")
        eventually(self.has_lost_a_connection, PATIENCE_S, "a lost connection")
        audit = self.run("audit", "-m", "services.ops", "audit", "--record", **self.common)
        assert audit.wait() == 0, audit.text

    def has_lost_a_connection(self) -> bool:
        """Cut every connection, and tell whether it was told: one with nothing under way is no error."""
        with contextlib.closing(self.server.client()) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with contextlib.suppress(AssertionError):
            return bool(
                eventually(lambda: self.counted("telemetry_redis_errors_total"), 2 * SCRAPE_S, "told")
            )
        return False

    def scraped(self) -> int:
        """Tell how many processes Prometheus has seen."""
        return len(self._running.query("telemetry_build_info"))

    def counted(self, name: str) -> bool:
        """Tell whether Prometheus has seen a counter rise."""
        return any(one.value > 0 for one in self._running.query(f"sum({name})"))

    def answer(self, board: str, target: Target) -> list[Series]:
        """Ask a query, for all the time since the start."""
        window = Window(self.started_at, time.time(), TOLD_S)
        return self.prometheus.answer(target, read_board(FILES / f"{board}.json"), window)

    def close(self) -> None:
        self._sender.close()
        if self._gateway is not None:
            self._gateway.close()
        for process in self._processes:
            process.kill()
        if self.broker is not None:
            self.broker.stop()
        for process in self._processes:
            process.assert_log()


@pytest.fixture(scope="module")
def seen(
    tmp_path_factory: pytest.TempPathFactory, observability: Observability, postgres_servers: PostgresServers
) -> Iterator[Seen]:
    """Have a pipeline that has been through some trouble, for all tests here."""
    folder = tmp_path_factory.mktemp("dashboards")
    try:
        binary = local_binary()
    except Absent as why:
        pytest.skip(str(why))
    server = LocalServer(
        binary, folder / "server", "--maxmemory", "500mb", "--maxmemory-policy", "noeviction"
    )
    rules = sorted(RULES.glob("*.yaml"))
    with running(
        folder / "prometheus", "no query of a dashboard is asked", interval_s=SCRAPE_S, rules=rules
    ) as prometheus:
        one = Seen(folder, server, prometheus, _postgres_url(postgres_servers))
        try:
            server.start()
            one.start(observability)
            one.trouble()
            yield one
        finally:
            one.close()
            server.kill()


def _postgres_url(servers: PostgresServers) -> str | None:
    try:
        return servers.any().new_database()
    except Absent:
        if required():
            raise
        return None


def _is_asked(seen: Seen, target: Target) -> bool:
    """Tell whether a query can have an answer: what is PostgreSQL's is said where there is one, and so on."""
    if "telemetry_mqtt_" in target.expression and seen.broker is None:
        return False
    return seen.postgres_url is not None or not target.panel["description"].startswith("PostgreSQL:")


def has_a_number(series: list[Series]) -> bool:
    return any(not math.isnan(value) for one in series for _, value in one.points)


@pytest.mark.parametrize("name", [board.name for board in BOARDS if board.name != FROM_THE_CLUSTER])
def test_every_query_has_an_answer(seen: Seen, name: str) -> None:
    """With numbers in it. A panel that stays empty would be seen by nobody until it is needed."""
    waiting = [one for one in targets_of(read_board(FILES / f"{name}.json")) if _is_asked(seen, one)]
    assert waiting

    def all_have() -> bool:
        # What says that nothing went wrong is silent here, where something of everything does.
        waiting[:] = [
            target
            for target in waiting
            if not has_a_number(seen.answer(name, target)) and target.legend != NONE
        ]
        return not waiting

    try:
        eventually(all_have, ANSWER_S, "every query has an answer")
    except AssertionError:
        empty = "\n".join(f"{target.name}: {target.expression}" for target in waiting)
        raise AssertionError(f"no answer within {ANSWER_S:g} s to\n{empty}") from None


def test_what_the_cluster_says_is_asked_for_in_valid_queries(seen: Seen) -> None:
    """Prometheus evaluates them, and refuses none; here there is nothing that answers."""
    targets = targets_of(read_board(FILES / f"{FROM_THE_CLUSTER}.json"))
    answers = [seen.answer(FROM_THE_CLUSTER, target) for target in targets]
    assert len(answers) > 10


def test_an_invalid_query_would_be_noticed(seen: Seen) -> None:
    """Prometheus' own words come back."""
    with pytest.raises(QueryFailed, match="parse error"):
        seen.prometheus.ask("query", query="sum(rate(x[5m])")


def test_an_exemplar_leads_to_its_trace(seen: Seen, observability: Observability) -> None:
    """The trace id beside a latency is one that Jaeger has, of a consumer's batch."""
    board = read_board(FILES / "overview.json")
    (target,) = (one for one in targets_of(board) if one.has_exemplars)

    def is_found() -> bool:
        window = Window(seen.started_at, time.time(), TOLD_S)
        ids = [one.labels["trace_id"] for one in seen.prometheus.exemplars(target, board, window)]
        traces = [trace for trace_id in ids[-5:] if (trace := observability.trace(trace_id))]
        return any("process telemetry_stream" in trace.names for trace in traces)

    assert eventually(is_found, PATIENCE_S, "an exemplar's trace in Jaeger")


def test_variables_find_what_there_is(seen: Seen) -> None:
    """The choice of consumers; there is neither namespace nor release here, and «All» holds all the same."""
    pods = seen.prometheus.ask("label/pod/values", **{"match[]": "telemetry_sink_up"})
    assert pods == ["consumer-1", "consumer-2", *(["on-postgres"] if seen.postgres_url else [])]
    assert seen.prometheus.ask("label/namespace/values", **{"match[]": "telemetry_build_info"}) == []


def test_the_rules_beside_them_are_evaluated(seen: Seen) -> None:
    """A dashboard shows alerts and recorded series: none of the rules has an error."""
    groups = seen.prometheus.ask("rules")["groups"]
    assert groups
    assert [rule["name"] for group in groups for rule in group["rules"] if rule.get("lastError")] == []


def test_pictures_can_be_made_of_it(seen: Seen, tmp_path: Path) -> None:
    """`make pictures` draws every dashboard that has something to show."""
    command = ["-m", "charts.dashboards.picture", "--prometheus", seen.prometheus.address, "--minutes", "1"]
    options = ["--scrape-interval", str(TOLD_S), "--output", str(tmp_path)]
    drawing = seen.run("pictures", *command, *options, PYTHONPATH=str(ROOT))
    assert drawing.wait(ANSWER_S) == 0, drawing.text
    drawn = {board.name for board in BOARDS} - {FROM_THE_CLUSTER}
    assert {file.name for file in tmp_path.iterdir()} == {f"{name}.png" for name in drawn}
    assert f"{FROM_THE_CLUSTER}: left out" in drawing.text
    assert all(file.stat().st_size > 10_000 for file in tmp_path.iterdir())
