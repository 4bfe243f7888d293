"""What a batch tells about itself on its way: stages that are done, and what went wrong meanwhile.

`batch.py` and `persist.py` tell it to whoever listens. Nobody does unless traces are on: NOBODY.
"""

from typing import Final, Literal, Protocol

Stage = Literal["decode", "steps", "validate", "process", "store", "dead-letter", "ack"]


class Stages(Protocol):
    """Listens to a batch."""

    def untraced(self) -> None:
        """Hear that no entry of the batch carries a trace context."""
        ...

    def done(self, stage: Stage) -> None:
        """Hear that a stage is over; the next one begins."""
        ...

    def trouble(self, what: str, error: str, attempt: int, pause_s: float) -> None:
        """Hear that something failed and is tried again after a pause, in seconds."""
        ...

    def burying(self) -> None:
        """Hear that there are dead letters to be written."""
        ...


class Nobody:
    """Listens to nothing."""

    __slots__ = ()

    def untraced(self) -> None:
        """Hear nothing."""

    def done(self, stage: Stage) -> None:
        """Hear nothing."""

    def trouble(self, what: str, error: str, attempt: int, pause_s: float) -> None:
        """Hear nothing."""

    def burying(self) -> None:
        """Hear nothing."""


NOBODY: Final = Nobody()
