"""From a valid event to the row that is stored: `is_degraded`. Pure."""

from collections.abc import Sequence

from services.contract.consuming.doors import Entry, Processed, Valid
from services.contract.event import Event
from services.contract.kpis import Kpis


def process(valid: Sequence[Valid], kpis: Kpis) -> list[Processed]:
    """Make rows of valid events: one above its KPI's threshold is degraded, another as a step has left it."""
    thresholds = {name: kpi.threshold for name, kpi in kpis.items()}
    return [pair if pair[1].value <= thresholds[pair[1].kpi] else _degraded(*pair) for pair in valid]


def _degraded(entry: Entry, event: Event) -> Processed:
    return entry, event._replace(is_degraded=1)
