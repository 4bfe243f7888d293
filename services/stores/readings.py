"""The table of each device's last reading, whatever the store: the same statements for all.

    last_readings   one row for each device of a pipeline and stream; consumers note there what they stored

It follows from the rows, and is authoritative for nothing: what a consumer had not noted when it was killed
is made good by the next reading of the device.
"""

from collections.abc import Sequence
from typing import Any, Final

from services.contract.consuming.proofs import Scope
from services.contract.consuming.readings import Reading
from services.stores.proofs import Ask

READINGS_A_TURN: Final = 2000
"""How many are noted in one transaction: a few milliseconds, for which writers of a file wait."""
_OURS: Final = "(pipeline, stream) = (?, ?)"
_COLUMNS: Final = Reading._fields
_NAMES: Final = ", ".join(_COLUMNS)


class ReadingTables:
    """The last readings of one pipeline and stream, in whatever transaction `ask` works in."""

    def __init__(self, ask: Ask, scope: Scope) -> None:
        self._ask = ask
        self._ours = (scope.pipeline, scope.stream)

    def put(self, rows: str, values: Sequence[Any]) -> None:
        """Put readings in the place of older ones, in the order of their devices, one of each.

        `rows`: what gives pipeline, stream and the fields of a Reading, with `?` for its values.
        """
        moved = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])
        self._ask(
            f"INSERT INTO {{t}}last_readings AS known (pipeline, stream, {_NAMES}) {rows} "
            "ON CONFLICT (pipeline, stream, device_id) "
            f"DO UPDATE SET {moved} WHERE known.stored_at <= excluded.stored_at",
            values,
        )

    def forget(self, before: float) -> None:
        """Forget devices that were last heard before a time, in Unix seconds."""
        self._ask(
            f"DELETE FROM {{t}}last_readings WHERE {_OURS} AND stored_at < ?",  # noqa: S608
            (*self._ours, before),
        )

    def drop(self, device_id: str) -> bool:
        """Forget one device; False where it is not known."""
        return bool(
            self._ask(
                f"DELETE FROM {{t}}last_readings WHERE {_OURS} AND device_id = ? RETURNING device_id",  # noqa: S608
                (*self._ours, device_id),
            )
        )

    def count_silent(self, before: float) -> int:
        """Count the devices that were last heard before a time."""
        ((devices,),) = self._ask(
            f"SELECT count(*) FROM {{t}}last_readings WHERE {_OURS} AND stored_at < ?",  # noqa: S608
            (*self._ours, before),
        )
        return int(devices)

    def silent(self, before: float, most: int | None) -> list[Reading]:
        """Name them, who fell silent last first."""
        limit = "" if most is None else f"LIMIT {most:d}"
        found = self._ask(
            f"SELECT {_NAMES} FROM {{t}}last_readings WHERE {_OURS} AND stored_at < ? "  # noqa: S608
            f"ORDER BY stored_at DESC, device_id {limit}",
            (*self._ours, before),
        )
        return [Reading._make(row) for row in found]


def in_turns(readings: Sequence[Reading]) -> list[list[Reading]]:
    """Cut them into what is noted at once, sorted: two consumers would wait for each other otherwise."""
    ordered = sorted(readings)
    return [ordered[at : at + READINGS_A_TURN] for at in range(0, len(ordered), READINGS_A_TURN)]
