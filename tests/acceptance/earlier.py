"""Run a consumer as of a version before entries of many events: `earlier.py`.

It says nothing of the forms that it reads, and such an entry is a dead letter to it.
"""

import math
import sys
from collections.abc import Sequence

from services.brokers.redis.consuming.reading.forms import Forms
from services.consumer import __main__ as consumer
from services.contract.codec import is_packed
from services.contract.consuming.doors import DeadLetters, Entry, Sink, Source


class Earlier:
    """A source whose entries of many events have a field that nobody knows."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def read(self) -> list[Entry]:
        return [_known(entry) for entry in self._source.read()]

    def drain(self) -> list[Entry]:
        return [_known(entry) for entry in self._source.drain()]

    def ack(self, entries: Sequence[Entry]) -> None:
        self._source.ack(entries)

    def limit(self, most: int) -> None:
        self._source.limit(most)

    def still_working(self) -> None:
        self._source.still_working()

    def expect_large(self) -> None:
        self._source.expect_large()

    def now(self) -> float | None:
        return self._source.now()

    def close(self) -> None:
        self._source.close()


def _known(entry: Entry) -> Entry:
    return entry._replace(fields=[*entry.fields, b"of", b"later"]) if is_packed(entry.fields) else entry


def _dress(doors: tuple[Source, Sink, DeadLetters]) -> tuple[Source, Sink, DeadLetters]:
    source, sink, dead_letters = doors
    return Earlier(source), sink, dead_letters


def _say_nothing(forms: Forms) -> None:
    forms.due_at = math.inf


if __name__ == "__main__":
    for name in ("announce", "end"):
        setattr(Forms, name, _say_nothing)
    sys.exit(consumer.main(_dress))
