"""The proof, by event id, that nothing is missing.

    published = stored + dead + conflicts + purged + pending + undelivered + expired + accepted + missing

What was published is told by the broker, written there in the same step as the events themselves:

    last         the run's events are numbered 1 to `last`, without a gap
    unnumbered   events published without a readable id (invalid ones)
    ids          ids that the run published and did not number (a replay's), in chunks

Where each of them is: in the stream (undelivered, or pending), among the dead letters (or purged from
them), in the sink. The places are read in that order, the one in which an event moves, so an event
that moves meanwhile is met at least once, and the audit is exact beside running consumers too.

What an audit has met it writes down in the store (contract/consuming/proofs.py), and the next one reads what
came since: rows by the time in their ids (windows.py), ids that are not numbered behind those that are proven
(foreign.py). Letters are read all: they may be replayed and purged at any time.

An event is an id and a content. The first content under an id is the event that the run has numbered; each
other one is a conflict: an event too, published under an id that was taken, and kept as a dead letter of that
reason. A copy of either is a duplicate, and no further event, whoever publishes it: an id that a run has
numbered is that run's event when it is published again from a file, too.

What no run tells of (an entry that was added by hand, say) has a tally of its own: where it is can be told,
and not whether anything is missing. Where all is read, rows, dead events and conflicts of both tallies are
all that there are, so they agree with what `telemetry status` counts.

Memory: one byte for each numbered event that is looked for; ids that aren't numbered go to a temporary file.
"""

import itertools
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from services.brokers.operating.side import OperatorSide
from services.contract.consuming.damage import Damages
from services.contract.consuming.proofs import Proofs, Proven, ProvenRun
from services.contract.ids import numbered, time_of
from services.contract.operating import Ended, Records, RunRecord
from services.ops.audit.foreign import Asked, ForeignLooks, Found
from services.ops.audit.ledger import (
    ACCEPTED,
    DEAD,
    MISSING,
    PENDING,
    PURGED,
    STORED,
    UNDELIVERED,
    Book,
    Rows,
    is_numbered,
)
from services.ops.audit.nameless import settle_unreadable
from services.ops.audit.places import Closed, Followed, Letters, Places
from services.ops.audit.proven import prove_run, remember
from services.ops.audit.result import Audit, RunAudit, Tally
from services.ops.audit.windows import SLACK_MS, Scan, keep_from
from services.ops.output.parts import printable
from services.stores.sqlite.scratch import Unnumbered

_IDS_A_CHUNK: Final = 10_000
_CLOCKS_S: Final = 3600.0
"""How far the clocks of consumers and of the audit may differ before retention takes a row for an old one."""


class NoProofs:
    """Where nothing was ever proven, and nothing is kept."""

    def read(self, names: Iterable[str] = (), *, folded_too: bool = False) -> Proven:
        """Give nothing."""
        del names, folded_too
        return Proven()


def audit(
    broker: OperatorSide,
    rows: Rows,
    letters: Letters,
    show: int = 20,
    proofs: Proofs | NoProofs | None = None,
    *,
    full: bool = False,
    now: Callable[[], float] = time.time,
) -> Audit:
    """Find every published event. `show`: how many missing ones are named, for each run.

    `full`: look at everything, also at what is proven. `now` in Unix seconds. Nothing is written: the result
    has what is proven from now on. Raises BrokerUnavailable, and what the sink and the dead letters raise
    where they can't be read.
    """
    proofs = proofs or NoProofs()
    began = now()
    # What is proven first, then the records: what is published after this moment is not asked for.
    known = proofs.read(folded_too=full)
    added = broker.events_added()
    records = broker.records()
    ended = _ended(broker, known, records, proofs)
    names = {one.run for one in records.runs} | ended.keys()
    if names - known.runs.keys():
        known = proofs.read(names, folded_too=full)
    result = Audit(known=known)
    runs = _follow(records, ended, known, result, full=full)
    with Unnumbered() as unnumbered:
        asked = Asked(broker, runs)
        asked.note(runs.values(), unnumbered)
        places = Places(known, runs, unnumbered)
        places.read_accepted()
        places.read_stream(broker, result.notes)
        places.read_letters(letters)
        keep_ms = keep_from(int(began * 1000), places.waits_from, known.unrecorded_from)
        _settle_absent(result, places, rows)
        scan = Scan(rows, runs, unnumbered, known, int(began * 1000), keep_ms)
        if full or known.generation == 0:
            scan.everything()
        else:
            scan.since(min((_rows_from(one, known) for one in runs.values()), default=known.unrecorded_from))
        latest = {one.run: one for one in broker.records().runs}
        foreign = ForeignLooks(asked, rows, unnumbered, known, scan, began)
        _settle_ended(result, places)
        looked: list[tuple[Followed, RunAudit, Found]] = []
        for run in runs.values():
            # A record that went away meanwhile (FLUSHALL) stands as it was.
            one = _settle(run, latest.get(run.record.run, run.record), show, result, full=full)
            looked.append((run, one, foreign.settle(run, one, show)))
            result.runs.append(one)
        settle_unreadable(result, places, unnumbered)
        last_numbers = {name: max(run.book.last, run.book.highest) for name, run in runs.items()}
        conflicts = list(unnumbered.conflicts())
        _settle_conflicts(result, last_numbers | _folded_numbers(conflicts, last_numbers, proofs), conflicts)
        _settle_unrecorded(result, scan, looked, rows, unnumbered, is_all=full or known.generation == 0)
        result.proof.proven_at = began
        result.proof.unrecorded_from = keep_ms
        result.proof.missing_from = 0 if result.ended_missing else None
        result.proof.others_from = began - _CLOCKS_S
        again = foreign.come_again()

        def stays(event_id: str) -> bool:
            return event_id in again or not scan.is_kept(time_of(event_id))

        for run, one, found in looked:
            prove_run(result, run, one, found, unnumbered, began, stays)
        remember(result, again)
        _put_ended_together(result, looked)
    _judge(result, records, letters.damages)
    _tell_unknown(result, records, added)
    return result


