"""The loop: take a batch when it is due, publish it, tell about it; until told to stop."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final

from services.contract.errors import Stopping
from services.contract.producing.outgoing import Feed, Numbering
from services.contract.producing.publishing import Publisher, Run, Sent
from services.producer.pace import Pacer
from services.runtime.clock import Clock
from services.runtime.health import Health
from services.runtime.logs.gate import Limited

_TURN_S: Final = 1.0
"""Longest pause between two turns: a slow schedule is alive too."""
_SUMMARY_INTERVAL_S: Final = 1.0


@dataclass(slots=True)
class Totals:
    """What a process has published, over all its runs."""

    published: int = 0
    duplicates: int = 0
    dropped: int = 0

    def add(self, sent: Sent) -> None:
        """Add a batch."""
        self.published += sent.published
        self.duplicates += sent.duplicates
        self.dropped += sent.dropped


@dataclass(slots=True)
class Loop:
    """One producer's loop. `duration_s` 0: until the feed ends, or for ever."""

    feed: Feed
    publisher: Publisher
    new_run: Callable[[], Run]
    """Opens another run, when the numbers of this one are used up."""
    pacer: Pacer
    clock: Clock
    health: Health
    logger: logging.Logger
    duration_s: float = 0.0
    on_batch: Callable[[], None] = lambda: None
    in_hand: AbstractContextManager[None] = field(default_factory=nullcontext)
    """How long a batch is under way to the server."""
    most_of_a_record: int = 0
    """Events that the feed may give beyond the size of a batch, where they can't be parted."""
    totals: Totals = field(default_factory=Totals)
    _numbering: Numbering = field(init=False)
    _summary: Limited = field(init=False)

    def __post_init__(self) -> None:
        run = self.publisher.run
        self._numbering = Numbering(run.name, run.last)
        self._summary = Limited(_SUMMARY_INTERVAL_S, self.clock.monotonic)

    def run(self) -> None:
        """Publish until asked to stop, or until all is published. Raises BrokerRefuses."""
        ends = self.clock.monotonic() + self.duration_s
        try:
            while not self.clock.is_stopping():
                self.health.turn()
                left = ends - self.clock.monotonic() if self.duration_s else _TURN_S
                if left <= 0:
                    break
                wait = self.pacer.wait_s()
                if wait > 0:
                    self.clock.sleep(min(wait, left, _TURN_S))
                elif not self.publish_next():
                    break
        except Stopping:
            self.logger.warning(
                "stopped_while_waiting", extra={"hint": "the batch in hand was not confirmed"}
            )

    def publish_next(self) -> bool:
        """Publish one batch; False when there was none. Raises Stopping and BrokerRefuses."""
        if not self._numbering.has_room_for(max(self.pacer.size, self.most_of_a_record)):
            self.publisher.end()
            self.publisher.use(self.new_run())
            self._numbering = Numbering(self.publisher.run.name)
        batch = self.feed.next_batch(self.pacer.size, self.clock.now(), self._numbering)
        if batch is None:
            return False
        if batch.events or (batch.position is not None and batch.position.is_done):
            with self.in_hand:
                sent = self.publisher.publish(batch)
            self.totals.add(sent)
            if sent.published or sent.duplicates or not batch.events:  # else the stream was full
                self._tell(sent)
        self.pacer.sent(len(batch.events))
        self.on_batch()
        return True

    def _tell(self, sent: Sent) -> None:
        if sent.dropped:
            self.logger.warning("oldest_dropped", extra={"events": sent.dropped})
        if (held_back := self._summary.held_back()) is not None:
            self.logger.info(
                "published",
                extra={
                    "run": self.publisher.run.name,
                    "batch": sent.published + sent.duplicates,
                    "published": self.totals.published,
                    "duplicates": self.totals.duplicates,
                    "held_back": held_back,
                    **(
                        {}
                        if sent.trace is None
                        else {"trace_id": sent.trace.trace_id, "span_id": sent.trace.span_id}
                    ),
                },
            )
