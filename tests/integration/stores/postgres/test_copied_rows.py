"""Rows and proofs that a copy brings into a database: durable, compared, and never over what is newer."""

import datetime as dt
import logging
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import psycopg
import pytest
from postgres import LocalPostgres, database, rows_of, waiting, with_tables
from servers import eventually

from services.contract.consuming.proofs import Proof, ProvenRun, Scope
from services.contract.errors import PipelineError, RowsRefused, SinkUnavailable
from services.stores.copying import EVENTS, Brought, Extent
from services.stores.postgres.copying import rows as copying_rows
from services.stores.postgres.copying.rows import PostgresCopied
from services.stores.postgres.errors import is_moved
from services.stores.postgres.partitions import FIRST, LAST, READERS_LOCK, low, make_day, name_of
from services.stores.postgres.proving.proofs import PostgresProofs

SCOPE = Scope("here", "stream", "group")
AT_US = 1_800_000_000_000_000
INSERT = (
    "INSERT INTO telemetry.events (event_id, device_id, zone, ts, kpi, value, is_degraded, "
    "stored_at) SELECT %s, 'device-1', 'zone-1', at, 'humidity', 42.25, false, at "
    "FROM to_timestamp(%s) AS at"
)
"""As `event` gives it."""
DAYS = "SELECT relname FROM pg_class WHERE relname ~ '^events_d2' AND relkind = 'r' ORDER BY 1"


def copied_of(url: str) -> PostgresCopied:
    """Open a database for a copy into it."""
    return PostgresCopied(database(url), logging.getLogger("test"), may_write=True)


@pytest.fixture
def copied(url: str) -> Iterator[PostgresCopied]:
    """Give it, open for a copy."""
    with closing(copied_of(url)) as one:
        yield one


def event(event_id: str) -> tuple[Any, ...]:
    """Give an event as it is carried."""
    return (event_id, "device-1", "zone-1", AT_US, "humidity", 42.25, None, 0, AT_US)


def test_only_a_newer_proof_takes_the_place_of_what_is_there(url: str, copied: PostgresCopied) -> None:
    """One of as many audits is another one's, and stays."""
    proofs = PostgresProofs(database(url), SCOPE)
    assert proofs.write(Proof(runs=[ProvenRun("ours", last=1)]), 0) == ""
    assert proofs.write(Proof(), 1) == ""
    (theirs,) = copied.proven("here", "stream").rows["proven_runs"]
    for generation, run in ((1, "ours"), (2, "ours"), (3, "theirs"), (3, "theirs")):
        group = (*SCOPE, generation, 0.0, 0, 0)
        copied.put_proven(group, [("proven_runs", (*theirs[:3], "theirs", *theirs[4:]))])
        assert list(proofs.read().runs) == [run]
    assert proofs.generation() == (3, 0)


def test_what_is_dropped_stays_dropped(copied: PostgresCopied) -> None:
    """The later time counts, and who has read a proof before writes none over it."""
    for given, stays in (
        ((7, 500), (7, 500)),
        ((9, 400), (7, 500)),
        ((9, 500), (7, 500)),
        ((2, 600), (8, 600)),
    ):
        copied.put_drops(*given)
        assert copied.proven("here", "stream").drops == stays


def test_an_event_whose_day_is_attached_while_it_waits_is_brought(url: str, copied: PostgresCopied) -> None:
    """A keeper makes the day just then."""
    day = dt.date(2027, 3, 1)
    first = low(day)
    rows = [event(f"{first[:14]}7001-8def-{number:012x}") for number in range(3)]
    brought: list[Brought] = []
    thread = threading.Thread(target=lambda: brought.append(copied.bring(rows)))
    with closing(database(url).connect()) as keeper:
        with keeper.transaction():
            make_day(keeper, day)
            thread.start()
            eventually(lambda: waiting(url), 10, "the copy waits")
        thread.join()
    assert brought == [Brought(3, 3)]
    found = rows_of(url, "SELECT DISTINCT tableoid::regclass::text FROM telemetry.events")
    assert found == [(f"telemetry.{name_of(day)}",)]


