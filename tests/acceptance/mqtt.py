"""A door that takes messages of a broker, and a gateway that publishes to that broker."""

import contextlib
import json
import queue
import signal
import threading
from collections import deque
from typing import Any, Final

from acceptance.rig import PATIENCE_S, Process, Rig
from mosquitto import Mosquitto
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from servers import eventually, free_port

TOPICS: Final = "plant/{zone}/{device}/{kpi}"
_WINDOW: Final = 50
"""Readings of a gateway that are under way at most."""
_PAUSE_S: Final = 0.002
"""Between two of them: what it publishes has to be stored and audited, too."""


class MqttDoor:
    """A door of a rig, which can be ended and started again with the same session."""

    def __init__(self, rig: Rig, broker: Mosquitto, client_id: str = "door", **environment: str) -> None:
        self._rig = rig
        self._environment = {
            "MQTT_URL": broker.url,
            "MQTT_TOPICS": TOPICS,
            "MQTT_CLIENT_ID": client_id,
            "PRODUCER_METRICS_PORT": str(free_port()),
            **environment,
        }
        self._port = self._environment["PRODUCER_METRICS_PORT"]
        self.process = self.start()

    def start(self) -> Process:
        """Start it, and wait until it is subscribed, or has said that it can't be."""
        command = [*self._rig.python, "-m", "services.producer", "--mqtt"]
        own = {**self._environment, "CONSUMER_METRICS_PORT": self._port}  # where the rig asks
        self.process = self._rig.start("door", command, own)
        told = ("mqtt_connected", "mqtt_refused", "mqtt_unavailable")
        eventually(lambda: any(map(self.process.lines, told)), PATIENCE_S, f"it tells: {self.process.output}")
        return self.process

    def stop(self) -> None:
        """Ask it to stop; it must end well."""
        self.process.signal(signal.SIGTERM)
        assert self.process.wait() == 0, self.process.text[-2000:]

    def figure(self, name: str, **labels: str) -> float:
        """Give a figure of its metrics; 0 where it has none."""
        text = ",".join(f'{key}="{value}"' for key, value in labels.items())
        begin = f"telemetry_mqtt_{name}{f'{{{text}}}' if text else ''} "
        lines = self.process.probe("/metrics")[1].splitlines()
        return next((float(line.removeprefix(begin)) for line in lines if line.startswith(begin)), 0.0)


class Gateway:
    """Publishes readings with times of their own, one after the other, until it is closed."""

    def __init__(self, broker: Mosquitto, name: str, pause_s: float = _PAUSE_S) -> None:
        self.name = name
        self._pause_s = pause_s
        self.confirmed = 0
        """Readings that the broker has acknowledged, the first ones."""
        self.published = 0
        self._is_over = threading.Event()
        self._under_way: deque[int] = deque()
        self._heard: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._client = Client(CallbackAPIVersion.VERSION2, name, clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_publish = lambda _, __, number, ___, ____: self._heard.put(number)
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        heard: set[int] = set()
        while not self._is_over.is_set() or self._under_way:
            if len(self._under_way) < _WINDOW and not self._is_over.is_set():
                payload = json.dumps(reading_of(self.published))
                topic = f"plant/z/{self.name}/temperature"
                self._under_way.append(self._client.publish(topic, payload, qos=1).mid)
                self.published += 1
                self._is_over.wait(self._pause_s)
                continue
            with contextlib.suppress(queue.Empty):
                heard.add(self._heard.get(timeout=0.1))
            while self._under_way and self._under_way[0] in heard:
                heard.remove(self._under_way.popleft())
                self.confirmed += 1

    def confirm_more(self, readings: int = 50) -> None:
        """Wait until some more are acknowledged."""
        before = self.confirmed
        eventually(lambda: self.confirmed > before + readings, PATIENCE_S, f"{self.name} is heard")

    def close(self) -> None:
        """Stop it, once all that it has published is acknowledged."""
        self._is_over.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), f"{self.name} waits for acknowledgements"
        self._client.disconnect()
        self._client.loop_stop()


def reading_of(number: int) -> dict[str, Any]:
    """Give a reading with a time of its own, another for each number."""
    return {"value": number % 100, "ts": 1_710_000_000 + number}


def has_session(broker: Mosquitto, client_id: str, version: str = "5") -> bool:
    """Ask the broker whether it has a session of this name; it has one afterwards."""
    is_v5 = version == "5"
    heard: list[bool] = []
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id,
        clean_session=None if is_v5 else False,
        protocol=MQTTProtocolVersion.MQTTv5 if is_v5 else MQTTProtocolVersion.MQTTv311,
    )
    client.on_connect = lambda _, __, flags, ___, ____: heard.append(flags.session_present)
    if is_v5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 100
        client.connect(broker.host, broker.port, clean_start=False, properties=properties)
    else:
        client.connect(broker.host, broker.port)
    client.loop_start()
    eventually(lambda: heard, PATIENCE_S, "the broker answers")
    client.disconnect()
    client.loop_stop()
    return heard[0]
