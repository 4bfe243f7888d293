"""Texts that would do something to a terminal or a log, and what is asked of whatever shows them."""

import contextlib
import os
import pty
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

FORGED = "forged-line replayed yes"
HIDE_ME = "hunter22-letmein"
CONTROLS = (
    "\x1b]0;PWNED\x07\x1b[2J"  # escape sequences: the title, an empty screen
    "\x9b31m\x90q\x9c"  # C1: the same in one character
    "\u202egnp.exe\u2066x\u2069\u061c"  # turned around
    "\u2028\u2029\x85\x0b\x0c"  # what else ends a line
    "\u200b\u200d\ufeff\u2060\u00ad\u3164\u115f\ufe0f\U000e0041\U000e0100"  # not seen
    "\x7f\x08\x08\t\ue000"
)
"""No NUL: none can be in a name or an argument. No line feed: not every place can have one."""
MARKUP = "[bold red]markup[/bold red][/][link=http://evil]x[/link]:warning:"
LINES = f"\r\n{FORGED}\n"
HOSTILE = f"a{CONTROLS}{LINES}{MARKUP}password={HIDE_ME} redis://me:{HIDE_ME}@h/0"

_STYLE = re.compile(r"\x1b\[[0-9;]*m")
"""Colours: those that we write ourselves are all that a terminal gets."""
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def unsafe_characters(output: str) -> list[str]:
    """Name the characters of an output that are not to be in it; colours and ends of lines may."""
    text = _STYLE.sub("", output).replace("\r\n", "\n")
    return sorted(
        {repr(one) for one in text if one != "\n" and (not one.isprintable() or _UNSEEN.match(one))}
    )


def faults(output: str) -> list[str]:
    """List what is wrong with an output in which HOSTILE is shown."""
    found = [f"raw: {one}" for one in unsafe_characters(output)]
    # What is indented further is a part of something else, such as a traceback.
    if any(line.removeprefix("  ").startswith(FORGED) for line in output.splitlines()):
        found.append("a line is forged")
    if HIDE_ME in output:
        found.append("a password is in it")
    if "Traceback" in output:
        found.append("a traceback is in it")
    return found


def run_plain(
    command: Sequence[str | bytes], environment: Mapping[str, str], folder: Path
) -> tuple[int, str, str]:
    """Run a program without a terminal; gives exit code, standard output and standard error."""
    done = subprocess.run(
        command,
        env=environment,
        cwd=folder,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=90,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def run_on_terminal(
    command: Sequence[str | bytes], environment: Mapping[str, str], folder: Path
) -> tuple[int, str]:
    """Run a program on a terminal; gives exit code and all that was written there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, env={"TERM": "xterm", "COLUMNS": "400", **environment}, cwd=folder,
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    written = b""
    with contextlib.suppress(OSError):  # how Linux says that the other side has closed
        while piece := os.read(ours, 65536):
            written += piece
    os.close(ours)
    return process.wait(timeout=90), written.decode()
