"""Stream entries to texts and back: flat fields of readable text.

Decoding takes whatever bytes there are. A field that isn't UTF-8, is missing, unknown or given twice
refuses that one entry and never the batch. Unknown fields are refused, not dropped: a field that
nobody stores would be a loss in silence.
"""

import re
from collections.abc import Sequence
from itertools import islice
from typing import Final

from services.contract.event import Event, Fields, Rejection

REQUIRED: Final = (b"event_id", b"device_id", b"zone", b"ts", b"kpi", b"value")
OPTIONAL: Final = (b"traceparent", b"tracestate", b"attributes")

UNSIGNED: Final = r"[0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,3})?"
DECIMAL: Final = re.compile(f"-?{UNSIGNED}")
"""A value in the stream. float() also takes digits of other scripts, underscores, blanks, inf and nan."""

_KNOWN: Final = frozenset(REQUIRED + OPTIONAL)

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


def decode(raw: RawFields) -> Fields | Rejection:
    """Read an entry's fields; a rejection names what is wrong with them. Never raises."""
    names = raw[::2]
    fields = dict(zip(names, raw[1::2], strict=False))
    if len(fields) != len(names):
        return Rejection(
            "decode", "duplicate_field", f"field {_shown(_twice(names))} is given more than once"
        )
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
