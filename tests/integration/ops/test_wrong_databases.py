"""A DATABASE_URL that leads astray: one line that names what to change, exit code 2, no password."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from telemetry_cli import telemetry

WRONG = {
    "mysql://root:s3cret@db/x": "is no scheme of a store here",
    "postgresql://me:s3@cret@db/x": "there are two @ in it",
    "postgresql://me:s3cret@db/x?sslmod=require": "there is no parameter sslmod",
}


@pytest.mark.parametrize("command", [["events"], ["summary"], ["dlq", "list"], ["run", "--duration", "1"]])
@pytest.mark.parametrize("url", WRONG)
def test_a_command_ends_with_one_line(url: str, command: list[str]) -> None:
    """Whatever it wants to do."""
    result = telemetry(*command, DATABASE_URL=url)
    assert result.exit_code == 2
    assert WRONG[url] in result.stderr
    assert "Traceback" not in result.stderr
    assert "cret" not in result.stderr


@pytest.mark.parametrize("url", WRONG)
def test_a_consumer_ends_with_one_line(url: str, tmp_path: Path) -> None:
    """Before anything else happens."""
    done = run_consumer(tmp_path, url)
    assert done.returncode == 2
    assert WRONG[url] in done.stdout + done.stderr
    assert "s3cret" not in done.stdout + done.stderr


def test_a_database_that_is_not_there_ends_a_consumer(postgres_url: str, tmp_path: Path) -> None:
    """And a command too: it is a mistake in the settings, and waiting would not make it."""
    url = f"{postgres_url}_nowhere"
    done = run_consumer(tmp_path, url)
    assert done.returncode == 2
    assert "create the database, or name another one" in done.stdout
    result = telemetry("events", DATABASE_URL=url)
    assert result.exit_code == 2
    assert "create the database, or name another one" in result.stderr


def test_a_database_without_tables_is_told_apart(postgres_url: str) -> None:
    """A consumer makes them."""
    result = telemetry("events", DATABASE_URL=postgres_url)
    assert result.exit_code == 2
    assert "no tables yet; a consumer makes them" in result.stderr


def run_consumer(folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    """Run a consumer to its end."""
    environment = {**os.environ, "DATABASE_URL": url, "DATA_DIR": str(folder), "CONSUMER_METRICS_PORT": "0"}
    return subprocess.run(
        [sys.executable, "-m", "services.consumer"], env=environment, capture_output=True, text=True,
        timeout=60, check=False, cwd=Path(__file__).resolve().parents[3],
    )  # fmt: skip
