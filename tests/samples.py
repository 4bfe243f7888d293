"""Events, rows and entries to test with, and hypothesis strategies for odd ones."""

from collections.abc import Sequence
from typing import Any, Final

from hypothesis import strategies as st

from services.contract.consuming.doors import Dead, Entry
from services.contract.event import Event, Fields, Rejection
from services.contract.ids import event_id, run_name
from services.contract.kpis import parse_kpis, shipped

KPIS: Final = parse_kpis(shipped())
COLD: Final = KPIS | parse_kpis('[outdoor]\nunit = "°C"\nmin = -40\nmax = 60\nthreshold = 35')
"""With one whose range begins below zero."""
RUN: Final = run_name(0x2A_BCDE_F012)
NOW: Final = 1_800_000_000.0


def id_of(number: int) -> str:
    """Make the id of event `number`."""
    return event_id(RUN, number, 1_700_000_000_000 + number)


def row(number: int = 1, **changes: Any) -> Event:
    """Make a row that every sink takes, but for the changes."""
    whole = Event(id_of(number), f"device-{number % 7}", "zone-1", 1_700_000_000.5, "humidity", 42.25, False)
    return whole._replace(**changes)


def event_fields(number: int = 1, **changes: str | bytes) -> list[bytes]:
    """Make an entry's fields of a valid event, but for the changes."""
    texts: dict[str, str | bytes] = {
        "event_id": id_of(number),
        "device_id": f"device-{number % 7}",
        "zone": "zone-1",
        "ts": "1700000000.5",
        "kpi": "humidity",
        "value": "42.25",
        **changes,
    }
    return flat(list(texts.items()))


def flat(pairs: Sequence[tuple[str | bytes, str | bytes]]) -> list[bytes]:
    """Write pairs as names and values in turn."""
    return [part.encode() if isinstance(part, str) else part for pair in pairs for part in pair]


def texts(**changes: Any) -> Fields:
    """Make decoded fields of a valid event, but for the changes."""
    whole = Fields(id_of(1), "device-1", "zone-1", "1700000000.5", "humidity", "42.25")
    return whole._replace(**changes)


def entry(number: int = 1, fields: Sequence[bytes] | None = None, deliveries: int = 1) -> Entry:
    """Make an entry as a source gives it."""
    return Entry(b"1700000000000-%d" % number, list(fields or event_fields(number)), deliveries)


def dead(number: int = 1, fields: Sequence[bytes] | None = None, attempts: int = 1) -> Dead:
    """Make an entry that won't be stored."""
    return Dead(entry(number, fields), Rejection("validate", "value_invalid", "value is none"), attempts)


raw_names = st.one_of(
    st.sampled_from([b"event_id", b"device_id", b"zone", b"ts", b"kpi", b"value", b"traceparent", b"extra"]),
    st.binary(max_size=8),
)
raw_values = st.one_of(st.binary(max_size=40), st.text(max_size=20).map(str.encode))
raw_fields = st.lists(st.tuples(raw_names, raw_values), min_size=1, max_size=9).map(
    lambda pairs: [part for pair in pairs for part in pair]
)
"""Names and values in turn: known names, odd bytes, names given twice."""
