"""How many events are published, dead and in conflict, counted beside a running pipeline as the audit counts.

Letters and entries are not events: an event that was published twice leaves two letters, an entry that was
delivered twice as well, and a letter that was replayed with success is of an event that is stored.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from services.brokers.operating.side import OperatorSide
from services.contract.consuming.letter import DeadLetter
from services.contract.consuming.packed_letters import single_letters
from services.contract.consuming.proofs import Folded, ProvenRun
from services.contract.ids import text_of
from services.contract.operating import RunRecord
from services.ops.audit.ledger import is_numbered, readable_id
from services.stores.sqlite.scratch import DifferentIds

_IDS_A_CHUNK: Final = 10_000
_LOOKED_UP: Final = 20_000


class DeadCount(NamedTuple):
    """How many events are dead, and how many conflicts there are."""

    dead: int
    conflicts: int


def count_dead(letters: Iterable[DeadLetter], missing_of: Callable[[Sequence[str]], list[str]]) -> DeadCount:
    """Count the events of letters. `missing_of` gives those of some ids that are not stored."""
    named: set[str] = set()
    unnamed: set[str] = set()
    conflicts: set[tuple[str, str]] = set()
    for letter in itertools.chain.from_iterable(map(single_letters, letters)):
        event_id = readable_id(letter.text("event_id"))
        if event_id is None:
            unnamed.add(letter.entry_id)
        elif letter.is_conflict:
            conflicts.add((event_id, letter.content))
        else:
            named.add(event_id)
    ids = list(named)
    dead = sum(len(missing_of(ids[at : at + _LOOKED_UP])) for at in range(0, len(ids), _LOOKED_UP))
    return DeadCount(dead + len(unnamed), len(conflicts))


class ForeignIds:
    """Counts the different ids that runs have published and not numbered: a file may have one in two lines.

    An id that another run has numbered is an event of that run, published again.

    What was read once is not read again. Ids are kept in a temporary file.
    """

    def __init__(self) -> None:
        self._read: dict[str, int] = {}
        self._different = 0
        self._ids = DifferentIds()

    def count(
        self,
        broker: OperatorSide,
        runs: Iterable[RunRecord],
        budget_s: float,
        proven: Mapping[str, ProvenRun] = MappingProxyType({}),
    ) -> int:
        """Count them; what takes longer than `budget_s` is taken for different ids, until the next time.

        `proven`: of which runs audits have counted some already, and the broker need not keep those.
        Raises BrokerUnavailable.
        """
        every = list(runs)
        found = [one for one in every if one.foreign]
        last_numbers = {one.run: one.number("last") for one in every}
        if any(one.foreign < self._read.get(one.run, 0) for one in found):  # the server was emptied
            self._ids.close()
            self._ids, self._read, self._different = DifferentIds(), {}, 0
        ends = time.monotonic() + budget_s
        unread = 0
        for one in found:
            base = proven.get(one.run)
            if one.run not in self._read:
                self._read[one.run] = base.ids if base else 0
                self._different += base.id_events if base else 0
            self._read_chunks(broker, one, base.chunk if base else 0, ends, last_numbers)
            unread += one.foreign - self._read[one.run]
        return self._different + unread

    def _read_chunks(
        self,
        broker: OperatorSide,
        one: RunRecord,
        first: int,
        ends: float,
        last_numbers: Mapping[str, int],
    ) -> None:
        """Read on from where the last look ended, until a time."""
        if self._read[one.run] >= one.foreign:
            return
        for chunk in broker.id_chunks(one, first):
            last = min(chunk.start + chunk.ids, one.foreign)
            while chunk.start <= (at := self._read[one.run]) < last and time.monotonic() < ends:
                ids = broker.foreign_ids(one, chunk, at - chunk.start, min(_IDS_A_CHUNK, last - at))
                fresh = (it for it in ids if it[6] >> 4 != 7 or not _is_numbered(it, last_numbers))
                self._different += self._ids.add(fresh)
                self._read[one.run] = at + max(1, len(ids))

    def close(self) -> None:
        """Remove the temporary file."""
        self._ids.close()


def _is_numbered(raw: bytes, last_numbers: Mapping[str, int]) -> bool:
    return is_numbered(text_of(raw), last_numbers)


def recorded(runs: Iterable[RunRecord], folded: Folded | None = None) -> int:
    """Add up the events that runs have published with a number, or without a readable id.

    `folded`: those of runs whose records the broker need not keep, whatever their ids.
    """
    ended = 0 if folded is None else folded.events + folded.unnumbered
    return ended + sum(one.number("last") + one.number("unnumbered") for one in runs)
