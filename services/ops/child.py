"""How a command starts a process of its own: apart from the terminal, and never longer-lived than itself."""

import ctypes
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Final

_PR_SET_PDEATHSIG: Final = 1
"""Of Linux's prctl(2): the signal that a process gets when its parent dies."""


def start_child(
    command: Sequence[str],
    output: IO[bytes] | int,
    environment: Mapping[str, str] | None = None,
    stdin: int | None = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a process; its output and its errors go to `output`.

    Ctrl-C at the terminal does not reach it: we end our children ourselves, in order. When we are
    killed before we can, Linux sends it SIGTERM.
    """
    return subprocess.Popen(
        command,
        env=None if environment is None else dict(environment),
        stdin=stdin,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads here
    )


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
