"""Days on a real PostgreSQL: made ahead, and of what lies in the DEFAULT partition, while others write."""

import datetime as dt
import itertools
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing

import psycopg
import pytest
from postgres import database, rows_of
from psycopg import sql
from samples import row
from servers import eventually

from services.contract.consuming.doors import Written
from services.contract.errors import SinkUnavailable
from services.contract.event import Event
from services.contract.ids import event_id, run_name
from services.stores.postgres import keeper as keeper_module
from services.stores.postgres import partitions
from services.stores.postgres.connection import Connection
from services.stores.postgres.keeper import Keeper
from services.stores.postgres.partitions import (
    READERS_LOCK,
    Taken,
    days,
    low,
    make_day,
    name_of,
    rows_in_default,
    stray_days,
    today,
)
from services.stores.postgres.sink import PostgresSink

LOGGER = logging.getLogger("test")
RUN = run_name(7)
V4 = "1b4e28ba-2fa1-4d3b-8f0e-{:012x}"
V4_IN_RANGE = "019a0000-0000-4d3b-8f0e-{:012x}"


@pytest.fixture
def sink(postgres_url: str) -> Iterator[PostgresSink]:
    """Give a sink on an empty database, without a day in it."""
    with closing(PostgresSink(database(postgres_url), time.time)) as one:
        yield one


@pytest.fixture
def admin(postgres_url: str, sink: PostgresSink) -> Iterator[Connection]:
    """Give a connection to the same database."""
    del sink  # it has made the tables
    with database(postgres_url).connect(limit_s=120) as connection:
        yield connection


def ids_of(day: dt.date, numbers: Sequence[int]) -> list[str]:
    """Give ids of a day, one each millisecond from noon on."""
    noon = int(dt.datetime.combine(day, dt.time(12), dt.UTC).timestamp() * 1000)
    return [event_id(RUN, number + 1, noon + number) for number in numbers]


def events(ids: Sequence[str]) -> list[Event]:
    """Give an event for each id."""
    return [row(event_id=one) for one in ids]


