"""Recognise the ordinary event: our fields, in our order, each of them well-formed. Pure.

A trace context behind them, if there is one, is recognised too; it is no part of the event.

Nearly every event is one, and looking at each of its fields in Python would cost more than storing
it. So a batch is taken apart column by column: the lines of packed entries at their tabs and line feeds,
entries of one event by the places of their fields. Where one of them is no ordinary event, each is written as
a line, and a regular expression goes over the lines and finds which are.
Whatever does not fit is left to the careful way, `decode` and `validate`, which names what is wrong: an entry
with attributes, too.
This is a short cut and no second set of rules: an event recognised here is one that those would have
made the same of (a property test holds them together).
"""

import functools
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import compress, repeat
from operator import attrgetter, le
from typing import Final, NamedTuple

import msgspec

from services.consumer.packed.events import Events
from services.contract.codec import REQUIRED
from services.contract.consuming.columns import Columns
from services.contract.consuming.doors import Entry, Rows
from services.contract.event import MAX_LABEL_CHARS
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

_DIGITS: Final = b"0123456789"
_decode_numbers: Final = msgspec.json.Decoder(list[float]).decode
_NOT_BETWEEN: Final = bytes(one for one in range(256) if one not in b"\t\n")
"""All that is in values, and not between them."""
_HEX_TO_0: Final = bytes(b"0"[0] if one in b"0123456789abcdef" else one for one in range(256))
_ID_IN_0: Final = b"00000000-0000-0000-0000-000000000000\n"
_FEW_DIGITS: Final = 20
"""As many as a number may have before its point, and behind it."""

_is_label = re.compile(_LABEL).fullmatch

_Line = tuple[str, str, str, str, str, str]
"""The six values of a line; empty texts where it is no ordinary event's."""
_Columns = tuple[Sequence[str], Sequence[str], Sequence[str], Sequence[float], Sequence[str], Sequence[float]]
"""The six values of ordinary events, column by column."""
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
    columns: _Columns | None
    if isinstance(entries, Events):
        text, is_untraced = entries.text, entries.is_untraced
        columns = _all_of(text, len(entries), names)
    else:
        fields = list(map(_FIELDS, entries))
        columns, text, is_untraced = _all_named(fields, names), b"", True
        if columns is None:
            text = b"\n".join([*map(b"\t".join, fields), b""])
            is_untraced = b"traceparent" not in text
    places: Sequence[int] = range(len(entries))
    if columns is None:
        lines = _lines(text, names) if isinstance(entries, Events) else _named_lines(text, fields, names)
        # A line feed within a line of a packed entry has shifted those behind it where they are not as many.
        places = [place for place in places if lines[place][0]] if len(lines) == len(entries) else ()
        if not places:
            return Recognised(Rows((), ()), entries, is_untraced)
        columns = _converted(list(zip(*[lines[place] for place in places], strict=True)))
    events = Columns([*columns, [0] * len(places), [None] * len(places)])
    if not all(are_within := _within(columns, _ANY if kpis is None else _bounds(kpis, latest_ts))):
        places, events = list(compress(places, are_within)), events.chosen(are_within)
    if len(places) == len(entries):
        return Recognised(Rows(entries, events), (), is_untraced)
    odd = sorted(set(range(len(entries))).difference(places))
    ordinary = entries.without(odd) if isinstance(entries, Events) else [entries[one] for one in places]
    return Recognised(Rows(ordinary, events), [entries[one] for one in odd], is_untraced)


def _all_named(fields: Sequence[Sequence[bytes]], kpis: tuple[str, ...] | None) -> _Columns | None:
    """Take entries of one event apart, each value behind its name; None as below."""
    if set(map(len, fields)) != {_FLAT_PARTS}:
        return None
    parts = list(zip(*fields, strict=True))
    for names, name in zip(parts[::2], REQUIRED, strict=True):
        # A name with a tab in it makes more of them than there are here.
        if b"\t".join(names) != b"\t".join([name] * len(fields)):
            return None
    columns = []
    for values in parts[1::2]:
        joined = b"\n".join(values)
        # Not split before: an entry may be of line feeds alone, and each would cost a hundred bytes.
        if joined.count(b"\n") != len(values) - 1:
            return None
        columns.append(_text(joined).split("\n"))
    return _checked(columns, kpis)


def _all_of(text: bytes, number: int, kpis: tuple[str, ...] | None) -> _Columns | None:
    """Take lines apart, each with its end; None where one of them is none of an ordinary event."""
    width = len(REQUIRED)
    if text.translate(None, _NOT_BETWEEN) != (b"\t" * (width - 1) + b"\n") * number:
        return None
    parts = _text(text).replace("\n", "\t").split("\t")
    # Behind the last end there is nothing.
    return _checked([parts[place:-1:width] for place in range(width)], kpis)


