"""From a valid event to the row that is stored: `is_degraded`. Pure."""

from collections.abc import Sequence
from operator import gt, or_

from services.contract.consuming.columns import Columns
from services.contract.consuming.doors import Rows, Valid
from services.contract.kpis import Kpis


def process(valid: Sequence[Valid], kpis: Kpis) -> Rows:
    """Make rows of valid events: one above its KPI's threshold is degraded, another as a step has left it."""
    thresholds = {name: kpi.threshold for name, kpi in kpis.items()}
    rows = Rows.of(valid)
    events = Columns.of(rows.events)
    is_above = map(gt, events.value, map(thresholds.__getitem__, events.kpi))
    return Rows(rows.entries, events.degraded(list(map(or_, events.is_degraded, is_above))))
