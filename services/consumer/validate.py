"""Check the texts of an event against the contract's rules. Pure.

Rules, in the order in which they are checked; the first that fails names the reason:

    event_id           a UUID in canonical lower-case text (RFC 9562, section 4)
    device_id, zone    1 to 128 characters, none of them a control character
    ts                 Unix seconds as decimal text, no later than `latest_ts`; rounded to microseconds
    kpi                a configured KPI
    value              decimal text, finite, within the KPI's plausible range; a negative one has a reason of
                       its own where the range has none
"""

import re
from collections.abc import Sequence
from typing import Final

from services.contract.codec import DECIMAL, UNSIGNED
from services.contract.consuming.doors import Dead, Decoded, Valid
from services.contract.event import MAX_LABEL_CHARS, Event, Fields, Reason, Rejection
from services.contract.ids import CANONICAL
from services.contract.kpis import Kpi, Kpis

_LABEL: Final = re.compile(rf"[^\x00-\x1f\x7f-\x9f]{{1,{MAX_LABEL_CHARS}}}")

_is_canonical_id = CANONICAL.fullmatch
is_label = _LABEL.fullmatch
_is_time = re.compile(UNSIGNED).fullmatch
_is_decimal = DECIMAL.fullmatch


def validate(decoded: Sequence[Decoded], kpis: Kpis, latest_ts: float) -> tuple[list[Valid], list[Dead]]:
    """Split entries into valid events and dead letters. `latest_ts` in Unix seconds."""
    valid: list[Valid] = []
    dead: list[Dead] = []
    for entry, fields in decoded:
        event = check(fields, kpis, latest_ts)
        if isinstance(event, Event):
            valid.append((entry, event))
        else:
            dead.append(Dead(entry, event))
    return valid, dead


def check(fields: Fields, kpis: Kpis, latest_ts: float) -> Event | Rejection:
    """Make an event of its texts, or say which rule it breaks."""
    event_id, device_id, zone, ts_text, kpi_name, value_text, _, _ = fields
    if not _is_canonical_id(event_id):
        return _reject("event_id_invalid", f"event_id {_shown(event_id)} is not a canonical lower-case UUID")
    if not is_label(device_id):
        return _reject("device_id_invalid", _label_rule("device_id", device_id))
    if not is_label(zone):
        return _reject("zone_invalid", _label_rule("zone", zone))
    if not _is_time(ts_text):
        return _reject("ts_invalid", f"ts {_shown(ts_text)} is not Unix seconds in decimal text")
    ts = round(float(ts_text), 6)  # a float has more, and not every store
    if ts > latest_ts:
        return _reject("ts_in_future", _future_rule(ts_text, ts, latest_ts))
    kpi = kpis.get(kpi_name)
    if kpi is None:
        return _reject("kpi_unknown", f"kpi {_shown(kpi_name)} is none of {', '.join(sorted(kpis))}")
    if not _is_decimal(value_text):
        return _reject("value_invalid", f"value {_shown(value_text)} is not a finite number in decimal text")
    value = float(value_text)
    if value < 0 <= kpi.min:
        return _reject("value_negative", f"value {_shown(value_text)} is negative; {_range_of(kpi)}")
    if not kpi.min <= value <= kpi.max:
        return _reject(
            "value_out_of_range",
            f"value {_shown(value_text)} is outside its range; {_range_of(kpi)}",
        )
    return Event(event_id, device_id, zone, ts, kpi_name, value)


def _reject(reason: Reason, error: str) -> Rejection:
    return Rejection("validate", reason, error)


def _label_rule(name: str, text: str) -> str:
    if not text:
        return f"{name} is empty"
    if len(text) > MAX_LABEL_CHARS:
        return f"{name} has {len(text)} characters, more than {MAX_LABEL_CHARS}"
    return f"{name} {_shown(text)} has a control character"


def _range_of(kpi: Kpi) -> str:
    return f"{kpi.name} is {kpi.min:g} to {kpi.max:g} {kpi.unit}"


def _future_rule(text: str, ts: float, latest_ts: float) -> str:
    if latest_ts / 10 < ts / 1000 <= latest_ts:
        return f"ts {_shown(text)} is in the future; it looks like milliseconds, and seconds are wanted"
    return f"ts {_shown(text)} is in the future, beyond MAX_FUTURE_S"


def _shown(text: str) -> str:
    """Show a foreign text in a message: printable, and no longer than a line can bear."""
    return ascii(text if len(text) <= 64 else f"{text[:61]}...")
