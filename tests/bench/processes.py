"""Processes that are measured: started with nothing but what they are told, ended whatever happens."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import services
from services.runtime.settings import (
    THRESHOLD_PREFIX,
    ConsumerSettings,
    ProducerSettings,
    declared,
    variable,
)

_END_TIMEOUT_S: Final = 20.0


@contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program until the block ends, with its output in `log`; then SIGTERM, and at last SIGKILL."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Away from a `.env` that the caller's folder may have.
            cwd=log.parent,
            env=clean_environment() | dict(environment or {}),
        )
    try:
        yield process
    finally:
        _end(process)


def python(module: str, *arguments: str) -> list[str]:
    """Write the command that runs a module of ours."""
    return [sys.executable, "-m", module, *arguments]


def clean_environment() -> dict[str, str]:
    """Give the environment without any setting of ours, and with ourselves on Python's path.

    Modules are compiled once: each start would compile hundreds of them else, for a second and more.
    """
    ours = {variable(one) for cls in (ProducerSettings, ConsumerSettings) for one in declared(cls)}
    ours.add("PYTHONDONTWRITEBYTECODE")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ours and not name.startswith((THRESHOLD_PREFIX, "OTEL_", "PG"))
    }
    paths = (Path(services.__file__).parents[1], Path(__file__).parents[1])
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (*map(str, paths), kept.get("PYTHONPATH"))))
    return kept


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
