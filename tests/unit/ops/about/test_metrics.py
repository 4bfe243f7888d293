"""`telemetry metrics`, and the page that is made of it."""

from pathlib import Path

from telemetry_cli import telemetry

from services.ops.about.metrics import markdown
from services.runtime.telemetry.metrics import CATALOGUE

PAGE = Path(__file__).parents[4] / "docs" / "metrics.md"


def test_the_page_is_made_from_the_catalogue() -> None:
    """docs/metrics.md is what `make docs` writes."""
    assert PAGE.read_text(encoding="utf-8") == markdown()


def test_every_metric_is_listed() -> None:
    """The command names each metric of the catalogue."""
    listed = telemetry("metrics").stdout
    assert [one.name for one in CATALOGUE if one.name not in listed] == []
