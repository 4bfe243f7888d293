"""Commands that only read: they make no folder and no file, and start no server."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from samples import dead, row
from telemetry_cli import bury, store, telemetry

READING: Sequence[Sequence[str]] = (
    ("inspect", str(Path(__file__).parents[2] / "inputs" / "wide.csv")),
    ("status",),
    ("audit",),
    ("events",),
    ("export",),
    ("summary",),
    ("dlq", "list"),
    ("dlq", "show", "1700000000000-1"),
    ("dlq", "replay", "--dry-run"),
    ("groups",),
    ("settings",),
    ("metrics",),
    ("messages",),
)


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it show where one is started."""

    def start(*_: object) -> None:
        raise AssertionError("a server was started")

    monkeypatch.setattr("services.ops.server.own._start", start)


@pytest.mark.parametrize("command", READING, ids=" ".join)
@pytest.mark.parametrize("place", ["data", "no/such/place"])
@pytest.mark.parametrize("letters", ["file", "stream"])
def test_a_wrong_folder_is_left_as_it_is(command: Sequence[str], place: str, letters: str) -> None:
    """Nothing is made there, and the exit code is no proof of anything."""
    result = telemetry(*command, DATA_DIR=place, DEAD_LETTERS=letters)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert list(Path.cwd().iterdir()) == []
    if command[0] == "audit":
        assert result.exit_code == 2
        assert "there is no server" in result.stderr
        assert str(Path(place).absolute()) in result.stderr


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_a_folder_with_data_is_left_as_it_is(command: Sequence[str]) -> None:
    """No file more, no byte changed, though the server of an earlier run left its data there."""
    store([row(1)])
    bury([dead(1)])
    Path("data/redis").mkdir()
    before = {path: path.read_bytes() for path in Path("data").rglob("*") if path.is_file()}
    result = telemetry(*command)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert {path: path.read_bytes() for path in Path("data").rglob("*") if path.is_file()} == before
    if command[0] in {"audit", "groups"}:
        assert "--start-server" in result.stderr
    if command[0] == "status":
        assert (result.exit_code, "--start-server" in result.stdout) == (0, True)
