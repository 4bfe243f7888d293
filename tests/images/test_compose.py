"""docker-compose.yml as people type it."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import pytest
import yaml
from images.engine import REDIS, ROOT, Image, audited, docker, why_not
from servers import eventually

Compose = Callable[..., str]


@pytest.fixture
def compose(images: dict[str, Image]) -> Iterator[Compose]:
    """Give `docker compose` on a project of one's own, with the images of the tests."""
    if why := why_not("compose", "version"):
        pytest.skip(f"no `docker compose` here, so docker-compose.yml is not run: {why[:200]}")
    project = f"telemetry-test-{uuid.uuid4().hex[:8]}"
    tag = images["consumer"].tag.rpartition(":")[2]
    run = partial(docker, "compose", "--project-name", project, environment={"IMAGE_TAG": tag}, timeout_s=300)
    yield run
    run("down", "--volumes", "--timeout", "20")


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


def test_every_service_of_the_file_has_the_server_s_password() -> None:
    """From the volume where the server has put it, which they can't change."""
    file = yaml.safe_load(FILE.read_text())
    for name in ("producer", "consumer"):
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


def test_the_server_of_the_file_makes_itself_a_password(volume: str) -> None:
    """Once: after a start with the same volume it is the same. Who has none gets nothing; SIGTERM ends it."""
    redis = yaml.safe_load(FILE.read_text())["services"]["redis"]
    command = [part.replace("$$", "$") for part in redis["command"]]
    health = redis["healthcheck"]["test"][1].replace("$$", "$")
    options = ("--detach", "--rm", "--user", "0:0", "--volume", f"{volume}:/password")
    first, second = (_password_of(docker("run", *options, REDIS, *command).strip(), health) for _ in range(2))
    assert first == second


def _password_of(server: str, health: str) -> str:
    def asked(script: str) -> str:
        return docker("exec", server, "sh", "-c", script)

    try:
        eventually(lambda: not why_not("exec", server, "sh", "-c", health), 30, "it is healthy")
        assert "NOAUTH" in asked("redis-cli ping")
        found = asked("cat /password/redis").strip()
        assert len(found) == 64
        assert asked("ls -l /password/redis").startswith("-r--r--r--")
        assert found not in asked("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        kept = asked("REDISCLI_AUTH=$(cat /password/redis) redis-cli config get appendonly")
        assert kept.split() == ["appendonly", "yes"]
    finally:
        started = time.monotonic()
        docker("stop", "--time", "30", server)
    assert time.monotonic() - started < 25
    return found
