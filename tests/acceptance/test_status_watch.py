"""`telemetry status --watch` beside a running pipeline, on a terminal as a person has it."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator

import pytest
from acceptance.rig import PATIENCE_S, ROOT, Rig
from servers import eventually

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """A terminal of a size, with a program in it."""

    def __init__(self, command: list[str], environment: dict[str, str], columns: int, lines: int) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )
        os.close(theirs)
        self.raw = ""

    def read(self) -> str:
        """Give all that was shown until now, without colours and movements."""
        with contextlib.suppress(OSError):  # a terminal whose program has ended
            while select.select([self._ours], [], [], 0.05)[0]:
                if not (read := os.read(self._ours, 65536)):
                    break
                self.raw += read.decode(errors="replace")
        return _CONTROL.sub("", self.raw)

    def shows(self, *texts: str) -> None:
        """Wait until all of these were shown."""
        eventually(
            lambda: all(text in self.read() for text in texts), PATIENCE_S, f"the screen shows {texts}"
        )

    def interrupt(self) -> int:
        """Do as Ctrl-C does, and give the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=PATIENCE_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)


@pytest.fixture
def run(rig: Rig) -> Rig:
    """Have `telemetry run` publish and consume, with dead letters."""
    command = [sys.executable, "-m", "services.ops", "run", "--duration", "0", "--rate", "200"]
    rig.start("run", [*command, "--invalid-ratio", "0.1", "--replicas", "2"], {})
    eventually(rig.settings.database.exists, PATIENCE_S, "the first rows")
    return rig


@pytest.fixture
def screen(run: Rig) -> Iterator[Callable[[int, int], Screen]]:
    """Watch the status on a terminal of a size."""
    started: list[Screen] = []

    def start(columns: int, lines: int) -> Screen:
        command = [sys.executable, "-m", "services.ops", "status", "--watch", "--interval", "0.5"]
        environment = {**os.environ, **run.environment, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environment.pop(name, None)
        one = Screen(command, environment, columns, lines)
        started.append(one)
        return one

    yield start
    for one in started:
        one.close()


def test_the_main_figures_are_on_the_screen_until_ctrl_c(screen: Callable[[int, int], Screen]) -> None:
    """Flow, latency, what waits, the law, the breaker, the audit; then the cursor is back."""
    terminal = screen(120, 40)
    terminal.shows("Main figures", "flow", "latency", "unread", "pending", "last audit", "closed")
    terminal.shows("holds: ")
    eventually(lambda: re.search(r"p99 \d", terminal.read()), PATIENCE_S, "a latency")
    eventually(lambda: re.search(r"stored [1-9][\d,]*/s", terminal.read()), PATIENCE_S, "a rate")
    assert terminal.interrupt() == 0
    shown = terminal.read()
    assert "Traceback" not in shown
    assert "BROKEN" not in shown
    assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")


def test_a_narrow_terminal_has_them_too(screen: Callable[[int, int], Screen]) -> None:
    """The main figures come first; a longer text takes another line, and none is wider than the screen."""
    terminal = screen(44, 16)
    terminal.shows("Main figures", "flow", "latency")
    assert terminal.interrupt() == 0
    widest = max(map(len, re.split(r"[\r\n]+", terminal.read())))
    assert widest <= 44


def test_programs_get_the_figures_of_a_running_pipeline(run: Rig) -> None:
    """The law holds at every look, and both consumers answer."""
    command = [sys.executable, "-m", "services.ops", "status", "--watch", "--interval", "0.3", "--json"]
    watching = run.start("status", command, {})
    eventually(lambda: len(watching.lines()) >= 4, PATIENCE_S, "four looks")
    looks = [json.loads(line) for line in watching.text.splitlines()[:4]]
    assert {one["figures"]["law"]["unaccounted"] for one in looks if one["figures"]["law"]} == {0}
    assert [one["name"] for one in looks[-1]["figures"]["processes"]] == [
        "producer",
        "consumer-1",
        "consumer-2",
    ]
    assert all(one["answers"] for one in looks[-1]["figures"]["processes"])
