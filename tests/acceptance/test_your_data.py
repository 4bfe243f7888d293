"""docs/your-data.md: its commands run as they stand, and its mapping is one."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance.test_run import Laptop

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
