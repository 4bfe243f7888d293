"""The last readings in the database: telemetry.last_readings. Each question is a transaction of its own."""

from collections.abc import Sequence
from typing import Final

from services.contract.consuming.proofs import Scope
from services.contract.consuming.readings import Reading
from services.contract.errors import SinkAbsent
from services.stores.postgres.connection import Database
from services.stores.postgres.proving.proofs import READS, are_there, transaction
from services.stores.postgres.schema import no_tables
from services.stores.readings import ReadingTables, in_turns

_GIVEN: Final = (
    "SELECT ?, ?, * FROM unnest("
    "?::text[], ?::text[], ?::text[], ?::float8[], ?::float8[], ?::float8[], ?::text[])"
)
"""A column as one value: with one for each field, it takes more than twice the processor time."""


class PostgresReadings:
    """The last readings of one database."""

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database.named("readings")
        self._scope = scope

    def note(self, readings: Sequence[Reading]) -> None:
        """Put them in the place of older ones, in short transactions."""
        for some in in_turns(readings):
            with transaction(self._database) as ask:
                columns = [list(column) for column in zip(*some, strict=True)]
                ReadingTables(ask, self._scope).put(_GIVEN, [*self._scope[:2], *columns])

    def forget(self, before: float) -> None:
        """Forget devices that were last heard before a time."""
        with transaction(self._database) as ask:
            ReadingTables(ask, self._scope).forget(before)

    def drop(self, device_id: str) -> bool:
        """Forget one device."""
        with transaction(self._database) as ask:
            return ReadingTables(ask, self._scope).drop(device_id)

    def count_silent(self, before: float) -> int:
        """Count the devices that were last heard before a time."""
        with transaction(self._database, READS) as ask:
            return ReadingTables(ask, self._scope).count_silent(before)

    def silent(self, before: float, most: int | None = None) -> list[Reading]:
        """Name them; none in a database that no consumer of this version has opened."""
        with transaction(self._database, READS) as ask:
            if not are_there(ask, "schema_migrations"):
                raise SinkAbsent(no_tables(self._database.place), "absent")
            return (
                ReadingTables(ask, self._scope).silent(before, most)
                if are_there(ask, "last_readings")
                else []
            )
