"""The chart's README is what helm-docs makes of the values."""

import shutil
from pathlib import Path

from chart.rendering import CHART, REDIS_CHART, need, run


def test_the_readme_is_made_of_the_values(tmp_path: Path) -> None:
    """Otherwise: make chart-docs."""
    need("helm-docs", "the chart's README is not compared with the values")
    copy = tmp_path / CHART.name
    shutil.copytree(CHART, copy)
    (copy / "README.md").unlink()
    options = (f"--chart-search-root={copy}", f"--chart-to-generate={copy}", "--sort-values-order=file")
    done = run("helm-docs", *options, "--log-level=warning")
    assert done.returncode == 0, done.stderr
    made = (copy / "README.md").read_text(encoding="utf-8")
    assert (CHART / "README.md").read_text(encoding="utf-8") == made


def test_every_value_has_a_comment() -> None:
    """A line that begins with `# --`, above each key that helm-docs lists."""
    text = (CHART / "README.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and line.count(" | ") == 3]
    assert len(rows) > 100
    assert [row for row in rows if row.endswith("|  |")] == []


def test_every_value_of_its_redis_has_a_comment() -> None:
    """Above it, or above the map that it is a part of as a whole; most are of no table."""
    lines = (REDIS_CHART / "values.yaml").read_text(encoding="utf-8").splitlines()
    told: list[int] = []
    """How deep the maps are that have a comment, from the outermost."""
    untold = []
    for number, line in enumerate(lines):
        depth = len(line) - len(line.lstrip())
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        told = [one for one in told if one < depth]
        if lines[number - 1].lstrip().startswith("# -- "):
            told.append(depth)
        elif not told and not line.endswith(":"):
            untold.append(line)
    assert untold == []
