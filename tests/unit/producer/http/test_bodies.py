"""The body of a request."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.producer.http.bodies import Body, Memory
from services.producer.http.refusals import TurnedAway

MOST = 1000


def read(*chunks: bytes, encoding: str = "gzip") -> bytes:
    """Read a body that comes in these chunks."""

    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    with Body(Memory(MOST), MOST) as body:
        return asyncio.run(body.read(stream(), encoding, "", 60))


def refused(*chunks: bytes) -> TurnedAway:
    """Give why a body is refused."""
    with pytest.raises(TurnedAway) as raised:
        read(*chunks)
    return raised.value


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=4), st.lists(st.integers(0, 200), max_size=5))
def test_packed_members_are_all_read_wherever_they_end(texts: Sequence[bytes], cuts: Sequence[int]) -> None:
    """A sender that packs each of its batches sends several, and any of them may end with a chunk."""
    packed = b"".join(map(gzip.compress, texts))
    places = sorted({0, len(packed), *(cut for cut in cuts if cut < len(packed))})
    assert read(*(packed[start:end] for start, end in pairwise(places))) == b"".join(texts)


def test_no_part_of_a_body_is_passed_over() -> None:
    """What stands behind a member is another, or the whole is refused: it must not look published."""
    one, two = gzip.compress(b"m v=1\n"), gzip.compress(b"m v=2\n")
    assert read(one, two) == b"m v=1\nm v=2\n"
    for chunks in (
        (one, b"m v=2\n"),
        (one + b"m v=2\n",),
        (one, two[:-1]),
        (one + two[:-1],),
        (one[:-1],),
        (),
    ):
        assert refused(*chunks).status == 400
    assert refused(one + b"\0" * 8).status == 400


def test_what_it_unpacks_to_is_bounded() -> None:
    """In one member or in many."""
    most = gzip.compress(b"x" * MOST)
    assert read(most) == b"x" * MOST
    assert refused(gzip.compress(b"x" * (MOST + 1))).status == 413
    assert refused(most, gzip.compress(b"x")).status == 413
    assert refused(gzip.compress(b"\0" * 50_000_000)).status == 413
    empty = zlib.compressobj(wbits=31)
    assert read(gzip.compress(b"") * 1000, empty.flush()) == b""
