"""Ways in which an event can be wrong: one at a time, every kind that the consumer tells apart. Pure.

Each of them keeps the event's number readable to a lenient reader, so the audit finds the event among
the dead letters; only one without an event_id has no number, and is counted apart.
"""

from collections.abc import Callable, Sequence
from typing import Final

from services.contract.event import MAX_LABEL_CHARS, Reason
from services.contract.kpis import Kpi
from services.contract.producing.outgoing import FIELD_NAMES, flat

Values = Sequence[str]
Spoil = Callable[[Values, Kpi], list[str | bytes]]

_YEAR_S: Final = 366 * 86_400


def _with(field: str, change: Callable[[str, Kpi], str | bytes]) -> Spoil:
    at = FIELD_NAMES.index(field)

    def spoil(values: Values, kpi: Kpi) -> list[str | bytes]:
        return flat([*values[:at], change(values[at], kpi), *values[at + 1 :]])

    return spoil


def _text(field: str, text: str | bytes) -> Spoil:
    return _with(field, lambda _old, _kpi: text)


def _without(field: str) -> Spoil:
    at = 2 * FIELD_NAMES.index(field)

    def spoil(values: Values, _kpi: Kpi) -> list[str | bytes]:
        fields = flat(values)
        return fields[:at] + fields[at + 2 :]

    return spoil


def _also(name: str, text: str) -> Spoil:
    return lambda values, _kpi: [*flat(values), name, text]


def _width(kpi: Kpi) -> float:
    """Give more than the range of a KPI is wide."""
    return kpi.max - kpi.min + 1


without_id: Final = _without("event_id")
"""The one that takes no number."""

WAYS: Final[tuple[tuple[Reason, Spoil], ...]] = (
    ("not_utf8", _text("device_id", b"device-\xff\xfe")),
    ("not_utf8", _text("value", b"\x80")),
    ("missing_field", _without("value")),
    ("missing_field", _without("device_id")),
    ("missing_field", without_id),
    ("unknown_field", _also("firmware", "1.2.3")),
    ("duplicate_field", _also("value", "1.0")),
    ("event_id_invalid", _with("event_id", lambda text, _: text.upper())),
    ("device_id_invalid", _text("device_id", "")),
    ("device_id_invalid", _text("device_id", "d" * (MAX_LABEL_CHARS + 1))),
    ("device_id_invalid", _text("device_id", "device\t1")),
    ("zone_invalid", _text("zone", "")),
    ("zone_invalid", _text("zone", "zone\x00")),
    ("ts_invalid", _text("ts", "yesterday")),
    ("ts_invalid", _text("ts", "")),
    ("ts_in_future", _with("ts", lambda text, _: str(round(float(text) * 1000)))),
    ("ts_in_future", _with("ts", lambda text, _: f"{float(text) + _YEAR_S:.3f}")),
    ("kpi_unknown", _text("kpi", "luminosity-of-nothing")),
    ("value_invalid", _text("value", "NaN")),
    ("value_invalid", _text("value", "Infinity")),
    ("value_invalid", _text("value", "warm")),
    ("value_invalid", _text("value", "")),
    ("attributes_invalid", _also("attributes", '{"firmware": 1.2}')),
    # Of a KPI that goes below zero, one below its range is only that.
    ("value_negative", _with("value", lambda _, kpi: f"{min(kpi.min, 0.0) - _width(kpi):.2f}")),
    ("value_out_of_range", _with("value", lambda _, kpi: f"{kpi.max + _width(kpi):.2f}")),
)
