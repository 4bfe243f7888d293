"""What each group of a stream holds back: entries that nobody may trim before it has acknowledged them.

A name is kept as the server has it: a foreign group's may be no UTF-8.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from services.brokers.redis.server.entry_ids import id_parts


@dataclass(frozen=True, slots=True)
class GroupState:
    """One group, as the server tells of it."""

    name: bytes
    pending: int
    """Entries delivered to it, and not acknowledged."""
    unread: int | None
    """Entries not yet delivered to it; None where the server does not know."""
    last_delivered_id: str
    oldest_pending_id: str | None
    consumers: int

    @property
    def shown(self) -> str:
        """The name as text; bytes that are no UTF-8 as backslash and number."""
        return self.name.decode(errors="backslashreplace")

    @property
    def needed_from(self) -> str:
        """Where it begins to need the stream: its oldest pending entry, or the last one delivered."""
        pending = self.oldest_pending_id
        # A group that was set back (XGROUP SETID) reads again what lies before its pending entries.
        if pending is None or id_parts(self.last_delivered_id) < id_parts(pending):
            return self.last_delivered_id
        return pending

    @property
    def held(self) -> int | None:
        """Entries that it holds back; None where the server does not know."""
        return None if self.unread is None else self.pending + self.unread


def read_groups(client: redis.Redis, stream: str) -> list[GroupState]:
    """Ask for all groups of a stream; none where there is no stream. Raises redis.RedisError."""
    try:
        found: Any = client.xinfo_groups(stream)
    except redis.ResponseError as error:
        if "no such key" in str(error):
            return []
        raise
    pipeline = client.pipeline(transaction=False)
    for one in found:
        pipeline.execute_command("XPENDING", stream, one["name"])
    states = []
    for one, pending in zip(found, pipeline.execute(raise_on_error=False), strict=True):
        if isinstance(pending, redis.RedisError):
            if str(pending).startswith("NOGROUP"):  # removed meanwhile
                continue
            raise pending
        lag = one.get("lag")
        states.append(
            GroupState(
                name=one["name"],
                pending=int(pending["pending"]),
                unread=None if lag is None else int(lag),
                last_delivered_id=one["last-delivered-id"].decode(),
                oldest_pending_id=pending["min"].decode() if pending["min"] else None,
                consumers=int(one["consumers"]),
            )
        )
    return states


def slowest(groups: Sequence[GroupState]) -> GroupState | None:
    """Give the group that holds the oldest entries; None where there is no group, or all is acknowledged."""
    holding = [one for one in groups if one.held != 0]
    return min(holding, key=_order, default=None)


def _order(one: GroupState) -> tuple[tuple[int, int], bool]:
    # What was delivered and not acknowledged is itself needed; of the last one delivered, what follows it.
    return id_parts(one.needed_from), one.needed_from != one.oldest_pending_id
