"""Pipelines of real processes, each with a server of its own, told apart by their release."""

import contextlib
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from acceptance.disks import small_disk
from acceptance.publisher import KEYS
from acceptance.rig import Process, Rig
from mosquitto import Mosquitto
from servers import LocalServer, eventually, local_binary, quiet_port

LOOK_S: Final = 0.25
CALM: Final = {
    "SLEEP_INTERVAL": "0.2",
    "CLAIM_INTERVAL_S": "0.5",
    "RETENTION_INTERVAL_S": "1",
    # Dozens of these run at once, and what they cover others cover too.
    "COVERAGE_PROCESS_CONFIG": "",
}
"""Everything that is made short for tests of one pipeline, less so."""
_START_S: Final = 90.0
"""Dozens of processes start at once."""
_SCRIPT: Final = Path(__file__).parent / "quick_consumer.py"


class Pipeline:
    """A producer, consumers, a server and a data folder. What it holds and runs ends with `close`."""

    def __init__(self, release: str, folder: Path, consumers: int = 1) -> None:
        self.release = release
        self.producer_port = quiet_port()
        self.http_port = quiet_port()
        """Where the producer takes events, in mode http."""
        self.consumer_ports = [quiet_port() for _ in range(consumers)]
        self.consumers: list[Process] = []
        self.producer: Process | None = None
        self.broker: Mosquitto | None = None
        """Where the producer subscribes, in mode mqtt."""
        self._ending = threading.Event()
        self._stack = contextlib.ExitStack()
        folder.mkdir(parents=True)
        self.server = LocalServer(local_binary(), folder / "server", "--appendonly", "yes", name=release)
        self.server.start()
        self._stack.callback(self.server.kill)
        self.rig = Rig(self.server, folder)
        self._stack.callback(self.rig.close)

    def close(self) -> None:
        """End all of it, whatever state it is in."""
        self._ending.set()
        for one in self.consumers:
            if one.exit_code is None:
                one.signal(signal.SIGCONT)
        self._stack.close()

    def start(self, rate: int = 40, **environment: str) -> None:
        """Start all processes; wait for none."""
        self.rig.environment |= CALM | environment
        self.consumers = [self._consumer(number) for number in range(len(self.consumer_ports))]
        own = {
            "PRODUCER_METRICS_PORT": str(self.producer_port),
            "HTTP_PORT": str(self.http_port),
            "RATE": str(rate),
            "BATCH_SIZE": str(max(1, rate // 5)),
            "PRODUCER_RUN_DURATION": "0",
        }
        self.producer = self.rig.start("producer", [sys.executable, "-m", "services.producer"], own)

    def use_small_disk(self, megabytes: int) -> Path:
        """Have the data on a disk of its own; gives the root of it."""
        disk = self._stack.enter_context(small_disk(self.rig.folder / "disk", megabytes))
        self.rig.use_data(disk / "data")
        return disk

    def use_broker(self, *options: str) -> None:
        """Have the producer take what comes by an MQTT broker of its own."""
        self.broker = Mosquitto(self.rig.folder / "mosquitto", *options)
        self._stack.callback(self.broker.stop, signal.SIGKILL)
        self.broker.start()
        self.rig.environment |= {
            "PRODUCER_MODE": "mqtt", "MQTT_URL": self.broker.url, "MQTT_CLIENT_ID": self.release,
            "MQTT_TOPICS": "plant/{zone}/{device}/{kpi}",
        }  # fmt: skip

    def stores(self) -> None:
        """Wait until something is stored."""
        self.until(self.rig.count, f"something stored of {self.release}")

    def _consumer(self, number: int) -> Process:
        own = {
            "CONSUMER_NAME": f"consumer-{number}",
            "CONSUMER_METRICS_PORT": str(self.consumer_ports[number]),
        }
        return self.rig.start(f"consumer-{number}", [sys.executable, _SCRIPT, str(LOOK_S)], own)

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something; all processes must live to see it."""

        def holds() -> object:
            for process in (*self.consumers, self.producer):
                assert process is None or process.exit_code is None, process.text[-2000:]
            return condition()

        eventually(holds, _START_S, what)

    def run(self, *command: str) -> tuple[int, str]:
        """Run the telemetry command to its end; gives its exit code and what it says."""
        process = self.rig.start(
            f"telemetry-{command[0]}", [sys.executable, "-m", "services.ops", *command], {}
        )
        return process.wait(_START_S), process.text

    def connect(self) -> sqlite3.Connection:
        """Open the database, as a person with a shell would."""
        connection = sqlite3.connect(
            self.rig.settings.database, isolation_level=None, timeout=30, check_same_thread=False
        )
        self._stack.callback(connection.close)
        return connection

    def lock(self) -> sqlite3.Connection:
        """Keep the database from being written to, until the connection rolls back."""
        connection = self.connect()
        connection.execute("BEGIN IMMEDIATE")
        return connection

    def meanwhile(self, work: Callable[[threading.Event], None]) -> None:
        """Do something beside everything else, until the event that it is given is set."""
        thread = threading.Thread(target=work, args=[self._ending])
        thread.start()
        self._stack.callback(thread.join)

    def waits(self) -> bool:
        """Tell whether consumers are unready, with entries pending and others not even delivered."""
        if any(one.probe()[0] != 503 for one in self.consumers):
            return False
        groups: list[dict[str, object]] = self.rig.client.xinfo_groups(KEYS.stream)
        return bool(self.rig.pending()) and groups[0]["last-delivered-id"] != self._newest()

    def _newest(self) -> object:
        return self.rig.client.xinfo_stream(KEYS.stream)["last-generated-id"]
