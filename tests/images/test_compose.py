"""docker-compose.yml as people type it."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import yaml
from images.engine import MOSQUITTO, REDIS, ROOT, Image, audited, docker, why_not
from servers import eventually, free_port

from services.runtime.settings import ProducerSettings, Sources, load

Compose = Callable[..., str]


@pytest.fixture
def compose(images: dict[str, Image]) -> Iterator[Compose]:
    """Give `docker compose` on a project of one's own, with the images of the tests."""
    if why := why_not("compose", "version"):
        pytest.skip(f"no `docker compose` here, so docker-compose.yml is not run: {why[:200]}")
    project = f"telemetry-test-{uuid.uuid4().hex[:8]}"
    tag = images["consumer"].tag.rpartition(":")[2]
    own = {"IMAGE_TAG": tag, "MQTT_PORT": str(free_port())}
    run = partial(docker, "compose", "--project-name", project, environment=own, timeout_s=300)
    yield run
    run("--profile", "mqtt", "down", "--volumes", "--timeout", "20")


def test_three_consumers_are_healthy_and_miss_nothing(compose: Compose) -> None:
    """Consumers come up before the server, are scaled, and outlive its restart."""
    compose("up", "--detach", "--no-build", "--no-deps", "consumer")
    compose("up", "--detach", "--no-build", "--scale", "consumer=3", "--wait")
    services = [json.loads(line) for line in compose("ps", "--format", "json").splitlines()]
    healthy = sorted(one["Service"] for one in services if one["Health"] == "healthy")
    assert healthy == ["consumer", "consumer", "consumer", "producer", "redis"]

    def telemetry(*command: str) -> str:
        return compose("exec", "--no-TTY", "consumer", "telemetry", *command)

    stored = audited(telemetry, 1000)["stored"]
    compose("restart", "redis")
    compose("up", "--detach", "--no-build", "--scale", "consumer=3", "--wait")
    assert audited(telemetry, stored + 1000)["missing"] == 0


FILE: Final = ROOT / "docker-compose.yml"


def test_what_takes_events_is_asked_for_and_open_to_this_machine_alone() -> None:
    """By its profile; it says where it listens as its own code reads it."""
    services = yaml.safe_load(FILE.read_text())["services"]
    asked_for = {name: one["profiles"] for name, one in services.items() if "profiles" in one}
    assert asked_for == {"http": ["http"], "mosquitto": ["mqtt"], "mqtt": ["mqtt"]}
    assert all(port.startswith("127.0.0.1:") for one in services.values() for port in one.get("ports", ()))
    door = services["http"]
    assert door["profiles"] == ["http"]
    environment = {**door["environment"], "REDIS_PASSWORD_FILE": ""}
    settings = load(ProducerSettings, Sources({}, environment, {}))
    assert (settings.producer_mode, settings.anonymous) == ("http", True)
    (port,) = door["ports"]
    assert port == f"127.0.0.1:${{HTTP_PORT:-{settings.http_port}}}:{settings.http_port}"
    longest = settings.http_read_timeout_s + settings.http_wait_s
    assert int(door["stop_grace_period"].removesuffix("s")) > longest + 1


def test_a_broker_and_a_producer_come_up_by_their_profile(compose: Compose) -> None:
    """And what is published at the broker is stored, though the producer was away when it came."""
    if why := why_not("image", "inspect", MOSQUITTO):
        pytest.skip(f"no image {MOSQUITTO} here, so the profile mqtt is not run: {why[:200]}")
    services = ("redis", "consumer", "mosquitto", "mqtt")
    compose("--profile", "mqtt", "up", "--detach", "--no-build", "--wait", *services)
    topic = ("-q", "1", "-t", "plant/hall/oven-1/temperature")
    publish = ("--profile", "mqtt", "exec", "--no-TTY", "mosquitto", "mosquitto_pub", *topic)

    def stored() -> int:
        return len(compose("exec", "--no-TTY", "consumer", "telemetry", "events", "--json").splitlines())

    compose(*publish, "-m", "21.5")
    eventually(lambda: stored() == 1, 60, "it is stored")
    compose("--profile", "mqtt", "stop", "mqtt")
    compose(*publish, "-m", "22.5")
    compose("--profile", "mqtt", "restart", "mosquitto")
    compose("--profile", "mqtt", "up", "--detach", "--no-build", "--wait", *services)
    eventually(lambda: stored() == 2, 60, "what came meanwhile is stored, too")


