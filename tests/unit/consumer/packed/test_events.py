"""Events as lines: whoever looks at one sees the entry that it is, whoever looks at all of them a text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import event_fields, id_of

from services.consumer.packed.events import Events, Lines, Pack, delivered_more, together
from services.contract.codec import LINES, unpack
from services.contract.codec import Packed as Unpacked
from services.contract.consuming.doors import Entry

TRACE = [b"traceparent", b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-01"]


def pack_of(number: int, size: int, trace: list[bytes], deliveries: int = 1) -> Pack:
    """Make a packed entry of so many events."""
    lines = b"".join(b"\t".join(event_fields(one)[1::2]) + b"\n" for one in range(1, size + 1))
    fields = [b"events", b"%d" % size, LINES, lines, *trace]
    found = unpack(fields)
    assert isinstance(found, Unpacked)
    return Pack(Entry(b"17-%d" % number, fields, deliveries), found, deliveries)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Events, list[Entry]]:
    """Draw a batch, and the entries that its events are."""
    parts: list[Lines | Entry] = []
    entries: list[Entry] = []
    for number in range(draw(st.integers(1, 5))):
        deliveries = draw(st.integers(1, 2))
        if draw(st.booleans()):
            entries.append(Entry(b"17-%d" % number, event_fields(1), deliveries))
            parts.append(entries[-1])
            continue
        trace = draw(st.sampled_from([[], TRACE]))
        pack = pack_of(number, size := draw(st.integers(1, 6)), trace, deliveries)
        first = draw(st.integers(0, size - 1))
        parts.append(Lines(pack, first, last := draw(st.integers(1, size - first))))
        entries += [
            Entry(b"17-%d/%d" % (number, one), event_fields(one) + trace, deliveries)
            for one in range(first + 1, first + last + 1)
        ]
    return Events(parts), entries


@given(batches(), st.data())
def test_a_batch_is_the_entries_of_its_events(batch: tuple[Events, list[Entry]], data: st.DataObject) -> None:
    """However it is looked at, and whatever is left out of it."""
    events, entries = batch
    assert list(events) == entries
    assert [events[place] for place in range(len(events))] == entries
    assert [events[place - len(events)] for place in range(len(events))] == entries
    assert [events[:2], events[1:]] == [entries[:2], entries[1:]]
    assert list(reversed(events)) == entries[::-1]
    assert events.is_untraced == (not any(b"traceparent" in one.fields for one in entries))
    for times in (0, 1, 2):
        assert delivered_more(events, times) == delivered_more(entries, times)
    assert events.text == b"".join(b"\t".join(one.fields[1:12:2]) + b"\n" for one in entries)
    gone = data.draw(st.sets(st.integers(0, len(entries) - 1)))
    left = events.without(sorted(gone))
    assert list(left) == [one for place, one in enumerate(entries) if place not in gone]
    assert len(left) == len(entries) - len(gone)
    others = [entries[place] for place in sorted(gone)]
    assert list(together(left, others)) == [*left, *others] == together(list(left), others)


def test_the_lines_of_a_context_that_is_no_text_are_empty() -> None:
    """Each of its events is refused for it, by who reads all of its fields."""
    events = Events([Lines(pack_of(1, 3, [*TRACE, b"tracestate", b"\xff"]), 1, 2)])
    assert events.text == b"\n\n"
    assert [one.fields[-1] for one in events] == [b"\xff"] * 2


def test_there_is_nothing_behind_the_last_event() -> None:
    """Nor before the first."""
    events = Events([Lines(pack_of(1, 3, []), 1, 2)])
    for place in (2, -3):
        with pytest.raises(IndexError):
            events[place]


@pytest.mark.parametrize(
    "fields",
    [
        event_fields(1, zone=b"a\tb"),
        event_fields(1, zone=b"a\nb"),
        [*event_fields(1), b"attributes", b"{}"],
        [*event_fields(1)[2:], b"event_id", id_of(1).encode()],
        event_fields(1)[:10],
        [b"", b""],
    ],
)
def test_an_entry_of_one_event_that_is_no_such_line_has_an_empty_one(fields: list[bytes]) -> None:
    """It is one line all the same, so that every line is where its event is."""
    events = Events([Entry(b"17-1", fields), Entry(b"17-2", event_fields(2))])
    assert events.text == b"\n" + b"\t".join(event_fields(2)[1::2]) + b"\n"
