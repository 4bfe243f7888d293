"""`/livez`, `/readyz` and `/metrics` on one port.

Live means that the loop turns: a process that hangs is restarted. Ready means that it can do its job
now; the reasons why not are in the answer. A port that is taken costs the endpoint, not the pipeline.
"""

import logging
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from prometheus_client import exposition

from services.runtime.metrics import Metrics


class Health:
    """What a process says about itself. Written by the loop, read by the endpoint's threads."""

    def __init__(self, liveness_timeout_s: float, monotonic: Callable[[], float]) -> None:
        self._timeout_s = liveness_timeout_s
        self._monotonic = monotonic
        self._turned = monotonic()
        self._unready: dict[str, str] = {"start": "starting"}

    def turn(self) -> None:
        """Say that the loop has turned once more."""
        self._turned = self._monotonic()

    def started(self) -> None:
        """Say that the start is over."""
        self.clear("start")

    def fail(self, part: str, why: str) -> None:
        """Say that `part` keeps the process from its job."""
        self._unready = {**self._unready, part: why}

    def clear(self, part: str) -> None:
        """Say that `part` works."""
        if part in self._unready:
            self._unready = {name: why for name, why in self._unready.items() if name != part}

    def liveness(self) -> str:
        """Say why the process should be restarted; empty when it is alive."""
        idle = self._monotonic() - self._turned
        return f"the loop has not turned for {idle:.1f} s" if idle > self._timeout_s else ""

    def readiness(self) -> str:
        """Say why the process can't do its job; empty when it can."""
        return "; ".join(f"{part}: {why}" for part, why in self._unready.items())


class HealthServer:
    """Serves health and metrics until closed. Port 0 serves nothing."""

    def __init__(self, port: int, health: Health, metrics: Metrics, logger: logging.Logger) -> None:
        self._server: _Server | None = None
        if port == 0:
            return
        try:
            self._server = _Server(("", port), _handler(health, metrics))
        except OSError as error:
            logger.warning("health_port_taken", extra={"port": port, "error": str(error)})
            return
        self._server.logger = logger
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()
        logger.info("health_serving", extra={"port": port})

    @property
    def is_serving(self) -> bool:
        """Whether anybody can ask: not with port 0, and not where the port was taken."""
        return self._server is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _Server(ThreadingHTTPServer):
    """Says in a line what goes wrong with one who asks; its base class writes a traceback."""

    daemon_threads = True
    logger: logging.Logger

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - as the base class has it
        error = sys.exc_info()[1]
        client = str(client_address[0])
        if isinstance(error, ConnectionError | TimeoutError):  # a scraper that went away, or was cut off
            self.logger.warning("health_client_gone", extra={"client": client, "error": str(error)})
        else:
            self.logger.error("health_request_failed", extra={"client": client}, exc_info=error)


def _handler(health: Health, metrics: Metrics) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10  # a client that never finishes its request holds a thread no longer

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                encode, kind = exposition.choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, encode(metrics.registry), kind)
            elif path in {"/livez", "/readyz"}:
                why = health.liveness() if path == "/livez" else health.readiness()
                self._answer(503 if why else 200, (why or "ok").encode() + b"\n", "text/plain; charset=utf-8")
            else:
                self._answer(404, b"try /metrics, /livez or /readyz\n", "text/plain; charset=utf-8")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
            """Say nothing: a probe every few seconds would drown the log."""

    return Handler
