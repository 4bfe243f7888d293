"""A dead letter: the entry as it was received, why it was refused, and when.

`event` is an object of names and values in the ordinary case. Bytes that aren't UTF-8 stand as
`{"base64": ...}`; where a name is given twice or isn't text, `event` is a list of pairs. So what was
received can always be told from the letter, byte by byte.

An entry that was too large to be read is `truncated`: `event` is its beginning, and `size_bytes` tells how
large it was.
"""

import base64
import contextlib
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from types import UnionType
from typing import Any, Final, NamedTuple

from services.contract.attributes import AttributesInvalid, read_attributes
from services.contract.consuming.doors import Dead
from services.contract.trace_context import TraceContext, context_of, parse

Json = str | dict[str, str]

_NO_CONTENT: Final = {"traceparent", "tracestate"}
"""Fields that differ between two publications of the same event."""
PORTION_CHARS: Final = 4 << 20
"""Letters sent or read together; one of an entry of zeros is six times as large as the entry."""
_MOST_TIMES: Final = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One dead letter, as it is kept."""

    entry_id: str
    """Its key: the id of the stream entry; of one event of many, `ENTRY/LINE`. An entry delivered again may
    leave a second letter."""
    event: dict[str, Json] | list[tuple[Json, Json]]
    error: str
    failed_at: float
    """Unix seconds, UTC."""
    stage: str
    reason: str
    attempts: int
    deliveries: int
    consumer: str
    trace_id: str | None
    """From the event's traceparent, else of the batch that it died in, 32 hex digits; None without either."""
    span_id: str | None = None
    """The span of that trace that `trace_id` was taken from, 16 hex digits."""
    truncated: bool = False
    """`event` is the beginning of the entry alone."""
    size_bytes: int | None = None
    """Of the whole entry, where it is truncated; None where nobody could look at it."""

    def record(self) -> dict[str, Any]:
        """Give all of it by name; that it is whole goes without saying."""
        # Not by asdict(): a copy of the event may be a hundred megabytes.
        left_out = () if self.truncated else ("truncated", "size_bytes")
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in left_out}

    def to_json(self) -> str:
        """Write it as one line."""
        return json.dumps(self.record(), separators=(",", ":"))

    @property
    def fields(self) -> list[bytes]:
        """The entry's names and values in turn, as received."""
        pairs = self.event.items() if isinstance(self.event, dict) else self.event
        return [_bytes(part) for pair in pairs for part in pair]

    @property
    def context(self) -> TraceContext | None:
        """The span that the letter names; None where it names none, or a letter of old none whole."""
        return parse(f"00-{self.trace_id}-{self.span_id}-01".encode())

    @property
    def is_conflict(self) -> bool:
        """Tell whether it is of another content under the id of an event that is stored."""
        return self.reason == "conflict"

    @property
    def content(self) -> str:
        """Name the content of the event, in 32 hex digits: the same for a copy of it, whatever its trace."""
        pairs = self.event.items() if isinstance(self.event, dict) else self.event
        parts = sorted(json.dumps(_as_compared(*pair)) for pair in pairs if pair[0] not in _NO_CONTENT)
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()

    def text(self, name: str) -> str | None:
        """Read a field of the event, the first of that name; None where it is missing or no text."""
        pairs = self.event.items() if isinstance(self.event, dict) else self.event
        return next((value for key, value in pairs if key == name and isinstance(value, str)), None)


def _as_compared(name: Json, value: Json) -> tuple[Json, Json | None]:
    """Write a field as stores compare it: attributes are the same in whatever order they come."""
    if name == "attributes" and isinstance(value, str):
        with contextlib.suppress(AttributesInvalid):
            return name, read_attributes(value)
    return name, value


class Purged(NamedTuple):
    """What is kept of a letter that was purged."""

    entry_id: str
    event_id: str | None
    """None where it could not be read."""
    content: str | None = None
    """Of a conflict: the name of its content. None for every other reason."""


def dead_letter(dead: Dead, failed_at: float, consumer: str, batch: TraceContext | None = None) -> DeadLetter:
    """Write the letter of a dead entry. `batch`: the span that stands for a trace of its own."""
    entry, rejection, attempts = dead
    context = context_of(entry.fields) or batch
    return DeadLetter(
        entry_id=entry.entry_id.decode(),
        event=event_of(entry.fields),
        error=rejection.error,
        failed_at=failed_at,
        stage=rejection.stage,
        reason=rejection.reason,
        attempts=attempts,
        deliveries=entry.deliveries,
        consumer=consumer,
        trace_id=None if context is None else context.trace_id,
        span_id=None if context is None else context.span_id,
        truncated=entry.is_cut,
        size_bytes=entry.full_size if entry.full_size > 0 else None,
    )


_dumps: Final = json.JSONEncoder(separators=(",", ":")).encode

_KINDS: Final[dict[str, type | UnionType]] = {
    "entry_id": str,
    "event": dict | list,
    "error": str,
    "failed_at": float | int,
    "stage": str,
    "reason": str,
    "attempts": int,
    "deliveries": int,
    "consumer": str,
    "trace_id": str | None,
    "span_id": str | None,
    "truncated": bool,
    "size_bytes": int | None,
}


