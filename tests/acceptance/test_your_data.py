"""docs/your-data.md: its commands run as they stand, and its mapping is one."""

import re
import shlex
import signal
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance.pages import block_with
from acceptance.rig import PATIENCE_S, Process
from acceptance.test_run import Laptop
from servers import eventually

from services.producer.mapping.keys import KEYS, TABLES, build
from services.producer.mapping.mapping_file import read_mapping

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "your-data.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ telemetry (.+)$", PAGE, re.MULTILINE)


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    one = Laptop(tmp_path)
    yield one
    one.close()


def test_the_commands_of_the_page_run_as_they_stand(laptop: Laptop) -> None:
    """Each ends well, and what the files hold is stored."""
    assert len(COMMANDS) >= 3
    assert "$ export KPIS_FILE=examples/kpis.toml" in PAGE
    for command in COMMANDS:
        run = laptop.types(*shlex.split(command), KPIS_FILE="examples/kpis.toml")
        assert run.wait() == 0, run.text
    found = {(row.device_id, row.zone, row.ts, row.kpi, row.value) for row in laptop.rows()}
    frost = {row for row in found if row[:2] == ("Halle 1", "outside")}
    assert ("Halle 1", "outside", 1711838700.0, "temperature", -3.2) in found
    assert ("Halle 1", "outside", 1711846800.0, "temperature", -5.0) in found  # an hour was left out
    assert len(frost) == 5
    assert ("Halle 1", "south", 1711838700.0, "pressure", 1012.8) in found
    assert ("b2", "barn", 1710028800.512, "temperature", 19.0) in found
    assert ("cellar", "weather", 1710028810.0, "temperature", 12.1) in found
    assert len(found) == 19 + 5 + 4
    assert len(laptop.rows()) == 19 + 5 + 4 + 4  # with derived ids once more, and the third time not
    lines = (laptop.folder / "events.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(laptop.rows())
    warm = (laptop.folder / "warm.jsonl").read_text(encoding="utf-8").splitlines()
    assert 0 < len(warm) < len(found)


def test_every_key_of_a_mapping_is_on_the_page_and_right() -> None:
    """And every option beside it."""
    (text,) = re.findall(r"```toml\n(.+?)```", PAGE, re.DOTALL)
    errors: list[str] = []
    said = read_mapping(text, "page", errors)
    build(said, errors)
    assert errors == []
    assert {key.name for key in KEYS} <= said.keys()
    assert tomllib.loads(text).keys() >= {*TABLES, "time"}
    for option in (*(key.option for key in KEYS), *TABLES.values()):
        assert option in text


def _write(path: Path, *devices: str) -> None:
    """Write a file whose device has a name of its own in the mapping of these tests, or append to it."""
    path.parent.mkdir(exist_ok=True)
    head = "" if path.exists() else "Sensor,zone,ts,kpi,value\n"
    rows = "".join(f"{device},barn,1710000000,temperature,21.5\n" for device in devices)
    with path.open("a", encoding="utf-8") as file:
        file.write(head + rows)


@pytest.fixture
def mapped(laptop: Laptop) -> Laptop:
    """Have a mapping of the name that the page gives it."""
    (laptop.folder / "mapping.toml").write_text('[fields]\ndevice_id = "Sensor"\n', encoding="utf-8")
    return laptop


def _types(laptop: Laptop, text: str) -> Process:
    """Type the command of the page that has a text; what is in folders of a system is in that of the test."""
    command = block_with("your-data.md", text)
    for theirs, ours in {"/var/log/": "log/", "/data/": "incoming/"}.items():
        command = command.replace(theirs, ours)
    program, *words = shlex.split(command)
    assert program == "telemetry"
    return laptop.types(*words)


def _devices(laptop: Laptop) -> set[str]:
    return {row.device_id for row in laptop.rows()} if laptop.stored() else set()


def test_several_files_go_in_by_one_command(mapped: Laptop) -> None:
    """A file, a pattern and a folder."""
    for number, name in enumerate(("monday.csv", "logs/b.csv", "logs/a.csv", "archive/old.csv")):
        _write(mapped.folder / name, f"d{number}")
    run = _types(mapped, "--from monday.csv")
    assert run.wait() == 0, run.text
    assert _devices(mapped) == {"d0", "d1", "d2", "d3"}


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("sensors.csv --follow", ["log/sensors.csv"]),
        ("sensors --from", ["log/sensors/one.csv", "log/sensors/two.csv", "incoming/three.csv"]),
    ],
)
def test_what_is_still_written_is_followed_until_ctrl_c(mapped: Laptop, text: str, files: list[str]) -> None:
    """What is there, and what comes then; the same command goes on there."""
    (mapped.folder / "log").mkdir()
    for number, name in enumerate(files):
        _write(mapped.folder / name, f"first-{number}")
    wanted = {f"first-{number}" for number in range(len(files))}

    def are_stored() -> bool:
        return _devices(mapped) == wanted

    for time in ("second", "third"):
        run = _types(mapped, text)
        eventually(are_stored, PATIENCE_S, f"{wanted} are stored")
        for number, name in enumerate(files):
            _write(mapped.folder / name, f"{time}-{number}")
        wanted |= {f"{time}-{number}" for number in range(len(files))}
        eventually(are_stored, PATIENCE_S, f"{wanted} are stored")
        run.signal(signal.SIGINT)
        assert run.wait() == 0, run.text
        assert "the same command goes on there" in run.text
