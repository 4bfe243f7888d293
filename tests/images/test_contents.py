"""What is in the images, and what is not."""

import re
import shutil
from pathlib import Path
from typing import Final

import pytest
from image_files import files_of, modules_of
from images.engine import BASE, ROOT, Image, build, docker
from packaging.markers import Marker

from services import __version__

MB: Final = 1_000_000

TOOLS: Final = re.compile(
    r"(usr/)?(local/)?s?bin/(pip|easy_install|gcc|g\+\+|cc|c\+\+|c99|clang|cpp|ld|as|make|rustc|cargo|uv)"
    r"[\d.-]*$|/(pip|setuptools|ensurepip|pkg_resources|wheel)(-[\d.]+\.dist-info)?/|\.whl$"
)


def _run(image: Image, *command: str) -> str:
    """Run a program of the image in place of its service."""
    return docker("run", "--rm", "--entrypoint", command[0], image.tag, *command[1:])


def test_an_image_holds_what_its_service_can_import_and_no_more(image: Image) -> None:
    """What only the other service uses is not there, nor anything else of the repository."""
    held = {
        name.removeprefix("app/services/")
        for name, entry in image.tree.items()
        if name.startswith("app/services/") and entry.kind == b"0" and "__pycache__" not in name
    }
    assert held == files_of(image.service)
    assert {name for name in image.tree if re.fullmatch("app/[^/]+", name)} == {"app/LICENSE", "app/services"}


def test_every_module_of_an_image_finds_what_it_imports(image: Image) -> None:
    """With the files of the image alone."""
    code = (
        "import importlib, pkgutil, services\n"
        "names = [one.name for one in pkgutil.walk_packages(services.__path__, 'services.')]\n"
        "print(*(importlib.import_module(name).__name__ for name in names))"
    )
    modules = set(_run(image, "python", "-c", code).split())
    assert modules == modules_of(image.service) - {"services"}


@pytest.mark.parametrize("verb", ["run", "inspect"])
def test_a_command_that_works_beside_a_producer_says_so(images: dict[str, Image], verb: str) -> None:
    """In a line, with exit code 2."""
    said = _run(images["consumer"], "sh", "-c", f"telemetry {verb} 2>&1; echo $?").splitlines()
    assert said == ["the producer is not installed here: an image of the consumer has none", "2"]


def test_an_image_holds_the_locked_libraries_of_its_service_only(image: Image) -> None:
    """What is installed is what the lock names for this platform, in these versions."""
    code = (
        "from importlib.metadata import distributions as d; print(*(f'{i.name}=={i.version}' for i in d()))"
    )
    installed = {one.lower().replace("_", "-") for one in _run(image, "python", "-c", code).split()}
    lock = (ROOT / "requirements" / f"{image.service}.txt").read_text(encoding="utf-8")
    named = re.findall(r"^(\S+==\S+)(?: ; (.*))? \\$", lock, re.MULTILINE)
    python = _run(image, "python", "-c", "import platform; print(platform.python_version())").strip()
    here = {"sys_platform": "linux", "implementation_name": "cpython", "python_full_version": python}
    assert installed == {one for one, marker in named if not marker or Marker(marker).evaluate(here)}
    assert ("typer" in str(installed)) == (image.service == "consumer")


def test_no_installer_and_no_compiler_are_in_an_image(image: Image) -> None:
    """Neither as programs nor as modules, nor as wheels that would bring them back."""
    assert [name for name in image.tree if TOOLS.search(name)] == []


@pytest.mark.parametrize("module", ["pip", "ensurepip", "setuptools"])
def test_no_python_of_an_image_finds_an_installer(image: Image, module: str) -> None:
    """The environment's Python does not, nor the base's below it."""
    code = f"import importlib.util; print(importlib.util.find_spec('{module}'))"
    script = f'python -c "{code}"; $(python -c "import sys; print(sys._base_executable)") -c "{code}"'
    assert _run(image, "sh", "-c", script).split() == ["None", "None"]


def test_all_of_ours_is_compiled_and_never_compared_with_its_source(image: Image) -> None:
    """Each source has a .pyc, and its header says that it is not to be checked."""
    ours = [name for name in image.tree if name.startswith(("app/", "opt/venv/")) and name.endswith(".py")]
    assert len(ours) > 50
    for name in ours:
        folder, _, module = name.rpartition("/")
        compiled = image.tree[f"{folder}/__pycache__/{module.removesuffix('.py')}.cpython-313.pyc"]
        assert int.from_bytes(compiled.head[4:8], "little") == 0b01, name


