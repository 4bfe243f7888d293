"""Which ids come again beside a drop: all that no audit has looked at, each read once."""

from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from services.contract.operating import IdChunk, Records, RunRecord
from services.ops.audit import retaining
from services.ops.audit.retaining import PublishedAgain

RUN = "a-run"


def id_of(number: int) -> str:
    """Give the id that a run has published at a place of its own."""
    return str(UUID(int=number))


def ids_of(*numbers: int) -> set[str]:
    """Give the ids of places."""
    return set(map(id_of, numbers))


class Broker:
    """One run that has published the ids of its places, in chunks of ten; and how far it was read."""

    def __init__(self, foreign: int) -> None:
        self.foreign = foreign
        self.gone: set[int] = set()
        """Chunks that are deleted."""
        self.goes: int | None = None
        """The chunk that is deleted while it is read."""
        self.read: list[int] = []
        self.looks: list[int] = []
        """The first chunk of each look at them."""
        self.most = 0
        """Ids that were asked for at once."""

    def records(self) -> Records:
        numbers = dict.fromkeys(("last", "published", "batches", "unnumbered", "duplicates", "line"), 0)
        return Records([RunRecord(RUN, RUN, numbers, {}, {"source": ""}, None, self.foreign, 9)])

    def id_chunks(self, record: RunRecord, first: int) -> list[IdChunk]:
        self.looks.append(first)
        numbers = range(first, (record.foreign + 9) // 10)
        return [
            IdChunk(number, 10 * number, min(10, self.foreign - 10 * number))
            for number in numbers
            if number not in self.gone
        ]

    def foreign_ids(self, _record: RunRecord, chunk: IdChunk, first: int, number: int) -> list[bytes]:
        assert first >= 0
        assert number > 0
        self.most = max(self.most, number)
        if chunk.number == self.goes:
            return []
        places = range(chunk.start + first, min(chunk.start + first + number, chunk.start + chunk.ids))
        self.read += places
        return [UUID(int=place).bytes for place in places]


def asked(
    broker: Broker, known: tuple[int, int] = (0, 0), newly: tuple[int, int] | None = None
) -> PublishedAgain:
    """Ask behind an audit. `known`, `newly`: the chunk and the ids that were proven before it, and by it."""

    def proven(chunk: int, ids: int) -> Any:
        return SimpleNamespace(run=RUN, chunk=chunk, ids=ids)

    result = SimpleNamespace(
        known=SimpleNamespace(runs={RUN: proven(*known)}),
        proof=SimpleNamespace(runs=[] if newly is None else [proven(*newly)]),
    )
    return PublishedAgain(cast("Any", broker), cast("Any", result))


def test_ids_behind_the_proven_ones_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the newest proof, to the last one, however many are read at once."""
    monkeypatch.setattr(retaining, "_IDS_A_CHUNK", 4)
    broker = Broker(25)
    assert asked(broker, known=(0, 3), newly=(1, 13))() == ids_of(*range(13, 25))
    assert (broker.read, broker.looks, broker.most) == (list(range(13, 25)), [1], 4)
    assert asked(broker, known=(1, 13))() == ids_of(*range(13, 25))
    assert asked(broker)() == ids_of(*range(25))


def test_nothing_is_read_where_all_is_proven() -> None:
    """A run of which every id was looked at costs no look at its chunks."""
    broker = Broker(20)
    assert asked(broker, known=(2, 20))() == set()
    assert (broker.read, broker.looks) == ([], [])


def test_those_that_came_since_are_read_alone() -> None:
    """It is asked with every step of a drop; what was given is given again, and not read again."""
    broker = Broker(12)
    again = asked(broker, known=(0, 5))
    assert again() == ids_of(*range(5, 12))
    broker.read.clear()
    assert again() == ids_of(*range(5, 12))
    assert broker.read == []
    broker.foreign = 31
    assert again() == ids_of(*range(5, 31))
    assert broker.read == list(range(12, 31))


def test_a_chunk_that_is_gone_is_left_out() -> None:
    """Whoever had it proven has deleted it, before it is asked for or while it is read."""
    broker = Broker(35)
    broker.gone = {0, 1}
    broker.goes = 2
    assert asked(broker)() == ids_of(*range(30, 35))
