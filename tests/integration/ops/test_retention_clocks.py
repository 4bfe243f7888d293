"""Our clock drops nothing by itself: a day goes when it is too old for the broker and the store as well."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Final

import pytest
from acceptance.rig import ROOT
from fakes import FakeClock
from integration.ops.test_proofs import World, server, settings
from integration.ops.test_retention import DAY, make_days, stored
from servers import Server

from services.brokers.choice import operator_side
from services.contract.consuming.retention import DAY_MS
from services.ops.audit.proving import prove
from services.ops.audit.retaining import Retained, Told, retain
from services.runtime.settings import ConsumerSettings
from services.stores.choice import store_of

__all__ = ["server", "settings"]
YEAR: Final = 365 * DAY


@pytest.fixture
def world(server: Server, settings: ConsumerSettings) -> Iterator[World]:
    """Give an empty one, half a year ago."""
    with (
        closing(server.client()) as client,
        closing(World(settings, client, FakeClock(time.time() - YEAR / 2))) as one,
    ):
        yield one


def publish(world: World, ago_s: float, number: int) -> None:
    """Store rows of a time, and see them proven."""
    world.later(time.time() - ago_s - world.clock.now())
    make_days(world, 3)
    world.store(*world.publish(world.producer(), *["numbered"] * number))
    prove(world.settings, now=world.clock.now)


def drop(world: World, ahead_s: float = 0.0, *told: Told, days: int = 1, **more: object) -> Retained:
    """Drop by a clock that is so far ahead; `told`: what others say, in place of those that are there."""
    asked = replace(world.settings, retain_days=days, **more)  # type: ignore[arg-type]
    now: Callable[[], float] = lambda: time.time() + ahead_s  # noqa: E731 - it is a value
    result = prove(asked, now=now)
    done = retain(asked, result, now, lambda *_: told) if told else retain(asked, result, now)
    assert done is not None
    return done


def test_a_clock_that_is_a_year_ahead_drops_nothing_that_is_young(world: World) -> None:
    """What is old by all clocks goes, the rest waits and says why; when the clock is right, nothing does."""
    publish(world, 5 * DAY, 4)
    publish(world, 0, 3)
    done = drop(world, YEAR)
    assert (done.rows, stored(world)) == (4, 3)
    assert f"our clock is {YEAR:,.0f} s ahead of that of " in done.waits
    assert done.waits.endswith(": set the one that is wrong")
    assert done.waiting_day == time.strftime("%Y-%m-%d", time.gmtime(world.clock.now()))
    assert abs(done.waiting_seconds - YEAR) < 3 * DAY
    done = drop(world)
    assert (done.rows, done.waits, stored(world)) == (0, "", 3)


def test_an_idle_pipeline_drops_by_clocks_that_agree(world: World) -> None:
    """Nothing came for months, so the newest row says nothing of the time."""
    publish(world, YEAR / 3, 4)
    done = drop(world)
    assert (done.rows, done.waits, stored(world)) == (4, "", 0)


def test_a_clock_that_is_behind_keeps_more(world: World) -> None:
    """Nothing is lost by that, and no other clock is needed to say so."""
    publish(world, 5 * DAY, 4)
    assert (drop(world, -YEAR).rows, stored(world)) == (0, 4)


def test_the_earliest_of_all_clocks_counts(world: World) -> None:
    """Be it the broker's or the store's; it is named."""
    publish(world, 5 * DAY, 4)
    now = time.time()
    for told in (
        [Told("one", now), Told("late", now - 30 * DAY)],
        [Told("late", now - 30 * DAY), Told("one", now)],
    ):
        done = drop(world, 0, *told)
        assert (done.rows, stored(world)) == (0, 4)
        assert "s ahead of that of late: " in done.waits


def test_a_clock_that_is_hardly_ahead_waits_without_a_word(world: World) -> None:
    """Two clocks never agree to the second: at midnight the day is kept for so long, and no one is told."""
    midnight = time.time() // DAY * DAY
    publish(world, time.time() - midnight + DAY + 3600, 4)
    ahead_s = midnight + 10 - time.time()
    done = drop(world, ahead_s, Told("before midnight", midnight - 10))
    assert (done.rows, done.waits, stored(world)) == (0, "", 4)
    done = drop(world, ahead_s, Told("before midnight", midnight - 10), max_future_s=5.0)
    assert (done.rows, stored(world)) == (0, 4)
    assert re.match(r"our clock is 2\d s ahead of that of before midnight: ", done.waits)
    assert drop(world, ahead_s, Told("after midnight", midnight + 1)).rows == 4


def test_without_another_clock_nothing_is_dropped(world: World) -> None:
    """What is kept can be dropped later, and what is dropped is gone. It is told while a day is due."""
    publish(world, 5 * DAY, 4)
    result = prove(world.settings)
    for days, seconds in ((3, 0.5 * DAY), (30, 0.0)):
        done = retain(replace(world.settings, retain_days=days), result, time.time, lambda *_: [])
        assert done is not None
        assert (done.rows, stored(world)) == (0, 4)
        assert ("no clock but ours can be asked" in done.waits) is (seconds > 0)
        assert (done.waiting_seconds > seconds) is (seconds > 0)


def test_the_server_tells_its_time_to_who_may_ask(world: World) -> None:
    """The broker does unless this user lacks the right; PostgreSQL does, and a file has no clock."""
    with closing(operator_side(world.settings)) as side:
        assert abs((side.now() or 0) - time.time()) < 60
    world.client.execute_command("ACL", "SETUSER", "poor", "on", "nopass", "~*", "+@all", "-time")
    poor = replace(world.settings, redis_username="poor", redis_password="x")  # noqa: S106 - it has none
    with closing(operator_side(poor)) as side:
        assert side.now() is None
    told = store_of(world.settings).open_retention().now()
    if world.settings.database_url:
        assert abs((told or 0) - time.time()) < 60
    else:
        assert told is None


def test_the_oldest_day_is_that_of_ids_with_a_time(world: World) -> None:
    """It is looked for before a time."""
    publish(world, 5 * DAY, 4)
    day = int(world.clock.now() * 1000) // DAY_MS
    retention = store_of(world.settings).open_retention()
    assert retention.oldest_day((day + 1) * DAY_MS) == day
    assert retention.oldest_day(day * DAY_MS) is None


def test_the_command_with_a_clock_a_year_ahead_keeps_all(world: World) -> None:
    """The real one, as a consumer and the CronJob start it."""
    publish(world, 3600, 5)
    where = world.settings
    done = subprocess.run(
        [
            *(sys.executable, ROOT / "tests" / "acceptance" / "shifted.py", str(YEAR)),
            *("services.ops", "audit", "--record", "--retain"),
        ],
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
            "REDIS_HOST": where.redis_host,
            "REDIS_PORT": str(where.redis_port),
            "DATA_DIR": str(where.data_dir),
            "DATABASE_URL": where.database_url,
            "DEAD_LETTERS": "file",
            "RETAIN_DAYS": "7",
        },
        cwd=where.data_dir,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "waits: our clock is " in done.stdout
    assert stored(world) == 5
    assert int(world.client.hget("{telemetry_stream}:audit", "retention_waiting_seconds") or 0) > YEAR / 2
