"""Run `telemetry copy` that kills itself: `copy_killed_at.py POINT COUNT ARGUMENT...`.

    opened           both sides are open, and nothing is copied yet
    before_events    some events are read and are not at the target
    mid_events       they are written, and not committed; or, on PostgreSQL, nobody knows
    uncompared       they are durable there, and nobody has looked whether they are the same
    after_events     and they were compared
    after_marks      what was replayed and purged is there, and no letter is
    mid_letters      half of the letters is written; on PostgreSQL, nothing is committed
    after_letters    all letters are there
    before_proven    everything is compared, and nothing of what is proven is there
    mid_proven       it is written in part, and not committed
    after_proven     all of it is there, and nobody was told

The command is the real one: only its doors are dressed. A page is of ten events.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import psycopg

from services.ops.app import app
from services.ops.copy import copying, events
from services.stores.files import lines
from services.stores.files.copying import CopiedLetterFile
from services.stores.postgres.copying.letters import PostgresCopiedLetters
from services.stores.postgres.copying.rows import PostgresCopied
from services.stores.postgres.exchange import Exchange
from services.stores.sqlite.copying import SQLiteCopied
from services.stores.sqlite.sink import SQLiteSink

POINTS = (
    "opened",
    "before_events",
    "mid_events",
    "uncompared",
    "after_events",
    "after_marks",
    "mid_letters",
    "after_letters",
    "before_proven",
    "mid_proven",
    "after_proven",
)


class Trap:
    """Springs when its point is reached for the n-th time."""

    def __init__(self, point: str, count: int) -> None:
        self.point = point
        self._left = count

    def reach(self, point: str) -> None:
        """Visit a point, and perhaps stay there."""
        if point == self.point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def dress(cls: Any, name: str, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Have something done before and after a method."""
    inner = getattr(cls, name)

    def dressed(*arguments: Any) -> Any:
        before()
        result = inner(*arguments)
        after()
        return result

    setattr(cls, name, dressed)


def main(point: str, count: str, *arguments: str) -> None:
    """Run the command, with a trap in its doors."""
    trap = Trap(point, int(count))
    vars(events)["EVENTS_AT_ONCE"] = 10
    stage = ["events"]

    def enter(name: str, point: str = "") -> Callable[[], None]:
        def note() -> None:
            stage[0] = name
            trap.reach(point)

        return note

    def reach(point: str) -> Callable[[], None]:
        return lambda: trap.reach(point)

    for cls in (SQLiteCopied, PostgresCopied):
        dress(cls, "bring", enter("events", "before_events"), reach("after_events"))
        dress(cls, "_same", reach("uncompared"), lambda: None)
        dress(cls, "put_proven", enter("proven"), reach("after_proven"))
        dress(cls, "put_drops", enter("drops", "before_proven"), enter("drops"))
    for letters in (CopiedLetterFile, PostgresCopiedLetters):
        dress(letters, "mark", enter("marks"), reach("after_marks"))
        dress(letters, "take", enter("letters"), reach("after_letters"))
    dress(SQLiteSink, "commit", lambda: trap.reach(f"mid_{stage[0]}"), lambda: None)
    dress(copying, "copy", reach("opened"), lambda: None)
    from services.ops.copy import command

    vars(command)["copy"] = copying.copy

    write_all = lines._write_all

    def write_half(descriptor: int, data: bytes) -> None:
        if stage[0] == "letters":
            half = len(data) // 2
            write_all(descriptor, data[:half])
            trap.reach("mid_letters")
            data = data[half:]
        write_all(descriptor, data)

    vars(lines)["_write_all"] = write_half

    send = Exchange._send

    def send_or_die(exchange: Exchange, *statements: Any) -> Any:
        """Die when all of it is sent, the COMMIT too, and before an answer is read."""
        sending = send(exchange, *statements)
        wanted = next(sending)
        if any(b"INSERT" in one.sql for one in statements):
            trap.reach("mid_events")
        while True:
            try:
                wanted = sending.send((yield wanted))
            except StopIteration as stop:
                return stop.value

    setattr(Exchange, "_send", send_or_die)  # noqa: B010 - it is dressed

    many = psycopg.Cursor.executemany

    def many_or_die(cursor: Any, *given: Any, **more: Any) -> None:
        many(cursor, *given, **more)
        trap.reach(f"mid_{stage[0]}")

    setattr(psycopg.Cursor, "executemany", many_or_die)  # noqa: B010 - as above
    app(["copy", *arguments])


if __name__ == "__main__":
    main(*sys.argv[1:])
