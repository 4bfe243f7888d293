"""`telemetry copy` as a process: killed at every step, and beside a pipeline that runs."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from acceptance.copy_killed_at import POINTS
from acceptance.rig import PATIENCE_S, ROOT, Rig
from copies import everything, everything_at, fill, letters_at, lines_of
from postgres import rows_of

from services.stores.sqlite.copying import SQLiteCopied

KILLED_AT = ROOT / "tests" / "acceptance" / "copy_killed_at.py"


def run(folder: Path, *command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a process to its end in a folder."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "DATA_DIR": "data", **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def copy(folder: Path, to: str, **environment: str) -> str:
    """Copy to the end, which has to go well; gives the answer."""
    done = run(folder, "-m", "services.ops", "copy", "--to", to, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def lines_in_order(found: dict[str, object]) -> dict[str, object]:
    """Leave out where a letter stands in its table: that is its own at each place."""
    letters = [(*row[:3], *row[4:]) for row in found["dead_letters"]]  # type: ignore[attr-defined]
    return found | {"dead_letters": letters}


@pytest.mark.parametrize("point", POINTS)
def test_a_copy_to_postgresql_that_is_killed_goes_on(tmp_path: Path, postgres_url: str, point: str) -> None:
    """What is there is right, nothing is proven there before its rows; in the end it is all there."""
    some = fill(tmp_path / "data")
    before = everything(tmp_path / "data")
    killed = run(tmp_path, KILLED_AT, point, "2" if "events" in point else "1", "--to", postgres_url)
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    there = everything_at(postgres_url)
    assert {str(row[0]) for row in there["events"]} <= {one.event_id for one in some}
    is_whole = len(there["events"]) == len(some) and letters_at(postgres_url) == lines_of(
        tmp_path / "data/dlq.jsonl"
    )
    assert is_whole or not (there["proofs"] or there["retention"])
    assert bool(there["proofs"]) == bool(there["proven_without_row"]) == (point == "after_proven")
    assert copy(tmp_path, postgres_url).startswith("the same: ")
    whole = everything_at(postgres_url)
    assert letters_at(postgres_url) == lines_of(tmp_path / "data/dlq.jsonl")
    assert everything(tmp_path / "data") == before
    copy(tmp_path, "sqlite:new", DATABASE_URL=postgres_url)
    assert everything(tmp_path / "new") == before
    copy(tmp_path, postgres_url)
    assert everything_at(postgres_url) == whole


@pytest.mark.parametrize("point", POINTS)
def test_a_copy_to_sqlite_that_is_killed_goes_on(tmp_path: Path, postgres_url: str, point: str) -> None:
    """The same the other way round."""
    some = fill(tmp_path / "data")
    before = everything(tmp_path / "data")
    copy(tmp_path, postgres_url)
    at = everything_at(postgres_url)
    killed = run(
        *(tmp_path, KILLED_AT, point, "2" if "events" in point else "1", "--to", "sqlite:new"),
        DATABASE_URL=postgres_url,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    there = everything(tmp_path / "new")
    assert set(there["telemetry_events"]) <= set(before["telemetry_events"])
    is_whole = len(there["telemetry_events"]) == len(some) and there["dlq.jsonl"] == before["dlq.jsonl"]
    assert is_whole or not (there["proofs"] or there["retention"])
    assert bool(there["proofs"]) == bool(there["proven_without_row"]) == (point == "after_proven")
    copy(tmp_path, "sqlite:new", DATABASE_URL=postgres_url)
    new = everything(tmp_path / "new")
    if point == "mid_letters":  # half a line is left there, and read by nobody
        new["dlq.jsonl"] = [line for line in new["dlq.jsonl"] if line in before["dlq.jsonl"]]
    assert new == before
    assert everything_at(postgres_url) == at


def test_a_pipeline_that_runs_is_moved_with_no_event_lost(rig: Rig, postgres_url: str) -> None:
    """Copied while consumers write, and when they have ended; the next ones go on in PostgreSQL."""
    publisher = rig.publisher(seed=3)
    publisher.mix(400).send()
    first = rig.consumer("consumer-1")
    rig.wait_for_rows(100)
    publisher.mix(400).send()
    run(rig.folder, "-m", "services.ops", "copy", "--to", postgres_url, "--while-running", **rig.environment)
    rig.drain(first)
    first.stop()
    publisher.mix(100).send()  # waits in the stream
    answer = copy(rig.folder, postgres_url, **rig.environment)
    assert answer.startswith("the same: ")
    with closing(SQLiteCopied(rig.settings.database)) as tables:
        assert rows_of(postgres_url, "SELECT count(*) FROM telemetry.events") == [(tables.extent().events,)]
    moved = {"DATABASE_URL": postgres_url, "CLAIM_IDLE_MS": "60000"}
    second = rig.consumer("consumer-2", **moved)
    rig.drain(second)
    second.stop()
    audit = run(rig.folder, "-m", "services.ops", "audit", **{**rig.environment, **moved})
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert "pending=0 undelivered=0 missing=0" in audit.stdout
