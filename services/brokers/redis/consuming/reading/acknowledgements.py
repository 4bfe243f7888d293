"""Acknowledgements: what is settled, what the server was told of it, and what it has confirmed.

The answer to an acknowledgement is read before the next one is sent, so the server's time overlaps with
ours. Until it is read, nothing is forgotten: after an error all of it is acknowledged again.
"""

from collections.abc import Sequence
from typing import Any, Final

from services.brokers.redis.consuming.reading.caution import Caution
from services.brokers.redis.consuming.reading.lines import Commands
from services.brokers.redis.consuming.reading.member import Member
from services.brokers.redis.consuming.reading.sizes import Sizes
from services.contract.consuming.doors import Entry

_KEPT: Final = "`telemetry dlq show --raw` gives all of it"
_NOT_KEPT: Final = "the server had no room for it, or no right: its beginning is all that is kept"


class Acknowledgements:
    """Those of one consumer. All of it raises redis.RedisError; nothing is lost by it."""

    def __init__(self, member: Member, commands: Commands, sizes: Sizes, caution: Caution) -> None:
        self._metrics = member.metrics
        self._logger = member.logger
        self._commands = commands
        self._sizes = sizes
        self._caution = caution
        self._xack = ("XACK", member.keys.stream, member.keys.group)
        self._settled: list[bytes] = []
        """Entries that are acknowledged, and not yet confirmed."""
        self._under_way = 0
        """How many of them the server was told of."""
        self._aside: list[Entry] = []
        """Entries that are too large, whose letters are durable."""

    def put(self, entries: Sequence[Entry]) -> None:
        """Acknowledge entries; the answer is read later. What is too large is set aside at once."""
        if self._caution.may_be_cut:
            self._caution.may_be_cut = False
            self._aside += [entry for entry in entries if entry.is_cut]
            entries = [entry for entry in entries if not entry.is_cut]
        self._settled += [entry.entry_id for entry in entries]
        self._commands.catch_up()
        self._set_aside()
        self._send()

    def settle(self) -> None:
        """Have the server confirm what is acknowledged, what an earlier error left over included."""
        self._commands.catch_up()
        self._set_aside()
        if self._settled:
            self._send()
            self._commands.catch_up()

    def end_lost(self, ids: Sequence[bytes]) -> None:
        """Say that pending entries have no content any more, and end their waiting.

        Somebody trimmed or deleted them before they were acknowledged. If they were stored, the
        acknowledgement was all that was missing; if not, the audit names them.
        """
        if not ids:
            return
        self._metrics.count("telemetry_lost_entries_total", len(ids))
        self._logger.error(
            "pending_entries_trimmed",
            extra={
                "entries": len(ids),
                "first": ids[0].decode(),
                "hint": "trimmed or deleted before they were acknowledged; run `telemetry audit`",
            },
        )
        self._settled += ids
        self.settle()

    def _send(self) -> None:
        if self._settled:
            self._under_way = len(self._settled)
            self._commands.send(self._confirm, *self._xack, *self._settled)

    def _confirm(self, acked: Any) -> None:
        """Forget what the server has confirmed; `acked` of it were still pending."""
        acked = int(acked)
        self._metrics.count("telemetry_ack_events_total", acked, result="acked")
        self._metrics.count("telemetry_ack_events_total", self._under_way - acked, result="already_acked")
        del self._settled[: self._under_way]

    def _set_aside(self) -> None:
        """Have the server acknowledge entries that are too large, and keep them where it can."""
        while self._aside:
            entry = self._aside[0]
            pieces = self._sizes.move(entry)
            self._metrics.count(
                "telemetry_ack_events_total", 1, result="acked" if pieces >= 0 else "already_acked"
            )
            if pieces >= 0:
                self._logger.warning(
                    "large_entry_ended",
                    extra={
                        "entry_id": entry.entry_id.decode(),
                        "bytes": max(0, entry.full_size),
                        "is_kept": bool(pieces),
                        "hint": _KEPT if pieces else _NOT_KEPT,
                    },
                )
            del self._aside[0]
