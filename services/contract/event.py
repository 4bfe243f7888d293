"""The event in its three forms: as texts, as a checked value, and as a refusal."""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

MAX_LABEL_CHARS: Final = 128
"""How long `device_id` and `zone` may be."""

DEFAULT_STREAM: Final = "telemetry_stream"
"""What the stream of the events is called, where STREAM_NAME says nothing."""
DEFAULT_GROUP: Final = "telemetry_consumers"
"""What the group of its consumers is called, where GROUP_NAME says nothing."""

DEFAULT_ENTRY_BYTES: Final = 1 << 20
"""How large an entry may be, names and values together, where MAX_ENTRY_BYTES says nothing."""
LEAST_ENTRY_BYTES: Final = 4096
"""The least that MAX_ENTRY_BYTES may be: more than any valid event has."""
MOST_ENTRY_BYTES: Final = 512 << 20
"""The most that it may be: what the server takes at most as one text."""

Stage = Literal["receive", "decode", "validate", "process", "sink"]

Reason = Literal[
    "not_utf8",
    "missing_field",
    "unknown_field",
    "duplicate_field",
    "pack_truncated",
    "pack_invalid",
    "event_id_invalid",
    "device_id_invalid",
    "zone_invalid",
    "ts_invalid",
    "ts_in_future",
    "kpi_unknown",
    "value_invalid",
    "value_negative",
    "value_out_of_range",
    "attributes_invalid",
    "rejected_by_step",
    "step_failed",
    "conflict",
    "refused_by_sink",
    "retries_exhausted",
    "deliveries_exhausted",
    "entry_too_large",
]
"""Why an event can end as a dead letter. A closed list: it is a metric's label."""


class Fields(NamedTuple):
    """An entry's fields as text, nothing checked but their presence."""

    event_id: str
    device_id: str
    zone: str
    ts: str
    kpi: str
    value: str
    traceparent: str | None = None
    tracestate: str | None = None
    attributes: str | None = None


class Event(NamedTuple):
    """An event as a value. `ts` in Unix seconds (UTC), `value` in the KPI's unit.

    A named tuple rather than a dataclass: a replica makes 100,000 of them a second. It is also the row
    that is stored; `is_degraded` is 0 until `process` has looked at it.
    """

    event_id: str
    device_id: str
    zone: str
    ts: float
    kpi: str
    value: float
    is_degraded: int = 0
    """0 or 1: the database has no truth values, and its driver is slow to turn them."""
    attributes: str | None = None
    """A JSON object in the one way that attributes.py writes it; None without any."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an event is refused: an expected outcome, so a value and no exception."""

    stage: Stage
    reason: Reason
    error: str
    """One sentence for a person: what is wrong and what was expected."""
