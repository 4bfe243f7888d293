"""The law over a broker of partitions: two consumers, one store, and whatever happens to either of them.

The two share the rows and the letters. One's turn runs inside the other's write, wait or letter, so that each
is in the middle of a batch when the other reads; and there, too, partitions move, members are taken for dead,
processes are killed and asked to stop.
"""

import functools
import logging
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from fakes import FakeClock, FakeDeadLetters, FakeSink, NoUpkeep
from hypothesis import example, given
from hypothesis import strategies as st
from law import CONTENTS, MAX_ENTRY_BYTES, check_metrics, is_poison, outages, publish
from partitioned import FakeTopic, Member, PartitionedSource, Position
from samples import KPIS, event_fields, id_of

from services.consumer.batch import Outcome, Rules, run_batch
from services.consumer.breaker import Breaker
from services.consumer.persist import Persist
from services.consumer.telemetry.report import Reporter
from services.consumer.worker import Worker
from services.contract.consuming.doors import Dead, Entry
from services.contract.event import Event
from services.runtime.health import Health
from services.runtime.telemetry.metrics import Metrics

LOGGER = logging.getLogger("test.partitioned_law")
SLOW_S = 20.0
MAX_SILENCE_S = 300.0
DEADLY = "deadly"


class Killed(BaseException):
    """The process ends here, and runs nothing any more that is of the product."""


@dataclass(frozen=True)
class Plan:
    """What is published, and what happens when."""

    entries: list[tuple[str, int]]
    partitions: int = 1
    batch_size: int = 10
    outages: tuple[list[bool], list[bool]] = ([], [])
    """Of each node's way to the store."""
    letters_fail: tuple[list[bool], list[bool]] = ([], [])
    source_failures: list[list[str]] = field(default_factory=list)
    """Of each process, in the order of their starts."""
    events: list[str] = field(default_factory=list)
    """What happens next, wherever something may."""


class NodeClock(FakeClock):
    """A node's clock: time is everybody's, and to stop is its own."""

    def __init__(self, time: FakeClock) -> None:
        super().__init__()
        self._time = time

    def now(self) -> float:
        return self._time.now()

    def monotonic(self) -> float:
        return self._time.elapsed

    def sleep(self, seconds: float) -> None:
        self._time.elapsed += seconds
        self.on_sleep()


class WatchedLetters(FakeDeadLetters):
    """Letters where something may happen before they are durable, and after."""

    def __init__(self, now: Callable[[], float], on_put: Callable[[], None], beside: FakeDeadLetters) -> None:
        super().__init__(now, beside=beside)
        self._on_put = on_put

    def put(self, dead: Sequence[Dead]) -> None:
        self._on_put()
        super().put(dead)
        self._on_put()


