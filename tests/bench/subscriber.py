"""Case `mqtt`: the door against paho with an XADD before each acknowledgement, and from message to row.

A real Mosquitto holds the messages of a session whose client is away. Then the client comes, and takes them.
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench import broker
from bench.bench import Bench
from bench.events import generate
from bench.figure import Figure
from bench.latency import timed
from bench.plan import BenchFailed, Plan, in_turn
from bench.processes import python, running
from bench.processor import spent_s
from bench.sample import Sample, percentile
from bench.server import Server, free_port
from bench.stream import KEYS
from services.contract.event import Event

_SHARE: Final = 5
"""One event in so many of the other cases is a message."""
_MOST: Final = 20_000
_WARM_SHARE: Final = 10
"""The first tenth finds nothing warm, as each start does; it is no part of it."""
_TOPICS: Final = "plant/{zone}/{device}/{kpi}"
_SESSION: Final = "bench"
_TIMEOUT_S: Final = 120.0
_LOOK_S: Final = 0.002

Command = Callable[[Server, int], Sequence[str]]


class Measured(NamedTuple):
    """What it came to."""

    rate: float
    """Events a second, until the last is in the stream."""
    spent_us: float
    """Microseconds of processor time an event, of the process that takes them."""


def compare(bench: Bench) -> list[Figure]:
    """Take the same messages in turns, then time a steady rate."""
    return [*_speeds(bench), *_latencies(bench)]


def _speeds(bench: Bench) -> list[Figure]:
    events = list(generate(min(bench.plan.events // _SHARE, _MOST)))
    messages = [(_topic(one), json.dumps({"ts": one.ts, "value": one.value}).encode()) for one in events]
    ways: dict[str, Command] = {"door": _door, "paho": _paho}
    found: dict[str, list[Measured]] = {name: [] for name in ways}
    for number in range(bench.plan.rounds):
        for name in in_turn(list(ways), number):
            measured = _take(bench.server, ways[name], messages, name)
            found[name].append(measured)
            bench.say(
                f"round {number + 1}/{bench.plan.rounds}  {name}, messages of one event: "
                f"{measured.rate:>10,.0f} events/s{measured.spent_us:>10.1f} µs"
            )
    rates = {name: Sample(tuple(one.rate for one in several)) for name, several in found.items()}
    spent = {name: Sample(tuple(one.spent_us for one in several)) for name, several in found.items()}
    figures = []
    for name in ways:
        figures += [
            Figure("mqtt", f"{name}, QoS 1", "events/s", rates[name]),
            Figure("mqtt", f"{name}, QoS 1, processor time an event", "µs", spent[name]),
        ]
    return [
        *figures,
        Figure("mqtt", "QoS 1, door / paho", "x", rates["door"].over(rates["paho"])),
        Figure("mqtt", "QoS 1, processor time, paho / door", "x", spent["paho"].over(spent["door"])),
    ]


def _take(server: Server, command: Command, messages: Sequence[tuple[str, bytes]], name: str) -> Measured:
    """Have a process take messages that wait for it. Raises BenchFailed unless every event is there."""
    with (
        server.client() as client,
        tempfile.TemporaryDirectory(prefix="telemetry-bench-") as place,
        broker.serving(Path(place)) as one,
    ):
        client.flushall()
        broker.subscribe(one.port, _SESSION, "plant/#")
        broker.publish_all(one.port, messages)
        log = Path(place) / "log.jsonl"
        with running(command(server, one.port), log, _settings(server, one, place)) as process:

            def wait_for(events: int) -> None:
                ends = time.monotonic() + _TIMEOUT_S
                while client.xlen(KEYS.stream) < events:
                    broker.check(process, log, name)
                    if time.monotonic() > ends:
                        raise BenchFailed(f"mqtt: {name} took {client.xlen(KEYS.stream)} of {len(messages)}")
                    time.sleep(_LOOK_S)

            wait_for(len(messages) // _WARM_SHARE)
            before, started, spent = client.xlen(KEYS.stream), time.perf_counter(), spent_s([process.pid])
            wait_for(len(messages))
            seconds = time.perf_counter() - started
            spent = max(spent_s([process.pid]) - spent, 0.01)  # it is counted by hundredths
        if (taken := client.xlen(KEYS.stream)) != len(messages):
            raise BenchFailed(f"mqtt: {len(messages)} messages, and {taken} events are in the stream")
    counted = len(messages) - before
    return Measured(counted / seconds, spent * 1e6 / counted)


def _settings(server: Server, one: broker.Broker, place: str) -> dict[str, str]:
    return {
        "REDIS_URL": server.url,
        "DATA_DIR": place,
        "MQTT_URL": one.url,
        "MQTT_TOPICS": _TOPICS,
        "MQTT_CLIENT_ID": _SESSION,
        "MQTT_MAX_IN_FLIGHT": str(broker.IN_FLIGHT),
        "PRODUCER_METRICS_PORT": str(free_port()),
    }


def _door(_: Server, __: int) -> Sequence[str]:
    return python("services.producer", "--mqtt")


def _paho(server: Server, port: int) -> Sequence[str]:
    return python("bench.mqtt_peer", server.url, str(port), _SESSION)


def _latencies(bench: Bench) -> list[Figure]:
    found: list[Sequence[float]] = []
    for number in range(bench.plan.rounds):
        latencies_ms = timed(bench.server, bench.plan, _publish_steadily)
        found.append(latencies_ms)
        bench.say(
            f"round {number + 1}/{bench.plan.rounds}  latency of {len(latencies_ms):,} messages: "
            f"p50 {percentile(latencies_ms, 0.5):.1f} ms, p99 {percentile(latencies_ms, 0.99):.1f} ms"
        )
    what = f"message to row at {bench.plan.latency_rate:,} events/s"
    return [
        Figure(
            "mqtt",
            f"{what}, p{share * 100:.0f}",
            "ms",
            Sample(tuple(percentile(one, share) for one in found)),
        )
        for share in (0.5, 0.99)
    ]


def _publish_steadily(server: Server, plan: Plan, folder: Path) -> None:
    """Publish messages whose time is that of their publishing: their ids tell it to the consumer's clock."""
    log = folder / "door.jsonl"
    with (
        broker.serving(folder) as one,
        running(_door(server, one.port), log, _settings(server, one, str(folder))) as process,
    ):
        wanted = int(plan.latency_rate * plan.latency_s)
        with server.client() as client, broker.publisher(one.port) as publish:
            _wait_for_subscription(log, lambda: broker.check(process, log, "door"))
            started = time.monotonic()
            for number in range(wanted):
                wait_s = started + number / plan.latency_rate - time.monotonic()
                if wait_s > 0:
                    time.sleep(wait_s)
                payload = json.dumps({"ts": round(time.time(), 3), "value": 20}).encode()
                publish(f"plant/z/device-{number % 1000}/temperature", payload)
            ends = time.monotonic() + _TIMEOUT_S
            while int(client.xinfo_stream(KEYS.stream)["entries-added"]) < wanted:
                broker.check(process, log, "door")
                if time.monotonic() > ends:
                    raise BenchFailed("mqtt: not all that was published is in the stream")
                time.sleep(_LOOK_S)


def _wait_for_subscription(log: Path, check: Callable[[], None]) -> None:
    ends = time.monotonic() + _TIMEOUT_S
    while "mqtt_connected" not in log.read_text(errors="replace"):
        check()
        if time.monotonic() > ends:
            raise BenchFailed("mqtt: the door does not subscribe")
        time.sleep(0.02)


def _topic(event: Event) -> str:
    return f"plant/{event.zone}/{event.device_id}/{event.kpi}"
