"""What `telemetry run` says at its end can be typed as it is."""

from pathlib import Path

import pytest

from services.ops.run.command import _look_closer


def test_a_command_that_the_shell_does_not_find_is_named_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `make run`, which puts it into .venv/bin; one on the PATH is named alone."""
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    command = folder / "telemetry"
    command.touch(mode=0o755)
    python = str(folder / "python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    assert ".venv/bin/telemetry summary, .venv/bin/telemetry events" in _look_closer(python)
    monkeypatch.chdir(folder.parent)
    assert "bin/telemetry summary" in _look_closer(python)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert f"{command} dlq list" in _look_closer(python)
    monkeypatch.setenv("PATH", str(folder))
    assert _look_closer(python) == "look closer: telemetry summary, telemetry events, telemetry dlq list"
    command.unlink()
    monkeypatch.setenv("PATH", "/nowhere")
    assert "closer: telemetry summary" in _look_closer(python)
