"""Event ids: UUIDv7 with a counter."""

import uuid
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contract.ids import (
    CANONICAL,
    MAX_SEQUENCE,
    RUN_BITS,
    Numbered,
    _by_value,
    content_id,
    derived_id,
    event_id,
    id_pattern,
    numbered,
    run_name,
    text_of,
    time_of,
)

GOLDEN = "018bcfe5-68fa-87fb-adc1-98db0b942469"

bits = st.integers(0, 2**RUN_BITS - 1)
sequences = st.integers(1, MAX_SEQUENCE)
milliseconds = st.integers(0, 2**48 - 1)


@given(bits, sequences, milliseconds)
def test_an_id_tells_run_and_sequence(random_bits: int, sequence: int, now_ms: int) -> None:
    """What the audit counts by is read back from every id."""
    run = run_name(random_bits)
    assert numbered(event_id(run, sequence, now_ms)) == Numbered(run, sequence)


@given(bits, sequences, milliseconds)
def test_an_id_is_a_uuid_of_version_seven(random_bits: int, sequence: int, now_ms: int) -> None:
    """Version, variant and time stand where RFC 9562 puts them, and the text is canonical."""
    text = event_id(run_name(random_bits), sequence, now_ms)
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert CANONICAL.fullmatch(text)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == now_ms


@given(bits, st.tuples(milliseconds, sequences), st.tuples(milliseconds, sequences))
def test_ids_of_a_run_are_ordered_by_time_and_then_by_number(
    random_bits: int, one: tuple[int, int], other: tuple[int, int]
) -> None:
    """As text they sort as they were made."""
    run = run_name(random_bits)
    assert (one < other) == (event_id(run, one[1], one[0]) < event_id(run, other[1], other[0]))


@given(bits, bits)
def test_runs_have_names_of_their_own(one: int, other: int) -> None:
    """No two runs share a name, and a name is the same for every id of the run."""
    assert (run_name(one) == run_name(other)) == (one == other)


@pytest.mark.parametrize("random_bits", [-1, 1 << RUN_BITS])
def test_a_run_of_other_bits_is_refused(random_bits: int) -> None:
    """More bits than a run has would spoil version or sequence."""
    with pytest.raises(ValueError, match="38 random bits"):
        run_name(random_bits)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "018f3c5e-8a10-7abc-cdef-01200000002a",
        "018F3C5E-8A10-7ABC-8DEF-01200000002A",
    ],
)
def test_ids_of_others_have_no_number(text: str) -> None:
    """Other versions, other variants and capitals are not ours."""
    assert numbered(text) is None


@given(st.uuids())
def test_the_bytes_of_an_id_are_written_as_everywhere(one: uuid.UUID) -> None:
    """Whatever its version."""
    assert text_of(one.bytes) == str(one)


def test_a_missing_id_is_named_without_its_time() -> None:
    """The audit names an event whose milliseconds nobody knows."""
    run = run_name(1)
    text = event_id(run, 42, 1_700_000_000_000)
    assert id_pattern(run, 42) == f"*-{text.split('-', 2)[2]}"


def test_a_derived_id_is_the_same_in_every_version() -> None:
    """What was published by it before is a duplicate after an upgrade, too."""
    content = {"device_id": "pump-1", "kpi": "temperature", "ts": "1700000000.25"}
    assert derived_id("1700000000.25", content) == GOLDEN


@given(st.text(), st.decimals(0, 9_999_999_999, places=3), st.decimals(-1000, 1000, places=2))
def test_a_derived_id_is_of_what_the_content_says(device: str, ts: Decimal, value: Decimal) -> None:
    """However its numbers are written, and in any order; other content has another id. It sorts by time."""
    content = {"device_id": device, "ts": str(ts), "value": str(value)}
    made = derived_id(str(ts), content)
    parsed = uuid.UUID(made)
    assert (str(parsed), parsed.version, parsed.variant) == (made, 8, uuid.RFC_4122)
    assert time_of(made) == int(ts * 1000)
    longer = {"value": f"{value}00", "ts": f"{ts}0", "device_id": device}
    assert derived_id(f"{ts}0", longer) == made
    assert numbered(made) is None
    for name, text in (("device_id", f"{device}x"), ("value", str(value + 1))):
        assert derived_id(str(ts), {**content, name: text}) != made
    assert derived_id(str(ts), {"device_id": device, "ts": str(ts), "kpi": str(value)}) != made


numbers = st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?", fullmatch=True) | st.decimals(
    -1000, 1000, places=2
).map(str)


@given(st.text(), st.text(), st.decimals(-10, 9_999_999_999, places=3).map(str), st.text(), numbers)
def test_the_id_of_an_ordinary_event_is_made_in_one_go(
    device_id: str, zone: str, ts: str, kpi: str, value: str
) -> None:
    """And is the one of its content, with its bytes."""
    content = {"device_id": device_id, "zone": zone, "ts": ts, "kpi": kpi, "value": value}
    text = derived_id(ts, content)
    assert content_id(**content) == (text, uuid.UUID(text).bytes)


@given(numbers)
def test_a_number_counts_by_its_value_however_it_is_written(value: str) -> None:
    """Also where it is written as shortly as can be, and needs no arithmetic."""
    assert _by_value(value) == str(Decimal(value).normalize() + 0)


def test_parts_of_a_derived_id_are_not_moved_between_fields() -> None:
    """What stands at the end of one text and the beginning of the next is not the same."""
    one = derived_id("1", {"device_id": "ab", "kpi": "c"})
    assert derived_id("1", {"device_id": "a", "kpi": "bc"}) != one
    assert derived_id("-5", {"device_id": "ab"}) == derived_id("-5.0", {"device_id": "ab"})
