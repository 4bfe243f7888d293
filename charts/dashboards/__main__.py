"""`make dashboards`: write the dashboards to where the chart takes them from."""

from pathlib import Path
from typing import Final

from charts.dashboards.kubernetes import KUBERNETES
from charts.dashboards.overview import OVERVIEW
from charts.dashboards.pipeline import PIPELINE
from charts.dashboards.redis_stream import REDIS_STREAM

BOARDS: Final = (OVERVIEW, PIPELINE, REDIS_STREAM, KUBERNETES)
FILES: Final = Path(__file__).resolve().parents[1] / "telemetry-pipeline" / "files" / "dashboards"


def main() -> None:
    """Write them all."""
    FILES.mkdir(parents=True, exist_ok=True)
    for board in BOARDS:
        (FILES / f"{board.name}.json").write_text(board.json(), encoding="utf-8")


if __name__ == "__main__":
    main()
