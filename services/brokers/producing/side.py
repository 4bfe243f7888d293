"""What a broker gives to a producer, and is given by it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from services.brokers.producing.send_traces import NO_TRACES, Traces
from services.brokers.tools import Tools
from services.contract.producing.outgoing import Position
from services.contract.producing.publishing import Publisher, Replayed, Run
from services.runtime.health import Health


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
