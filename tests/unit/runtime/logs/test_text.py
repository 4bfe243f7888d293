"""A terminal gets readable lines: over a real one, with colours, and with nothing that moves its cursor."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.runtime.logs.text import text_line

ROOT = Path(__file__).parents[4]
SCRIPT = """
import logging, sys
from services.runtime.logs.gate import Logs
from services.runtime.telemetry.spans import set_current
from services.contract.trace_context import TraceContext
logs = Logs("consumer", "DEBUG", sys.argv[1])
logs.take_over()
set_current(TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True))
fields = {"received": 100, "seconds": 0.5, "zone": "a b", "empty": "", "flag": True}
logs.logger.info("batch_settled", extra=fields)
set_current(None)
fields = {"zone": "a\\nb\\u202e\\x9b31m", "bad\\tname": ["x\\x07"]}
logging.getLogger("redis").error("pool\\x1b[31m is full", extra=fields)
1 / 0
"""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def _terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)


def on_a_terminal(form: str, environment: Mapping[str, str]) -> tuple[int, list[str]]:
    """Run the script on a terminal; gives exit code and lines."""
    with _terminal() as (ours, theirs):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, form],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", **environment},
        )
        os.close(theirs)
        text = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the last one who had it open is gone
                break
            if not piece:
                break
            text += piece
        return process.wait(30), text.decode().replace("\r\n", "\n").splitlines()


def test_a_terminal_gets_text_in_colours() -> None:
    """Time, level, message, fields, a short trace id; a crash keeps its exit code, and is below its line."""
    code, coloured = on_a_terminal("auto", {"TERM": "xterm"})
    assert code == 1
    assert coloured[0].count("\x1b[32m") == 1  # INFO is green
    assert "\x1b[31mERROR" in coloured[1]
    first, second, crash, *trace = [COLOUR.sub("", line) for line in coloured]
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3}  INFO     batch_settled  "
        r'received=100 seconds=0\.5 zone="a b" empty="" flag=true trace=4bf92f35',
        first,
    )
    assert re.sub(r"^\S+ +", "", second) == (
        r'ERROR    pool\x1b[31m is full  zone="a\nb\u202e\x9b31m" bad\tname=["x\u0007"] logger=redis'
    )
    assert re.sub(r"^\S+ +", "", crash) == 'CRITICAL crashed  error="ZeroDivisionError: division by zero"'
    assert trace[0] == "    Traceback (most recent call last):"
    assert trace[-1] == "    ZeroDivisionError: division by zero"
    assert all(line.startswith("    ") for line in trace)


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}])
def test_who_wants_no_colours_gets_none(environment: dict[str, str]) -> None:
    """By NO_COLOR, or by a terminal that has none."""
    _, lines = on_a_terminal("auto", environment)
    assert "\x1b" not in "".join(lines)
    assert "batch_settled  received=100" in lines[0]


def test_an_empty_no_color_says_nothing() -> None:
    """As no-color.org has it."""
    _, lines = on_a_terminal("auto", {"NO_COLOR": "", "TERM": "xterm"})
    assert "\x1b[32m" in lines[0]


def test_json_can_be_had_on_a_terminal_too() -> None:
    """By LOG_FORMAT=json; without any colour."""
    _, lines = on_a_terminal("json", {"TERM": "xterm"})
    assert [line[:12] for line in lines] == ['{"asctime": '] * 3
    assert "\x1b" not in "".join(lines)


def test_text_that_goes_elsewhere_has_no_colours() -> None:
    """LOG_FORMAT=text into a file or a pipe."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "text"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "INFO     batch_settled  received=100" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_line_with_less_in_it_is_a_line() -> None:
    """`telemetry run --logs` shows what it finds in the logs."""
    assert text_line({}, colour=False).split() == ["logger=null"]
    assert text_line({"message": "code_changed", "name": "telemetry"}, colour=False).split() == [
        "code_changed"
    ]
