"""A producer's run, what becomes of the batches that it publishes, and the door that they go through."""

from dataclasses import dataclass
from typing import Protocol

from services.contract.producing.outgoing import Batch, Position
from services.contract.trace_context import TraceContext


@dataclass(frozen=True, slots=True)
class Run:
    """A run that this process writes."""

    name: str
    writer: str
    """What tells it from every other process that would write the run; the broker lets in only one."""
    source: str
    """`generator`, or the file's name."""
    replay: str | None = None
    """How the replayed file is named in its key."""
    fingerprint: str = ""
    """How the replayed file began: `LENGTH:SHA256`."""
    batches: int = 0
    """How many batches of it are published, as far as was known when it was opened or taken over."""
    last: int = 0
    """The last number of theirs."""
    foreign: int = 0
    """How many ids they have that the run did not number, repeats included."""
    unnumbered: int = 0
    """How many events without a readable id they have."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """How far a file was replayed, and by which run."""

    run: Run
    offset: int
    line: int
    is_done: bool
    ahead: int = 0
    """So many events behind `offset` are published, too: the broker took the first of a batch and no more."""
    is_folded: bool = False
    """Whether its run was ended and proven, so that another one goes on."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What one batch came to."""

    published: int
    """Distinct events, whatever their ids."""
    duplicates: int
    dropped: int
    """Events that were given up to make room, and that somebody still needed."""
    trace: TraceContext | None = None
    """The span that the batch has; None where it has none."""


class Publisher(Protocol):
    """Writes one run: each batch together with the record of it, and once.

    A batch is there wholly or not at all, or the broker took the first events of it and no more: then the
    record is of those, and BrokerRefuses says so.
    """

    @property
    def run(self) -> Run:
        """The run that it writes, as it was when this began."""
        ...

    @property
    def position(self) -> Position | None:
        """How far a file is published, as far as this process knows."""
        ...

    def use(self, run: Run) -> None:
        """Go on with another run. Raises Stopping and BrokerRefuses."""
        ...

    def end(self) -> None:
        """Say that nothing more of the run will come, if the broker is there."""
        ...

    def publish(self, batch: Batch) -> Sent:
        """Publish a batch, however long it takes: on return it is there, once, and its record counts it.

        Raises Stopping when asked to stop before the broker had confirmed it: then it may be there. Raises
        BrokerRefuses, also where the run has another writer since.
        """
        ...

    def offer(self, batch: Batch) -> Sent | None:
        """Publish a batch unless the stream is full: None, and then nothing of it is there.

        All else is as in `publish`: a broker that is away is waited for, since only it knows whether the
        batch is there. The numbers of a batch that was not taken are free again.
        """
        ...
