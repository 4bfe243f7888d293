"""A copy of one store into another, from beginning to end.

    what is proven at the source         first, as of one moment: its rows are read after it
    events, letters, marks and notes     what is not at the target; again, where more has come meanwhile
    what is proven, and what is dropped  last: it never says more than what is at the target

So wherever it is killed, the target has less than the source and nothing wrong, and the next copy goes on.
Where retention drops rows at the source meanwhile, what is proven of them has changed: all of it comes again.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from services.ops.copy.events import Look, look
from services.ops.copy.letters import LettersLook
from services.ops.copy.letters import look as look_at_letters
from services.stores.copying import CopiedLetters, CopiedRows, Proven

_MOST_LOOKS: Final = 4
"""Of one copy: a source that is written to all the time is never the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One side of a copy. `letters`: None where they are not copied."""

    rows: CopiedRows
    letters: CopiedLetters | None
    pipeline: str
    """What the pipeline is called there."""


@dataclass(slots=True)
class Copy:
    """What a copy has come to."""

    events: Look = field(default_factory=Look)
    """The last look."""
    letters: LettersLook | None = None
    """None where they are not copied."""
    added: int = 0
    """Events, of all looks."""
    added_letters: int = 0
    late: int = 0
    """Events that the source has, and had not when the last look came by: somebody writes to it."""
    proofs: int = 0
    other_proofs: list[str] = field(default_factory=list)
    """Groups of which the target has a proof of its own: it is left."""
    is_dropping: bool = False
    """Whether retention dropped rows at the source during the last look."""
    more: int = 0
    """Events that the target has besides."""

    @property
    def is_moving(self) -> bool:
        """Tell whether the last look has not met all that is there: somebody writes to the source."""
        return self.late > 0 or (self.letters is not None and self.letters.missing > 0)


def copy(source: Place, target: Place, stream: str, progress: Callable[[int, int], None]) -> Copy:
    """Copy everything of the source, and compare. Raises PipelineError and OSError; then it can go on later.

    `progress` is told how many events of how many were looked at.
    """
    done = Copy()
    total = source.rows.extent().events
    for _ in range(_MOST_LOOKS):
        proven = source.rows.proven(source.pipeline, stream)
        _look(source, target, done, lambda read: progress(read, max(read, total)))
        done.is_dropping = source.rows.proven(source.pipeline, stream).drops != proven.drops
        if not (done.is_moving or done.is_dropping or done.events.gone):
            break
    if done.events.is_whole and not done.is_dropping:
        _bring_proven(target, proven.named(target.pipeline), stream, done)
    done.more = target.rows.extent().events - done.events.events + done.events.refused.number
    return done


def _look(source: Place, target: Place, done: Copy, progress: Callable[[int], None]) -> None:
    done.events = look(source.rows, target.rows, progress)
    done.added += done.events.added
    if source.letters is not None and target.letters is not None:
        done.letters = look_at_letters(source.letters, target.letters)
        done.added_letters += done.letters.added
    now, looked_at = source.rows.extent(), done.events.extent
    # One that was removed by hand may hide one that came; it doesn't hide when that was stored.
    done.late = 0 if now == looked_at else max(1, now.events - looked_at.events)


def _bring_proven(target: Place, proven: Proven, stream: str, done: Copy) -> None:
    """Bring what is proven, and what is dropped, and look whether it is there then."""
    if proven.drops[1]:
        target.rows.put_drops(*proven.drops)
    for group, row in proven.groups.items():
        target.rows.put_proven(row, proven.of(group))
    there = target.rows.proven(target.pipeline, stream)
    for group, row in proven.groups.items():
        if there.groups.get(group) == row and there.of(group) == proven.of(group):
            done.proofs += 1
        else:
            done.other_proofs.append(group)
