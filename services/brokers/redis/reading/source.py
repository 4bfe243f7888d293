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
- An entry too large for our memory kills us by being read. So what was delivered before is looked at by
  its size first, on the server (sizes.py), and of a large one only the beginning is read. Once such
  entries were met, new ones are looked at too for a while.
- While a batch is worked on, the next one is asked for: the server then fills the socket meanwhile.
  That only happens after a full batch, so no read ever waits behind our back.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import redis
from redis.connection import Connection

from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.reading.sizes import Look, ScriptsNotAllowed, Sizes
from services.brokers.redis.server.connection import error_kind, is_dropped
from services.brokers.redis.server.scripts import read_script
from services.contract.doors import Entry
from services.contract.errors import SourceUnavailable
from services.contract.event import DEFAULT_ENTRY_BYTES
from services.contract.large import BATCH_WEIGHT, UNKNOWN_BYTES, cut, is_heavy, size_of, weight_of
from services.runtime.telemetry.metrics import Metrics

_LEAVE: Final = read_script("leave.lua")
_SUSPECT_DELIVERIES: Final = 2
"""Delivered this often without being settled: read one by one from now on."""
_LAST_DELIVERIES: Final = 3
"""Beyond MAX_DELIVERIES: so often its dead letter was tried with all of its content, and then no more."""
_SUSPECT_BYTES: Final = 1 << 16
"""A smaller entry is never what kills its consumer, or what the server can't send."""
_SUSPECT_READS: Final = 2
"""A larger one that was read alone so often, and each time the connection was closed, is not sent."""
_CAREFUL_S: Final = 600.0
"""How long new entries are looked at, too, after a large one was met."""
_POLL_S: Final = 0.05
"""How long nothing is asked then where there is nothing: a script can't wait for entries."""
_CLAIM_PAGES: Final = 100
"""Pages of others' pending entries that are gone through in one turn."""

_UNSEEN: Final = Look(0, 0)
_KEPT: Final = "`telemetry dlq show --raw` gives all of it"
_NOT_KEPT: Final = "the server had no room for it, or no right: its beginning is all that is kept"

_LOOK_S: Final = 5.0
"""How often we look whether another process has our name."""
_TELL_S: Final = 55.0
"""How much later, once it was told."""
_EARLIER_MS: Final = 250
"""A command may be under way for so long before the server notes it."""
_DOUBTS: Final = 2
"""So many looks in a row are no chance."""


