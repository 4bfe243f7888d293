"""A real OpenTelemetry collector with a real Jaeger behind it, and collectors that misbehave.

Both programs are found on the PATH, or where this machine's test cluster keeps them. Where they are not,
the tests of them are skipped, and say so; with TELEMETRY_TESTS_REQUIRE_OBSERVABILITY=1 they fail.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self

import pytest
from servers import Absent, eventually, free_port

_CONFIG: Final = Path(__file__).parent / "otelcol.yaml"
_ELSEWHERE: Final = Path.home() / ".cache" / "test-cluster" / "bin"
_START_S: Final = 60.0


def find_program(name: str) -> Path:
    """Find a program. Raises Absent."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), str(_ELSEWHERE)]))
    if found is None:
        raise Absent(f"no {name} on the PATH")
    return Path(found)


@dataclass(frozen=True)
class Trace:
    """What Jaeger answers of one trace: its spans, by name where one name is one span."""

    trace_id: str
    spans: Sequence[Mapping[str, Any]]
    services: Mapping[str, str]
    """Service by Jaeger's name of the process."""

    def named(self, name: str) -> list["JaegerSpan"]:
        """Give the spans of a name, the earliest first."""
        found = [
            JaegerSpan(span, self.services[span["processID"]])
            for span in self.spans
            if span["operationName"] == name
        ]
        return sorted(found, key=lambda span: span.started_at)

    def one(self, name: str) -> "JaegerSpan":
        """Give the only span of a name."""
        (span,) = self.named(name)
        return span

    @property
    def names(self) -> list[str]:
        """Name every span, sorted."""
        return sorted(span["operationName"] for span in self.spans)


@dataclass(frozen=True)
class JaegerSpan:
    """One span, as Jaeger answers it."""

    raw: Mapping[str, Any]
    service: str

    @property
    def tags(self) -> dict[str, Any]:
        return {tag["key"]: tag["value"] for tag in self.raw["tags"]}

    @property
    def span_id(self) -> str:
        return str(self.raw["spanID"])

    @property
    def started_at(self) -> float:
        return float(self.raw["startTime"]) / 1e6

    @property
    def ended_at(self) -> float:
        # Added up as whole microseconds: what ends as another begins is then the same number.
        return float(self.raw["startTime"] + self.raw["duration"]) / 1e6

    @property
    def parent(self) -> str | None:
        """The span above it."""
        return next((one for kind, _, one in self._references() if kind == "CHILD_OF"), None)

    @property
    def links(self) -> list[tuple[str, str]]:
        """Trace and span of each link."""
        return [(trace, span) for kind, trace, span in self._references() if kind == "FOLLOWS_FROM"]

    @property
    def events(self) -> list[dict[str, Any]]:
        """What happened during it."""
        return [{one["key"]: one["value"] for one in log["fields"]} for log in self.raw["logs"]]

    def _references(self) -> list[tuple[str, str, str]]:
        return [(one["refType"], one["traceID"], one["spanID"]) for one in self.raw["references"]]


