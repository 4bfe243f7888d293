"""The proof, by event id, that nothing is missing.

    published = stored + dead + conflicts + purged + pending + undelivered + missing

What was published is told by the broker, written there in the same step as the events themselves:

    last         the run's events are numbered 1 to `last`, without a gap
    unnumbered   events published without a readable id (invalid ones)
    ids          ids that the run published and did not number (a replay's)

Where each of them is: in the stream (undelivered, or pending), among the dead letters (or purged from
them), in the sink. The places are read in that order, the one in which an event moves, so an event
that moves meanwhile is met at least once, and the audit is exact beside running consumers too.

An event is an id and a content. The first content under an id is the event that the run has numbered; each
other one is a conflict: an event too, published under an id that was taken, and kept as a dead letter of that
reason. A copy of either is a duplicate, and no further event, whoever publishes it: an id that a run has
numbered is that run's event when it is published again from a file, too.

What no run tells of (an entry that was added by hand, say) has a tally of its own: where it is can be told,
and not whether anything is missing. Rows, dead events and conflicts of both tallies are all that there are,
so they agree with what `telemetry status` counts.

Memory: one byte for each numbered event; ids that aren't numbered go to a temporary file.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, Protocol
from uuid import UUID

from services.brokers.operating.side import OperatorSide
from services.contract.consuming.damage import Damages
from services.contract.consuming.letter import DeadLetter, Purged
from services.contract.ids import numbered
from services.contract.operating import Met, Records, RunRecord
from services.ops.audit.ledger import (
    DEAD,
    MISSING,
    PAGE,
    PAGE_BITS,
    PENDING,
    PURGED,
    STORED,
    UNDELIVERED,
    Book,
    Rows,
    is_numbered,
    readable_id,
)
from services.ops.audit.result import Audit, RunAudit, Tally
from services.stores.sqlite.scratch import Unnumbered

_IDS_A_CHUNK: Final = 10_000


class Letters(Protocol):
    """What the audit reads of the dead letters."""

    @property
    def damages(self) -> Damages:
        """What could not be read so far."""
        ...

    def read(self) -> Iterator[DeadLetter]:
        """Give every letter."""
        ...

    def purged(self) -> Iterator[Purged]:
        """Give what is known of each letter that was purged."""
        ...


def audit(broker: OperatorSide, rows: Rows, letters: Letters, show: int = 20) -> Audit:
    """Find every published event. `show`: how many missing ones are named, for each run.

    Raises BrokerUnavailable, and what the sink and the dead letters raise when they can't be read.
    """
    result = Audit()
    added = broker.entries_added()
    # The records first: what is published after this moment is not asked for.
    records = broker.records()
    before = broker.met()
    known = {one.run: before.get(one.run, Met()) for one in records.runs}
    books = {one.run: Book(max(one.number("last"), known[one.run].last)) for one in records.runs}
    with Unnumbered() as unnumbered:
        for record in records.runs:
            _ask_foreign(broker, record, {run: book.last for run, book in books.items()}, unnumbered)
        _read_stream(broker, books, unnumbered, result.notes)
        for letter in letters.read():
            event_id = letter.text("event_id")
            # A conflict's letter is of a second content under an id: it doesn't stand for the first, the row.
            if letter.is_conflict and (found := readable_id(event_id)):
                unnumbered.meet_conflict(found, letter.content, DEAD)
            else:
                _place(books, unnumbered, DEAD, event_id, letter.entry_id)
        for note in letters.purged():
            if note.content is not None and (found := readable_id(note.event_id)):
                unnumbered.meet_conflict(found, note.content, PURGED)
            else:
                _place(books, unnumbered, PURGED, note.event_id, note.entry_id, unless_met=True)
        others = _read_sink(books, rows, unnumbered)
        latest = {one.run: one for one in broker.records().runs}
        for record in records.runs:
            # A record that went away meanwhile (FLUSHALL) stands as it was.
            now = latest.get(record.run, record)
            one = _settle(record, books[record.run], now.number("last"), show)
            _settle_foreign(one, unnumbered, show)
            unreadable = max(record.number("unnumbered"), known[record.run].unnumbered)
            one.met = Met(books[record.run].highest, _settle_unreadable(one, unreadable, unnumbered))
            one.understated = _understated(now, one, known[record.run])
            result.runs.append(one)
        _settle_conflicts(result, {run: max(one.last, one.highest) for run, one in books.items()}, unnumbered)
        _settle_unrecorded(result.unrecorded, others, unnumbered)
    _judge(result, records, letters.damages)
    _tell_unknown(result, records, added)
    return result


def _place(
    books: Mapping[str, Book],
    unnumbered: Unnumbered,
    place: int,
    event_id: str | None,
    entry_id: str,
    *,
    unless_met: bool = False,
) -> None:
    """Note where an event was met, in its run's book if it has one."""
    text = readable_id(event_id)
    if text is None:
        unnumbered.meet_unreadable(entry_id, place)
        return
    own = numbered(text)
    book = None if own is None else books.get(own.run)
    if (
        own is None
        or book is None
        or (own.sequence > book.last and unnumbered.is_asked(text))
        or not book.put(own.sequence, place, unless_met=unless_met)
    ):
        unnumbered.meet(text, place, unless_met=unless_met)


def _read_stream(
    broker: OperatorSide, books: Mapping[str, Book], unnumbered: Unnumbered, notes: list[str]
) -> None:
    """Note every entry that waits."""
    without_content = 0
    for one in broker.waiting():
        if one.has_content:
            place = PENDING if one.is_delivered else UNDELIVERED
            _place(books, unnumbered, place, one.event_id, one.entry_id)
        else:
            without_content += 1
    if without_content:
        notes.append(
            f"{without_content} pending entries have no content any more: trimmed or deleted too early"
        )


