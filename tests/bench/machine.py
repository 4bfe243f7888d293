"""What the figures were taken on: machine and versions."""

import os
import platform
import re
import sqlite3
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

_LIBRARIES: Final = ("redis", "hiredis", "faststream", "psycopg")


def machine() -> Mapping[str, str]:
    """Describe the machine, part by part."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": _memory(),
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": _file_system(Path(tempfile.gettempdir())),
        "load before": _load(),
    }


def versions(server: str, postgres: str) -> Mapping[str, str]:
    """Name the versions of what takes part; `server` and `postgres` are the servers' own."""
    libraries = {name: _version(name) for name in _LIBRARIES}
    return {
        "Python": platform.python_version(),
        "server": server,
        "SQLite": sqlite3.sqlite_version,
        "PostgreSQL": postgres,
        "redis-py": libraries["redis"],
        "hiredis": libraries["hiredis"],
        "psycopg": libraries["psycopg"],
        "FastStream": libraries["faststream"],
        "telemetry-pipeline": _version("telemetry-pipeline"),
    }


def processor_of(cpuinfo: str) -> str | None:
    """Find the processor's name in Linux's /proc/cpuinfo; ARM has none there."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else None


def file_system_of(mounts: str, folder: Path) -> str | None:
    """Find the type of the file system that a folder is on, in Linux's /proc/mounts."""
    by_point = {Path(line.split()[1]): line.split()[2] for line in mounts.splitlines()}
    return next((by_point[one] for one in (folder, *folder.parents) if one in by_point), None)


def _processor() -> str:
    return (
        processor_of(_read("/proc/cpuinfo"))
        or _said_by("sysctl", "-n", "machdep.cpu.brand_string")
        or platform.machine()
    )


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB"


def _file_system(folder: Path) -> str:
    found = file_system_of(_read("/proc/mounts"), folder.resolve())
    return f"{found or 'unknown'} ({folder})"


def _load() -> str:
    return f"{os.getloadavg()[0]:.2f} processes in the last minute"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def _said_by(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
