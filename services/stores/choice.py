"""Which store it is: chosen by the settings, here and nowhere else."""

import time
from collections.abc import Callable
from logging import Logger
from typing import TYPE_CHECKING

from services.contract.doors import DeadLetters, Sink
from services.contract.operating import LetterStore
from services.runtime.clock import Clock
from services.runtime.settings import ConsumerSettings
from services.stores.rows import Rows

if TYPE_CHECKING:  # as for what is not chosen: a command that reads loads no more than it needs
    from services.runtime.telemetry.metrics import Figures


def open_sink(settings: ConsumerSettings, clock: Clock, logger: Logger) -> Sink:
    """Open where rows are stored. Raises SinkUnavailable where that passes, and SinkUnusable."""
    from services.stores.sqlite.sink import SQLiteSink  # noqa: PLC0415 - what is not chosen is not imported

    return SQLiteSink(
        settings.database,
        settings.sqlite_busy_timeout_ms,
        clock.now,
        logger,
        settings.name,
        clock.is_stopping,
    )


def open_dead_letters(settings: ConsumerSettings, clock: Clock) -> DeadLetters:
    """Open what keeps dead letters beside the rows, and not at the broker."""
    from services.stores.files.dead_letters import DeadLetterFile  # noqa: PLC0415 - as above

    return DeadLetterFile(settings.dead_letter_file, clock.now, settings.name)


def figures_of(settings: ConsumerSettings, logger: Logger) -> Callable[[], "Figures"]:
    """Give what tells, when it is asked, how much room the rows and letters take, and what is left."""
    from services.stores.storage import Storage  # noqa: PLC0415 - as above

    return Storage(settings, logger).figures


def open_rows(settings: ConsumerSettings) -> Rows:
    """Open the stored rows to read them.

    Raises SinkAbsent where there are none yet, SinkUnusable for what isn't ours or is of a newer version, and
    SinkUnavailable where it can't be read now.
    """
    from services.stores.sqlite.rows import SQLiteRows  # noqa: PLC0415 - as above

    return SQLiteRows(settings.database)


def open_letter_store(settings: ConsumerSettings) -> LetterStore:
    """Open the dead letters that are kept beside the rows, and not at the broker, to look at them."""
    from services.stores.files.dead_letters import DeadLetterFile  # noqa: PLC0415 - as above

    return DeadLetterFile(settings.dead_letter_file, time.time, max_entry_bytes=settings.max_entry_bytes)
