"""The chart's README is what helm-docs makes of the values."""

import shutil
from pathlib import Path

from chart.rendering import CHART, need, run


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
