"""PostgreSQL, as the settings name it: DATABASE_URL, and libpq's own variables for what it does not say."""

import time
from collections.abc import Callable
from contextlib import closing
from logging import Logger
from typing import TYPE_CHECKING, Final

import psycopg

from services.contract.consuming.doors import Sink
from services.contract.consuming.proofs import Proofs
from services.contract.consuming.readings import LastReadings
from services.contract.consuming.retention import Retention
from services.runtime.clock import Clock
from services.runtime.settings import ConsumerSettings, SettingsInvalid
from services.stores.copying import CopiedLetters, CopiedRows
from services.stores.doors import Letters
from services.stores.postgres.connection import HINT, Database, UrlInvalid
from services.stores.postgres.copying.letters import PostgresCopiedLetters
from services.stores.postgres.copying.rows import PostgresCopied
from services.stores.postgres.copying.writing import reading
from services.stores.postgres.dead_letters import MOST_ENTRY_BYTES, PostgresDeadLetters
from services.stores.postgres.errors import ours
from services.stores.postgres.keeper import Keeper
from services.stores.postgres.proving.proofs import PostgresProofs
from services.stores.postgres.proving.retention import PostgresRetention, register
from services.stores.postgres.readings import PostgresReadings
from services.stores.postgres.rows import PostgresRows
from services.stores.postgres.schema import lacking_rights
from services.stores.postgres.sink import PostgresSink
from services.stores.proofs import scope_of
from services.stores.rows import Rows

if TYPE_CHECKING:  # a command that reads loads no more than it needs
    from services.runtime.telemetry.metrics import Figures

_FIRST_TURN_S: Final = 5.0
_OF_OURS: Final = "WHERE (pipeline, stream) = (%(pipeline)s, %(stream)s)"
_ANYTHING: Final = (
    "SELECT EXISTS (SELECT FROM telemetry.events) "  # noqa: S608 - a constant
    "OR EXISTS (SELECT FROM telemetry.retention WHERE dropped_before > 0) OR "
    + " OR ".join(
        f"EXISTS (SELECT FROM telemetry.{table} {_OF_OURS})"
        for table in ("proofs", "dead_letters", "dead_letters_purged")
    )
)


class PostgresStore:
    """The database. Nothing is sent before something is opened."""

    def __init__(self, settings: ConsumerSettings) -> None:
        """Read the settings. Raises SettingsInvalid, with every error in it."""
        self._settings = settings
        self._keeper: Keeper | None = None
        errors = []
        if settings.letters_in == "database" and settings.max_entry_bytes > MOST_ENTRY_BYTES:
            errors.append(
                f"MAX_ENTRY_BYTES={settings.max_entry_bytes}: a dead letter of such an entry fits into no "
                "row; "
                f"at most {MOST_ENTRY_BYTES} with DEAD_LETTERS=database"
            )
        try:
            self._database = Database.of(
                settings.database_url,
                password_file=settings.database_password_file,
                connect_timeout_s=settings.database_connect_timeout_s,
                timeout_s=settings.database_timeout_s,
                lock_timeout_s=settings.database_lock_timeout_s,
                application_name=f"telemetry:{settings.name}"[:48],
            )
        except UrlInvalid as error:
            errors.append(f"DATABASE_URL=(hidden): {HINT}; here {error}")
        if settings.database_password_file and not errors and self._database.parameters.get("password"):
            errors.append(
                "DATABASE_PASSWORD_FILE is set, and DATABASE_URL has a password: leave one of them out"
            )
        if errors:
            raise SettingsInvalid(errors)

    @property
    def place(self) -> str:
        """Name the database, without user and password."""
        return f"PostgreSQL at {self._database.place}"

    def open_sink(self, clock: Clock, logger: Logger) -> Sink:
        """Connect, and have the days looked after.

        Raises SinkUnavailable where that passes, and SinkUnusable.
        """
        sink = PostgresSink(self._database, clock.now, logger, clock.is_stopping)
        try:
            register(self._database, scope_of(self._settings))
            keeper = Keeper(self._database, logger, has_device_index=self._settings.database_device_index)
            sink.on_close(keeper.close)
            # The first row is to find its day; but to move a day may take minutes, and rows can wait in
            # DEFAULT.
            keeper.start(wait_s=_FIRST_TURN_S)
        except BaseException:
            sink.close()
            raise
        self._keeper = keeper
        return sink

    def see_usable(self) -> None:
        """Connect, make or update the tables, and write once. Raises SinkUnavailable and SinkUnusable."""
        PostgresSink(self._database, time.time).close()

    def is_blank(self) -> bool:
        """Tell whether nothing of our pipeline was ever kept: of rows nobody knows whose they are.

        Raises SinkUnavailable and SinkUnusable.
        """
        settings, database = self._settings, self._database.named("look")
        values = {"pipeline": settings.pipeline_name, "stream": settings.stream_name}
        try:
            with closing(database.connect()) as connection, reading(connection):
                found = connection.execute(_ANYTHING, values).fetchone()
        except psycopg.errors.InsufficientPrivilege:  # whoever may store need not see all of it
            return False
        except psycopg.Error as error:
            raise ours(error, database.place) from error
        return found != (True,)

    def open_rows(self) -> Rows:
        """Open the rows to read them. Raises SinkAbsent, SinkUnusable and SinkUnavailable."""
        return PostgresRows(self._database)

    def lacking_rights(self) -> dict[str, list[str]]:
        """Tell what this role lacks to store, and to read. Raises SinkUnavailable and SinkUnusable."""
        try:
            with closing(self._database.named("look").connect()) as connection:
                return lacking_rights(connection)
        except psycopg.Error as error:
            raise ours(error, self._database.place, is_start=True) from error

    def open_proofs(self) -> Proofs:
        """Give what audits of our pipeline, stream and group have proven; nothing is sent yet."""
        return PostgresProofs(self._database, scope_of(self._settings))

    def open_retention(self) -> Retention:
        """Give what drops old days; nothing is sent yet."""
        return PostgresRetention(self._database, scope_of(self._settings))

    def open_readings(self) -> LastReadings:
        """Give the last readings of our pipeline's devices; nothing is sent yet."""
        return PostgresReadings(self._database, scope_of(self._settings))

    def open_letters(self, now: Callable[[], float], consumer: str = "") -> Letters:
        """Give the dead letters of our pipeline and stream; nothing is sent yet."""
        settings = self._settings
        return PostgresDeadLetters(
            self._database, settings.pipeline_name, settings.stream_name, now, consumer
        )

    def open_copied(self, logger: Logger, *, may_write: bool) -> CopiedRows:
        """Open the tables for a copy. Raises SinkAbsent, SinkUnusable and SinkUnavailable."""
        return PostgresCopied(self._database, logger, may_write=may_write)

    def open_copied_letters(self) -> CopiedLetters:
        """Open the dead letters of our pipeline and stream for a copy. Raises DeadLettersUnavailable."""
        settings = self._settings
        return PostgresCopiedLetters(self._database, settings.pipeline_name, settings.stream_name)

    def figures(self) -> "Figures":
        """Give what the keeper found last; nothing before that."""
        return {} if self._keeper is None else self._keeper.figures()
