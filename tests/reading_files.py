"""Read a file as `python -m services.producer --from FILE` would, without a broker."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from services.contract.producing.outgoing import Numbering, Position
from services.producer.files.account import Account
from services.producer.files.ending import Ending
from services.producer.files.replay import Opener
from services.producer.options import read_options
from services.producer.spellings import Spellings
from services.runtime.telemetry.metrics import Metrics

LOGGER = logging.getLogger("test-files")
LOGGER.addHandler(logging.NullHandler())
LOGGER.propagate = False


@dataclass
class Read:
    """What came of a file."""

    events: list[tuple[str, ...]] = field(default_factory=list)
    """device_id, zone, ts, kpi, value."""
    refused: list[tuple[int, str]] = field(default_factory=list)
    account: Account = field(default_factory=Account)
    positions: list[tuple[Position, int]] = field(default_factory=list)
    """Of each batch, with how many events there were up to it."""
    failures: list[str] = field(default_factory=list)

    def add(self, line: int, reason: str, _data: bytes) -> None:
        self.refused.append((line, reason))

    def flush(self) -> None:
        pass


def read_file(
    path: Path,
    *options: str,
    start: tuple[int, int] = (0, 0),
    size: int = 500,
    is_stopping: Callable[[], bool] = lambda: False,
) -> Read:
    told = read_options(["--from", str(path), *options])
    assert told.reading is not None
    found = Read()
    with ExitStack() as stack:
        spellings = Spellings(told.settings.kpis)
        opener = Opener(told.reading, spellings, is_stopping, LOGGER, Metrics("producer"), stack)
        reader = opener.open(start)
        reader.refusals = found
        numbering = Numbering("7abc-8def-012")
        while (batch := reader.next_batch(size, 1.0, numbering)) is not None:
            for event in batch.events:
                texts = event.fields[1:] if event.is_plain else event.fields[3:13:2]
                found.events.append(tuple(map(str, texts)))
            reader.confirm()
            assert batch.position is not None
            found.positions.append((batch.position, len(found.events)))
        found.account = reader.published
        found.failures = Ending(reader, told.reading, is_resumed=start != (0, 0)).failures()
    assert found.account.is_balanced
    return found