def test_nothing_is_compiled_at_the_start_of_a_service(image: Image) -> None:
    """Every module that is imported has its .pyc, those of Python itself too."""
    code = (
        f"import os, sys, services.{image.service}.__main__\n"
        "cached = (getattr(module, '__cached__', None) for module in list(sys.modules.values()))\n"
        "print([path for path in cached if path and not os.path.exists(path)])"
    )
    assert _run(image, "python", "-c", code).strip() == "[]"


def test_the_user_is_a_number_and_owns_nothing_but_the_data(image: Image) -> None:
    """Kubernetes can check that it is not root; what runs can change neither the code nor the libraries."""
    assert image.config["User"] == "10001:10001"
    owned = {name for name, entry in image.tree.items() if 10001 in entry.owner}
    assert owned == ({"data"} if image.service == "consumer" else set())
    ours = {name: entry for name, entry in image.tree.items() if name.startswith(("app", "opt/venv"))}
    assert [name for name, entry in ours.items() if entry.kind != b"2" and entry.mode & 0o022] == []


def test_the_authorities_of_the_system_are_where_the_chart_looks_for_them(image: Image) -> None:
    """For a database whose certificate one of them has signed: libpq's `system` finds none here."""
    first = _run(image, "head", "--lines=1", "/etc/ssl/certs/ca-certificates.crt")
    assert first.strip() == "-----BEGIN CERTIFICATE-----"


def test_an_image_is_at_most_80_mb_over_its_base(image: Image) -> None:
    """Layers that delete count too, so this is what is pulled and kept beside the base."""
    base = int(docker("image", "inspect", "--format", "{{.Size}}", BASE))
    over = image.size - base
    print(f"{image.service}: {over / MB:.1f} MB over the base's {base / MB:.1f} MB")
    assert over <= 80 * MB


def test_an_image_says_what_it_is_and_how_it_runs(image: Image) -> None:
    """Labels, ports, volume, stop signal, and one program without a shell before it."""
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in _labels(image).items()}
    assert labels["title"] == f"telemetry-{image.service}"
    assert labels["description"].endswith(".")
    assert labels["version"] == __version__
    assert labels["licenses"] == "MIT"
    assert {"revision", "source"} <= labels.keys()
    assert labels["base.name"] == BASE
    config = image.config
    assert config["Entrypoint"] == ["/opt/venv/bin/python", "-m", f"services.{image.service}"]
    assert not config["Cmd"]
    assert config["StopSignal"] == "SIGTERM"
    assert list(config["ExposedPorts"]) == ["8000/tcp" if image.service == "consumer" else "8001/tcp"]
    assert list(config["Volumes"] or {}) == (["/data"] if image.service == "consumer" else [])
    assert {"PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1"} <= set(config["Env"])
    assert ("DATA_DIR=/data" in config["Env"]) == (image.service == "consumer")


def test_build_arguments_fill_in_the_labels(image: Image) -> None:
    """What `make images` and a release pass in stands in the labels; the layers are the same."""
    given = {"version": "9.8.7", "revision": "0123abc", "source": "https://example.org/telemetry"}
    options = [part for name, value in given.items() for part in ("--build-arg", f"{name.upper()}={value}")]
    labelled = build(image.service, f"telemetry-{image.service}:test-labels", *options)
    labels = _labels(labelled)
    docker("image", "rm", labelled.tag)
    assert {name: labels[f"org.opencontainers.image.{name}"] for name in given} == given


def _labels(image: Image) -> dict[str, str]:
    return dict(image.config["Labels"])


def test_two_builds_of_one_commit_hold_the_same_files(image: Image, tmp_path: Path) -> None:
    """Built from another folder, with other times and modes and no cache, it is the same byte for byte."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"  # the repository may change meanwhile
    here.mkdir()
    for name in ("services", "requirements"):
        shutil.copytree(ROOT / name, here / name)
    for name in ("LICENSE", ".dockerignore", f"Dockerfile.{image.service}"):
        shutil.copy2(ROOT / name, here / name)
    shutil.copytree(here, elsewhere, copy_function=shutil.copyfile)
    for path in elsewhere.rglob("*"):
        path.chmod(0o775 if path.is_dir() else 0o664)
    tag = f"telemetry-{image.service}:test-again"
    first = build(image.service, tag, context=here).tree
    second = build(image.service, tag, "--no-cache", context=elsewhere).tree
    docker("image", "rm", tag)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name].identity != second[name].identity] == []
    inside = [name for name in second if re.match(r"(app/services|opt/venv)/.", name)]
    assert {second[name].mtime for name in inside} == {0}
