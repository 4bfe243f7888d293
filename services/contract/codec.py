"""Stream entries to texts and back: flat fields of readable text, of one event or of many.

    of one event      event_id, device_id, zone, ts, kpi, value   each a field
    of many           events   how many there are
                      lines    a line an event, ended by a line feed: the six values in that order, and a
                               tab between two of them; no label may have either

Both may have a trace context besides, which is that of each event in it; attributes an event has alone. In a
packed entry an event is named by the number of its line, from 1: `ENTRY/LINE`.

Decoding takes whatever bytes there are. A field that isn't UTF-8, is missing, unknown or given twice
refuses that one entry and never the batch. Unknown fields are refused, not dropped: a field that
nobody stores would be a loss in silence. Nor is a line passed over: where lines are missing, or the last
one has no end, the entry is refused whole, since nobody can tell what else is wrong with it.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

from services.contract.event import Event, Fields, Rejection

REQUIRED: Final = (b"event_id", b"device_id", b"zone", b"ts", b"kpi", b"value")
OPTIONAL: Final = (b"traceparent", b"tracestate", b"attributes")

UNSIGNED: Final = r"[0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,3})?"
DECIMAL: Final = re.compile(f"-?{UNSIGNED}")
"""A value in the stream. float() also takes digits of other scripts, underscores, blanks, inf and nan."""

EVENTS: Final = b"events"
LINES: Final = b"lines"
MOST_EVENTS: Final = 10_000
"""Of a packed entry: each of them may be a dead letter, many times as large as its line."""
MARK: Final = b"/"
"""Between the id of a packed entry and the number of a line in it."""

_KNOWN: Final = frozenset(REQUIRED + OPTIONAL)
_TRACE: Final = (b"traceparent", b"tracestate")
_PACKED: Final = frozenset((EVENTS, LINES, *_TRACE))
_FLAT_PARTS: Final = 2 * len(REQUIRED)
_TABS: Final = len(REQUIRED) - 1
_is_count = re.compile(rb"[1-9][0-9]{0,8}").fullmatch

RawFields = Sequence[bytes]
"""Names and values in turn, as the server sends them: a dict would hide a name given twice."""


def decimal(number: float) -> str:
    """Write a number as decimal text that reads back as the same number."""
    return repr(float(number))


def encode(event: Event) -> list[str]:
    """Write an event as names and values in turn."""
    return [
        "event_id", event.event_id,
        "device_id", event.device_id,
        "zone", event.zone,
        "ts", decimal(event.ts),
        "kpi", event.kpi,
        "value", decimal(event.value),
        *(() if event.attributes is None else ("attributes", event.attributes)),
    ]  # fmt: skip


def line_of(values: Sequence[str]) -> str | None:
    """Write an event's six values as a line of a packed entry; None where they have no such line."""
    line = "\t".join(values)
    return None if "\n" in line or line.count("\t") != _TABS else f"{line}\n"


def encode_lines(lines: Sequence[str], trace: Sequence[str] = ()) -> list[str]:
    """Write lines as the names and values of one packed entry. `trace`: those of their context, in turn."""
    return ["events", str(len(lines)), "lines", "".join(lines), *trace]


class Packed(NamedTuple):
    """A packed entry taken apart."""

    text: bytes
    """Its lines, each with its end."""
    number: int
    """How many they are."""
    trace: list[bytes]
    """Names and values of the context that they share, in turn."""

    @property
    def lines(self) -> list[bytes]:
        """Give the lines without their ends."""
        return self.text[:-1].split(b"\n")

    def events(self) -> Iterator[list[bytes]]:
        """Give each event as the names and values of an entry of its own, in turn."""
        return (fields_of(line, self.trace) for line in self.lines)


