"""What is said of a process of `telemetry run` that has ended."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hostile import HOSTILE, faults

from services.ops.run.processes import Child
from services.runtime.screen import remark
from services.runtime.settings import SettingsInvalid


def _ended(folder: Path, *lines: str) -> Child:
    """Give a process that has ended with 2, and has logged these lines."""
    log = folder / "producer.jsonl"
    log.write_text("".join(f"{line}\n" for line in lines))
    child = Child("producer", [sys.executable, "-c", "raise SystemExit(2)"], {}, log, 0)
    child.process = subprocess.Popen(child.command)
    child.process.wait(60)
    return child


def test_its_last_words_are_told(tmp_path: Path) -> None:
    """Errors of lines of the log, and what is none; a wrong setting a line."""
    error = str(SettingsInvalid(["A: wrong", "B: wrong"]))
    child = _ended(
        tmp_path,
        json.dumps({"message": "producer_started", "run": "r"}),
        json.dumps({"message": "settings_unusable", "error": error}),
        "Fatal Python error",
        "",
    )
    failure = child.failure()
    assert (str(failure), failure.exit_code) == ("the producer ended:", 2)
    assert failure.details == ["  settings: A: wrong", "  settings: B: wrong", "  Fatal Python error"]


@pytest.mark.parametrize("message", ["source_unusable", "crashed", "settings_unusable"])
def test_its_last_words_do_nothing(message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A column's name is in them, or a setting's value: a line stays one, and nothing raw is written."""
    error = str(SettingsInvalid([HOSTILE])) if message == "settings_unusable" else HOSTILE
    failure = _ended(tmp_path, json.dumps({"message": message, "error": error}), "[" * 100_000).failure()
    remark(str(failure), *failure.details)
    said = capsys.readouterr().err
    assert faults(said) == []
    assert said.count("\n") == 3
