"""The short cut for ordinary entries makes the same events as the careful way."""

from collections.abc import Sequence
from math import copysign

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from samples import COLD, NOW, entry, event_fields, id_of, raw_fields

from services.consumer.packed.events import Events, Lines, Pack
from services.consumer.recognise import recognise
from services.consumer.validate import check, form
from services.contract.codec import Packed, decode
from services.contract.consuming.doors import Entry
from services.contract.event import Event, Fields
from services.contract.kpis import Kpis

odd_values = st.one_of(
    st.binary(max_size=12),
    st.text(max_size=12).map(str.encode),
    st.sampled_from([b"\n", b"\t", b"\xff", b"a\nb", b"a\tzone\tb", b"\xed\xa0\x80", b"\xc2\x85"]),
    st.sampled_from(
        [
            b"x" * 129,
            b"1e2",
            b"-1",
            b"-0",
            b"-41",
            b"--1",
            b"-",
            b"outdoor",
            b"1_0",
            b"101",
            b"9" * 25,
            b"pressure",
            b"",
        ]
    ),
    st.sampled_from(["\u2028".encode(), "٣".encode(), id_of(1).upper().encode()]),
)

TRACEPARENT = b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-01"
traces: list[list[bytes]] = [
    [],
    [b"traceparent", TRACEPARENT],
    [b"traceparent", TRACEPARENT, b"tracestate", b"a=1,b=2"],
    [b"traceparent", TRACEPARENT, b"tracestate", b"\xff"],
    [b"traceparent", TRACEPARENT, b"tracestate", b"a\tb"],
    [b"traceparent", b"nonsense"],
    [b"tracestate", b"a=1"],
    [b"traceparent\t" + TRACEPARENT + b"\ttracestate", b"a=1"],
    [b"traceparent\t" + TRACEPARENT],
    [b"traceparent", TRACEPARENT, b"traceparent", TRACEPARENT],
    [b"attributes", b'{"firmware": "1.2"}'],
    [b"attributes", b'{"firmware": 1.2}'],
    [b"attributes", b""],
    [b"traceparent", TRACEPARENT, b"attributes", b"{}"],
]
"""What may stand behind the six fields; some of it looks like another when it is joined by tabs."""


@st.composite
def nearly_ordinary(draw: st.DrawFn) -> list[bytes]:
    """Draw an ordinary entry in which some parts are others, or missing, or more."""
    fields = event_fields(draw(st.integers(1, 5)))
    for position in draw(st.lists(st.integers(0, 11), max_size=2)):
        fields[position] = draw(odd_values)
    fields += draw(st.sampled_from(traces))
    if draw(st.booleans()):
        return fields
    cut = draw(st.integers(0, 6)) * 2
    return (
        fields[:cut]
        + draw(st.sampled_from([[], [b"traceparent", b"x"], [b"zone", b"z"], [b"", b""]]))
        + fields[cut:]
    )


def carefully(fields: list[bytes], kpis: Kpis | None = COLD) -> Event | None:
    """Make an event by decode and validate, or by its form alone; None for what they refuse."""
    decoded = decode(fields)
    if not isinstance(decoded, Fields):
        return None
    event = form(decoded) if kpis is None else check(decoded, kpis, NOW)
    return event if isinstance(event, Event) else None


@given(st.lists(nearly_ordinary() | raw_fields, max_size=8))
@example([event_fields(1, zone="a\nb"), event_fields(2)])
@example([event_fields(1, zone="a\nb"), event_fields(2), event_fields(3)])
@example([[b"event_id\t" + id_of(1).encode(), b"x"], event_fields(2)])
@example([[b"", b""], [b"\n", b""]])
@example([[b"\t".join(event_fields(1)[:11]), b"42.25"]])
@example([event_fields(1, value=b"1\ttraceparent\t" + TRACEPARENT)])
@example([event_fields(1, value=b"1\ttraceparent"), [*event_fields(2), *traces[1]]])
@example(
    [
        event_fields(1, kpi=kpi, value=value)
        for kpi in ("outdoor", "humidity")
        for value in ("-1", "-0", "-41")
    ]
)
def test_what_is_recognised_is_what_the_rules_say(entries: list[list[bytes]]) -> None:
    """Each entry is in one of the two lists, in order; a recognised event is the one the rules make."""
    given_entries = [entry(number, fields) for number, fields in enumerate(entries)]
    for kpis in (COLD, None):
        hold_together(given_entries, kpis)


