"""What the installer says while it runs: a process, on a terminal or not, with stand-ins for pip and uv."""

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.ops.server.wheel import has_wheel

ROOT = Path(__file__).parents[3]
WANTED = (ROOT / "requirements" / "run.txt").read_text(encoding="utf-8")
COUNT = len(re.findall(r"^\w", WANTED, re.MULTILINE))

pytestmark = pytest.mark.skipif(not has_wheel(), reason="no wheel of the server is for this machine")


def _stand_in(program: Path, script: str) -> None:
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(
        f'#!/bin/sh\necho "$VIRTUAL_ENV $*" >> "{program}.asked"\n{script}\n', encoding="utf-8"
    )
    program.chmod(0o755)


def _asked(program: Path) -> list[str]:
    return Path(f"{program}.asked").read_text(encoding="utf-8").splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give an environment whose pip names one package for each line of a FIFO, and says how it ends."""
    one = tmp_path / "venv"
    os.mkfifo(tmp_path / "packages")
    _stand_in(one / "bin" / "pip", "")  # the environment is there already
    _stand_in(
        one / "bin" / "python",
        f'case "$*" in *" -e "*) exit 0 ;; esac\n'
        f'while read -r name; do echo "Collecting $name"; done < {tmp_path}/packages\n'
        'case "$name" in failed) echo "ERROR: no such hash" >&2; exit 3 ;; esac\n'
        "echo Installing collected packages: all",
    )
    return one


def _installer(*arguments: str | Path, errors: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "services.dev.install", *arguments],
        cwd=ROOT,
        stderr=errors,
        env={"PATH": os.environ["PATH"]},
    )


def _told(terminal: int, more: Callable[[str], bool]) -> str:
    """Read what stands on a terminal until `more` says no of it, or nobody writes to it any more."""
    told, deadline = "", time.monotonic() + 60
    while more(told) and time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.05)[0]:
            continue
        piece = b""
        with contextlib.suppress(OSError):  # Linux: nobody has the other side any more
            piece = os.read(terminal, 1 << 16)
        if not piece:
            break
        told += piece.decode()
    return told


def test_on_a_terminal_it_says_how_much_it_installs_and_how_far_it_is(folder: Path) -> None:
    """The bar is gone in the end; what is installed is locked, with hashes."""
    ours, theirs = pty.openpty()
    with (
        _installer("run", folder, errors=theirs) as process,
        (folder.parent / "packages").open("wb", 0) as names,
    ):
        os.close(theirs)

        def is_awaited(told: str) -> bool:
            names.write(b"name\n")
            return "packages [" not in told

        told = _told(ours, is_awaited)
        assert "packages [" in told, "while it collects"
        names.close()
        told += _told(ours, lambda _: True)
        assert process.wait(60) == 0
    os.close(ours)
    first, rest = told.split("\r\n", 1)
    assert first == f"installing up to {COUNT} packages into {folder}, once (about 100 MB)"
    bars = re.findall(r"\r\x1b\[Kpackages \[(#*) *\] (\d+) of (\d+)", rest)
    assert {int(of) for *_, of in bars} == {COUNT}
    assert bars[-1] == ("#" * 20, str(COUNT), str(COUNT))
    assert rest.endswith("\r\x1b[K")
    pip, ourselves = _asked(folder / "bin" / "python")
    assert "--require-hashes --only-binary :all:" in pip
    assert ourselves.endswith(f"--no-deps --no-build-isolation -e {ROOT}")
    assert (folder / "wanted.txt").read_text(encoding="utf-8") == WANTED


def test_in_a_file_no_line_is_written_over(folder: Path) -> None:
    """Such as the log of a CI."""
    with _installer("run", folder, errors=subprocess.PIPE) as process:
        (folder.parent / "packages").write_text("a\nb\n", encoding="utf-8")
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert errors.decode() == f"installing up to {COUNT} packages into {folder}, once (about 100 MB)\n"


def test_what_pip_says_of_its_failure_stands_above_ours(folder: Path) -> None:
    """It ends with 1, so that make goes no further."""
    with _installer("run", folder, errors=subprocess.PIPE) as process:
        (folder.parent / "packages").write_text(
            "a\nfailed", encoding="utf-8"
        )  # no line end: read ends with it
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.decode().splitlines()[1:] == [
        "ERROR: no such hash",
        "pip has failed (3); its words stand above",
    ]


@pytest.mark.parametrize("on_terminal", [True, False], ids=["terminal", "file"])
def test_uv_shows_its_own_progress_where_it_can_be_seen(tmp_path: Path, *, on_terminal: bool) -> None:
    """It is quiet elsewhere, and installs into the folder that is named."""
    uv, folder = tmp_path / "uv", tmp_path / "venv"
    folder.mkdir()
    _stand_in(uv, 'case "$*" in *" -q"*) ;; *) echo bar >&2 ;; esac')
    ours, theirs = pty.openpty() if on_terminal else os.pipe()
    with _installer("run", folder, str(uv), errors=theirs) as process:
        os.close(theirs)
        told = _told(ours, lambda _: True)
        assert process.wait(60) == 0
    os.close(ours)
    lines = told.split()
    assert told.startswith(f"installing up to {COUNT} packages into {folder}, once (about 100 MB)")
    assert ("bar" in lines) == on_terminal
    made, installed, ourselves = _asked(uv)
    assert made.strip() == f"venv -q --allow-existing {folder}"
    assert installed.startswith(f"{folder} pip install -r {folder / 'wanted.txt'} --require-hashes")
    assert ourselves.startswith(f"{folder} pip install -q --no-deps")


def test_a_uv_that_fails_is_named(tmp_path: Path) -> None:
    """With what it was to do."""
    uv, folder = tmp_path / "uv", tmp_path / "venv"
    folder.mkdir()
    _stand_in(uv, 'case "$*" in *wanted*) exit 2 ;; esac')
    with _installer("run", folder, str(uv), errors=subprocess.PIPE) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.decode().splitlines()[1:] == [f"{uv} pip has failed (2); its words stand above"]
