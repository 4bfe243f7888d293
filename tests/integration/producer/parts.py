"""A publisher wired to a real server, with time that is ours, and producer processes."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, cast

import redis
from fakes import FakeClock
from servers import Address

from services.brokers.producing.send_traces import NO_TRACES, Traces
from services.brokers.producing.side import ProducerTools
from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.producing.publisher import Limits
from services.brokers.redis.producing.side import side_of
from services.contract.producing.outgoing import Batch, Numbering, Outgoing, Position
from services.contract.producing.publishing import Run
from services.runtime.clock import Clock
from services.runtime.health import Health
from services.runtime.settings import ProducerSettings
from services.runtime.telemetry.metrics import Metrics

ROOT: Final = Path(__file__).resolve().parents[3]
KEYS: Final = StreamKeys()


class Lines(logging.Handler):
    """Keeps the log."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def named(self, event: str) -> list[logging.LogRecord]:
        return [record for record in self.records if record.getMessage() == event]


class Bench:
    """One publisher, and everything it was given."""

    def __init__(
        self,
        client: redis.Redis,
        limits: Limits | None = None,
        run: Run | None = None,
        traces: Callable[[Clock], Traces] = lambda _: NO_TRACES,
        clock: FakeClock | None = None,
    ) -> None:
        self.client = client
        self.clock = clock or FakeClock()
        self.metrics = Metrics("producer")
        self.health = Health(60.0, self.clock.monotonic)
        self.log = Lines()
        logger = logging.getLogger("publisher")
        logger.handlers.clear()
        logger.propagate = False
        logger.setLevel("DEBUG")
        logger.addHandler(self.log)
        self.tools = ProducerTools(self.clock, self.metrics, logger, self.health, traces(self.clock))
        limits = limits or Limits()
        settings = ProducerSettings(stream_max_length=limits.max_length, stream_full=limits.when_full)
        self.side = side_of(settings, self.tools, client)
        self.run = self.side.open_run("test") if run is None else run
        self.publisher = self.side.publisher(self.run)
        self.numbering = Numbering(self.run.name, self.run.last)

    def batch(self, size: int, position: Position | None = None) -> Batch:
        return Batch([self.event() for _ in range(size)], position)

    def event(self) -> Outgoing:
        event_id, sequence = self.numbering.take(1_700_000_000_000)
        return Outgoing((event_id, "d", "z", "1700000000.5", "humidity", f"{sequence}.0"), sequence)

    @property
    def record(self) -> dict[str, str]:
        found = cast("dict[bytes, bytes]", self.client.hgetall(KEYS.run(self.run.name)))
        return {name.decode(): value.decode() for name, value in found.items()}


def entries(client: redis.Redis) -> list[dict[bytes, bytes]]:
    """Give the fields of everything in the stream."""
    return [fields for _, fields in cast("list[Any]", client.xrange(KEYS.stream))]


def sequences(client: redis.Redis, run: str) -> list[int]:
    """Give the numbers of a run's events, in the stream's order."""
    ids = [fields[b"event_id"].decode() for fields in entries(client)]
    return [int(one[27:], 16) for one in ids if one[14:27] == run]


def start_producer(
    server: Address, arguments: Sequence[str], folder: Path, *, stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[str]:
    """Start `python -m services.producer`; its log is on its standard output."""
    return subprocess.Popen(
        [sys.executable, "-m", "services.producer", *arguments],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "REDIS_HOST": server.host,
            "REDIS_PORT": str(server.port),
            "PRODUCER_METRICS_PORT": "0",
            "REDIS_TIMEOUT_S": "1",
        },
        cwd=folder,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 60.0) -> tuple[list[dict[str, Any]], str]:
    """Wait for a producer's end; gives its log and its complaints."""
    output, complaints = process.communicate(timeout=timeout_s)
    return [json.loads(line) for line in output.splitlines() if line], complaints
