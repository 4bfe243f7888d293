"""The proof over whatever mixture of runs, files and strangers: every event once, at its place."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final, cast
from uuid import UUID

import pytest
from fakes import FakeDeadLetters
from hypothesis import example, given
from hypothesis import strategies as st
from samples import entry, event_fields

from services.contract.consuming.doors import Dead
from services.contract.event import Reason, Rejection
from services.contract.ids import event_id, id_pattern, numbered, run_name
from services.contract.operating import IdChunk, Records, RunRecord, Waiting
from services.ops.audit import foreign
from services.ops.audit.live import ForeignIds, count_dead, recorded
from services.ops.audit.proof import audit
from services.ops.audit.result import Audit, Tally

FIRST: Final = run_name(0x2A_BCDE_F012)
SECOND: Final = run_name(0x15_5555_5555)
GONE: Final = run_name(0x3F_0000_0001)
"""A run of which there is no record any more."""
FILES: Final = tuple(run_name(0x11_0000_0000 + number) for number in range(2))
"""Runs that number nothing themselves."""
LAST: Final = 4
"""Of the runs that number their events."""
NOW_MS: Final = 1_700_000_000_000

NAMES: Final = (
    *(event_id(run, number, NOW_MS) for run in (FIRST, SECOND) for number in range(LAST + 3)),
    *(event_id(GONE, number, NOW_MS) for number in range(1, 4)),
    *(f"018f3c5e-8a10-4abc-8def-{number:012}" for number in range(3)),
)
"""Numbers above the last, and 0, are in no run's record: a file may have them all the same."""
NUMBERED: Final = frozenset(
    event_id(run, number, NOW_MS) for run in (FIRST, SECOND) for number in range(1, LAST + 1)
)


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of an id: which files have it, how often, and everywhere it lies."""

    files: tuple[int, ...] = ()
    waits: str = ""
    """`pending` or `undelivered`, or nothing."""
    letters: int = 0
    purged: int = 0
    is_stored: bool = False
    conflicts: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where its first content is."""
        if self.is_stored:
            return "stored"
        if self.letters:
            return "dead"
        return self.waits or ("purged" if self.purged else "missing")

    @property
    def is_met(self) -> bool:
        """Tell whether it lies anywhere."""
        return self.place != "missing" or bool(self.conflicts)


@dataclass
class World:
    """A broker, a sink and dead letters in which these ids have come about."""

    fates: dict[str, Fate]
    letters: FakeDeadLetters = field(default_factory=FakeDeadLetters)
    _entries: int = 0

    def __post_init__(self) -> None:
        gone = []
        for name, fate in self.fates.items():
            for number in range(fate.letters + fate.purged):
                letter = self._bury(name, "value_invalid", "bad")
                gone += [letter] if number < fate.purged else []
            for content in fate.conflicts:
                self._bury(name, "conflict", content)
        self.letters.purge(gone)

    def _bury(self, name: str, reason: Reason, content: str) -> str:
        self._entries += 1
        one = entry(self._entries, event_fields(1, event_id=name, value=content))
        self.letters.put([Dead(one, Rejection("sink", reason, reason))])
        return one.entry_id.decode()

    # The broker

    def _foreign(self, run: str) -> list[bytes]:
        number = FILES.index(run) if run in FILES else None
        return [UUID(name).bytes for name, fate in self.fates.items() for one in fate.files if one == number]

    def records(self) -> Records:
        runs = []
        for run in (FIRST, SECOND, *FILES):
            last = 0 if run in FILES else LAST
            numbers = {
                "last": last,
                "published": last,
                "batches": 1,
                "unnumbered": 0,
                "duplicates": 0,
                "line": 1,
            }
            texts = {"source": "test"}
            runs.append(RunRecord(run, run, numbers, {}, texts, None, len(self._foreign(run))))
        return Records(runs)

    def id_chunks(self, record: RunRecord, first: int) -> list[IdChunk]:
        found = len(self._foreign(record.run))
        return [IdChunk(0, 0, found)] if found and first == 0 else []

    def foreign_ids(self, record: RunRecord, chunk: IdChunk, first: int, number: int) -> list[bytes]:
        return self._foreign(record.run)[chunk.start :][first : first + number]

    def waiting(self) -> Iterator[Waiting]:
        for name, fate in self.fates.items():
            if fate.waits:
                yield Waiting("1-1", name, fate.waits == "pending")

    def ended_number(self) -> int:
        return 0

    def events_added(self) -> int | None:
        return None

    # The sink

    def event_ids(self, first_ms: int = 0, beyond_ms: int | None = None) -> Sequence[str]:
        assert (first_ms, beyond_ms) == (0, None), "all of it, as nothing is proven"
        return [name for name, fate in self.fates.items() if fate.is_stored]

    def stored_at(self, ids: Sequence[str]) -> dict[str, float]:
        return {one: 0.0 for one in ids if one in self.fates and self.fates[one].is_stored}

    def missing_of(self, ids: Sequence[str]) -> list[str]:
        return [one for one in ids if not (one in self.fates and self.fates[one].is_stored)]

    def audit(self, show: int = 100) -> Audit:
        return audit(cast("Any", self), self, self.letters, show)


