"""Arrays as PostgreSQL reads them: what is of another kind than its column is refused before it is sent."""

import struct
from collections.abc import Callable
from typing import Any

import pytest
from samples import id_of

from services.stores.postgres import arrays
from services.stores.postgres.arrays import Unstorable

ONE = id_of(1)

REFUSED: dict[str, tuple[Callable[[Any], bytes], list[Any]]] = {
    "an id without a dash": (arrays.ids, [ONE, ONE.replace("-", "", 1)]),
    "an id without any": (arrays.ids, [ONE.replace("-", "")]),
    "an id of digits alone": (arrays.ids, [ONE.replace("-", "0")]),
    "an id of other letters": (arrays.ids, ["x" * 36]),
    "no id": (arrays.ids, [None]),
    "a number for an id": (arrays.ids, [7]),
    "a truth value for a number": (arrays.floats, [1.0, True]),
    "a text for a number": (arrays.floats, ["1"]),
    "a whole number beyond 64 bits": (arrays.floats, [2**63]),
    "a whole number below 64 bits": (arrays.floats, [-(2**63) - 1, 1.0]),
    "another flag": (arrays.flags, [2]),
    "no flag": (arrays.flags, [None]),
    "a list for a flag": (arrays.flags, [[]]),
    "a list for a text": (arrays.Texts(), [["x"]]),
    "no text": (arrays.Texts(), [None]),
    "bytes for a text": (arrays.Texts(), [b"x"]),
    "half of a surrogate pair": (arrays.Texts(), ["\ud800"]),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_of_another_kind_is_refused(case: tuple[Callable[[Any], bytes], list[Any]]) -> None:
    """Each alone: nothing before it has to fail for it."""
    write, column = case
    with pytest.raises(Unstorable):
        write(column)


def values(data: bytes, size: int) -> list[bytes]:
    """Take an array's values of that size apart."""
    count, first = struct.unpack(">ii", data[12:20])
    assert first == 1
    assert len(data) == 20 + count * (4 + size)
    return [data[at + 4 : at + 4 + size] for at in range(20, len(data), 4 + size)]


def test_numbers_are_stored_up_to_their_limits() -> None:
    """Whole ones of 64 bits, and whatever a float holds beside them."""
    column = [-(2**63), 2**63 - 1, 1e300, -1e300, 0, 0.5]
    assert [struct.unpack(">d", one)[0] for one in values(arrays.floats(column), 8)] == [
        float(one) for one in column
    ]


def test_ids_and_flags_are_written_in_their_order() -> None:
    """A truth value is a flag as well."""
    ids = values(arrays.ids([ONE, id_of(2)]), 16)
    assert [one.hex() for one in ids] == [ONE.replace("-", ""), id_of(2).replace("-", "")]
    assert values(arrays.flags([0, 1, True, False]), 1) == [b"\0", b"\1", b"\1", b"\0"]


def test_the_length_of_a_text_is_that_of_its_bytes() -> None:
    """Whether it may come again or not."""
    for write in (arrays.Texts(), arrays.some_texts):
        assert write(["é☃"])[20:] == struct.pack(">i", 5) + "é☃".encode()


def test_a_text_may_be_null_and_an_empty_one_is_not() -> None:
    """Null has a length of its own, and the header says that there is one."""
    assert arrays.some_texts(["", None])[20:] == struct.pack(">ii", 0, -1)
    assert [arrays.some_texts(column)[7] for column in ([""], ["", None])] == [0, 1]


@pytest.mark.parametrize(
    "write", [arrays.ids, arrays.Texts(), arrays.some_texts, arrays.floats, arrays.flags]
)
def test_an_array_of_nothing_has_no_dimension(write: Callable[[Any], bytes]) -> None:
    """PostgreSQL knows no other empty one."""
    data = write([])
    assert data[:8] == struct.pack(">ii", 0, 0)
    assert len(data) == 12


def test_no_more_texts_are_kept_than_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends another name each time fills no memory, and each is written as itself."""
    monkeypatch.setattr(arrays, "_MOST_KEPT", 10)
    write = arrays.Texts()
    for number in range(35):
        assert values(write([f"{number:04}"] * 2), 4) == [b"%04d" % number] * 2
        assert len(write._pieces) <= 10
