"""A dead letter: the entry as it was received, why it was refused, and when.

`event` is an object of names and values in the ordinary case. Bytes that aren't UTF-8 stand as
`{"base64": ...}`; where a name is given twice or isn't text, `event` is a list of pairs. So what was
received can always be told from the letter, byte by byte.
"""

import base64
import json
from dataclasses import asdict, dataclass
from types import UnionType
from typing import Any, Final

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

    def to_json(self) -> str:
        """Write it as one line."""
        return json.dumps(asdict(self), separators=(",", ":"))

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
    names, values = entry.fields[::2], entry.fields[1::2]
    texts = [_json(name) for name in names]
    plain = [name for name in texts if isinstance(name, str)]
    readable = len(set(plain)) == len(names)
    pairs = list(zip(texts, map(_json, values), strict=False))
    return DeadLetter(
        entry_id=entry.entry_id.decode(),
        event=dict(zip(plain, map(_json, values), strict=False)) if readable else pairs,
        error=rejection.error,
        failed_at=failed_at,
        stage=rejection.stage,
        reason=rejection.reason,
        attempts=attempts,
        deliveries=entry.deliveries,
        consumer=consumer,
        trace_id=None if context is None else context.trace_id,
        span_id=None if context is None else context.span_id,
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


def _json(raw: bytes) -> Json:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def _bytes(value: Json) -> bytes:
    return value.encode() if isinstance(value, str) else base64.b64decode(value["base64"])
