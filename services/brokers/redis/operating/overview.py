"""The server, the stream, its groups and their consumers, at one look."""

import math
from collections.abc import Mapping
from typing import Any, cast

import redis

from services.brokers.consuming.foreign import name_of
from services.brokers.redis.consuming.backlog import Backlog, read_backlog
from services.brokers.redis.consuming.entries import about, after, count, count_events
from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.server.connection import lacks_command, lacks_right
from services.brokers.redis.server.entry_ids import age_s, ahead_s
from services.contract.operating import About, ConsumerSeen, GroupLag, Overview, StreamState


def about_server(client: redis.Redis) -> About:
    """Tell what the server is; a user may lack INFO, and a server may have none. Raises redis.RedisError."""
    try:
        found = cast("Mapping[str, Any]", client.info("server"))
    except redis.ResponseError as error:
        if not (lacks_right(error) or lacks_command(error)):
            raise
        return About("redis", None, math.inf)
    name = str(found.get("server_name", "redis"))
    version = found.get(f"{name}_version", found.get("redis_version"))
    return About(name, version, float(found.get("uptime_in_seconds", math.inf)))


def look_at_stream(client: redis.Redis, keys: StreamKeys, now: float) -> Overview | None:
    """Look at the stream, its groups and their consumers; None when there is no stream.

    `now` in Unix seconds. Raises redis.RedisError.
    """
    if not client.exists(keys.stream):
        return None
    groups: list[GroupLag] = []
    consumers: list[ConsumerSeen] = []
    for info in client.xinfo_groups(keys.stream):
        backlog = read_backlog(client, keys, info["name"])
        if backlog is None:  # removed meanwhile
            continue
        name = name_of(info["name"])
        groups.append(
            GroupLag(
                name=name,
                is_ours=info["name"] == keys.group.encode(),
                lag=backlog.lag,
                lag_known=backlog.lag_known,
                pending=backlog.pending,
                oldest_pending_age_s=backlog.oldest_pending_age_s(now),
                oldest_unread_age_s=age_s(_oldest_unread(client, keys.stream, backlog), now),
                last_delivered_id=backlog.last_delivered_id,
            )
        )
        consumers += (
            ConsumerSeen(one.name, name, one.pending, one.idle_ms / 1000) for one in backlog.consumers
        )
    known = about(client, keys.stream)
    newest = known["last-generated-id"].decode()
    events, added = count_events(client, keys), known.get("entries-added")
    stream = StreamState(
        int(known["length"]),
        None if events is None else events.there,
        added,
        None if events is None or added is None else added + events.more,
        newest,
        ahead_s(newest, now),
    )
    return Overview(stream, groups, consumers)


def _oldest_unread(client: redis.Redis, stream: str, backlog: Backlog) -> str | None:
    if backlog.lag == 0:
        return None
    start = after(backlog.last_delivered_id)
    return None if start is None else count(client, stream, start, 1).first
