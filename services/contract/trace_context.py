"""W3C Trace Context, as it travels in the fields `traceparent` and `tracestate`. Pure.

    traceparent   00-<trace id, 32 hex digits>-<span id, 16 hex digits>-<flags, 2 hex digits>
    tracestate    what other systems wrote; passed on as it is

https://www.w3.org/TR/trace-context/. What isn't well-formed is no context, and never an error: an event
is not refused for what is said about it.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

# Later versions may say more behind the flags (section 4.3); version 00 may not, and ff is none.
_TRACEPARENT: Final = re.compile(
    rb"(?:00(?=.{53}\Z)|(?!00|ff)[0-9a-f]{2}(?=.{53}(?:-|\Z)))"
    rb"-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2}).*",
    re.DOTALL,
)
_LONGEST_TRACESTATE: Final = 512
"""Bytes; a longer one may be dropped whole (section 3.3.1.5)."""


class TraceContext(NamedTuple):
    """One span, as others know it."""

    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits."""
    is_sampled: bool
    """Whether whoever made it records its trace."""
    tracestate: str = ""

    @property
    def traceparent(self) -> str:
        """Write it as the field's text."""
        return f"00-{self.trace_id}-{self.span_id}-{self.is_sampled:02x}"


def parse(traceparent: bytes, tracestate: bytes = b"") -> TraceContext | None:
    """Read a context; None where it is none."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return None
    trace_id, span_id, flags = (part.decode() for part in match.groups())
    kept = tracestate if len(tracestate) <= _LONGEST_TRACESTATE and tracestate.isascii() else b""
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & 1), kept.decode())


def context_of(
    fields: Sequence[bytes], parse: Callable[[bytes, bytes], TraceContext | None] = parse
) -> TraceContext | None:
    """Read the context of an entry, names and values in turn; None where it has none.

    For many entries `parse` may be one that remembers: those of one published batch have the same context.
    """
    names, values = fields[::2], fields[1::2]
    if b"traceparent" not in names:
        return None
    found = dict(zip(names, values, strict=False))
    return parse(found.get(b"traceparent", b""), found.get(b"tracestate", b""))
