"""JSON of any size and shape is cut into readings, each with its place; a bad one costs itself."""

import io
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.producer.files.decode import SourceBroken
from services.producer.files.documents import Documents
from services.producer.files.lines import Record

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


class InPortions:
    """Bytes that come by the few, and sometimes not at once."""

    def __init__(self, data: bytes, size: int) -> None:
        self._rest = io.BytesIO(data)
        self._size = size
        self._turn = 0

    def read(self, _size: int, /) -> bytes | None:
        self._turn += 1
        return None if self._turn % 3 == 0 else self._rest.read(self._size)


def cut(data: bytes, size: int = 1 << 16, **more: Any) -> list[Record]:
    return [one for one in Documents(InPortions(data, size), "file", **more) if one is not None]


@given(found=st.lists(values, max_size=6), indent=st.sampled_from([None, 1]), size=st.integers(1, 40))
def test_a_list_is_cut_into_its_elements(found: list[Any], indent: int | None, size: int) -> None:
    """In whatever portions it comes; each with the bytes behind it and the line that it begins on."""
    data = json.dumps(found, indent=indent, ensure_ascii=False).encode()
    records = cut(data, size)
    assert [json.loads(one.data) for one in records] == found
    for one in records:
        begins = one.end - len(one.data)
        assert data[begins : one.end] == one.data
        assert one.line == data.count(b"\n", 0, begins) + 1
        assert one.end_line == data.count(b"\n", 0, one.end)
    for one in records:
        rest = cut(data, size, offset=one.end, line=one.end_line)
        assert rest == [other for other in records if other.end > one.end]


@given(
    found=st.lists(st.dictionaries(st.text(max_size=3), values, max_size=3), max_size=5),
    size=st.integers(1, 40),
)
def test_documents_may_follow_each_other(found: list[Any], size: int) -> None:
    """On a line each, on several, or with nothing between them."""
    for between in ("\n", "", " \x1e", "\n\n"):
        data = between.join(json.dumps(one, indent=1) for one in found).encode()
        assert [json.loads(one.data) for one in cut(data, size)] == found


@given(size=st.integers(1, 30))
def test_a_list_is_found_by_its_path_with_what_stands_before_it(size: int) -> None:
    """Names of devices stand beside their readings; what is large does not."""
    document = {
        "site": "barn",
        "big": ["x" * 9000] * 3,
        "data": {"unit": "C", "items": [1, {"a": 2}]},
        "more": 3,
    }
    records = cut(json.dumps(document).encode(), size * 7, keys=("data", "items"))
    assert [json.loads(one.data) for one in records] == [1, {"a": 2}]
    assert records[0].around == ({"unit": "C"}, {"site": "barn"})


def test_a_document_without_the_list_is_one_refusal() -> None:
    """The next document is read."""
    records = cut(b'{"a": 1}\n{"items": [5]}\n7', keys=("items",))
    assert [one.problem for one in records] == ["no list at items", "", "no list at items"]
    assert records[1].data == b"5"


def test_an_element_that_is_no_json_costs_itself() -> None:
    """Where its brackets are closed."""
    assert [one.data for one in cut(b"[{'a': 1}, {\"b\": oops}, 3, nan]")] == [
        b"{'a': 1}", b'{"b": oops}', b"3", b"nan",
    ]  # fmt: skip


@pytest.mark.parametrize("data", [b"[1, 2", b'{"items": [1', b'["a', b"[1}", b'{"items" 1}', b"]"])
def test_a_structure_that_breaks_is_told_with_its_line(data: bytes) -> None:
    """What came before it is read."""
    with pytest.raises(SourceBroken, match="file:1: not JSON"):
        cut(data, keys=("items",) if data.startswith(b"{") else ())


def test_an_endless_value_takes_no_memory_and_the_next_is_read() -> None:
    """A text, an object or a number without an end."""
    for begins, ends in ((b'"', b'"'), (b'{"a":"', b'"}'), (b"1", b" ")):
        data = b"[1, " + begins + b"1" * 20_000_000 + ends + b", 2]"
        tracemalloc.start()
        records = [one for one in Documents(io.BytesIO(data), "file") if one is not None]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert [(one.data, bool(one.problem)) for one in records] == [
            (b"1", False),
            (b"", True),
            (b"2", False),
        ]
        assert records[-1].end == len(data) - 1
        assert peak < 8_000_000


@given(
    data=st.binary(max_size=120)
    | st.lists(st.sampled_from([b"[", b"]", b"{", b"}", b'"', b",", b":", b"\\", b"1"])).map(b"".join)
)
def test_no_bytes_hang_or_crash_it(data: bytes) -> None:
    """Each byte is passed once, or the break is told."""
    for keys in ((), ("a",)):
        try:
            records = cut(data, 7, keys=keys)
        except SourceBroken:
            continue
        ends = [one.end for one in records]
        assert ends == sorted(set(ends))
