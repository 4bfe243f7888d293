"""Docker by its command line, and what is inside an image."""

import hashlib
import json
import os
import re
import subprocess
import tarfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from servers import eventually

ROOT: Final = Path(__file__).parents[2]
BASE: Final = "python:3.13-slim"
REDIS: Final = "redis:8.2"
MOSQUITTO: Final = "eclipse-mosquitto:2"
SERVICES: Final = ("producer", "consumer")

BUILD_TIMEOUT_S: Final = 600.0
START_TIMEOUT_S: Final = 60.0


def docker(*arguments: str, timeout_s: float = 120, environment: Mapping[str, str] | None = None) -> str:
    """Run a command of Docker's client, and give its output. Raises AssertionError with what it said."""
    done = subprocess.run(
        ["docker", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def why_not(*command: str) -> str:
    """Say why a command of Docker's client fails here; empty where it works."""
    try:
        docker(*command)
    except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
        return str(error).strip().splitlines()[-1]
    return ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, folder or link of an image: all that two builds have to agree on, and its time."""

    kind: bytes
    mode: int
    owner: tuple[int, int]
    link: str
    digest: str
    head: bytes
    """The first 16 bytes of a file: a .pyc says there how it is checked."""
    mtime: float

    @property
    def identity(self) -> tuple[object, ...]:
        """What has to be the same, time apart."""
        return (self.kind, self.mode, self.owner, self.link, self.digest)


Tree = dict[str, Entry]


@dataclass(frozen=True)
class Image:
    """An image that was built here."""

    service: str
    tag: str

    @property
    def config(self) -> dict[str, Any]:
        """What it says of how it runs."""
        return self._inspected["Config"]  # type: ignore[no-any-return]

    @property
    def size(self) -> int:
        """Its size in bytes, with its base."""
        return int(self._inspected["Size"])

    @cached_property
    def tree(self) -> Tree:
        """Everything in its file system, by path without the leading slash."""
        return read_tree(self.tag)

    @property
    def _inspected(self) -> dict[str, Any]:
        return json.loads(docker("image", "inspect", self.tag))[0]  # type: ignore[no-any-return]


def build(service: str, tag: str, *options: str, context: Path = ROOT) -> Image:
    """Build the image of a service."""
    dockerfile = str(context / f"Dockerfile.{service}")
    docker(*("build", "--file", dockerfile, "--tag", tag, *options, str(context)), timeout_s=BUILD_TIMEOUT_S)
    return Image(service, tag)


def read_tree(image: str) -> Tree:
    """Read the file system of an image, as `docker export` gives it."""
    container = docker("create", image).strip()
    try:
        with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as export:
            assert export.stdout is not None
            with tarfile.open(fileobj=export.stdout, mode="r|") as archive:
                tree = {member.name: _entry(archive, member) for member in archive}
        assert export.returncode == 0
        return tree
    finally:
        docker("rm", "--volumes", container)


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    file = archive.extractfile(member) if member.isreg() else None
    content = b"" if file is None else file.read()
    return Entry(
        member.type,
        member.mode,
        (member.uid, member.gid),
        member.linkname,
        hashlib.sha256(content).hexdigest(),
        content[:16],
        member.mtime,
    )


@dataclass(frozen=True)
class Container:
    """A container that runs, or has run."""

    name: str

    @property
    def state(self) -> dict[str, Any]:
        """What the engine says of its process."""
        return json.loads(docker("inspect", "--format", "{{json .State}}", self.name))  # type: ignore[no-any-return]

    def exec(self, *command: str) -> str:
        """Run a command in it, as `kubectl exec` does."""
        return docker("exec", self.name, *command)

    def logs(self) -> list[dict[str, Any]]:
        """Give its log lines; each has to be JSON."""
        return [json.loads(line) for line in docker("logs", self.name).splitlines()]

    def logged(self, event: str) -> dict[str, Any]:
        """Wait for a log line, and give it."""

        def found() -> dict[str, Any] | None:
            return next((line for line in self.logs() if line["message"] == event), None)

        return eventually(found, START_TIMEOUT_S, f"{self.name} logs {event}")  # type: ignore[no-any-return]

    def stop(self) -> int:
        """End it as Kubernetes does, and give its exit code."""
        docker("stop", "--time", "60", self.name)
        return int(self.state["ExitCode"])


class Site:
    """A network with containers on it; all of it goes when the test ends."""

    def __init__(self) -> None:
        self.name = f"telemetry-test-{uuid.uuid4().hex[:8]}"
        self.volume = f"{self.name}-data"
        self._containers: list[str] = []

    def start_redis(self) -> Container:
        """Start a server that the services find by the name `redis`, and wait until it serves."""
        server = self._run("redis", REDIS, "--network-alias", "redis")
        eventually(lambda: not why_not("exec", server.name, "redis-cli", "ping"), START_TIMEOUT_S, "redis")
        return server

    def start(self, image: Image, number: int = 1, **settings: str) -> Container:
        """Start a service as the restricted pod security wants it: nothing to write to but its volume."""
        settings = {"REDIS_HOST": "redis", f"{image.service.upper()}_RUN_DURATION": "0", **settings}
        options = [part for name, value in settings.items() for part in ("--env", f"{name}={value}")]
        options += ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"]  # noqa: S108 - in the container
        options += ["--security-opt", "no-new-privileges"]
        if image.service == "consumer":
            options += ["--volume", f"{self.volume}:/data"]
        return self._run(f"{image.service}-{number}", image.tag, *options)

    def _run(self, name: str, image: str, *options: str) -> Container:
        container = Container(f"{self.name}-{name}")
        self._containers.append(container.name)
        docker("run", "--detach", "--name", container.name, "--network", self.name, *options, image)
        return container

    def remove_containers(self) -> None:
        """Remove all containers, whatever they do."""
        if self._containers:
            docker("rm", "--force", "--volumes", *self._containers)
            self._containers.clear()


@contextmanager
def new_site() -> Iterator[Site]:
    """Make a network, and take down all that was put on it."""
    site = Site()
    docker("network", "create", site.name)
    try:
        yield site
    finally:
        site.remove_containers()
        docker("network", "rm", site.name)
        docker("volume", "rm", "--force", site.volume)


def audited(telemetry: Callable[..., str], least: int) -> dict[str, int]:
    """Ask `telemetry audit` until so many events are stored, and give the numbers of its last line.

    An audit that finds an event missing exits with 1, and so fails at once.
    """

    def enough() -> dict[str, int] | None:
        line = telemetry("audit", "--wait", "30").strip().splitlines()[-1]
        assert line.startswith("audit: "), line
        numbers = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line)}
        return numbers if numbers["stored"] >= least else None

    return eventually(enough, START_TIMEOUT_S, f"{least} events are stored")  # type: ignore[no-any-return]
