"""A Mosquitto of our own: on a free port of the loopback, in memory only."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bench.plan import BenchFailed
from bench.processes import running
from bench.senders import wait_until_served
from bench.server import free_port

IN_FLIGHT: Final = 1000
"""Messages that the broker sends before the first is acknowledged, to whoever asks for so many."""
_TIMEOUT_S: Final = 60.0
_FOR_EVER_S: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker."""

    port: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"mqtt://127.0.0.1:{self.port}"


def find_mosquitto() -> str | None:
    """Find the program; Debian has it where only root looks."""
    return shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")


@contextmanager
def serving(folder: Path) -> Iterator[Broker]:
    """Run a broker until the block ends. It keeps all that comes, however much. Raises BenchFailed."""
    port = free_port()
    lines = (
        f"listener {port} 127.0.0.1", "allow_anonymous true", f"max_inflight_messages {IN_FLIGHT}",
        "max_queued_messages 0",
    )  # fmt: skip
    configuration = folder / "mosquitto.conf"
    configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
    log = folder / "mosquitto.log"
    with running([str(find_mosquitto()), "-c", str(configuration)], log) as process:
        wait_until_served(port, lambda: check(process, log, "mosquitto"))
        yield Broker(port)


def check(process: "subprocess.Popen[bytes]", log: Path, what: str) -> None:
    """Raise BenchFailed where a process has ended."""
    if process.poll() is not None:
        tail = log.read_text(errors="replace")[-2000:]
        raise BenchFailed(f"mqtt: {what} ended with {process.returncode}:\n{tail}")


def session(client_id: str, **options: Any) -> Client:
    """Make a client of MQTT 5 whose session the broker keeps; it is to be connected by `connect`."""
    return Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5, **options)


def connect(client: Client, port: int) -> None:
    """Connect a client to its session of before, or to a new one."""
    properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = _FOR_EVER_S
    properties.ReceiveMaximum = IN_FLIGHT
    client.connect("127.0.0.1", port, clean_start=False, properties=properties)


def subscribe(port: int, client_id: str, topics: str) -> None:
    """Have the broker keep what comes for a client that is away."""
    client = session(client_id)
    heard: list[bool] = []
    client.on_subscribe = lambda *_: heard.append(True)

    def ask(client: Client, *_: Any) -> None:
        client.subscribe(topics, 1)

    client.on_connect = ask
    connect(client, port)
    with _looping(client):
        _wait(lambda: bool(heard), "the broker grants no subscription")


@contextmanager
def publisher(port: int) -> Iterator[Callable[[str, bytes], None]]:
    """Give what publishes with QoS 1; at its end all is acknowledged. Raises BenchFailed."""
    client = session("publisher")
    client.max_inflight_messages_set(IN_FLIGHT)
    heard: list[int] = []
    sent = 0
    client.on_publish = lambda _, __, number, ___, ____: heard.append(number)

    def publish(topic: str, payload: bytes) -> None:
        nonlocal sent
        sent += 1
        client.publish(topic, payload, 1)

    connect(client, port)
    with _looping(client):
        yield publish
        _wait(lambda: len(heard) == sent, "the broker does not acknowledge all that is published")


def publish_all(port: int, messages: Sequence[tuple[str, bytes]]) -> None:
    """Publish messages, each with its topic; all are acknowledged then."""
    with publisher(port) as publish:
        for topic, payload in messages:
            publish(topic, payload)


@contextmanager
def _looping(client: Client) -> Iterator[None]:
    client.loop_start()
    try:
        yield
    finally:
        client.disconnect()
        with suppress(RuntimeError):
            client.loop_stop()


def _wait(holds: Callable[[], bool], otherwise: str) -> None:
    ends = time.monotonic() + _TIMEOUT_S
    while not holds():
        if time.monotonic() > ends:
            raise BenchFailed(f"mqtt: {otherwise}")
        time.sleep(0.005)
