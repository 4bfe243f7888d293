"""What is proven from now on, from what an audit has met: up to which number of each run, and which ids."""

from collections.abc import Callable
from typing import Final

from services.contract.consuming.proofs import ProvenRun
from services.contract.ids import numbered
from services.ops.audit.foreign import Found, begins_at, day_of
from services.ops.audit.ledger import ACCEPTED, MISSING, STORED
from services.ops.audit.places import Followed
from services.ops.audit.result import Audit, RunAudit
from services.ops.audit.windows import SLACK_MS
from services.stores.sqlite.scratch import Unnumbered

SILENT_S: Final = 7 * 86_400.0
"""A run whose producer says nothing for so long is ended."""
NAMED_S: Final = 86_400.0
"""So long is a run named by itself after its end."""


def prove_run(
    result: Audit,
    run: Followed,
    one: RunAudit,
    found: Found,
    unnumbered: Unnumbered,
    began: float,
    stays: Callable[[str], bool],
) -> None:
    """Add to the proof what is proven of a run. `began`: when the audit did, Unix seconds.

    `stays` tells of a proven id whether the next audit has to know it: it comes again, or is read again.
    """
    base, book, proof = run.base, run.book, result.proof
    # What is missing behind the proof is to be named by the next audit too. Of the numbers that retention has
    # dropped rows of, only lost letters are named: they are events without a row for that audit as well.
    floor = max(book.floor, base.expired_last)
    behind = [first for first, _ in one.lost.numbers if floor < first <= base.proven]
    start = min([base.proven, *(first - 1 for first in behind)])
    end = max(one.end, base.proven)
    proven = book.settled(start + 1, end) if start < end else start
    accepted = base.accepted + found.accepted + book.counts(base.proven + 1, proven)[ACCEPTED]
    accepted -= book.counts(proven + 1, base.proven)[ACCEPTED]
    # A letter that was lost, and closed, was never counted there: it is an event without a row.
    accepted += sum(
        place == ACCEPTED and (own := _number_of(event_id, base.run)) is not None and own > proven
        for event_id, place in result.absent.get(base.run, [])
    )
    for sequence, event_id in unnumbered.lettered(base.run, base.proven + 1, proven):
        if book.place(sequence) != STORED:
            proof.without_row[event_id] = base.run
    for event_id in found.without_row:
        proof.without_row[event_id] = base.run
    for day, events in found.days.items():
        proof.id_days[base.run, day] = proof.id_days.get((base.run, day), 0) + events
    _look_again(result, run, unnumbered, proven, stays)
    is_clean = not one.tally.missing and not one.understated
    is_whole = proven >= end and found.ids >= run.record.foreign and is_clean
    is_ended = is_whole and not run.record.ids_place and base.folded_at is not None
    folded_at = base.folded_at if is_ended else began if is_whole and _is_over(run, began) else None
    changed = ProvenRun(
        base.run,
        run.record.source or base.source,
        max(base.last, min(book.highest, end)),
        proven,
        0 if behind else _open_from(run, one, found, proven, end, began),
        max(base.unnumbered, one.unreadable),
        found.chunk,
        found.ids,
        found.seen,
        base.id_events + found.events,
        base.expired,
        base.expired_last,
        base.expired_ids,
        accepted,
        folded_at,
        one.lost.hidden + sum(loss.hidden for loss in run.accepted),
        one.lost.proven_ids + sum(loss.proven_ids for loss in run.accepted),
    )
    if changed != base:
        proof.runs.append(changed)
    lost_at = [begins_at(it) for it, place in result.absent.get(base.run, []) if place == MISSING]
    _hold(result, one, found, min([changed.from_ms, *lost_at]))
    if changed.folded_at is not None and not run.record.is_gone and run.record.ids_place:
        result.fold.append(run.record)
    elif found.chunk and run.record.ids_place:
        result.let_go.append((run.record, found.chunk))


def _hold(result: Audit, one: RunAudit, found: Found, from_ms: int) -> None:
    """Tell retention what of a run is missing, and which rows of ids that it did not number are not proven.

    `from_ms`: what is missing, or not proven, has ids from this time on.
    """
    proof = result.proof
    if one.lost.hidden or one.lost.proven_ids or one.lost.unreadable:  # of any day
        proof.missing_from = 0
    elif one.tally.missing:
        proof.missing_from = from_ms if proof.missing_from is None else min(from_ms, proof.missing_from)
    if found.stored_from is not None:
        proof.others_from = min(proof.others_from, found.stored_from)


def remember(result: Audit, again: set[str]) -> None:
    """Keep which proven ids come again where it is not proven yet, so that none is counted twice."""
    proof = result.proof
    proof.without_row |= dict.fromkeys(again - result.known.without_row.keys() - proof.without_row.keys(), "")
    proof.with_row += [one for one, run in result.known.without_row.items() if not run and one not in again]


def _look_again(
    result: Audit,
    run: Followed,
    unnumbered: Unnumbered,
    proven: int,
    stays: Callable[[str], bool],
) -> None:
    """Let go of events that had no row and have one now, and of those that are not proven any more."""
    for event_id, place in result.absent.get(run.base.run, []):
        own = _number_of(event_id, run.base.run)
        is_own = own is not None
        if own is not None and own > proven:  # what is missing has come before it
            result.proof.with_row.append(event_id)
        elif stays(event_id):
            continue
        elif place == STORED and (is_own or not unnumbered.has_conflict(event_id)):
            result.proof.with_row.append(event_id)
            if not is_own:
                key = (run.base.run, day_of(event_id))
                result.proof.id_days[key] = result.proof.id_days.get(key, 0) + 1


def _number_of(event_id: str, run: str) -> int | None:
    own = numbered(event_id)
    return own.sequence if own is not None and own.run == run else None


def _open_from(run: Followed, one: RunAudit, found: Found, proven: int, end: int, began: float) -> int:
    """Tell from what time on ids are that are not proven, Unix milliseconds; 0 where that is not known."""
    from_ms = int(began * 1000) - SLACK_MS
    if proven < end:
        if run.book.counts(max(proven, run.book.floor) + 1, end)[MISSING]:
            from_ms = min(from_ms, run.base.from_ms)
        if run.waits_from is not None:
            from_ms = min(from_ms, run.waits_from)
    if found.unsettled_from is not None:
        from_ms = min(from_ms, found.unsettled_from)
    del one
    return max(0, from_ms)


def _is_over(run: Followed, began: float) -> bool:
    """Tell whether nothing more will come of a run, and long enough ago."""
    record = run.record
    if record.is_gone:
        return run.closed(-1)
    if not record.ids_place:  # the broker has let go of it
        return True
    times = [record.times.get(name) for name in ("ended_at", "updated_at")]
    heard = [at for at in times if at is not None]
    if not heard:
        return False
    return began - max(heard) > (NAMED_S if record.has_said_end else SILENT_S)
