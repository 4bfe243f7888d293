"""How long a batch and its stages take: what listens to the batch for the histograms.

It stands in front of the traces and tells them on, so that the batch has one listener. What it heard is
counted when the batch is over: at each stage the processor would have to load the counting anew, which takes
longer than to count.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Final

from services.consumer.batch import Outcome
from services.consumer.stages import Stage
from services.consumer.telemetry.traces import NO_TRACES, Traces
from services.contract.consuming.doors import Entry
from services.runtime.clock import Clock
from services.runtime.telemetry.metrics import Metrics
from services.runtime.telemetry.spans import current

_STAGE_DURATION: Final = "telemetry_consumer_stage_duration_seconds"


class Times:
    """Measures the batches of a consumer, one at a time."""

    def __init__(self, metrics: Metrics, clock: Clock, traces: Traces = NO_TRACES) -> None:
        self._metrics = metrics
        self._clock = clock
        self._traces = traces
        self._span: AbstractContextManager[None] = nullcontext()
        """Of the batch under way."""
        self._begun = 0.0
        """When the batch began, on the clock that is never set."""
        self._done: list[tuple[Stage, float]] = []
        """Its stages, and when each of them was over, on that clock."""
        self._committed_at = 0.0
        """Unix seconds."""
        self._has_letters = False

    def batch(self, entries: Sequence[Entry]) -> AbstractContextManager[None]:
        """Measure these entries, whatever becomes of them."""
        self._span = self._traces.batch(entries)
        self._begun = self._clock.monotonic()
        self._has_letters = False
        return self

    def __enter__(self) -> None:
        """Begin what the traces do."""
        self._span.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Count the stages of a batch that failed, and end what the traces do."""
        self._count()
        self._span.__exit__(kind, error, trace)

    def untraced(self) -> None:
        """Hear that no entry of the batch carries a trace context."""
        self._traces.untraced()

    def done(self, stage: Stage) -> None:
        """Hear that a stage is over; the next one begins."""
        self._done.append((stage, self._clock.monotonic()))
        if stage == "store":
            self._committed_at = self._clock.now()
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
        self._count()
        if not outcome.rows:
            return
        published_at = outcome.received[0].taken_at
        # By now it is decided whether the batch has a span.
        span = current()
        self._metrics.observe(
            "telemetry_consumer_publish_to_commit_seconds",
            # The server's clock may be ahead of ours: no latency is negative.
            max(0.0, self._committed_at - published_at),
            None if span is None else span.trace_id,
        )

    def _count(self) -> None:
        begun = self._begun
        for stage, over in self._done:
            if stage != "dead-letter":
                self._metrics.observe(_STAGE_DURATION, over - begun, stage=stage)
            elif self._has_letters:
                # Without letters it is a stage that every batch passes and that does nothing.
                self._metrics.observe(_STAGE_DURATION, over - begun, stage="dead_letter")
            begun = over
        self._done.clear()