def _read_sink(books: Mapping[str, Book], rows: Rows, unnumbered: Unnumbered) -> int:
    """Note every stored event, each once; gives how many no run has published."""
    others = 0
    find = {run: (book.last, book.pages) for run, book in books.items()}

    def others_of(event_ids: Iterable[str]) -> Iterator[str]:
        for event_id in event_ids:
            # The same cut as in contract.ids, without its checks: a million of them in about a second.
            found = find.get(event_id[14:27])
            if found is not None:
                try:
                    sequence = int(event_id[27:], 16)
                except ValueError:  # somebody else's row
                    yield event_id
                    continue
                last, pages = found
                page = pages.get(sequence >> PAGE_BITS)
                if 0 < sequence <= last and page is not None:
                    page[sequence & PAGE - 1] = STORED
                    continue
                is_asked = sequence > last and unnumbered.is_asked(event_id)
                if not is_asked and books[event_id[14:27]].put(sequence, STORED):
                    continue
            yield event_id

    source = others_of(rows.event_ids())
    while chunk := list(islice(source, _IDS_A_CHUNK)):
        others += len(chunk) - unnumbered.meet_known(chunk, STORED)
    return others


def _settle(record: RunRecord, book: Book, latest: int, show: int) -> RunAudit:
    """Count the places of a run's numbers.

    `latest` is the number recorded by now: what was published meanwhile is not asked for, and a
    number above it tells that the server has forgotten its latest writes.
    """
    highest = book.highest
    beyond = book.counts(latest + 1, highest)
    del beyond[MISSING]
    # Numbers have no gap, so everything below the highest one that was met was published.
    end = max(book.last, highest if beyond.total() else 0)
    tally = Tally()
    for place, number in book.counts(1, end).items():
        tally.add(place, number)
    return RunAudit(
        record.run, record.source, tally, list(islice(book.missing(record.run, end), show)), beyond.total()
    )


def _ask_foreign(
    broker: OperatorSide, record: RunRecord, last_numbers: Mapping[str, int], unnumbered: Unnumbered
) -> None:
    """Note each id that a run has published and not numbered, but for those of events of a recorded run.

    Whoever publishes these again, from a file say, publishes a duplicate, and no further event.
    """
    for first in range(0, record.foreign, _IDS_A_CHUNK):
        ids = (str(UUID(bytes=one)) for one in broker.foreign_ids(record, first, _IDS_A_CHUNK))
        unnumbered.ask(record.run, (one for one in ids if not is_numbered(one, last_numbers)))


def _settle_foreign(one: RunAudit, unnumbered: Unnumbered, show: int) -> None:
    """Account for the ids that a run has published and not numbered."""
    for place, events in unnumbered.places(one.run).items():
        one.tally.add(place, events)
    one.missing += unnumbered.not_met(one.run, max(0, show - len(one.missing)))


def _understated(record: RunRecord, one: RunAudit, known: Met) -> str:
    """Say how a record says less than what is stored or waits, was met before, or than it says itself."""
    last = record.number("last")
    if one.beyond:
        return f"it says that {last:,} is the last number, and {one.beyond:,} events have higher ones"
    if last < known.last:
        return f"it says that {last:,} is the last number, and a recorded audit has met {known.last:,}"
    if record.number("unnumbered") < known.unnumbered:
        told = f"it says {record.number('unnumbered'):,} events without a readable id"
        return f"{told}, and a recorded audit has met {known.unnumbered:,}"
    return record.contradiction


def _settle_unreadable(one: RunAudit, published: int, unnumbered: Unnumbered) -> int:
    """Account for events without a readable id, which have no name: by their number; gives those met."""
    if not published:
        return 0
    found = unnumbered.take_unreadable(published)
    for place, events in found.items():
        one.tally.add(place, events)
    lost = published - found.total()
    if lost:
        one.tally.add(MISSING, lost)
        one.missing.append(f"{lost} events without a readable event_id")
    return found.total()


def _settle_conflicts(result: Audit, last_numbers: Mapping[str, int], unnumbered: Unnumbered) -> None:
    """Count each conflict for the run that has published its id."""
    tallies = {one.run: one.tally for one in result.runs}
    for event_id, place, asked_by in unnumbered.conflicts():
        own = numbered(event_id) if is_numbered(event_id, last_numbers) else None
        run = own.run if asked_by is None and own is not None else asked_by
        tally = result.unrecorded if run is None else tallies[run]
        tally.add_conflict(place)


def _settle_unrecorded(tally: Tally, stored: int, unnumbered: Unnumbered) -> None:
    """Count what no run tells of, where it was met."""
    tally.add(STORED, stored)
    for found in (unnumbered.places(None), unnumbered.take_unreadable(1 << 62)):
        for place, events in found.items():
            tally.add(place, events)


def _judge(result: Audit, records: Records, damages: Damages) -> None:
    result.problems += [
        f"the record of run {run.run} was tampered with or lost: {run.understated}"
        for run in result.runs
        if run.understated
    ]
    if result.unknown_rows:
        result.notes.append(
            f"{result.unknown_rows} stored events are of producers that have no record at this broker (of "
            "another pipeline that shares the database, or of ones that keep none): they can't be proven "
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
    """Where a record is doubted, say of how many entries no record tells."""
    if added is None or not result.tampered_or_lost:
        return
    names = ("published", "duplicates", "unnumbered")
    told = sum(one.foreign + sum(one.number(name) for name in names) for one in records.runs)
    if (untold := added - told) > 0:
        result.notes.append(
            f"{untold:,} of the {added:,} entries that the stream has had are in no run's record: those of "
            "doubted runs, replayed letters, and producers without a record. Which of them were events that "
            "are lost can't be known"
        )