def test_an_event_that_was_there_is_on_the_disk_too(own_postgres_server: LocalPostgres) -> None:
    """Another one wrote it with synchronous_commit off: who has copied may remove the source."""
    server = own_postgres_server
    url = with_tables(server.dsn())
    one = event("00000000-0000-4d3b-8f0e-000000000001")
    with closing(copied_of(url)) as copied, server.admin() as lax, server.lazy_disk():
        lax.execute("SET synchronous_commit = off")
        lax.execute(INSERT, (one[0], AT_US // 1_000_000))
        position = lax.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
        assert position is not None
        assert lax.execute("SELECT pg_current_wal_flush_lsn() < %s", position).fetchone() == (True,)
        assert copied.bring([one]) == Brought(0, 1)
        assert lax.execute("SELECT pg_current_wal_flush_lsn() >= %s", position).fetchone() == (True,)


PLAIN = "00000000-0000-4d3b-8f0e-00000000000{}"
"""Ids that carry no time."""


def test_a_proof_that_is_being_written_is_waited_for(url: str, copied: PostgresCopied) -> None:
    """An audit there has read what is proven, and commits a newer proof: a copy takes none of it away."""
    proofs = PostgresProofs(database(url), SCOPE)
    assert proofs.write(Proof(runs=[ProvenRun("ours", last=1)]), 0) == ""
    with psycopg.connect(url) as audit:
        audit.execute("UPDATE telemetry.proofs SET generation = 5")
        thread = threading.Thread(target=copied.put_proven, args=((*SCOPE, 3, 0.0, 0, 0), []))
        thread.start()
        eventually(lambda: waiting(url), 10, "the copy waits")
        audit.commit()
        thread.join()
    assert proofs.generation()[0] == 5
    assert list(proofs.read().runs) == ["ours"]


def test_what_is_proven_is_put_whole_or_not_at_all(url: str, copied: PostgresCopied) -> None:
    """A row of it that has no place leaves what was there before."""
    proofs = PostgresProofs(database(url), SCOPE)
    assert proofs.write(Proof(runs=[ProvenRun("ours", last=1)]), 0) == ""
    (run,) = copied.proven("here", "stream").rows["proven_runs"]
    twice = [("proven_runs", run), ("proven_runs", run)]
    with pytest.raises(PipelineError):
        copied.put_proven((*SCOPE, 3, 0.0, 0, 0), twice)
    assert (proofs.generation()[0], list(proofs.read().runs)) == (1, ["ours"])


def test_events_are_compared_behind_a_day_that_is_attached(url: str, copied: PostgresCopied) -> None:
    """What is planned before would miss its rows, or meet what is gone."""
    one = event(PLAIN.format(1))
    brought: list[Brought] = []
    with psycopg.connect(url) as keeper:
        keeper.execute("SELECT pg_advisory_xact_lock(%s)", (READERS_LOCK,))
        thread = threading.Thread(target=lambda: brought.append(copied.bring([one])))
        thread.start()
        eventually(lambda: waiting(url), 10, "the copy waits")
        keeper.execute("DELETE FROM telemetry.events WHERE event_id = %s", (one[0],))
        keeper.commit()
        thread.join()
    assert brought == [Brought(1, 0)]


def test_an_event_that_somebody_holds_is_waited_for_no_longer_than_told(url: str) -> None:
    """A copy waits for an answer for minutes, and for a lock as long as a consumer does."""
    one = event(PLAIN.format(1))
    where = database(url, timeout_s=0.0, lock_timeout_s=0.3)
    with (
        closing(PostgresCopied(where, logging.getLogger("test"), may_write=True)) as copied,
        psycopg.connect(url) as other,
    ):
        other.execute(INSERT, (one[0], AT_US // 1_000_000))
        with pytest.raises(SinkUnavailable, match="lock timeout"):
            copied.bring([one])
        other.rollback()
        assert copied.bring([one]) == Brought(1, 1)


def test_a_copy_waits_longer_for_an_answer_than_a_consumer(url: str) -> None:
    """It reads all of a table."""
    where = database(url, timeout_s=0.0)
    with (
        closing(PostgresCopied(where, logging.getLogger("test"), may_write=True)) as copied,
        psycopg.connect(url) as other,
        psycopg.connect(url, autocommit=True) as look,
    ):
        other.execute("LOCK TABLE telemetry.events IN ACCESS EXCLUSIVE MODE")
        found: list[Extent] = []
        thread = threading.Thread(target=lambda: found.append(copied.extent()))
        thread.start()
        waits_long = (
            "SELECT EXISTS (SELECT FROM pg_locks "
            "WHERE NOT granted AND waitstart < clock_timestamp() - interval '1.2 s')"
        )
        eventually(lambda: look.execute(waits_long).fetchone() == (True,), 10, "the copy waits for long")
        other.rollback()
        thread.join()
    assert found == [Extent(0, 0)]


@pytest.mark.parametrize("detached", [True, False], ids=["a table in its place", "somebody reads"])
def test_a_day_that_can_not_be_made_keeps_no_event_away(
    url: str, copied: PostgresCopied, *, detached: bool
) -> None:
    """A table has its name, or somebody is at it: the events lie among the others then."""
    day = dt.date(2027, 3, 1)
    one = event(f"{low(day)[:14]}7001-8def-000000000001")
    with psycopg.connect(url) as other:
        if detached:
            other.execute(f"CREATE TABLE telemetry.{name_of(day)} (x int)".encode())
            other.commit()
        else:
            other.execute("SELECT count(*) FROM telemetry.events_default")
        assert copied.bring([one]) == Brought(1, 1)
    found = rows_of(url, "SELECT tableoid::regclass::text FROM telemetry.events")
    assert found == [("telemetry.events_default",)]


def test_no_more_days_are_made_than_plans_bear(
    url: str, copied: PostgresCopied, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is older lies among the others."""
    there = len(rows_of(url, DAYS))
    monkeypatch.setattr(copying_rows, "_MOST_DAYS", there + 2)
    rows = [event(f"{low(dt.date(2027, 3, one))[:14]}7001-8def-000000000001") for one in range(1, 5)]
    assert copied.bring(rows) == Brought(4, 4)
    assert len(rows_of(url, DAYS)) == there + 2
    assert rows_of(url, "SELECT count(*) FROM telemetry.events_default") == [(2,)]


def test_days_are_made_of_times_alone(url: str, copied: PostgresCopied) -> None:
    """Not of the digits of an id that carries none, nor of a time that nobody believes."""
    there = rows_of(url, DAYS)
    digits = low(dt.date(2027, 3, 1))[:14]
    rows = [
        event(f"{digits}4001-8def-000000000001"),
        event(f"{low(dt.date(2019, 3, 1))[:14]}7001-8def-000000000001"),
    ]
    rows.append(event(f"{low(dt.date(2100, 3, 1))[:14]}7001-8def-000000000001"))
    rows.sort()
    assert copied.bring(rows) == Brought(3, 3)
    assert rows_of(url, DAYS) == there


@pytest.mark.parametrize("day", [FIRST, LAST])
def test_the_first_and_the_last_day_that_are_believed_are_made(
    url: str, copied: PostgresCopied, day: dt.date
) -> None:
    """Also of an id of their first millisecond."""
    assert copied.bring([event(f"{low(day)[:14]}7001-8def-000000000001")]) == Brought(1, 1)
    found = rows_of(url, "SELECT tableoid::regclass::text FROM telemetry.events")
    assert found == [(f"telemetry.{name_of(day)}",)]


def test_an_event_that_another_one_stores_between_two_tries_is_on_the_disk_too(
    own_postgres_server: LocalPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its day was attached while it waited, and the second try finds it there."""
    server = own_postgres_server
    url = with_tables(server.dsn())
    day = dt.date(2027, 3, 1)
    one = event(f"{low(day)[:14]}7001-8def-000000000001")
    positions: list[tuple[Any, ...] | None] = []
    brought: list[Brought] = []
    with closing(copied_of(url)) as copied, server.admin() as lax, closing(database(url).connect()) as keeper:
        lax.execute("SET synchronous_commit = off")

        def and_store(error: psycopg.Error) -> bool:
            lax.execute(INSERT, (one[0], AT_US // 1_000_000))
            positions.append(lax.execute("SELECT pg_current_wal_insert_lsn()").fetchone())
            return is_moved(error)

        monkeypatch.setattr(copying_rows, "is_moved", and_store)
        thread = threading.Thread(target=lambda: brought.append(copied.bring([one])))
        with server.lazy_disk():
            with keeper.transaction():
                make_day(keeper, day)
                thread.start()
                eventually(lambda: waiting(url), 10, "the copy waits")
            thread.join()
            assert brought == [Brought(0, 1)]
            (position,) = positions
            assert position is not None
            assert lax.execute("SELECT pg_current_wal_flush_lsn() >= %s", position).fetchone() == (True,)


def test_what_is_put_is_on_the_disk_though_the_database_has_it_off(
    own_postgres_server: LocalPostgres,
) -> None:
    """A proof and what is dropped as well as events."""
    server = own_postgres_server
    with server.admin() as admin:
        admin.execute("ALTER DATABASE postgres SET synchronous_commit = off")
    with closing(copied_of(with_tables(server.dsn()))) as copied, server.admin() as look, server.lazy_disk():
        for put in (
            partial(copied.put_drops, 1, 500),
            partial(copied.put_proven, (*SCOPE, 1, 0.0, 0, 0), []),
        ):
            before = look.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
            assert before is not None
            put()
            assert look.execute("SELECT pg_current_wal_flush_lsn() > %s", before).fetchone() == (True,)


def test_rows_come_in_the_order_of_their_keys_however_they_are_read(url: str) -> None:
    """Two sides are compared in it, and the next page begins behind the last id."""
    with closing(copied_of(url)) as copied:
        assert PostgresProofs(database(url), SCOPE).write(Proof(runs=[ProvenRun("a", last=1)]), 0) == ""
        (run,) = copied.proven("here", "stream").rows["proven_runs"]
        group = (*SCOPE, 2, 0.0, 0, 0)
        copied.put_proven(group, [("proven_runs", (*SCOPE, name, *run[4:])) for name in "cab"])
        for number in (3, 1, 2):
            copied.bring([event(PLAIN.format(number))])
    with psycopg.connect(url, autocommit=True) as owner:  # nothing is left that gives them in order by itself
        owner.execute("ALTER TABLE telemetry.proven_runs DROP CONSTRAINT proven_runs_pkey")
        owner.execute("ALTER TABLE telemetry.events DROP CONSTRAINT events_pkey")
    with closing(copied_of(url)) as copied:
        assert [row[0] for row in copied.page("", 10)] == [PLAIN.format(number) for number in (1, 2, 3)]
        assert [row[3] for row in copied.proven("here", "stream").rows["proven_runs"]] == ["a", "b", "c"]


def test_other_streams_are_named_whatever_they_share_with_this_one(copied: PostgresCopied) -> None:
    """The pipeline or the stream: what is under another pair of names is not copied with it."""
    for pair in (("here", "stream"), ("here", "another"), ("other", "stream")):
        copied.put_proven((*pair, "group", 1, 0.0, 0, 0), [])
    assert copied.others("here", "stream") == [("here", "another"), ("other", "stream")]


def test_of_few_ids_and_of_many_those_events_alone_are_given(copied: PostgresCopied) -> None:
    """Whatever lies between them, and how much of it."""
    rows = [event(PLAIN.format(number)) for number in range(1, 10)]
    assert copied.bring(rows) == Brought(9, 9)
    for wanted in ([rows[0], rows[2]], [rows[0], rows[8]], [rows[0], rows[4], rows[5]], rows):
        assert copied.those([row[0] for row in wanted]) == wanted
    absent = PLAIN.format(0)
    assert copied.those([absent, rows[0][0], rows[2][0]]) == [rows[0], rows[2]]
    assert copied.those([]) == []


@pytest.mark.parametrize("column", ["device_id", "attributes"])
def test_a_text_that_is_none_refuses_what_is_brought_with_it(copied: PostgresCopied, column: str) -> None:
    """And only that: whoever copies goes on with the others."""
    good = event(PLAIN.format(1))
    bad = [*event(PLAIN.format(2))]
    bad[list(EVENTS.columns).index(column)] = '"\ud800"'
    with pytest.raises(RowsRefused):
        copied.bring([good, tuple(bad)])
    assert copied.extent() == Extent(0, 0)
    assert copied.bring([good]) == Brought(1, 1)
