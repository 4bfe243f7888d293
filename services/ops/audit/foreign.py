"""The ids that runs have published and not numbered: each is looked for by name, from the proven ones on.

An id may come again: a file replayed, a message sent twice. What was published before the last audit was in
its row by then, or is not proven; so an id that was published after it, and whose row was stored before it,
came before, and is counted already.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.brokers.operating.side import OperatorSide
from services.contract.consuming.proofs import Proven, ProvenRun
from services.contract.ids import text_of, time_of
from services.contract.operating import IdChunk
from services.ops.audit.ledger import ACCEPTED, MISSING, PENDING, STORED, UNDELIVERED, Rows, is_numbered
from services.ops.audit.places import Followed
from services.ops.audit.result import RunAudit
from services.ops.audit.windows import Scan
from services.stores.sqlite.scratch import Met, Unnumbered

_IDS_A_CHUNK: Final = 10_000
_DAY_MS: Final = 86_400_000
NO_DAY: Final = -1
"""The day of ids that carry no time."""
_WITH_TIME: Final = frozenset("78")
"""Versions of UUID that begin with their time."""


@dataclass(slots=True)
class Found:
    """What became of the ids of one run."""

    chunk: int
    """The first that is not wholly proven."""
    ids: int
    """How many are proven, in their order."""
    seen: int
    events: int = 0
    """Different ones that are proven since."""
    accepted: int = 0
    lost: int = 0
    """How many are published, and nobody knows their ids any more."""
    unsettled_from: int | None = None
    """The earliest time in the id of one that is not proven; 0 where one has no time."""
    stored_from: float | None = None
    """When the first that is not proven was stored, Unix seconds; 0 where that is not known."""
    in_window: int = 0
    """How many of the stored ones were among the rows that the scan has counted."""
    kept_in_window: int = 0
    """How many of them are among those that the next audit does not read again."""
    days: dict[int, int] = field(default_factory=dict)
    """Proven events with a row, by the day of the id."""
    without_row: list[str] = field(default_factory=list)
    """Proven events without one."""


def day_of(event_id: str) -> int:
    """Give the day of an id, since 1970; NO_DAY where it carries no time."""
    return time_of(event_id) // _DAY_MS if event_id[14] in _WITH_TIME else NO_DAY


def begins_at(event_id: str) -> int:
    """Give the time that an id begins with, Unix milliseconds; 0 where it carries none."""
    return time_of(event_id) if event_id[14] in _WITH_TIME else 0


class Asked:
    """The ids that runs have published, did not number, and are not proven.

    An id that a run has numbered is an event of that run, whoever publishes it again.
    """

    def __init__(self, broker: OperatorSide, runs: Mapping[str, Followed]) -> None:
        self._broker = broker
        self._chunks: dict[str, list[IdChunk]] = {}
        self._last_numbers = {name: run.book.last for name, run in runs.items()}

    def note(self, runs: Iterable[Followed], unnumbered: Unnumbered) -> None:
        """Note all of them, before the places are read in which they may be."""
        for run in runs:
            for chunk in self.chunks(run):
                for _, ids in self.ids_of(run, chunk):
                    unnumbered.ask(run.record.run, (one for one in ids if not self.is_numbered(one)))

    def is_numbered(self, event_id: str) -> bool:
        """Tell whether a run has numbered the event of this id."""
        # Most are of no run's form: a look at where its name would be is sooner than the whole check.
        return event_id[14:27] in self._last_numbers and is_numbered(event_id, self._last_numbers)

    def chunks(self, run: Followed) -> list[IdChunk]:
        """Tell which chunks there are of a run."""
        name = run.record.run
        if name not in self._chunks:
            is_any = run.record.foreign > run.base.ids
            self._chunks[name] = self._broker.id_chunks(run.record, run.base.chunk) if is_any else []
        return self._chunks[name]

    def ids_of(self, run: Followed, chunk: IdChunk) -> Iterator[tuple[int, list[str]]]:
        """Give the ids of a chunk by many, and the number of the first of them."""
        end = min(chunk.start + chunk.ids, run.record.foreign)
        at = max(chunk.start, run.base.ids)
        while at < end:
            most = min(_IDS_A_CHUNK, end - at)
            raw = self._broker.foreign_ids(run.record, chunk, at - chunk.start, most)
            if not raw:  # somebody has removed it meanwhile
                return
            yield at, [text_of(one) for one in raw]
            at += len(raw)


class ForeignLooks:
    """Looks for ids of one run after the other. `began`: when the audit did, Unix seconds."""

    def __init__(
        self,
        asked: Asked,
        rows: Rows,
        unnumbered: Unnumbered,
        known: Proven,
        scan: Scan,
        began: float,
    ) -> None:
        self._asked = asked
        self._rows = rows
        self._unnumbered = unnumbered
        self._known = known
        self._scan = scan
        self._began = began
        self._again: set[str] = set()

    def settle(self, run: Followed, one: RunAudit, show: int) -> Found:
        """Look for every id of a run that is not proven, and count where it is."""
        base = run.base
        found = Found(base.chunk, base.ids, max(base.ids_seen, run.record.foreign))
        if run.record.foreign <= base.ids:
            return found
        accepted_ids = {event_id for loss in run.accepted for event_id in loss.ids}
        chunks = self._asked.chunks(run)
        found.lost = _lost(chunks, base.ids, run.record.foreign)
        closed = sum(loss.unnamed for loss in run.accepted)
        is_open = found.lost > closed
        for chunk in chunks:
            number = chunk.start + chunk.ids
            for at, ids in self._asked.ids_of(run, chunk):
                is_open = self._settle_ids(run, one, found, ids, at, accepted_ids, show, is_open=is_open)
            if found.ids >= number and chunk.number < run.record.chunk:
                found.chunk = chunk.number + 1
        if found.lost > closed:
            found.unsettled_from, found.stored_from = 0, 0.0
        if is_open:
            return found
        if found.ids < run.record.foreign - found.lost:  # removed while it was read: for the next audit
            return found
        found.ids = run.record.foreign
        found.events, found.accepted = found.events + found.lost, found.accepted + found.lost
        one.tally.add(ACCEPTED, found.lost)
        found.lost = 0
        return found

    def _settle_ids(
        self,
        run: Followed,
        one: RunAudit,
        found: Found,
        ids: list[str],
        at: int,
        accepted_ids: set[str],
        show: int,
        *,
        is_open: bool,
    ) -> bool:
        """Count where ids are; tells whether one of them is not proven, so that none behind it is."""
        stored = self._rows.stored_at(list(dict.fromkeys(ids)))
        uncounted = self._unnumbered.uncounted(ids)
        still_open: list[str] = []
        proven: list[str] = []
        for position, event_id in enumerate(ids, at):
            at_ms, was = time_of(event_id), stored.get(event_id)
            is_again = event_id in self._known.without_row or self._is_repeat(position, run.base, was)
            # Taken out, so that it counts once: a file may have it in two lines.
            met = None if is_again else uncounted.pop(event_id, None)
            if met is not None:
                is_accepted = event_id in accepted_ids
                place = self._place(at_ms, met, was, is_accepted=is_accepted)
                one.tally.add(place)
                self._count(found, at_ms, met, place)
                if place == MISSING:
                    one.miss_id(event_id, show)
                is_open = is_open or not self._is_settled(at_ms, place, was)
                (still_open if is_open else proven).append(event_id)
                if not is_open:
                    self._prove(found, event_id, met, place)
            if not is_open:
                found.ids = position + 1
                continue
            begins = begins_at(event_id)
            before = found.unsettled_from
            found.unsettled_from = begins if before is None else min(begins, before)
            if was is not None:
                found.stored_from = was if found.stored_from is None else min(was, found.stored_from)
            if met is None:
                self._again.add(event_id)
        self._unnumbered.count(still_open, proven)
        return is_open

    def come_again(self) -> set[str]:
        """Give the ids that are proven, and were published again where it is not proven yet."""
        return {one for one in self._again if not self._unnumbered.is_open(one)}

    def _is_repeat(self, position: int, base: ProvenRun, stored_at: float | None) -> bool:
        """Tell whether an id was counted by an audit before."""
        is_new = position >= base.ids_seen and self._known.generation > 0
        return is_new and stored_at is not None and stored_at < self._known.proven_at

    def _place(self, at_ms: int, met: Met, stored_at: float | None, *, is_accepted: bool) -> int:
        """Tell where an id was met."""
        # A row that comes when the rows were read is for the next audit: it is where it was met.
        is_late = not met.is_seen and self._scan.window.has(at_ms)
        if stored_at is not None and not (is_late and met.place != MISSING):
            return STORED
        return ACCEPTED if met.place == MISSING and is_accepted else met.place

    def _is_settled(self, at_ms: int, place: int, stored_at: float | None) -> bool:
        """Tell whether an id can be proven: what is stored meanwhile, or read again, is for the next one."""
        if place in {MISSING, UNDELIVERED, PENDING}:
            return False
        if place != STORED:
            return True
        return stored_at is not None and stored_at < self._began and self._scan.is_kept(at_ms)

    def _count(self, found: Found, at_ms: int, met: Met, place: int) -> None:
        if place == STORED and met.is_seen and self._scan.window.has(at_ms):
            found.in_window += 1
            found.kept_in_window += self._scan.is_kept(at_ms)

    def _prove(self, found: Found, event_id: str, met: Met, place: int) -> None:
        found.events += 1
        if place == ACCEPTED:
            found.accepted += 1
        elif place != STORED or met.has_conflict:
            # Where a conflict's letter is of an id, its run is known by it.
            found.without_row.append(event_id)
        else:
            day = day_of(event_id)
            found.days[day] = found.days.get(day, 0) + 1


def _lost(chunks: Sequence[IdChunk], proven: int, published: int) -> int:
    """Tell how many ids behind the proven ones are in no chunk.

    The server has lost them, or an audit let go of them that the store knows nothing of any more.
    """
    there = sum(max(0, one.start + one.ids - max(one.start, proven)) for one in chunks)
    return max(0, published - proven - there)
