"""Columns of a batch as PostgreSQL's binary arrays: some bytes joined for each value, and no object made.

An array is a header, then for each value its length and its bytes, all of it big-endian. psycopg's own way
there costs twice as much (docs/decisions/0040). What is no text, no number or no id raises here, as it
can't be stored.
"""

import struct
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any, Final

_UUID: Final = 2950
_TEXT: Final = 25
_FLOAT: Final = 701
_BOOL: Final = 16
_MOST_KEPT: Final = 65_536
"""Texts whose bytes are kept: names of devices, zones and KPIs come again and again."""
_LENGTH_OF_ID: Final = "00000010"
_ID_CHARS: Final = 36
_MOST_WHOLE: Final = 1 << 63


class Unstorable(ValueError):
    """A value is of another kind than its column."""


def header(type_oid: int, count: int) -> bytes:
    """Begin an array of one dimension, with its first value at 1; an empty one has none."""
    return struct.pack(">iiIii", 1, 0, type_oid, count, 1) if count else struct.pack(">iiI", 0, 0, type_oid)


def ids(column: Sequence[Any]) -> bytes:
    """Write ids in canonical text as uuid[]. Raises Unstorable."""
    try:
        if set(map(len, column)) - {_ID_CHARS}:
            raise Unstorable("event_id is no canonical UUID")
        data = bytes.fromhex(_LENGTH_OF_ID + _LENGTH_OF_ID.join(column).replace("-", "")) if column else b""
    except (ValueError, TypeError) as error:
        raise Unstorable(f"event_id is no canonical UUID: {error}") from None
    if len(data) != 20 * len(column):
        raise Unstorable("event_id is no canonical UUID")
    return header(_UUID, len(column)) + data


class _Pieces(dict[str, bytes]):
    """Length and bytes of each text, made when it is first met."""

    def __missing__(self, text: str) -> bytes:
        data = text.encode()
        piece = struct.pack(">i", len(data)) + data
        if len(self) >= _MOST_KEPT:
            self.clear()
        self[text] = piece
        return piece


class Texts:
    """Writes texts as text[], and remembers those that come again."""

    def __init__(self) -> None:
        self._pieces = _Pieces()

    def __call__(self, column: Sequence[Any]) -> bytes:
        """Write them. Raises Unstorable."""
        try:
            return header(_TEXT, len(column)) + b"".join([self._pieces[text] for text in column])
        except (AttributeError, TypeError, UnicodeEncodeError, struct.error) as error:
            raise Unstorable(f"a name is no text that can be stored: {error}") from None


def some_texts(column: Sequence[str | None]) -> bytes:
    """Write texts that don't come again as text[], None as null. Raises UnicodeEncodeError."""
    if not column:
        return header(_TEXT, 0)
    data = [None if text is None else text.encode() for text in column]
    pieces = [b"\xff\xff\xff\xff" if one is None else struct.pack(">i", len(one)) + one for one in data]
    return struct.pack(">iiIii", 1, int(None in data), _TEXT, len(data), 1) + b"".join(pieces)


def floats(column: Sequence[Any]) -> bytes:
    """Write numbers as float8[]. Raises Unstorable."""
    count = len(column)
    kinds = set(map(type, column))
    if kinds - {float, int} or (int in kinds and not _are_small(column)):
        raise Unstorable("a number is none that can be stored")
    try:
        pairs = chain.from_iterable(zip(repeat(8), column, strict=False))
        return header(_FLOAT, count) + struct.pack(f">{'id' * count}", *pairs)
    except (struct.error, OverflowError, TypeError) as error:
        raise Unstorable(f"a number is none that can be stored: {error}") from None


def _are_small(column: Sequence[Any]) -> bool:
    """Tell whether each whole number has 64 bits at most: more of them no float holds."""
    return all(-_MOST_WHOLE <= one < _MOST_WHOLE for one in column if isinstance(one, int))


_FLAGS: Final = {0: b"\0\0\0\1\0", 1: b"\0\0\0\1\1"}


def flags(column: Sequence[Any]) -> bytes:
    """Write 0 and 1 as bool[]. Raises Unstorable."""
    try:
        return header(_BOOL, len(column)) + b"".join([_FLAGS[flag] for flag in column])
    except (KeyError, TypeError):
        raise Unstorable("is_degraded is neither 0 nor 1") from None


def float_value(value: float) -> bytes:
    """Write one number as float8."""
    return struct.pack(">d", value)
