"""A mapping: how a source is laid out, and where each field of its events comes from."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from services.contract.producing.outgoing import FIELD_NAMES, TRACE_NAMES

Format = Literal["csv", "jsonl", "json", "senml", "influx"]
Twice = Literal["earlier", "later", "refuse"]

FORMATS: Final[tuple[Format, ...]] = ("csv", "jsonl", "json", "senml", "influx")
TS_UNITS: Final[Mapping[str, int]] = {"s": 0, "ms": 3, "us": 6, "ns": 9}
"""How many decimals of a second each unit is."""
ORDERS: Final = ("year-month-day", "day-month-year", "month-day-year")
TWICE: Final[tuple[Twice, ...]] = ("earlier", "later", "refuse")
UNIT: Final = "unit"
"""Where a unit of the value stands; it is a field of the mapping, and not of an event."""
ATTRIBUTES: Final = "attributes"
"""Where an event's attributes stand, all in one JSON object."""
MAPPABLE: Final = (*FIELD_NAMES, UNIT, *TRACE_NAMES, ATTRIBUTES)
SETTABLE: Final = (*FIELD_NAMES[1:], UNIT)
"""What a constant may say."""
BLANKS: Final = "blanks"
"""The delimiter that is one blank or tab, or several."""
NO_READING: Final = frozenset(
    {"", "-", "--", "n/a", "na", "#n/a", "nan", "nil", "none", "null", "unavailable", "unknown"}
)
"""What stands where there is no reading, whatever its case; a mapping adds its own."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a text is cut into records and cells."""

    delimiter: str | None = None
    """One character or BLANKS; None: found in the header."""
    quote: str = '"'
    """Empty: no character quotes."""
    encoding: str | None = None
    """None: UTF-8, or what a mark at the beginning says."""
    skip_lines: int = 0
    """Before the header."""
    skip_after_header: int = 0
    comment: str = ""
    """What a line that is none of the data begins with; empty: nothing."""
    has_header: bool = True
    columns: tuple[str, ...] = ()
    """Names in place of the header's."""


@dataclass(frozen=True, slots=True)
class Times:
    """How times are written."""

    columns: tuple[str, ...] = ()
    """Their texts, joined by a blank, are the time; empty: the column of `ts`."""
    format: str = "auto"
    """auto: ISO 8601, or a number of seconds; s, ms, us, ns: the same, and the number's unit; one of ORDERS;
    or a pattern of strptime, with a % in it."""
    zone: str = "UTC"
    """Of times that name none: an IANA name, or an offset such as +01:00."""
    twice: Twice = "earlier"
    """Which one a local time is, in the hour that comes twice when clocks are set back."""
    earliest: float = 31_536_000.0
    """Unix seconds. Whatever is earlier is no time of a reading, but another unit or form: 1971 by default,
    since seconds read as milliseconds, and years or dates read as seconds, all lie in 1970."""


@dataclass(frozen=True, slots=True)
class ValueColumn:
    """A column with readings of one kind."""

    column: str
    constants: Mapping[str, str]
    """Its kpi, and what else is the same for all of its readings: device_id, zone, unit."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """Where each field comes from: a column of theirs, or a constant."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Our field: their column."""
    constants: Mapping[str, str] = field(default_factory=dict)
    values: tuple[ValueColumn, ...] = ()
    """Columns that are a reading each: a record is then several events. Empty: a record is one."""
    readings: str = ""
    """Path of the lists of readings in JSON; empty: a document is a reading, or a list of them."""
    layout: Layout = Layout()
    times: Times = Times()
    decimal: str = "."
    thousands: str = ""
    kept: tuple[str, ...] = ()
    """Columns of theirs that become attributes."""
    missing: frozenset[str] = frozenset()
    """What stands where there is no reading, beside NO_READING: texts, or numbers in any spelling."""
    id_from: tuple[str, ...] = ()
    """Our fields that an event's id is derived from; empty: it has one of its own, or is numbered."""
    format: Format | None = None
    """None: told by the beginning of the source, and by its name."""

    def column(self, name: str) -> str:
        """Name the column of a field."""
        return self.columns.get(name, name)


def identity(mapped: Mapped) -> str:
    """Write what a mapping says: two that read a file in the same way give the same text.

    What is left at its default is not in it, so that a key which is added later changes no mapping of before.
    """
    columns = {ours: theirs for ours, theirs in mapped.columns.items() if ours != theirs}
    said = _beyond(asdict(mapped) | {"columns": columns}, asdict(Mapped()))
    return json.dumps(said, sort_keys=True, default=sorted)


def _beyond(said: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in said.items():
        otherwise = defaults.get(name)
        if isinstance(value, dict) and isinstance(otherwise, dict):
            if more := _beyond(value, otherwise):
                found[name] = more
        elif value != otherwise:
            found[name] = value
    return found
