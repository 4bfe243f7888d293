"""Proofs of several groups of a stream and several pipelines in a database, and users who may only read."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest
from integration.ops import test_proofs
from integration.ops.test_proofs import KEYS, World
from postgres import rows_of
from psycopg import sql
from servers import LocalServer

from services.brokers.redis.keys import StreamKeys, chunk_key
from services.brokers.redis.producing import publisher as publishing
from services.contract.consuming.proofs import Proven
from services.ops.audit.proving import prove
from services.ops.audit.result import Audit
from services.runtime.settings import ConsumerSettings
from services.stores.choice import store_of
from services.stores.copying import PROOFS, PROVEN

server = test_proofs.server
settings = test_proofs.settings
world = test_proofs.world

_TABLES = tuple(f"telemetry.{table.name}" for table in (PROOFS, *PROVEN))


def of_group(world: World, name: str) -> ConsumerSettings:
    """Give the same pipeline as another group sees it."""
    return replace(world.settings, group_name=name)


def proven(settings: ConsumerSettings) -> Proven:
    """Read what is proven for a group."""
    return store_of(settings).open_proofs().read(folded_too=True)


def settle(world: World, group: str, *entries: bytes) -> None:
    """Have another group read all, and acknowledge some of it: its rows are there already."""
    world.client.xreadgroup(group, "c", {KEYS.stream: ">"})
    for entry_id in entries:
        world.client.xack(KEYS.stream, group, entry_id)


def test_each_group_of_a_stream_has_a_proof_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is a row for both; what one has proven is read again for the other, which is behind."""
    monkeypatch.setattr(publishing, "CHUNK_IDS", 10)
    other = of_group(world, "others")
    world.client.xgroup_create(KEYS.stream, "others", "0")
    bench = world.producer()
    made = world.publish(bench, *["numbered"] * 5, *["foreign"] * 25)
    world.deliver()
    settle(world, "others", *(one.entry_id for one in made[:3]))
    world.store(*made[:20])
    world.later(300)
    ours = prove(world.settings, now=world.clock.now)
    theirs = prove(other, now=world.clock.now)
    assert (ours.total.stored, ours.total.pending, ours.total.missing) == (20, 10, 0)
    assert theirs.total.missing == 0
    assert theirs.total.stored + theirs.total.pending == 30
    assert ours.is_kept
    assert theirs.is_kept
    assert [proven(one).runs[bench.run.name].proven for one in (world.settings, other)] == [5, 5]
    assert proven(other).generation == proven(world.settings).generation == 1
    # One more proof of ours is none of theirs.
    world.store(*made[20:])
    world.later(300)
    assert prove(world.settings, now=world.clock.now).total.stored == 30
    assert proven(world.settings).generation == 2
    assert proven(other).generation == 1
    settle(world, "others", *(one.entry_id for one in made))
    for audited in (world.settings, other):
        for full in (False, True):
            result = prove(audited, now=world.clock.now, full=full)
            assert (result.total.published, result.total.stored, result.total.missing) == (30, 30, 0)


