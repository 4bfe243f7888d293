"""Open what is read, at its beginning or where the last replay stopped."""

import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from services.contract.event import DEFAULT_ENTRY_BYTES
from services.producer.files.decode import SourceUnusable, decoded
from services.producer.files.inputs import Input, Make, open_input, tell_format
from services.producer.files.lines import Bytes
from services.producer.files.opening import Wants, open_reader
from services.producer.files.read import MOST_OF_A_RECORD, Reader
from services.producer.files.reading import Reading
from services.producer.rows.resolve import resolver
from services.producer.spellings import NumberStyle, Spellings
from services.runtime.telemetry.metrics import Metrics


@dataclass(slots=True)
class Opener:
    """Opens the source that the options name."""

    reading: Reading
    spellings: Spellings
    is_stopping: Callable[[], bool]
    logger: logging.Logger
    metrics: Metrics
    stack: ExitStack
    """Closes what is opened."""
    max_entry_bytes: int = DEFAULT_ENTRY_BYTES
    most_of_a_record: int = MOST_OF_A_RECORD
    file: Path | None = None
    """What is read in place of the path: what lay there before."""
    make: Make = Input
    is_exact: bool = field(default=True, init=False)
    """Whether the positions of what was opened are those of the file's bytes."""

    _source: Input | None = field(default=None, init=False)

    @property
    def bytes_read(self) -> int:
        """How many bytes of the file itself are read."""
        return 0 if self._source is None else self._source.position

    @property
    def name(self) -> str:
        """Name the source for a person and in the run's record."""
        return "standard input" if self.reading.path is None else self.reading.path.name

    def open(self, start: tuple[int, int] = (0, 0)) -> Reader:
        """Open it behind `start`, bytes and lines. Raises SourceUnusable."""
        self._source = source = self._input()
        mapped = self.reading.mapped
        begins, whole, is_changed = decoded(source, self.name, mapped.layout.encoding, self.is_stopping)
        kind = tell_format(self.reading.path, begins, mapped)
        self.is_exact = not is_changed and kind not in {"json", "senml"}
        reader = open_reader(
            whole,
            kind,
            mapped,
            Wants(
                name=self.name,
                logger=self.logger,
                metrics=self.metrics,
                resolve=resolver(self.spellings, NumberStyle(mapped.decimal, mapped.thousands)),
                is_stopping=self.is_stopping,
                max_entry_bytes=self.max_entry_bytes,
                most_of_a_record=self.most_of_a_record,
            ),
            start=start,
            rewind=_rewinder(source) if self.is_exact and self.reading.path is not None else None,
        )
        reader.half = lambda: self.reading.half
        reader.is_torn = self.is_exact and self.reading.path is not None and source.is_within_line(start[0])
        return reader

    def _input(self) -> Input:
        path = self.reading.path
        if path is not None:
            opened = open_input(self.file or path, self.is_stopping, self.make)
            return self.stack.enter_context(closing(opened))
        if sys.stdin is None:
            raise SourceUnusable("standard input is closed: there is nothing to read")
        return Input(sys.stdin.fileno(), self.name, self.is_stopping)


def _rewinder(source: Input) -> Callable[[int], Bytes]:
    def rewind(offset: int) -> Bytes:
        source.seek(offset)
        return source

    return rewind
