"""What a broker gives to a consumer."""

from typing import Protocol

from services.contract.consuming.doors import DeadLetters, Source
from services.runtime.telemetry.metrics import Figures


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

    def settled(self) -> int:
        """Tell how many entries our group has for certain acknowledged that are no dead letters kept here.

        0 where that is not known. Raises BrokerUnavailable.
        """
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
