"""A dead letter: the entry as it was received, why it was refused, and when.

`event` is an object of names and values in the ordinary case. Bytes that aren't UTF-8 stand as
`{"base64": ...}`; where a name is given twice or isn't text, `event` is a list of pairs. So what was
received can always be told from the letter, byte by byte.

An entry that was too large to be read is `truncated`: `event` is its beginning, and `size_bytes` tells how
large it was.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from types import UnionType
from typing import Any, Final, cast

from services.consumer.entry import Dead
from services.contract.trace_context import TraceContext, context_of, parse

Json = str | dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One dead letter, as it is kept."""

    entry_id: str
    """Its key: the id of the stream entry. An entry delivered again may leave a second letter."""
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

    def text(self, name: str) -> str | None:
        """Read a field of the event, the first of that name; None where it is missing or no text."""
        pairs = self.event.items() if isinstance(self.event, dict) else self.event
        return next((value for key, value in pairs if key == name and isinstance(value, str)), None)


def dead_letter(dead: Dead, failed_at: float, consumer: str, batch: TraceContext | None = None) -> DeadLetter:
    """Write the letter of a dead entry. `batch`: the span that stands for a trace of its own."""
    entry, rejection, attempts = dead
    context = context_of(entry.fields) or batch
    return DeadLetter(
        entry_id=entry.entry_id.decode(),
        event=_event(entry.fields),
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
    """Read a letter. Raises ValueError for what isn't one."""
    try:
        data: Any = json.loads(line)
        event = data["event"]
        if isinstance(event, list):
            event = [(name, value) for name, value in event]
        letter = DeadLetter(**{**data, "event": event})
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"no dead letter: {error}") from None
    if wrong := [name for name, kind in _KINDS.items() if not isinstance(getattr(letter, name), kind)]:
        raise ValueError(f"no dead letter: {', '.join(wrong)} of the wrong type")
    return letter


def _event(received: Sequence[bytes]) -> dict[str, Json] | list[tuple[Json, Json]]:
    """Write names and values: as an object where that loses none of them, else as pairs."""
    names, values = [_json(name) for name in received[::2]], map(_json, received[1::2])
    if all(isinstance(name, str) for name in names):
        texts = cast("list[str]", names)
        if len(set(texts)) == len(texts):
            return dict(zip(texts, values, strict=False))
    return list(zip(names, values, strict=False))


def _json(raw: bytes) -> Json:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def _bytes(value: Json) -> bytes:
    return value.encode() if isinstance(value, str) else base64.b64decode(value["base64"])
