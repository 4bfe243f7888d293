"""What no broker gives is told as what it is: nothing is stored, judged or acknowledged for it."""

import logging
from typing import Any

import pytest
from fakes import FakeClock, FakeDeadLetters, FakeSink, FakeSource, FakeStream
from samples import KPIS, event_fields

from services.consumer.batch import Rules, run_batch
from services.consumer.breaker import Breaker
from services.consumer.packed.suspects import Settled
from services.consumer.packed.unpacking import UnpackingSource
from services.consumer.persist import Persist
from services.contract.consuming.doors import Entry
from services.contract.errors import SourceUnavailable
from services.runtime.health import Health
from services.runtime.telemetry.metrics import Metrics

LOGGER = logging.getLogger("test.form")
GOOD = event_fields(1)

ODD: list[tuple[Any, Any]] = [
    (b"1-1", 5),
    (b"1-1", None),
    (b"1-1", [b"x"]),
    (b"1-1", [b"x", None]),
    (b"1-1", [b"events", None, b"lines", None]),
    (b"1-1", [b"events", b"1", b"lines"]),
    (b"1-1", [b"x", 5, b"y", [b"z"]]),
    (b"1-1", [*GOOD[:-1], None]),
    (b"1-1", [*GOOD, b"x"]),
    (b"1-1", b"xx"),
    (b"zz\xff\x1b", [b"x", b"y"]),
    (7, [b"x", b"y"]),
    (None, [b"x", b"y"]),
]


class OddSource(FakeSource):
    """What it gives is no entry of any broker."""

    def __init__(self, entries: list[Entry]) -> None:
        self.stream = FakeStream()
        super().__init__(self.stream)
        self.entries = entries

    def read(self) -> list[Entry]:
        """Give it."""
        return self.entries


@pytest.mark.parametrize("deliveries", [1, 6])
@pytest.mark.parametrize(("entry_id", "fields"), ODD)
def test_what_no_broker_gives_is_told_and_nothing_becomes_of_it(
    entry_id: Any, fields: Any, deliveries: int
) -> None:
    """It comes beside an ordinary event, for the first time or once too often: neither is settled."""

    def settled(_entry_id: bytes, _events: object) -> Settled:
        raise AssertionError

    clock, sink, letters = FakeClock(), FakeSink(), FakeDeadLetters()
    entries = [Entry(b"1-0", GOOD), Entry(entry_id, fields, deliveries)]
    inner = OddSource(entries)
    source = UnpackingSource(inner, settled, LOGGER, batch_size=10, max_entry_bytes=1 << 20, max_deliveries=5)
    health = Health(60.0, clock.monotonic)
    persist = Persist(sink, letters, 3, 0.5, clock, health, Metrics("consumer"), LOGGER)
    with pytest.raises(SourceUnavailable, match="as no broker does"):
        run_batch(source.read(), source, Rules(KPIS, 300.0, 5), persist, Breaker(0.0), clock.now)
    # Before the odd one was looked at nothing was stored.
    assert (sink.rows, letters.lines, inner.stream.acked) == ({}, [], [])