def _ended(
    broker: OperatorSide, known: Proven, records: Records, proofs: Proofs | NoProofs
) -> dict[str, Ended]:
    """Give runs that the broker has let go of, and of which this store may know less: after a restore."""
    told = {one.run for one in records.runs}
    is_gone = any(name not in told and one.folded_at is None for name, one in known.runs.items())
    if not is_gone and (broker.ended_number() or 0) <= known.folded.runs:
        return {}
    ended = {name: one for name, one in broker.ended().items() if name not in told}
    folded = {name for name, one in proofs.read(ended).runs.items() if one.folded_at is not None}
    return {name: one for name, one in ended.items() if name not in folded}


def _follow(
    records: Records, ended: dict[str, Ended], known: Proven, result: Audit, *, full: bool
) -> dict[str, Followed]:
    """Give the runs that are looked at, each with what was known of it."""
    followed: list[RunRecord] = []
    for record in records.runs:
        base = known.runs.get(record.run)
        if base is not None and base.folded_at is not None and _says_no_more(record, base):
            result.fold.append(
                record
            )  # it was let go of, or was to be: a backup, or an audit that was killed
        else:
            followed.append(record)
    names = {one.run for one in followed}
    followed += [_record_of(name, one) for name, one in ended.items() if name not in names]
    names |= ended.keys()
    for base in known.runs.values():
        if base.run not in names and (base.folded_at is None or full):
            followed.append(_record_of(base.run, Ended(base.last, base.unnumbered, base.ids), base))
    runs = {}
    for record in followed:
        base = known.runs.get(record.run, ProvenRun(record.run))
        floor = 0 if full else base.proven
        runs[record.run] = Followed(
            record,
            base,
            Book(max(record.number("last"), base.last, base.proven), floor),
            [one for one in known.accepted if one.run == record.run],
        )
    return runs


def _says_no_more(record: RunRecord, base: ProvenRun) -> bool:
    return (
        record.number("last") <= base.last
        and record.foreign <= base.ids
        and record.number("unnumbered") <= base.unnumbered
    )


def _record_of(name: str, ended: Ended, base: ProvenRun | None = None) -> RunRecord:
    """Make the record of a run that has none: of what the broker kept of it, or of what is proven."""
    numbers = {"last": ended.last, "unnumbered": ended.unnumbered, "published": None, "batches": None}
    return RunRecord(
        name,
        "",
        {**dict.fromkeys(("duplicates", "line", "pid", "foreign", "chunk")), **numbers},
        dict.fromkeys(("started_at", "updated_at", "ended_at")),
        {"source": base.source if base else None, "host": None},
        None,
        ended.foreign,
        has_said_end=base is None or base.folded_at is not None,
        is_gone=base is not None and base.folded_at is None,
    )


def _rows_from(run: Followed, known: Proven) -> int:
    """Tell from what time on the rows of a run have to be read, Unix milliseconds."""
    book = run.book
    if not book.counts(book.floor + 1, book.last)[MISSING]:
        return known.unrecorded_from
    # What is not known was opened after the last audit, unless a backup brought it.
    is_new = run.base == ProvenRun(run.base.run)
    return int(known.proven_at * 1000) - SLACK_MS if is_new else run.base.from_ms


