"""Recognise the ordinary entry: our fields, in our order, each of them well-formed. Pure.

A trace context behind them, if there is one, is recognised too; it is no part of the event.

Nearly every entry is one, and looking at each of its fields in Python would cost more than storing
it. So a batch is written as one text, a line for each entry, and one regular expression goes over it.
Whatever does not fit is left to the careful way, `decode` and `validate`, which names what is wrong: an entry
with attributes, too.
This is a short cut and no second set of rules: an entry recognised here is one that those would have
made the same event of (a property test holds them together).
"""

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from services.contract.codec import REQUIRED
from services.contract.consuming.doors import Entry, Valid
from services.contract.event import MAX_LABEL_CHARS, Event
from services.contract.kpis import Kpis

_ID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_LABEL = rf"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{{1,{MAX_LABEL_CHARS}}}"
_DECIMAL = r"[0-9]{1,20}(?:\.[0-9]{1,20})?"
_TRACE = r"(?:\ttraceparent\t[0-9a-f-]{55}(?:\ttracestate\t[\x20-\x7e]{0,512})?)?"
_SECONDS_CHARS: Final = len("1700000000.123456")
"""A text that is no longer, of a time since 2001, has no more than microseconds."""
_LONG_AGO: Final = 1e9
_FEW_BYTES: Final = 1 << 18
"""A text that is no longer costs little, whatever is in it."""

# As Event(...), without the call in Python: a third of the time, for most of what is made here.
_event: Callable[[tuple[str | float | None, ...]], Event] = functools.partial(tuple.__new__, Event)


class _AnyRange(dict[str, tuple[float, float]]):
    """The range of every KPI where nobody has said which there are."""

    def __missing__(self, _name: str) -> tuple[float, float]:
        return -math.inf, math.inf


class Recognised(NamedTuple):
    """What was recognised at a glance, and what was not."""

    valid: list[Valid]
    odd: list[Entry]
    """To be looked at with care."""
    is_untraced: bool
    """Surely none of them has a field `traceparent`."""


def recognise(entries: Sequence[Entry], kpis: Kpis | None, latest_ts: float) -> Recognised:
    """Split entries into events and those to look at with care. `latest_ts` in Unix seconds.

    Without KPIs their form alone is looked at: steps may change everything that the rules are about.
    """
    whole = [b"\t".join(entry.fields) for entry in entries]
    text = b"\n".join(whole)
    if len(text) > _FEW_BYTES and b"\n" in b"".join(whole):
        # Each line feed within a field would cost a hundred bytes below.
        return Recognised([], list(entries), b"traceparent" not in text)
    # Most batches have no trace context in them: they are not slowed down by those that have.
    is_untraced = b"traceparent" not in text
    is_traced = not is_untraced and b"\ttraceparent\t" in text
    if is_traced and text.count(b"\t") != sum(map(len, [entry.fields for entry in entries])) - len(entries):
        # A tab within a field makes fewer fields look like more.
        return Recognised([], list(entries), is_untraced)
    pattern = _line_pattern(None if kpis is None else tuple(kpis), _TRACE if is_traced else "")
    # Bytes that aren't UTF-8 become surrogates, which no label may have.
    lines = pattern.findall(text.decode(errors="surrogateescape"))
    if len(lines) != len(entries):
        # A line feed within a field has shifted the lines.
        return Recognised([], list(entries), is_untraced)
    ranges = _AnyRange() if kpis is None else {name: (kpi.min, kpi.max) for name, kpi in kpis.items()}
    if kpis is None:
        latest_ts = math.inf
    valid: list[Valid] = []
    odd: list[Entry] = []
    for entry, (event_id, device_id, zone, ts_text, kpi, value_text) in zip(entries, lines, strict=True):
        if event_id and (is_traced or len(entry.fields) == 12):  # as above
            ts, value = float(ts_text), float(value_text)
            if len(ts_text) > _SECONDS_CHARS or ts < _LONG_AGO:
                ts = round(ts, 6)
            least, most = ranges[kpi]
            if ts <= latest_ts and least <= value <= most:
                valid.append((entry, _event((event_id, device_id, zone, ts, kpi, value, 0, None))))
                continue
        odd.append(entry)
    return Recognised(valid, odd, is_untraced)


@functools.lru_cache(maxsize=8)
def _line_pattern(kpis: tuple[str, ...] | None, trace: str) -> re.Pattern[str]:
    """Write the pattern of a line: an ordinary entry, or else anything, with empty groups."""
    kpi = _LABEL if kpis is None else "|".join(map(re.escape, kpis))
    values = (_ID, _LABEL, _LABEL, _DECIMAL, kpi, f"-?{_DECIMAL}")
    fields = [f"{name.decode()}\t({value})" for name, value in zip(REQUIRED, values, strict=True)]
    line = "\t".join(fields)
    return re.compile(f"^(?:{line}{trace}|.*)$", re.MULTILINE)
