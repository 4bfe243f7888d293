"""How long a batch and its stages take: what listens to the batch for the histograms.

It stands in front of the traces and tells them on, so that the batch has one listener.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Final

from services.consumer.batch import Outcome
from services.consumer.entry import Entry
from services.consumer.stages import Stage
from services.consumer.traces import NO_TRACES, Traces
from services.runtime.clock import Clock
from services.runtime.metrics import Metrics
from services.runtime.spans import current

_STAGE_DURATION: Final = "telemetry_consumer_stage_duration_seconds"


class Times:
    """Measures the batches of a consumer, one at a time."""

    def __init__(self, metrics: Metrics, clock: Clock, traces: Traces = NO_TRACES) -> None:
        self._metrics = metrics
        self._clock = clock
        self._traces = traces
        self._begun = 0.0
        """When the stage under way began, on the clock that is never set."""
        self._committed_at = 0.0
        """Unix seconds."""
        self._has_letters = False

    def batch(self, entries: Sequence[Entry]) -> AbstractContextManager[None]:
        """Measure these entries, whatever becomes of them."""
        self._begun = self._clock.monotonic()
        self._has_letters = False
        return self._traces.batch(entries)

    def done(self, stage: Stage) -> None:
        """Hear that a stage is over; the next one begins."""
        now = self._clock.monotonic()
        if stage == "dead-letter":
            # Without letters it is a stage that every batch passes and that does nothing.
            if self._has_letters:
                self._metrics.observe(_STAGE_DURATION, now - self._begun, stage="dead_letter")
        else:
            self._metrics.observe(_STAGE_DURATION, now - self._begun, stage=stage)
            if stage == "store":
                self._committed_at = self._clock.now()
        self._begun = now
        self._traces.done(stage)

    def trouble(self, what: str, error: str, attempt: int, pause_s: float) -> None:
        """Hear that something failed and is tried again after a pause, in seconds."""
        self._traces.trouble(what, error, attempt, pause_s)

    def burying(self) -> None:
        """Hear that there are dead letters to be written."""
        self._has_letters = True
        self._traces.burying()

    def settled(self, outcome: Outcome) -> None:
        """Hear what became of the batch, and tell how long its oldest entry waited to be stored."""
        self._traces.settled(outcome)
        if not outcome.rows:
            return
        published_at = int(outcome.received[0].entry_id.partition(b"-")[0]) / 1000
        # By now it is decided whether the batch has a span.
        span = current()
        self._metrics.observe(
            "telemetry_consumer_publish_to_commit_seconds",
            # The server's clock may be ahead of ours: no latency is negative.
            max(0.0, self._committed_at - published_at),
            None if span is None else span.trace_id,
        )
