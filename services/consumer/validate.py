"""From texts to an event of the right form, and from there to a valid one. Pure.

The form of its texts, in the order in which they are checked; the first that fails names the reason:

    event_id           a UUID in canonical lower-case text (RFC 9562, section 4)
    device_id, zone    1 to 128 characters, none of them a control character
    ts                 Unix seconds as decimal text; rounded to microseconds
    value              decimal text, finite
    attributes         none, or a JSON object of short texts (services/contract/attributes.py)

The rules, which hold for what steps have made of it as well:

    device_id, zone, attributes    as above
    ts                 from 1970 on, no later than `latest_ts`
    kpi                a configured KPI
    value              within the KPI's plausible range; a negative one has a reason of its own where the
                       range has none
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Final

from services.contract.attributes import AttributesInvalid, read_attributes
from services.contract.codec import DECIMAL, UNSIGNED
from services.contract.consuming.doors import Dead, Decoded, Entry, Valid
from services.contract.event import MAX_LABEL_CHARS, Event, Fields, Reason, Rejection
from services.contract.ids import CANONICAL
from services.contract.kpis import Kpi, Kpis
from services.runtime.redact import head

_LABEL: Final = re.compile(rf"[^\x00-\x1f\x7f-\x9f]{{1,{MAX_LABEL_CHARS}}}")

_is_canonical_id = CANONICAL.fullmatch
is_label = _LABEL.fullmatch
_is_time = re.compile(UNSIGNED).fullmatch
_is_decimal = DECIMAL.fullmatch


def read_form(decoded: Sequence[Decoded]) -> tuple[list[Valid], list[Dead]]:
    """Split entries into events of the right form, not held to the rules yet, and dead letters."""
    return _split((entry, form(fields)) for entry, fields in decoded)


def validate(events: Sequence[Valid], kpis: Kpis, latest_ts: float) -> tuple[list[Valid], list[Dead]]:
    """Split events into valid ones and dead letters. `latest_ts` in Unix seconds."""
    return _split((entry, hold(event, kpis, latest_ts)) for entry, event in events)


def _split(outcomes: Iterable[tuple[Entry, Event | Rejection]]) -> tuple[list[Valid], list[Dead]]:
    good: list[Valid] = []
    dead: list[Dead] = []
    for entry, outcome in outcomes:
        if isinstance(outcome, Event):
            good.append((entry, outcome))
        else:
            dead.append(Dead(entry, outcome))
    return good, dead


def check(fields: Fields, kpis: Kpis, latest_ts: float) -> Event | Rejection:
    """Make a valid event of its texts, or say what is wrong with them."""
    event = form(fields)
    return hold(event, kpis, latest_ts) if isinstance(event, Event) else event


def form(fields: Fields) -> Event | Rejection:
    """Make an event of texts, of any KPI and in any range, or say which of them has no such form."""
    event_id, device_id, zone, ts_text, kpi, value_text, _, _, attributes = fields
    if not _is_canonical_id(event_id):
        return _reject("event_id_invalid", f"event_id {_shown(event_id)} is not a canonical lower-case UUID")
    if not is_label(device_id):
        return _reject("device_id_invalid", _label_rule("device_id", device_id))
    if not is_label(zone):
        return _reject("zone_invalid", _label_rule("zone", zone))
    if not _is_time(ts_text):
        return _reject("ts_invalid", f"ts {_shown(ts_text)} is not Unix seconds in decimal text")
    ts = round(float(ts_text), 6)  # a float has more, and not every store
    if ts == math.inf:
        return _reject("ts_in_future", f"ts {_shown(ts_text)} is in the future, beyond every time")
    if not _is_decimal(value_text):
        return _reject("value_invalid", f"value {_shown(value_text)} is not a finite number in decimal text")
    value = float(value_text)
    if math.isinf(value):
        return _reject("value_out_of_range", f"value {_shown(value_text)} is outside every range")
    try:
        written = None if attributes is None else read_attributes(attributes)
    except AttributesInvalid as error:
        return _reject("attributes_invalid", str(error))
    return Event(event_id, device_id, zone, ts, kpi, value, 0, written)


def hold(event: Event, kpis: Kpis, latest_ts: float) -> Event | Rejection:
    """Hold an event to the rules; gives it as it is stored, or says which rule it breaks."""
    _, device_id, zone, ts, kpi_name, value, is_degraded, attributes = event
    if not is_label(device_id):
        return _reject("device_id_invalid", _label_rule("device_id", device_id))
    if not is_label(zone):
        return _reject("zone_invalid", _label_rule("zone", zone))
    if not 0 <= ts < math.inf:
        return _reject("ts_invalid", f"ts {ts} is no time since 1970")
    if (ts := round(ts, 6)) > latest_ts:
        return _reject("ts_in_future", _future_rule(ts, latest_ts))
    kpi = kpis.get(kpi_name)
    if kpi is None:
        return _reject("kpi_unknown", f"kpi {_shown(kpi_name)} is none of {', '.join(sorted(kpis))}")
    if not math.isfinite(value):
        return _reject("value_invalid", f"value {value} is not a finite number")
    if value < 0 <= kpi.min:
        return _reject("value_negative", f"value {value} is negative; {_range_of(kpi)}")
    if not kpi.min <= value <= kpi.max:
        return _reject("value_out_of_range", f"value {value} is outside its range; {_range_of(kpi)}")
    try:
        written = None if attributes is None else read_attributes(attributes)
    except AttributesInvalid as error:
        return _reject("attributes_invalid", str(error))
    return event._replace(ts=ts, value=float(value), is_degraded=int(bool(is_degraded)), attributes=written)


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


def _future_rule(ts: float, latest_ts: float) -> str:
    if latest_ts / 10 < ts / 1000 <= latest_ts:
        return f"ts {ts} is in the future; it looks like milliseconds, and seconds are wanted"
    return f"ts {ts} is in the future, beyond MAX_FUTURE_S"


def _shown(text: str) -> str:
    """Show a foreign text in a message: printable, and no longer than a line can bear."""
    return ascii(text if len(text) <= 64 else f"{head(text, 61)}...")
