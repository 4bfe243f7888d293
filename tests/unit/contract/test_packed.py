"""Packed entries to events and back."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from samples import KPIS, NOW, event_fields, flat, id_of

from services.consumer.validate import check
from services.contract.codec import (
    MOST_EVENTS,
    REQUIRED,
    Packed,
    decimal,
    decode,
    encode_lines,
    is_packed,
    line_of,
    unpack,
)
from services.contract.event import Event, Fields, Rejection

labels = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=128)
events = st.builds(
    lambda number, device_id, zone, ts, kpi, value: Event(
        id_of(number), device_id, zone, round(ts, 6), kpi, value
    ),
    st.integers(1, 2**36 - 1),
    labels,
    labels,
    st.floats(0, NOW),
    st.sampled_from(["temperature", "humidity", "vibration"]),
    st.floats(0, 100),
)
TRACE = ["traceparent", "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01", "tracestate", "a=1"]
LINE = b"\t".join(event_fields()[1::2])


def raw(fields: list[str]) -> list[bytes]:
    """Give names and values as the server sends them."""
    return [part.encode() for part in fields]


def packed(lines: bytes, events: bytes = b"2") -> list[bytes]:
    """Write an entry with these lines, whatever they are."""
    return [b"events", events, b"lines", lines]


@given(st.lists(events, min_size=1, max_size=30), st.sampled_from([[], TRACE[:2], TRACE]))
@example([Event(id_of(1), "\u2028", "\u0020", 1e-6, "humidity", 0.00012345678901234567)], [])
@example([Event(id_of(1), "d" * 128, "\U0001f321" * 128, 1.0, "humidity", 1.0)], TRACE)
def test_events_come_back_as_they_were_packed(given_: list[Event], trace: list[str]) -> None:
    """Whatever a label is, each event is the same again, to the last bit of its value, with its context."""
    lines = [line_of([*one[:3], decimal(one.ts), one.kpi, decimal(one.value)]) for one in given_]
    whole = [line for line in lines if line is not None]
    assert len(whole) == len(given_), "a label without control characters has no line"
    entry = raw(encode_lines(whole, trace))
    assert is_packed(entry)
    unpacked = unpack(entry)
    assert isinstance(unpacked, Packed)
    assert unpacked.trace == raw(trace)
    texts = [decode(fields) for fields in unpacked.events()]
    assert [check(one, KPIS, NOW) for one in texts if isinstance(one, Fields)] == given_
    assert {one.traceparent for one in texts if isinstance(one, Fields)} == {trace[1] if trace else None}


@given(st.lists(st.text(max_size=6), min_size=6, max_size=6))
@example(["a", "b", "c", "d", "e", "f\n"])
@example(["a\tb", "c", "d", "e", "f", ""])
def test_a_line_is_made_of_values_that_come_back_and_of_no_others(values: list[str]) -> None:
    """A value with a tab or a line feed has no line; every other comes back as it was, nothing checked."""
    line = line_of(values)
    if line is None:
        assert any("\t" in value or "\n" in value for value in values)
        return
    unpacked = unpack(packed(line.encode(errors="surrogatepass"), b"1"))
    assert isinstance(unpacked, Packed)
    (fields,) = unpacked.events()
    assert fields == flat(
        [(name, value.encode(errors="surrogatepass")) for name, value in zip(REQUIRED, values, strict=True)]
    )


@given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=60)), max_size=7))
@example([(b"events", b"1"), (b"lines", b"\n")])
@example([(b"events", b"1"), (b"lines", b"\xff\n")])
@example([(b"lines", b"")])
def test_no_bytes_make_it_raise(pairs: list[tuple[bytes, bytes]]) -> None:
    """Whatever the server sends is a pack, or a rejection at stage decode with one printable line."""
    fields = flat([*pairs])
    for outcome in (unpack(fields), decode(fields)):
        if isinstance(outcome, Rejection):
            assert outcome.stage == "decode"
            assert outcome.error.isprintable()
        elif isinstance(outcome, Packed):
            assert len(list(outcome.events())) == len(outcome.lines)


@given(st.integers(1, 40), st.data())
def test_what_is_cut_off_anywhere_is_refused_whole(count: int, data: st.DataObject) -> None:
    """However much is missing at the end, no entry of fewer events is taken for the whole."""
    lines = (LINE + b"\n") * count
    cut = lines[: data.draw(st.integers(0, len(lines) - 1))]
    outcome = unpack(packed(cut, b"%d" % count))
    assert isinstance(outcome, Rejection)
    assert outcome.reason == "pack_truncated"


@pytest.mark.parametrize(
    ("fields", "reason", "told"),
    [
        (packed(LINE + b"\n" + LINE), "pack_truncated", "1 whole lines of 2"),
        (packed(b""), "pack_truncated", "0 whole lines of 2"),
        (packed((LINE + b"\n") * 3), "pack_invalid", "events is 2, and there are 3 lines"),
        (packed((LINE + b"\n") * 2 + LINE), "pack_invalid", "something follows the last of 2 lines"),
        (packed(LINE + b"\n", b"one"), "pack_invalid", "events is 'one'"),
        (packed(b"", b"0"), "pack_invalid", "events is '0'"),
        (packed(LINE + b"\n", b"01"), "pack_invalid", "events is '01'"),
        (packed(LINE, b"%d" % (MOST_EVENTS + 1)), "pack_invalid", f"from 1 to {MOST_EVENTS}"),
        (packed(LINE, b"9" * 4000), "pack_invalid", "from 1 to"),
        ([b"lines", LINE + b"\n"], "missing_field", "no field events"),
        ([*packed(LINE + b"\n", b"1"), b"zone", b"z"], "unknown_field", "'zone'"),
        ([*packed(LINE + b"\n", b"1"), b"attributes", b"{}"], "unknown_field", "'attributes'"),
        ([*packed(LINE + b"\n", b"1"), b"lines", b""], "duplicate_field", "'lines'"),
    ],
)
def test_a_refusal_names_what_is_wrong_with_the_whole(fields: list[bytes], reason: str, told: str) -> None:
    """Reason and sentence tell a person what it is; decoding says the same."""
    outcome = unpack(fields)
    assert isinstance(outcome, Rejection)
    assert outcome.reason == reason
    assert told in outcome.error
    assert len(outcome.error) < 300
    assert is_packed(fields)
    assert decode(fields) == outcome


@pytest.mark.parametrize(
    ("line", "reason", "told"),
    [
        (b"", "missing_field", "no field device_id, zone, ts, kpi, value"),
        (LINE.rpartition(b"\t")[0], "missing_field", "no field value"),
        (LINE + b"\t1\t2\t3", "unknown_field", "'more'"),
        (b"\xff" + LINE[1:], "not_utf8", "'event_id'"),
    ],
)
def test_a_line_that_is_no_event_is_refused_alone(line: bytes, reason: str, told: str) -> None:
    """The lines beside it are read as ever, and nothing of it is lost."""
    unpacked = unpack(packed(LINE + b"\n" + line + b"\n"))
    assert isinstance(unpacked, Packed)
    good, bad = unpacked.events()
    assert good == event_fields()
    assert b"\t".join(bad[1::2]) == line
    outcome = decode(bad)
    assert isinstance(outcome, Rejection)
    assert outcome.reason == reason
    assert told in outcome.error


def test_an_entry_of_one_event_is_none_of_many() -> None:
    """Nor is a foreign one that has a field of that name among its own six."""
    assert not is_packed(event_fields())
    assert not is_packed([*event_fields(), b"lines", b"1\n"])
    assert not is_packed([])
    assert is_packed([b"lines", b""])
