"""What the tests of the law publish, what it has to come to, and how a store fails meanwhile."""

import itertools
from collections.abc import Sequence

from fakes import FakeStream
from hypothesis import strategies as st
from samples import event_fields

from services.contract.event import Event

MAX_ENTRY_BYTES = 4096
GUILTY = {
    "missing_field": [b"event_id", b"x"],
    "not_utf8": event_fields(1, zone=b"\xff"),
    "value_negative": event_fields(1, value="-1"),
    "event_id_invalid": event_fields(1, event_id="1"),
    "entry_too_large": [*event_fields(1), b"blob", b"\n" * MAX_ENTRY_BYTES],
}
LARGE_BYTES = sum(map(len, GUILTY["entry_too_large"]))
POISON = "poison"


def publish(
    stream: FakeStream, entries: Sequence[tuple[str, int]], traces: Sequence[list[bytes]] = ()
) -> dict[bytes, str]:
    """Publish the planned entries; name for each guilty one the reason that it has to get.

    `traces` are the trace contexts of entries, in turn.
    """
    turns = itertools.cycle(traces or [[]])
    write = stream.publish
    reasons: dict[bytes, str] = {}
    contents: dict[int, str] = {}
    for kind, number in entries:
        trace = next(turns)
        if kind in GUILTY:
            reasons[write([*GUILTY[kind], *trace])] = kind
        elif kind == POISON:
            # Ids of its own: a sink that refuses a row never gets to compare it.
            fields = event_fields(1000 + number, device_id=POISON)
            reasons[write([*fields, *trace])] = "refused_by_sink"
        else:
            value = "2.0" if kind == "other" else "1.0"
            entry_id = write([*event_fields(number, value=value), *trace])
            if contents.setdefault(number, value) != value:
                reasons[entry_id] = "conflict"
    return reasons


def is_poison(row: Event) -> bool:
    """Tell what the sink of these tests refuses."""
    return row.device_id == POISON


# An outage takes two calls at least, and so do the times between: a single failing write between two
# answered probes would be the write's own fault.
outages = st.lists(st.tuples(st.integers(2, 14), st.integers(3, 6)), max_size=3).map(
    lambda parts: [away for down, up in parts for away in (*[True] * down, *[False] * up)]
)
