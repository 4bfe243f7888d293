"""A broker in memory that behaves as Kafka does towards those who publish, and a producer's side of it.

    log                of all topics: events, and the records of the runs; also what was aborted, and markers
    transactional id   has one producer: who asks for it later gets the next epoch, and fences the one before
    transaction        its entries are for readers once it is committed; none, once it is aborted
    sequence           numbers what a producer sends in an epoch, so what is sent twice is there once

https://cwiki.apache.org/confluence/display/KAFKA/KIP-98+-+Exactly+Once+Delivery+and+Transactional+Messaging
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal, TypeVar

from services.brokers.producing.patience import Patience
from services.brokers.producing.side import ProducerSide, ProducerTools
from services.contract.errors import BrokerRefuses, BrokerUnavailable
from services.contract.ids import draw_name
from services.contract.producing.outgoing import Batch, Position
from services.contract.producing.publishing import Publisher, Replayed, Run, Sent

T = TypeVar("T")

Fault = Literal["", "unsent", "lost", "aborted"]
"""What becomes of a request: it is answered; it does not arrive; its answer doesn't; or the broker has given
the transaction up meanwhile, as it does with one that takes too long."""

_TRIES: Final = 3
"""Of an entry, until its time is up."""

EVENTS: Final = "events"
RUNS: Final = "runs"
REPLAYS: Final = "replays"


class KafkaError(Exception):
    """What the client library raises."""


class TryAgain(KafkaError):
    """No answer came: the same request may be made again."""


class Fenced(KafkaError):
    """Another producer has this transactional id since."""


class MustAbort(Exception):
    """The transaction can't be committed any more: it has to be aborted, and may be made anew."""


@dataclass(slots=True)
class _Entry:
    """One entry of the log. A marker has no topic: it ends a transaction, and has an offset too."""

    topic: str
    key: str
    value: Any
    state: Literal["open", "committed", "aborted"]


@dataclass(slots=True)
class _Seat:
    """What the broker knows of a transactional id."""

    epoch: int = 0
    sequence: int = 0
    """Of the last entry that was taken in this epoch."""
    open: list[_Entry] = field(default_factory=list)
    given_up: bool = False


class FakeKafka:
    """The broker."""

    def __init__(self) -> None:
        self.log: list[_Entry] = []
        self._seats: dict[str, _Seat] = {}

    def seat(self, name: str) -> int:
        """Give the transactional id to whoever asks; gives the epoch. Its open transaction is aborted."""
        seat = self._seats.setdefault(name, _Seat())
        self._end(seat, "aborted")
        seat.epoch, seat.sequence, seat.given_up = seat.epoch + 1, 0, False
        return seat.epoch

    def append(self, name: str, epoch: int, sequence: int, entry: _Entry) -> None:
        """Take an entry of a transaction, unless it is there. Raises Fenced and MustAbort."""
        seat = self._of(name, epoch)
        if seat.given_up:
            raise MustAbort
        if sequence <= seat.sequence:
            return
        assert sequence == seat.sequence + 1, "an entry is missing before this one"
        seat.sequence = sequence
        seat.open.append(entry)
        self.log.append(entry)

    def end(self, name: str, epoch: int, *, commits: bool) -> int:
        """End a transaction; again, where the answer was lost. Gives the number of the last entry taken.

        Raises Fenced and MustAbort.
        """
        seat = self._of(name, epoch)
        if commits and seat.given_up:
            raise MustAbort
        seat.given_up = False
        self._end(seat, "committed" if commits else "aborted")
        return seat.sequence

    def give_up(self, name: str, epoch: int) -> None:
        """Abort a transaction that takes too long, if there is one."""
        seat = self._seats[name]
        if seat.open and epoch == seat.epoch:
            seat.given_up = True
            self._end(seat, "aborted")

    def read(self, topic: str) -> Iterator[tuple[str, Any]]:
        """Give what a reader of committed entries is given: nothing behind the first open transaction."""
        for entry in self.log:
            if entry.state == "open":
                return
            if entry.state == "committed" and entry.topic == topic:
                yield entry.key, entry.value

    def read_to_end(self, topic: str) -> Iterator[tuple[str, Any]]:
        """Give all that is committed, to somebody who waits for what is open: it won't be for ever."""
        for name, seat in self._seats.items():
            self.give_up(name, seat.epoch)
        return self.read(topic)

    def _of(self, name: str, epoch: int) -> _Seat:
        seat = self._seats[name]
        if epoch != seat.epoch:
            raise Fenced(f"another producer has {name} since: epoch {seat.epoch}, and this one has {epoch}")
        return seat

    def _end(self, seat: _Seat, state: Literal["committed", "aborted"]) -> None:
        if seat.open:
            for entry in seat.open:
                entry.state = state
            seat.open = []
            self.log.append(_Entry("", "", None, state))


