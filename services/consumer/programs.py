"""How a process starts another one of ours."""

import os
import sys
from pathlib import Path

import services

_OURS = Path(services.__file__).resolve().parents[1]


def python(module: str, *arguments: str) -> list[str]:
    """Give the command that runs one of our modules.

    The working folder is somebody else's, and may well have a `services` of its own: Python looks there
    first, unless it is told not to.
    """
    safe = [] if Path(os.getcwd()) == _OURS else ["-P"]  # noqa: PTH109 - as Python itself sees it
    return [sys.executable, *safe, "-m", module, *arguments]