def fields_of(line: bytes, trace: Sequence[bytes]) -> list[bytes]:
    """Give the event of a line as the names and values of an entry of its own, in turn.

    A line with fewer values lacks the last names; of one with more, all that is over is `more`.
    """
    values = line.split(b"\t", len(REQUIRED))
    if len(values) == len(REQUIRED):
        event_id, device_id, zone, ts, kpi, value = values
        return [
            b"event_id", event_id, b"device_id", device_id, b"zone", zone,
            b"ts", ts, b"kpi", kpi, b"value", value, *trace,
        ]  # fmt: skip
    pairs = zip((*REQUIRED, b"more"), values, strict=False)
    return [*(part for pair in pairs for part in pair), *trace]


def is_packed(raw: RawFields) -> bool:
    """Tell whether an entry has many events, or says so: it has fewer fields than one of one event."""
    return len(raw) < _FLAT_PARTS and LINES in raw[::2]


def unpack(raw: RawFields) -> Packed | Rejection:
    """Take a packed entry apart; a rejection names what is wrong with the whole of it. Never raises."""
    names = raw[::2]
    fields = dict(zip(names, raw[1::2], strict=False))
    if len(fields) != len(names):
        return _given_twice(names)
    unknown = ", ".join(_shown(name) for name in names if name not in _PACKED)
    if EVENTS not in fields or LINES not in fields:
        missing = " and ".join(name.decode() for name in (EVENTS, LINES) if name not in fields)
        return Rejection("decode", "missing_field", f"a packed entry, and no field {missing}")
    if unknown:
        return Rejection("decode", "unknown_field", f"a packed entry with an unknown field {unknown}")
    count, text = fields[EVENTS], fields[LINES]
    if not _is_count(count) or (events := int(count)) > MOST_EVENTS:
        return Rejection(
            "decode", "pack_invalid", f"events is {_shown(count)}, and no number from 1 to {MOST_EVENTS}"
        )
    if (lines := text.count(b"\n")) > events:
        return Rejection("decode", "pack_invalid", f"events is {events}, and there are {lines} lines")
    if lines < events:
        return Rejection("decode", "pack_truncated", f"{lines} whole lines of {events}: the rest is missing")
    if not text.endswith(b"\n"):
        return Rejection("decode", "pack_invalid", f"something follows the last of {events} lines")
    return Packed(text, events, [part for name in _TRACE if name in fields for part in (name, fields[name])])


def decode(raw: RawFields) -> Fields | Rejection:
    """Read the fields of an entry of one event; a rejection names what is wrong with them. Never raises."""
    if is_packed(raw) and isinstance(refused := unpack(raw), Rejection):
        return refused
    names = raw[::2]
    fields = dict(zip(names, raw[1::2], strict=False))
    if len(fields) != len(names):
        return _given_twice(names)
    missing = [name.decode() for name in REQUIRED if name not in fields]
    # The first eight alone: there may be hundreds of thousands.
    unknown = ", ".join(islice((_shown(name) for name in names if name not in _KNOWN), 8))
    if missing:
        also = f"; it has {unknown}" if unknown else ""
        return Rejection("decode", "missing_field", f"no field {', '.join(missing)}{also}")
    if unknown:
        return Rejection("decode", "unknown_field", f"unknown field {unknown}")
    texts: dict[str, str] = {}
    for name, value in fields.items():
        try:
            texts[name.decode()] = value.decode()
        except UnicodeDecodeError as error:
            return Rejection("decode", "not_utf8", f"field {_shown(name)} is not UTF-8: {error.reason}")
    return Fields(**texts)


def _given_twice(names: Sequence[bytes]) -> Rejection:
    return Rejection("decode", "duplicate_field", f"field {_shown(_twice(names))} is given more than once")


def _twice(names: Sequence[bytes]) -> bytes:
    """Find the first name that is given again."""
    met: set[bytes] = set()
    for name in names:
        if name in met:
            return name
        met.add(name)
    return b""


def _shown(name: bytes) -> str:
    """Show a foreign name in a message: printable, and no longer than a line can bear."""
    return repr(name[:64].decode(errors="backslashreplace"))
