"""The `telemetry` command in this process, and a data folder with something in it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from services.contract.consuming.doors import Dead
from services.contract.event import Event
from services.ops.app import COMMANDS, app
from services.ops.lazy import load
from services.runtime.settings import ConsumerSettings, ProducerSettings, declared, variable
from services.stores.files.dead_letters import DeadLetterFile
from services.stores.sqlite.sink import SQLiteSink


def telemetry(*arguments: str, **environment: str) -> Result:
    """Run the command with these settings; whatever it says is text without colours."""
    return CliRunner().invoke(app, list(arguments), env=environment, prog_name="telemetry")


def every_command() -> Iterator[tuple[str, Any]]:
    """Give the name of each command and of those below it, and what it is when it is called."""
    for name, (target, _) in COMMANDS.items():
        yield from _with_those_below(name, load(target))


def _with_those_below(name: str, found: Any) -> Iterator[tuple[str, Any]]:
    below = getattr(found, "commands", {})
    yield name, found if below else found.make_context(name, [], resilient_parsing=True).command
    for word, one in below.items():
        yield from _with_those_below(f"{name} {word}", one)


def json_lines(result: Result) -> list[Any]:
    """Read the answer to `--json` of a list."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def store(rows: Sequence[Event], stored_at: float = 1_700_000_100.0) -> None:
    """Store rows in the data folder."""
    with closing(SQLiteSink(Path("data/telemetry.db"), 5000, lambda: stored_at)) as sink:
        sink.write(rows)


def bury(dead: Sequence[Dead], failed_at: float = 1_700_000_200.0) -> DeadLetterFile:
    """Keep dead letters in the data folder."""
    letters = DeadLetterFile(Path("data/dlq.jsonl"), lambda: failed_at, "consumer-1")
    letters.put(dead)
    return letters


def is_refusal(result: Result, exit_code: int) -> bool:
    """Tell whether the command ended with an error that it explains, and not with a traceback."""
    return (
        result.exit_code == exit_code
        and isinstance(result.exception, SystemExit)
        and result.stdout == ""
        and bool(result.stderr.strip())
    )


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with no settings but those of the test."""
    monkeypatch.chdir(tmp_path)
    for cls in (ProducerSettings, ConsumerSettings):
        for one in declared(cls):
            monkeypatch.delenv(variable(one), raising=False)
    return tmp_path
