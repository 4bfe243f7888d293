"""All of an entry that was too large to be read, from where the server keeps it.

The server has cut it into pieces (move.lua of consuming/reading): all names and values in turn, each
written as LENGTH:BYTES. They are read piece by piece, so it takes little memory here, whatever the size.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

import redis

from services.contract.errors import EntryDamaged

_LONGEST_LENGTH: Final = 20
"""Digits."""


def parts_of(pieces: Iterator[bytes]) -> Iterator[Iterator[bytes]] | None:
    """Cut an entry's names and values out of its pieces, in turn, each as its bytes come; None without any.

    Each is to be read to its end before the next. Raises EntryDamaged where they make no entry.
    """
    first = next(pieces, None)
    return None if first is None else _parts(_all(first, pieces))


def read_pieces(client: redis.Redis, key: str, entry_id: str) -> Iterator[bytes]:
    """Give the pieces of an entry; none where it is not kept.

    Raises EntryDamaged where one is missing, and redis.RedisError.
    """
    start, wanted, of = "-", 1, 0
    # One at a time: a server may limit what it sends at once.
    while page := cast("list[Any]", client.xrange(key, start, "+", count=1)):
        ((piece_id, fields),) = page
        start = f"({piece_id.decode()}"
        if fields.get(b"entry") != entry_id.encode():
            continue
        if fields.get(b"part") != str(wanted).encode() or not fields.get(b"of", b"").isdigit():
            break
        of = int(fields[b"of"])
        yield fields.get(b"bytes", b"")
        wanted += 1
        if wanted > of:
            return
    if of:
        raise EntryDamaged(f"entry {entry_id}: piece {wanted} of {of} is missing in {key}")


def _all(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _parts(pieces: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    # A view is cut without a copy: a piece may have hundreds of thousands of parts.
    held = memoryview(b"")

    def body(left: int) -> Iterator[bytes]:
        nonlocal held
        while left:
            if not held:
                held = memoryview(next(pieces, b""))
                if not held:
                    raise EntryDamaged("what the server keeps of this entry ends in the middle")
            some, held = held[:left], held[left:]
            left -= len(some)
            yield bytes(some)

    while True:
        while b":" not in (head := bytes(held[: _LONGEST_LENGTH + 1])) and len(head) <= _LONGEST_LENGTH:
            piece = next(pieces, b"")
            if not piece:
                break
            held = memoryview(head + piece)
        if not held:
            return
        digits, mark, _ = head.partition(b":")
        if not digits.isdigit() or len(digits) > _LONGEST_LENGTH:
            raise EntryDamaged("what the server keeps of this entry was not written by a consumer")
        held = held[len(digits) + len(mark) :]
        yield body(int(digits))