class Node:
    """One place for a consumer process. Its way to the store outlives the process."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number
        self.sink = FakeSink(beside=world.store)
        self.sink.refuses = is_poison
        self.sink.outages = list(world.plan.outages[number])
        self.sink.on_write = self._on_write
        self.sink.on_written = lambda _: world.happen(self)
        self.letters = WatchedLetters(world.time.now, lambda: world.happen(self), world.letters)
        self.letters.failures = list(world.plan.letters_fail[number])
        self.is_busy = False
        self.start()

    def start(self) -> None:
        """Start the process: a new member of the group."""
        plan, self.clock, self.metrics = self.world.plan, NodeClock(self.world.time), Metrics("consumer")
        self.clock.on_sleep = lambda: self.world.happen(self)
        health = Health(60.0, self.clock.monotonic)
        self.member = self.world.topic.join()
        self.member.failures = self.world.next_failures()
        self.source = PartitionedSource(self.member, self.metrics, LOGGER, plan.batch_size, MAX_ENTRY_BYTES)
        persist = Persist(
            self.sink, self.letters, 3, 0.5, self.clock, health, self.metrics, LOGGER,
            still_working=self.source.still_working,
        )  # fmt: skip
        settle = functools.partial(
            run_batch,
            source=self.source,
            rules=Rules(KPIS, 300.0, self.world.max_deliveries, max_entry_bytes=MAX_ENTRY_BYTES),
            persist=persist,
            breaker=Breaker(0.0),
            now=self.clock.now,
        )

        def remember(entries: Sequence[Entry]) -> Outcome:
            self.world.received.append((self.number, [entry.entry_id for entry in entries]))
            outcome = settle(entries)
            assert outcome.inserted + outcome.duplicates + len(outcome.dead) == len(entries)
            return outcome

        self.worker = Worker(
            self.source, remember, NoUpkeep(), Reporter(self.metrics, LOGGER, self.clock),
            self.clock, health, self.metrics, LOGGER,
        )  # fmt: skip

    def turn(self) -> None:
        """Let the process go through its loop once, whatever becomes of it; a new one follows the old."""
        self.is_busy = True
        try:
            self.worker.turn()
            if self.clock.is_stopping():
                self.worker.run()  # what is left at the end of the loop
                self.source.close()
                self.start()
        except Killed:
            self.world.deaths += 1
            self.world.dead_members.append(self.member)
            check_metrics(self.metrics)
            self.start()
        finally:
            self.is_busy = False
        check_metrics(self.metrics)

    def _on_write(self, rows: Sequence[Event]) -> None:
        if any(row.device_id == DEADLY for row in rows):
            raise Killed
        self.world.happen(self)


class World:
    """A topic, a store and letters that outlive two nodes, watched for the law."""

    def __init__(self, plan: Plan, max_deliveries: int = 1000) -> None:
        self.plan = plan
        self.max_deliveries = max_deliveries
        self.time = FakeClock()
        self.topic = FakeTopic(plan.partitions, self.time.monotonic, MAX_SILENCE_S)
        self.topic.on_commit = self.check_commit
        self.contents: dict[bytes, list[bytes]] = {}
        self.guilty = publish(self._publish, plan.entries)
        self.store = FakeSink()
        self.letters = FakeDeadLetters()
        self.received: list[tuple[int, list[bytes]]] = []
        """What each node was given, batch by batch."""
        self.deaths = 0
        self.dead_members: list[Member] = []
        """Of processes that were killed, which the broker does not know of yet."""
        self.doomed: list[Member] = []
        """All that were taken for dead because the plan, or a kill, said so."""
        self._events = iter(plan.events)
        self._failures = iter(plan.source_failures)
        self.nodes = [Node(self, 0), Node(self, 1)]

    def next_failures(self) -> list[str]:
        """Give the failures of the process that starts now."""
        return list(next(self._failures, []))

    def step(self) -> None:
        """Between two turns: the broker finds out who is dead, something happens, and both have a turn."""
        for member in self.dead_members:
            self.doom(member)
        self.dead_members.clear()
        for node in self.nodes:
            self.happen(node, may_kill=False)
            node.turn()

    def happen(self, node: Node, *, may_kill: bool = True) -> None:
        """Let the next thing of the plan happen, to this node or to the other one. Raises Killed."""
        for one in self.nodes:
            check_metrics(one.metrics)
        other = self.nodes[1 - node.number]
        what, _, number = next(self._events, "").partition(" ")
        if what == "turn" and not other.is_busy:
            other.turn()
        elif what == "slow" and not other.is_busy:
            self.time.elapsed += SLOW_S
        elif what == "move":
            self._move(int(number) % self.plan.partitions)
        elif what == "silent":
            self.doom((node, other)[int(number) % 2].member)
        elif what == "stop":
            (node, other)[int(number) % 2].clock.stop()
        elif what == "retain":
            self._retain(int(number) % self.plan.partitions)
        elif what == "kill" and may_kill:
            raise Killed

    def doom(self, member: Member) -> None:
        """Have the broker take a member for dead."""
        self.doomed.append(member)
        self.topic.expel(member)

    def check_commit(self, member: Member, number: int, position: Position) -> None:
        """Refuse a commit of what is another's, or not durable, or farther back."""
        partition = self.topic.partitions[number]
        assert partition.owner is member, f"partition {number} is committed, and is not its committer's"
        assert partition.committed is None or position.offset >= partition.committed.offset
        buried = {letter.entry_id.encode() for letter in self.letters.read()}
        for entry_id, fields in self.contents.items():
            of, offset = map(int, entry_id.split(b"-")[1].split(b"."))
            if of == number and offset < position.offset:
                assert entry_id in buried or self._is_stored(fields), (
                    f"{entry_id!r} is committed and not durable"
                )

    def check_end(self) -> None:
        """Check that all is stored, once, or dead for its reason, and that all is committed."""
        assert self.topic.unsettled() == set()
        assert {letter.entry_id.encode(): letter.reason for letter in self.letters.read()} == self.guilty
        innocent = {number for kind, number in self.plan.entries if kind in {"event", *CONTENTS}}
        assert set(self.store.rows) == {id_of(number) for number in innocent}
        assert len(self.store.inserts) == len(set(self.store.inserts))
        assert {one for _, page in self.received for one in page} == set(self.contents)
        assert set(self.topic.expelled) <= set(self.doomed), "a member that lives was taken for dead"
        for node in self.nodes:
            check_metrics(node.metrics)
            assert node.metrics.value("telemetry_lost_entries_total") == 0

    def run_to_the_end(self, most: int = 300) -> None:
        """Take turns until all is settled, and everything has happened that was to happen."""
        for _ in range(most):
            if not self.topic.unsettled():
                return
            self.step()
        raise AssertionError(f"not settled: {sorted(self.topic.unsettled())}")

    def _publish(self, fields: list[bytes]) -> bytes:
        # By its key, as a producer does; and with an offset now and then that holds nothing.
        texts = dict(zip(fields[::2], fields[1::2], strict=True))
        partition = zlib.crc32(texts.get(b"device_id", b"")) % self.plan.partitions
        entry_id = self.topic.publish(fields, partition)
        self.contents[entry_id] = fields
        if len(self.contents) % 3 == 0:
            self.topic.skip(partition)
        return entry_id

    def _is_stored(self, fields: list[bytes]) -> bool:
        texts = dict(zip(fields[::2], fields[1::2], strict=True))
        row = self.store.rows.get(texts[b"event_id"].decode())
        return row is not None and repr(row.value).encode() == texts.get(b"value")

    def _move(self, partition: int) -> None:
        here = self.topic.partitions[partition].goes_to
        self.topic.give(partition, next(node.member for node in self.nodes if node.member is not here))

    def _retain(self, partition: int) -> None:
        committed = self.topic.partitions[partition].committed
        self.topic.remove(partition, 0 if committed is None else committed.offset)


