"""Asked to stop in a call that does not return: a thread hears it."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import pytest

ROOT = Path(__file__).parents[3]
HEAD = """
import signal, sys, time
from services.runtime.clock import SystemClock
from services.runtime.logs.gate import Logs
from services.runtime.stopping import StopSignals, end_when_asked
log = Logs("consumer", "INFO", "json").logger
clock = SystemClock()
def begin():
    in_hand = StopSignals(clock, log)
    print("begun", flush=True)
    return in_hand
"""
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


class Script:
    """A process that has begun, and its lines."""

    def __init__(self, script: str, *before: str) -> None:
        self._process = subprocess.Popen(
            [*before, sys.executable, "-u", "-c", HEAD + script],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._out = self._process.stdout
        assert self._out.readline() == "begun\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._out.close()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def line(self) -> dict[str, Any]:
        """Wait for a line."""
        assert select.select([self._out], [], [], 30)[0]
        line: dict[str, Any] = json.loads(self._out.readline())
        return line

    def runs(self) -> bool:
        return self._process.poll() is None

    def ends(self) -> int:
        return self._process.wait(30)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_call_that_does_not_return_is_ended_where_nothing_is_in_hand(number: signal.Signals) -> None:
    """With the place in the log, and as what was asked for: with exit code 0."""
    with Script("begin()\ndef look_up(): time.sleep(600)\nlook_up()") as script:
        started = time.monotonic()
        script.signal(number)
        line = script.line()
        assert script.ends() == 0
        assert time.monotonic() - started < 5
        assert (line["message"], line["levelname"]) == ("stop_forced", "WARNING")
        assert line["where"][0].endswith(" look_up")


def test_what_is_in_hand_is_finished_however_long_it_takes() -> None:
    """It says where it is, once; then comes the orderly end, which is not cut off either."""
    script = (
        "in_hand = begin()\n"
        "def step():\n    ends = time.monotonic() + 4\n    while time.monotonic() < ends: pass\n"
        "with in_hand: step()\n"
        "assert clock.is_stopping(); in_hand.ending(); time.sleep(3); log.info('finished'); sys.exit(7)"
    )
    with Script(script) as one:
        one.signal(signal.SIGTERM)
        waits = one.line()
        assert (waits["message"], waits["where"][0].split()[1]) == ("stop_waits", "step")
        assert one.line()["message"] == "finished"
        assert one.ends() == 7


def test_a_second_ctrl_c_ends_what_is_in_hand_and_a_second_sigterm_does_not() -> None:
    """Exit code 1: it is not finished."""
    with Script("with begin():\n    while True: pass") as one:
        one.signal(signal.SIGTERM)
        assert one.line()["message"] == "stop_waits"
        one.signal(signal.SIGTERM)
        time.sleep(0.3)
        assert one.runs()
        one.signal(signal.SIGINT)
        assert one.line()["message"] == "stop_forced"
        assert one.ends() == 1


def test_before_the_start_it_ends_at_once() -> None:
    """Whatever a module of steps does while it is loaded; the first process of a container, too."""
    with Script("end_when_asked(); print('begun', flush=True)\nwhile True: pass") as one:
        one.signal(signal.SIGTERM)
        assert one.ends() == 0


def test_nohup_keeps_it_running() -> None:
    """A hang-up that is ignored already stays ignored; SIGTERM ends it all the same."""
    script = "begin()\nwhile not clock.is_stopping(): clock.sleep(0.05)\nsys.exit(5)"
    with Script(script, "nohup") as one:
        one.signal(signal.SIGHUP)
        time.sleep(0.5)
        assert one.runs()
        one.signal(signal.SIGTERM)
        assert one.ends() == 5
