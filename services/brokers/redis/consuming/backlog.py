"""How far the group is behind: length, lag, pending, and the age of the oldest pending entry.

The server's own lag can be unknown (after an XDEL or a trim of unread entries) or, before Redis 8.0,
wrong: a group that had read everything kept the lag that it had before a trim. So it is believed
only where it is plausible, and counted otherwise.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import redis

from services.brokers.consuming.foreign import name_of, whole_of
from services.brokers.redis.consuming.entries import about, after, count
from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.server.connection import lacks_command, lacks_right
from services.brokers.redis.server.entry_ids import age_s, id_parts

_PAGE: Final = 1000
_COUNTED_AT_MOST: Final = 100_000
_MOST: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """One consumer of the group."""

    name: str
    """For people: anybody may give a consumer any name, which need not be UTF-8."""
    pending: int
    idle_ms: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in the stream."""

    length: int
    lag: int
    """Entries not yet delivered to the group; at most 100,000 where they had to be counted."""
    lag_known: bool
    """Whether the server knows the lag itself."""
    pending: int
    oldest_pending_id: str | None
    last_delivered_id: str
    last_generated_id: str
    """Of the newest entry that the stream has had."""
    consumers: tuple[ConsumerState, ...] = ()
    added: int | None = None
    """Entries that were ever added; None where the server does not count them."""
    read: int | None = None
    """Entries that the group has read, as far as the server knows."""
    first_id: str | None = None
    """Of the oldest entry in the stream; None where it is empty."""
    max_deleted_id: str = "0-0"
    """The highest id that XDEL ever removed; a trim is not noted there."""
    trimmed: int | None = None
    """Entries that our own scripts have removed; None where they have not begun to count."""

    @property
    def removed_by_others(self) -> int | None:
        """Tell how many entries are gone that we have not removed; None where it can't be known.

        Read or not: that is for the audit. Negative where the stream was removed since, and made anew.
        """
        if self.added is None or self.trimmed is None:
            return None
        return self.added - self.length - self.trimmed

    @property
    def is_trimmed_unread(self) -> bool:
        """Tell whether entries are gone that the group has not read, as far as the server can know."""
        delivered = id_parts(self.last_delivered_id)
        if id_parts(self.max_deleted_id) > delivered:
            return True
        if self.first_id is None:
            return id_parts(self.last_generated_id) > delivered
        if id_parts(self.first_id) <= delivered:
            return False  # a trim begins with the oldest, and that one was read
        # Nothing of the stream is read, so what was ever added is read, still there, or gone.
        read = 0 if delivered == (0, 0) else self.read
        return self.added is not None and read is not None and self.added - read > self.length

    def is_settled_up_to(self, entry_id: str) -> bool:
        """Tell whether this entry and all before it were delivered and acknowledged."""
        wanted = id_parts(entry_id)
        is_delivered = id_parts(self.last_delivered_id) >= wanted
        return is_delivered and (self.oldest_pending_id is None or id_parts(self.oldest_pending_id) > wanted)

    @property
    def settled(self) -> int:
        """Tell how many entries the group has acknowledged; 0 unless it has for certain acknowledged one.

        Of a group that was made when entries were gone already the server counts these as read.
        """
        if not self.read or self.added is None:  # nothing, or somebody has set it
            return 0
        gone = self.added - self.length
        return self.read - self.pending if self.read - self.pending > (gone if self.pending else 0) else 0

    def oldest_pending_age_s(self, now: float) -> float:
        """Tell how long ago the oldest pending entry was published, in seconds; 0 without one."""
        return age_s(self.oldest_pending_id, now)