class TransactionalProducer:
    """The client library: idempotent, with one transaction at a time. `faults`: of its next requests."""

    def __init__(self, kafka: FakeKafka, name: str, faults: list[Fault]) -> None:
        self.name = name
        self._kafka = kafka
        self._faults = faults
        self._epoch = 0
        self._sequence = 0

    def init_transactions(self) -> None:
        """Become the producer of the transactional id. Raises TryAgain."""
        self._epoch = self._request(lambda: self._kafka.seat(self.name))
        self._sequence = 0

    def produce(self, topic: str, key: str, value: object) -> None:
        """Send an entry; the library itself sends it again, for a while. Raises Fenced and MustAbort."""
        self._sequence += 1
        entry = _Entry(topic, key, value, "open")
        for _ in range(_TRIES):
            try:
                self._request(lambda: self._kafka.append(self.name, self._epoch, self._sequence, entry))
            except TryAgain:
                continue
            return
        raise MustAbort

    def commit(self) -> None:
        """Commit the transaction. Raises TryAgain, Fenced and MustAbort."""
        self._request(lambda: self._kafka.end(self.name, self._epoch, commits=True))

    def abort(self) -> None:
        """Abort it. Raises TryAgain and Fenced."""
        # What did not arrive had numbers: they are given again.
        self._sequence = self._request(lambda: self._kafka.end(self.name, self._epoch, commits=False))

    def _request(self, request: Callable[[], T]) -> T:
        fault = self._faults.pop(0) if self._faults else ""
        if fault == "unsent":
            raise TryAgain("not sent")
        if fault == "aborted" and self._epoch:
            self._kafka.give_up(self.name, self._epoch)
        answer = request()
        if fault == "lost":
            raise TryAgain("the answer is lost")
        return answer


class FakePublisher:
    """Writes one run: a batch and the record of it are one transaction."""

    def __init__(self, side: "FakeProducerSide", run: Run) -> None:
        self._side = side
        self.use(run)

    def use(self, run: Run) -> None:
        self.run = run
        self._batches, self._last = run.batches, run.last
        self.position: Position | None = None
        self._producer = self._side.producers[run.name]

    def end(self) -> None:
        """Say nothing: a run that is silent for long is ended."""

    def offer(self, batch: Batch) -> Sent | None:
        """Publish it: it is never full."""
        return self.publish(batch)

    def publish(self, batch: Batch) -> Sent:
        last = max([self._last, *(event.sequence for event in batch.events if event.sequence)])
        run = replace(self.run, batches=self._batches + 1, last=last)
        with self._side.tools.traces.batch(batch.events, run.name):
            self._side.transact(
                self._producer,
                [
                    *((EVENTS, run.name, (event.sequence, event.fields)) for event in batch.events),
                    (RUNS, run.name, _record(run, batch.position)),
                ],
            )
        self._batches, self._last, self.position = run.batches, last, batch.position
        duplicates = sum(1 for event in batch.events if event.is_duplicate)
        return Sent(len(batch.events) - duplicates, duplicates, 0)


class FakeProducerSide:
    """What a producer needs of it. The transactional id is the name of the run."""

    def __init__(self, kafka: FakeKafka, tools: ProducerTools, faults: list[Fault]) -> None:
        self.tools = tools
        self.producers: dict[str, TransactionalProducer] = {}
        self._kafka = kafka
        self._faults = faults
        self._patience = Patience(tools, KafkaError, _judge)

    def open_run(
        self, source: str, replay: str | None = None, fingerprint: str = "", position: Position | None = None
    ) -> Run:
        name = draw_name()
        run = Run(name, name, source, replay, fingerprint)
        entries: list[tuple[str, str, object]] = [(RUNS, name, _record(run, position))]
        if replay is not None:
            entries.append((REPLAYS, replay, name))
        self.transact(self._seated(name), entries)
        return run

    def take_over(self, replay: str, check: Callable[[Replayed], None]) -> Replayed | None:
        name = dict(self._kafka.read_to_end(REPLAYS)).get(replay)
        if name is None:
            return None
        check(self.record(name))
        self._seated(name)
        return self.record(name)

    def publisher(self, run: Run) -> FakePublisher:
        return FakePublisher(self, run)

    def close(self) -> None:
        """Let go of it: what is open is aborted when its time is up."""

    def record(self, run: str) -> Replayed:
        """Give the record of a run."""
        found: Replayed = dict(self._kafka.read_to_end(RUNS))[run]
        return found

    def transact(self, producer: TransactionalProducer, entries: list[tuple[str, str, object]]) -> None:
        """Write entries in one transaction, and anew where it has to be aborted."""
        ask = self._patience.ask
        while True:
            try:
                for topic, key, value in entries:
                    ask(partial(producer.produce, topic, key, value))
                ask(producer.commit)
            except MustAbort:
                ask(producer.abort)
            else:
                return

    def _seated(self, name: str) -> TransactionalProducer:
        producer = self.producers[name] = TransactionalProducer(self._kafka, name, self._faults)
        self._patience.ask(producer.init_transactions)
        return producer


def _record(run: Run, position: Position | None) -> Replayed:
    """Make what the log says of a run; the last one counts."""
    at = position or Position(0, 0)
    return Replayed(run, at.offset, at.line, at.is_done)


def _judge(error: KafkaError) -> BrokerUnavailable | BrokerRefuses:
    kind = BrokerRefuses if isinstance(error, Fenced) else BrokerUnavailable
    return kind(str(error), type(error).__name__)


def keep_their_promises(side: FakeProducerSide, run: Run) -> tuple[ProducerSide, Publisher]:
    """Let mypy check the fakes against the protocols they stand for."""
    return side, side.publisher(run)
