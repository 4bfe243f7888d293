"""Which rows are degraded."""

import pytest
from samples import KPIS, entry, row

from services.consumer.process import process


@pytest.mark.parametrize(
    ("value", "before", "is_degraded"),
    [(0.0, 0, 0), (70.0, 0, 0), (70.0000001, 0, 1), (99.0, 0, 1), (70.0, 1, 1), (99.0, 1, 1)],
)
def test_an_event_above_its_threshold_is_degraded(value: float, before: int, is_degraded: int) -> None:
    """The threshold itself is healthy, and what a step has marked stays so."""
    rows = process([(entry(1), row(1, value=value, is_degraded=before, attributes='{"a":"b"}'))], KPIS)
    assert [one for _, one in rows] == [row(1, value=value, is_degraded=is_degraded, attributes='{"a":"b"}')]
