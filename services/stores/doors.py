"""What a store gives to those who use it: a consumer, and a person with a command."""

from collections.abc import Callable, Iterator
from logging import Logger
from typing import TYPE_CHECKING, Protocol

from services.contract.consuming.doors import DeadLetters, Sink
from services.contract.consuming.letter import DeadLetter
from services.contract.consuming.proofs import Proofs
from services.contract.consuming.readings import LastReadings
from services.contract.consuming.retention import Retention
from services.contract.operating import LetterStore
from services.runtime.clock import Clock
from services.stores.copying import CopiedLetters, CopiedRows
from services.stores.rows import Rows

if TYPE_CHECKING:  # a command that reads loads no more than it needs
    from services.runtime.telemetry.metrics import Figures


class Letters(DeadLetters, LetterStore, Protocol):
    """Dead letters, with what the commands ask of them."""

    def read(self) -> Iterator[DeadLetter]:
        """Give every letter, the oldest first."""
        ...


class Store(Protocol):
    """One store, as the settings name it; nothing is opened yet."""

    @property
    def place(self) -> str:
        """Name it for a person, without a password."""
        ...

    def open_sink(self, clock: Clock, logger: Logger) -> Sink:
        """Open where rows are stored. Raises SinkUnavailable where that passes, and SinkUnusable."""
        ...

    def see_usable(self) -> None:
        """See that it takes rows, as a consumer does when it starts; what lies in DATA_DIR is not looked at.

        Raises SinkUnavailable where that may pass, and SinkUnusable.
        """
        ...

    def is_blank(self) -> bool:
        """Tell whether it is a database in which nothing of our pipeline was ever kept; its tables are there.

        No file is one: it goes with its folder, and another folder is another beginning. Raises
        SinkUnavailable and SinkUnusable.
        """
        ...

    def open_rows(self) -> Rows:
        """Open the rows to read them. Raises SinkAbsent, SinkUnusable and SinkUnavailable."""
        ...

    def lacking_rights(self) -> dict[str, list[str]]:
        """Tell what this user lacks for each use of the store; nothing where there are no users.

        Raises SinkUnavailable and SinkUnusable.
        """
        ...

    def open_proofs(self) -> Proofs:
        """Give what audits of our pipeline, stream and group have proven; nothing is sent yet."""
        ...

    def open_retention(self) -> Retention:
        """Give what drops old days of our pipeline, and of all others there; nothing is opened yet."""
        ...

    def open_readings(self) -> LastReadings:
        """Give the last readings of our pipeline's devices; nothing is opened yet."""
        ...

    def open_letters(self, now: Callable[[], float], consumer: str = "") -> Letters:
        """Open the dead letters beside the rows."""
        ...

    def open_copied(self, logger: Logger, *, may_write: bool) -> CopiedRows:
        """Open the tables for a copy. `may_write`: they are made, or brought up to date.

        Raises SinkAbsent, SinkUnusable and SinkUnavailable.
        """
        ...

    def open_copied_letters(self) -> CopiedLetters:
        """Open the dead letters beside the rows for a copy. Raises DeadLettersUnavailable."""
        ...

    def figures(self) -> "Figures":
        """Tell what is known of the store beside the disk of DATA_DIR; asked by any thread."""
        ...
