"""Recognise the ordinary event: our fields, in our order, each of them well-formed. Pure.

A trace context behind them, if there is one, is recognised too; it is no part of the event.

Nearly every event is one, and looking at each of its fields in Python would cost more than storing
it. So a batch is one text with a line for each event: those of packed entries as they came, an entry of one
event written as one. One regular expression goes over it, and what it finds is converted column by column.
Whatever does not fit is left to the careful way, `decode` and `validate`, which names what is wrong: an entry
with attributes, too.
This is a short cut and no second set of rules: an event recognised here is one that those would have
made the same of (a property test holds them together).
"""

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import compress, repeat
from operator import attrgetter, le
from typing import Final, NamedTuple

from services.consumer.packed.events import Events
from services.contract.codec import REQUIRED
from services.contract.consuming.doors import Entry, Rows
from services.contract.event import MAX_LABEL_CHARS, Event
from services.contract.kpis import Kpis

_ID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_LABEL = rf"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{{1,{MAX_LABEL_CHARS}}}"
_DECIMAL = r"[0-9]{1,20}(?:\.[0-9]{1,20})?"
_TRACE = r"(?:\ttraceparent\t[0-9a-f-]{55}(?:\ttracestate\t[\x20-\x7e]{0,512})?)?"
_FIELDS: Final = attrgetter("fields")
_FLAT_PARTS: Final = 2 * len(REQUIRED)
_SECONDS_CHARS: Final = len("1700000000.123456")
"""A text that is no longer, of a time since 2001, has no more than microseconds."""
_LONG_AGO: Final = 1e9
_FEW_BYTES: Final = 1 << 18
"""A text that is no longer costs little, whatever is in it."""

# As Event(...), without the call in Python: a third of the time, for most of what is made here.
_event: Callable[[tuple[str | float | None, ...]], Event] = functools.partial(tuple.__new__, Event)

_Line = tuple[str, str, str, str, str, str]
"""The six values of a line; empty texts where it is no ordinary event's."""
_ODD: Final[_Line] = ("", "", "", "", "", "")


class Recognised(NamedTuple):
    """What was recognised at a glance, and what was not."""

    valid: Rows
    odd: Sequence[Entry]
    """To be looked at with care."""
    is_untraced: bool
    """Surely none of them has a field `traceparent`."""


def recognise(entries: Sequence[Entry], kpis: Kpis | None, latest_ts: float) -> Recognised:
    """Split entries into events and those to look at with care. `latest_ts` in Unix seconds.

    Without KPIs their form alone is looked at: steps may change everything that the rules are about.
    """
    names = None if kpis is None else tuple(kpis)
    if isinstance(entries, Events):
        # The last line, too, has an end, and the expression would find one more behind it.
        lines, is_untraced = _find(_pattern(names), entries.text[:-1]), entries.is_untraced
    else:
        lines, is_untraced = _lines_of(entries, names)
    # A line feed within a field has shifted the lines where they are not as many.
    found = [place for place, line in enumerate(lines) if line[0]] if len(lines) == len(entries) else []
    if not found:
        return Recognised(Rows((), ()), entries, is_untraced)
    places, events = _read(lines, found, _ANY if kpis is None else _bounds(kpis, latest_ts))
    if len(places) == len(entries):
        return Recognised(Rows(entries, events), (), is_untraced)
    odd = sorted(set(range(len(entries))).difference(places))
    ordinary = entries.without(odd) if isinstance(entries, Events) else [entries[one] for one in places]
    return Recognised(Rows(ordinary, events), [entries[one] for one in odd], is_untraced)


