"""The one place from which text goes to a terminal."""

import json
import logging
import subprocess
import sys
import threading
import time
import tomllib
import warnings
from pathlib import Path

import pytest
from hostile import CONTROLS, FORGED, HIDE_ME, HOSTILE, faults, run_on_terminal, run_plain, unsafe_characters

from services.runtime import screen
from services.runtime.screen import answer, answer_json, escaped, lines_of, remark, shown
from services.runtime.settings import SettingsInvalid

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("text", ["", "plain", "°C", "größer", "日本語", "Z\u0301", "a b", "\\x1b", "👍"])
def test_what_can_be_seen_stays(text: str) -> None:
    """Letters of every script, signs and spaces."""
    assert escaped(text) == text


@pytest.mark.parametrize("character", [*CONTROLS.replace("a", ""), "\0", "\n", "\r", "\ud800", "\U000e007f"])
def test_what_cannot_be_seen_is_spelled_out(character: str) -> None:
    """Controls, what turns text around, what ends lines, what has no width, and halves of characters."""
    if not character.isascii() or not character.isprintable():
        assert escaped(f"a{character}b").startswith("a\\")
        assert not unsafe_characters(escaped(character))
        assert escaped(character).isascii()


def test_a_line_stays_one_line_without_its_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard output and on standard error, as many lines as were given."""
    answer(HOSTILE, "second")
    remark(HOSTILE)
    said = capsys.readouterr()
    for text, lines in ((said.out, 2), (said.err, 1)):
        assert faults(text) == []
        assert text.count("\n") == lines


def test_json_for_programs_is_json_and_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    """Data comes out as it went in; errors without secrets; numbers that JSON has not are null."""
    document = {
        "device": HOSTILE + "\0\ud800",
        "rows": [{"error": f"password={HIDE_ME}", "at": float("nan")}],
    }
    answer_json(document)
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    assert unsafe_characters(text) == []
    told = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert told == {"device": document["device"], "rows": [{"error": "password=***", "at": None}]}


def test_an_error_has_the_lines_that_it_has_by_itself() -> None:
    """Each wrong setting is a line; a line feed in a value makes none."""
    assert lines_of(SettingsInvalid([f"A={HOSTILE}", "B"]))[1:] == ["settings: B"]
    assert len(str(SettingsInvalid([f"A={HOSTILE}", "B"])).split("\n")) == 2
    assert lines_of(ValueError("a\nb")) == ("a\nb",)
    assert shown("a\nb") == "a\\nb"


STRAYS = f"""
import logging, sys, threading, warnings
from services.runtime.screen import prepare
prepare()
hostile = {HOSTILE!r}
logging.getLogger("library").warning("it says %s", hostile)
warnings.warn(hostile)
def crash(): raise ValueError(hostile)
thread = threading.Thread(target=crash)
thread.start(); thread.join()
class {"A" * 3}: pass
raise KeyError(hostile)
"""


@pytest.mark.parametrize("where", ["plain", "terminal"])
def test_what_python_and_libraries_say_comes_through_here_too(where: str, tmp_path: Path) -> None:
    """Tracebacks of both kinds, warnings, and lines of a log that nobody has set up."""
    command = [sys.executable, "-c", STRAYS]
    environment = {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    if where == "plain":
        code, out, text = run_plain(command, environment, tmp_path)
        assert out == ""
    else:
        code, text = run_on_terminal(command, environment, tmp_path)
    assert code == 1
    assert set(faults(text)) == {"a traceback is in it"}
    for said in ("it says a", "UserWarning: a", "ValueError: a", "KeyError: "):
        assert said in text
    assert text.count("Traceback") == 2


def test_a_closed_standard_output_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts a program may close both streams; then there is nobody to tell."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    screen.prepare()
    answer("to nobody", flush=True)
    remark("to nobody")
    assert not screen.answers_on_terminal()
    assert not screen.remarks_on_terminal()


@pytest.fixture(autouse=True)
def _own_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (sys, "excepthook"),
        (threading, "excepthook"),
        (warnings, "showwarning"),
        (logging, "lastResort"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("print('x')", "T201"),
        ("sys.stdout.write('x')", "TID251"),
        ("sys.stderr.write('x')", "TID251"),
        ("typer.echo('x')", "TID251"),
        ("typer.secho('x')", "TID251"),
        ("typer.confirm('x')", "TID251"),
        ("traceback.print_exc()", "TID251"),
        ("rich.print('x')", "TID251"),
        ("rich.console.Console()", "TID251"),
    ],
)
def test_no_other_module_may_write(line: str, rule: str) -> None:
    """The linter refuses it in every module of the services."""
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--select", "T201,TID251", "--output-format", "concise",
         "--stdin-filename", "services/ops/status/command.py", "-"],
        input=f"import sys, traceback, rich, rich.console, typer\n{line}\n",
        cwd=ROOT, text=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert rule in done.stdout, done.stdout + done.stderr


def test_few_places_are_excepted_from_that() -> None:
    """The place itself and the log's gate; what is excepted line by line says why."""
    ignores = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]["per-file-ignores"]
    excepted = {path for path, rules in ignores.items() if "TID251" in rules and path.startswith("services")}
    assert excepted == {"services/runtime/screen.py", "services/runtime/logs/gate.py"}
    lines = [
        f"{path.name}: {line.strip()}"
        for path in (ROOT / "services").rglob("*.py")
        for line in path.read_text().splitlines()
        if "noqa: TID251" in line or "noqa: T201" in line
    ]
    assert len(lines) <= 5, lines
    assert all("TID251 - " in line for line in lines)


def test_a_large_answer_is_quick() -> None:
    """Time in proportion to the text, whatever is in it."""
    started = time.process_time()
    shown(HOSTILE * 2000)
    assert time.process_time() - started < 10
    assert FORGED in shown(HOSTILE)
