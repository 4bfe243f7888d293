"""What waits in the stream: entry by entry, for the audit, or how many, for whoever waits as well."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import redis

from services.brokers.redis.consuming.backlog import read_backlog
from services.brokers.redis.consuming.entries import about, after, count_events, pages
from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.server.entry_ids import id_parts
from services.contract.consuming.packed_letters import whole_lines
from services.contract.operating import Waiting

_PAGE: Final = 2000


def read_waiting(client: redis.Redis, keys: StreamKeys) -> Iterator[Waiting]:
    """Give each event of an entry that our group has yet to acknowledge. Raises redis.RedisError."""
    backlog = read_backlog(client, keys)
    if backlog is None:
        # No group: whatever is in the stream was delivered to nobody.
        for entry_id, fields in _entries(client, keys.stream, "-"):
            yield from _events(entry_id, fields, is_delivered=False)
        return
    delivered = id_parts(backlog.last_delivered_id)
    pending = _pending_ids(client, keys)
    next_pending = next(pending, None)
    unseen: list[str] = []
    for entry_id, fields in _entries(
        client, keys.stream, backlog.oldest_pending_id or after(backlog.last_delivered_id)
    ):
        here = id_parts(entry_id)
        while next_pending is not None and id_parts(next_pending) < here:
            unseen.append(next_pending)
            next_pending = next(pending, None)
        is_pending = entry_id == next_pending
        if is_pending:
            next_pending = next(pending, None)
        # What was delivered since the backlog was read is pending by now, and was undelivered then.
        if here > delivered:
            yield from _events(entry_id, fields, is_delivered=False)
        elif is_pending:
            yield from _events(entry_id, fields, is_delivered=True)
    if next_pending is not None:
        unseen += [next_pending, *pending]
    for entry_id in _still_pending(client, keys, unseen):
        yield Waiting(entry_id, None, is_delivered=True, has_content=False)


def events_added(client: redis.Redis, keys: StreamKeys) -> int | None:
    """Ask how many events the stream has ever had; None where nobody counts. Raises redis.RedisError.

    An entry that others than our producers have added counts as one event, however many it has.
    """
    try:
        added, events = about(client, keys.stream).get("entries-added"), count_events(client, keys)
    except redis.ResponseError as error:
        if "no such key" in str(error):
            return None
        raise
    return None if added is None or events is None else int(added) + events.more


def _still_pending(client: redis.Redis, keys: StreamKeys, entry_ids: list[str]) -> Iterator[str]:
    """Give those that are pending still: the others were acknowledged and trimmed meanwhile."""
    for first in range(0, len(entry_ids), _PAGE):
        asked = client.pipeline(transaction=False)
        for entry_id in entry_ids[first : first + _PAGE]:
            asked.xpending_range(keys.stream, keys.group, entry_id, entry_id, 1)
        for page in asked.execute():
            yield from (one["message_id"].decode() for one in page)


def _entries(
    client: redis.Redis, stream: str, start: str | None
) -> Iterator[tuple[str, Mapping[bytes, bytes]]]:
    if start is not None:
        for page in pages(client, stream, start):
            for entry_id, fields in page:
                yield entry_id.decode(), fields


def _pending_ids(client: redis.Redis, keys: StreamKeys) -> Iterator[str]:
    start: str | None = "-"
    while start is not None:
        page = cast("list[Any]", client.xpending_range(keys.stream, keys.group, start, "+", _PAGE))
        for one in page:
            yield one["message_id"].decode()
        start = after(page[-1]["message_id"]) if page else None


def _events(entry_id: str, fields: Mapping[bytes, bytes], *, is_delivered: bool) -> Iterator[Waiting]:
    """Give the events of an entry: of many, each of those whose line has an end."""
    packed = None if b"lines" not in fields else whole_lines([*itertools.chain.from_iterable(fields.items())])
    if packed is None:
        yield Waiting(entry_id, _text(fields.get(b"event_id")), is_delivered)
        return
    for number, event in enumerate(packed.events(), start=1):
        yield Waiting(f"{entry_id}/{number}", _text(event[1]), is_delivered)


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode(errors="replace")
