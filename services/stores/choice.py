"""Which store it is: chosen by the scheme of DATABASE_URL, here and nowhere else."""

import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from logging import Logger
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.contract.consuming.doors import DeadLetters
from services.contract.operating import LetterStore
from services.runtime.clock import Clock
from services.runtime.settings import ConsumerSettings, SettingsInvalid
from services.stores.copying import CopiedLetters, CopiedRows
from services.stores.doors import Store
from services.stores.rows import Rows

if TYPE_CHECKING:  # a command that reads loads no more than it needs
    from services.runtime.telemetry.metrics import Figures

_STORES: Final = {
    "": ("services.stores.sqlite.store", "SQLiteStore"),
    "postgresql": ("services.stores.postgres.store", "PostgresStore"),
    "postgres": ("services.stores.postgres.store", "PostgresStore"),
}
"""The store of each scheme; without a URL it is SQLite. It is imported when it is chosen, and no other is."""
_DRIVERS: Final = {"psycopg": "postgres"}
"""The extra that has a driver, where it is not installed."""


def store_of(settings: ConsumerSettings) -> Store:
    """Give the store that the settings name; nothing is opened yet. Raises SettingsInvalid."""
    scheme, separator, _ = settings.database_url.partition("://")
    if settings.database_url and (not separator or scheme.lower() not in _STORES):
        named = repr(scheme[:20]) if separator and scheme.isalnum() else "what it begins with"
        raise _refused(
            f"{named} is no scheme of a store here: write postgresql://user:password@host:port/database, "
            "or leave it out for SQLite in DATA_DIR"
        )
    module, name = _STORES[scheme.lower() if separator else ""]
    try:
        store: Store = getattr(import_module(module), name)(settings)
    except ModuleNotFoundError as error:
        if error.name not in _DRIVERS:
            raise
        raise _refused(
            f"{error.name} is not installed here: pip install 'telemetry-pipeline[{_DRIVERS[error.name]}]'"
        ) from None
    return store


def open_rows(settings: ConsumerSettings) -> Rows:
    """Open the stored rows to read them.

    Raises SinkAbsent where there are none yet, SinkUnusable for what isn't ours or is of a newer version, and
    SinkUnavailable where it can't be read now.
    """
    return store_of(settings).open_rows()


def open_dead_letters(settings: ConsumerSettings, store: Store, clock: Clock) -> DeadLetters:
    """Open what keeps dead letters, where that is not the broker."""
    if settings.letters_in == "database":
        return store.open_letters(clock.now, settings.name)
    from services.stores.files.dead_letters import DeadLetterFile  # noqa: PLC0415 - only what is chosen

    return DeadLetterFile(settings.dead_letter_file, clock.now, settings.name)


def open_letter_store(settings: ConsumerSettings) -> LetterStore:
    """Open the dead letters for a command, where they are not at the broker. Raises SettingsInvalid."""
    if settings.letters_in == "database":
        return store_of(settings).open_letters(time.time)
    from services.stores.files.dead_letters import DeadLetterFile  # noqa: PLC0415 - as above

    return DeadLetterFile(settings.dead_letter_file, time.time, max_entry_bytes=settings.max_entry_bytes)


def place_of_letters(settings: ConsumerSettings) -> str:
    """Name where dead letters are kept, where that is not the broker. Raises SettingsInvalid."""
    if settings.letters_in == "database":
        return f"{store_of(settings).place}, telemetry.dead_letters"
    return str(settings.dead_letter_file)


def figures_of(settings: ConsumerSettings, store: Store, logger: Logger) -> Callable[[], "Figures"]:
    """Give what tells, when it is asked, how much room the rows and letters take, and what is left."""
    from services.stores.storage import Storage  # noqa: PLC0415 - as above

    folder = Storage(settings, logger)
    return lambda: {**folder.figures(), **store.figures()}


def open_copied(settings: ConsumerSettings, logger: Logger, *, may_write: bool) -> CopiedRows:
    """Open the tables for a copy. Raises SettingsInvalid, and as Store.open_copied does."""
    return store_of(settings).open_copied(logger, may_write=may_write)


def open_copied_letters(settings: ConsumerSettings) -> CopiedLetters | None:
    """Open the dead letters for a copy; None where they are at the broker, and stay there."""
    if settings.letters_in == "stream":
        return None
    if settings.letters_in == "database":
        return store_of(settings).open_copied_letters()
    from services.stores.files.copying import CopiedLetterFile  # noqa: PLC0415 - as above

    return CopiedLetterFile(settings.dead_letter_file, settings.max_entry_bytes)


def at_address(settings: ConsumerSettings, url: str) -> ConsumerSettings:
    """Give the same settings for the store at another address, with its dead letters where those go there.

    `sqlite:FOLDER` is a data folder, `sqlite:` that of DATA_DIR; all else is as in DATABASE_URL, and
    DATABASE_PASSWORD_FILE is of it where the settings name no database. Raises SettingsInvalid.
    """
    scheme, _, rest = url.partition(":")
    # With DEAD_LETTERS=file a folder has them whatever has the rows; a database has its own.
    letters = "auto" if settings.dead_letters == "database" else settings.dead_letters
    if scheme.lower() == "sqlite":
        folder = settings.data_dir if not rest else _folder(rest)
        return replace(
            settings,
            database_url="",
            database_password_file="",
            database_device_index=False,
            data_dir=folder,
            dead_letters=letters,
        )
    if not url:
        raise _refused("it is empty")
    password_file = "" if settings.database_url else settings.database_password_file
    there = replace(settings, database_url=url, database_password_file=password_file, dead_letters=letters)
    store_of(there)
    return there


def _folder(rest: str) -> Path:
    """Read what stands behind `sqlite:`. Raises SettingsInvalid."""
    if rest.startswith("//"):
        rest = rest[2:]
        if not rest.startswith("/"):
            raise _refused("write sqlite:FOLDER, or sqlite:///FOLDER from the root on")
    path = Path(rest)
    if path.name == "telemetry.db":
        return path.parent
    if path.suffix == ".db" or path.is_file():
        raise _refused("write sqlite:FOLDER: the database in it is called telemetry.db")
    return path


def _refused(why: str) -> SettingsInvalid:
    return SettingsInvalid([f"DATABASE_URL=(hidden): {why}"])
