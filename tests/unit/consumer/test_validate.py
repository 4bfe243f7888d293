"""The contract's rules, each at its edges, and texts nobody thought of."""

import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import COLD, KPIS, NOW, entry, id_of, row, texts

from services.consumer.validate import check, validate
from services.contract.codec import decode
from services.contract.event import Event, Fields, Reason, Rejection

BROKEN: list[tuple[dict[str, str], str]] = [
    ({"event_id": ""}, "event_id_invalid"),
    ({"event_id": id_of(1).upper()}, "event_id_invalid"),
    ({"event_id": id_of(1).replace("-", "")}, "event_id_invalid"),
    ({"event_id": f"{{{id_of(1)}}}"}, "event_id_invalid"),
    ({"event_id": f"{id_of(1)}\n"}, "event_id_invalid"),
    ({"event_id": "x" * 1_000_000}, "event_id_invalid"),
    ({"device_id": ""}, "device_id_invalid"),
    ({"device_id": "x" * 129}, "device_id_invalid"),
    ({"device_id": "a\nb"}, "device_id_invalid"),
    ({"device_id": "a\x00"}, "device_id_invalid"),
    ({"device_id": "a\x9f"}, "device_id_invalid"),
    ({"zone": ""}, "zone_invalid"),
    ({"zone": "x" * 129}, "zone_invalid"),
    ({"zone": "\x7f"}, "zone_invalid"),
    ({"ts": ""}, "ts_invalid"),
    ({"ts": "-1"}, "ts_invalid"),
    ({"ts": "2026-01-01T00:00:00Z"}, "ts_invalid"),
    ({"ts": "nan"}, "ts_invalid"),
    ({"ts": "1_000"}, "ts_invalid"),
    ({"ts": " 1"}, "ts_invalid"),
    ({"ts": "1e999"}, "ts_in_future"),
    ({"ts": str(NOW + 0.001)}, "ts_in_future"),
    ({"ts": str(int(NOW * 1000))}, "ts_in_future"),
    ({"kpi": ""}, "kpi_unknown"),
    ({"kpi": "Humidity"}, "kpi_unknown"),
    ({"value": ""}, "value_invalid"),
    ({"value": "inf"}, "value_invalid"),
    ({"value": "NaN"}, "value_invalid"),
    ({"value": "1,5"}, "value_invalid"),
    ({"value": "0x10"}, "value_invalid"),
    ({"value": "٣"}, "value_invalid"),
    ({"value": "True"}, "value_invalid"),
    ({"value": "--1"}, "value_invalid"),
    ({"value": "-1"}, "value_negative"),
    ({"value": "-1e-9"}, "value_negative"),
    ({"value": "+1"}, "value_invalid"),
    ({"value": ".5"}, "value_invalid"),
    ({"value": "100.001"}, "value_out_of_range"),
    ({"value": "1e999"}, "value_out_of_range"),
    ({"kpi": "pressure", "value": "0"}, "value_out_of_range"),
    ({"attributes": ""}, "attributes_invalid"),
    ({"attributes": "[]"}, "attributes_invalid"),
]


@pytest.mark.parametrize(
    ("change", "reason"),
    BROKEN,
    ids=[f"{reason}-{next(iter(change.values()))[:12]!a}" for change, reason in BROKEN],
)
def test_a_broken_rule_names_its_reason(change: dict[str, str], reason: str) -> None:
    """Each rule refuses with its own reason, at stage validate, in one short printable line."""
    refused = check(texts(**change), KPIS, NOW)
    assert isinstance(refused, Rejection)
    assert (refused.stage, refused.reason) == ("validate", reason)
    assert refused.error.isprintable()
    assert len(refused.error) < 400


