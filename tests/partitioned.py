"""A topic with partitions and the group that reads it, as Kafka has them; and a source over them.

What the group does; all of it was seen at a real broker:

- What is acknowledged is a position: all before it is done, of one partition. A text may lie beside it.
- A commit is taken from whoever is in the group: one that goes back, too, and of another's partitions.
- Partitions are taken away at any time. The member hears of it in its own next poll, and may commit there
  (revoked); then they are another's, who begins at the committed position and gets again what was in work.
- A member that does not poll for `max_silence_s` loses all. Others have it at once; it hears so in its
  next poll (lost), and its commits until then are refused.
- What retention has removed can't be read. The client says so, where it was told not to go on by itself.
- Offsets have gaps: the marks of transactions, and what was aborted.
- Nobody counts deliveries.
"""

import contextlib
import logging
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from services.contract.consuming.doors import Entry, Source
from services.contract.consuming.large import cut
from services.contract.errors import SourceUnavailable
from services.contract.event import DEFAULT_ENTRY_BYTES
from services.runtime.telemetry.metrics import Metrics

_TAKEN_AT_MS: Final = 1_700_000_000_000


class Unreachable(Exception):
    """The broker did not answer."""


class AssignmentLost(Exception):
    """We were silent for too long, and nothing is ours any more."""


class PositionGone(Exception):
    """What was to be read next is not there: removed, or the partition ends before it."""

    def __init__(self, partition: int) -> None:
        super().__init__(partition)
        self.partition = partition


class Position(NamedTuple):
    """What is committed of a partition."""

    offset: int
    """All before it is done."""
    text: str = ""


class Record(NamedTuple):
    """One record as a poll gives it."""

    partition: int
    offset: int
    fields: list[bytes]

    @property
    def entry_id(self) -> bytes:
        """Give the id of its entry."""
        return b"%d-%d.%d" % (_TAKEN_AT_MS + self.offset, self.partition, self.offset)


@dataclass
class Partition:
    """One partition, and who has it."""

    records: list[Record] = field(default_factory=list)
    low: int = 0
    """All before it was removed."""
    end: int = 0
    committed: Position | None = None
    owner: "Member | None" = None
    goes_to: "Member | None" = None


class FakeTopic:
    """The topic and its group: what outlives the members."""

    def __init__(
        self, partitions: int = 1, monotonic: Callable[[], float] = lambda: 0.0, max_silence_s: float = 300.0
    ) -> None:
        self.partitions = [Partition() for _ in range(partitions)]
        self.members: list[Member] = []
        self.on_commit: Callable[[Member, int, Position], None] = lambda *_: None
        """Asked about each commit before it counts."""
        self.expelled: list[Member] = []
        """Those who were silent for too long, or were told to go."""
        self.monotonic = monotonic
        self._max_silence_s = max_silence_s

    def publish(self, fields: Sequence[bytes], partition: int = 0) -> bytes:
        """Append a record, and give the id that its entry will have."""
        one = self.partitions[partition]
        record = Record(partition, one.end, list(fields))
        one.records.append(record)
        one.end += 1
        return record.entry_id

    def skip(self, partition: int, offsets: int = 1) -> None:
        """Use up offsets that hold no record for a reader, as a transaction does."""
        self.partitions[partition].end += offsets

    def remove(self, partition: int, below: int) -> None:
        """Remove records below an offset, read or not."""
        one = self.partitions[partition]
        one.low = max(one.low, min(below, one.end))
        one.records = [record for record in one.records if record.offset >= one.low]

    def join(self, *, shared: bool = True) -> "Member":
        """Let a member join. `shared`: the partitions are shared out anew."""
        one = Member(self)
        self.members.append(one)
        if shared:
            self.share()
        return one

    def leave(self, member: "Member") -> None:
        """Let a member go that says so; what was its own is shared out."""
        if member in self.members:
            self.members.remove(member)
            self._take_all(member)

    def expel(self, member: "Member") -> None:
        """Take everything from a member that is not heard any more; it learns of it when it polls again."""
        if member in self.members:
            self.expelled.append(member)
            member.is_expelled = True
            self.leave(member)

    def expel_silent(self) -> None:
        """Expel whoever has not polled for too long."""
        latest = self.monotonic() - self._max_silence_s
        for member in [one for one in self.members if one.polled_at < latest]:
            self.expel(member)

    def share(self) -> None:
        """Share out the partitions among the members, evenly."""
        for number, one in enumerate(self.partitions):
            one.goes_to = self.members[number % len(self.members)] if self.members else None

    def give(self, partition: int, member: "Member") -> None:
        """Decide that a partition is to go to a member, as soon as its owner hears of it."""
        self.partitions[partition].goes_to = member

    def settled(self) -> set[bytes]:
        """Name the records that lie before their partition's committed position."""
        return {
            record.entry_id
            for one in self.partitions
            for record in one.records
            if one.committed is not None and record.offset < one.committed.offset
        }

    def unsettled(self) -> set[bytes]:
        """Name the records that do not."""
        return {record.entry_id for one in self.partitions for record in one.records} - self.settled()

    def _take_all(self, member: "Member") -> None:
        for one in self.partitions:
            if one.owner is member:
                one.owner = None
        self.share()


