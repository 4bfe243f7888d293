"""Where events are met while the audit reads: in the stream, among the letters and the notes of purges."""

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from services.brokers.operating.side import OperatorSide
from services.contract.consuming.damage import Damages
from services.contract.consuming.letter import DeadLetter, Purged
from services.contract.consuming.packed_letters import single_letters
from services.contract.consuming.proofs import Accepted, Proven, ProvenRun
from services.contract.ids import numbered, time_of
from services.contract.operating import RunRecord
from services.ops.audit.ledger import ACCEPTED, DEAD, PENDING, PURGED, UNDELIVERED, Book, readable_id
from services.stores.sqlite.scratch import Unnumbered


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


@dataclass(slots=True)
class Followed:
    """A run that is looked at: what it says of itself, and what was proven of it before."""

    record: RunRecord
    base: ProvenRun
    book: Book
    accepted: list[Accepted]
    waits_from: int | None = None
    """The earliest time in the id of an event of it that waits, Unix milliseconds; None: none waits."""

    def hidden(self) -> tuple[int, int]:
        """Tell how many proven numbers, and how many other proven events, are missing and can't be named."""
        numbers = sum(one.hidden for one in self.accepted)
        ids = sum(one.proven_ids for one in self.accepted)
        return max(0, self.base.hidden - numbers), max(0, self.base.hidden_ids - ids)

    def closed(self, last: int) -> bool:
        """Tell whether a person has closed that its record says so little; -1: that it is gone."""
        return any(one.last is not None and one.last <= last for one in self.accepted)


class Closed:
    """Of which events persons have closed the loss."""

    def __init__(self, losses: Iterable[Accepted]) -> None:
        self._ids: set[tuple[str, str]] = set()
        pieces: dict[str, list[tuple[int, int]]] = {}
        for loss in losses:
            self._ids.update((loss.run, one) for one in loss.ids)
            pieces.setdefault(loss.run, []).extend(loss.numbers)
        self._numbers: dict[str, tuple[list[int], list[int]]] = {}
        """Of each run where pieces of its numbers begin, and how far those up to there go."""
        for run, some in pieces.items():
            some.sort()
            ends = itertools.accumulate((last for _, last in some), max)
            self._numbers[run] = ([first for first, _ in some], list(ends))

    def has(self, run: str, event_id: str) -> bool:
        """Tell it of an event that a run has published."""
        own = numbered(event_id)
        if own is None or own.run != run:
            return (run, event_id) in self._ids
        firsts, ends = self._numbers.get(run, ([], []))
        at = bisect_right(firsts, own.sequence)
        return at > 0 and own.sequence <= ends[at - 1]


@dataclass(slots=True)
class Places:
    """Where each event was met. `runs` by name."""

    known: Proven
    runs: Mapping[str, Followed]
    unnumbered: Unnumbered
    without_row: dict[str, int] = field(default_factory=dict)
    """Where proven events were met that had no row."""
    waits_from: int | None = None
    """The earliest time in the id of any event that waits."""

    def note(self, place: int, event_id: str | None, entry_id: str, *, unless_met: bool = False) -> None:
        """Note where an event was met, in its run's book if it has one."""
        text = readable_id(event_id)
        if text is None:
            self.unnumbered.meet_unreadable(entry_id, place)
            return
        if text in self.known.without_row:
            before = self.without_row.get(text, 0)
            self.without_row[text] = before if unless_met and before else max(place, before)
        own = numbered(text)
        run = None if own is None else self.runs.get(own.run)
        if (
            own is None
            or run is None
            or (own.sequence > run.book.last and self.unnumbered.is_asked(text))
            or not run.book.put(own.sequence, place, unless_met=unless_met)
        ):
            if text not in self.known.without_row:
                self.unnumbered.meet(text, place, unless_met=unless_met)
            return
        if place in {DEAD, PURGED} and own.sequence > run.base.proven:
            self.unnumbered.letter(own.run, own.sequence, text)

    def read_stream(self, broker: OperatorSide, notes: list[str]) -> None:
        """Note every entry that waits."""
        without_content = 0
        for one in broker.waiting():
            if not one.has_content:
                without_content += 1
                continue
            self.note(PENDING if one.is_delivered else UNDELIVERED, one.event_id, one.entry_id)
            if (text := readable_id(one.event_id)) is not None:
                self._waits(text)
        if without_content:
            notes.append(
                f"{without_content} pending entries have no content any more: trimmed or deleted too early"
            )

    def read_letters(self, letters: Letters) -> None:
        """Note every dead letter, and every one that was purged."""
        for letter in itertools.chain.from_iterable(map(single_letters, letters.read())):
            event_id = letter.text("event_id")
            # A conflict's letter is of a second content under an id: it doesn't stand for the first, the row.
            if letter.is_conflict and (found := readable_id(event_id)):
                self.unnumbered.meet_conflict(found, letter.content, DEAD)
            else:
                self.note(DEAD, event_id, letter.entry_id)
        for note in letters.purged():
            if note.content is not None and (found := readable_id(note.event_id)):
                self.unnumbered.meet_conflict(found, note.content, PURGED)
            else:
                self.note(PURGED, note.event_id, note.entry_id, unless_met=True)

    def read_accepted(self) -> None:
        """Note the numbers whose loss a person has closed, unless they were met after all."""
        for run in self.runs.values():
            for loss in run.accepted:
                for first, last in loss.numbers:
                    for sequence in range(max(first, run.book.floor + 1), last + 1):
                        run.book.put(sequence, ACCEPTED, unless_met=True)

    def _waits(self, text: str) -> None:
        at = time_of(text)
        self.waits_from = at if self.waits_from is None else min(self.waits_from, at)
        own = numbered(text)
        run = None if own is None else self.runs.get(own.run)
        if run is not None and own is not None and own.sequence > run.base.proven:
            run.waits_from = at if run.waits_from is None else min(run.waits_from, at)
