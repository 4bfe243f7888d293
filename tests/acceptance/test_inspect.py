"""`telemetry inspect`, as it is typed: from a pipe, then `telemetry run` with the mapping that it wrote."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance.test_run import Laptop

ROOT = Path(__file__).parents[2]
TABLE = (
    "Werk 3\nDatum;Uhrzeit;Ort;Temp. innen;Feuchte\n"
    "10.03.2024;18:00;Halle 1;20,5;41\n10.03.2024;18:10;Halle 1;20,7;42\n10.03.2024;18:20;Halle 2;19,0;---\n"
)


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    one = Laptop(tmp_path)
    yield one
    one.close()


def _inspect(folder: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "services.ops", "inspect", "-", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DATA_DIR": str(folder / "data"), "REDIS_HOST": ""},
        text=True,
    )


def test_a_strangers_table_goes_in_by_inspect_and_one_run(laptop: Laptop) -> None:
    """Nothing is published, and no folder made, before the run; then every reading is stored."""
    process = _inspect(laptop.folder, "--time-zone", "Europe/Berlin", "--write", "m.toml")
    shown, said = process.communicate(TABLE, timeout=60)
    assert process.returncode == 0, said
    assert "3 can be published, as 5 events" in shown
    assert [path.name for path in laptop.folder.iterdir()] == ["m.toml"]
    (laptop.folder / "table.csv").write_text(TABLE, encoding="utf-8")
    run = laptop.types("run", "--from", "table.csv", "--mapping", "m.toml")
    assert run.wait() == 0, run.text
    assert {(row.zone, row.ts, row.kpi, row.value) for row in laptop.rows()} == {
        ("Halle 1", 1710090000.0, "temperature", 20.5),
        ("Halle 1", 1710090000.0, "humidity", 41.0),
        ("Halle 1", 1710090600.0, "temperature", 20.7),
        ("Halle 1", 1710090600.0, "humidity", 42.0),
        ("Halle 2", 1710091200.0, "temperature", 19.0),
    }
    assert len(laptop.rows()) == 5


def test_a_pipe_that_stays_open_is_looked_at_as_far_as_it_is(tmp_path: Path) -> None:
    """Such as that of a program which goes on writing."""
    with _inspect(tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("ts,temp\n1710028800,20\n1710028860,21\n17100")
        process.stdin.flush()
        shown = process.stdout.read()
        assert process.wait(30) == 0
        assert "2 can be published, as 2 events" in shown


def test_ctrl_c_ends_the_reading_of_a_pipe_without_an_end(tmp_path: Path) -> None:
    """In a line, and soon."""
    with _inspect(tmp_path, "--all") as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write("ts,temp\n" + "1710028800,20\n" * 200_000)
        process.stdin.flush()  # more than a pipe holds: when it is through, it is being read
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert time.monotonic() - began < 2
        assert "Traceback" not in process.stderr.read()
