"""Which file is read, and how: what the options say of it."""

from dataclasses import dataclass
from pathlib import Path

from services.producer.files.inputs import STANDARD_INPUT
from services.producer.files.lines import Half
from services.producer.mapping.mapped import Mapped


@dataclass(frozen=True, slots=True)
class Reading:
    """What file is read, and how."""

    source: str
    """A path, or `-` for standard input; of what is followed also a folder or a pattern."""
    mapped: Mapped
    resume: bool
    """Go on behind what is published of it."""
    again: bool = False
    """Publish it from its beginning, whatever is published of it."""
    is_complete: bool = False
    """Nobody writes to it: a last line without an end is a line."""
    follow: bool = False
    """Wait for what is appended to it."""
    max_rejected: int = 0
    """So many refused lines and readings are no failure."""

    @property
    def half(self) -> Half:
        """What becomes of a last line without an end: where one goes on later, it waits for its rest."""
        return "wait" if self.resume and not self.is_complete else "take"

    @property
    def path(self) -> Path | None:
        """The file; None for standard input."""
        return None if self.source == STANDARD_INPUT else Path(self.source)
