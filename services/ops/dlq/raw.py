"""`telemetry dlq show --raw`: all of an entry that was too large to be read, from where the server keeps it.

The server has cut it into pieces (services/brokers/redis/lua/move.lua): all names and values in turn, each
written as LENGTH:BYTES. They are read and written piece by piece, so it takes little memory here, whatever
the size. Nothing of it is written as it is: bytes become base64.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

import redis

from services.ops.dlq.letters import LetterStore, newest_of
from services.ops.failures import CommandFailed

_LONGEST_LENGTH: Final = 20
"""Digits."""


def raw_json(client: redis.Redis, key: str, letters: LetterStore, entry_id: str) -> Iterator[str]:
    """Give an entry as one JSON document, in parts: names and values as base64.

    Raises CommandFailed where it is not kept, or not all of it, and redis.RedisError.
    """
    pieces = _pieces(client, key, entry_id)
    if (first := next(pieces, None)) is not None:
        yield from _document(entry_id, _parts(_all(first, pieces)))
        return
    letter = newest_of(letters, entry_id)
    if letter is None:
        raise CommandFailed(f"no dead letter of entry {entry_id!r}")
    if letter.letter.truncated:
        raise CommandFailed(
            f"entry {entry_id} is kept no more, or never was: the server lacked the memory, the consumer the "
            f"right, or later ones needed the room in {key}. telemetry dlq show {entry_id} has its beginning"
        )
    yield from _document(entry_id, ([part] for part in letter.letter.fields))


def _pieces(client: redis.Redis, key: str, entry_id: str) -> Iterator[bytes]:
    """Give the pieces of an entry; raises CommandFailed where one is missing."""
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
        raise CommandFailed(f"entry {entry_id}: piece {wanted} of {of} is missing in {key}")


def _all(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _parts(pieces: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    """Cut names and values out of the pieces, each as the bytes come. Raises CommandFailed."""
    held = b""

    def body(left: int) -> Iterator[bytes]:
        nonlocal held
        while left:
            if not held:
                held = next(pieces, b"")
                if not held:
                    raise CommandFailed("what the server keeps of this entry ends in the middle")
            some, held = held[:left], held[left:]
            left -= len(some)
            yield some

    while True:
        while b":" not in held[: _LONGEST_LENGTH + 1]:
            piece = next(pieces, b"")
            if not piece or len(held) > _LONGEST_LENGTH:
                break
            held += piece
        if not held:
            return
        digits, _, held = held.partition(b":")
        if not digits.isdigit() or len(digits) > _LONGEST_LENGTH:
            raise CommandFailed("what the server keeps of this entry was not written by a consumer")
        yield body(int(digits))


def _document(entry_id: str, parts: Iterable[Iterable[bytes]]) -> Iterator[str]:
    yield f'{{"entry_id": {json.dumps(entry_id)}, "fields": ['
    for number, part in enumerate(parts):
        yield "[" if number == 0 else ", [" if number % 2 == 0 else ", "
        yield '{"base64": "'
        carry = b""
        for some in part:
            carry += some
            whole = len(carry) - len(carry) % 3
            yield base64.b64encode(carry[:whole]).decode()
            carry = carry[whole:]
        yield base64.b64encode(carry).decode()
        yield '"}]' if number % 2 else '"}'
    yield "]}"
