"""What a broker gives to the services that use it; what a person's commands need of it: operator_side.py."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from services.contract.doors import DeadLetters, Source
from services.contract.outgoing import Position
from services.contract.publishing import Publisher, Replayed, Run
from services.runtime.clock import Clock
from services.runtime.health import Health
from services.runtime.telemetry.metrics import Figures, Metrics
from services.runtime.telemetry.send_traces import NO_TRACES, Traces


@dataclass(frozen=True, slots=True)
class Tools:
    """What a side is given of the process that it works in."""

    clock: Clock
    metrics: Metrics
    logger: logging.Logger


class Upkeep(Protocol):
    """What a consumer does now and then for the stream, between its batches."""

    def run_due(self) -> None:
        """Do what is due. Raises BrokerUnavailable."""
        ...


class Observer(Protocol):
    """Looks at the stream and its group as a whole, in the background, for the metrics."""

    def figures(self) -> Figures:
        """Give what was seen last; nothing where another replica looks."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class ConsumerSide(Protocol):
    """What a consumer needs of a broker."""

    def source(self) -> Source:
        """Open where entries come from; it is closed by whoever asked for it."""
        ...

    def dead_letters(self) -> DeadLetters:
        """Open what keeps dead letters at the broker; it is closed by whoever asked for it."""
        ...

    def upkeep(self) -> Upkeep:
        """Give what looks after the stream."""
        ...

    def observe(self) -> Observer:
        """Begin to observe the group, if nobody else does; it is closed by whoever asked for it."""
        ...


@dataclass(frozen=True, slots=True)
class ProducerTools(Tools):
    """What the side of a producer is given."""

    health: Health
    """Hears whether the broker can be asked: publishing waits for it, however long that takes."""
    traces: Traces = NO_TRACES


class ProducerSide(Protocol):
    """What a producer needs of a broker. One thread uses it.

    The broker is authoritative for what a run has published: it keeps the record of it, and writes both in
    one step. So its transaction is the measure of a broker: a script, or a transactional producer.
    """

    def open_run(
        self,
        source: str,
        replay: str | None = None,
        fingerprint: str = "",
        position: Position | None = None,
    ) -> Run:
        """Open a run under a name that nobody has, as its only writer. Raises Stopping and BrokerRefuses.

        `replay` names the file that it replays, `fingerprint` says how that began, and `position` how much
        of it is published already: from now on this is the run that `take_over` finds.
        """
        ...

    def take_over(self, replay: str, check: Callable[[Replayed], None]) -> Replayed | None:
        """Go on with the run that replayed a file, from now on as its only writer; None where none did.

        `check` may raise before anything is changed. Who wrote the run before publishes nothing more: it is
        kept out before we are told how far it came. Raises Stopping and BrokerRefuses.
        """
        ...

    def publisher(self, run: Run) -> Publisher:
        """Give what publishes a run that was opened or taken over. Raises Stopping and BrokerRefuses."""
        ...

    def close(self) -> None:
        """Let go of the broker."""
        ...
