"""Stream entries to texts and back."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from samples import KPIS, NOW, event_fields, flat, id_of, raw_fields

from services.consumer.validate import check
from services.contract.attributes import write_attributes
from services.contract.codec import OPTIONAL, REQUIRED, decimal, decode, encode
from services.contract.event import Event, Fields, Rejection

labels = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=128)


@given(
    device_id=labels,
    zone=labels,
    ts=st.floats(0, NOW).map(lambda ts: round(ts, 6)),
    value=st.floats(0, 100),
    kpi=st.sampled_from(["temperature", "humidity", "vibration"]),
    number=st.integers(1, 2**36 - 1),
    attributes=st.dictionaries(labels, labels, max_size=3),
)
@example(
    device_id="\u2028",
    zone="a",
    ts=1e-6,
    value=0.00012345678901234567,
    kpi="humidity",
    number=1,
    attributes={},
)
def test_an_event_comes_back_as_it_was_encoded(
    device_id: str, zone: str, ts: float, value: float, kpi: str, number: int, attributes: dict[str, str]
) -> None:
    """What a producer writes is valid for a consumer: the same event, to the last bit of its value."""
    event = Event(id_of(number), device_id, zone, ts, kpi, value, 0, write_attributes(attributes))
    fields = decode([part.encode() for part in encode(event)])
    assert isinstance(fields, Fields)
    assert check(fields, KPIS, NOW) == event


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_reads_back_as_itself(number: float) -> None:
    """Decimal text loses nothing."""
    assert float(decimal(number)) == number


@given(raw_fields)
def test_no_bytes_make_it_raise(raw: list[bytes]) -> None:
    """Whatever the server sends is fields or a rejection at stage decode with one printable line."""
    outcome = decode(raw)
    if isinstance(outcome, Rejection):
        assert outcome.stage == "decode"
        assert outcome.error.isprintable()
    else:
        given_fields = dict(zip(raw[::2], raw[1::2], strict=True))
        assert {
            name.encode(): value.encode() for name, value in outcome._asdict().items() if value is not None
        } == (given_fields)


@given(st.lists(st.binary(max_size=12), min_size=6, max_size=6))
@example([b"a\nb", b"c", b"d", b"e", b"f", b""])
@example([b"\n", b"\n", b"\n", b"\n", b"\n", b"\n"])
@example([b"\xc3", b"\xa9", b"", b"", b"", b""])
def test_the_usual_order_and_any_other_decode_alike(values: list[bytes]) -> None:
    """The quick way for entries in our order and the careful way for others never differ."""
    pairs = list(zip(REQUIRED, values, strict=True))
    ours, reversed_ = decode(flat(pairs)), decode(flat(pairs[::-1]))
    assert type(ours) is type(reversed_)
    if isinstance(ours, Fields):
        assert ours == reversed_
        assert [text.encode() for text in ours[:6] if text is not None] == values


def test_optional_fields_are_kept() -> None:
    """A trace's context is read along with the event."""
    fields = decode(event_fields(1, traceparent="00-a-b-01", tracestate="x=y", attributes="{}"))
    assert isinstance(fields, Fields)
    assert (fields.traceparent, fields.tracestate, fields.attributes) == ("00-a-b-01", "x=y", "{}")
    assert {b"traceparent", b"tracestate", b"attributes"} == set(OPTIONAL)


@pytest.mark.parametrize(
    ("raw", "reason", "told"),
    [
        ([], "missing_field", "event_id, device_id, zone, ts, kpi, value"),
        (flat([("temp", "1"), ("unit", "C")]), "missing_field", "it has 'temp', 'unit'"),
        (event_fields()[:-2], "missing_field", "no field value"),
        (event_fields(extra="1"), "unknown_field", "'extra'"),
        ([*event_fields(), b"\xff", b"1"], "unknown_field", r"'\\xff'"),
        ([*event_fields(), b"zone", b"2"], "duplicate_field", "'zone'"),
        (event_fields(zone=b"\xff"), "not_utf8", "'zone'"),
        (event_fields(zone=b"\xed\xa0\x80"), "not_utf8", "'zone'"),
        ([b"\n" * 1000, b"1"], "missing_field", "it has"),
    ],
)
def test_a_refusal_names_what_is_wrong(raw: list[bytes], reason: str, told: str) -> None:
    """Reason and sentence tell a person which field it is."""
    outcome = decode(raw)
    assert isinstance(outcome, Rejection)
    assert outcome.reason == reason
    assert told in outcome.error
    assert len(outcome.error) < 1000


def test_a_hundred_thousand_fields_are_refused_at_once() -> None:
    """An entry of very many fields with one given twice doesn't hold the loop up."""
    many = [(f"name-{number}", "x") for number in range(100_000)]
    started = time.monotonic()
    outcome = decode(flat([*many, ("name-99999", "y")]))
    assert isinstance(outcome, Rejection)
    assert outcome.reason == "duplicate_field"
    assert time.monotonic() - started < 5
