"""Looks at the entries of a stream of which some may be large: no more comes here than fits into memory.

What needs no content is counted and named on the server, by scripts. Whoever may run none, and whoever needs
the content, reads pages that grow with what was small.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, cast

import redis

from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.server.connection import lacks_command, lacks_right
from services.brokers.redis.server.scripts import Script, read_script

LAST_ID: Final = "18446744073709551615-18446744073709551615"
"""The last possible id; the server takes no range behind it."""

_MOST: Final = 2000
_PAGE_BYTES: Final = 1 << 20
"""A page of more is followed by a smaller one."""
_ABOUT: Final = Script(read_script("consuming/about.lua"))
_COUNT: Final = Script(read_script("consuming/count.lua"))
_LENGTH: Final = Script(read_script("server/length.lua"))

Entry = tuple[bytes, Mapping[bytes, bytes]]


class Counted(NamedTuple):
    """Entries that were counted."""

    number: int
    first: str | None = None
    last: str | None = None


class Events(NamedTuple):
    """Events of the entries of a stream."""

    there: int
    """Of those that are there."""
    more: int
    """How many more events than entries were ever added, as far as producers of ours did."""


def about(client: redis.Redis, stream: str) -> dict[str, Any]:
    """Give what XINFO STREAM tells; of `first-entry` and `last-entry` the id alone is sure to be there.

    Raises redis.RedisError.
    """
    try:
        answer = _ABOUT.run(client, [stream])
    except redis.ResponseError as error:
        if not _is_of_scripts(error):
            raise
        return client.xinfo_stream(stream)
    return {name.decode(): value for name, value in zip(answer[::2], answer[1::2], strict=True)}


def count(client: redis.Redis, stream: str, start: str, most: int) -> Counted:
    """Count the entries of a range, at most so many. Raises redis.RedisError."""
    number = 0
    first: str | None = None
    at: str | None = start
    last: str | None = None
    while at is not None and number < most:
        try:
            more, *ids = _COUNT.run(client, [stream], at, min(_MOST, most - number))
        except redis.ResponseError as error:
            if not _is_of_scripts(error):
                raise
            return _count_here(client, stream, start, most)
        if not more:
            break
        number += more
        last = ids[1].decode()
        first = first or ids[0].decode()
        at = after(last)
    return Counted(number, first, last)


def count_events(client: redis.Redis, keys: StreamKeys) -> Events | None:
    """Count the events of a stream: too many rather than too few (server/events.lua).

    None where this user, or the server, lets nobody count. Raises redis.RedisError.
    """
    try:
        return Events(*_LENGTH.run(client, [keys.stream, keys.events]))
    except redis.ResponseError as error:
        if not _is_of_scripts(error):
            raise
        return None


def pages(client: redis.Redis, stream: str, start: str, most: int = _MOST) -> Iterator[list[Entry]]:
    """Give the entries of a range in pages: of one entry at first, and no larger than fits into memory.

    Raises redis.RedisError.
    """
    at: str | None = start
    number = 1
    while at is not None and (page := cast("list[Entry]", client.xrange(stream, at, "+", count=number))):
        yield page
        size = sum(len(name) + len(value) for _, fields in page for name, value in fields.items())
        number = min(most, 2 * number) if size < _PAGE_BYTES else max(1, number // 2)
        at = after(page[-1][0])


def after(entry_id: bytes | str) -> str | None:
    """Give the start of a range behind an entry; None behind the last possible id, where none can be."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    return None if text == LAST_ID else f"({text}"


def _count_here(client: redis.Redis, stream: str, start: str, most: int) -> Counted:
    number = 0
    first = last = None
    for page in pages(client, stream, start):
        first, last = first or page[0][0].decode(), page[-1][0].decode()
        number += len(page)
        if number >= most:
            break
    return Counted(number, first, last)


def _is_of_scripts(error: redis.ResponseError) -> bool:
    return lacks_right(error) or lacks_command(error)
