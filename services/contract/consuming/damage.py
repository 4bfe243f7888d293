"""What can't be read where dead letters are kept: named by its place, and never passed over in silence."""

import json
from typing import Final, NamedTuple

MOST_NAMED: Final = 20
"""Places that are named; of more only the number is told."""


class Damage(NamedTuple):
    """A line, entry or mark that can't be read. `place` names file and line, or key and entry."""

    place: str
    why: str


class Damages:
    """Collects them while somebody reads; a place that is met at each reading counts once."""

    def __init__(self) -> None:
        self.named: list[Damage] = []
        self.torn: list[Damage] = []
        """Lines that a crash has left half written, of which nothing is lost."""
        self._met: set[str] = set()

    @property
    def number(self) -> int:
        """How many places can't be read. The torn lines are none of them."""
        return len(self._met) - len(self.torn)

    def tell(self, place: str, why: str) -> None:
        """Note a place that can't be read, and why."""
        if self._is_new(place) and len(self.named) < MOST_NAMED:
            self.named.append(Damage(place, why))

    def tell_torn(self, place: str, why: str) -> None:
        """Note a line that a crash has left half written, and why nothing is lost of it."""
        if self._is_new(place):
            self.torn.append(Damage(place, f"half written, as a crash leaves it; {why}"))

    def _is_new(self, place: str) -> bool:
        is_new = place not in self._met
        self._met.add(place)
        return is_new


def why(error: Exception) -> str:
    """Say what is wrong with a line, in words that quote nothing of it."""
    if isinstance(error, json.JSONDecodeError):
        return f"no JSON: {error.msg} at character {error.pos + 1}"
    if isinstance(error, UnicodeDecodeError):
        return f"no UTF-8 at byte {error.start + 1}"
    return "nested too deep" if isinstance(error, RecursionError) else str(error)