lines = st.one_of(
    nearly_ordinary().map(lambda fields: b"\t".join(fields[1::2])),
    st.binary(max_size=80),
    st.integers(1, 5).map(lambda number: b"\t".join(event_fields(number)[1::2])),
)


LINE = b"\t".join(event_fields(1)[1::2]) + b"\n"


@st.composite
def packs(draw: st.DrawFn) -> tuple[bytes, list[bytes], slice, list[list[bytes]]]:
    """Draw lines of a packed entry and their context, which of them are given, and an entry behind them."""
    some = draw(st.lists(lines.map(lambda line: line.replace(b"\n", b"")), min_size=1, max_size=8))
    first = draw(st.integers(0, len(some) - 1))
    given_ = slice(first, first + draw(st.integers(1, len(some) - first)))
    trace = draw(st.sampled_from(traces[:4]))
    behind = draw(st.lists(nearly_ordinary() | raw_fields, max_size=1))
    return b"".join(line + b"\n" for line in some), trace, given_, behind


@given(st.lists(packs(), min_size=1, max_size=4))
@example([(LINE, traces[3], slice(0, 1), [])])
@example([(LINE * 2, [], slice(0, 1), [event_fields(1, zone="a\nb")]), (LINE, [], slice(0, 1), [])])
@example([(b"\n" + LINE, traces[1], slice(0, 2), [event_fields(1), event_fields(2) + traces[1]])])
def test_of_packed_entries_too(
    drawn: list[tuple[bytes, list[bytes], slice, list[list[bytes]]]],
) -> None:
    """Line by line, and of the entries of one event between them."""
    parts: list[Lines | Entry] = []
    for number, (text, trace, some, behind) in enumerate(drawn):
        packed = Packed(text, text.count(b"\n"), trace)
        fields = [b"events", b"%d" % packed.number, b"lines", text, *trace]
        parts.append(
            Lines(Pack(Entry(b"17-%d" % number, fields), packed, 1), some.start, some.stop - some.start)
        )
        parts += [Entry(b"18-%d" % (10 * number + place), one) for place, one in enumerate(behind)]
    for kpis in (COLD, None):
        hold_together(Events(parts), kpis)


def hold_together(given_entries: Sequence[Entry], kpis: Kpis | None) -> None:
    """See that the short cut makes nothing else of entries than the careful way."""
    valid, odd, is_untraced = recognise(given_entries, kpis, NOW)
    assert not (is_untraced and any(b"traceparent" in one.fields[::2] for one in given_entries))
    for one, event in valid:
        careful = carefully(one.fields, kpis)
        assert careful is not None
        assert (event, copysign(1, event.value)) == (careful, copysign(1, careful.value))
    recognised = {one.entry_id for one, _ in valid}
    assert [one for one, _ in valid] == [one for one in given_entries if one.entry_id in recognised]
    assert list(odd) == [one for one in given_entries if one.entry_id not in recognised]


@pytest.mark.parametrize("feeds", [1, 2, 7])
@pytest.mark.parametrize("part", range(12))
def test_a_line_feed_anywhere_moves_no_event(part: int, feeds: int) -> None:
    """Whichever name or value has it: each entry behind it is recognised as its own event, or left as odd."""
    broken = event_fields(1)
    broken[part] = broken[part][:2] + b"\n" * feeds + broken[part][2:]
    for trace in ([], traces[1]):
        several = [entry(1), entry(2, broken), *(entry(number) for number in range(3, 30)), entry(30, broken)]
        hold_together([Entry(one.entry_id, one.fields + trace) for one in several], COLD)


def test_ordinary_entries_are_recognised() -> None:
    """What our producer writes takes the short cut."""
    valid, odd, is_untraced = recognise([entry(number) for number in range(1, 200)], COLD, NOW)
    assert (len(valid), len(odd), is_untraced) == (199, 0, True)
    nothing = recognise([], COLD, NOW)
    assert (len(nothing.valid), len(nothing.odd), nothing.is_untraced) == (0, 0, True)