def _settle(run: Followed, latest: RunRecord, show: int, result: Audit, *, full: bool) -> RunAudit:
    """Count the places of a run's numbers.

    `latest` has the number recorded by now: what was published meanwhile is not asked for, and a
    number above it tells that the server has forgotten its latest writes.
    """
    base, book = run.base, run.book
    last, highest = latest.number("last"), book.highest
    beyond = book.counts(max(last, book.floor) + 1, highest)
    del beyond[MISSING]
    # Numbers have no gap, so everything below the highest one that was met was published.
    end = max(book.last, highest if beyond.total() else 0)
    one = RunAudit(run.record.run, run.record.source, Tally(), [], beyond.total(), end)
    counts = book.counts(book.floor + 1, end)
    absent = result.absent.get(base.run, [])
    if full:
        lettered = _lost_letters(run, absent)
        hidden_to, hidden = base.expired_last, _count_proven_ids(run, one, counts, absent, len(lettered))
    else:
        lettered, hidden_to, hidden = [], 0, 0
        one.tally.add(STORED, base.events - len(absent) - base.expired - base.expired_ids - base.accepted)
        one.tally.add(ACCEPTED, base.accepted)
        one.tally.add_expired(base.expired + base.expired_ids)
        _miss_hidden(run, one)
    for event_id, place in absent:
        if not full or _is_foreign(event_id, base.run):
            one.tally.add(place)
            if place == MISSING:
                _miss(one, event_id, show)
    for place, number in counts.items():
        one.tally.add(place, number)
    if counts[MISSING]:
        one.miss_numbers([(number, number) for number in lettered], show, 0, 0)
        one.miss_numbers(_without(book.missing(end), lettered), show, hidden_to, hidden)
    one.told_last = -1 if run.record.is_gone else last
    one.understated = _understated(run, latest, one)
    return one


def _miss_hidden(run: Followed, one: RunAudit) -> None:
    """Miss what an audit of everything has missed, and nobody can name, until it is accepted."""
    numbers, ids = run.hidden()
    if numbers:
        one.tally.add(STORED, -numbers)
        one.miss_hidden(numbers, run.base.expired_last)
    if ids:
        one.tally.add(STORED, -ids)
        one.miss_unnamed(ids, are_proven=True)


def _lost_letters(run: Followed, absent: Sequence[tuple[str, int]]) -> list[int]:
    """Give the numbers of lost letters, among those that retention has dropped rows of: these had none."""
    base = run.base
    numbers = {
        int(event_id[27:], 16)
        for event_id, place in absent
        if place == MISSING and not _is_foreign(event_id, base.run)
    }
    return sorted(one for one in numbers if one <= base.expired_last and run.book.place(one) == MISSING)