def owner(name: str, fate: Fate) -> str | None:
    """Give the run whose event it is: which has numbered it, or else the first that has published it."""
    own = numbered(name)
    if name in NUMBERED and own is not None:
        return own.run
    return FILES[min(fate.files)] if fate.files else None


FATES: Final = st.builds(
    Fate,
    st.lists(st.integers(0, 1), max_size=3).map(tuple),
    st.sampled_from(["", "pending", "undelivered"]),
    st.integers(0, 2),
    st.integers(0, 1),
    st.booleans(),
    st.sets(st.sampled_from("xyz"), max_size=2).map(sorted).map(tuple),
)


AT_ONCE: Final = st.sampled_from([1, 2, 3, 10_000])


@given(st.dictionaries(st.sampled_from(NAMES), FATES), AT_ONCE)
@example(dict.fromkeys(NUMBERED, Fate((0,), is_stored=True)), 10_000)
@example(dict.fromkeys(NUMBERED, Fate((0, 0, 1), letters=2)), 10_000)
@example({NAMES[LAST + 1]: Fate((1,), letters=1), NAMES[LAST + 2]: Fate((0,), is_stored=True)}, 10_000)
@example(dict.fromkeys(NAMES[-3:], Fate((0, 0, 0, 1), is_stored=True)), 2)
@example(dict.fromkeys(NAMES[-3:], Fate((0, 0, 0, 1), "pending")), 2)
def test_every_event_counts_once_at_its_place(fates: dict[str, Fate], at_once: int) -> None:
    """For its own run, whoever has published it again: no count is negative, and all of them add up.

    `at_once`: how many ids of files are looked for together, which makes no difference.
    """
    # Above its last number, and of no file: then the run's record says too little (test_lowered_records.py).
    beyond = {name for name in NAMES[: 2 * (LAST + 3)] if int(name[27:], 16) > LAST}
    fates = {name: one for name, one in fates.items() if one.files or name not in beyond}
    expected: dict[str | None, Counter[str]] = {run: Counter() for run in (FIRST, SECOND, *FILES, None)}
    missing: dict[str, set[str]] = {run: set() for run in (FIRST, SECOND, *FILES)}
    for name in {*fates, *NUMBERED}:
        fate = fates.get(name, Fate())
        run = owner(name, fate)
        expected[run]["conflicts"] += len(fate.conflicts)
        if run is not None or fate.place != "missing":
            expected[run][fate.place] += 1
        if run is not None and fate.place == "missing":
            own = numbered(name) if name in NUMBERED else None
            missing[run].add(name if own is None else id_pattern(own.run, own.sequence))
    world = World(fates)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(foreign, "_IDS_A_CHUNK", at_once)
        result = world.audit()
    tallies: dict[str | None, Tally] = {one.run: one.tally for one in result.runs}
    tallies[None] = result.unrecorded
    for run, tally in tallies.items():
        places = {name: getattr(tally, name) for name in Tally.__slots__ if name != "published"}
        assert min(places.values()) >= 0
        assert tally.published == sum(places.values())
        assert +Counter(places) == +expected[run], run
    assert {one.run: set(one.missing) for one in result.runs} == missing
    assert result.problems == []
    assert result.total.stored + result.unrecorded.stored == len(world.event_ids())
    # And so do the live figures.
    runs = world.records().runs
    with closing(ForeignIds()) as live_ids:
        published = recorded(runs) + live_ids.count(cast("Any", world), runs, 60)
    assert published == result.total.published - result.total.conflicts
    live = count_dead(world.letters.read(), world.missing_of)
    both = (result.total, result.unrecorded)
    assert live == (sum(one.dead for one in both), sum(one.conflicts for one in both))