def _lines_of(entries: Sequence[Entry], kpis: tuple[str, ...] | None) -> tuple[list[_Line], bool]:
    """Find the lines of entries of one event; none where they can't be told. Gives `is_untraced`, too."""
    fields = list(map(_FIELDS, entries))
    whole = list(map(b"\t".join, fields))
    text = b"\n".join(whole)
    # Most batches have no trace context in them: they are not slowed down by those that have.
    is_untraced = b"traceparent" not in text
    if len(text) > _FEW_BYTES and b"\n" in b"".join(whole):
        # Each line feed within a field would cost a hundred bytes below.
        return [], is_untraced
    is_traced = not is_untraced and b"\ttraceparent\t" in text
    sizes = list(map(len, fields))
    if is_traced and text.count(b"\t") != sum(sizes) - len(sizes):
        # A tab within a field makes fewer fields look like more.
        return [], is_untraced
    lines = _find(_pattern(kpis, _TRACE if is_traced else "", is_named=True), text)
    if not is_traced and set(sizes) != {_FLAT_PARTS}:  # as above
        lines = [line if size == _FLAT_PARTS else _ODD for line, size in zip(lines, sizes, strict=False)]
    return lines, is_untraced


def _find(pattern: re.Pattern[str], text: bytes) -> list[_Line]:
    # Bytes that aren't UTF-8 become surrogates, which no label may have.
    return pattern.findall(text.decode(errors="surrogateescape"))


class _Bounds(NamedTuple):
    """What events are held to."""

    least: Mapping[str, float]
    """By KPI, as `most`."""
    most: Mapping[str, float]
    latest_ts: float


class _Every(dict[str, float]):
    """One bound for every KPI, where nobody has said which there are."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self._bound = bound

    def __missing__(self, _name: str) -> float:
        return self._bound


_ANY: Final = _Bounds(_Every(-math.inf), _Every(math.inf), math.inf)


def _bounds(kpis: Kpis, latest_ts: float) -> _Bounds:
    return _Bounds(
        {name: kpi.min for name, kpi in kpis.items()},
        {name: kpi.max for name, kpi in kpis.items()},
        latest_ts,
    )


def _read(lines: list[_Line], places: list[int], bounds: _Bounds) -> tuple[list[int], list[Event]]:
    """Make events of the lines at these places; gives those within the bounds, and where they are."""
    if len(places) < len(lines):
        lines = [lines[place] for place in places]
    event_ids, device_ids, zones, ts_texts, kpis, value_texts = zip(*lines, strict=True)
    times, values = list(map(float, ts_texts)), list(map(float, value_texts))
    if max(map(len, ts_texts)) > _SECONDS_CHARS or min(times) < _LONG_AGO:
        times = [round(ts, 6) for ts in times]
    events = list(
        map(_event, zip(event_ids, device_ids, zones, times, kpis, values, repeat(0), repeat(None)))
    )
    is_within = [
        is_past and is_enough and is_not_too_much
        for is_past, is_enough, is_not_too_much in zip(
            map(le, times, repeat(bounds.latest_ts)),
            map(le, map(bounds.least.__getitem__, kpis), values),
            map(le, values, map(bounds.most.__getitem__, kpis)),
            strict=False,
        )
    ]
    if all(is_within):
        return places, events
    return list(compress(places, is_within)), list(compress(events, is_within))


@functools.lru_cache(maxsize=16)
def _pattern(kpis: tuple[str, ...] | None, trace: str = "", *, is_named: bool = False) -> re.Pattern[str]:
    """Write the pattern of a line: an ordinary event's, or else anything, with empty groups.

    `is_named`: as an entry of one event has it, each value behind its name; as a packed one has it otherwise.
    """
    kpi = _LABEL if kpis is None else "|".join(map(re.escape, kpis))
    values = (f"({one})" for one in (_ID, _LABEL, _LABEL, _DECIMAL, kpi, f"-?{_DECIMAL}"))
    if is_named:
        values = (f"{name.decode()}\t{value}" for name, value in zip(REQUIRED, values, strict=True))
    line = "\t".join(values)
    return re.compile(f"^(?:{line}{trace}|.*)$", re.MULTILINE)
