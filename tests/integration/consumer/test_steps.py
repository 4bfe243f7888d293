"""Users' own steps: a package that is built, installed, and run by the real consumer."""

import json
import os
import sqlite3
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from consumers import publish
from samples import event_fields, id_of
from servers import LocalServer

ROOT = Path(__file__).parents[3]

STEPS = '''
from services.steps import reject


def to_celsius(event):
    """Mend a device that measures in Fahrenheit."""
    if event.device_id == "fahrenheit":
        return event._replace(value=round((event.value - 32) / 1.8, 3))
    return event


def only_ours(event):
    """Refuse what another site sends us, and fall over one device."""
    if event.zone == "elsewhere":
        return reject("zone elsewhere is not ours")
    if event.device_id == "clumsy":
        raise RuntimeError("cannot read the calibration")
    return event
'''


PYPROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "site-steps"
version = "1.0"

[tool.setuptools]
py-modules = ["site_steps"]

[project.entry-points."telemetry.steps"]
"""

BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def build_wheel(folder: Path, steps: str) -> Path:
    """Build the wheel of a package with steps."""
    return build(folder, {"site_steps.py": STEPS, "pyproject.toml": PYPROJECT + steps})


def build(folder: Path, files: Mapping[str, str]) -> Path:
    """Build the wheel of a source tree by its own build backend, as pip does."""
    source = folder / "source"
    source.mkdir()
    for name, text in files.items():
        (source / name).write_text(text, encoding="utf-8")
    built = subprocess.run(
        [sys.executable, "-c", BUILD, folder], cwd=source, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, target: Path) -> None:
    """Install a pure wheel, which is to unpack it (PEP 427)."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)


def run_consumer(
    port: int, data: Path, site: Path, seconds: str = "8", **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run the consumer as a process, with what is installed in `site`."""
    environment = {name: value for name, value in os.environ.items() if "REDIS" not in name}
    return subprocess.run(
        [sys.executable, "-m", "services.consumer"],
        cwd=data,
        env=environment
        | {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{site}",
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(port),
            "DATA_DIR": str(data),
            "CONSUMER_RUN_DURATION": seconds,
            "CONSUMER_METRICS_PORT": "0",
            **settings,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_installed_step_changes_and_rejects_events(
    own_server: Callable[..., LocalServer], tmp_path: Path
) -> None:
    """A step is found by its entry point: what it changes is stored so, what it refuses is a dead letter."""
    site, data = tmp_path / "site", tmp_path / "data"
    data.mkdir()
    install(
        build_wheel(tmp_path, '10-celsius = "site_steps:to_celsius"\n20-ours = "site_steps:only_ours"\n'),
        site,
    )
    server = own_server()
    with closing(server.client()) as client:
        for fields in (
            event_fields(1, device_id="fahrenheit", value="98.6"),
            event_fields(2),
            event_fields(3, zone="elsewhere"),
            event_fields(4, device_id="clumsy"),
        ):
            publish(client, fields=fields)
    done = run_consumer(server.port, data, site)
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(data / "telemetry.db")) as connection:
        rows = dict(connection.execute("SELECT device_id, value FROM telemetry_events").fetchall())
    assert rows == {"fahrenheit": 37.0, "device-2": 42.25}
    letters = [json.loads(line) for line in (data / "dlq.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(one["reason"], one["error"]) for one in letters] == [
        ("rejected_by_step", "zone elsewhere is not ours"),
        ("step_failed", "step only_ours: RuntimeError: cannot read the calibration"),
    ]
    started = next(
        line for line in map(json.loads, done.stdout.splitlines()) if line["message"] == "consumer_started"
    )
    assert started["steps"] == 2


def example() -> dict[str, str]:
    """Give the files of docs/steps.md, and what it shows on a terminal, as `shown`."""
    page = (ROOT / "docs" / "steps.md").read_text(encoding="utf-8")
    kpis, pyproject = (block.partition("```")[0] for block in page.split("```toml\n")[1:])
    _, _, shown = page.partition("$ telemetry steps try ")
    return {
        "kpis.toml": kpis,
        "pyproject.toml": pyproject,
        "my_steps.py": page.partition("```python\n")[2].partition("```")[0],
        "events.jsonl": page.partition("```json\n")[2].partition("```")[0],
        "shown": shown.partition("```")[0],
    }


def test_the_example_of_the_documentation_can_be_tried_as_it_is_written(tmp_path: Path) -> None:
    """The command of the page, with the files of the page, shows what the page shows."""
    files = example()
    command, _, shown = files.pop("shown").partition("\n")
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if "REDIS" not in name}
    steps, less, events = command.rpartition(" < ")
    done = subprocess.run(
        [sys.executable, "-m", "services.ops", "steps", "try", *steps.split()],
        input=(tmp_path / events).read_text(encoding="utf-8"),
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT), "KPIS_FILE": "kpis.toml"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (less, done.stdout + done.stderr, done.returncode) == (" < ", shown, 0)


def test_the_example_of_the_documentation_works_with_all_of_its_input(
    own_server: Callable[..., LocalServer], tmp_path: Path
) -> None:
    """The package of docs/steps.md, built and installed, does in the consumer what the page says."""
    files = example()
    shown = [line.split() for line in files.pop("shown").splitlines()[2:-1]]
    site, data = tmp_path / "site", tmp_path / "data"
    data.mkdir()
    (data / "kpis.toml").write_text(files["kpis.toml"], encoding="utf-8")
    events = [json.loads(line) for line in files.pop("events.jsonl").splitlines()]
    install(build(tmp_path, files), site)
    server = own_server()
    with closing(server.client()) as client:
        for number, event in enumerate(events, start=1):
            texts = {name: str(value) for name, value in event.items()}
            publish(client, fields=event_fields(number, **texts))
    done = run_consumer(server.port, data, site, KPIS_FILE="kpis.toml")
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(data / "telemetry.db")) as connection:
        rows = connection.execute("SELECT event_id, kpi, value FROM telemetry_events ORDER BY 1").fetchall()
    letters = [json.loads(line) for line in (data / "dlq.jsonl").read_text(encoding="utf-8").splitlines()]
    dead = {one["event"]["event_id"]: one["reason"] for one in letters}
    assert dead == {id_of(int(line[0])): line[2] for line in shown if line[1] == "dead"}
    assert rows == [
        (id_of(1), "temperature", 100.0), (id_of(2), "temperature", 10.0), (id_of(3), "temperature", 20.5),
        (id_of(5), "temperature", -12.222),
    ]  # fmt: skip
    assert len(rows) + len(dead) == len(events) == len(shown)


@pytest.mark.parametrize(
    ("point", "told"),
    [
        ('a = "site_steps:missing"\n', "step a (site_steps:missing): AttributeError"),
        ('a = "no_such_module:step"\n', "step a (no_such_module:step): ModuleNotFoundError"),
        ('a = "site_steps:__name__"\n', "step a (site_steps:__name__) is no function"),
    ],
)
def test_a_step_that_can_not_be_loaded_stops_the_start(tmp_path: Path, point: str, told: str) -> None:
    """The consumer ends with one line that names it, and exit code 2, before it touches anything."""
    site, data = tmp_path / "site", tmp_path / "data"
    data.mkdir()
    install(build_wheel(tmp_path, point), site)
    done = run_consumer(1, data, site)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in textwrap.dedent(done.stderr)
    assert list(data.iterdir()) == []
