"""The loop: read, run the batch, look after the stream; until told to stop.

Whatever goes wrong with the infrastructure is decided here, and logged once: an unreachable server is
waited for, an open breaker stays open until somebody restarts us. In both the process stays alive and
unready.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final

from services.brokers.consuming.side import Upkeep
from services.consumer.batch import Outcome
from services.consumer.packed.events import delivered_more
from services.consumer.telemetry.report import Reporter
from services.consumer.telemetry.traces import NO_TRACES, Traces
from services.contract.consuming.doors import Entry, Source
from services.contract.errors import BreakerOpen, BrokerUnavailable, ClockBehind, Stopping
from services.runtime.clock import Clock
from services.runtime.health import Health
from services.runtime.telemetry.metrics import Metrics

_LONGEST_PAUSE_S: Final = 5.0
_CLOCK_LOOK_S: Final = 1.0
"""Between two looks whether our clock is right again."""
_FIRST_PAUSE_S: Final = 0.1


@dataclass(slots=True)
class Worker:
    """One consumer's loop."""

    source: Source
    run_batch: Callable[[Sequence[Entry]], Outcome]
    upkeep: Upkeep
    reporter: Reporter
    clock: Clock
    health: Health
    metrics: Metrics
    logger: logging.Logger
    traces: Traces = NO_TRACES
    in_hand: AbstractContextManager[None] = field(default_factory=nullcontext)
    """How long a batch is worked on."""
    begin: Callable[[], None] = lambda: None
    """Sees that the first entry may be taken. Raises BrokerUnavailable, and what ends the loop."""
    _has_begun: bool = field(init=False, default=False)
    _failures: int = field(init=False, default=0)
    _is_behind: bool = field(init=False, default=False)

    def run(self) -> None:
        """Work until asked to stop; then settle what was asked for ahead."""
        while not self.clock.is_stopping():
            self.turn()
        while self._turn(self.source.drain, asks=False):
            pass

    def turn(self) -> None:
        """Read once, and see what there is to its outcome."""
        self.health.turn()
        self._turn(self._read)

    def _read(self) -> Sequence[Entry]:
        if not self._has_begun:
            self.begin()
            self._has_begun = True
        return self.source.read()

    def _turn(self, read: Callable[[], Sequence[Entry]], *, asks: bool = True) -> bool:
        """Read once and see the entries to their outcome; decide what an error means.

        `asks`: whether nothing is an answer of the broker, too. Tells whether there were any, and all went
        well.
        """
        try:
            entries = read()
            if asks or entries:
                self._recovered()
            if entries:
                with self.traces.batch(entries):
                    self._settle(entries)
            self.upkeep.run_due()
            return bool(entries)
        except BrokerUnavailable as error:
            self._wait_for_broker(error)
        except BreakerOpen as error:
            self._stand_still(error)
        except Stopping:
            self.logger.warning("stopped_while_waiting", extra={"hint": "what was read stays pending"})
        return False

    def _settle(self, entries: Sequence[Entry]) -> None:
        started = self.clock.monotonic()
        again = delivered_more(entries, 1)
        self.reporter.received(len(entries) - again, again)
        outcome: Outcome | None = None
        try:
            outcome = self._judge(entries)
        finally:
            if outcome is None:
                self.reporter.unsettled(len(entries))
        self.traces.settled(outcome)
        self.reporter.batch(outcome, self.clock.monotonic() - started)

    def _judge(self, entries: Sequence[Entry]) -> Outcome:
        """Run the batch, once our clock is right. Raises Stopping, and what the batch raises.

        It is kept in hand: read again, each time would be a delivery more, up to MAX_DELIVERIES.
        """
        while True:
            try:
                with self.in_hand:
                    outcome = self.run_batch(entries)
            except ClockBehind as error:
                self._wait_for_clock(error)
            else:
                if self._is_behind:
                    self._is_behind = False
                    self.health.clear("clock")
                    self.metrics.set("telemetry_clock_behind_seconds", 0)
                    self.logger.info("clock_right_again")
                return outcome

    def _wait_for_clock(self, error: ClockBehind) -> None:
        self._is_behind = True
        self.health.turn()
        self.source.still_working()
        self.health.fail("clock", str(error))
        self.metrics.set("telemetry_clock_behind_seconds", error.seconds)
        self.logger.error("clock_behind", extra={"error": str(error), "seconds": round(error.seconds)})
        self.clock.sleep(_CLOCK_LOOK_S)
        if self.clock.is_stopping():
            raise Stopping("asked to stop while the clock was wrong")

    def _recovered(self) -> None:
        """Note that the broker answered: as far as it is concerned we are ready."""
        if self._failures:
            self.logger.info("redis_back", extra={"failures": self._failures})
        self._failures = 0
        self.health.clear("redis")
        self.health.started()
        self.metrics.set("telemetry_redis_up", 1)

    def _wait_for_broker(self, error: BrokerUnavailable) -> None:
        self._failures += 1
        why = str(error)
        self.health.fail("redis", why)
        self.metrics.set("telemetry_redis_up", 0)
        self.metrics.count("telemetry_redis_errors_total", error=error.kind)
        self.logger.error("redis_unavailable", extra={"error": why})
        if not self.clock.is_stopping():
            self.clock.sleep(min(_FIRST_PAUSE_S * 2 ** min(self._failures - 1, 10), _LONGEST_PAUSE_S))

    def _stand_still(self, error: BreakerOpen) -> None:
        """Stay alive and unready until somebody looks; reading on would fill the dead letters."""
        self.health.fail("breaker", str(error))
        self.metrics.set("telemetry_breaker_open", 1)
        self.logger.critical("breaker_open", extra={"error": str(error)})
        while not self.clock.is_stopping():
            self.health.turn()
            self.clock.sleep(1.0)
