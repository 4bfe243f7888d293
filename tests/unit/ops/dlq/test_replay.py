"""What is published for a dead letter."""

from hypothesis import given
from hypothesis import strategies as st
from samples import KPIS, NOW, entry, event_fields, flat, id_of, raw_fields

from services.contract.consuming.doors import Dead
from services.contract.consuming.letter import dead_letter, parse_letter
from services.contract.event import Event, Rejection
from services.ops.dlq.letters import Letter
from services.ops.dlq.replay import FIELDS, Mending, prepare, readable_event_id
from services.steps import reject


def _letter(fields: list[bytes]) -> Letter:
    written = dead_letter(Dead(entry(1, fields), Rejection("decode", "not_utf8", "why")), NOW, "consumer")
    return Letter(parse_letter(written.to_json()), None)


@given(raw_fields)
def test_unmended_every_byte_is_published_as_received(fields: list[bytes]) -> None:
    """Through the letter and back: bytes that are no text, and names given twice."""
    assert Mending().fields(_letter(fields).letter) == fields


@given(raw_fields, st.dictionaries(st.sampled_from(FIELDS), st.text(max_size=9)))
def test_a_mended_field_comes_once_and_the_others_stay(fields: list[bytes], values: dict[str, str]) -> None:
    """Whatever the entry was, and whatever is set."""
    mended = Mending(values).fields(_letter(fields).letter)
    pairs = list(zip(mended[::2], mended[1::2], strict=True))
    for name, value in values.items():
        assert [found for key, found in pairs if key == name.encode()] == [value.encode()]
    names = {name.encode() for name in values}
    received = zip(fields[::2], fields[1::2], strict=True)
    assert [pair for pair in pairs if pair[0] not in names] == [
        pair for pair in received if pair[0] not in names
    ]


def test_a_field_is_left_out_on_the_way() -> None:
    """What nobody knows can be dropped, so that the rest is stored."""
    mended = Mending({}, ["colour"]).fields(_letter(event_fields(1, colour="blue")).letter)
    assert mended == event_fields(1)


def test_an_event_id_is_readable_when_there_is_one_text() -> None:
    """Missing, given twice, empty or no text: then there is none."""
    assert readable_event_id(event_fields(1)) == id_of(1)
    assert readable_event_id(event_fields(1)[2:]) is None
    assert readable_event_id(event_fields(1) + flat([("event_id", "x")])) is None
    assert readable_event_id(event_fields(1, event_id=b"\xff")) is None
    assert readable_event_id(event_fields(1, event_id="")) is None


def test_a_letter_that_still_breaks_a_rule_is_told_before_it_is_published() -> None:
    """By the same rules that the consumer will hold it to."""
    wrong = _letter(event_fields(1, value="-1"))
    told = prepare(wrong, Mending(), KPIS, NOW).objection
    assert told is not None
    assert told.reason == "value_negative"
    assert prepare(wrong, Mending({"value": "1.5"}), KPIS, NOW).objection is None


def test_the_steps_are_asked_beforehand() -> None:
    """What they mend is no objection, and what they refuse is one."""
    wrong = _letter(event_fields(1, value="-1"))

    def mend(event: Event) -> Event:
        return event._replace(value=abs(event.value))

    assert prepare(wrong, Mending(), KPIS, NOW, steps=[mend]).objection is None
    told = prepare(wrong, Mending(), KPIS, NOW, steps=[mend, lambda _: reject("not ours")]).objection
    assert told is not None
    assert told.reason == "rejected_by_step"
