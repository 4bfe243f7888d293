"""Events without a readable id: they have no name, so they are accounted for by their number.

Their letters tell no run. The ended runs are given theirs first, then one run after the other; and a loss
that is closed, and that its own run does not lack any more, is closed for whichever run lacks it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from services.ops.audit.ledger import ACCEPTED
from services.ops.audit.places import Places
from services.ops.audit.result import Audit, RunAudit
from services.stores.sqlite.scratch import Unnumbered


@dataclass(slots=True)
class _Owner:
    """A run, or the ended ones together."""

    run: RunAudit | None
    lacks: int
    """How many it has published, less those that were found, or are closed."""
    closed: int
    """How many losses of it are closed."""


def settle_unreadable(result: Audit, places: Places, unnumbered: Unnumbered) -> None:
    """Count the places of all of them, and what is missing."""
    owners = list(_owners(result, places))
    spare = 0
    for owner in owners:
        if owner.lacks:
            _find(result, owner, unnumbered.take_unreadable(owner.lacks))
        spare += owner.closed - _close(result, owner, owner.closed)
    for owner in owners:
        spare -= _close(result, owner, spare)
        if owner.lacks and owner.run is not None:
            owner.run.miss_unreadable(owner.lacks)
        elif owner.lacks:
            result.miss_unreadable(owner.lacks)


def _owners(result: Audit, places: Places) -> Iterator[_Owner]:
    closed: Counter[str] = Counter()
    for loss in places.known.accepted:
        closed[loss.run if loss.run in places.runs else ""] += loss.unreadable
    bases = [run.base for run in places.runs.values()]
    ended = places.known.folded.unnumbered - sum(one.unnumbered for one in bases if one.folded_at is not None)
    yield _Owner(None, ended, closed[""])
    # The ended and proven ones first here, too: so a run that lacks some is named again by the next audit.
    for one in sorted(result.runs, key=lambda it: places.runs[it.run].base.folded_at is None):
        run = places.runs[one.run]
        published = max(run.record.number("unnumbered"), run.base.unnumbered)
        yield _Owner(one, published, closed[one.run])


def _close(result: Audit, owner: _Owner, closed: int) -> int:
    """Take what is lacking for accepted, as far as so many losses are closed; gives how many were."""
    accepted = min(owner.lacks, closed)
    _find(result, owner, Counter({ACCEPTED: accepted}))
    return accepted


def _find(result: Audit, owner: _Owner, found: Counter[int]) -> None:
    tally = result.ended if owner.run is None else owner.run.tally
    for place, events in found.items():
        tally.add(place, events)
    owner.lacks -= found.total()
    if owner.run is not None:
        owner.run.unreadable += found.total()