@pytest.mark.parametrize(
    "change",
    [
        {"device_id": "x" * 128},
        {"device_id": "☃ Gerät 'x' -- ; $(rm)"},
        {"zone": " "},
        {"ts": "0"},
        {"ts": str(NOW)},
        {"value": "0"},
        {"value": "-0"},
        {"value": "100"},
        {"value": "4.2e1"},
        {"value": "1E-7"},
        {"event_id": "00000000-0000-0000-0000-000000000000"},
        {"event_id": "f47ac10b-58cc-4372-a567-0e02b2c3d479"},
        {"traceparent": "nonsense", "tracestate": ""},
        {"attributes": "{}"},
    ],
)
def test_the_edges_are_allowed(change: dict[str, str]) -> None:
    """Longest labels, both ends of a range, foreign ids of any version: all are events."""
    fields = texts(**change)
    event = check(fields, KPIS, NOW)
    assert isinstance(event, Event)
    assert event[:6] == (
        fields.event_id,
        fields.device_id,
        fields.zone,
        float(fields.ts),
        fields.kpi,
        float(fields.value),
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("-40", None),
        ("-3.2", None),
        ("-0.0", None),
        ("-40.001", "value_out_of_range"),
        ("60.5", "value_out_of_range"),
        ("-", "value_invalid"),
    ],
)
def test_a_kpis_own_range_decides_below_zero_too(value: str, reason: str | None) -> None:
    """A frost is no error; what lies below the range is one, as what lies above."""
    found = check(texts(kpi="outdoor", value=value), COLD, NOW)
    assert (None if isinstance(found, Event) else found.reason) == reason


def test_a_time_has_microseconds() -> None:
    """As every store has them; what a float has beyond them is rounded."""
    event = check(texts(ts="1700000000.1234567"), KPIS, NOW)
    assert isinstance(event, Event)
    assert event.ts == 1_700_000_000.123457


def test_milliseconds_are_called_what_they_are() -> None:
    """A time a thousand times too large gets a hint, a time of next year doesn't."""
    assert "milliseconds" in str(check(texts(ts=str(int(NOW * 1000))), KPIS, NOW))
    assert "MAX_FUTURE_S" in str(check(texts(ts=str(NOW + 31_536_000)), KPIS, NOW))


def test_every_reason_of_decode_and_validate_can_be_reached() -> None:
    """The closed list of reasons has none that nothing gives, as far as these two stages go."""
    undecodable: list[list[bytes]] = [
        [b"a", b"b"],
        [b"event_id", b"1", b"event_id", b"2"],
        [part for name in Fields._fields[:6] for part in (name.encode(), b"\xff")],
        [part for name in (*Fields._fields[:6], "more") for part in (name.encode(), b"1")],
        [b"events", b"2", b"lines", b""],
        [b"events", b"none", b"lines", b""],
    ]
    refusals = [one for one in map(decode, undecodable) if isinstance(one, Rejection)]
    reached: set[str] = {one.reason for one in refusals}
    reached |= {reason for _, reason in BROKEN}  # each was compared above
    later = {"rejected_by_step", "step_failed", "conflict", "refused_by_sink"}
    later |= {"retries_exhausted", "deliveries_exhausted", "entry_too_large"}
    assert reached == set(typing.get_args(Reason)) - later


odd_texts = st.one_of(
    st.text(max_size=50),
    st.from_regex(r"-?[0-9]{0,25}(\.[0-9]*)?([eE][+-]?[0-9]{0,5})?", fullmatch=True),
    st.sampled_from([id_of(1), "device-1", "humidity", "pressure", "1700000000", "42.5"]),
)


@given(st.builds(Fields, *[odd_texts] * 6, st.none() | odd_texts, st.none() | odd_texts))
def test_no_text_makes_it_raise(fields: Fields) -> None:
    """Arbitrary texts are an event or a rejection, and an event keeps what it was told."""
    outcome = check(fields, KPIS, NOW)
    if isinstance(outcome, Event):
        assert 0 <= outcome.value <= KPIS[outcome.kpi].max
        assert 0 <= outcome.ts <= NOW
    else:
        assert outcome.stage == "validate"


@given(st.lists(st.booleans(), max_size=20))
def test_a_batch_is_split_and_keeps_its_order(pattern: list[bool]) -> None:
    """Each entry is in exactly one of the two lists, in its place."""
    events = [(entry(number), row(value=1.0 if good else -1.0)) for number, good in enumerate(pattern)]
    valid, dead = validate(events, KPIS, NOW)
    assert [one for one, _ in valid] == [entry(number) for number, good in enumerate(pattern) if good]
    assert [one.entry for one in dead] == [entry(number) for number, good in enumerate(pattern) if not good]
