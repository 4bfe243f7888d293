"""All that a process says is whole lines of JSON: others' words, warnings and crashes too."""

import io
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.runtime.logs.fields import LONGEST_LINE
from services.runtime.logs.gate import Logs

ROOT = Path(__file__).parents[4]
HEAD = """
import gc, logging, os, sys, threading, time, warnings
from services.runtime.logs.gate import Logs, refuse
logs = Logs("consumer", os.environ.get("LEVEL", "INFO"), "json")
logs.take_over()
log = logs.logger
"""
FIELDS = {"asctime", "name", "levelname", "message", "service", "version"}


def run(script: str, *options: str, **environment: str) -> tuple[int, list[dict[str, Any]]]:
    """Run a script; its output is in one file, and every line of it has to be a whole one."""
    done = subprocess.run(
        [sys.executable, *options, "-c", HEAD + script],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(line.keys() >= FIELDS for line in lines), done.stdout
    return done.returncode, lines


def test_what_nobody_caught_is_one_line_and_keeps_the_exit_code() -> None:
    """With the traceback as a field, and with what was held back behind it."""
    code, (first, crash, rest) = run(
        "for number in range(3): log.warning('full', extra={'number': number})\nint('no number')"
    )
    assert code == 1
    assert first["number"] == 0
    assert (crash["levelname"], crash["message"]) == ("CRITICAL", "crashed")
    assert crash["error"].startswith("ValueError: invalid literal")
    assert crash["exc_info"].startswith("Traceback")
    assert (rest["number"], rest["held_back"]) == (2, 1)


def test_a_crash_is_told_before_the_log_is_closed() -> None:
    """A collector is to have it too; and it is told once, with the exit code kept."""
    code, lines = run(
        "class Sender:\n"
        "    def write(self, record, fields): self.sent = fields['message']\n"
        "    def close(self): log.info('closed', extra={'sent': self.sent})\n"
        "logs.also_to(Sender())\n"
        "with logs: 1 / 0"
    )
    assert (code, [line["message"] for line in lines]) == (1, ["crashed", "closed"])
    assert lines[1]["sent"] == "crashed"


def test_an_exit_is_no_crash() -> None:
    """Its code is its own."""
    assert run("sys.exit(3)") == (3, [])


def test_a_thread_that_crashes_is_a_line() -> None:
    """The process goes on; who exits from a thread says nothing."""
    code, (line,) = run(
        "for what in (lambda: 1 / 0, sys.exit):\n"
        "    one = threading.Thread(target=what, name='health'); one.start(); one.join()"
    )
    assert (code, line["message"], line["levelname"]) == (0, "thread_crashed", "ERROR")
    assert (line["kind"], line["of_thread"]) == ("ZeroDivisionError", "health")
    assert "Traceback" in line["exc_info"]


def test_what_python_ignores_is_a_line() -> None:
    """An exception where none can be raised."""
    code, (line,) = run("class Bad:\n    def __del__(self): 1 / 0\nBad(); gc.collect()")
    assert (code, line["message"], line["kind"]) == (0, "exception_ignored", "ZeroDivisionError")
    assert "__del__" in line["where"]


def test_warnings_are_lines() -> None:
    """With category and place, and not the line of source below."""
    code, (line,) = run("warnings.warn('old\\nthing', DeprecationWarning)", "-W", "default")
    assert code == 0
    assert (line["message"], line["levelname"]) == ("python_warning", "WARNING")
    assert (line["category"], line["error"]) == ("DeprecationWarning", "old\nthing")
    assert line["where"] == "<string>:7"


def test_libraries_speak_in_the_same_form_from_warning_on() -> None:
    """Whether they have handlers or not; and no less than LOG_LEVEL says."""
    script = (
        "logging.getLogger('redis').warning('pool of %d is full', 3)\n"
        "logging.getLogger('opentelemetry.sdk').info('hello')\n"
        "try: 1 / 0\nexcept ZeroDivisionError: logging.exception('failed')"
    )
    _, (pool, failed) = run(script, LEVEL="DEBUG")
    assert (pool["name"], pool["message"], pool["levelname"]) == ("redis", "pool of 3 is full", "WARNING")
    assert (failed["name"], "Traceback" in failed["exc_info"]) == ("root", True)
    _, (only,) = run(script, LEVEL="ERROR")
    assert only["name"] == "root"


def test_a_line_that_cant_be_made_is_told_and_raises_nothing() -> None:
    """Wrong arguments, or a value that can't say what it is."""
    script = (
        "class Bad:\n    def __str__(self): return 1\n"
        "log.info('%d of %d', 'one')\nlog.info('odd', extra={'value': Bad()})\nlog.info('good')"
    )
    code, lines = run(script)
    assert (code, [line["message"] for line in lines]) == (0, ["log_line_broken", "log_line_broken", "good"])
    assert lines[0]["error"].startswith("TypeError: ")
    assert lines[0]["where"].startswith("<string>:")
    assert lines[1]["where"] == "odd"


def test_the_reason_why_nothing_starts_is_a_line_too() -> None:
    """Of standard error; for a person on a terminal, or with LOG_FORMAT=text, it is the text alone."""
    script = (
        "from services.runtime.settings import SettingsInvalid\n"
        "refuse('consumer', 'settings_unusable', SettingsInvalid(['a', 'b']))"
    )
    _, (line,) = run(script)
    assert (line["message"], line["error"]) == ("settings_unusable", "settings: a\nsettings: b")
    done = subprocess.run(
        [sys.executable, "-c", HEAD + script],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LOG_FORMAT": "text"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "settings: a\nsettings: b\n")


def test_the_pod_is_named_on_kubernetes_alone() -> None:
    """By POD_NAME, which the chart sets, or else by the host's name there."""
    script = "log.info('hello')"
    known = {"POD_NAME": "", "HOSTNAME": "laptop"}
    assert "pod" not in run(script, **known)[1][0]
    assert run(script, **known, KUBERNETES_SERVICE_HOST="10.0.0.1")[1][0]["pod"] == "laptop"
    named = {**known, "POD_NAME": "demo-consumer-1", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert run(script, **named)[1][0]["pod"] == "demo-consumer-1"


def test_lines_of_threads_and_processes_on_one_file_are_never_mixed_up(tmp_path: Path) -> None:
    """Each is one write: long ones too, beside `print`s of the same process."""
    script = (
        "def work(n):\n    for i in range(200): log.info('line', extra={'n': n, 'pad': 'x' * 3900})\n"
        "threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]\n"
        "[one.start() for one in threads]; [one.join() for one in threads]"
    )
    path = tmp_path / "log"
    with path.open("ab") as out:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", HEAD + script],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=out,
                stderr=out,
            )
            for _ in range(2)
        ]
        assert [one.wait(60) for one in processes] == [0, 0]
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 2 * 4 * 200
    assert {len(line["pad"]) for line in lines} == {3900}


def test_lines_of_processes_on_one_pipe_are_never_mixed_up() -> None:
    """Up to 4096 bytes, which POSIX promises; the reader is slow, so the pipe is full."""
    script = "for i in range(400): log.info('line', extra={'pad': 'x' * 3700})"
    reading, writing = os.pipe()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HEAD + script],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=writing,
            stderr=writing,
        )
        for _ in range(3)
    ]
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as out:
        lines = [json.loads(line) for line in out]
    assert [one.wait(60) for one in processes] == [0, 0, 0]
    assert len(lines) == 3 * 400


