"""From an event's texts to what goes to the publisher. Pure."""

from typing import Final

from services.contract.producing.outgoing import FIELD_NAMES, TRACE_NAMES, Numbering, Outgoing, flat
from services.producer.rows.pick import Picked, id_bytes
from services.producer.rows.problem import Problem

_ENVELOPE_BYTES: Final = sum(map(len, (*FIELD_NAMES, *TRACE_NAMES, "attributes"))) + 36 + 55
"""Of an event beside its own values: names, an id, and the trace context that it may be given."""


def checked(picked: Picked, max_entry_bytes: int) -> Picked | Problem:
    """Make sure that the stream can hold an event."""
    content = "".join(picked.values) + "".join(picked.trace)
    try:
        size = _ENVELOPE_BYTES + (len(content) if content.isascii() else len(content.encode()))
    except UnicodeEncodeError:
        return Problem("a lone surrogate in it, which is no character")
    if size > max_entry_bytes:
        return Problem(f"{size} bytes as an event, more than MAX_ENTRY_BYTES {max_entry_bytes}", "too large")
    return picked._replace(is_plain=False) if picked.trace or "\n" in content else picked


def numbered(picked: Picked, now_ms: int, numbering: Numbering) -> Outgoing:
    """Give an event its id: its own, or the next number. `now_ms` in Unix milliseconds."""
    if picked.own_id is None:
        event_id, sequence = numbering.take(now_ms)
        foreign = None
    else:
        event_id, sequence, foreign = picked.own_id, None, id_bytes(picked.own_id)
    values = (event_id, *picked.values)
    fields = values if picked.is_plain else [*flat(values), *picked.trace]
    return Outgoing(fields, sequence, foreign, is_plain=picked.is_plain)