def test_every_service_of_the_file_has_the_server_s_password() -> None:
    """From the volume where the server has put it, which they can't change."""
    file = yaml.safe_load(FILE.read_text())
    for name in ("producer", "http", "mqtt", "consumer"):
        service = file["services"][name]
        assert service["environment"]["REDIS_PASSWORD_FILE"].startswith("/password/")
        assert "password:/password:ro" in service["volumes"]
    assert "password:/password" in file["services"]["redis"]["volumes"]
    assert "password" in file["volumes"]
    assert "--protected-mode" not in str(file["services"]["redis"]["command"])


@pytest.fixture
def volume() -> Iterator[str]:
    """Give a volume of Docker's."""
    if why := why_not("image", "inspect", REDIS):
        pytest.skip(f"no image {REDIS} here, so its command is not run: {why[:200]}")
    name = f"telemetry-test-{uuid.uuid4().hex[:8]}"
    docker("volume", "create", name)
    yield name
    eventually(lambda: not why_not("volume", "rm", name), 30, "the volume is let go")


OFFICIAL: Final = """#!/bin/sh
set -e
if [ "$1" = redis-server ]; then
    if [ "$(id -u)" = 0 ]; then
        chown redis .
        exec setpriv --reuid redis --regid redis --clear-groups --nnp "$0" "$@"
    fi
    set -- "$@" --loglevel verbose
fi
umask 0077
exec "$@"
"""
"""Does what the official image's does: gives root up for the server, and adds options (there for modules)."""


@pytest.mark.parametrize(
    "official", [False, True], ids=["entrypoint-of-the-image", "entrypoint-that-drops-root"]
)
def test_the_server_of_the_file_makes_itself_a_password(
    volume: str, tmp_path: Path, *, official: bool
) -> None:
    """Once: after a start with the same volume it is the same. Who has none gets nothing; SIGTERM ends it."""
    redis = yaml.safe_load(FILE.read_text())["services"]["redis"]
    command = [part.replace("$$", "$") for part in redis["command"]]
    health = redis["healthcheck"]["test"][1].replace("$$", "$")
    entrypoint = tmp_path / "docker-entrypoint.sh"
    entrypoint.write_text(OFFICIAL)
    entrypoint.chmod(0o755)

    def started() -> str:
        options = ("--rm", "--user", redis["user"], "--volume", f"{volume}:/password")
        server = docker("create", *options, REDIS, *command).strip()
        if official:
            docker("cp", str(entrypoint), f"{server}:/usr/local/bin/docker-entrypoint.sh")
        return docker("start", server).strip()

    first, second = (_password_of(started(), health, official=official) for _ in range(2))
    assert first == second


def _password_of(server: str, health: str, *, official: bool) -> str:
    def asked(script: str) -> str:
        return docker("exec", server, "sh", "-c", script)

    try:
        eventually(lambda: not why_not("exec", server, "sh", "-c", health), 30, "it is healthy")
        assert "NOAUTH" in asked("redis-cli ping")
        found = asked("cat /password/redis").strip()
        assert len(found) == 64
        assert asked("ls -l /password/redis").startswith("-r--r--r--")
        assert found not in asked("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        cli = "REDISCLI_AUTH=$(cat /password/redis) redis-cli"
        assert asked(f"{cli} config get appendonly").split() == ["appendonly", "yes"]
        if official:
            assert asked("stat --format %U /proc/1").strip() == "redis"
            assert asked(f"{cli} config get loglevel").split() == ["loglevel", "verbose"]
    finally:
        started = time.monotonic()
        docker("stop", "--time", "30", server)
    assert time.monotonic() - started < 25
    return found
