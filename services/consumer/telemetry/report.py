"""What is said about a batch: counters and one log line, from the same outcome.

A single event has its line at DEBUG. At INFO the last one of a batch has it, at most once a second: at
thousands of events a second the numbers tell more.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Final

from services.consumer.batch import Outcome
from services.contract.consuming.columns import Columns
from services.contract.consuming.doors import Dead, Entry
from services.contract.event import Event
from services.contract.trace_context import context_of
from services.runtime.clock import Clock
from services.runtime.logs.gate import Limited
from services.runtime.telemetry.metrics import Metrics

_EVENT_LINE_INTERVAL_S: Final = 1.0

_RECEIVED: Final = "telemetry_consumer_received_events_total"
_SETTLED: Final = "telemetry_consumer_settled_events_total"
_IN_FLIGHT: Final = "telemetry_consumer_in_flight_events"


@dataclass(slots=True)
class Reporter:
    """Counts and logs outcomes."""

    metrics: Metrics
    logger: logging.Logger
    clock: Clock
    stored: int = 0
    """Rows inserted since the start."""
    dead: int = 0
    """Entries dead-lettered since the start."""
    _event_lines: Limited = field(init=False)

    def __post_init__(self) -> None:
        self._event_lines = Limited(_EVENT_LINE_INTERVAL_S, self.clock.monotonic)

    def batch(self, outcome: Outcome, duration_s: float) -> None:
        """Count a batch and write its line."""
        rows = Columns.of(outcome.rows)
        degraded = Counter(compress(rows.kpi, rows.is_degraded))
        self._count(outcome, degraded, duration_s)
        self.stored += outcome.inserted
        self.dead += len(outcome.dead)
        self.logger.info(
            "batch_settled",
            extra={
                "received": len(outcome.received),
                "stored": outcome.inserted,
                "duplicates": outcome.duplicates,
                "dead": len(outcome.dead),
                "degraded": degraded.total(),
                "seconds": round(duration_s, 6),
            },
        )
        self._tell_events(outcome)
        if outcome.dead:
            self._tell_dead(outcome.dead)

    def unsettled(self, entries: int) -> None:
        """Count entries that were received and are left pending."""
        with self.metrics.at_once:
            self.metrics.count(_SETTLED, entries, outcome="pending")
            self.metrics.set(_IN_FLIGHT, 0)

    def received(self, new: int, recovered: int) -> None:
        """Count entries at their receipt, before anything can go wrong with them."""
        with self.metrics.at_once:
            self.metrics.count(_RECEIVED, new, source="new")
            self.metrics.count(_RECEIVED, recovered, source="recovered")
            self.metrics.set(_IN_FLIGHT, new + recovered)

    def _count(self, outcome: Outcome, degraded: Counter[str], duration_s: float) -> None:
        count = self.metrics.count
        with self.metrics.at_once:  # the law holds at every scrape
            count(_SETTLED, outcome.inserted, outcome="stored")
            count(_SETTLED, outcome.duplicates, outcome="duplicate")
            count(_SETTLED, len(outcome.dead), outcome="dead")
            count(_SETTLED, outcome.pending, outcome="pending")
            self.metrics.set(_IN_FLIGHT, 0)
        if outcome.dead:
            for (stage, reason), number in Counter(
                (dead.rejection.stage, dead.rejection.reason) for dead in outcome.dead
            ).items():
                count("telemetry_consumer_dead_events_total", number, stage=stage, reason=reason)
        for kpi, number in degraded.items():
            count("telemetry_consumer_degraded_events_total", number, kpi=kpi)
        self.metrics.observe("telemetry_consumer_batch_size_events", len(outcome.received))
        self.metrics.observe("telemetry_consumer_batch_duration_seconds", duration_s)
        if outcome.inserted:
            self.metrics.set("telemetry_last_commit_timestamp_seconds", self.clock.now())

    def _tell_events(self, outcome: Outcome) -> None:
        """Write a line for each event at DEBUG; at INFO for the last one, at most once a second."""
        if self.logger.isEnabledFor(logging.DEBUG):
            traces = _traces(outcome.received)
            for row in outcome.rows:
                self._tell(logging.DEBUG, row, traces.get(row.event_id.encode()))
        elif outcome.rows and self.logger.isEnabledFor(logging.INFO):
            held_back = self._event_lines.held_back()
            if held_back is not None:
                row = outcome.rows[-1]
                trace = _trace_of(row, outcome.received)
                self._tell(logging.INFO, row, trace, held_back=held_back + len(outcome.rows) - 1)

    def _tell(self, level: int, row: Event, trace: str | None, **more: int) -> None:
        self.logger.log(
            level,
            "event_degraded" if row.is_degraded else "event_healthy",
            extra={
                "event_id": row.event_id,
                "device_id": row.device_id,
                "zone": row.zone,
                "kpi": row.kpi,
                "value": row.value,
                **({} if trace is None else {"event_trace_id": trace}),
                **more,
            },
        )

    def _tell_dead(self, dead: Sequence[Dead]) -> None:
        """Write a line for each reason of a batch, with the first entry that died of it."""
        first: dict[tuple[str, str], Dead] = {}
        numbers: Counter[tuple[str, str]] = Counter()
        for one in dead:
            kind = (one.rejection.stage, one.rejection.reason)
            first.setdefault(kind, one)
            numbers[kind] += 1
        for (stage, reason), one in first.items():
            context = context_of(one.entry.fields)
            self.logger.warning(
                "event_dead_lettered",
                extra={
                    "entry_id": one.entry.entry_id.decode(),
                    "stage": stage,
                    "reason": reason,
                    "error": one.rejection.error,
                    "events": numbers[stage, reason],
                    **({} if context is None else {"event_trace_id": context.trace_id}),
                },
            )


def _trace_of(row: Event, entries: Sequence[Entry]) -> str | None:
    """Give the trace of one of the last events; None where it carries none."""
    event_id = row.event_id.encode()
    entry = next((one for one in reversed(entries) if event_id in one.fields), None)
    context = None if entry is None else context_of(entry.fields)
    return None if context is None else context.trace_id


def _traces(entries: Sequence[Entry]) -> dict[bytes, str]:
    """Give the trace of each event that carries one, by event id."""
    found = {}
    for entry in entries:
        if (context := context_of(entry.fields)) is not None:
            fields = dict(zip(entry.fields[::2], entry.fields[1::2], strict=False))
            found[fields.get(b"event_id", b"")] = context.trace_id
    return found
