"""The examples: each command of examples/README.md runs as it stands, and stores what the file says."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance.test_run import Laptop

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples"
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")
COMMANDS = dict(re.findall(r"^\$ telemetry (run --from (\S+) .+)$", PAGE, re.MULTILINE))

H = 3600.0
MARCH = 1_710_028_800.0  # 2024-03-10T00:00:00Z
NOVEMBER = 1_730_592_000.0  # 2024-11-03T00:00:00Z
JANUARY = 1_705_276_800.0  # 2024-01-15T00:00:00Z

Reading = tuple[str, str, float, str, float]
SOME: dict[str, tuple[int, set[Reading]]] = {
    "logger.csv": (
        19,
        {
            ("Halle 1", "outside", 1_711_838_700.0, "temperature", -3.2),
            ("Halle 1", "south", 1_711_838_700.0, "pressure", 1012.8),
            ("Halle 1", "outside", 1_711_846_800.0, "temperature", -5.0),  # an hour was left out
        },
    ),
    "greenhouse.csv": (
        11,
        {
            ("north", "greenhouse", MARCH + 5 * H, "pressure", 1013.25),
            ("south", "greenhouse", MARCH + 5 * H + 600, "humidity", 58.2),
            ("south", "greenhouse", MARCH + 5 * H + 1200, "temperature", 19.6),
        },
    ),
    "rooms.csv": (
        7,
        {
            ("kitchen", "house", JANUARY + 11 * H, "temperature", 20.0),
            ("attic", "house", JANUARY + 11 * H, "temperature", -1.0),
            ("attic", "house", JANUARY + 11.5 * H, "humidity", 72.0),
        },
    ),
    "stations.json": (
        3,
        {
            ("st-4", "Quay", MARCH, "temperature", 4.1),
            ("st-4", "Quay", MARCH, "pressure", 1009.6),
            ("st-9", "Ridge", MARCH, "temperature", -1.5),
        },
    ),
    "gateway.jsonl": (5, {("b2", "barn", MARCH + 0.512, "temperature", 19.0)}),
    "weather.lp": (4, {("cellar", "weather", MARCH + 10, "temperature", 12.1)}),
    "cellar.txt.gz": (
        6,
        {
            ("C1", "cellar", MARCH + 600, "humidity", 83.0),
            ("C1", "cellar", MARCH + 1200, "temperature", 12.0),
        },
    ),
    "freezer.csv": (
        4,
        {
            ("F-1", "store", NOVEMBER + 4.5 * H, "temperature", -18.4),
            ("F-1", "store", NOVEMBER + 6.5 * H, "temperature", -18.2),
            ("F-1", "store", NOVEMBER + 6.5 * H, "temperature", -18.1),
            ("F-1", "store", NOVEMBER + 8.5 * H, "temperature", -18.3),
        },
    ),
}
"""Of each file how many readings it has, and some of them."""


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    (tmp_path / "examples").symlink_to(FOLDER)
    one = Laptop(tmp_path)
    yield one
    one.close()


def test_each_example_is_stored_by_its_command(laptop: Laptop) -> None:
    """Every reading once, and no line is refused."""
    assert "$ export KPIS_FILE=examples/kpis.toml" in PAGE
    assert [Path(file).name for file in COMMANDS.values()] == list(SOME)
    met: set[Reading] = set()
    for command, file in COMMANDS.items():
        run = laptop.types(*shlex.split(command), KPIS_FILE="examples/kpis.toml")
        assert run.wait() == 0, run.text
        found = {(row.device_id, row.zone, row.ts, row.kpi, row.value) for row in laptop.rows()}
        count, some = SOME[Path(file).name]
        assert " refused=0 " in run.text
        assert len(found - met) == count, file
        assert some <= found - met, file
        met = found
    assert len(laptop.rows()) == len(met)
    kept = laptop.types("events", "--attribute", "valve=open", "--json")
    assert kept.wait() == 0
    assert kept.text.count('"valve": "open"') == 6


def test_each_file_is_small_and_is_on_the_page() -> None:
    """With a mapping that says what it is for."""
    files = [path for path in FOLDER.iterdir() if path.suffix != ".toml" and path.name != "README.md"]
    assert {path.name for path in files} == {*SOME, "wide.csv"}
    for path in files:
        assert f"| `{path.name}` |" in PAGE
        assert path.stat().st_size < 3000
    for path in FOLDER.glob("*.toml"):
        assert path.read_text(encoding="utf-8").startswith("# ")
