"""The figures of the stream and its group as a whole, by the one replica that holds the lease on them.

    {telemetry_stream}:observer   string  who observes; gone 15 s after the last renewal
    {telemetry_stream}:audit      hash    what `telemetry audit --record` found last
    {telemetry_stream}:limit      string  STREAM_MAX_LENGTH of the producer that started last

Each replica asks for the lease every five seconds; who gets it looks, and exports what it saw for as long as
the lease is surely its own (docs/decisions/0012). It works beside the loop, in a thread with a connection of
its own: while the sink is down or the breaker is open nothing is consumed, and that is when the figures are
looked at. Without a right for one of these keys or commands the consumer goes on, and says once which. What
others have written there may be anything: a part that can't be read is left out and said, and the next look
is made all the same.
"""

import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, cast

import redis

from services.brokers.consuming.foreign import number_of, whole_of
from services.brokers.redis.consuming.backlog import Backlog, read_backlog
from services.brokers.redis.consuming.entries import after, count, count_events
from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.server.connection import describe, lacks_command, lacks_right
from services.brokers.redis.server.entry_ids import age_s, ahead_s
from services.brokers.redis.server.scripts import Script, read_script
from services.runtime.clock import Clock
from services.runtime.telemetry.metrics import Figures

_AUDITED: Final = (
    "published", "stored", "dead", "conflicts", "purged", "pending", "undelivered", "expired", "accepted",
    "missing"
)  # fmt: skip
_MOST_ENTRIES: Final = 1 << 62
_UNREADABLE: Final = (
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError
)  # fmt: skip
"""What an answer raises that is not of the form that it should have, and what a bug of ours may."""
_LEASE: Final = Script(read_script("consuming/lease.lua"))
LEASE_S: Final = 15.0
LOOK_S: Final = 5.0
"""Two renewals may fail before the lease is another's."""
_LAST_LOOK_S: Final = 1.0
"""How long the end waits for a look that is under way."""


class _Seen(NamedTuple):
    """What a look saw, and until when it may be told, on the clock that is never set."""

    figures: Figures
    until: float


_NOTHING: Final = _Seen({}, 0.0)


