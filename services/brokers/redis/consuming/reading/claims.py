"""Claims on entries of consumers that died.

XAUTOCLAIM with JUSTID makes them ours and counts no delivery; they are then read as our own pending ones,
the one way of recovery.
"""

from typing import Any, Final

from services.brokers.redis.consuming.reading.acknowledgements import Acknowledgements
from services.brokers.redis.consuming.reading.lines import Commands
from services.brokers.redis.consuming.reading.member import Member

_PAGES: Final = 100
"""Pages of others' pending entries that are gone through in one turn."""


class Claims:
    """The claims of one consumer, on what lay idle with others for `idle_ms`, every `interval_s`."""

    def __init__(
        self,
        member: Member,
        commands: Commands,
        acknowledgements: Acknowledgements,
        *,
        idle_ms: int,
        interval_s: float,
    ) -> None:
        self._member = member
        self._commands = commands
        self._acknowledgements = acknowledgements
        self._idle_ms = idle_ms
        self._interval_s = interval_s
        self._from: Any = b"0-0"
        self.due_at = 0.0
        """When to claim next, on the monotonic clock."""

    def claim(self) -> bool:
        """Make entries ours that lay idle with others for too long; tells whether there were any.

        Raises redis.RedisError.
        """
        member, keys = self._member, self._member.keys
        claimed = 0
        for _ in range(_PAGES):
            self._from, ids, *gone = self._commands.ask(
                "XAUTOCLAIM", keys.stream, keys.group, member.name, self._idle_ms,
                self._from, "COUNT", member.batch_size, "JUSTID",
            )  # fmt: skip
            claimed += len(ids)
            if gone:
                self._acknowledgements.end_lost(gone[0])
            if self._from == b"0-0" or claimed >= member.batch_size:
                break
        # Where it is not through, or found some, it goes on from there at the next turn.
        is_through = self._from == b"0-0" and not claimed
        self.due_at = member.monotonic() + (self._interval_s if is_through else 0.0)
        if claimed:
            member.metrics.count("telemetry_claimed_events_total", claimed)
            member.logger.info("entries_claimed", extra={"entries": claimed, "idle_ms": self._idle_ms})
        return claimed > 0

    def begin_again(self) -> None:
        """Go through the others' entries from the first one, at the next turn."""
        self._from = b"0-0"