numbers = st.integers(0, 3).map(str)
plans = st.builds(
    Plan,
    entries=st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "event",
                    "event",
                    "event",
                    "other",
                    "attributed",
                    "poison",
                    "missing_field",
                    "value_negative",
                ]
            ),
            st.integers(1, 12),
        ),
        min_size=1,
        max_size=30,
    ),
    partitions=st.integers(1, 3),
    batch_size=st.integers(1, 12),
    outages=st.tuples(outages, outages),
    letters_fail=st.tuples(st.lists(st.booleans(), max_size=4), st.lists(st.booleans(), max_size=4)),
    source_failures=st.lists(st.lists(st.sampled_from(["poll", "commit", "answer"]), max_size=3), max_size=5),
    events=st.lists(
        st.one_of(
            st.sampled_from(["", "turn", "turn", "turn", "slow", "kill"]),
            st.builds("{} {}".format, st.sampled_from(["move", "move", "silent", "stop", "retain"]), numbers),
        ),
        max_size=40,
    ),
)


@given(plans)
@example(
    # Taken away in the middle of a wait, while the other one reads: both have it in hand.
    Plan(
        [("event", number) for number in range(1, 9)],
        outages=([True] * 6, []),
        events=["", "", "move 0", "turn", "turn", "move 0", "turn"],
    )
)
def test_the_law_holds_whatever_becomes_of_partitions_and_members(plan: Plan) -> None:
    """In the end all is stored or dead-lettered, once, with its reason, and all positions are at the end."""
    world = World(plan)
    world.run_to_the_end()
    world.check_end()


@given(
    st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=8),
    st.integers(1, 3),
    st.integers(1, 12),
    st.lists(
        st.one_of(st.just(""), st.just("turn"), st.builds("{} {}".format, st.just("move"), numbers)),
        max_size=30,
    ),
)
def test_what_kills_its_consumers_ends_as_a_letter_and_takes_nobody_with_it(
    published: list[tuple[int, bool]], partitions: int, batch_size: int, events: list[str]
) -> None:
    """However many there are, wherever they lie, whoever has the partition: each after some deaths, alone."""
    world = World(Plan([], partitions, batch_size, events=events), max_deliveries=5)
    deadly = set()
    for place, (number, kills) in enumerate(published):
        fields = event_fields(100 * place + number, **({"device_id": DEADLY} if kills else {}))
        partition = number % partitions
        entry_id = world.topic.publish(fields, partition)
        world.contents[entry_id] = fields
        if kills:
            deadly.add(entry_id)
    world.run_to_the_end()
    reasons = {letter.entry_id.encode(): letter.reason for letter in world.letters.read()}
    assert reasons == dict.fromkeys(deadly, "deliveries_exhausted")
    assert len(world.store.rows) == len(published) - len(deadly)
    given_to = Counter(entry_id for _, page in world.received for entry_id in page)
    assert all(given_to[entry_id] > 5 for entry_id in deadly), "given up before its time"
    assert world.deaths <= 7 * len(deadly)


@pytest.mark.parametrize("part", ["store", "letters"])
def test_whoever_waits_for_an_hour_keeps_its_partitions_and_the_other_one_goes_on(part: str) -> None:
    """Each node's way to what they share fails for itself; what is in hand is given to nobody else."""
    world = World(Plan([], partitions=2))
    first, second = world.nodes
    world.step()  # each hears what is its own
    for number in range(1, 9):
        fields = event_fields(number, **({} if number % 4 else {"value": "-1"}))
        world.contents[world.topic.publish(fields, number % 2)] = fields
    first.sink.down = part == "store"
    first.letters.failures = [True] * 10_000 if part == "letters" else []
    left: set[int] = set()

    def wait() -> None:
        second.turn()
        left.add(len(world.topic.unsettled()))
        if world.time.elapsed > 3600.0:
            first.sink.down = False
            first.letters.failures = []

    first.clock.on_sleep = wait
    for _ in range(3):
        world.step()
    assert world.time.elapsed > 3600.0
    assert left == {4}
    assert world.topic.unsettled() == set()
    assert world.topic.expelled == []
    assert sorted(number for number, _ in world.received) == [0, 1]
    assert sum(len(page) for _, page in world.received) == len(world.contents)
    assert (len(world.store.rows), len(world.letters.lines)) == (6, 2)
