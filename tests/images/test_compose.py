"""docker-compose.yml as people type it."""

import json
import uuid
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from images.engine import Image, audited, docker, why_not

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
