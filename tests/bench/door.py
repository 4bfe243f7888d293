"""Case `http`: the door against FastAPI with a plain redis-py pipeline, and against our generator."""

import itertools
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from bench.bench import Bench
from bench.events import generate
from bench.figure import Figure, at_least, at_most
from bench.latency import timed
from bench.memory import resident_megabytes
from bench.plan import BenchFailed, Plan, in_turn
from bench.processes import python, running
from bench.processor import spent_s
from bench.sample import Sample, percentile
from bench.senders import connect, read_success, request, send_in_waves, send_steadily, wait_until_served
from bench.server import Server, free_port
from bench.stream import KEYS
from services.contract.event import Event

_MOST_EVENTS: Final = 100_000
_SINGLE_SHARE: Final = 20
"""One event in so many is sent by itself too: each costs as much as a batch."""
_FEW: Final = 16
"""Connections that send batches."""
_FEWEST: Final = 4
"""Connections that send lines by the thousand."""
_MANY: Final = 64
"""Connections that send one event each."""
_STEADY_EVENTS: Final = 10
"""Events of a request at the steady rate."""
_OPEN: Final = 1000


@dataclass(frozen=True, slots=True)
class Way:
    """How events are sent, and to whom."""

    name: str
    command: Callable[[Server, int], Sequence[str]]
    requests: Sequence[bytes]
    events: int
    connections: int


class Measured(NamedTuple):
    """What it came to."""

    rate: float
    """Events a second, until the last answer."""
    spent_us: float
    """Microseconds of processor time an event, of the process that takes them."""


def compare(bench: Bench) -> list[Figure]:
    """Send the same requests to both in turns, then at a steady rate, then hold connections open."""
    return [*_speeds(bench), *_latencies(bench), *_memory(bench)]


def _speeds(bench: Bench) -> list[Figure]:
    ways = _ways(min(bench.plan.events, _MOST_EVENTS))
    found: dict[str, list[Measured]] = {one.name: [] for one in ways}
    for number in range(bench.plan.rounds):
        for way in in_turn(ways, number):
            measured = _send(bench.server, way)
            found[way.name].append(measured)
            bench.say(
                f"round {number + 1}/{bench.plan.rounds}  {way.name:<32}{measured.rate:>10,.0f} events/s"
                f"{measured.spent_us:>10.1f} µs"
            )
    rates = {name: Sample(tuple(one.rate for one in several)) for name, several in found.items()}
    spent = {name: Sample(tuple(one.spent_us for one in several)) for name, several in found.items()}
    figures = []
    for name, rate in rates.items():
        figures += [
            Figure("http", name, "events/s", rate),
            Figure("http", f"{name}, processor time an event", "µs", spent[name]),
        ]
    for how, goal in (("batches of 100", at_least(3)), ("one by one", None)):
        mine, theirs = f"door, {how}", f"fastapi, {how}"
        figures += [
            Figure("http", f"{how}, door / fastapi", "x", rates[mine].over(rates[theirs]), goal),
            Figure("http", f"{how}, processor time, fastapi / door", "x", spent[theirs].over(spent[mine])),
        ]
    return figures


