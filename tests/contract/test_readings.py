"""One suite over every store: the last reading of each device, and who is silent."""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from postgres import KINDS as POSTGRES_KINDS
from postgres import PostgresServers, database, with_tables

from services.contract.consuming.proofs import Scope
from services.contract.consuming.readings import LastReadings, Reading
from services.contract.errors import SinkAbsent, SinkUnavailable
from services.stores.postgres.readings import PostgresReadings
from services.stores.readings import READINGS_A_TURN
from services.stores.sqlite.readings import SQLiteReadings
from services.stores.sqlite.sink import SQLiteSink

OURS = Scope("telemetry", "telemetry_stream", "telemetry_consumers")


class Rig(NamedTuple):
    """A place with its tables, and without them."""

    readings: Callable[[Scope], LastReadings]
    drop: Callable[[], object]
    """Take the table away, as in a place that no consumer of this version has opened."""
    absent: Callable[[], LastReadings]


@pytest.fixture(params=["sqlite", *POSTGRES_KINDS])
def rig(request: pytest.FixtureRequest, tmp_path: Path, postgres_servers: PostgresServers) -> Rig:
    """Give each store in turn."""
    if request.param == "sqlite":
        path = tmp_path / "telemetry.db"
        SQLiteSink(path, 1000, lambda: 1.0).close()
        return Rig(
            lambda scope: SQLiteReadings(path, 5000, scope),
            lambda: _drop(path),
            lambda: SQLiteReadings(tmp_path / "none.db", 5000, OURS),
        )
    url = with_tables(postgres_servers.new_database(request.param))
    other = postgres_servers.new_database(request.param)
    return Rig(
        lambda scope: PostgresReadings(database(url), scope),
        lambda: _drop_in_postgres(url),
        lambda: PostgresReadings(database(other), OURS),
    )


def _drop_in_postgres(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE telemetry.last_readings")


def _drop(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE last_readings")


def reading(device: str, stored_at: float, value: float = 20.25) -> Reading:
    return Reading(
        device, "zone-1", "temperature", value, stored_at - 60.5, stored_at, f"id-{device}-{value}"
    )


def test_the_newest_reading_of_a_device_is_kept(rig: Rig) -> None:
    """Whoever notes it, and in whatever order; all of it comes back as it was given."""
    readings = rig.readings(OURS)
    readings.note([reading("a", 100), reading("b", 150, 1.0)])
    readings.note([reading("b", 200, 2.0)])
    readings.note([reading("b", 180, 3.0)])  # of a replica that was slow to note it
    readings.note([])
    assert readings.silent(1000) == [reading("b", 200, 2.0), reading("a", 100)]


def test_who_was_heard_before_a_time_is_silent(rig: Rig) -> None:
    """Not who was heard then or later; counted and named alike."""
    readings = rig.readings(OURS)
    readings.note([reading("a", 100), reading("b", 200), reading("c", 300)])
    assert [readings.count_silent(before) for before in (100, 200, 200.5, 1000)] == [0, 1, 2, 3]
    assert [one.device_id for one in readings.silent(200.5)] == ["b", "a"]
    assert [one.device_id for one in readings.silent(1000, 2)] == ["c", "b"]


def test_devices_of_long_ago_are_forgotten(rig: Rig) -> None:
    """They were taken away, and count no more."""
    readings = rig.readings(OURS)
    readings.note([reading("a", 100), reading("b", 200)])
    readings.forget(150)
    assert readings.silent(1000) == [reading("b", 200)]


def test_one_device_is_forgotten_until_it_sends_again(rig: Rig) -> None:
    """Of our pipeline alone; who is not known is told."""
    readings, others = rig.readings(OURS), rig.readings(OURS._replace(pipeline="another"))
    for one in (readings, others):
        one.note([reading("a", 100), reading("b", 200)])
    assert [readings.drop(name) for name in ("a", "a", "c")] == [True, False, False]
    assert (readings.silent(1000), others.count_silent(1000)) == ([reading("b", 200)], 2)
    readings.note([reading("a", 300)])
    assert readings.count_silent(1000) == 2


def test_devices_of_another_pipeline_or_stream_are_not_ours(rig: Rig) -> None:
    """In one database they may even have the same names; groups of one stream have the same devices."""
    scopes = [OURS, OURS._replace(pipeline="another"), OURS._replace(stream="another")]
    for number, scope in enumerate(scopes):
        rig.readings(scope).note([reading("a", 100 + number)])
    assert [rig.readings(scope).silent(1000) for scope in scopes] == [
        [reading("a", 100)], [reading("a", 101)], [reading("a", 102)],
    ]  # fmt: skip
    rig.readings(OURS).forget(1000)
    assert [rig.readings(scope).count_silent(1000) for scope in scopes] == [0, 1, 1]
    assert rig.readings(scopes[1]._replace(group="another")).count_silent(1000) == 1


def test_many_devices_are_noted_by_many_at_once(rig: Rig) -> None:
    """In more than one turn, and in opposite orders: nobody waits for ever, and the newest wins."""
    devices = [f"device-{number}" for number in range(READINGS_A_TURN + 700)]
    failures: list[BaseException] = []

    def note(names: list[str], stored_at: float) -> None:
        try:
            rig.readings(OURS).note([reading(name, stored_at) for name in names])
        except BaseException as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    threads = [
        threading.Thread(target=note, args=(devices, 100)),
        threading.Thread(target=note, args=(devices[::-1], 200)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    readings = rig.readings(OURS)
    assert (readings.count_silent(200), readings.count_silent(201)) == (0, len(devices))


def test_a_store_of_before_has_no_silent_devices(rig: Rig) -> None:
    """A command asks of it what only a consumer can bring forward; to note there says that it can't be."""
    rig.drop()
    readings = rig.readings(OURS)
    assert readings.silent(1000) == []
    with pytest.raises(SinkUnavailable):
        readings.note([reading("a", 100)])


def test_without_tables_it_says_who_makes_them(rig: Rig) -> None:
    """As all that reads does."""
    with pytest.raises(SinkAbsent, match="a consumer makes"):
        rig.absent().silent(1000)