@dataclass
class Observability:
    """A collector and a Jaeger, running. Both end with the session."""

    folder: Path
    http_port: int = field(init=False)
    grpc_port: int = field(init=False)
    _query: str = field(init=False)
    logs: "LogBasket" = field(init=False)
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Start both, and wait until they serve. Raises Absent."""
        otelcol, jaeger = find_program("otelcol"), find_program("jaeger")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.http_port, self.grpc_port, otlp, query = (free_port() for _ in range(4))
        self._query = f"http://127.0.0.1:{query}"
        ports = {
            "collector.otlp.grpc": otlp,
            "query.http-server": query,
            **dict.fromkeys(("collector.otlp.http", "collector.grpc-server", "collector.http-server"), 0),
            **dict.fromkeys(("query.grpc-server", "admin.http"), 0),
        }
        self._run(jaeger, [f"--{name}.host-port=127.0.0.1:{port}" for name, port in ports.items()], {})
        addresses = {"OTLP_HTTP": self.http_port, "OTLP_GRPC": self.grpc_port, "JAEGER_OTLP": otlp}
        environment = {name: f"127.0.0.1:{port}" for name, port in addresses.items()}
        self.logs = LogBasket()
        environment["LOG_BASKET"] = f"http://127.0.0.1:{self.logs.port}"
        self._run(otelcol, [f"--config={_CONFIG}"], environment)
        eventually(lambda: self._ask("services") is not None, _START_S, "Jaeger serves")
        eventually(lambda: _is_open(self.http_port) and _is_open(self.grpc_port), _START_S, "otelcol serves")
        eventually(lambda: _is_open(otlp), _START_S, "Jaeger takes spans")

    def stop(self) -> None:
        """End both."""
        for process in self._processes:
            process.kill()
            process.wait()
        self.logs.close()

    def environment(self, protocol: str = "http/protobuf") -> dict[str, str]:
        """Give the variables that send a process's traces here."""
        port = self.grpc_port if protocol == "grpc" else self.http_port
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def traces(self, service: str, **tags: str) -> list[Trace]:
        """Look up the traces that have a span of this service with these tags."""
        query = {"service": service, "limit": "1000", "tags": json.dumps(tags)}
        answer = self._ask(f"traces?{urllib.parse.urlencode(query)}") or {"data": []}
        return [_trace(one) for one in answer["data"]]

    def trace(self, trace_id: str) -> Trace | None:
        """Look up a trace; None where there is none."""
        answer = self._ask(f"traces/{trace_id}")
        return _trace(answer["data"][0]) if answer and answer["data"] else None

    def _ask(self, what: str) -> Any:
        try:
            address = f"{self._query}/api/{what}"
            with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - our own Jaeger
                return json.load(answer)
        except OSError:  # not there yet, or no such trace
            return None

    def _run(self, program: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        with (self.folder / f"{program.name}.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [program, *arguments],
                    env={**os.environ, **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )


@dataclass(frozen=True)
class LoggedRecord:
    """One log record, as the collector passes it on."""

    raw: Mapping[str, Any]
    resource: Mapping[str, Any]
    """What its process says of itself."""

    @property
    def body(self) -> str:
        return str(self.raw["body"]["stringValue"])

    @property
    def trace_id(self) -> str:
        return str(self.raw.get("traceId", ""))

    @property
    def attributes(self) -> dict[str, Any]:
        return _plain(self.raw.get("attributes", ()))


class LogBasket:
    """Where the collector brings log records and metrics to, in OTLP's JSON."""

    def __init__(self) -> None:
        self._found: list[LoggedRecord] = []
        self._metrics: dict[str, dict[str, Mapping[str, Any]]] = {}
        basket = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                basket.take(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def take(self, request: Mapping[str, Any]) -> None:
        """Keep the records of a request, and of metrics the newest."""
        for of_process in request.get("resourceMetrics", ()):
            instance = _plain(of_process["resource"]["attributes"])["service.instance.id"]
            kept = self._metrics.setdefault(instance, {})
            for of_scope in of_process["scopeMetrics"]:
                kept |= {raw["name"]: raw for raw in of_scope["metrics"]}
        for of_process in request.get("resourceLogs", ()):
            resource = _plain(of_process["resource"]["attributes"])
            for of_scope in of_process["scopeLogs"]:
                self._found += [LoggedRecord(raw, resource) for raw in of_scope["logRecords"]]

    def found(self, instance: str, body: str | None = None) -> list[LoggedRecord]:
        """Give the records of a process, by its instance id, that have this body."""
        return [
            one
            for one in self._found
            if one.resource["service.instance.id"] == instance and body in {None, one.body}
        ]

    def metrics(self, instance: str) -> Mapping[str, Mapping[str, Any]]:
        """Give what a process sent last, by the metrics' names."""
        return self._metrics.get(instance, {})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _plain(attributes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Read OTLP's attributes; whole numbers are texts in its JSON."""
    found = {}
    for one in attributes:
        ((kind, value),) = one["value"].items()
        found[one["key"]] = int(value) if kind == "intValue" else value
    return found


def _trace(raw: Mapping[str, Any]) -> Trace:
    services = {name: process["serviceName"] for name, process in raw["processes"].items()}
    return Trace(raw["traceID"], raw["spans"], services)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def shared_observability(folder: Path) -> Observability:
    """Start a collector and Jaeger; skip where there are none, unless CI has to have them."""
    one = Observability(folder)
    needed(one.start, "the traces are not looked up in a real Jaeger")
    return one


def needed(start: Callable[[], None], purpose: str) -> None:
    """Start a program; skip where it is absent, unless CI has to have it.

    `purpose` says what is not done without it.
    """
    try:
        start()
    except Absent as why:
        if os.environ.get("TELEMETRY_TESTS_REQUIRE_OBSERVABILITY") == "1":
            pytest.fail(str(why))
        pytest.skip(f"{why}: {purpose}")


class SilentCollector:
    """Takes connections, and never answers."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._socket.getsockname()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def was_asked(self) -> bool:
        """Tell whether somebody waits for an answer."""
        self._socket.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            connection, _ = self._socket.accept()
            connection.close()
            return True
        return False


class Receiver:
    """Takes what is posted to it, and answers with a status."""

    def __init__(self, status: int = 200) -> None:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class RefusingCollector(Receiver):
    """Answers everything with a refusal."""

    def __init__(self, status: int = 400) -> None:
        super().__init__(status)

    def was_asked(self) -> bool:
        """Tell whether it refused anything."""
        return bool(self.bodies)


@contextlib.contextmanager
def absent_collector() -> Iterator[int]:
    """Give a port where nobody listens."""
    with socket.socket() as held:  # bound and not listening: nobody else gets it meanwhile
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])
