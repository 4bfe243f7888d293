"""Entries too large to be read whole: how large an entry is, and what a dead letter keeps of it. Pure.

The server applies the same rules where it looks at entries before they are read
(brokers/redis/consuming/reading/large.lua), so it makes no difference who has looked.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from services.contract.codec import LINES, MARK, RawFields, is_packed
from services.contract.consuming.doors import Dead, Entry
from services.contract.event import LEAST_ENTRY_BYTES, Rejection

UNKNOWN_BYTES: Final = -1
"""The size of an entry that nobody could look at."""
BATCH_WEIGHT: Final = 12 << 20
"""What a batch may weigh: a consumer of 256 MiB makes dead letters of all of it, whatever the bytes are."""
_FIELD_WEIGHT: Final = 64
"""What a name or a value costs in memory beside its bytes."""
_HEAVY_BYTES: Final = 1 << 20

_MOST_PARTS: Final = 64
_MOST_OF_A_PART: Final = 1024
_MOST_BYTES: Final = 16384


def size_of(fields: RawFields) -> int:
    """Tell the size of an entry: the bytes of its names and values, at least one for each of them."""
    return max(sum(map(len, fields)), len(fields))


def weight_of(entries: Iterable[Entry]) -> int:
    """Tell what entries cost in memory, in bytes."""
    return sum(size_of(entry.fields) + _FIELD_WEIGHT * len(entry.fields) for entry in entries)


def burden_of(fields: RawFields) -> int:
    """Tell the size of an entry, or 0 for one of many events of which none is larger than a valid one."""
    size = size_of(fields)
    if is_packed(fields) and size <= LEAST_ENTRY_BYTES * fields[fields[::2].index(LINES) * 2 + 1].count(
        b"\n"
    ):
        return 0
    return size


def is_heavy(sizes: Iterable[int]) -> bool:
    """Tell whether entries larger than any valid one make up much of a batch. `sizes` in bytes."""
    return sum(size for size in sizes if size > LEAST_ENTRY_BYTES) > _HEAVY_BYTES


def beginning(fields: RawFields) -> list[bytes]:
    """Give the beginning of an entry: of its first names and values so much that a letter stays small."""
    parts: list[bytes] = []
    room = _MOST_BYTES
    for part in islice(fields, _MOST_PARTS):
        parts.append(part[: min(_MOST_OF_A_PART, room)])
        room -= len(parts[-1])
    return parts


def cut(entry: Entry, max_bytes: int) -> Entry:
    """Give an entry with its beginning alone, where it has more bytes than that."""
    if entry.is_cut or (size := size_of(entry.fields)) <= max_bytes:
        return entry
    return entry._replace(fields=beginning(entry.fields), full_size=size)


def limit_size(entries: Sequence[Entry], max_bytes: int) -> tuple[list[Entry], list[Dead]]:
    """Set apart what is too large, whoever has found that out; only its beginning is kept here.

    An event of many is none: its entry is not too large, and has its names besides the line by us alone.
    """
    whole: list[Entry] = []
    dead: list[Dead] = []
    for entry in entries:
        one = entry if MARK in entry.entry_id else cut(entry, max_bytes)
        if one.is_cut:
            dead.append(Dead(one, Rejection("receive", "entry_too_large", _why(one, max_bytes))))
        else:
            whole.append(one)
    return whole, dead


def _why(entry: Entry, max_bytes: int) -> str:
    if entry.full_size == UNKNOWN_BYTES:
        return f"delivered {entry.deliveries} times, never read whole, and its size can't be looked at"
    if entry.full_size > max_bytes:
        return f"{entry.full_size} bytes, more than MAX_ENTRY_BYTES {max_bytes}"
    return f"{entry.full_size} bytes, and it was delivered {entry.deliveries} times and never read whole"
