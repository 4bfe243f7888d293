"""Our consumer without metrics: `python -m services.ops.bench.unobserved_consumer`.

What is compared with it is what counting costs. Nobody runs it: numbers that nobody wants cost next to
nothing, and who wants them later has none.
"""

import sys

from services.consumer.__main__ import main
from services.runtime.metrics import Metrics


class NoMetrics(Metrics):
    """Takes every number, and keeps none."""

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Count nothing."""

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set nothing."""

    def observe(self, name: str, value: float, trace_id: str | None = None, **labels: str) -> None:
        """Observe nothing."""


if __name__ == "__main__":
    sys.exit(main(make_metrics=NoMetrics))
