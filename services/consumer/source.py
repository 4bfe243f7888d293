"""Entries from a Redis Stream, through a consumer group.

    telemetry_stream            stream; authoritative for content, until acknowledged
      telemetry_consumers       group; authoritative for what was delivered to whom, how often
        our name                our pending entries: delivered to us, not yet acknowledged

What this module sees to:

- The server's answer to a read can be lost on its way, and its entries are then pending for us without
  our knowing. So after every error, as at the start, our own pending entries are read before new ones.
- Entries of a consumer that died are claimed in the same loop. XAUTOCLAIM with JUSTID makes them ours
  and counts no delivery; they are then read as our own pending ones, the one way of recovery.
- An entry that kills its consumer runs no `except`, so only the server's count of deliveries tells.
  What was delivered twice and never settled is read one by one: the culprit alone goes on to
  MAX_DELIVERIES, and not the batch that it was in.
- While a batch is worked on, the next one is asked for: the server then fills the socket meanwhile.
  That only happens after a full batch, so no read ever waits behind our back.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import redis
from redis.connection import Connection

from services.consumer.entry import Entry
from services.consumer.errors import SourceUnavailable
from services.contract.scripts import read_script
from services.contract.streams import StreamKeys
from services.runtime.connection import error_kind
from services.runtime.metrics import Metrics

_LEAVE: Final = read_script("services.consumer", "leave.lua")
_SUSPECT_DELIVERIES: Final = 2
"""Delivered this often without being settled: read one by one from now on."""


class RedisSource:
    """One consumer of the group. `block_ms`: how long a read waits where there is nothing."""

    def __init__(
        self,
        client: redis.Redis,
        keys: StreamKeys,
        name: str,
        *,
        batch_size: int,
        block_ms: int,
        claim_idle_ms: int,
        claim_interval_s: float,
        monotonic: Callable[[], float],
        metrics: Metrics,
        logger: logging.Logger,
    ) -> None:
        self._client = client
        self._keys = keys
        self._name = name
        self._batch_size = batch_size
        self._block_ms = block_ms
        self._claim_idle_ms = claim_idle_ms
        self._claim_interval_s = claim_interval_s
        self._monotonic = monotonic
        self._metrics = metrics
        self._logger = logger
        # Two connections: an acknowledgement must not queue behind a read that waits.
        self._reader: Connection | None = None
        self._commands: Connection | None = None
        self._asked_ahead = False
        self._recovering = True
        self._group_known = False
        self._settled: list[bytes] = []
        self._acking = 0
        self._next_claim = 0.0

    def read(self) -> list[Entry]:
        """Give the next entries, at most a batch; empty when none came in the waiting time.

        Raises SourceUnavailable.
        """
        try:
            return self._read()
        except redis.RedisError as error:
            raise self._failed(error) from error

    def drain(self) -> list[Entry]:
        """Give entries that were asked for ahead and have not been given yet. Raises SourceUnavailable."""
        try:
            self._settle()
            return self._receive() if self._asked_ahead else []
        except redis.RedisError as error:
            raise self._failed(error) from error

    def ack(self, entries: Sequence[Entry]) -> None:
        """Acknowledge entries whose outcome is durable. The server's answer is read later.

        Raises SourceUnavailable; the acknowledgement is then made good before the next read.
        """
        self._settled += [entry.entry_id for entry in entries]
        try:
            self._confirm()
            self._send_ack()
        except redis.RedisError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the connections; unacknowledged entries stay pending.

        With nothing pending our name leaves the group: on Kubernetes, each pod has a new one.
        """
        with contextlib.suppress(redis.RedisError):  # unconfirmed: it comes again, and is a duplicate
            self._settle()
            self._command("EVAL", _LEAVE, 1, self._keys.stream, self._keys.group, self._name)
        self._hang_up()
        self._client.close()

    def _read(self) -> list[Entry]:
        self._settle()
        if self._asked_ahead and (entries := self._receive()):
            self._ask_ahead(entries)
            return entries
        self._make_group()
        if self._monotonic() >= self._next_claim:
            self._claim()
        if self._recovering:
            if entries := self._own_pending():
                return entries
            self._recovering = False
        self._ask(block_ms=self._block_ms)
        entries = self._receive()
        self._ask_ahead(entries)
        return entries

    def _settle(self) -> None:
        """Have the server confirm what is acknowledged, what an earlier error left over included."""
        self._confirm()
        if self._settled:
            self._send_ack()
            self._confirm()

    def _send_ack(self) -> None:
        if self._settled:
            self._send("XACK", self._keys.stream, self._keys.group, *self._settled)
            self._acking = len(self._settled)

    def _confirm(self) -> None:
        """Read the answer to the acknowledgement that is under way; until then it may be lost."""
        if not self._acking:
            return
        acked = int(self._answer())
        self._metrics.count("telemetry_ack_events_total", acked, result="acked")
        self._metrics.count("telemetry_ack_events_total", self._acking - acked, result="already_acked")
        del self._settled[: self._acking]
        self._acking = 0

    def _ask_ahead(self, entries: Sequence[Entry]) -> None:
        """Ask for the next batch where there is one, unless something else has its turn."""
        claim_is_due = self._monotonic() >= self._next_claim
        if len(entries) == self._batch_size and not claim_is_due:
            self._ask(block_ms=None)

    def _ask(self, block_ms: int | None) -> None:
        if self._reader is None:
            self._reader = self._client.connection_pool.get_connection()
        block = () if block_ms is None else ("BLOCK", block_ms)
        self._reader.send_command(
            "XREADGROUP", "GROUP", self._keys.group, self._name,
            "COUNT", self._batch_size, *block, "STREAMS", self._keys.stream, ">",
        )  # fmt: skip
        self._asked_ahead = True

    def _receive(self) -> list[Entry]:
        self._asked_ahead = False
        reader = cast("Connection", self._reader)
        reply: Any = reader.read_response()
        return [Entry(entry_id, fields) for entry_id, fields in reply[0][1]] if reply else []

    def _own_pending(self) -> list[Entry]:
        """Read our own pending entries, the oldest first, with their deliveries."""
        pending = self._command(
            "XPENDING", self._keys.stream, self._keys.group, "-", "+", self._batch_size, self._name
        )
        if not pending:
            return []
        deliveries = {entry_id: int(count) + 1 for entry_id, _, _, count in pending}
        trusted = 0
        while trusted < len(pending) and int(pending[trusted][3]) < _SUSPECT_DELIVERIES:
            trusted += 1
        reply = self._command(
            "XREADGROUP", "GROUP", self._keys.group, self._name,
            "COUNT", max(trusted, 1), "STREAMS", self._keys.stream, "0",
        )  # fmt: skip
        entries = reply[0][1]
        self._report_lost([entry_id for entry_id, fields in entries if not fields])
        kept = [
            Entry(entry_id, fields, deliveries.get(entry_id, 1)) for entry_id, fields in entries if fields
        ]
        # Only lost ones in this page: go on with the next, or the caller takes it for the end.
        return kept or self._own_pending()

    def _claim(self) -> None:
        """Make entries ours that lay idle with others for too long; they are then recovered."""
        start: Any = b"0-0"
        claimed = 0
        while True:
            start, ids, *gone = self._command(
                "XAUTOCLAIM", self._keys.stream, self._keys.group, self._name, self._claim_idle_ms, start,
                "COUNT", self._batch_size, "JUSTID",
            )  # fmt: skip
            claimed += len(ids)
            if gone and gone[0]:
                self._report_lost(gone[0])
            if start == b"0-0" or claimed >= self._batch_size:
                break
        self._next_claim = self._monotonic() + (0.0 if claimed else self._claim_interval_s)
        if claimed:
            self._recovering = True
            self._metrics.count("telemetry_claimed_events_total", claimed)
            self._logger.info("entries_claimed", extra={"entries": claimed, "idle_ms": self._claim_idle_ms})

    def _report_lost(self, ids: Sequence[bytes]) -> None:
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
        self._settle()

    def _make_group(self) -> None:
        """Make the group where there is none, at the beginning of the stream: nothing is skipped."""
        if self._group_known:
            return
        try:
            self._command("XGROUP", "CREATE", self._keys.stream, self._keys.group, "0", "MKSTREAM")
        except redis.exceptions.OutOfMemoryError:
            # A server at maxmemory refuses this even where the group is there, and it is our reading
            # that makes room. Where there is no group, the read says so.
            pass
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        else:
            self._metrics.count("telemetry_group_creations_total")
            self._logger.warning(
                "group_created",
                extra={
                    "stream": self._keys.stream,
                    "group": self._keys.group,
                    "hint": "expected once; later it means that the server lost its data or the group was "
                    "removed: the stream is read again from its start, run `telemetry audit`",
                },
            )
        self._group_known = True

    def _failed(self, error: redis.RedisError) -> SourceUnavailable:
        """Forget what we believed about the server; all of it is asked again."""
        self._hang_up()
        self._recovering = True
        self._group_known = False
        return SourceUnavailable(str(error), error_kind(error))

    def _hang_up(self) -> None:
        self._asked_ahead = False
        self._acking = 0
        for connection in (self._reader, self._commands):
            if connection is not None:
                connection.disconnect()
                self._client.connection_pool.release(connection)
        self._reader = self._commands = None

    def _command(self, *command: Any) -> Any:
        """Send a command and give the server's reply as it is: a dict would hide a name given twice."""
        self._confirm()
        self._send(*command)
        return self._answer()

    def _send(self, *command: Any) -> None:
        if self._commands is None:
            self._commands = self._client.connection_pool.get_connection()
        self._commands.send_command(*command)

    def _answer(self) -> Any:
        return cast("Connection", self._commands).read_response()
