"""SQLite, as the settings name it: one file in DATA_DIR."""

import time
from collections.abc import Callable
from logging import Logger
from typing import TYPE_CHECKING, Final

from services.contract.consuming.doors import Sink
from services.contract.consuming.proofs import Proofs
from services.contract.consuming.readings import LastReadings
from services.contract.consuming.retention import Retention
from services.runtime.clock import Clock
from services.runtime.settings import ConsumerSettings, SettingsInvalid
from services.stores.copying import CopiedLetters, CopiedRows
from services.stores.doors import Letters
from services.stores.proofs import scope_of
from services.stores.rows import Rows
from services.stores.sqlite.copying import SQLiteCopied, open_to_write
from services.stores.sqlite.proofs import SQLiteProofs
from services.stores.sqlite.readings import SQLiteReadings
from services.stores.sqlite.retention import SQLiteRetention, register
from services.stores.sqlite.rows import SQLiteRows
from services.stores.sqlite.sink import SQLiteSink

if TYPE_CHECKING:  # a command that reads loads no more than it needs
    from services.runtime.telemetry.metrics import Figures

_NO_LETTERS: Final = "DEAD_LETTERS=database: the events are in SQLite, and letters are not there"


class SQLiteStore:
    """The file, and what is beside it."""

    def __init__(self, settings: ConsumerSettings) -> None:
        """Look at the settings. Raises SettingsInvalid."""
        if settings.letters_in == "database":
            raise SettingsInvalid(
                ["DEAD_LETTERS=database: the events are in SQLite; set DATABASE_URL, or DEAD_LETTERS=file"]
            )
        if settings.database_device_index:
            raise SettingsInvalid(
                ["DATABASE_DEVICE_INDEX=true: the events are in SQLite; set DATABASE_URL, or leave it out"]
            )
        self._settings = settings

    @property
    def place(self) -> str:
        """Name the file."""
        return str(self._settings.database)

    def open_sink(self, clock: Clock, logger: Logger) -> Sink:
        """Open the file to write. Raises SinkUnavailable where that passes, and SinkUnusable."""
        settings = self._settings
        sink = SQLiteSink(
            settings.database,
            settings.sqlite_busy_timeout_ms,
            clock.now,
            logger,
            settings.name,
            clock.is_stopping,
        )
        try:
            with sink.transaction() as connection:
                register(connection, scope_of(settings))
        except BaseException:
            sink.close()
            raise
        return sink

    def see_usable(self) -> None:
        """Do nothing: the file is here, and the consumer that opens it says at once what is wrong."""

    def is_blank(self) -> bool:
        """Say no: a file is no database that waits for a copy."""
        return False

    def open_rows(self) -> Rows:
        """Open the rows to read them. Raises SinkAbsent, SinkUnusable and SinkUnavailable."""
        return SQLiteRows(self._settings.database)

    def lacking_rights(self) -> dict[str, list[str]]:
        """Tell nothing: a file has the rights of its folder."""
        return {}

    def open_proofs(self) -> Proofs:
        """Give what audits of our pipeline, stream and group have proven; nothing is sent yet."""
        settings = self._settings
        return SQLiteProofs(settings.database, settings.sqlite_busy_timeout_ms, scope_of(settings))

    def open_retention(self) -> Retention:
        """Give what drops old days; nothing is opened yet."""
        settings = self._settings
        return SQLiteRetention(settings.database, settings.sqlite_busy_timeout_ms, scope_of(settings))

    def open_readings(self) -> LastReadings:
        """Give the last readings of our pipeline's devices; nothing is opened yet."""
        settings = self._settings
        return SQLiteReadings(settings.database, settings.sqlite_busy_timeout_ms, scope_of(settings))

    def open_letters(self, now: Callable[[], float], consumer: str = "") -> Letters:
        """Refuse it: dead letters lie in a file of their own. Raises SettingsInvalid."""
        del now, consumer
        raise SettingsInvalid([_NO_LETTERS])

    def open_copied(self, logger: Logger, *, may_write: bool) -> CopiedRows:
        """Open the tables for a copy. Raises SinkAbsent, SinkUnusable and SinkUnavailable."""
        settings = self._settings
        if not may_write:
            return SQLiteCopied(settings.database)
        sink = SQLiteSink(
            settings.database, settings.sqlite_busy_timeout_ms, time.time, logger, f"copy: {settings.name}"
        )
        return open_to_write(settings.database, sink)

    def open_copied_letters(self) -> CopiedLetters:
        """Refuse it, as open_letters does. Raises SettingsInvalid."""
        raise SettingsInvalid([_NO_LETTERS])

    def figures(self) -> "Figures":
        """Give none: Storage tells the sizes of files."""
        return {}