def test_a_line_stays_below_what_a_container_runtime_cuts() -> None:
    """Whatever is in it: long texts are cut in themselves, and many of them become one."""
    out = io.StringIO()
    logger = Logs("consumer", "INFO", "json", out).logger
    logger.info("long", extra={"text": "x" * 100_000})
    logger.info("many", extra={f"field_{number}": "ü" * 1000 for number in range(100)})
    logger.info("ü" * 100_000)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) < LONGEST_LINE
    long, many, message = map(json.loads, lines)
    assert long["text"] == "x" * 4000 + "…(96000 characters more)"
    assert many["cut"].startswith('{"field_0": ')
    assert (many["message"], many.keys() >= FIELDS) == ("many", True)
    assert message["message"].startswith("üüü")


def test_a_stream_that_takes_nothing_for_a_while_ends_no_one() -> None:
    """The first line that can be written tells how many could not."""

    class Full(io.StringIO):
        is_full = True

        def write(self, text: str) -> int:
            if self.is_full:
                raise OSError(28, "No space left on device")
            return super().write(text)

    out = Full()
    logs = Logs("consumer", "INFO", "json", out)
    for number in range(3):
        logs.logger.info("lost", extra={"number": number})
    out.is_full = False
    logs.logger.info("found")
    logs.logger.info("again")
    told, *found = map(json.loads, out.getvalue().splitlines())
    assert (told["message"], told["levelname"], told["lines"]) == ("log_lines_lost", "WARNING", 3)
    assert [line["message"] for line in found] == ["found", "again"]
    assert logs.figures() == {"telemetry_log_lines_lost_total": 3}
    out.is_full = True
    logs.logger.info("lost")
    out.is_full = False
    logs.close()
    assert json.loads(out.getvalue().splitlines()[-1])["lines"] == 1
    assert logs.figures() == {"telemetry_log_lines_lost_total": 4}