def read_backlog(client: redis.Redis, keys: StreamKeys, group_name: bytes | None = None) -> Backlog | None:
    """Ask the server; None where there is no stream or no group. Raises redis.RedisError.

    `group_name`: another group than that of the keys, as the server names it.
    """
    name = keys.group.encode() if group_name is None else group_name
    # No transaction: at maxmemory Redis 7.0 refuses MULTI. In this order changes meanwhile do no harm: the
    # group has delivered no less than it says, and what it had delivered is settled if it isn't pending.
    try:
        first = client.pipeline(transaction=False)
        first.get(keys.trimmed)
        (trimmed_before,) = first.execute(raise_on_error=False)
        stream = about(client, keys.stream)
        pipeline = client.pipeline(transaction=False)
        pipeline.get(keys.trimmed)
        pipeline.execute_command("XINFO GROUPS", keys.stream)
        pipeline.execute_command("XPENDING", keys.stream, name)
        pipeline.execute_command("XINFO CONSUMERS", keys.stream, name)
        trimmed_after, groups, pending, consumers = pipeline.execute(raise_on_error=False)
        for answer in (groups, pending, consumers):
            if isinstance(answer, redis.RedisError):
                raise answer
    except redis.RedisError as error:
        if str(error).startswith(("NOGROUP", "no such key", "ERR no such key")):
            return None
        raise
    group = next((one for one in groups if one["name"] == name), None)
    if group is None:  # removed, or made, between two of them
        return None
    last_delivered = group["last-delivered-id"].decode()
    lag = _lag(stream, group, last_delivered)
    return Backlog(
        length=int(stream["length"]),
        # A small one is counted all the same: Redis 7.0 goes on counting what was trimmed unread.
        lag=_count_after(client, keys.stream, last_delivered) if lag is None or 0 < lag <= _PAGE else lag,
        lag_known=lag is not None,
        pending=int(pending["pending"]),
        oldest_pending_id=pending["min"].decode() if pending["min"] else None,
        last_delivered_id=last_delivered,
        last_generated_id=stream["last-generated-id"].decode(),
        consumers=tuple(
            ConsumerState(name_of(one["name"]), int(one["pending"]), int(one["idle"])) for one in consumers
        ),
        added=_int_or_none(stream.get("entries-added")),
        read=_int_or_none(group.get("entries-read")),
        first_id=stream["first-entry"][0].decode() if stream["first-entry"] else None,
        max_deleted_id=stream.get("max-deleted-entry-id", b"0-0").decode(),
        # Unchanged around the look at the stream, so it is of that moment. Not every user may know it.
        trimmed=whole_of(trimmed_before, _MOST)
        if isinstance(trimmed_before, bytes) and trimmed_before == trimmed_after
        else None,
    )


def read_settled(client: redis.Redis, keys: StreamKeys, *, has_letters: bool) -> int:
    """Tell how many entries the group has for certain acknowledged; 0 where we may not know.

    `has_letters`: dead letters are kept here, and not counted. Raises redis.RedisError.
    """
    try:
        backlog = read_backlog(client, keys)
        if backlog is None or backlog.settled == 0 or not has_letters:
            return 0 if backlog is None else backlog.settled
        there = 0
        for letters in filter(None, (keys.dead_letters, keys.former_dead_letters)):
            with suppress(redis.exceptions.AskError):  # of an earlier version, which knew no cluster
                there += client.xlen(letters) + client.hlen(f"{letters}:purged")
        return max(0, backlog.settled - there)
    except redis.RedisError as error:
        if lacks_right(error) or lacks_command(error):
            return 0
        raise


def _lag(stream: Any, group: Any, last_delivered: str) -> int | None:
    """Take the server's lag where it can be true; None where it has to be counted."""
    if id_parts(last_delivered) >= id_parts(stream["last-generated-id"].decode()):
        return 0
    lag = group.get("lag")
    if lag is None or int(lag) > int(stream["length"]):
        return None
    trimmed = id_parts(stream.get("max-deleted-entry-id", b"0-0").decode())
    # Where unread entries were removed, servers before 8.0 still count them.
    return int(lag) if trimmed <= id_parts(last_delivered) else None


def _int_or_none(value: Any) -> int | None:
    return None if value is None else int(value)


def _count_after(client: redis.Redis, stream: str, entry_id: str) -> int:
    start = after(entry_id)
    return 0 if start is None else count(client, stream, start, _COUNTED_AT_MOST).number