def parse_letter(line: bytes | str) -> DeadLetter:
    """Read a letter. Raises ValueError for what isn't one; the message says why, and quotes nothing of it."""
    text = line if isinstance(line, str) else line.decode()
    try:
        data: Any = json.loads(text)
        # What is written as \ud800 is read without complaint, and can be written nowhere.
        if "\\u" in text:
            json.dumps(data, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deep") from None
    except UnicodeEncodeError:
        raise ValueError("has half of a surrogate pair, which is no text") from None
    if not isinstance(data, dict):
        raise ValueError("no dead letter, but another JSON value")  # noqa: TRY004 - as for all that is none
    if missing := sorted(_NEEDED - data.keys()):
        raise ValueError(f"no dead letter: it has no {', '.join(missing)}")
    if unknown := data.keys() - _KINDS.keys():
        raise ValueError(f"no dead letter: {len(unknown)} fields are unknown")
    if wrong := sorted(name for name, value in data.items() if not _fits(name, value)):
        raise ValueError(f"no dead letter: {', '.join(wrong)} can't be")
    if isinstance(data["event"], list):
        data["event"] = [(name, value) for name, value in data["event"]]
    return DeadLetter(**data)


_NEEDED: Final = frozenset(one.name for one in fields(DeadLetter) if one.default is MISSING)


def _fits(name: str, value: Any) -> bool:
    """Tell whether a value of a letter can be."""
    if isinstance(value, bool) or not isinstance(value, _KINDS[name]):
        return isinstance(value, bool) and _KINDS[name] is bool
    if isinstance(value, dict | list):
        return _is_event(value)
    if isinstance(value, int | float):
        return abs(value) < _MOST_TIMES if isinstance(value, int) else math.isfinite(value)
    return True


def _is_event(event: dict[str, Any] | list[Any]) -> bool:
    pairs = event.items() if isinstance(event, dict) else event
    return all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(_is_part(part) for part in pair)
        for pair in pairs
    )


def _is_part(part: Any) -> bool:
    """Tell whether this is a name or a value as `_json` writes them."""
    if isinstance(part, str):
        return True
    if not isinstance(part, dict) or part.keys() != {"base64"} or not isinstance(part["base64"], str):
        return False
    try:
        base64.b64decode(part["base64"], validate=True)
    except ValueError:
        return False
    return True


def letter_line(dead: Dead, failed_at: float, consumer: str, batch: TraceContext | None = None) -> str:
    """Write the letter of a dead entry as one line: what `dead_letter` gives, and to_json() of it.

    From the bytes themselves: of half a million fields the objects between would take hundreds of megabytes.
    """
    fields = dead.entry.fields
    line = dead_letter(dead._replace(entry=dead.entry._replace(fields=[])), failed_at, consumer, batch)
    context = context_of(fields)
    if context is not None:
        line = replace(line, trace_id=context.trace_id, span_id=context.span_id)
    parts = map(_dumps, map(_json, fields))
    if _is_plain(fields[::2]):
        event = f"{{{','.join([f'{name}:{next(parts)}' for name in parts])}}}"
    else:
        event = f"[{','.join([f'[{name},{next(parts)}]' for name in parts])}]"
    # An entry's id, the only text before it, has no quotes.
    return line.to_json().replace('"event":{}', f'"event":{event}', 1)


def letter_lines(
    dead: Iterable[Dead], failed_at: float, consumer: str, batch: TraceContext | None = None
) -> Iterator[list[tuple[Dead, str]]]:
    """Write the letters of dead entries, in portions that fit into memory more than once."""
    portion: list[tuple[Dead, str]] = []
    size = 0
    for one in dead:
        line = letter_line(one, failed_at, consumer, batch)
        portion.append((one, line))
        size += len(line)
        if size >= PORTION_CHARS:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


class Progress:
    """How many of some letters are kept, where they are kept in portions and the next one fails.

    Whoever tries the same letters again goes on behind those: a place that is nearly full would be filled by
    copies of the first ones.
    """

    def __init__(self) -> None:
        self._tried: Sequence[Dead] = ()
        self._kept = 0

    def rest(self, dead: Sequence[Dead]) -> Sequence[Dead]:
        """Give those that are not kept yet: all of them, unless the same were tried last, in vain."""
        if dead is not self._tried:
            self._tried, self._kept = dead, 0
        return dead[self._kept :]

    def kept(self, letters: int) -> None:
        """Note that so many more are durable."""
        self._kept += letters

    def done(self) -> None:
        """Note that all are: what comes next are others, though it be the same list."""
        self._tried, self._kept = (), 0


def event_of(received: Sequence[bytes]) -> dict[str, Json] | list[tuple[Json, Json]]:
    """Write names and values: as an object where that loses none of them, else as pairs."""
    names, values = received[::2], map(_json, received[1::2])
    if _is_plain(names):
        return {name.decode(): value for name, value in zip(names, values, strict=False)}
    return list(zip(map(_json, names), values, strict=False))


def _is_plain(names: Sequence[bytes]) -> bool:
    """Tell whether an object can have these names: each of them once, and all of them text."""
    try:
        b"\n".join(names).decode()
    except UnicodeDecodeError:
        return False
    return len(set(names)) == len(names)


def _json(raw: bytes) -> Json:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def _bytes(value: Json) -> bytes:
    return value.encode() if isinstance(value, str) else base64.b64decode(value["base64"])
