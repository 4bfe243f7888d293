"""`make dashboards`: write the dashboards to where the chart takes them from."""

from pathlib import Path
from typing import Final

from charts.dashboards.data import DATA
from charts.dashboards.kubernetes import KUBERNETES
from charts.dashboards.overview import OVERVIEW
from charts.dashboards.pipeline import PIPELINE
from charts.dashboards.redis_stream import REDIS_STREAM

BOARDS: Final = (OVERVIEW, PIPELINE, REDIS_STREAM, KUBERNETES)
"""Those that ask a Prometheus."""
FILES: Final = Path(__file__).resolve().parents[1] / "telemetry-pipeline" / "files" / "dashboards"
DATA_FILE: Final = FILES.parent / "data-dashboards" / f"{DATA.name}.json"
"""It asks the database, which not every release has, so it lies apart."""


def main() -> None:
    """Write them all."""
    for file, board in {**{FILES / f"{one.name}.json": one for one in BOARDS}, DATA_FILE: DATA}.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(board.json(), encoding="utf-8")


if __name__ == "__main__":
    main()