class Member:
    """One member of the group, as its client library shows it.

    The callbacks are called within `poll`. `failures`: the next steps that fail: poll, commit, or answer (the
    commit counts, and its answer is lost).
    """

    def __init__(self, topic: FakeTopic) -> None:
        self.failures: list[str] = []
        self.on_assigned: Callable[[Collection[int]], None] = lambda _: None
        self.on_revoked: Callable[[Collection[int]], None] = lambda _: None
        self.on_lost: Callable[[Collection[int]], None] = lambda _: None
        self.is_expelled = False
        self.polled_at = topic.monotonic()
        self._topic = topic
        self._next: dict[int, int] = {}
        """Of each partition that we know to be ours, what is read next."""
        self._paused: set[int] = set()
        self._turn = 0

    def poll(self, most: int) -> list[Record]:
        """Hear what became of our partitions, and give the next records of those that are not paused.

        Raises Unreachable and PositionGone.
        """
        self._fail_if_told("poll")
        self._topic.expel_silent()
        self.polled_at = self._topic.monotonic()
        self._hear()
        found: list[Record] = []
        numbers = sorted(self._next.keys() - self._paused)
        for number in numbers:
            one = self._topic.partitions[number]
            if not one.low <= self._next[number] <= one.end:
                raise PositionGone(number)
        self._turn += 1
        for place in range(len(numbers)):
            found += self._records_of(numbers[(self._turn + place) % len(numbers)], most - len(found))
        return found

    def committed(self, partition: int) -> Position | None:
        """Give what is committed of a partition; None: nothing ever was."""
        self._fail_if_told("poll")
        return self._topic.partitions[partition].committed

    def first(self, partition: int) -> int:
        """Give the first offset that is still there."""
        self._fail_if_told("poll")
        return self._topic.partitions[partition].low

    def commit(self, positions: Mapping[int, Position]) -> None:
        """Commit, and wait for the answer. Raises Unreachable and AssignmentLost."""
        self._topic.expel_silent()
        if self.is_expelled:
            raise AssignmentLost
        self._fail_if_told("commit")
        for partition, position in positions.items():
            self._topic.on_commit(self, partition, position)
            self._topic.partitions[partition].committed = position
        self._fail_if_told("answer")

    def seek(self, partition: int, offset: int) -> None:
        """Read on from there."""
        self._next[partition] = offset

    def pause(self, partitions: Iterable[int]) -> None:
        """Give no records of these until they are resumed."""
        self._paused |= set(partitions)

    def resume(self, partitions: Iterable[int]) -> None:
        """Give their records again."""
        self._paused -= set(partitions)

    def close(self) -> None:
        """Leave the group."""
        self._topic.leave(self)

    def _hear(self) -> None:
        if self.is_expelled:
            self.is_expelled = False
            self._forget(self._next.keys(), self.on_lost)
            self._topic.members.append(self)
            self._topic.share()
        owned = [(number, one) for number, one in enumerate(self._topic.partitions) if one.owner is self]
        if revoked := {number: one for number, one in owned if one.goes_to is not self}:
            self._forget(revoked, self.on_revoked)
            for one in revoked.values():
                one.owner = None
        free = [
            number
            for number, one in enumerate(self._topic.partitions)
            if one.owner is None and one.goes_to is self
        ]
        for number in free:
            self._topic.partitions[number].owner = self
            self._next[number] = 0
        if free:
            self.on_assigned(free)

    def _forget(self, partitions: Iterable[int], tell: Callable[[Collection[int]], None]) -> None:
        gone = list(partitions)
        tell(gone)
        for number in gone:
            del self._next[number]
        self._paused -= set(gone)

    def _records_of(self, partition: int, most: int) -> list[Record]:
        records = self._topic.partitions[partition].records
        begin = bisect_left(records, self._next[partition], key=lambda record: record.offset)
        found = records[begin : begin + most]
        if found:
            self._next[partition] = found[-1].offset + 1
        return found

    def _fail_if_told(self, step: str) -> None:
        if self.failures and self.failures[0] == step:
            self.failures.pop(0)
            raise Unreachable(f"told to fail at {step}")


