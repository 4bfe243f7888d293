"""Which file is read, and how: what the options say of it."""

from dataclasses import dataclass
from pathlib import Path

from services.producer.files.inputs import STANDARD_INPUT
from services.producer.mapping.mapped import Mapped


@dataclass(frozen=True, slots=True)
class Reading:
    """What file is read, and how."""

    source: str
    """A path, or `-` for standard input."""
    mapped: Mapped
    resume: bool
    max_rejected: int = 0
    """So many refused lines and readings are no failure."""

    @property
    def path(self) -> Path | None:
        """The file; None for standard input."""
        return None if self.source == STANDARD_INPUT else Path(self.source)