class RedisSource:
    """One consumer of the group. `block_ms`: how long a read waits where there is nothing.

    `explain` says of an error in one line what is wrong, and what to change.
    """

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
        max_entry_bytes: int = DEFAULT_ENTRY_BYTES,
        max_deliveries: int = 5,
        explain: Callable[[BaseException], str] = str,
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
        self._max_entry_bytes = max_entry_bytes
        self._last_deliveries = max_deliveries + _LAST_DELIVERIES
        self._explain = explain
        self._sizes = Sizes(self._command, keys, name, max_entry_bytes)
        # Two connections: an acknowledgement must not queue behind a read that waits.
        self._reader: Connection | None = None
        self._commands: Connection | None = None
        self._asked_ahead = False
        self._recovering = True
        self._group_known = False
        self._settled: list[bytes] = []
        self._acking = 0
        self._aside: list[Entry] = []
        """Entries that are too large, whose letters are durable."""
        self._may_be_cut = False
        """Whether there may be such among those that are acknowledged next: most batches aren't looked at."""
        self._next_claim = 0.0
        self._next_look = monotonic() + _LOOK_S
        self._touched_at = math.inf
        """When we last sent a command, on the monotonic clock."""
        self._doubts = 0
        self._claim_from: Any = b"0-0"
        self._is_first = True
        self._careful_until = monotonic()
        self._count = 1
        """How many pending entries are read next, where large or not looked at: twice as many each time."""
        self._most_weight = BATCH_WEIGHT
        self._reading: Sequence[tuple[bytes, Look]] = ()
        """The pending entries whose content is on its way."""
        self._not_sent: tuple[bytes, int] = (b"", 0)
        """The entry that was read alone in vain, and how often."""

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

        What is too large is kept aside by the server meanwhile, where it has the room.

        Raises SourceUnavailable; the acknowledgement is then made good before the next read.
        """
        if self._may_be_cut:
            self._may_be_cut = False
            self._aside += [entry for entry in entries if entry.is_cut]
            entries = [entry for entry in entries if not entry.is_cut]
        self._settled += [entry.entry_id for entry in entries]
        try:
            self._confirm()
            self._set_aside()
            self._send_ack()
        except redis.RedisError as error:
            raise self._failed(error) from error

    def still_working(self) -> None:
        """Hear that entries in hand take longer. Redis asks nobody: others claim after CLAIM_IDLE_MS."""

    def expect_large(self) -> None:
        """Hear that large entries came unforeseen: look at new ones, too, for the next ten minutes."""
        self._careful_until = self._monotonic() + _CAREFUL_S
        self._may_be_cut = True

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
        if not self._recovering and self._monotonic() >= self._next_look:
            self._look_for_another()
        if self._monotonic() >= self._next_claim:
            self._claim()
        if self._recovering:
            if entries := self._own_pending():
                return entries
            self._recovering = False
        if self._is_first or self._monotonic() < self._careful_until:
            if (taken := self._take()) is not None:
                return taken
        else:
            self._most_weight = BATCH_WEIGHT
        self._ask(block_ms=self._block_ms)
        entries = self._receive()
        self._ask_ahead(entries)
        return entries

    def _look_for_another(self) -> None:
        """Warn where another process has our name: nothing is in hand now, so nothing may be pending for us.

        Where it has nothing in hand either, the server has heard from us later than we spoke.
        """
        self._next_look = self._monotonic() + _LOOK_S
        since_ms = (self._monotonic() - self._touched_at) * 1000
        try:
            found = self._command("XINFO", "CONSUMERS", self._keys.stream, self._keys.group)
        except redis.ResponseError:  # a right that is missing; what else it may be, the next read tells
            return
        states = (dict(zip(one[::2], one[1::2], strict=False)) for one in found)
        for state in states:
            if state.get(b"name") != self._name.encode():
                continue
            is_doubtful = int(state[b"idle"]) + _EARLIER_MS < since_ms
            self._doubts = self._doubts + 1 if is_doubtful else 0
            if int(state[b"pending"]) or self._doubts >= _DOUBTS:
                self._next_look += _TELL_S
                self._logger.warning(
                    "consumer_name_twice",
                    extra={
                        "consumer": self._name,
                        "hint": "another process reads under this name, each takes what the other one holds, "
                        "and entries are delivered twice: give each its own CONSUMER_NAME",
                    },
                )

    def _settle(self) -> None:
        """Have the server confirm what is acknowledged, what an earlier error left over included."""
        self._confirm()
        self._set_aside()
        if self._settled:
            self._send_ack()
            self._confirm()

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
        now = self._monotonic()
        if len(entries) == self._batch_size and self._careful_until <= now < min(
            self._next_claim, self._next_look
        ):
            self._ask(block_ms=None)

    def _ask(self, block_ms: int | None) -> None:
        self._reader = self._ready(self._reader)
        block = () if block_ms is None else ("BLOCK", block_ms)
        self._reader.send_command(
            "XREADGROUP", "GROUP", self._keys.group, self._name,
            "COUNT", self._batch_size, *block, "STREAMS", self._keys.stream, ">",
        )  # fmt: skip
        self._asked_ahead = True
        self._touched_at = self._monotonic()

    def _receive(self) -> list[Entry]:
        self._asked_ahead = False
        reader = cast("Connection", self._reader)
        reply: Any = reader.read_response()
        return [Entry(entry_id, fields) for entry_id, fields in reply[0][1]] if reply else []

    def _own_pending(self) -> list[Entry]:
        """Give our own pending entries, the oldest first, with their deliveries; empty: there are none."""
        while pending := self._command(
            "XPENDING", self._keys.stream, self._keys.group, "-", "+", self._batch_size, self._name
        ):
            # Where all of a page were trimmed, the next one may hold what is there.
            if entries := self._again({entry_id: int(count) + 1 for entry_id, _, _, count in pending}):
                return entries
        return []

    def _again(self, deliveries: Mapping[bytes, int]) -> list[Entry]:
        """Read pending entries again, as many as are safe together; or the beginning of one that isn't.

        `deliveries`: of the oldest of them, this one included. Empty where all of them are gone.
        """
        try:
            looks = self._sizes.look(list(deliveries), self._most_weight)
        except ScriptsNotAllowed:
            return self._again_unseen(deliveries)
        seen = list(zip(deliveries, looks, strict=False))
        self._report_lost([entry_id for entry_id, look in seen if look.is_gone])
        there = [(entry_id, look) for entry_id, look in seen if not look.is_gone]
        if not there:
            return []
        is_light = not is_heavy(look.size for _, look in there)
        first, look = there[0]
        is_beyond_us = self._is_beyond_us(first, look, deliveries[first])
        if is_beyond_us or not is_light:
            self.expect_large()
        if is_beyond_us:
            return [Entry(first, self._sizes.beginning(first), deliveries[first], look.size)]
        most = self._batch_size if is_light else self._count
        return self._read_again(self._safe_together(there[:most], deliveries), deliveries)

    def _again_unseen(self, deliveries: Mapping[bytes, int]) -> list[Entry]:
        """Read pending entries again where their sizes can't be looked at: so many as went well before."""
        waiting = [(entry_id, _UNSEEN) for entry_id in deliveries]
        first, _ = waiting[0]
        self._may_be_cut = True
        if deliveries[first] > self._last_deliveries:
            return [Entry(first, [], deliveries[first], UNKNOWN_BYTES)]
        entries = self._read_again(self._safe_together(waiting[: self._count], deliveries), deliveries)
        if weight_of(entries) > BATCH_WEIGHT // 2:
            self._count = 1
        return [cut(entry, self._max_entry_bytes) for entry in entries]

    def _is_beyond_us(self, entry_id: bytes, look: Look, deliveries: int) -> bool:
        """Tell whether an entry is not to be read: too large, not sent, or deadly as a letter."""
        if look.size > self._max_entry_bytes:
            return True
        is_not_sent = self._not_sent[0] == entry_id and self._not_sent[1] >= _SUSPECT_READS
        return look.size > _SUSPECT_BYTES and (is_not_sent or deliveries > self._last_deliveries)

    def _safe_together(
        self, waiting: Sequence[tuple[bytes, Look]], deliveries: Mapping[bytes, int]
    ) -> Sequence[tuple[bytes, Look]]:
        """Give the first entries as far as they may be read together; one at least."""
        weight = 0
        for count, (entry_id, look) in enumerate(waiting):
            weight += look.weight
            is_suspect = deliveries[entry_id] > _SUSPECT_DELIVERIES
            if count and (is_suspect or look.size > self._max_entry_bytes or weight > self._most_weight):
                return waiting[:count]
            if is_suspect:
                return waiting[:1]
        return waiting

    def _read_again(
        self, first: Sequence[tuple[bytes, Look]], deliveries: Mapping[bytes, int]
    ) -> list[Entry]:
        """Read the first of our pending entries; empty where all of them are gone."""
        self._reading = first
        reply = self._command(
            "XREADGROUP", "GROUP", self._keys.group, self._name,
            "COUNT", len(first), "STREAMS", self._keys.stream, "0",
        )  # fmt: skip
        self._reading = ()
        self._count = min(2 * self._count, self._batch_size)
        entries = reply[0][1]
        self._report_lost([entry_id for entry_id, fields in entries if not fields])
        return [
            Entry(entry_id, fields, deliveries.get(entry_id, 1)) for entry_id, fields in entries if fields
        ]

    def _take(self) -> list[Entry] | None:
        """Give new entries that were looked at before they were sent. None: read them as they are."""
        is_first, self._is_first = self._is_first, False
        try:
            entries, is_heavy_next = self._sizes.take(self._batch_size, self._most_weight)
        except ScriptsNotAllowed:
            self._careful_until = self._monotonic()
            return None
        if is_heavy_next or is_heavy(map(size_of, (entry.fields for entry in entries))):
            self.expect_large()
        elif is_first and not entries:
            return None
        if not entries:
            time.sleep(min(_POLL_S, self._block_ms / 1000))
        self._ask_ahead(entries)
        return entries

    def _claim(self) -> None:
        """Make entries ours that lay idle with others for too long; they are then recovered."""
        claimed = 0
        for _ in range(_CLAIM_PAGES):
            self._claim_from, ids, *gone = self._command(
                "XAUTOCLAIM", self._keys.stream, self._keys.group, self._name, self._claim_idle_ms,
                self._claim_from, "COUNT", self._batch_size, "JUSTID",
            )  # fmt: skip
            claimed += len(ids)
            if gone and gone[0]:
                self._report_lost(gone[0])
            if self._claim_from == b"0-0" or claimed >= self._batch_size:
                break
        # Where it is not through, or found some, it goes on from there at the next turn.
        is_through = self._claim_from == b"0-0" and not claimed
        self._next_claim = self._monotonic() + (self._claim_interval_s if is_through else 0.0)
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
        if isinstance(error, redis.ConnectionError):
            self._note_not_sent()
        self._hang_up()
        self._recovering = True
        self._group_known = False
        self._reading = ()
        self._count = 1
        self._claim_from = b"0-0"
        return SourceUnavailable(self._explain(error), error_kind(error))

    def _note_not_sent(self) -> None:
        """Note which pending entries were asked for when the server closed the connection.

        A server limits what waits to be sent (client-output-buffer-limit), and closes a connection
        above that. Smaller entries were none of the reason.
        """
        if len(self._reading) == 1:
            ((entry_id, _),) = self._reading
            times = self._not_sent[1] if self._not_sent[0] == entry_id else 0
            self._not_sent = (entry_id, times + 1)
        elif is_heavy(look.size for _, look in self._reading):
            self._most_weight = max(_SUSPECT_BYTES, sum(look.weight for _, look in self._reading) // 2)
            self.expect_large()

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
        self._commands = self._ready(self._commands)
        self._commands.send_command(*command)
        self._touched_at = self._monotonic()

    def _ready(self, connection: Connection | None) -> Connection:
        """Give a connection that can be used, where no answer is under way on this one.

        A server closes what was idle for its `timeout`, and that is no outage. After a failover another part
        of the process may have heard that this server is not the one.
        """
        if connection is not None and not is_dropped(connection):
            return connection
        if connection is not None:
            connection.disconnect()
            self._client.connection_pool.release(connection)
            # What the other server has of ours is not known.
            self._recovering = True
        return self._client.connection_pool.get_connection()

    def _answer(self) -> Any:
        return cast("Connection", self._commands).read_response()
