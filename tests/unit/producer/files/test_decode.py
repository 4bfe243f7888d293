"""Packed, encoded, hostile: what comes out is text in bounded memory, or an end with its reason."""

import gzip
import io
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.producer.files.decode import SourceBroken, decoded
from services.producer.files.lines import Bytes


def all_of(source: Bytes, size: int = 1000) -> bytes:
    return b"".join(iter(lambda: source.read(size) or b"", b""))


def decode(data: bytes, encoding: str | None = None) -> tuple[Bytes, bool]:
    _, whole, is_changed = decoded(io.BytesIO(data), "file", encoding, lambda: False)
    return whole, is_changed


@given(data=st.binary(max_size=200), parts=st.integers(1, 3), size=st.integers(1, 50))
def test_gzip_of_any_members_gives_what_was_packed(data: bytes, parts: int, size: int) -> None:
    """A logger that rotates appends members to each other."""
    text = b"line\n" + data
    whole, is_changed = decode(gzip.compress(text) * parts)
    assert is_changed
    if not text.startswith((b"\xff\xfe", b"\xfe\xff")):
        assert all_of(whole, size) == text * parts


@given(text=st.text(alphabet="aé°\n,€\U0001f321", min_size=4, max_size=60))
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_seen_by_itself(encoding: str, text: str) -> None:
    """By its mark, or by the NUL bytes of an ASCII beginning."""
    text = f"ts,value\n{text}"
    whole, is_changed = decode(text.encode(encoding))
    assert is_changed
    assert all_of(whole).removeprefix(b"\xef\xbb\xbf").decode() == text


def test_what_is_no_character_of_an_encoding_makes_its_line_no_utf_8() -> None:
    """And no other line."""
    whole, _ = decode("a\nb".encode("utf-16-le") + b"\x00\xdc" + "\nc".encode("utf-16-le"), "utf-16-le")
    first, second, third = all_of(whole).split(b"\n")
    assert (first, third) == (b"a", b"c")
    with pytest.raises(UnicodeDecodeError):
        second.decode()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "idna"])
def test_what_is_not_of_an_encoding_at_all_is_told(encoding: str) -> None:
    """Such as UTF-16 without a mark at its beginning, which has to be named with the order of its bytes."""
    with pytest.raises(SourceBroken, match=rf"a.csv: not {encoding} \(--encoding\)"):
        decoded(io.BytesIO(b"ts,value\n1,2\n"), "a.csv", encoding, lambda: False)


def test_carriage_returns_alone_end_lines_and_others_stay() -> None:
    """A file of an old system, and one of Windows."""
    whole, _ = decode(b"a\rb\rc\r")
    assert all_of(whole) == b"a\nb\nc\n"
    whole, _ = decode(b"a\r\nb\r\n")
    assert all_of(whole) == b"a\r\nb\r\n"


@pytest.mark.parametrize("cut", [5, 30, 60])
def test_a_cut_gzip_file_is_told(cut: int) -> None:
    """What came before the cut is read."""
    data = gzip.compress(b"".join(b"%d\n" % n for n in range(1000)))
    whole, _ = decode(data[:-cut])
    with pytest.raises(SourceBroken, match="gzip"):
        all_of(whole)


def test_a_zip_bomb_costs_bounded_time_and_memory() -> None:
    """It is no measurement."""
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(b"\n" * (1 << 20)) for _ in range(300)) + packer.flush()
    whole, _ = decode(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(SourceBroken, match="unpacks to more than 500 times"):
            sum(1 for _ in iter(lambda: whole.read(1 << 16), b""))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000
