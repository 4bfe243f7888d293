"""The wheel, as `uv tool install` and `pipx` unpack it: it has all that the repository's folder has."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from what git knows, and unpack it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        [
            "git",
            "ls-files",
            "-coz",
            "--exclude-standard",
            "services",
            "pyproject.toml",
            "README.md",
            "LICENSE",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(target)!r})"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=source, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target / "unpacked")
    for file in (source / "services").rglob("*"):
        if file.is_file():
            assert (target / "unpacked" / file.relative_to(source)).is_file(), (
                f"{file.name} is not in the wheel"
            )
    return target / "unpacked"


def test_its_command_runs_a_pipeline_in_a_folder_with_services_of_its_own(
    unpacked: Path, tmp_path: Path
) -> None:
    """`services` is a usual name of a package: those of the folder are left alone."""
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "__init__.py").write_text("raise SystemExit('not ours')\n", encoding="utf-8")
    command = tmp_path / "telemetry"
    command.write_text("from services.ops.__main__ import main\nmain()\n", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    environment |= {"PYTHONPATH": str(unpacked), "BROKER_URL": "", "REDIS_HOST": "", "DATA_DIR": "data"}
    done = subprocess.run(
        [sys.executable, "-P", str(command), "run", "--duration", "1"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert " missing=0\n" in done.stdout
    assert (tmp_path / "data" / "telemetry.db").is_file()
