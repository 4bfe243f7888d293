"""Open what is read, at its beginning or where the last replay stopped."""

import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass

from services.contract.event import DEFAULT_ENTRY_BYTES
from services.producer.files.inputs import Input, SourceUnusable, format_of, open_input, sniff
from services.producer.files.read import Reader, open_reader
from services.producer.files.reading import Reading
from services.producer.spellings import Spellings
from services.runtime.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
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

    @property
    def name(self) -> str:
        """Name the source for a person and in the run's record."""
        return "standard input" if self.reading.path is None else self.reading.path.name

    def open(self, start: tuple[int, int] = (0, 0)) -> Reader:
        """Open it behind `start`, bytes and lines. Raises SourceUnusable."""
        path = self.reading.path
        mapped, kind = self.reading.mapped, self.reading.format
        if path is None:
            if sys.stdin is None:
                raise SourceUnusable("standard input is closed: there is nothing to read")
            source = Input(sys.stdin.fileno(), self.name, self.is_stopping)
            found, whole = sniff(source, self.is_stopping) if kind is None else (kind, source)
            return open_reader(
                whole,
                self.name,
                found,
                mapped,
                self.spellings,
                self.logger,
                self.metrics,
                is_stopping=self.is_stopping,
                max_entry_bytes=self.max_entry_bytes,
            )
        kind = format_of(path) if kind is None else kind
        if kind is None:
            raise SourceUnusable(f"{path}: is it CSV or JSON lines? Say it: --format csv, --format jsonl")
        file = self.stack.enter_context(closing(open_input(path, self.is_stopping)))
        return open_reader(
            file,
            self.name,
            kind,
            mapped,
            self.spellings,
            self.logger,
            self.metrics,
            start=start,
            seek=file.seek,
            is_stopping=self.is_stopping,
            max_entry_bytes=self.max_entry_bytes,
        )
