"""Dead letters from one place to another, with the marks of replays and the notes of purges.

What is known of a letter only grows, so both sides are put together: of two marks or notes the newer counts,
and what one side has purged, the other does not keep.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from services.contract.consuming.letter import DeadLetter
from services.stores.copying import CopiedLetters, Purge, Replay, digest, is_purged

_NEVER: Final = Replay("", -1, "")


@dataclass(slots=True)
class LettersLook:
    """What one look at the letters has found."""

    letters: int = 0
    """Of the source; lines that are the same count once."""
    replayed: int = 0
    purged: int = 0
    added: int = 0
    missing: int = 0
    """Letters, marks and notes that the target does not have after all."""


def look(source: CopiedLetters, target: CopiedLetters) -> LettersLook:
    """Bring what is not there, and look whether it is there then."""
    replays, purges = source.replays(), source.purges()
    target.mark(replays.values(), purges.values())
    purged = target.purges()
    found = LettersLook(replayed=len(replays), purged=len(purges), added=target.take(_kept(source, purged)))
    there = {digest(line) for line, _ in target.lines()}
    lines = {digest(line) for line, _ in _kept(source, purged)}
    found.letters = len(lines)
    marks = target.replays()
    found.missing = (
        len(lines - there)
        + sum(one.replayed_at_us > marks.get(name, _NEVER).replayed_at_us for name, one in replays.items())
        + sum(
            name not in purged or purged[name].purged_at_us < one.purged_at_us for name, one in purges.items()
        )
    )
    return found


def _kept(letters: CopiedLetters, purged: Mapping[str, Purge]) -> Iterator[tuple[str, DeadLetter]]:
    """Give the letters that nobody has purged."""
    for line, letter in letters.lines():
        if not is_purged(letter, purged):
            yield line, letter
