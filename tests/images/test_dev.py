"""The stage `dev`: code is synced into the running container, as `skaffold dev` does it, and runs."""

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator

import pytest
from images.engine import ROOT, SERVICES, Container, Image, Site, build, docker
from servers import eventually


@pytest.fixture(params=SERVICES)
def dev_image(request: pytest.FixtureRequest, images: dict[str, Image]) -> Iterator[Image]:
    """Build the development image of each service, on the layers of the real one."""
    service = images[request.param].service
    image = build(service, f"telemetry-{service}:test-dev", "--target", "dev")
    yield image
    docker("image", "rm", "--force", image.tag)


def _sync(container: Container, name: str, content: bytes) -> None:
    """Write a file as `kubectl exec POD -i -- tar` does: as the user of the container, by its own tar."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o644
        archive.addfile(member, io.BytesIO(content))
    command = (
        "docker",
        "exec",
        "--interactive",
        container.name,
        "tar",
        "xmf",
        "-",
        "-C",
        "/",
        "--no-same-owner",
    )
    subprocess.run(command, input=packed.getvalue(), check=True, timeout=60)


def test_synced_code_runs_at_once(site: Site, dev_image: Image) -> None:
    """In the same container; and a stop still ends it in order."""
    settings = ["--env", "REDIS_HOST=redis", "--env", f"{dev_image.service.upper()}_RUN_DURATION=0"]
    site.start_redis()
    container = site._run("dev", dev_image.tag, *settings, "--cap-drop", "ALL")
    container.logged(f"{dev_image.service}_started")
    name = f"services/{dev_image.service}/__init__.py"
    source = (ROOT / name).read_bytes()
    line = json.dumps({"message": "synced"})
    _sync(container, f"app/{name}", source + f"\nprint({line!r})\n".encode())
    assert container.logged("code_changed")["files"] == [f"{dev_image.service}/__init__.py"]
    container.logged("synced")
    eventually(lambda: len(_lines(container, f"{dev_image.service}_started")) == 2, 60, "a second start")
    assert container.stop() == 0
    assert len(_lines(container, f"{dev_image.service}_finished")) == 2


def _lines(container: Container, event: str) -> list[object]:
    return [line for line in container.logs() if line["message"] == event]
