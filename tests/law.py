"""What the tests of the law publish, what it has to come to, and how a store fails meanwhile."""

import itertools
from collections.abc import Callable, Mapping, Sequence

from hypothesis import strategies as st
from samples import event_fields

from services.contract.codec import REQUIRED
from services.contract.event import Event
from services.runtime.telemetry.metrics import Metrics

MAX_ENTRY_BYTES = 4096
GUILTY = {
    "missing_field": [b"event_id", b"x"],
    "not_utf8": event_fields(1, zone=b"\xff"),
    "value_negative": event_fields(1, value="-1"),
    "event_id_invalid": event_fields(1, event_id="1"),
    "attributes_invalid": event_fields(1, attributes="[]"),
    "pack_truncated": [b"events", b"2", b"lines", b"x\n"],
    "pack_invalid": [b"events", b"x", b"lines", b"x\n"],
    "entry_too_large": [*event_fields(1), b"blob", b"\n" * MAX_ENTRY_BYTES],
}
LARGE_BYTES = sum(map(len, GUILTY["entry_too_large"]))
POISON = "poison"
CONTENTS: Mapping[str, Mapping[str, str]] = {
    "other": {"value": "2.0"},
    "attributed": {"value": "1.0", "attributes": '{"firmware": "1.2"}'},
}
"""Events that differ from one of the same number."""


def publish(
    write: Callable[[list[bytes]], bytes],
    entries: Sequence[tuple[str, int]],
    traces: Sequence[list[bytes]] = (),
) -> dict[bytes, str]:
    """Publish the planned entries; name for each guilty one, by its id, the reason that it has to get.

    `traces` are the trace contexts of entries, in turn.
    """
    turns = itertools.cycle(traces or [[]])
    reasons: dict[bytes, str] = {}
    contents: dict[int, Mapping[str, str]] = {}
    for kind, number in entries:
        trace = next(turns)
        if kind in GUILTY:
            reasons[write([*GUILTY[kind], *trace])] = kind
        elif kind == POISON:
            # Ids of its own: a sink that refuses a row never gets to compare it.
            fields = event_fields(1000 + number, device_id=POISON)
            reasons[write([*fields, *trace])] = "refused_by_sink"
        else:
            changes = CONTENTS.get(kind, {"value": "1.0"})
            entry_id = write([*event_fields(number, **changes), *trace])
            if contents.setdefault(number, changes) != changes:
                reasons[entry_id] = "conflict"
    return reasons


def pack(
    write: Callable[[list[bytes]], bytes], entries: Sequence[tuple[bytes, list[bytes]]], sizes: Sequence[int]
) -> dict[bytes, bytes]:
    """Publish entries, those together that a packed entry can have. Gives the id of each by its former one.

    `sizes`: how many go together at most, in turn; 1 is an entry of one event.
    """
    turns = itertools.cycle(sizes or [1])
    ids: dict[bytes, bytes] = {}
    left = list(entries)
    while left:
        size = next(turns)
        together = list(itertools.takewhile(lambda one: _values(one[1]), left[:size])) if size > 1 else []
        if together:
            lines = b"".join(b"\t".join(_values(fields)) + b"\n" for _, fields in together)
            trace = together[0][1][2 * len(_values(together[0][1])) :]
            entry_id = write([b"events", b"%d" % len(together), b"lines", lines, *trace])
            ids |= {old: b"%s/%d" % (entry_id, number) for number, (old, _) in enumerate(together, start=1)}
        else:
            together = left[:1]
            ids[left[0][0]] = write(left[0][1])
        del left[: len(together)]
    return ids


def _values(fields: Sequence[bytes]) -> list[bytes]:
    """Give the values of an event as a line has them; empty for one that has no line."""
    names, values = fields[::2], fields[1::2]
    own = [name for name in names if not name.startswith(b"trace")]
    known = list(REQUIRED[: len(own)])
    spoilt = any(set(b"\t\n") & set(value) for value in values)
    return [] if own != known or names[: len(own)] != known or spoilt else list(values[: len(own)])


def figures(metrics: Metrics) -> tuple[float, float, float]:
    """Give how many entries the metrics say were received, settled, and are being worked on, at one moment.

    These alone are collected: a scrape of everything at each step of each example takes minutes.
    """
    names = [f"telemetry_consumer_{what}" for what in ("received_events_total", "settled_events_total")]
    names.append("telemetry_consumer_in_flight_events")
    totals = dict.fromkeys(names, 0.0)
    for family in metrics.registry.restricted_registry(names).collect():
        for sample in family.samples:
            totals[sample.name] += sample.value
    received, settled, in_flight = totals.values()
    return received, settled, in_flight


def check_metrics(metrics: Metrics) -> None:
    """Check the law in the metrics, as any scrape would find it."""
    received, settled, in_flight = figures(metrics)
    assert received == settled + in_flight


def is_poison(row: Event) -> bool:
    """Tell what the sink of these tests refuses."""
    return row.device_id == POISON


# An outage takes two calls at least, and so do the times between: a single failing write between two
# answered probes would be the write's own fault.
outages = st.lists(st.tuples(st.integers(2, 14), st.integers(3, 6)), max_size=3).map(
    lambda parts: [away for down, up in parts for away in (*[True] * down, *[False] * up)]
)
