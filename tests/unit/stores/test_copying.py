"""The one form that values have between stores."""

import json

from hypothesis import given
from hypothesis import strategies as st
from samples import dead, event_fields

from services.contract.consuming.letter import dead_letter
from services.stores.copying import Purge, digest, in_order, is_purged, microseconds


@given(st.integers(0, 4_102_444_800_000_000))
def test_every_microsecond_is_a_time_of_its_own(us: int) -> None:
    """As a float it is the nearest one, and read from there it is the same: till the year 2100."""
    assert microseconds(us / 1_000_000) == us


def test_a_time_of_more_digits_is_rounded_as_decimals_are() -> None:
    """This one lies half-way as a product, and below it as a number."""
    assert microseconds(1_700_000_000 + 2 / 7) == 1_700_000_000_285_714


@given(st.dictionaries(st.text(), st.text()))
def test_equal_objects_are_equal_texts(texts: dict[str, str]) -> None:
    """Whatever the order of their names."""
    backwards = dict(reversed(texts.items()))
    assert in_order(json.dumps(texts)) == in_order(json.dumps(backwards, indent=1))
    assert json.loads(str(in_order(json.dumps(texts)))) == texts
    assert in_order(None) is None


def test_a_letter_is_purged_by_a_later_note_alone() -> None:
    """An entry that is delivered once more may leave a letter after its first one was purged."""
    letter = dead_letter(dead(1), 1_700_000_200.25, "consumer-1")
    note = Purge(letter.entry_id, 1_700_000_200_250_000, None, "x", None)
    assert note.is_of(letter)
    assert not note._replace(purged_at_us=note.purged_at_us - 1).is_of(letter)


def test_a_letter_of_many_events_is_purged_with_the_last_of_them() -> None:
    """A purge notes each event; a note of the entry is for every letter that it had."""
    lines = b"".join(b"\t".join(event_fields(number)[1::2]) + b"\n" for number in (1, 2))
    packed = dead(1, [b"events", b"2", b"lines", lines])
    letter = dead_letter(packed, 1_700_000_200.25, "consumer-1")
    entry_id = letter.entry_id

    def notes(*names: str, at: int = 1_700_000_200_250_000) -> dict[str, Purge]:
        return {name: Purge(name, at, None, "x", None) for name in names}

    assert is_purged(letter, notes(f"{entry_id}/1", f"{entry_id}/2"))
    assert is_purged(letter, notes(entry_id))
    assert not is_purged(letter, notes(f"{entry_id}/1"))
    assert not is_purged(letter, notes(f"{entry_id}/1", f"{entry_id}/2", at=1_700_000_200_249_999))
    assert not is_purged(letter, {})


def test_lines_have_names_of_their_own() -> None:
    """Whatever is in them."""
    assert len({digest("a"), digest("b"), digest("é\ud800".encode("utf-8", "replace").decode())}) == 3