def _text(joined: bytes) -> str:
    """Read bytes as text. Those that aren't UTF-8 become surrogates, which no label may have."""
    return joined.decode(errors="surrogateescape")


def _checked(columns: Sequence[Sequence[str]], kpis: tuple[str, ...] | None) -> _Columns | None:
    """See that these are ordinary events, and make numbers of their times and values; None where not."""
    event_ids, device_ids, zones, ts_texts, names, value_texts = columns
    is_ordinary = (
        _are_ids(event_ids)
        and _are_labels({*device_ids, *zones})
        and (_are_labels({*names}) if kpis is None else {*kpis}.issuperset(names))
    )
    if not is_ordinary:
        return None
    times, values = _numbers(ts_texts, _DIGITS + b"."), _numbers(value_texts, _DIGITS + b".-")
    if times is None or values is None:
        return None
    return event_ids, device_ids, zones, _to_microseconds(times, ts_texts), names, values


def _are_ids(texts: Sequence[str]) -> bool:
    """Tell whether all of these are canonical UUIDs."""
    joined = "\n".join(texts).encode(errors="replace") + b"\n"
    return joined.translate(_HEX_TO_0) == _ID_IN_0 * len(texts)


def _are_labels(texts: Collection[str]) -> bool:
    """Tell whether all of these may be names of devices, zones or KPIs."""
    # What is printable has no character that a label may not have; the expression takes some others, too.
    if "".join(texts).isprintable():
        lengths = set(map(len, texts))
        return 0 not in lengths and max(lengths) <= MAX_LABEL_CHARS
    return all(map(_is_label, texts))


def _numbers(texts: Sequence[str], letters: bytes) -> list[float] | None:
    """Read short decimals of these letters; None where one is none, or not written as JSON writes numbers.

    float() would call for each of them what is called once here.
    """
    joined = f"[{','.join(texts)}]".encode(errors="replace")
    # The decoder takes exponents and blanks, too, and drops the sign of a zero without a point.
    if joined.translate(None, letters + b"[,]") or max(map(len, texts)) > _FEW_DIGITS:
        return None
    if b"-0," in joined or b"-0]" in joined:
        return None
    try:
        numbers = _decode_numbers(joined)
    except msgspec.MsgspecError:  # 1.2.3, 1-2 or 007, say
        return None
    return numbers if len(numbers) == len(texts) else None


def _converted(columns: Sequence[Sequence[str]]) -> _Columns:
    """Make numbers of the texts of times and values, each of them a decimal."""
    event_ids, device_ids, zones, ts_texts, kpis, values = columns
    times = _to_microseconds(list(map(float, ts_texts)), ts_texts)
    return event_ids, device_ids, zones, times, kpis, list(map(float, values))


def _to_microseconds(times: list[float], texts: Sequence[str]) -> list[float]:
    """Round times to microseconds, where one of the texts that they are read from may have more."""
    if max(map(len, texts)) > _SECONDS_CHARS or min(times) < _LONG_AGO:
        return [round(ts, 6) for ts in times]
    return times


def _lines(text: bytes, kpis: tuple[str, ...] | None) -> list[_Line]:
    """Find the lines of packed entries that are ordinary events."""
    return _find(_pattern(kpis), text)


def _named_lines(text: bytes, fields: Sequence[Sequence[bytes]], kpis: tuple[str, ...] | None) -> list[_Line]:
    """Find the lines of entries of one event; none where they can't be told."""
    if text.count(b"\n") != len(fields):
        # A line feed within a field shifts the lines behind it, and each would cost a hundred bytes below.
        return []
    # Most batches have no trace context in them: they are not slowed down by those that have.
    is_traced = b"\ttraceparent\t" in text
    sizes = list(map(len, fields))
    if is_traced and text.count(b"\t") != sum(sizes) - len(sizes):
        # A tab within a field makes fewer fields look like more.
        return []
    lines = _find(_pattern(kpis, _TRACE if is_traced else "", is_named=True), text)
    if is_traced or len(lines) != len(sizes):
        return lines
    return [line if size == _FLAT_PARTS else _ODD for line, size in zip(lines, sizes, strict=True)]


def _find(pattern: re.Pattern[str], text: bytes) -> list[_Line]:
    # The expression would find one line more behind the end of the last one.
    return pattern.findall(text[:-1].decode(errors="surrogateescape"))


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


def _within(columns: _Columns, bounds: _Bounds) -> Sequence[bool]:
    """Tell which events are within the bounds; where all of them are, that is told once."""
    *_, times, kpis, values = columns

    def looks() -> list[Iterator[bool]]:
        return [
            map(le, map(bounds.least.__getitem__, kpis), values),
            map(le, values, map(bounds.most.__getitem__, kpis)),
        ]

    if max(times) <= bounds.latest_ts and all(map(all, looks())):
        return (True,)
    are_past = map(le, times, repeat(bounds.latest_ts))
    return list(map(all, zip(are_past, *looks(), strict=False)))


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