class Observer:
    """Looks at one group, where it is allowed to. `name` tells people who holds the lease.

    `lease_s`: how long the group is unobserved after the death of who observed it, at most.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: StreamKeys,
        name: str,
        clock: Clock,
        logger: logging.Logger,
        lease_s: float = LEASE_S,
    ) -> None:
        self._client = client
        self._keys = keys
        # A restarted container has its old name, and must not take an unexpired lease for its own.
        self._token = f"{name} {secrets.token_hex(8)}"
        self._clock = clock
        self._logger = logger
        self._lease_s = lease_s
        self._seen = _NOTHING
        self._lacking: set[str] = set()
        self._unreadable: set[tuple[str, str]] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="observer", daemon=True)

    def start(self) -> None:
        """Look every five seconds from now on, in the background."""
        self._thread.start()

    def figures(self) -> Figures:
        """Give what was seen last; nothing where the lease is not ours, or may not be any more."""
        seen = self._seen
        return seen.figures if self._clock.monotonic() < seen.until else {}

    def look(self) -> None:
        """Ask for the lease, and look if it is ours."""
        # From before the question: our time ends before the server's, however slow its answer was.
        asked_at = self._clock.monotonic()
        try:
            if not self._hold(self._lease_s):
                self._seen = _NOTHING
                return
            self._seen = _Seen(self._read(), asked_at + self._lease_s)
        except redis.RedisError as error:
            self._failed(error)
        except _UNREADABLE as error:
            self._say_unreadable("lease", error)

    def close(self) -> None:
        """Give the lease back, so that another replica looks at once."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_LOOK_S)
        held, self._seen = bool(self.figures()), _NOTHING
        if held and not self._thread.is_alive():
            try:
                self._hold(0)
            except redis.RedisError:
                self._logger.debug("lease_not_given_back", extra={"expires_after_s": self._lease_s})
        self._client.close()

    def _go_on(self) -> None:
        while not self._ended.is_set():
            self.look()
            self._ended.wait(LOOK_S)

    def _hold(self, seconds: float) -> bool:
        return bool(_LEASE.run(self._client, [self._keys.observer], self._token, int(seconds * 1000)))

    def _read(self) -> Figures:
        figures: dict[str, float] = {"telemetry_group_observer": 1}
        figures |= self._may(
            "group", self._of_the_group, f"XINFO, XPENDING and XRANGE on {self._keys.stream}"
        )
        figures |= self._may("memory", self._of_the_memory, "INFO")
        figures |= self._may("limit", self._of_the_limit, f"GET on {self._keys.limit}")
        figures |= self._may("audit", self._of_the_audit, f"HGETALL on {self._keys.audit}")
        return figures

    def _of_the_group(self) -> Figures:
        backlog = read_backlog(self._client, self._keys)
        if backlog is None:  # no stream or no group: there is nothing to tell
            return {}
        now = self._clock.now()
        events = count_events(self._client, self._keys)
        removed = backlog.removed_by_others
        if removed is not None and removed < 0:  # of a stream that is gone: the next trim counts anew
            self._client.set(self._keys.trimmed, 0, px=1)
            removed = None
        counts = {
            "telemetry_stream_added_entries_total": backlog.added,
            "telemetry_stream_removed_by_others_total": removed,
            "telemetry_group_read_entries_total": backlog.read,
        }
        return {
            "telemetry_stream_length_entries": backlog.length,
            "telemetry_stream_length_events": backlog.length if events is None else events.there,
            "telemetry_stream_id_ahead_seconds": ahead_s(backlog.last_generated_id, now),
            "telemetry_stream_trimmed_unread": backlog.is_trimmed_unread,
            "telemetry_group_lag_entries": backlog.lag,
            "telemetry_group_lag_known": backlog.lag_known,
            "telemetry_group_pending_entries": backlog.pending,
            "telemetry_group_oldest_pending_seconds": age_s(backlog.oldest_pending_id, now),
            "telemetry_group_oldest_unread_seconds": age_s(self._oldest_unread(backlog), now),
            "telemetry_group_consumers": len(backlog.consumers),
            **{name: count for name, count in counts.items() if count is not None},
        }

    def _oldest_unread(self, backlog: Backlog) -> str | None:
        if backlog.lag == 0:
            return None
        start = after(backlog.last_delivered_id)
        return None if start is None else count(self._client, self._keys.stream, start, 1).first

    def _of_the_memory(self) -> Figures:
        memory = cast("Mapping[str, Any]", self._client.info("memory"))
        return {
            "telemetry_redis_memory_used_bytes": float(memory["used_memory"]),
            "telemetry_redis_memory_max_bytes": float(memory["maxmemory"]),
        }

    def _of_the_limit(self) -> Figures:
        limit = whole_of(cast("bytes | None", self._client.get(self._keys.limit)), _MOST_ENTRIES)
        return {"telemetry_stream_length_limit_events": limit} if limit else {}

    def _of_the_audit(self) -> Figures:
        found = cast("Mapping[bytes, bytes]", self._client.hgetall(self._keys.audit))
        figures = {
            **{f"telemetry_audit_{name}_events": number_of(found.get(name.encode())) for name in _AUDITED},
            "telemetry_audit_last_run_timestamp_seconds": number_of(found.get(b"ended_at")),
            "telemetry_retention_waiting_seconds": number_of(found.get(b"retention_waiting_seconds")),
        }
        return {name: value for name, value in figures.items() if value is not None and value >= 0}

    def _may(self, part: str, read: Callable[[], Figures], right: str) -> Figures:
        """Read, where the server lets us and it can be read; where not, say so once and go on without."""
        try:
            return read()
        except redis.RedisError as error:
            if lacks_right(error) or lacks_command(error):
                self._say_lacking(part, right, error, "the figures that need it are left out of /metrics")
            elif part != "group" and str(error).startswith("WRONGTYPE"):
                self._say_unreadable(part, error)
            else:
                raise
        except _UNREADABLE as error:
            self._say_unreadable(part, error)
        return {}

    def _failed(self, error: redis.RedisError) -> None:
        if lacks_right(error) or lacks_command(error):
            hint = "this replica can't observe the group; it consumes all the same"
            right = f"EVALSHA, EVAL, GET and SET on {self._keys.observer}"
            self._say_lacking("lease", right, error, hint)
        else:
            self._logger.warning("group_not_observed", extra={"error": describe(error)})

    def _say_lacking(self, part: str, right: str, error: redis.RedisError, hint: str) -> None:
        if part not in self._lacking:
            self._lacking.add(part)
            self._logger.warning(
                "right_lacking", extra={"part": part, "right": right, "error": str(error), "hint": hint}
            )

    def _say_unreadable(self, part: str, error: Exception) -> None:
        """Tell once of each error, with the way to it: it may be a bug as well."""
        kind = type(error).__name__
        if (part, kind) not in self._unreadable:
            self._unreadable.add((part, kind))
            self._logger.error(
                "group_unreadable",
                extra={"part": part, "kind": kind, "error": str(error)},
                exc_info=None if isinstance(error, redis.RedisError) else error,
            )
