"""From a valid event to the row that is stored: `is_degraded`. Pure."""

from collections.abc import Sequence

from services.contract.consuming.doors import Rows, Valid
from services.contract.kpis import Kpis


def process(valid: Sequence[Valid], kpis: Kpis) -> Rows:
    """Make rows of valid events: one above its KPI's threshold is degraded, another as a step has left it."""
    thresholds = {name: kpi.threshold for name, kpi in kpis.items()}
    rows = Rows.of(valid)
    events = [
        event if event.value <= thresholds[event.kpi] else event._replace(is_degraded=1)
        for event in rows.events
    ]
    return Rows(rows.entries, events)
