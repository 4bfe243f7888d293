"""Run a consumer that kills itself: `killed_at.py POINT COUNT [SIGNAL]` or `killed_at.py POINT ID,ID...`.

    after_read              a batch was received, nothing is done with it yet
    before_write            a batch is validated, nothing of it is written
    mid_transaction         its rows are inserted, and not committed; or, on PostgreSQL, nobody knows
    after_commit            its rows are durable; its dead letters are not
    mid_dead_letter         half of its dead letters is written
    after_dead_letters      all of it is durable, nothing is acknowledged
    after_ack_sent          the acknowledgement is sent, its answer is not read
    with_batch_asked_ahead  as after_dead_letters, and the next batch is on its way

    event_validated         an event ID is about to be validated
    event_written           an event ID is about to be written

SIGKILL, unless another signal is named: after SIGTERM it goes on, as far as that lets it.

The consumer is the real one: only its doors are dressed, so production code holds no hooks.
"""

import os
import signal
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from services.consumer import __main__ as consumer
from services.consumer import batch
from services.consumer.recognise import recognise
from services.contract.consuming.doors import Dead, DeadLetters, Entry, Sink, Source, Written
from services.contract.event import Event
from services.stores.files import lines
from services.stores.postgres import exchange as exchanges
from services.stores.postgres.exchange import Exchange, Statement
from services.stores.sqlite.sink import SQLiteSink

POINTS = (
    "after_read",
    "before_write",
    "mid_transaction",
    "after_commit",
    "mid_dead_letter",
    "after_dead_letters",
    "after_ack_sent",
    "with_batch_asked_ahead",
)


class Trap:
    """Springs when `point` is reached for the n-th time, or with one of these events."""

    def __init__(self, point: str, target: str, number: signal.Signals) -> None:
        self._point = point
        self._left = int(target) if target.isdigit() else 0
        self._event_ids = frozenset(target.split(","))
        self._number = number

    def springs(self, point: str) -> bool:
        """Count a visit of a point, and tell whether it is the one."""
        if point != self._point:
            return False
        self._left -= 1
        return self._left == 0

    def reach(self, point: str) -> None:
        """Visit a point, and perhaps stay there."""
        if self.springs(point):
            self.spring()

    def meet(self, point: str, event_ids: Sequence[str]) -> None:
        """Visit a point with events in hand."""
        if point == self._point and not self._event_ids.isdisjoint(event_ids):
            self.spring()

    def spring(self) -> None:
        """Send the signal to ourselves."""
        if signal.getsignal(self._number) is signal.SIG_IGN:  # a shell's background jobs ignore some
            signal.signal(self._number, signal.SIG_DFL)
        os.kill(os.getpid(), self._number)


class DyingSource:
    """A source that may die at its reads and acknowledgements."""

    def __init__(self, inner: Source, trap: Trap) -> None:
        self._inner: Any = inner
        self._trap = trap

    def read(self) -> list[Entry]:
        entries: list[Entry] = self._inner.read()
        if entries:
            self._trap.reach("after_read")
        return entries

    def drain(self) -> list[Entry]:
        entries: list[Entry] = self._inner.drain()
        return entries

    def still_working(self) -> None:
        self._inner.still_working()

    def limit(self, most: int) -> None:
        self._inner.limit(most)

    def expect_large(self) -> None:
        self._inner.expect_large()

    def now(self) -> float | None:
        told: float | None = self._inner.now()
        return told

    def ack(self, entries: Sequence[Entry]) -> None:
        if self._inner._new.is_asked:
            self._trap.reach("with_batch_asked_ahead")
        self._inner.ack(entries)
        self._trap.reach("after_ack_sent")

    def close(self) -> None:
        self._inner.close()


class DyingSink:
    """A sink that may die around its writes."""

    def __init__(self, inner: Sink, trap: Trap) -> None:
        self._inner = inner
        self._trap = trap
        # The one step inside a write.
        if isinstance(inner, SQLiteSink):
            commit = inner.commit

            def commit_or_die(connection: Any) -> None:
                trap.reach("mid_transaction")
                commit(connection)

            inner.commit = commit_or_die  # type: ignore[method-assign]
        else:
            send = Exchange._send

            def send_or_die(exchange: Exchange, *statements: Statement) -> Any:
                """Die when all of it is sent, the COMMIT too, and before an answer is read."""
                sending = send(exchange, *statements)
                wanted = next(sending)
                trap.reach("mid_transaction")
                while True:
                    try:
                        wanted = sending.send((yield wanted))
                    except StopIteration as stop:
                        return stop.value

            vars(exchanges)["Exchange"]._send = send_or_die

    def write(self, rows: Sequence[Event]) -> Written:
        self._trap.reach("before_write")
        self._trap.meet("event_written", [row.event_id for row in rows])
        written = self._inner.write(rows)
        self._trap.reach("after_commit")
        return written

    def probe(self) -> None:
        self._inner.probe()

    def close(self) -> None:
        self._inner.close()


class DyingDeadLetters:
    """Dead letters that may die after they are written."""

    def __init__(self, inner: DeadLetters, trap: Trap) -> None:
        self._inner = inner
        self._trap = trap

    def put(self, dead: Sequence[Dead]) -> None:
        self._inner.put(dead)
        self._trap.reach("after_dead_letters")

    def read(self) -> Iterator[object]:
        return self._inner.read()

    def events_of(self, entry_id: str) -> Collection[str]:
        return self._inner.events_of(entry_id)

    def close(self) -> None:
        self._inner.close()


def main(point: str, target: str, number: str = "SIGKILL") -> int:
    """Run the consumer, with a trap in its doors and in two of its steps."""
    trap = Trap(point, target, signal.Signals[number])
    write_all = lines._write_all

    def write_half(descriptor: int, data: bytes) -> None:
        if trap.springs("mid_dead_letter"):
            write_all(descriptor, data[: len(data) // 2])
            trap.spring()
            data = data[len(data) // 2 :]
        write_all(descriptor, data)

    def recognise_or_die(entries: Sequence[Entry], *rules: Any) -> Any:
        trap.meet("event_validated", [part.decode(errors="replace") for e in entries for part in e.fields])
        return recognise(entries, *rules)

    # The two steps inside a door and inside the batch, in their modules.
    vars(lines)["_write_all"] = write_half
    vars(batch)["recognise"] = recognise_or_die
    return consumer.main(
        lambda doors: (
            DyingSource(doors[0], trap),
            DyingSink(doors[1], trap),
            DyingDeadLetters(doors[2], trap),
        )
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
