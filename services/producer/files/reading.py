"""Which file is read, and how: what the options say of it."""

from dataclasses import dataclass
from pathlib import Path

from services.producer.files.inputs import STANDARD_INPUT
from services.producer.files.texts import Format, Mapped


@dataclass(frozen=True, slots=True)
class Reading:
    """What file is read, and how."""

    source: str
    """A path, or `-` for standard input."""
    mapped: Mapped
    format: Format | None
    resume: bool

    @property
    def path(self) -> Path | None:
        """The file; None for standard input."""
        return None if self.source == STANDARD_INPUT else Path(self.source)