def _ways(events: int) -> list[Way]:
    made = list(generate(events))
    batches = [request("/v1/events", _json(chunk)) for chunk in _chunks(made, 100)]
    singles = [request("/v1/events", _json([one])) for one in made[: events // _SINGLE_SHARE]]
    lines = [
        request("/api/v2/write?precision=ms", _lines(chunk), "text/plain") for chunk in _chunks(made, 1000)
    ]
    return [
        Way("door, batches of 100", _door, batches, events, _FEW),
        Way("fastapi, batches of 100", _fastapi, batches, events, _FEW),
        Way("door, one by one", _door, singles, len(singles), _MANY),
        Way("fastapi, one by one", _fastapi, singles, len(singles), _MANY),
        Way("door, lines by the thousand", _door, lines, events, _FEWEST),
    ]


def _send(server: Server, way: Way) -> Measured:
    """Send all requests to a process that has just begun. Raises BenchFailed unless every event is there."""
    with server.client() as client:
        client.flushall()
        with _serving(server, way.command) as (port, process):
            # The first ones find nothing warm, as each start does; they are no part of it.
            warm_up = way.requests[: way.connections]
            send_in_waves(port, warm_up, way.connections)
            before = client.xlen(KEYS.stream)
            spent = spent_s([process.pid])
            seconds = send_in_waves(port, way.requests[len(warm_up) :], way.connections)
            spent = max(spent_s([process.pid]) - spent, 0.01)  # it is counted by hundredths
            sent = way.events * (len(way.requests) - len(warm_up)) // len(way.requests)
            if (published := client.xlen(KEYS.stream) - before) != sent:
                raise BenchFailed(f"{way.name}: {sent} events were sent, and {published} are in the stream")
    return Measured(sent / seconds, spent * 1e6 / sent)


@contextmanager
def _serving(
    server: Server, command: Callable[[Server, int], Sequence[str]], **more: str
) -> "Iterator[tuple[int, subprocess.Popen[bytes]]]":
    """Run what takes events; gives its port."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="telemetry-bench-") as name:
        log = Path(name) / "log.jsonl"
        settings = {
            "REDIS_URL": server.url,
            "DATA_DIR": name,
            "HTTP_PORT": str(port),
            "PRODUCER_METRICS_PORT": str(free_port()),
            **more,
        }
        with running(command(server, port), log, settings) as process:

            def check() -> None:
                if process.poll() is not None:
                    tail = log.read_text(errors="replace")[-2000:]
                    raise BenchFailed(f"http: what takes events ended with {process.returncode}:\n{tail}")

            wait_until_served(port, check)
            yield port, process


def _door(_: Server, __: int) -> Sequence[str]:
    return python("services.producer", "--http")


def _fastapi(server: Server, port: int) -> Sequence[str]:
    return python("bench.fastapi_peer", server.url, str(port))


def _latencies(bench: Bench) -> list[Figure]:
    found: dict[str, list[Sequence[float]]] = {"door": [], "generator": []}
    ways: dict[str, Callable[[Server, Plan, Path], None] | None] = {"door": _send_steadily, "generator": None}
    for number in range(bench.plan.rounds):
        for name in in_turn(list(ways), number):
            publish = ways[name]
            latencies_ms = (
                timed(bench.server, bench.plan)
                if publish is None
                else timed(bench.server, bench.plan, publish)
            )
            found[name].append(latencies_ms)
            bench.say(
                f"round {number + 1}/{bench.plan.rounds}  {name}: latency of {len(latencies_ms):,} events: "
                f"p50 {percentile(latencies_ms, 0.5):.1f} ms, p99 {percentile(latencies_ms, 0.99):.1f} ms"
            )
    figures = []
    for share, goal in ((0.5, None), (0.99, at_most(3))):
        mine, theirs = (
            Sample(tuple(percentile(one, share) for one in found[name])) for name in ("door", "generator")
        )
        what = f"request to row at {bench.plan.latency_rate:,} events/s, p{share * 100:.0f}"
        figures += [
            Figure("http", what, "ms", mine),
            Figure("http", f"{what}, door / generator", "x", mine.over(theirs), goal),
        ]
    return figures


def _send_steadily(server: Server, plan: Plan, _: Path) -> None:
    """Send events whose time is that of their request: their ids tell it, so the consumer's clock does."""
    numbers = itertools.count()

    def make() -> bytes:
        ts = time.time()
        return request(
            "/v1/events",
            json.dumps(
                [
                    {
                        "device_id": f"device-{next(numbers) % 1000}", "zone": "z", "kpi": "temperature",
                        "value": 20, "ts": round(ts, 3),
                    }
                    for _ in range(_STEADY_EVENTS)
                ]
            ).encode(),
        )  # fmt: skip

    with _serving(server, _door) as (port, _process):
        send_steadily(port, make, _STEADY_EVENTS / plan.latency_rate, plan.latency_s, _FEW)


def _memory(bench: Bench) -> list[Figure]:
    with bench.server.client() as client:
        client.flushall()
    ping = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with (
        _serving(bench.server, _door, HTTP_CONNECTIONS=str(2 * _OPEN)) as (port, process),
        ExitStack() as stack,
    ):
        before = resident_megabytes(process.pid)
        for _ in range(_OPEN):
            one = stack.enter_context(connect(port))
            one.sendall(ping)
            read_success(one)
        held = resident_megabytes(process.pid)
    bench.say(f"http: {before:.1f} MB, and {held:.1f} MB with {_OPEN:,} open connections")
    return [Figure("http", f"memory with {_OPEN:,} open connections", "MB", Sample.of(held), at_most(150))]


def _json(events: Sequence[Event]) -> bytes:
    return json.dumps(
        [
            {
                "device_id": one.device_id, "zone": one.zone, "ts": one.ts, "kpi": one.kpi,
                "value": one.value,
            }
            for one in events
        ]
    ).encode()  # fmt: skip


def _lines(events: Sequence[Event]) -> bytes:
    return "".join(
        f"plant,device={one.device_id},zone={one.zone} {one.kpi}={one.value} {one.ts * 1000:.0f}\n"
        for one in events
    ).encode()


def _chunks(events: Sequence[Event], size: int) -> list[Sequence[Event]]:
    return [events[first : first + size] for first in range(0, len(events) - size + 1, size)]
