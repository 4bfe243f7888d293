"""A large entry's names and values are cut out of its pieces, wherever the pieces end."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.brokers.redis.operating.large import parts_of
from services.contract.errors import EntryDamaged

PARTS = st.lists(st.binary(max_size=30) | st.sampled_from([b":", b"1:", b"0" * 21]), max_size=20)


def _written(parts: list[bytes]) -> bytes:
    return b"".join(b"%d:%b" % (len(part), part) for part in parts)


def _read(pieces: list[bytes]) -> list[bytes]:
    found = parts_of(iter(pieces))
    return [] if found is None else [b"".join(part) for part in found]


@given(PARTS, st.data())
def test_a_part_is_whole_wherever_a_piece_ends(parts: list[bytes], data: st.DataObject) -> None:
    """Also in the middle of a length."""
    text = _written(parts)
    ends = data.draw(st.sets(st.integers(1, max(1, len(text)))))
    cuts = sorted({0, len(text), *(end for end in ends if end < len(text))})
    assert _read([text[start:end] for start, end in pairwise(cuts)]) == parts


@given(PARTS.filter(len), st.data())
def test_what_ends_in_the_middle_is_no_entry(parts: list[bytes], data: st.DataObject) -> None:
    """Of the last part at least a byte is missing."""
    *before, last = parts
    text = _written([*before, last + b"."])
    missing = data.draw(st.integers(1, len(last) + 1))
    with pytest.raises(EntryDamaged, match="ends in the middle"):
        _read([text[:-missing]])


@pytest.mark.parametrize("text", [b"x", b":", b"-1:a", b"1x:a", b"1:a?", b"1" * 21 + b":", b"1" * 40])
def test_what_no_consumer_has_written_is_told(text: bytes) -> None:
    """In one piece, and in pieces of a byte."""
    with pytest.raises(EntryDamaged, match="was not written by a consumer"):
        _read([text])
    with pytest.raises(EntryDamaged, match="was not written by a consumer"):
        _read([bytes([one]) for one in text])


def test_what_goes_on_without_a_length_is_not_read_to_its_end() -> None:
    """It may be gigabytes."""
    pieces = iter([b"1"] * 1000)
    found = parts_of(pieces)
    assert found is not None
    with pytest.raises(EntryDamaged):
        next(found)
    assert len(list(pieces)) > 900
