"""A publisher wired to a real server, with time that is ours, and producer processes."""

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, cast

import pytest
import redis
from fakes import FakeClock
from servers import Address

from services.brokers.producing.send_traces import NO_TRACES, Traces
from services.brokers.producing.side import ProducerTools
from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.producing.publisher import Limits
from services.brokers.redis.producing.side import side_of
from services.brokers.redis.server.scripts import read_script
from services.contract.codec import Packed, is_packed, unpack
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
        events_per_entry: int = 1,
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
        settings = ProducerSettings(
            stream_max_length=limits.max_length,
            stream_full=limits.when_full,
            events_per_entry=events_per_entry,
        )
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


def events(client: redis.Redis) -> list[list[bytes]]:
    """Give the fields of each event in the stream, as names and values in turn."""
    found: list[list[bytes]] = []
    for fields in entries(client):
        raw = [part for pair in fields.items() for part in pair]
        packed = unpack(raw) if is_packed(raw) else None
        found += [raw] if packed is None else cast("Packed", packed).events()
    return found


def sequences(client: redis.Redis, run: str) -> list[int]:
    """Give the numbers of a run's events, in the stream's order."""
    ids = [fields[1].decode() for fields in events(client)]
    return [int(one[27:], 16) for one in ids if one[14:27] == run]


def announce(
    client: redis.Redis, consumer: str = "c", group: str = KEYS.group, holds_ms: int = 60_000, form: int = 2
) -> None:
    """Have a consumer say which entries it reads, and read as one that is there."""
    script = read_script("consuming/reading/announce.lua")
    cast("Any", client).eval(script, 1, KEYS.forms, group, consumer, form, holds_ms, "")


def read_as(client: redis.Redis, consumer: str = "c", group: str = KEYS.group) -> list[Any]:
    """Read what was delivered to a consumer of a group; it is there from then on."""
    with contextlib.suppress(redis.ResponseError):
        client.xgroup_create(KEYS.stream, group, "0", mkstream=True)
    return cast("list[Any]", client.xreadgroup(group, consumer, {KEYS.stream: "0"}))


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


def lose_an_answer(client: redis.Redis, monkeypatch: pytest.MonkeyPatch, command: str) -> list[Any]:
    """Lose the next answer to a command; gives what was lost. Emptied, the next one is lost as well."""
    execute: Any = client.execute_command
    lost: list[Any] = []

    def lose_once(*arguments: object, **more: object) -> object:
        answer = execute(*arguments, **more)
        if arguments[0] == command and not lost:
            lost.append(answer)
            raise redis.ConnectionError("the answer is lost")
        return answer

    monkeypatch.setattr(client, "execute_command", lose_once)
    return lost
