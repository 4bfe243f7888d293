"""Make rows and dead letters durable: retry what passes, isolate what is at fault, wait out the rest.

What a write can come to, and what follows (design, section 4):

    refused            the batch is split until the guilty row stands alone; it alone is dead
    unavailable        tried again MAX_RETRIES times, after RETRY_BACKOFF_S x attempt each
    still unavailable  the sink is probed. It answers: the write itself is at fault, and is split until
                       the rows at fault stand alone. It doesn't: the whole sink is down, and the batch
                       waits for it; nothing is read meanwhile, and nothing becomes a dead letter
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from services.consumer.stages import NOBODY, Stages
from services.contract.consuming.doors import Dead, DeadLetters, Entry, Processed, Rows, Sink
from services.contract.errors import DeadLettersUnavailable, RowsRefused, SinkUnavailable, Stopping
from services.contract.event import Reason, Rejection
from services.runtime.clock import Clock
from services.runtime.health import Health
from services.runtime.telemetry.metrics import Metrics

_SHORTEST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
"""Between two tries while the sink is down, and between two signs of life, whatever RETRY_BACKOFF_S says."""


class Stored(NamedTuple):
    """What became of the rows of a batch."""

    entries: Sequence[Entry]
    """Those whose row is durable, duplicates included."""
    inserted: int
    dead: list[Dead]


@dataclass(slots=True)
class Persist:
    """Writes to the sink and to the dead letters, for as long as it takes."""

    sink: Sink
    dead_letters: DeadLetters
    max_retries: int
    retry_backoff_s: float
    clock: Clock
    health: Health
    metrics: Metrics
    logger: logging.Logger
    stages: Stages = NOBODY
    still_working: Callable[[], None] = lambda: None
    """Told every few seconds while a write waits."""

    def store(self, rows: Sequence[Processed]) -> Stored:
        """Store rows, and name those that can't be. Raises Stopping; nothing is certain then."""
        if not rows:
            return Stored([], 0, [])
        rows = Rows.of(rows)
        while True:
            try:
                return self._store_with_retries(rows)
            except SinkUnavailable as error:
                self._wait("sink", error)

    def bury(self, dead: Sequence[Dead]) -> None:
        """Keep dead letters, durable on return. Raises Stopping; then none may be acknowledged."""
        attempt = 0
        if dead:
            self.stages.burying()
        while dead:
            try:
                self.dead_letters.put(dead)
            except DeadLettersUnavailable as error:
                attempt += 1
                self.metrics.count("telemetry_dlq_write_errors_total")
                self._wait("dead_letters", error, attempt)
            else:
                break
        self.health.clear("dead_letters")

    def _store_with_retries(self, rows: Rows) -> Stored:
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._store_or_split(rows, attempt)
            except SinkUnavailable as error:
                self._count(error)
                if attempt <= self.max_retries:
                    pause_s = self.retry_backoff_s * attempt
                    self.stages.trouble("retry", error.kind, attempt, pause_s)
                    self._pause(pause_s)
                    self.metrics.count("telemetry_retries_total", stage="sink")
                    continue
                # Raises SinkUnavailable itself where the whole sink is down.
                self.sink.probe()
                self.logger.error("write_gave_up", extra={"events": len(rows), "error": str(error)})
                # Once more, now that it answers: the outage may have ended just before the probe.
                return self._try_part(rows, attempt + 1, "retries_exhausted")

    def _store_or_split(self, rows: Rows, attempt: int) -> Stored:
        try:
            return self._write(rows)
        except RowsRefused as error:
            self._count(error)
            return self._split(rows, attempt, "refused_by_sink", str(error))

    def _split(self, rows: Rows, attempts: int, reason: Reason, why: str) -> Stored:
        """Write the halves apart; a row that stands alone is the guilty one."""
        if len(rows) == 1:
            return Stored([], 0, [Dead(rows[0][0], Rejection("sink", reason, why), attempts)])
        middle = len(rows) // 2
        left, right = (self._try_part(half, attempts, reason) for half in (rows[:middle], rows[middle:]))
        return Stored([*left.entries, *right.entries], left.inserted + right.inserted, left.dead + right.dead)

    def _try_part(self, rows: Rows, attempts: int, reason: Reason) -> Stored:
        self._tell_alive()  # one of many writes, and each may take as long as it takes to fail
        try:
            return self._write(rows)
        except RowsRefused as error:
            return self._split(rows, attempts, "refused_by_sink", str(error))
        except SinkUnavailable as error:
            if reason != "retries_exhausted":
                raise  # the sink went down in the middle; the batch begins again, and is idempotent
            self.sink.probe()
            return self._split(rows, attempts, reason, str(error))

    def _write(self, rows: Rows) -> Stored:
        started = self.clock.monotonic()
        written = self.sink.write(rows.events)
        self.metrics.observe("telemetry_sink_commit_duration_seconds", self.clock.monotonic() - started)
        self.metrics.set("telemetry_sink_up", 1)
        self.health.clear("sink")
        if not written.conflicts:
            return Stored(rows.entries, written.inserted, [])
        guilty = frozenset(written.conflicts)
        return Stored(
            [entry for position, (entry, _) in enumerate(rows) if position not in guilty],
            written.inserted,
            [_conflict(rows[position]) for position in written.conflicts],
        )

    def _wait(self, part: str, error: SinkUnavailable | DeadLettersUnavailable, attempt: int = 10) -> None:
        """Go unready, say so, and wait. Raises Stopping."""
        pause_s = min(max(self.retry_backoff_s * attempt, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)
        self.stages.trouble(f"{part} unavailable", error.kind, attempt, pause_s)
        self.health.fail(part, str(error))
        if part == "sink":
            self.metrics.set("telemetry_sink_up", 0)
        self.logger.error(
            "write_unavailable",
            extra={
                "part": part,
                "error": str(error),
                "kind": error.kind,
                "hint": "nothing is read until it is back, and entries stay pending",
            },
        )
        self._pause(pause_s)

    def _pause(self, seconds: float) -> None:
        """Wait so long, and say every few seconds that we are alive. Raises Stopping."""
        while True:
            self._tell_alive()
            if not self.clock.is_stopping():
                self.clock.sleep(min(seconds, _LONGEST_PAUSE_S))
            seconds -= _LONGEST_PAUSE_S
            self.health.turn()
            if self.clock.is_stopping():
                raise Stopping("asked to stop while a write was waiting")
            if seconds <= 0:
                return

    def _tell_alive(self) -> None:
        # Waiting is progress: a restart would not bring the sink back.
        self.health.turn()
        self.still_working()

    def _count(self, error: SinkUnavailable | RowsRefused) -> None:
        self.metrics.count("telemetry_sink_errors_total", error=error.kind)


def _conflict(row: Processed) -> Dead:
    entry, event = row
    return Dead(
        entry,
        Rejection("sink", "conflict", f"event_id {event.event_id} is stored already, with another content"),
    )