def test_who_made_the_stream_non_blocking_loses_no_line() -> None:
    """Somebody who shares it may have: the line waits until there is room."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with os.fdopen(writing, "w") as stream, os.fdopen(reading, encoding="utf-8") as out:
        logs = Logs("consumer", "INFO", "json", stream)

        def say() -> None:
            for _ in range(100):
                logs.logger.info("line", extra={"pad": "x" * 3000})
            logs.close()
            stream.close()

        saying = threading.Thread(target=say)
        saying.start()
        lines = [json.loads(line) for line in out]
        saying.join()
    assert len(lines) == 100


def _pipe() -> tuple[int, int]:
    return os.pipe()


def _terminal() -> tuple[int, int]:
    reading, writing = os.openpty()
    tty.setraw(writing)  # no line feed becomes two characters
    return reading, writing


def _socket() -> tuple[int, int]:
    reading, writing = socket.socketpair()
    return reading.detach(), writing.detach()


@pytest.mark.parametrize("is_ours", [True, False], ids=["ours", "another's"])
@pytest.mark.parametrize("make", [_pipe, _terminal, _socket])
def test_nothing_waits_for_who_does_not_read(
    make: Callable[[], tuple[int, int]], *, is_ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What doesn't fit is dropped and counted, lines stay whole, and it goes on once somebody reads.

    Of another user's pipe or terminal, as a container's may be, there is no second descriptor to be had.
    """
    reading, writing = make()
    if not is_ours:

        def refuse_open(*_: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("services.runtime.outlet.os.open", refuse_open)
    with os.fdopen(writing, "w") as stream, os.fdopen(reading, "rb", buffering=0) as out:
        logs = Logs("consumer", "INFO", "json", stream)
        assert os.get_blocking(writing), "others who share it would no longer wait"
        started = time.monotonic()
        for number in range(500):
            logs.logger.info("line", extra={"number": number, "pad": "x" * (number % 7 * 900)})
        assert time.monotonic() - started < 5
        lost = int(logs.figures()["telemetry_log_lines_lost_total"])
        assert lost > 0
        received = _drained(out)
        logs.logger.info("again")
        received += _drained(out)
        lines = [json.loads(line) for line in received.splitlines()]
        written = [line["number"] for line in lines if line["message"] == "line"]
        assert len(written) == 500 - lost
        assert written == sorted(written)
        assert [line["message"] for line in lines[-2:]] == ["log_lines_lost", "again"]
        assert sum(line["lines"] for line in lines if line["message"] == "log_lines_lost") == lost


def _drained(out: io.FileIO) -> bytes:
    """Read what is there."""
    data = b""
    while select.select([out], [], [], 0)[0]:
        data += out.read(1 << 16) or b""
    return data


def test_a_slow_reader_costs_lines_and_not_time() -> None:
    """One line a while: each is waited for, but all waits together are a small share of the time."""
    reading, writing = os.pipe()
    ended = threading.Event()

    def read() -> None:
        with os.fdopen(reading, "rb", buffering=0) as out:
            while not ended.wait(0.05):
                out.read(4096)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(writing, "w") as stream:
        logs = Logs("consumer", "INFO", "json", stream)
        started = time.monotonic()
        for _ in range(500):
            logs.logger.info("line", extra={"pad": "x" * 3700})
        assert time.monotonic() - started < 5  # all of them would take 20 s
        ended.set()
        reader.join()


@pytest.mark.parametrize("how", [">&-", "> /dev/full", "| true"])
def test_a_stream_that_takes_nothing_at_all_changes_nothing(how: str, tmp_path: Path) -> None:
    """Closed before the start, a full disk, a reader that is gone: the exit code stays the same."""
    done = tmp_path / "done"
    script = (
        f"{HEAD}time.sleep(0.3)\n"
        "for _ in range(10): log.info('line'); print('of a step')\n"
        f"logs.close(); open({str(done)!r}, 'w').write(str(logs.figures())); sys.exit(3)"
    )
    ran = subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$0" -c "$1" {how}', sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (3, "", "")
    assert done.read_text(encoding="utf-8") == "{'telemetry_log_lines_lost_total': 10}"


def test_a_terminal_that_is_gone_costs_only_lines() -> None:
    """Each write to it fails from then on."""
    reading, writing = os.openpty()
    with os.fdopen(writing, "w") as stream:
        logs = Logs("consumer", "INFO", "json", stream)
        os.close(reading)
        logs.logger.info("line")
        assert logs.figures() == {"telemetry_log_lines_lost_total": 1}


def test_what_a_step_prints_waits_for_no_reader_either() -> None:
    """Nor does the reason why nothing is started."""
    script = (
        f"{HEAD}print('x' * 1_000_000, flush=True); print('y' * 1_000_000, file=sys.stderr)\n"
        "refuse('consumer', 'settings_unusable', ValueError('wrong')); os.write(9, b'done')"
    )
    (reading, writing), (told, telling) = os.pipe(), os.pipe()
    with subprocess.Popen(
        ["bash", "-c", f'exec 9>&{telling}; exec "$0" -c "$1"', sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=writing,
        stderr=writing,
        pass_fds=[telling],
    ) as process:
        os.close(telling)
        assert select.select([told], [], [], 60)[0]
        assert os.read(told, 100) == b"done"
        assert process.wait(60) == 0
    for one in (reading, writing, told):
        os.close(one)


def test_a_closed_stream_is_no_number_for_another_file(tmp_path: Path) -> None:
    """Else the next file that is opened would be what somebody writes his remarks to."""
    script = (
        "from services.runtime.outlet import hold_standard; hold_standard()\n"
        f"import os; open({str(tmp_path / 'number')!r}, 'w').write(str(os.open('/dev/zero', os.O_RDONLY)))"
    )
    subprocess.run(
        ["bash", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=True,
    )
    assert int((tmp_path / "number").read_text(encoding="utf-8")) > 2


@pytest.mark.parametrize("depth", [10, 2000])
def test_what_is_nested_too_deep_is_text(depth: int) -> None:
    """And no error, nor a line without end."""
    out = io.StringIO()
    value: Any = 1
    for _ in range(depth):
        value = [value]
    Logs("consumer", "INFO", "json", out).logger.info("deep", extra={"value": value})
    assert json.loads(out.getvalue())["message"] in {"deep", "log_line_broken"}