def _without(pieces: Iterable[tuple[int, int]], numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Give pieces of numbers without some of them, which ascend."""
    for begun, last in pieces:
        first = begun
        for number in numbers[bisect_left(numbers, begun) : bisect_right(numbers, last)]:
            if first < number:
                yield first, number - 1
            first = number + 1
        if first <= last:
            yield first, last


def _count_proven_ids(
    run: Followed, one: RunAudit, counts: Counter[int], absent: Sequence[tuple[str, int]], lettered: int
) -> int:
    """Count what is not looked at again where all is: ids that the broker has let go of, and dropped rows.

    `lettered`: how many letters of numbers are lost among those that retention has dropped rows of. Gives how
    many other numbers are missing among these.
    """
    base, tally = run.base, one.tally
    among = run.book.counts(1, base.expired_last) if base.expired_last else Counter[int]()
    gone, left = among[MISSING] - lettered, base.expired
    # A letter that was replayed, and kept, and a copy that waits, say nothing new of an event that had a row.
    for place in (DEAD, PURGED, PENDING, UNDELIVERED):
        there = sum(
            where == place
            and not _is_foreign(event_id, base.run)
            and int(event_id[27:], 16) <= base.expired_last
            for event_id, where in absent
        )
        had = min(max(0, among[place] - there), left)
        counts[place] -= had
        left -= had
    expired = min(gone, left)
    tally.add_expired(base.expired - left + expired + base.expired_ids)
    noted = sum(loss.hidden for loss in run.accepted)
    closed = min(gone - expired, noted)
    counts[MISSING] -= expired + closed
    # A letter that was lost, and closed, is one of the absent events, and was never counted there.
    letters = sum(where == ACCEPTED and not _is_foreign(event_id, base.run) for event_id, where in absent)
    known = run.book.counts(1, base.proven)[ACCEPTED] - letters
    # One that was closed, and is there again, is no other id that was.
    most = sum(len(loss.ids) + loss.unnamed + loss.proven_ids for loss in run.accepted)
    accepted = min(most, max(0, base.accepted - known - noted))
    tally.add(ACCEPTED, accepted + closed)
    foreign = sum(_is_foreign(event_id, base.run) for event_id, _ in absent)
    # Below 0 where rows of another run were dropped as this one's: nobody can tell them apart.
    one.stored_ids = base.id_events - foreign - base.expired_ids - accepted
    tally.add(STORED, one.stored_ids)
    return gone - expired - closed


def _is_foreign(event_id: str, run: str) -> bool:
    own = numbered(event_id)
    return own is None or own.run != run


def _miss(one: RunAudit, event_id: str, show: int) -> None:
    own = numbered(event_id)
    if own is not None and own.run == one.run:
        one.miss_numbers([(own.sequence, own.sequence)], show, 0, 0)
    else:
        one.miss_id(event_id, show)


def _understated(run: Followed, record: RunRecord, one: RunAudit) -> str:
    """Say how a record says less than what is stored or waits, was proven before, or than it says itself."""
    base, last = run.base, record.number("last")
    if run.closed(-1 if run.record.is_gone else last):
        return ""
    if run.record.is_gone:
        return f"the broker has no record of it, and an audit has met its number {base.last:,}"
    if one.beyond:
        return f"it says that {last:,} is the last number, and {one.beyond:,} events have higher ones"
    if last < base.last:
        return f"it says that {last:,} is the last number, and an audit has met {base.last:,}"
    for told, met, what in (
        (record.number("unnumbered"), base.unnumbered, "events without a readable id"),
        (record.foreign, base.ids_seen, "ids that it did not number"),
    ):
        if told < met:
            return f"it says {told:,} {what}, and an audit has met {met:,}"
    return record.contradiction


def _settle_absent(result: Audit, places: Places, rows: Rows) -> None:
    """Look again for each proven event that had no row."""
    ids = [event_id for event_id, run in places.known.without_row.items() if run]
    closed = Closed(places.known.accepted)
    for at in range(0, len(ids), _IDS_A_CHUNK):
        chunk = ids[at : at + _IDS_A_CHUNK]
        gone = set(rows.missing_of(chunk))
        for event_id in chunk:
            run = places.known.without_row[event_id]
            place = places.without_row.get(event_id, MISSING) if event_id in gone else STORED
            if place == MISSING and closed.has(run, event_id):
                place = ACCEPTED
            result.absent.setdefault(run, []).append((event_id, place))


def _settle_ended(result: Audit, places: Places) -> None:
    """Count the runs that are ended and proven, together."""
    folded = places.known.folded
    followed = [one.base for one in places.runs.values() if one.base.folded_at is not None]
    events = folded.events - sum(one.events for one in followed)
    expired = folded.expired - sum(one.expired + one.expired_ids for one in followed)
    accepted = folded.accepted - sum(one.accepted for one in followed)
    result.ended_runs = folded.runs - len(followed)
    tally = result.ended
    absent = [pair for run, pairs in result.absent.items() if run not in places.runs for pair in pairs]
    tally.add(STORED, events - len(absent) - expired - accepted)
    tally.add_expired(expired)
    tally.add(ACCEPTED, accepted)
    for event_id, place in absent:
        tally.add(place)
        if place == MISSING:
            result.ended_missing.append(event_id)


def _folded_numbers(
    conflicts: Iterable[tuple[str, int, str | None]], followed: Collection[str], proofs: Proofs | NoProofs
) -> dict[str, int]:
    """Give the last numbers of the runs that are ended and proven, and of whose ids there are conflicts."""
    named = {own.run for event_id, _, _ in conflicts if (own := numbered(event_id)) is not None}
    names = named - set(followed)
    found = proofs.read(names).runs if names else {}
    return {name: found[name].proven for name in names & found.keys()}


def _settle_conflicts(
    result: Audit, last_numbers: Mapping[str, int], conflicts: Iterable[tuple[str, int, str | None]]
) -> None:
    """Count each conflict for the run that has published its id."""
    tallies = {one.run: one.tally for one in result.runs}
    for event_id, place, asked_by in conflicts:
        own = numbered(event_id) if is_numbered(event_id, last_numbers) else None
        by_id = asked_by or result.known.without_row.get(event_id)
        run = own.run if asked_by is None and own is not None else by_id
        tally = result.unrecorded if run is None else tallies.get(run, result.ended)
        tally.add_conflict(place)


def _settle_unrecorded(
    result: Audit,
    scan: Scan,
    looked: Sequence[tuple[Followed, RunAudit, Found]],
    rows: Rows,
    unnumbered: Unnumbered,
    *,
    is_all: bool,
) -> None:
    """Count what no run tells of, where it was met; and what is not where it was once proven."""
    known, tally = result.known, result.unrecorded
    others = scan.others - sum(found.in_window for _, _, found in looked)
    kept = scan.kept_others - sum(found.kept_in_window for _, _, found in looked)
    for event_id in _foreign_with_row(result):
        if not is_all and scan.window.has(at := time_of(event_id)):
            others -= 1
            kept -= scan.is_kept(at)
    if is_all:
        # All rows were read, and those of proven ids are among them.
        proven = sum(one.stored_ids for one in result.runs)
        proven += sum(1 for _ in _foreign_with_row(result))
        others, kept = others - proven, kept - proven
        _take_back(result, -others)
    else:
        others, kept = others + known.unrecorded, kept + known.unrecorded
    others = max(0, others)
    for _, one, found in looked:
        # Rows that no run tells of are those of ids that nobody knows any more.
        there = min(found.lost, others)
        others -= there
        one.tally.add(STORED, there)
        if found.lost > there:
            one.miss_unnamed(found.lost - there)
    tally.add(STORED, others)
    result.proof.unrecorded = max(0, kept)
    for chunk in _chunks(unnumbered.not_asked()):
        places = dict(chunk)
        for event_id in rows.missing_of(list(places)):
            tally.add(places[event_id])
    for place, events in unnumbered.take_unreadable(1 << 62).items():
        tally.add(place, events)


def _foreign_with_row(result: Audit) -> Iterator[str]:
    """Give the events that had no row when they were proven and have one now, and no number of their run."""
    for run, pairs in result.absent.items():
        for event_id, place in pairs:
            if place == STORED and _is_foreign(event_id, run):
                yield event_id


def _take_back(result: Audit, number: int) -> None:
    """Miss so many events with ids that no run has numbered: more were proven than rows are there."""
    for one in result.runs:
        lost = min(one.stored_ids, number)
        if lost > 0:
            one.tally.add(STORED, -lost)
            one.miss_unnamed(lost, are_proven=True)
            number -= lost


def _put_ended_together(result: Audit, looked: Sequence[tuple[Followed, RunAudit, Found]]) -> None:
    """Tell of runs that were ended and proven, and were all the same looked at, as of the others."""
    for run, one, _ in looked:
        is_folded = run.base.folded_at is not None and not run.record.ids_place
        if is_folded and not (one.tally.missing or one.understated):
            result.runs.remove(one)
            result.ended += one.tally
            result.ended_runs += 1


def _chunks(pairs: Iterable[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    source = iter(pairs)
    while chunk := list(itertools.islice(source, _IDS_A_CHUNK)):
        yield chunk


def _judge(result: Audit, records: Records, damages: Damages) -> None:
    result.problems += [
        f"the record of run {run.run} was tampered with or lost: {run.understated}"
        for run in result.runs
        if run.understated
    ]
    if result.others_rows:
        others = sorted(result.known.others.items())
        named = ", ".join(f"{printable(name)} ({number:,})" for name, number in others)
        result.notes.append(
            f"{result.others_rows} stored events are of other pipelines in this database, by the proofs of "
            f"their own audits: {named}"
        )
    if result.unknown_rows:
        result.notes.append(
            f"{result.unknown_rows} stored events are of producers that have no record at this broker (of "
            "another pipeline that shares the database and has proven none of them so far, or of ones that "
            "keep none): they can't be proven "
            "complete here"
        )
    result.notes += [f"{one.place}: {one.why}" for one in damages.torn]
    result.problems += [f"a run's record can't be read: {line}" for line in records.unreadable]
    if damages.number:
        result.problems.append(
            f"{damages.number:,} places of the dead letters can't be read; "
            "an event that is missing may be in them"
        )
        result.problems += [f"{one.place}: {one.why}" for one in damages.named]


def _tell_unknown(result: Audit, records: Records, added: int | None) -> None:
    """Where a record is doubted, say of how many events no record tells."""
    if added is None or not result.tampered_or_lost:
        return
    names = ("published", "duplicates", "unnumbered")
    told = sum(one.foreign + sum(one.number(name) for name in names) for one in records.runs)
    if (untold := added - told) > 0:
        result.notes.append(
            f"{untold:,} of the {added:,} events that the stream has had are in no run's record: those of "
            "doubted runs, replayed letters, and producers without a record. Which of them were events that "
            "are lost can't be known"
        )
