"""How a command starts a process of its own: apart from the terminal, and never longer-lived than itself."""

import contextlib
import ctypes
import functools
import os
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
    told: bytes | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process; its output and its errors go to `output`. `told` is what its standard input holds.

    Ctrl-C at the terminal does not reach it: we end our children ourselves, in order. When we are
    killed before we can, Linux sends it SIGTERM.
    """
    process = subprocess.Popen(
        command,
        env=None if environment is None else dict(environment),
        stdin=stdin if told is None else subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=functools.partial(_end_with_parent, os.getpid()) if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads here
    )
    if told is not None and process.stdin is not None:
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:  # it has ended, and says why
            pipe.write(told)
    return process


def _end_with_parent(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was killed before we could ask for that
        os.kill(os.getpid(), signal.SIGKILL)
