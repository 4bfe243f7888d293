"""The images, built once for all tests; no test here where they can't be built."""

import fcntl
import os
from collections.abc import Iterator

import pytest
from images.engine import BASE, REDIS, SERVICES, Image, Site, build, new_site, why_not


@pytest.fixture(scope="session")
def engine() -> None:
    """Ask for Docker and the images that ours start from; skip without, unless CI has to have them."""
    for what, command in (
        ("no Docker here", ("version",)),
        (f"no image {BASE} here", ("image", "inspect", BASE)),
        (f"no image {REDIS} here", ("image", "inspect", REDIS)),
    ):
        if why := why_not(*command):
            message = f"{what}, so no container image is tested: {why[:200]}"
            if os.environ.get("TELEMETRY_TESTS_REQUIRE_DOCKER") == "1":
                pytest.fail(message)
            pytest.skip(message)


@pytest.fixture(scope="session")
def images(
    engine: None,  # noqa: ARG001 - it decides whether there are any
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Image]:
    """Build both images, as a user does."""
    # One worker builds, and the others find its layers: at the same time each would make them again.
    with (tmp_path_factory.getbasetemp().parent / "images.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        return {service: build(service, f"telemetry-{service}:test") for service in SERVICES}


@pytest.fixture(params=SERVICES)
def image(request: pytest.FixtureRequest, images: dict[str, Image]) -> Image:
    """Give each image in turn."""
    return images[request.param]


@pytest.fixture
def site(engine: None) -> Iterator[Site]:  # noqa: ARG001 - it decides whether there is one
    """Give a network of one's own."""
    with new_site() as one:
        yield one
