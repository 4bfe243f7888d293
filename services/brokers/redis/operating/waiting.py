"""What waits in the stream: entry by entry, for the audit, or how many, for whoever waits as well."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import redis

from services.brokers.redis.backlog import read_backlog
from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.server.entries import about, after, pages
from services.brokers.redis.server.entry_ids import id_parts
from services.contract.operating import Waiting

_PAGE: Final = 2000


def read_waiting(client: redis.Redis, keys: StreamKeys) -> Iterator[Waiting]:
    """Give each entry that our group has yet to acknowledge. Raises redis.RedisError."""
    backlog = read_backlog(client, keys)
    if backlog is None:
        # No group: whatever is in the stream was delivered to nobody.
        for entry_id, fields in _entries(client, keys.stream, "-"):
            yield Waiting(entry_id, _event_id(fields), is_delivered=False)
        return
    delivered = id_parts(backlog.last_delivered_id)
    pending = _pending_ids(client, keys)
    next_pending = next(pending, None)
    for entry_id, fields in _entries(
        client, keys.stream, backlog.oldest_pending_id or after(backlog.last_delivered_id)
    ):
        here = id_parts(entry_id)
        while next_pending is not None and id_parts(next_pending) < here:
            yield _gone(next_pending)
            next_pending = next(pending, None)
        if here > delivered:
            yield Waiting(entry_id, _event_id(fields), is_delivered=False)
        elif entry_id == next_pending:
            yield Waiting(entry_id, _event_id(fields), is_delivered=True)
            next_pending = next(pending, None)
    if next_pending is not None:
        yield _gone(next_pending)
    yield from map(_gone, pending)


def entries_added(client: redis.Redis, stream: str) -> int | None:
    """Ask how many entries the stream has ever had; None where nobody counts. Raises redis.RedisError."""
    try:
        added = about(client, stream).get("entries-added")
    except redis.ResponseError as error:
        if "no such key" in str(error):
            return None
        raise
    return None if added is None else int(added)


def _gone(entry_id: str) -> Waiting:
    return Waiting(entry_id, None, is_delivered=True, has_content=False)


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


def _event_id(fields: Mapping[bytes, bytes]) -> str | None:
    raw = fields.get(b"event_id")
    return None if raw is None else raw.decode(errors="replace")