def test_entries_with_a_trace_context_are_recognised_among_those_without() -> None:
    """What a tracing producer writes takes the short cut too, with a state and without."""
    entries = [entry(number, event_fields(number) + traces[number % 3]) for number in range(1, 200)]
    valid, odd, is_untraced = recognise(entries, COLD, NOW)
    assert (len(valid), len(odd), is_untraced) == (199, 0, False)
    assert {event for _, event in valid} == {carefully(one.fields) for one in entries}


@pytest.mark.parametrize(
    "odd",
    ["", "1.", ".5", "-.5", "-5.", "1-2", "1.2.3", "1_0", " 1", "1 ", "+1", "--1", "-", ".", "1e2",
     "1E-2", "inf", "nan", "0x1", "\u0661", "1\x0b", "9" * 20, "9" * 21, "0." + "1" * 20, "0." + "1" * 21,
     "-0", "007", "1700000000.1234567", "999999999.1234567", "a\x85b", "x" * 128, "x" * 129, "\u2028",
     "\u00e4", id_of(1).upper(), id_of(1)[:-1], id_of(1) + "\x00", id_of(1)[:-1] + "\u00e4"],
)  # fmt: skip
def test_an_odd_value_is_taken_as_the_rules_take_it(odd: str) -> None:
    """In whichever place, of entries of one event and of many, alone and beside ordinary ones."""
    for place in range(6):
        fields = event_fields(2)
        fields[2 * place + 1] = odd.encode()
        for beside in ([], [event_fields(1)]):
            flat = [Entry(b"18-%d" % number, one) for number, one in enumerate([*beside, fields])]
            text = b"".join(b"\t".join(one.fields[1::2]) + b"\n" for one in flat)
            pack = Pack(Entry(b"17-1", [b"lines", text]), Packed(text, len(flat), []), 1)
            for kpis in (COLD, None):
                hold_together(flat, kpis)
                hold_together(Events([Lines(pack, 0, len(flat))]), kpis)


def test_ordinary_lines_of_packed_entries_are_recognised() -> None:
    """A whole entry and a part of one, with an entry of one event between them; the odd one alone is left."""
    texts = [b"".join(b"\t".join(event_fields(one)[1::2]) + b"\n" for one in range(1, 101)) for _ in range(2)]
    whole, cut = (
        Pack(Entry(b"17-%d" % number, [b"events", b"100", b"lines", text]), Packed(text, 100, []), 1)
        for number, text in enumerate(texts)
    )
    events = Events([Lines(whole, 0, 100), entry(3), Lines(cut, 40, 20)])
    valid, odd, is_untraced = recognise(events, COLD, NOW)
    assert (len(valid), len(odd), is_untraced) == (121, 0, True)
    late = entry(4, event_fields(4, ts=str(NOW + 1)))
    valid, odd, _ = recognise(Events([Lines(whole, 0, 100), late]), COLD, NOW)
    assert (len(valid), list(odd)) == (100, [late])


def test_a_frost_is_recognised() -> None:
    """Where the KPI's range has it."""
    cold = entry(1, event_fields(1, kpi="outdoor", value="-12.5"))
    valid, odd, _ = recognise([cold, entry(2, event_fields(2, value="-12.5"))], COLD, NOW)
    assert [event.value for _, event in valid] == [-12.5]
    assert len(odd) == 1


def test_where_there_are_steps_the_form_alone_is_recognised() -> None:
    """Any KPI, any range, any time: the steps have it first."""
    strange = [
        event_fields(1, kpi="Room 7", value="-40.5"),
        event_fields(2, ts=str(NOW * 2)),
        event_fields(3),
    ]
    valid, odd, _ = recognise([entry(number, one) for number, one in enumerate(strange)], None, NOW)
    assert ([one for _, one in valid], len(odd)) == ([carefully(one, None) for one in strange], 0)


def test_an_event_of_the_future_is_left_to_the_careful_way() -> None:
    """The short cut refuses nothing itself."""
    late = entry(1, event_fields(1, ts=str(NOW + 1)))
    assert recognise([late, entry(2)], COLD, NOW).odd == [late]
