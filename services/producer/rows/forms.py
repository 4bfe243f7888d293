"""What a format calls things by itself: what a mapping says goes before it."""

from dataclasses import replace
from typing import Final

from services.producer.mapping.mapped import UNIT, Format, Mapped
from services.producer.rows.influx import FIELD, TIME, VALUE

_DEFAULTS: Final[dict[Format, dict[str, str]]] = {
    "influx": {"ts": TIME, "kpi": FIELD, "value": VALUE},
    "senml": {"ts": "t", "kpi": "n", "value": "v", "device_id": "device", UNIT: "u"},
}
"""What is called how where the format itself says so."""


def with_defaults(mapped: Mapped, kind: Format) -> Mapped:
    """Give a mapping what the format itself says."""
    defaults = _DEFAULTS.get(kind, {})
    times = mapped.times
    if kind == "influx" and times.format == "auto":
        times = replace(times, format="ns")
    return replace(mapped, columns={**defaults, **mapped.columns}, times=times)
