"""Publish batches: each of them, and the record of it, in one step of the server.

    {stream}            stream  the events; authoritative for what is published
    {stream}:run:RUN    hash    how many batches and events of this run; authoritative for the audit
    {stream}:limit      string  STREAM_MAX_LENGTH, for whoever watches how full the stream is
    {stream}:events     stream  how many events the entries have, while some have many (server/events.lua)
    {stream}:forms      hash    which forms of an entry consumers read; they write it (server/forms.lua)

One script a batch, numbered, so an answer that was lost costs nothing: the batch is sent again and
the script says that it is there. The six field names of an ordinary event stand in the script; only
the values travel, all in one text, which is cut apart there. Where each consumer reads entries of many
events, and EVENTS_PER_ENTRY asks for them, the text goes into the stream as it is.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

import redis

from services.brokers.producing.patience import Backoff, Patience
from services.brokers.redis.keys import StreamKeys, chunk_key
from services.brokers.redis.producing.packing import Arguments, Packing, pieces
from services.brokers.redis.producing.runs import write_run
from services.brokers.redis.server.answers import malformed
from services.brokers.redis.server.connection import describe
from services.brokers.redis.server.groups import read_groups, slowest
from services.brokers.redis.server.scripts import Script, read_script
from services.contract.errors import BrokerRefuses, Stopping
from services.contract.ids import ID_BYTES
from services.contract.producing.outgoing import Batch, Outgoing, Position
from services.contract.producing.publishing import Run, Sent
from services.contract.trace_context import TraceContext
from services.runtime.logs.gate import Limited
from services.runtime.telemetry.spans import current

_SCRIPT: Final = Script(read_script("producing/publish.lua"))
_END: Final = Script(read_script("producing/end.lua"))
CHUNK_IDS: Final = 16_384
"""Ids in one chunk, and those of a batch at most: what an audit has proven is deleted by chunks."""
_FULL_TOLD_S: Final = 10.0
"""How often who holds the stream is looked for, where each batch is refused at once."""
_FLAT_TOLD_S: Final = 60.0
"""How often it is told at most for whose sake entries have one event each."""


class _Answer(NamedTuple):
    """What the script says came of a batch; see publish.lua."""

    what: bytes
    dropped: int
    batches: int
    last: int
    written: int = 0
    why: bytes = b""
    reads_flat: bytes = b""


@dataclass(frozen=True, slots=True)
class Limits:
    """When the stream is full, and what happens then."""

    max_length: int = 0
    """Events; 0: no limit."""
    when_full: Literal["block", "drop_oldest"] = "block"


class RedisPublisher:
    """Writes one run."""

    def __init__(
        self,
        client: redis.Redis,
        keys: StreamKeys,
        run: Run,
        patience: Patience,
        limits: Limits,
        packing: Packing = Packing(),  # noqa: B008 - it can't be changed
    ) -> None:
        self._client = client
        self._keys = keys
        self._patience = patience
        self._limits = limits
        self._packing = packing
        self._waits_for: bytes | None = None
        """Who keeps entries at one event each; None: not known yet, empty: nobody does."""
        self._may_count = True
        self._tools = patience.tools
        self._log = patience.tools.logger
        self._metrics = patience.tools.metrics
        self._full_told = Limited(_FULL_TOLD_S, patience.tools.clock.monotonic)
        self._flat_told = Limited(_FLAT_TOLD_S, patience.tools.clock.monotonic)
        self.use(run)

    def use(self, run: Run) -> None:
        """Go on with another run."""
        self.run = run
        self._batches = run.batches
        self._last = run.last
        self._foreign = run.foreign
        self._unnumbered = run.unnumbered
        self._told_batches = self._told_last = 0
        """Up to where we have told what the server has lost."""
        self._still_there = 0
        """Numbered events up to there that it has not lost."""
        self.position: Position | None = None
        """How far a file is published, as far as this process knows."""
        keys = self._keys
        self._tell_limit()
        # Whoever has given us no right to these two has set up our rights for an earlier version.
        shared = [keys.events, keys.forms] if self._may_count else [keys.stream] * 2
        self._key_names = [keys.stream, keys.run(run.name), keys.runs, self._chunk_name(), *shared]
        if self._limits.when_full == "drop_oldest":
            self._key_names.append(keys.trimmed)

    def _chunk_name(self) -> str:
        return chunk_key(self._keys.run_ids(self.run.name), 1 + self._foreign // CHUNK_IDS)

    def end(self) -> None:
        """Say that nothing more of the run will come: once it is proven, its record need not be kept.

        A replay says so when its file is at its end. Asked once: where nobody answers, silent days say it.
        """
        if self.run.replay is not None:
            return
        with contextlib.suppress(redis.RedisError):
            now = f"{self._tools.clock.now():.3f}"
            _END.run(self._client, [self._keys.run(self.run.name)], self.run.writer, now)

    def _tell_limit(self) -> None:
        """Leave word of the limit. Raises Stopping and BrokerRefuses."""

        def tell() -> None:
            # Watching is no part of publishing: where the right is missing, the figure is.
            with contextlib.suppress(redis.exceptions.NoPermissionError):
                self._client.set(self._keys.limit, self._limits.max_length)

        self._patience.ask(tell)

    def publish(self, batch: Batch) -> Sent:
        """Publish a batch, however long it takes.

        Raises Stopping when asked to stop before the server had it, and BrokerRefuses.
        """
        sent = self._publish(batch, waits=True)
        assert sent is not None  # noqa: S101 - room was waited for
        return sent

    def offer(self, batch: Batch) -> Sent | None:
        """Publish a batch, or give None where the stream is full: the script writes nothing then.

        Raises Stopping and BrokerRefuses.
        """
        return self._publish(batch, waits=False)

    def _publish(self, batch: Batch, *, waits: bool) -> Sent | None:
        kinds = "".join(map(_kind_of, batch.events))
        last = max((event.sequence for event in batch.events if event.sequence), default=self._last)
        last = max(last, self._last)
        started = self._tools.clock.monotonic()
        with self._tools.traces.batch(batch.events, self.run.name) as traceparent:
            tail = [traceparent, *pieces(batch.events, self._packing, traceparent)]
            dropped = self._apply(batch, tail, last, kinds, waits=waits)
            trace = current()
        if dropped is None:
            return None
        clock = self._tools.clock
        self._metrics.observe("telemetry_producer_send_duration_seconds", clock.monotonic() - started)
        self._metrics.observe("telemetry_producer_batch_size_events", len(batch.events))
        self._metrics.set("telemetry_producer_last_publish_timestamp_seconds", clock.now())
        self._batches += 1
        self._last = last
        self._foreign += kinds.count("f")
        self._unnumbered += kinds.count("u")
        self._key_names[3] = self._chunk_name()
        self.position = batch.position
        sent = _sent(kinds, dropped, trace)
        self._count(sent)
        return sent

    def _apply(self, batch: Batch, tail: Arguments, last: int, kinds: str, *, waits: bool) -> int | None:
        """Send a batch until it is applied; gives how many events were dropped for it.

        None: the stream is full, and nobody `waits`.
        """
        has_many = any(isinstance(piece, int) and piece < 0 for piece in tail)

        def send() -> _Answer:
            return self._send(self._head(batch, last, kinds), tail)

        while True:
            answer = self._patience.ask(send)
            if answer.what == b"full":
                if not waits:
                    if self._full_told.held_back() is not None:
                        self._say_full()
                    return None
                answer = self._wait_for_room(send)
            if answer.what in {b"applied", b"already"}:
                if has_many and answer.what == b"applied":
                    self._tell_form(answer.reads_flat)
                return answer.dropped
            if answer.what == b"gone":
                self._reopen()
            elif answer.what == b"behind":
                self._lost(answer.batches, answer.last)
            elif answer.what == b"cut":
                self._count(_sent(kinds[: answer.written], answer.dropped))
                why = answer.why.decode(errors="replace") or "why was in an answer that was lost"
                raise BrokerRefuses(
                    f"the stream {self._keys.stream} took the first {answer.written} of the {len(kinds)} "
                    f"events of a batch, and no more; the record of run {self.run.name} counts those: "
                    + describe(redis.ResponseError(why))
                )
            elif answer.what == b"exhausted":
                raise BrokerRefuses(
                    f"the stream {self._keys.stream} has had an entry with nearly the last possible id, "
                    "so no other can follow: docs/runbooks/TelemetryStreamIdAhead.md has the way out"
                )
            else:
                raise BrokerRefuses(
                    f"run {self.run.name} is written by another process since; this one has "
                    f"confirmed {self._batches} batches, the server {answer.batches}"
                )

    def _head(self, batch: Batch, last: int, kinds: str) -> Arguments:
        foreign = b""
        if "f" in kinds:
            of_each = zip(batch.events, kinds, strict=True)
            ids = b"".join(event.foreign or b"" for event, kind in of_each if kind == "f")
            foreign = f"{self._foreign:0{ID_BYTES}d}".encode() + ids
        return [
            self.run.name, self.run.writer, self._batches + 1,
            self._limits.max_length, self._limits.when_full,
            kinds, last, f"{self._tools.clock.now():.3f}", foreign, *_pack_position(batch.position),
        ]  # fmt: skip

    def _send(self, head: Arguments, tail: Arguments) -> _Answer:
        try:
            answer = _SCRIPT.run(self._client, self._key_names, *head, *tail)
        except redis.exceptions.NoPermissionError:
            if not self._may_count:
                raise
            without = [*self._key_names[:4], *[self._keys.stream] * 2, *self._key_names[6:]]
            answer = _SCRIPT.run(self._client, without, *head, *tail)
            self._key_names, self._may_count = without, False
        try:
            return _Answer(*answer)
        except TypeError as error:
            raise malformed(error) from error

    def _wait_for_room(self, send: Callable[[], _Answer]) -> _Answer:
        """Send a batch until it is no more refused for want of room. Logged at both ends.

        It is a write that asks: who was demoted to a replica meanwhile answers a look at the length.
        """
        clock = self._tools.clock
        self._say_full()
        backoff = Backoff()
        blocked_s = 0.0
        while True:
            self._tools.health.turn()
            paused_at = clock.monotonic()
            if clock.is_stopping():
                raise Stopping("asked to stop while the stream was full")
            # Short of the longest pause: consumers make room steadily.
            clock.sleep(min(backoff.pause_s(), 1.0))
            paused_s = clock.monotonic() - paused_at
            blocked_s += paused_s
            self._metrics.count("telemetry_producer_blocked_seconds_total", paused_s)
            answer = self._patience.ask(send)
            if answer.what != b"full":
                break
        length = self._patience.ask(lambda: self._client.xlen(self._keys.stream))
        self._log.info("stream_has_room", extra={"blocked_s": round(blocked_s, 3), "length": length})
        return answer

    def _say_full(self) -> None:
        told = {"stream": self._keys.stream, "stream_max_length": self._limits.max_length}
        self._log.warning("stream_full", extra=told | self._patience.ask(self._who_holds))

    def _tell_form(self, reads_flat: bytes) -> None:
        """Say, when it changes, whether entries have many events, and for whose sake they have one."""
        if reads_flat == self._waits_for or (reads_flat and self._flat_told.held_back() is None):
            return
        self._waits_for = reads_flat
        told = {"stream": self._keys.stream, "events_per_entry": self._packing.events}
        if not reads_flat:
            self._log.info("entries_packed", extra=told)
            return
        group, _, consumer = reads_flat.decode(errors="backslashreplace").partition("/")
        if reads_flat.startswith(b"NOPERM"):
            hint = "this user may not ask which consumers read them: docs/redis-users.md has its rights"
        elif not group:
            hint = "no group reads this stream yet: each consumer says what it reads when it starts"
        else:
            hint = (
                "it has not said that it reads entries of many events: it is of an earlier version, or no "
                "program of ours; once it has left, or not read for an hour, they are written "
                "(docs/your-data.md)"
            )
        waits = {"group": group, "consumer": consumer} if group and not group.startswith("NOPERM") else {}
        self._log.warning("entries_not_packed", extra={**told, **waits, "hint": hint})

    def _who_holds(self) -> dict[str, Any]:
        """Tell which group keeps the stream from being trimmed, and what to do. Raises redis.RedisError."""
        try:
            groups = read_groups(self._client, self._keys.stream)
        except redis.exceptions.NoPermissionError:
            return {"hint": "this user may not look at the groups; `telemetry groups` tells"}
        if not groups:
            return {"hint": "no group reads this stream: start a consumer"}
        holder = slowest(groups)
        if holder is None:
            return {"hint": "all of it is acknowledged and nobody trims it: see RETENTION_INTERVAL_S"}
        held = {} if holder.held is None else {"held_entries": holder.held}
        if holder.name == self._keys.group.encode():
            hint = "its consumers are behind, or there are none: `telemetry status`"
        else:
            hint = (
                "it is not our group (GROUP_NAME): bring its consumers back, or, where nobody reads by it "
                "any more, `telemetry groups remove NAME`"
            )
        return {"held_by": holder.shown, **held, "hint": hint}

    def _reopen(self) -> None:
        """Write the record anew: somebody has emptied the server, and the gap shows as missing.

        Or an audit has let go of it, as the run was silent for long and all of it proven.
        """
        if self._was_folded():
            self._log.info("run_reopened", extra={"run": self.run.name, "last": self._last})
        else:
            self._say_lost(0, 0)
        # With the numbers that are used up: whoever resumes before the next batch goes on behind them. And
        # with the batches: a record that is restored from a backup has fewer, and is behind, not another's.
        run = replace(
            self.run, batches=self._batches, last=self._last,
            foreign=self._foreign, unnumbered=self._unnumbered,
        )  # fmt: skip
        if not write_run(self._client, self._keys, self._patience, run, self.position):
            raise BrokerRefuses(f"run {self.run.name} was written by another process after the loss")
        self._tell_limit()
        self._told_batches, self._told_last, self._still_there = self._batches, self._last, 0

    def _was_folded(self) -> bool:
        """Tell whether an audit has let go of our record, where we may know."""

        def ask() -> bool:
            with contextlib.suppress(redis.exceptions.NoPermissionError):
                return bool(self._client.hexists(self._keys.folded, self.run.name))
            return False

        return self._patience.ask(ask)

    def _lost(self, batches: int, last: int) -> None:
        """Take the server's count: what it forgot stays unpublished, and the audit names it."""
        self._say_lost(batches, last)
        self._batches = batches
        self._told_batches = min(self._told_batches, batches)

    def _say_lost(self, batches: int, last: int) -> None:
        """Tell how much of what was confirmed is gone: each event once, however often something is lost."""
        lost = self._batches - max(batches, self._told_batches)
        there = min(self._still_there, last) + max(0, last - self._told_last)
        lost_events = self._still_there + self._last - self._told_last - there
        self._still_there, self._told_last = there, self._last
        if lost <= 0:
            return
        self._log.error(
            "redis_lost_writes",
            extra={
                "run": self.run.name,
                "lost_batches": lost,
                "lost_events": max(0, lost_events),
                "confirmed_last": self._last,
                "server_last": last,
                "hint": "the server had confirmed them; `telemetry audit` names what is missing",
            },
        )

    def _count(self, sent: Sent) -> None:
        for outcome, number in (
            ("published", sent.published),
            ("duplicate", sent.duplicates),
            ("dropped", sent.dropped),
        ):
            self._metrics.count("telemetry_producer_events_total", number, outcome=outcome)


def _kind_of(event: Outgoing) -> str:
    """Give the letter by which the script counts an event."""
    if event.is_duplicate:
        return "d"
    if event.sequence is not None:
        return "n"
    return "u" if event.foreign is None else "f"


def _sent(kinds: str, dropped: int, trace: TraceContext | None = None) -> Sent:
    duplicates = kinds.count("d")
    return Sent(len(kinds) - duplicates, duplicates, dropped, trace)


def _pack_position(position: Position | None) -> tuple[str | int, int, int]:
    return ("", 0, 0) if position is None else (position.offset, position.line, int(position.is_done))