@dataclass
class Lane:
    """What is ours of one partition."""

    position: int
    """All before it is settled."""
    tries: int = 0
    """How often what lies at the position was given, by those who then were heard of no more."""
    suspect_until: int = 0
    """What lies before it was in hand when somebody was heard of no more: it is given alone."""
    said: int = -1
    """The position that the broker has; -1: none, or another one."""
    is_marked: bool = False
    """Whether the broker knows that we work on what lies at the position, or need not."""
    in_hand: dict[int, bool] = field(default_factory=dict)
    """The offsets that were given, in order, and whether they are settled."""

    def advance(self) -> None:
        """Move the position past what is settled without a gap."""
        while self.in_hand and self.in_hand[first := next(iter(self.in_hand))]:
            del self.in_hand[first]
            self.position, self.tries = first + 1, 0
            self.is_marked = self.position >= self.suspect_until

    def unmarked(self) -> Position:
        """Give what to commit where nothing of ours is at risk."""
        if not self.tries and self.position >= self.suspect_until:
            return Position(self.position)
        return Position(self.position, f"{self.tries} {self.suspect_until}")

    def marked(self, end: int) -> Position:
        """Give what to commit before entries up to `end` are worked on."""
        return Position(self.position, f"{self.tries + 1} {max(end, self.suspect_until)}")


