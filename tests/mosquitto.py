"""A real Mosquitto of a test's own: killed and started again, with the sessions that it keeps."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest
from certificates import Signed
from servers import START_TIMEOUT_S, eventually, free_port

_BINARY: Final = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")


def is_here() -> bool:
    """Tell whether this machine has a Mosquitto, and its clients."""
    return _BINARY is not None and shutil.which("mosquitto_pub") is not None


def needs_mosquitto() -> None:
    """Skip a test where there is no Mosquitto; in CI it fails."""
    if is_here():
        return
    why = "no mosquitto here: apt-get install mosquitto mosquitto-clients"
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


class Mosquitto:
    """A broker. `options` are lines of its configuration."""

    host = "127.0.0.1"

    def __init__(self, folder: Path, *options: str, authority: Path | None = None) -> None:
        needs_mosquitto()
        self.port = free_port()
        self.folder = folder
        self.authority = authority
        folder.mkdir(parents=True, exist_ok=True)
        who = [] if any(one.startswith("password_file") for one in options) else ["allow_anonymous true"]
        lines = [
            f"listener {self.port} {self.host}", *who, "persistence true", f"persistence_location {folder}/",
            # It writes what it holds whenever something has changed, and at its end.
            "autosave_on_changes true", "autosave_interval 1", "max_queued_messages 0", "sys_interval 1",
            *(["user root"] if os.getuid() == 0 else []), *options,
        ]  # fmt: skip
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address, as MQTT_URL has it."""
        return f"{'mqtt' if self.authority is None else 'mqtts'}://localhost:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(_BINARY), "-c", str(self.folder / "mosquitto.conf")], stdout=log, stderr=log
            )
        eventually(self._listens, START_TIMEOUT_S, f"mosquitto listens: {self.folder / 'mosquitto.log'}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it; what it holds is written by then, but where it is killed."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(START_TIMEOUT_S)

    def publish(self, topic: str, payload: str | bytes, *more: str) -> None:
        """Publish by mosquitto_pub, with its acknowledgement."""
        data = payload.encode() if isinstance(payload, str) else payload
        where = ["-h", self.host, "-p", str(self.port), "-q", "1", "-t", topic]
        subprocess.run(
            ["mosquitto_pub", *where, *(["-s"] if data else ["-n"]), *more],
            input=data, check=True, timeout=60,
        )  # fmt: skip

    def publish_lines(self, topic: str, lines: Iterable[str], timeout_s: float) -> None:
        """Publish each line as a message by itself, all by one connection, with their acknowledgements.

        Raises subprocess.SubprocessError where that fails, or is not done in time.
        """
        where = ["-h", self.host, "-p", str(self.port), "-q", "1", "-t", topic, "-l"]
        data = "".join(f"{line}\n" for line in lines).encode()
        subprocess.run(["mosquitto_pub", *where], input=data, check=True, timeout=timeout_s)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "mosquitto.log").read_text(errors="replace")
        try:
            socket.create_connection((self.host, self.port), timeout=1).close()
        except OSError:
            return False
        return True


def tls_options(authority: Path, server: Signed) -> tuple[str, ...]:
    """Give the options for TLS with a certificate that every client needs."""
    return (
        f"cafile {authority}",
        f"certfile {server.certificate}",
        f"keyfile {server.key}",
        "require_certificate true",
    )