def where(connection: Connection) -> dict[str, int]:
    """Count the rows of each partition that has any."""
    found = connection.execute(
        "SELECT tableoid::regclass::text, count(*) FROM telemetry.events GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return {name.removeprefix("telemetry."): number for name, number in found}


def test_days_are_made_ahead_and_rows_go_there(
    postgres_url: str, sink: PostgresSink, admin: Connection
) -> None:
    """From yesterday to two weeks ahead, once; the figures say how far it goes."""
    keeper = Keeper(database(postgres_url), LOGGER)
    keeper.turn()
    now = today(admin)
    assert days(admin) == [now + dt.timedelta(days=number) for number in range(-1, 15)]
    sink.write(events([*ids_of(now, range(3)), *ids_of(now + dt.timedelta(days=1), range(2))]))
    assert where(admin) == {name_of(now): 3, name_of(now + dt.timedelta(days=1)): 2}
    assert keeper.figures()["telemetry_sink_partitions_ahead_seconds"] == 14 * 86_400
    assert keeper.figures()["telemetry_sink_unpartitioned_events"] == 0
    before = days(admin)
    keeper.turn()
    assert days(admin) == before


def test_a_day_has_just_the_ids_of_its_milliseconds(sink: PostgresSink, admin: Connection) -> None:
    """The first of the day is in it, the last of the day before is not."""
    day = dt.date(2027, 3, 1)
    make_day(admin, day)
    first_ms = int(dt.datetime(2027, 3, 1, tzinfo=dt.UTC).timestamp() * 1000)
    at = [first_ms - 1, first_ms, first_ms + 86_400_000 - 1, first_ms + 86_400_000]
    sink.write(events([event_id(RUN, number + 1, ms) for number, ms in enumerate(at)]))
    assert where(admin) == {"events_d20270301": 2, "events_default": 2}


def test_ids_without_a_time_lie_apart(sink: PostgresSink, admin: Connection) -> None:
    """Random ids fill neither the days nor, but for one in a hundred, what is looked at for them."""
    sink.write(events([V4.format(number) for number in range(5)]))
    sink.write(events(["00000000-0000-4d3b-8f0e-000000000001", V4_IN_RANGE.format(1)]))
    assert where(admin) == {"events_before": 1, "events_beyond": 5, "events_default": 1}
    assert stray_days(admin, 100) == []


def test_a_row_with_an_id_of_tomorrow_does_not_keep_tomorrow_from_being_made(
    postgres_url: str, sink: PostgresSink, admin: Connection
) -> None:
    """It moves there, with its id still taken: again it is a duplicate, and another content is a conflict."""
    tomorrow = today(admin) + dt.timedelta(days=1)
    ids = ids_of(tomorrow, range(3))
    sink.write(events(ids))
    assert where(admin) == {"events_default": 3}
    Keeper(database(postgres_url), LOGGER).turn()
    assert where(admin) == {name_of(tomorrow): 3}
    assert sink.write(events(ids)) == (0, [])
    assert sink.write([row(event_id=ids[0], value=1.0)]) == (0, [0])


def test_days_of_old_events_are_made_of_what_lies_in_default(
    postgres_url: str, sink: PostgresSink, admin: Connection
) -> None:
    """A replay of years ago comes to lie in its days; random ids among them stay, or go with the day."""
    old = [dt.date(2021, 6, 1), dt.date(2023, 2, 28)]
    for day in old:
        sink.write(events(ids_of(day, range(4))))
    sink.write(events([V4_IN_RANGE.format(2)]))
    Keeper(database(postgres_url), LOGGER).turn()
    assert where(admin) == {"events_d20210601": 4, "events_d20230228": 4, "events_default": 1}


def test_no_more_days_are_made_of_old_events_than_there_may_be(
    postgres_url: str, sink: PostgresSink, admin: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each makes every plan longer. The newest are made; the others' rows stay where they are."""

    def turn() -> None:
        Keeper(database(postgres_url), LOGGER, interval_s=0.0).turn()

    turn()
    ahead = len(days(admin))
    monkeypatch.setattr(keeper_module, "_MOST_STRAY_DAYS", ahead + 2)
    for number in range(1, 4):
        sink.write(events(ids_of(dt.date(2021, 6, number), range(2))))
    turn()
    made = {"events_d20210603": 2, "events_d20210602": 2, "events_default": 2}
    assert where(admin) == made
    monkeypatch.setattr(keeper_module, "_MOST_STRAY_DAYS", ahead)
    sink.write(events([*ids_of(dt.date(2021, 6, 4), range(2)), *ids_of(dt.date(2021, 6, 5), range(2))]))
    turn()
    assert where(admin) == made | {"events_default": 6}


def test_many_rows_leave_default_under_load(postgres_url: str, admin: Connection) -> None:
    """Writers of that day, and of others, go on meanwhile; no row is lost, doubled, or inserted twice."""
    day = today(admin) + dt.timedelta(days=1)
    other_day = day - dt.timedelta(days=1)
    make_day(admin, other_day)
    first = low(day)
    admin.execute(
        "INSERT INTO telemetry.events "
        "SELECT (left(%s, 14) || '7001-8def-' || lpad(to_hex(n), 12, '0'))::uuid, now(), now(), 1, false, "
        "'device-1', 'zone-1', 'humidity', NULL FROM generate_series(1, 200000) AS n",
        (first,),
    )
    fresh, elsewhere = ids_of(day, range(20_000)), ids_of(other_day, range(20_000))
    longest: dict[str, float] = {}
    stop = threading.Event()
    failures: list[BaseException] = []

    def load(name: str, ids: Sequence[str]) -> None:
        with closing(PostgresSink(database(postgres_url, lock_timeout_s=30, timeout_s=60), time.time)) as one:
            try:
                for start in itertools.count(0, 100):
                    batch = ids[start % len(ids) :][:100]
                    began = time.monotonic()
                    written = one.write(events(batch))
                    longest[name] = max(longest.get(name, 0.0), time.monotonic() - began)
                    assert not written.conflicts
                    assert written.inserted in {0, len(batch)}
                    if stop.is_set() and start >= len(ids):
                        return
            except BaseException as error:  # noqa: BLE001 - told by the test
                failures.append(error)

    threads = [
        threading.Thread(target=load, args=("of the day", fresh)),
        threading.Thread(target=load, args=("of another day", elsewhere)),
    ]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    moved = None
    while moved is None:
        try:
            moved = make_day(admin, day)
        except psycopg.errors.LockNotAvailable:
            continue
    took = time.monotonic() - began
    stop.set()
    for thread in threads:
        thread.join()
    print(f"moved {moved.rows} rows in {took:.1f} s; the longest writes: {longest}")
    assert not failures
    assert moved.is_made
    assert moved.rows >= 200_000
    assert where(admin) == {name_of(day): 220_000, name_of(other_day): 20_000}
    assert rows_in_default(admin) == 0


def test_a_row_whose_day_is_attached_while_it_waits_goes_there(
    postgres_url: str, sink: PostgresSink, admin: Connection
) -> None:
    """It waited for the DEFAULT partition, which has no place for it any more: no fault of the row."""
    day = today(admin)
    ids = ids_of(day, range(3))
    sink.write(events(ids[:1]))
    written: list[Written] = []
    thread = threading.Thread(target=lambda: written.append(sink.write(events(ids))))
    with admin.transaction():
        assert make_day(admin, day) == (True, 1)
        thread.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        eventually(lambda: rows_of(postgres_url, waiting) != [(0,)], 10, "the write waits")
    thread.join()
    assert written == [(2, [])]
    assert where(admin) == {name_of(day): 3}


def test_a_row_that_is_not_committed_yet_goes_with_its_day(
    postgres_url: str, sink: PostgresSink, admin: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes the day waits for it, and only then takes over what came."""
    monkeypatch.setattr(partitions, "LOCK_MS", 20_000)
    day = today(admin)
    ids = ids_of(day, range(3))
    sink.write(events(ids[:2]))
    made: list[partitions.Moved] = []
    thread = threading.Thread(target=lambda: made.append(make_day(admin, day)))
    with psycopg.connect(postgres_url) as other:
        other.execute(
            "INSERT INTO telemetry.events (event_id, device_id, zone, ts, kpi, value, is_degraded, "
            "stored_at) VALUES (%s, 'other', 'zone-1', now(), 'humidity', 1, false, now())",
            (ids[2],),
        )
        thread.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        eventually(lambda: rows_of(postgres_url, waiting) != [(0,)], 10, "the day waits")
        other.commit()
    thread.join()
    assert made == [(True, 3)]
    assert where(admin) == {name_of(day): 3}


def test_a_day_is_taken_out_of_many_others(
    postgres_url: str, sink: PostgresSink, admin: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where what stays in the DEFAULT partition is too much to be written anew, and by several portions."""
    del postgres_url
    monkeypatch.setattr(partitions, "_FEW", 2)
    monkeypatch.setattr(partitions, "COPIED_AT_ONCE", 3)
    day = today(admin)
    other_day = day + dt.timedelta(days=1)
    sink.write(events([*ids_of(day, range(7)), *ids_of(other_day, range(4))]))
    assert make_day(admin, day) == (True, 7)
    assert where(admin) == {name_of(day): 7, "events_default": 4}
    assert make_day(admin, other_day) == (True, 4)
    assert where(admin) == {name_of(day): 7, name_of(other_day): 4}


def test_what_somebody_reads_for_long_is_left_for_the_next_turn(
    postgres_url: str, sink: PostgresSink, admin: Connection
) -> None:
    """No writer waits behind it for longer than a second; what was copied serves the next try."""
    day = today(admin)
    sink.write(events(ids_of(day, range(3))))
    with psycopg.connect(postgres_url) as reader:
        reader.execute("SELECT count(*) FROM telemetry.events")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            make_day(admin, day)
        assert where(admin) == {"events_default": 3}
    sink.write(events(ids_of(day, range(5))))
    assert make_day(admin, day).rows == 5
    assert where(admin) == {name_of(day): 5}


def test_no_day_is_attached_while_somebody_plans_a_look_at_rows(
    postgres_url: str, sink: PostgresSink, admin: Connection
) -> None:
    """A plan of before would look for its rows where they are no more."""
    day = today(admin)
    sink.write(events(ids_of(day, range(3))))
    with psycopg.connect(postgres_url) as reader:
        reader.execute("SELECT pg_advisory_xact_lock_shared(%s)", (READERS_LOCK,))
        with pytest.raises(psycopg.errors.LockNotAvailable):
            make_day(admin, day)
    assert make_day(admin, day) == (True, 3)


def test_rows_that_a_person_deletes_while_their_day_is_made_stay_deleted(
    postgres_url: str, sink: PostgresSink, admin: Connection
) -> None:
    """The copy does not bring them back."""
    day = today(admin)
    ids = ids_of(day, range(3))
    sink.write(events(ids))
    with psycopg.connect(postgres_url) as reader:
        reader.execute("SELECT count(*) FROM telemetry.events")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            make_day(admin, day)
    admin.execute("DELETE FROM telemetry.events WHERE event_id = %s", (ids[0],))
    make_day(admin, day)
    assert where(admin) == {name_of(day): 2}


def test_many_keepers_make_each_day_once(postgres_url: str, sink: PostgresSink, admin: Connection) -> None:
    """Ten at once: one of them does it, and none fails."""
    del sink
    keepers = [Keeper(database(postgres_url, lock_timeout_s=30), LOGGER, interval_s=0.05) for _ in range(10)]
    for keeper in keepers:
        keeper.start()
    wanted = [today(admin) + dt.timedelta(days=number) for number in range(-1, 15)]
    eventually(lambda: days(admin) == wanted, 60, "all days are made")
    for keeper in keepers:
        keeper.close()
    assert days(admin) == wanted
    assert rows_of(
        postgres_url, "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'moving%%'"
    ) == [(0,)]


def test_of_many_keepers_one_looks_in_a_minute(
    postgres_url: str, sink: PostgresSink, admin: Connection
) -> None:
    """What lies in DEFAULT is read once, however many consumers there are; all know what was found."""
    sink.write([row(1, event_id=V4_IN_RANGE.format(number)) for number in range(1, 6)])
    assert Keeper(database(postgres_url), LOGGER).turn()
    scans = "SELECT seq_scan + idx_scan FROM pg_stat_all_tables WHERE relname = 'events_default'"

    running = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%%:keeper'"

    def settled() -> int:
        """Count them, once those are gone who have made them: till then a backend keeps its count."""
        eventually(lambda: rows_of(postgres_url, running) == [(0,)], 30, "no keeper is connected")
        return int(rows_of(postgres_url, scans)[0][0])

    before = settled()
    keepers = [Keeper(database(postgres_url), LOGGER) for _ in range(10)]
    assert all(keeper.turn() for keeper in keepers)
    assert settled() == before
    assert {keeper.figures()["telemetry_sink_unpartitioned_events"] for keeper in keepers} == {5}
    admin.execute("UPDATE telemetry.upkeep SET begun_at = begun_at - interval '1 minute'")
    assert all(keeper.turn() for keeper in keepers)
    assert before < settled() < before + 10


def test_a_turn_that_is_never_ended_is_taken_over(
    postgres_url: str, sink: PostgresSink, admin: Connection
) -> None:
    """Whoever took it was killed: a minute later it is another one's."""
    del sink
    admin.execute("INSERT INTO telemetry.upkeep (id, begun_at) VALUES (1, clock_timestamp())")
    keeper = Keeper(database(postgres_url), LOGGER)
    assert not keeper.turn()
    assert days(admin) == []
    admin.execute("UPDATE telemetry.upkeep SET begun_at = begun_at - interval '1 minute'")
    assert keeper.turn()
    assert days(admin)


def test_a_first_turn_that_takes_long_is_waited_for_no_longer_than_told(
    postgres_url: str, sink: PostgresSink
) -> None:
    """Somebody works on the table meanwhile; the days come later, and the rows are taken at once."""
    keeper = Keeper(database(postgres_url), LOGGER, interval_s=0.1)
    with psycopg.connect(postgres_url) as other:
        other.execute("LOCK TABLE telemetry.events_default IN ACCESS SHARE MODE")
        began = time.monotonic()
        keeper.start(wait_s=0.2)
        assert time.monotonic() - began < 5
        assert sink.write(events([V4.format(1)])) == (1, [])
    eventually(lambda: keeper.figures().get("telemetry_sink_partitions_ahead_seconds"), 30, "days are made")
    keeper.close()


def test_a_day_that_somebody_has_detached_is_left_to_them(
    postgres_url: str, sink: PostgresSink, admin: Connection
) -> None:
    """The table of that name is told, its rows are not touched, and new ones lie in DEFAULT."""
    day = today(admin)
    make_day(admin, day)
    sink.write(events(ids_of(day, range(3))))
    admin.execute(f"ALTER TABLE telemetry.events DETACH PARTITION telemetry.{name_of(day)}".encode())
    sink.write(events(ids_of(day, range(10, 12))))
    with pytest.raises(Taken, match=name_of(day)):
        make_day(admin, day)
    with pytest.raises(SinkUnavailable, match="attach it again, or rename it"):
        Keeper(database(postgres_url), LOGGER).turn()
    assert where(admin) == {"events_default": 2}
    # The other days are made all the same.
    assert days(admin) == [day + dt.timedelta(days=number) for number in range(-1, 15) if number]
    counted = sql.SQL("SELECT count(*) FROM telemetry.{}").format(sql.Identifier(name_of(day)))
    assert admin.execute(counted).fetchone() == (3,)