@pytest.mark.parametrize("name", [NAMES[-1], NAMES[1]])
def test_a_row_that_comes_when_the_sink_was_read_is_not_taken_from_another(name: str) -> None:
    """It is where it was met."""

    class Late(World):
        def event_ids(self, first_ms: int = 0, beyond_ms: int | None = None) -> Sequence[str]:
            seen = super().event_ids(first_ms, beyond_ms)
            self.fates[name] = Fate((0,), "pending", is_stored=True)
            return seen

    result = Late({name: Fate((0,), "pending")}).audit()
    assert (result.total.stored, result.total.pending) == (0, 1)
    assert result.unrecorded == Tally()


def test_no_more_missing_events_are_named_than_asked_for() -> None:
    """Of a file as well."""
    world = World(dict.fromkeys(NAMES[-3:], Fate((0,))))
    assert [len(run.missing) for run in world.audit(show=2).runs] == [2, 2, 2, 0]
    assert world.audit(show=0).total.missing == 2 * LAST + 3


@pytest.mark.parametrize("at_once", [1, 2, 3, 4, 10_000])
def test_ids_are_proven_in_their_order_up_to_the_first_that_is_not(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Each once, at its first; one that is proven and comes again behind is kept for the next audit.

    How many are looked for together makes no difference, nor in which run an id comes again.
    """
    monkeypatch.setattr(foreign, "_IDS_A_CHUNK", at_once)
    first, second, dead, waits, behind, other = (f"018f3c5e-8a10-8abc-8def-{n:012}" for n in range(6))
    published = {
        FILES[0]: [first, second, first, dead, second, waits, second, waits, behind, behind, dead],
        FILES[1]: [second, other, behind, other],
    }

    class Ordered(World):
        def _foreign(self, run: str) -> list[bytes]:
            return [UUID(name).bytes for name in published.get(run, [])]

    stored = dict.fromkeys((first, second, behind, other), Fate(is_stored=True))
    world = Ordered({**stored, dead: Fate(letters=1), waits: Fate(waits="pending")})
    result = world.audit()
    tallies = {one.run: one.tally for one in result.runs}
    assert tallies[FILES[0]] == Tally(published=5, stored=3, dead=1, pending=1)
    assert tallies[FILES[1]] == Tally(published=1, stored=1)
    assert result.unrecorded == Tally()
    proven = {one.run: one for one in result.proof.runs}
    assert (proven[FILES[0]].ids, proven[FILES[0]].id_events) == (5, 3)
    assert (proven[FILES[1]].ids, proven[FILES[1]].id_events) == (4, 1)
    assert sorted((run, events) for (run, _), events in result.proof.id_days.items()) == [
        (FILES[0], 2),
        (FILES[1], 1),
    ]
    assert result.proof.without_row == {dead: FILES[0], second: ""}
