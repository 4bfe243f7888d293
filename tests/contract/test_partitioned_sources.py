"""One suite over every source whose broker knows positions of partitions, and no entries.

What holds for all sources is in test_sources.py. This is what is left to such a source, since its broker
takes every commit, takes partitions away at any time, and counts nothing.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest
from partitioned import FakeTopic, Lane, PartitionedSource, Position
from samples import event_fields

from services.contract.consuming.doors import Entry, Source
from services.contract.errors import SourceUnavailable
from services.runtime.telemetry.metrics import Metrics

LOGGER = logging.getLogger("test.partitioned")
MAX_SILENCE_S = 300.0


class Desk:
    """A topic with two partitions, and the members of its group."""

    def __init__(self) -> None:
        self.now = 0.0
        self.topic = FakeTopic(2, lambda: self.now, MAX_SILENCE_S)
        self.metrics = Metrics("consumer")
        self.numbers = iter(range(1, 1000))

    def publish(self, count: int, partition: int = 0) -> list[bytes]:
        """Publish so many events, and give the ids of their entries."""
        return [self.topic.publish(event_fields(next(self.numbers)), partition) for _ in range(count)]

    def open(self, batch_size: int = 10) -> PartitionedSource:
        """Let a member join that gets nothing unless it is given to it; the first one gets all."""
        member = self.topic.join(shared=not self.topic.members)
        return PartitionedSource(member, self.metrics, LOGGER, batch_size)

    def kill(self, source: PartitionedSource) -> None:
        """End a consumer in the middle: it says nothing, and the broker finds out."""
        self.topic.expel(source.member)

    def committed(self, partition: int = 0) -> int | None:
        """Tell what offset is committed."""
        found = self.topic.partitions[partition].committed
        return None if found is None else found.offset

    def lost(self) -> float:
        """Tell how many entries were counted as lost."""
        return self.metrics.value("telemetry_lost_entries_total")


@pytest.fixture
def desk() -> Desk:
    """Give a topic with nothing in it."""
    return Desk()


def ids(entries: Sequence[Entry]) -> list[bytes]:
    """Name entries."""
    return [entry.entry_id for entry in entries]


def settle(source: Source) -> Iterator[Sequence[Entry]]:
    """Read and acknowledge until nothing comes; give each batch before it is acknowledged."""
    while page := source.read():
        yield page
        source.ack(page)


def test_only_what_is_settled_without_a_gap_is_committed(desk: Desk) -> None:
    """What lies behind a gap is not, though it is settled: it comes again after a restart."""
    published = desk.publish(5)
    source = desk.open()
    page = source.read()
    source.ack([*page[3:], page[0]])
    assert desk.committed() == 1
    source.ack([page[2]])
    assert desk.committed() == 1
    source.close()
    with closing(desk.open()) as second:
        assert ids(second.read()) == published[1:]


def test_a_gap_that_is_closed_commits_all_that_waited_behind_it(desk: Desk) -> None:
    """In whatever order a batch is acknowledged."""
    desk.publish(5)
    source = desk.open()
    page = source.read()
    source.ack(page[2:])
    assert desk.committed() == 0
    source.ack(page[:2])
    assert desk.committed() == 5


def test_offsets_without_a_record_are_no_gap(desk: Desk) -> None:
    """A transaction uses up offsets: the position goes over them, and nothing is counted as lost."""
    first = desk.publish(2)
    desk.topic.skip(0, 3)
    second = desk.publish(1)
    desk.topic.skip(0)
    source = desk.open()
    assert [ids(page) for page in settle(source)] == [first + second]
    assert desk.committed() == 6
    assert desk.lost() == 0


@pytest.mark.parametrize("when", ["between two reads", "while a write waits"])
def test_a_partition_that_was_taken_away_is_not_committed_any_more(desk: Desk, when: str) -> None:
    """Its new owner gets again what was in work; the late acknowledgement is left out, and raises nothing."""
    moving, staying = desk.publish(4, 0), desk.publish(2, 1)
    first, second = desk.open(), desk.open()
    page = first.read()
    assert set(ids(page)) == {*moving, *staying}
    desk.topic.give(0, second.member)
    if when == "while a write waits":
        first.still_working()
    else:
        assert first.read() == []
    again = second.read()
    assert ids(again) == moving
    second.ack(again[:3])
    first.ack(page)
    assert (desk.committed(0), desk.committed(1)) == (3, 2)
    second.ack(again[3:])
    assert desk.topic.unsettled() == set()


def test_a_partition_that_comes_back_is_read_from_where_it_was_left(desk: Desk) -> None:
    """What we had of it before counts no more: another has gone on with it."""
    published = desk.publish(6)
    first, second = desk.open(batch_size=3), desk.open(batch_size=4)
    old = first.read()
    desk.topic.give(0, second.member)
    first.still_working()
    second.ack(second.read())
    desk.topic.give(0, first.member)
    assert second.read() == []
    first.still_working()
    first.ack(old)
    assert desk.committed() == 4
    assert ids(first.read()) == published[4:]


def test_what_is_settled_is_committed_before_a_partition_is_given_back(desk: Desk) -> None:
    """A commit that failed is made good where it still can be; the next owner gets what is not settled."""
    published = desk.publish(4)
    first, second = desk.open(), desk.open()
    page = first.read()
    first.member.failures = ["commit"]
    with pytest.raises(SourceUnavailable):
        first.ack(page[:2])
    desk.topic.give(0, second.member)
    first.still_working()
    assert desk.committed() == 2
    assert ids(second.read()) == published[2:]


def test_whoever_says_that_it_works_keeps_its_partitions(desk: Desk) -> None:
    """However long a write waits; and no entry is given meanwhile that nobody would see."""
    published = desk.publish(3)
    first, second = desk.open(), desk.open()
    page = first.read()
    late = desk.publish(2)
    for _ in range(100):
        desk.now += MAX_SILENCE_S / 2
        first.still_working()
        assert second.read() == []
    assert desk.topic.expelled == []
    first.ack(page)
    assert ids(page) == published
    assert ids(first.read()) == late


def test_whoever_is_silent_loses_all_and_commits_none_of_it(desk: Desk) -> None:
    """Its acknowledgement raises nothing; with its next read it is a member again."""
    published = desk.publish(3)
    first = desk.open()
    page = first.read()
    second = desk.open()
    desk.now += MAX_SILENCE_S + 1
    assert ids(second.read()) == published[:1], "it may be what has silenced the first one"
    first.ack(page)
    assert desk.committed() == 0
    assert first.read() == []
    assert first.member in desk.topic.members


def test_a_broker_that_is_away_while_a_write_waits_is_no_error(desk: Desk) -> None:
    """The next read or acknowledgement says so, if it still is."""
    desk.publish(1)
    source = desk.open()
    page = source.read()
    source.member.failures = ["poll"]
    source.still_working()
    source.ack(page)
    assert desk.committed() == 1


def test_a_lost_answer_to_a_commit_gives_nothing_again(desk: Desk) -> None:
    """It counted, or is made good before the next read: what is durable does not come again."""
    desk.publish(2)
    source = desk.open()
    page = source.read()
    source.member.failures = ["answer"]
    with pytest.raises(SourceUnavailable):
        source.ack(page)
    assert source.read() == []
    assert desk.topic.unsettled() == set()


def test_what_was_removed_unread_is_counted_and_the_rest_goes_on(desk: Desk) -> None:
    """Retention took entries that nobody had read: none of them is skipped in silence."""
    published = desk.publish(10)
    source = desk.open(batch_size=2)
    source.ack(source.read())
    desk.topic.remove(0, below=7)
    assert ids(source.read()) == published[7:9]
    assert desk.lost() == 5
    assert desk.committed() == 7
    source.close()
    with closing(desk.open()) as second:
        assert ids(second.read()) == published[7:]
    assert desk.lost() == 5


def test_what_was_removed_before_the_group_was_is_not_its_loss(desk: Desk) -> None:
    """A group begins with the first record that is there."""
    published = desk.publish(5)
    desk.topic.remove(0, below=2)
    assert ids(desk.open().read()) == published[2:]
    assert desk.lost() == 0


def test_what_was_removed_while_it_was_in_hand_is_not_lost(desk: Desk) -> None:
    """It is stored, and the position goes on over it."""
    desk.publish(3)
    source = desk.open()
    page = source.read()
    desk.topic.remove(0, below=3)
    source.ack(page)
    assert source.read() == []
    assert (desk.lost(), desk.committed()) == (0, 3)


def test_a_position_beyond_the_end_begins_anew(desk: Desk) -> None:
    """The topic was made anew, or the broker lost its end: all that is there is read."""
    published = desk.publish(2)
    desk.topic.partitions[0].committed = Position(70)
    assert ids(desk.open().read()) == published
    assert desk.lost() == 0


def test_what_kills_its_consumer_is_told_in_the_end_and_alone(desk: Desk) -> None:
    """Each death that was announced counts; after the second its entries come one by one, and only they."""
    published = desk.publish(6)
    seen = []
    for _ in range(5):
        source = desk.open(batch_size=3)
        seen.append([(entry.entry_id, entry.deliveries) for entry in source.read()])
        desk.kill(source)
    head = published[0]
    assert seen[0] == [(one, 1) for one in published[:3]]
    assert seen[1:] == [[(head, count)] for count in (2, 3, 4, 5)]
    source = desk.open(batch_size=3)
    pages = [[(entry.entry_id, entry.deliveries) for entry in page] for page in settle(source)]
    alone, together = published[1:3], published[3:]
    assert pages == [[(head, 6)], *([(one, 1)] for one in alone), [(one, 1) for one in together]]


def test_the_way_to_the_guilty_one_is_not_gone_again_after_each_death(desk: Desk) -> None:
    """What lies before it is settled one by one, once; then it alone is counted."""
    published = desk.publish(5)
    guilty = published[3]
    deaths = 0
    counts = []
    for _ in range(20):
        if not desk.topic.unsettled():
            break
        source = desk.open()
        for page in settle(source):
            if guilty in ids(page) and page[0].deliveries <= 5:
                counts.append((len(page), page[0].deliveries))
                desk.kill(source)
                deaths += 1
                break
    assert counts == [(5, 1), (1, 1), (1, 2), (1, 3), (1, 4), (1, 5)]
    assert deaths == 6
    assert desk.topic.unsettled() == set()


def test_a_suspect_of_one_partition_waits_for_no_other(desk: Desk) -> None:
    """It comes alone, whatever other partitions have; and all of them have their turn."""
    suspects, others = desk.publish(2, 0), desk.publish(2, 1)
    first = desk.open(batch_size=2)
    first.read()
    desk.kill(first)
    desk.topic.partitions[0].committed = Position(0, "1 2")
    desk.topic.partitions[1].committed = Position(0)
    second = desk.open()
    pages = [ids(page) for page in settle(second)]
    assert sorted(pages) == sorted([suspects[:1], suspects[1:], others])


@pytest.mark.parametrize("how", ["closed", "revoked"])
def test_what_is_given_back_in_order_counts_as_no_death(desk: Desk, how: str) -> None:
    """A restart, a new replica and a rebalance while the store is away make nobody suspect."""
    published = desk.publish(3)
    for _ in range(10):
        source = desk.open()
        page = source.read()
        assert [(entry.entry_id, entry.deliveries) for entry in page] == [(one, 1) for one in published]
        if how == "revoked":
            desk.topic.give(0, desk.topic.join(shared=False))
            source.still_working()
            desk.topic.members[-1].close()
        source.close()


def test_a_text_that_is_not_ours_counts_nothing(desk: Desk) -> None:
    """Somebody has set the position by hand, and may have written what he liked."""
    published = desk.publish(2)
    for text in ("", "by ops", "-1 5", "1 2 3", "1", "²  5"):
        desk.topic.partitions[0].committed = Position(0, text)
        with closing(desk.open()) as source:
            assert [(one.entry_id, one.deliveries) for one in source.read()] == [
                (entry_id, 1) for entry_id in published
            ]


def test_nothing_is_given_that_was_not_announced(desk: Desk) -> None:
    """Where the announcement fails, the entries come once it has not."""
    published = desk.publish(2)
    source = desk.open()
    for failure in ("commit", "answer"):
        source.member.failures = [failure]
        with pytest.raises(SourceUnavailable):
            source.read()
    assert [(entry.entry_id, entry.deliveries) for entry in source.read()] == [(one, 1) for one in published]


def test_a_settled_batch_costs_one_commit(desk: Desk) -> None:
    """The announcement is made once for each partition that is new to us, and not for each batch."""
    desk.publish(50)
    commits: list[Position] = []
    desk.topic.on_commit = lambda _, number, position: None if number else commits.append(position)
    source = desk.open()
    assert sum(len(page) for page in settle(source)) == 50
    assert commits == [Position(0, "1 10"), *(Position(offset) for offset in range(10, 51, 10))]
    source.close()


def test_a_lane_goes_over_what_is_settled_and_no_farther() -> None:
    """Whatever offsets there are."""
    lane = Lane(3, in_hand={3: True, 7: True, 8: False, 20: True})
    lane.advance()
    assert (lane.position, list(lane.in_hand)) == (8, [8, 20])
