"""What each group of the stream holds back, and who reads by it; and the end of one."""

from typing import Any, cast

import redis

from services.brokers.redis.consuming.entries import after, count
from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.server.entry_ids import age_s
from services.brokers.redis.server.groups import GroupState, read_groups
from services.contract.operating import Group


def look_at_groups(client: redis.Redis, keys: StreamKeys, claim_idle_ms: int, now: float) -> list[Group]:
    """Look at every group; `now` in Unix seconds. Raises redis.RedisError."""
    found = []
    for state in read_groups(client, keys.stream):
        try:
            consumers: Any = client.xinfo_consumers(keys.stream, cast("Any", state.name))
        except redis.ResponseError as error:
            if str(error).startswith("NOGROUP"):  # removed meanwhile
                continue
            raise
        idle_ms = [int(one["idle"]) for one in consumers]
        found.append(
            Group(
                key=state.name,
                name=state.shown,
                is_ours=state.name == keys.group.encode(),
                pending=state.pending,
                unread=state.unread,
                oldest_age_s=_oldest_age_s(client, keys.stream, state, now),
                oldest_pending_id=state.oldest_pending_id,
                last_delivered_id=state.last_delivered_id,
                consumers=len(idle_ms),
                live=sum(idle < claim_idle_ms for idle in idle_ms),
                idle_s=min(idle_ms) / 1000 if idle_ms else None,
            )
        )
    return found


def remove_group(client: redis.Redis, stream: str, group: Group) -> bool:
    """Remove a group; False where it is gone already. Raises redis.RedisError."""
    return bool(client.xgroup_destroy(stream, cast("Any", group.key)))


def _oldest_age_s(client: redis.Redis, stream: str, state: GroupState, now: float) -> float | None:
    if state.held == 0:
        return None
    if state.needed_from == state.oldest_pending_id:
        return age_s(state.oldest_pending_id, now)
    start = after(state.needed_from)
    found = None if start is None else count(client, stream, start, 1).first
    return None if found is None else age_s(found, now)
