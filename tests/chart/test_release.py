"""The chart's package of a release, as `.ci/release` makes it."""

from pathlib import Path

from chart.rendering import need, run


def test_a_released_chart_takes_our_images_from_the_registry_of_the_release(tmp_path: Path) -> None:
    """And Redis from where it always comes; every values file was rendered before."""
    need("helm", "the chart of a release is not made")
    done = run(".ci/release", "chart", "registry.example.com/me", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.glob("*.tgz")
    rendered = run("helm", "template", "telemetry", str(package)).stdout
    images = {line.split("image:")[1].strip(' "') for line in rendered.splitlines() if " image:" in line}
    assert {image.rpartition(":")[0] for image in images} == {
        "registry.example.com/me/telemetry-producer",
        "registry.example.com/me/telemetry-consumer",
        "redis",
    }


def test_a_released_chart_takes_redis_by_the_digest_of_that_day(tmp_path: Path) -> None:
    """Ours stay as they were; another image or tag is refused, since the chart would not take it."""
    need("helm", "the chart of a release is not made")
    digest = f"sha256:{'0a' * 32}"
    folder = tmp_path / "package"
    for wrong in ("redis:8.2", f"redis:7.0@{digest}", f"valkey:8.2@{digest}", f"redis:8.2@{digest[:-1]}"):
        done = run(".ci/release", "chart", "registry.example.com/me", str(folder), wrong)
        assert (done.returncode, wrong in done.stderr, folder.exists()) == (1, True, False)
    done = run(".ci/release", "chart", "registry.example.com/me", str(folder), f"redis:8.2@{digest}")
    assert done.returncode == 0, done.stderr
    (package,) = folder.glob("*.tgz")
    rendered = run("helm", "template", "telemetry", str(package)).stdout
    images = {line.split("image:")[1].strip(' "') for line in rendered.splitlines() if " image:" in line}
    assert f"redis@{digest}" in images
    assert len(images) == 3
    assert sum("@" in image for image in images) == 1


def test_a_registry_that_the_schema_refuses_makes_no_package(tmp_path: Path) -> None:
    """It is what the values are checked by."""
    need("helm", "the chart of a release is not made")
    done = run(".ci/release", "chart", "https://registry.example.com/", str(tmp_path / "package"))
    assert done.returncode != 0
    assert not list(tmp_path.rglob("*.tgz"))
