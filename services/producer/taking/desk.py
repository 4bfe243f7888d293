"""Where events wait until they are in the stream: handed in by many threads, published by one.

Each bundle, the events of one request, is published whole, and in one step with the bundles beside it. It
hears what became of it once that is certain. Nothing is kept for later: what isn't in the stream belongs to
whoever sent it.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from services.contract.producing.outgoing import Batch, Numbering, Outgoing, Position
from services.contract.producing.publishing import Publisher, Run, Sent
from services.producer.rows.pick import Picked
from services.producer.rows.publishable import numbered
from services.producer.taking.making import ARRIVAL

Outcome = Literal["taken", "full", "away"]
"""In the stream; not in it, since it is full; perhaps in it, or not, since nobody could say."""

MOST_TOGETHER: Final = 1000
"""Events of a batch; a larger bundle is a batch by itself."""
_ENOUGH: Final = 100
"""Events that are worth a step of the server by themselves: they wait for no others. What comes while the
step is under way shares the next one."""
_TURN_S: Final = 0.2
"""How long the loop waits for a bundle at most: it is alive, and hears that it is to stop."""


class AsItCame(NamedTuple):
    """What makes no event. It is published all the same, so that it becomes a dead letter."""

    fields: list[str | bytes]
    """Names and values in turn. It has a number of the run besides, by which an audit finds it."""


@dataclass(slots=True, eq=False)
class Bundle:
    """Events that are published together or not at all."""

    events: Sequence[Picked | AsItCame | Outgoing]
    settle: Callable[[Outcome], None]
    """Is called once, by the thread that publishes."""
    is_withdrawn: bool = False
    """Whether nobody waits for it any more; one that isn't taken up yet is dropped then."""


class Desk:
    """Takes bundles from any thread, and is the feed of the loop.

    `linger_s`: how long a few events wait for others.
    """

    def __init__(self, linger_s: float, monotonic: Callable[[], float]) -> None:
        self._linger_s = linger_s
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._waiting: deque[Bundle] = deque()
        self._events = 0
        self._in_hand: list[Bundle] = []
        self._is_closed = False
        self._numbering: Numbering | None = None
        self._last = 0

    @property
    def is_closed(self) -> bool:
        """Whether nothing is taken any more."""
        return self._is_closed

    def hand_in(self, bundle: Bundle) -> bool:
        """Leave a bundle; False where nothing is taken any more."""
        with self._changed:
            if self._is_closed:
                return False
            self._waiting.append(bundle)
            self._events += len(bundle.events)
            if len(self._waiting) == 1 or self._events >= _ENOUGH:
                self._changed.notify()
        return True

    def next_batch(self, size: int, now: float, numbering: Numbering) -> Batch | None:
        """Give the bundles that wait, up to `size` events or one bundle; none where none waits."""
        self._in_hand = self._take(size)
        self._numbering, self._last = numbering, numbering.last
        now_ms, arrival = int(now * 1000), f"{now:.3f}"
        return Batch(
            [
                _outgoing(picked, now_ms, arrival, numbering)
                for bundle in self._in_hand
                for picked in bundle.events
            ]
        )

    def _take(self, size: int) -> list[Bundle]:
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting, _TURN_S):
                return []
            ends = self._monotonic() + self._linger_s
            while self._events < min(size, _ENOUGH) and (left := ends - self._monotonic()) > 0:
                self._changed.wait(left)
            taken: list[Bundle] = []
            events = 0
            while self._waiting and (not taken or events + len(self._waiting[0].events) <= size):
                bundle = self._waiting.popleft()
                self._events -= len(bundle.events)
                if not bundle.is_withdrawn:
                    taken.append(bundle)
                    events += len(bundle.events)
            return taken

    def settle(self, outcome: Outcome) -> None:
        """Tell the bundles in hand what became of them."""
        if outcome == "full" and self._numbering is not None:
            self._numbering.last = self._last  # nothing was written under these numbers
        bundles, self._in_hand = self._in_hand, []
        for bundle in bundles:
            bundle.settle(outcome)

    def close(self) -> None:
        """Take nothing more, and publish nothing more: what is here is given back."""
        with self._changed:
            self._is_closed = True
            waiting, self._waiting = list(self._waiting), deque()
            self._events = 0
        self.settle("away")
        for bundle in waiting:
            bundle.settle("away")


class Offering:
    """The publisher of a loop whose batches are of a desk: who handed one in hears what became of it.

    `waits`: for room in a full stream. Otherwise they hear that there is none.
    """

    def __init__(self, publisher: Publisher, desk: Desk, *, waits: bool = False) -> None:
        self._publisher = publisher
        self._desk = desk
        self._waits = waits

    @property
    def run(self) -> Run:
        """The run that is written."""
        return self._publisher.run

    @property
    def position(self) -> Position | None:
        """None: there is no file."""
        return self._publisher.position

    def use(self, run: Run) -> None:
        """Go on with another run. Raises Stopping and BrokerRefuses."""
        self._publisher.use(run)

    def end(self) -> None:
        """Say that nothing more of the run will come."""
        self._publisher.end()

    def publish(self, batch: Batch) -> Sent:
        """Publish a batch, or give it back. Raises Stopping and BrokerRefuses; the desk is closed then."""
        try:
            sent = self._publisher.publish(batch) if self._waits else self._publisher.offer(batch)
        except BaseException:
            # It may be there. Another batch in its place could be taken for it.
            self._desk.close()
            raise
        self._desk.settle("full" if sent is None else "taken")
        return Sent(0, 0, 0) if sent is None else sent

    def offer(self, batch: Batch) -> Sent | None:
        """Publish a batch unless the stream is full. Raises Stopping and BrokerRefuses."""
        return self._publisher.offer(batch)


def _outgoing(
    picked: Picked | AsItCame | Outgoing, now_ms: int, arrival: str, numbering: Numbering
) -> Outgoing:
    if isinstance(picked, Outgoing):
        return picked
    if isinstance(picked, AsItCame):
        event_id, sequence = numbering.take(now_ms)
        return Outgoing(["event_id", event_id, *picked.fields], sequence, is_plain=False)
    if picked.values[2] == ARRIVAL:
        device_id, zone, _, kpi, value = picked.values
        picked = picked._replace(values=[device_id, zone, arrival, kpi, value])
    return numbered(picked, now_ms, numbering)