def test_ids_are_kept_until_every_group_has_proven_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group that was never audited needs them all; then they go, whoever is audited last."""
    monkeypatch.setattr(publishing, "CHUNK_IDS", 10)
    other = of_group(world, "others")
    world.client.xgroup_create(KEYS.stream, "others", "0")
    bench = world.producer()
    first = chunk_key(KEYS.run_ids(bench.run.name), 1)
    for _ in range(5):
        made = world.publish(bench, *["foreign"] * 7)
        world.store(*made)
        settle(world, "others", *(one.entry_id for one in made))
    world.later(300)
    result = prove(world.settings, now=world.clock.now)
    assert result.is_kept
    assert world.client.exists(first)
    assert prove(other, now=world.clock.now).total.stored == 35
    assert not world.client.exists(first)
    assert prove(world.settings, now=world.clock.now, full=True).total.missing == 0


@pytest.fixture
def second(world: World, own_server: Callable[..., LocalServer]) -> Iterator[World]:
    """Give a pipeline with a broker of its own, and its rows in the same database."""
    if not world.settings.database_url:
        pytest.skip("a file is of one pipeline")
    broker = own_server()
    where = replace(
        world.settings,
        redis_host=broker.host,
        redis_port=broker.port,
        pipeline_name="second",
        data_dir=world.settings.data_dir / "second",
    )
    where.data_dir.mkdir()
    with closing(broker.client()) as client, closing(World(where, client)) as one:
        one.numbers = 1000  # other events than the first one's
        yield one


def audit(world: World, *, full: bool = False) -> Audit:
    """Audit one of several pipelines, and see that its numbers are its own."""
    result = prove(world.settings, now=world.clock.now, full=full)
    assert test_proofs.numbers_of(result.total) == world.tally()
    assert result.total.published == len(world.events)
    assert result.is_kept, result.notes
    assert result.problems == []
    return result


def test_two_pipelines_in_one_database_prove_each_its_own(world: World, second: World) -> None:
    """In turn, with dead, purged and lost events; rows of the other are told, and never counted as ours."""
    runs = {}
    for one in (world, second):
        bench = one.producer()
        runs[one.settings.pipeline_name] = bench.run.name
        made = one.publish(bench, *["numbered"] * 6, *["foreign"] * 4)
        one.store(*made[:3], *made[6:8])
        one.bury(made[3], made[8])
        one.purge(made[3])
        one.later(300)
    assert len(set(runs.values())) == 2
    for _ in range(3):
        for one, other in ((world, second), (second, world)):
            stored = sum(made.place == "stored" for made in other.events)
            for full in (False, True):
                result = audit(one, full=full)
                proven = sum(result.known.others.values())
                assert (result.unknown_rows, result.others_rows) == (stored - proven, proven)
                assert [run.run for run in result.runs] == [runs[one.settings.pipeline_name]]
        for one in (world, second):
            one.store(*one.publish(one.benches[0], "numbered", "foreign"))
            one.later(300)
    for one in (world, second):
        one.store(*[made for made in one.events if made.place == "undelivered"])
    for one in (world, second, world, second):
        one.later(7200)
        result = audit(one)
    stored = sum(made.place == "stored" for made in world.events)
    assert (result.unknown_rows, result.others_rows) == (0, stored), (
        "the other one has proven all of its rows"
    )
    assert [note for note in result.notes if f"telemetry ({stored})" in note]
    made = second.publish(second.benches[0], "numbered")
    second.lose(*made)
    second.later(300)
    audit(world)
    (run,) = audit(second).runs
    assert len(run.missing) == 1
    scopes = rows_of(world.settings.database_url, "SELECT pipeline, run FROM telemetry.proven_runs")
    assert sorted(scopes) == sorted(runs.items())


@pytest.fixture
def reader(world: World) -> Iterator[ConsumerSettings]:
    """Give the settings of a user who may read all of the tables, and write none."""
    url = world.settings.database_url
    if not url:
        pytest.skip("a file's rights are the folder's")
    role = sql.Identifier(name := f"reader_{os.getpid()}_{os.urandom(3).hex()}")
    grants = (
        "CREATE ROLE {} LOGIN PASSWORD 'of-a-test'",
        "GRANT USAGE ON SCHEMA telemetry TO {}",
        "GRANT SELECT ON ALL TABLES IN SCHEMA telemetry TO {}",
    )
    parts = psycopg.conninfo.conninfo_to_dict(url)
    with psycopg.connect(url, autocommit=True) as connection:
        for grant in grants:
            connection.execute(sql.SQL(grant).format(role))
        yield replace(
            world.settings,
            database_url=f"postgresql://{name}:of-a-test@{parts['host']}:{parts['port']}/{parts['dbname']}",
        )
        connection.execute(sql.SQL("DROP OWNED BY {0}").format(role))
        connection.execute(sql.SQL("DROP ROLE {0}").format(role))


def kept(url: str) -> list[list[tuple[object, ...]]]:
    """Read all that is proven by anybody."""
    return [rows_of(url, f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in _TABLES]  # noqa: S608


def test_an_audit_that_may_only_read_leaves_no_proof_and_says_so(
    world: World, reader: ConsumerSettings
) -> None:
    """It comes to the same, with a proof of before and without one, and the broker keeps what it has."""
    bench = world.producer()
    keys = StreamKeys().run_ids(bench.run.name)
    for is_first in (True, False):
        made = world.publish(bench, *["numbered"] * 5, *["foreign"] * 3)
        world.store(*made[:4], *made[5:])
        world.bury(made[4])
        world.later(300)
        before, ids = kept(world.settings.database_url), sorted(world.client.scan_iter(f"{keys}*"))
        for full in (False, True):
            result = prove(reader, now=world.clock.now, full=full)
            assert test_proofs.numbers_of(result.total) == world.tally()
            assert result.problems == []
            assert not result.is_kept
            (note,) = result.notes
            assert note.startswith("what is proven is not kept: ")
            assert "permission denied" in note
            assert result.known.generation == (0 if is_first else before[0][0][3])
        assert kept(world.settings.database_url) == before
        assert sorted(world.client.scan_iter(f"{keys}*")) == ids
        world.audit()
        assert kept(world.settings.database_url) != before