class PartitionedSource:
    """One consumer of a FakeTopic, and the model for one of a real topic.

    The position is the broker's, and so is the count of what nobody came back from: it lies in the text
    beside the position. It is written before the first entries of a partition are given, and before each
    that is suspect; a position that moves on, and a partition that is given back in order, end it.
    """

    def __init__(
        self,
        member: Member,
        metrics: Metrics,
        logger: logging.Logger,
        batch_size: int = 10,
        max_entry_bytes: int = DEFAULT_ENTRY_BYTES,
    ) -> None:
        self.member = member
        self.on_empty: Callable[[], None] = lambda: None
        self._metrics = metrics
        self._logger = logger
        self._batch_size = batch_size
        self._max_entry_bytes = max_entry_bytes
        self._lanes: dict[int, Lane] = {}
        self._unopened: set[int] = set()
        """Ours, and their position is not known yet."""
        self._has_failed = False
        member.on_assigned = self._assigned
        member.on_revoked = self._revoked
        member.on_lost = self._lost

    def read(self) -> list[Entry]:
        """Give the next entries, at most a batch: of one partition in order, of several in turn."""
        try:
            self._settle()
            self._rewind()
            entries = self._take()
        except (Unreachable, AssignmentLost) as error:
            raise self._failed(error) from error
        if not entries:
            self.on_empty()
        return entries

    def drain(self) -> list[Entry]:
        """Give nothing: what the client has fetched ahead is nobody's yet, and no position covers it."""
        return []

    def ack(self, entries: Sequence[Entry]) -> None:
        """Commit the positions up to which all is settled, of what is still ours."""
        for entry in entries:
            partition, offset = map(int, entry.entry_id.partition(b"-")[2].split(b"."))
            lane = self._lanes.get(partition)
            if lane is not None and offset in lane.in_hand:
                lane.in_hand[offset] = True
        for lane in self._lanes.values():
            lane.advance()
        try:
            self._settle()
        except Unreachable as error:
            raise self._failed(error) from error

    def still_working(self) -> None:
        """Poll, with everything paused: whoever does not is taken for dead."""
        self.member.pause([*self._lanes, *self._unopened])
        with contextlib.suppress(Unreachable):
            found = self.member.poll(1)
            assert found == [], "a paused partition gave a record, which nobody would see"

    def limit(self, most: int) -> None:
        """Hear nothing: a client fetches by bytes."""

    def expect_large(self) -> None:
        """Nothing to do: the client holds no more than it was told to."""

    def now(self) -> float | None:
        """Tell nothing: such a broker has no time of its own to ask for."""
        return None

    def close(self) -> None:
        """Say that nothing of ours is at risk, and leave the group."""
        with contextlib.suppress(Unreachable, AssignmentLost):
            self._give_back(self._lanes)
        self.member.close()

    def _take(self) -> list[Entry]:
        while True:
            self._open()
            self.member.resume(self._lanes)
            try:
                found = self.member.poll(self._batch_size)
            except PositionGone as gone:
                self._go_on_behind(gone.partition)
                continue
            if found or not self._unopened:
                return self._give(found)

    def _open(self) -> None:
        """Learn the positions of what became ours. A group's first reader begins with what is there."""
        for partition in sorted(self._unopened):
            committed = self.member.committed(partition)
            if committed is None:
                lane = Lane(self.member.first(partition))
            else:
                lane = Lane(committed.offset, *_parse(committed.text), said=committed.offset)
            self._lanes[partition] = lane
            self._unopened.discard(partition)
            self.member.seek(partition, lane.position)

    def _give(self, found: Sequence[Record]) -> list[Entry]:
        """Give so many of these as are safe together, once the broker knows what is at risk."""
        given = self._safe_together(found)
        for record in reversed(found[len(given) :]):
            self.member.seek(record.partition, record.offset)
        heads = {}
        for record in reversed(given):
            if not self._lanes[record.partition].in_hand:
                heads[record.partition] = record
        ends = {record.partition: record.offset + 1 for record in given}
        marks = {
            partition: self._lanes[partition].marked(ends[partition])
            for partition in heads
            if not self._lanes[partition].is_marked
        }
        if marks:
            self.member.commit(marks)
        for partition, position in marks.items():
            self._lanes[partition].is_marked = True
            self._lanes[partition].said = position.offset
        return [self._entry(record, is_head=record is heads.get(record.partition)) for record in given]

    def _safe_together(self, found: Sequence[Record]) -> Sequence[Record]:
        for count, record in enumerate(found):
            if record.offset < self._lanes[record.partition].suspect_until:
                return found[: max(count, 1)]
        return found

    def _entry(self, record: Record, *, is_head: bool) -> Entry:
        lane = self._lanes[record.partition]
        lane.in_hand[record.offset] = False
        deliveries = lane.tries + 1 if is_head else 1
        return cut(Entry(record.entry_id, list(record.fields), deliveries), self._max_entry_bytes)

    def _settle(self) -> None:
        """Commit the positions that have moved."""
        due = {number: one.unmarked() for number, one in self._lanes.items() if one.said != one.position}
        if due:
            with contextlib.suppress(AssignmentLost):  # the next poll says what is lost
                self.member.commit(due)
            for number, position in due.items():
                self._lanes[number].said = position.offset

    def _give_back(self, partitions: Iterable[int]) -> None:
        due = {number: self._lanes[number].unmarked() for number in partitions if number in self._lanes}
        if due:
            self.member.commit(due)

    def _go_on_behind(self, partition: int) -> None:
        """Go on with what is there, and say what is not: it was never stored."""
        lane, first = self._lanes[partition], self.member.first(partition)
        lost = max(0, first - lane.position)
        self._metrics.count("telemetry_lost_entries_total", lost)
        self._logger.error(
            "pending_entries_trimmed", extra={"entries": lost, "first": f"{partition}.{lane.position}"}
        )
        self._lanes[partition] = Lane(first)
        self.member.seek(partition, first)
        self._settle()

    def _assigned(self, partitions: Collection[int]) -> None:
        self._unopened |= set(partitions)
        self.member.pause(partitions)

    def _revoked(self, partitions: Collection[int]) -> None:
        with contextlib.suppress(Unreachable, AssignmentLost):  # then it comes again to whoever gets them
            self._give_back(partitions)
        self._lost(partitions)

    def _lost(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            self._lanes.pop(partition, None)
        self._unopened -= set(partitions)

    def _failed(self, error: Exception) -> SourceUnavailable:
        self._has_failed = True
        return SourceUnavailable(str(error) or type(error).__name__, "told")

    def _rewind(self) -> None:
        """Read again from the positions, after an error: nobody knows what was given."""
        if self._has_failed:
            for partition, lane in self._lanes.items():
                lane.in_hand.clear()
                self.member.seek(partition, lane.position)
        self._has_failed = False


def _parse(text: str) -> tuple[int, int]:
    """Read how often, and up to where. A text that is not ours says nothing."""
    words = text.split(" ")
    if len(words) == 2 and all(word.isdecimal() for word in words):
        return int(words[0]), int(words[1])
    return 0, 0


def keep_its_promises(topic: FakeTopic) -> Source:
    """Let mypy check the source against its protocol."""
    return PartitionedSource(topic.join(), Metrics("consumer"), logging.getLogger("test"))
