"""Days are dropped behind an audit: nothing that is not proven, and each event is counted as before."""

import datetime as dt
import functools
import logging
import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing
from dataclasses import astuple, replace
from typing import Any, Final

import pytest
from fakes import FakeClock
from integration.ops.test_proofs import KEYS, Killed, Made, World, delete_row, numbers_of, server, settings
from integration.producer.parts import Lines
from postgres import database as postgres_database
from postgres import rows_of
from samples import row
from servers import Server, eventually

from services.brokers.choice import operator_side
from services.brokers.redis.producing import publisher as publishing
from services.consumer.auditing import Auditor
from services.contract.consuming.retention import DAY_MS, Step
from services.contract.ids import time_of
from services.contract.producing.outgoing import Batch, Outgoing
from services.ops.audit.proving import accept_loss, prove
from services.ops.audit.result import Audit, Tally
from services.ops.audit.retaining import PublishedAgain, Retained, Told
from services.ops.audit.retaining import retain as really_retain
from services.ops.failures import CommandFailed
from services.runtime.settings import ConsumerSettings
from services.stores import proofs
from services.stores.choice import store_of
from services.stores.postgres.partitions import days, make_day
from services.stores.postgres.proving.retention import PostgresRetention
from services.stores.proofs import scope_of
from services.stores.retention import RetentionTables
from services.stores.retention_pages import PagedRetention
from services.stores.sqlite.retention import SQLiteRetention

__all__ = ["server", "settings"]
DAY: Final = 86_400.0
DROPPED: Final = "retention has dropped the others, so nobody can tell which"

retain: Final = functools.partial(really_retain, clocks=lambda *_: [Told("a server of that time", 1e11)])
"""Time passes for the pipeline alone here. See test_retention_clocks.py."""


@pytest.fixture
def world(server: Server, settings: ConsumerSettings) -> Iterator[World]:
    """Give an empty one, whose rows find the partitions of their days."""
    with closing(server.client()) as client, closing(World(settings, client)) as one:
        make_days(one, 12)
        yield one


def make_days(world: World, number: int) -> None:
    """Make the partitions of the days from now on, as the keeper does."""
    if not world.settings.database_url:
        return
    with closing(postgres_database(world.settings.database_url).connect()) as connection:
        began = dt.datetime.fromtimestamp(world.clock.now(), dt.UTC).date() - dt.timedelta(days=1)
        for at in range(number):
            make_day(connection, began + dt.timedelta(days=at))


def drop(world: World, retain_days: int = 1) -> Retained:
    """Audit and drop, and expect what is gone of old days to be expired."""
    result = prove(world.settings, now=world.clock.now)
    done = retain(replace(world.settings, retain_days=retain_days), result, now=world.clock.now)
    assert done is not None
    see_expired(world, retain_days, is_whole=not done.waits)
    return done


def see_expired(world: World, retain_days: int = 1, *, is_whole: bool) -> None:
    """See that rows are gone of old days alone; `is_whole`: and all of them."""
    before_ms = (int(world.clock.now() * 1000) - retain_days * DAY_MS) // DAY_MS * DAY_MS
    there = {str(one.event_id): one for one in world.events if one.place == "stored"}
    with closing(store_of(world.settings).open_rows()) as rows:
        gone = set(rows.missing_of(list(there)))
    for event_id, one in there.items():
        is_old = event_id[14] in "78" and time_of(event_id) < before_ms
        assert event_id not in gone or is_old or event_id[14] == "4", one
        assert not (is_whole and is_old) or event_id in gone, one
        if event_id in gone:
            one.place = "expired"


def stored(world: World) -> int:
    """Count the rows that are there."""
    with closing(store_of(world.settings).open_rows()) as rows:
        return rows.count()


def test_the_older_of_two_days_is_dropped(world: World) -> None:
    """And all is accounted for, by each audit, whatever the ids."""
    bench = world.producer()
    world.store(*world.publish(bench, *["numbered"] * 30, *["foreign"] * 20))
    world.bury(*world.publish(bench, "numbered", "foreign", "nameless"))
    world.later(DAY)
    world.store(*world.publish(bench, *["numbered"] * 7, *["foreign"] * 5))
    world.later(DAY)
    assert drop(world) == Retained(50, 1, done_before(world))
    assert stored(world) == 12
    world.both()
    assert world.tally() == Counter(expired=50, stored=12, dead=3)
    assert drop(world) == Retained(0, 0, done_before(world))
    world.both()


def done_before(world: World) -> str:
    """Name the first day that stays."""
    return (dt.datetime.fromtimestamp(world.clock.now(), dt.UTC).date() - dt.timedelta(days=1)).isoformat()


def test_zero_days_keep_all(world: World) -> None:
    """The default: nothing is ever dropped."""
    world.store(*world.publish(world.producer(), *["numbered"] * 3))
    world.later(400 * DAY)
    result = prove(world.settings, now=world.clock.now)
    assert world.settings.retain_days == 0
    assert retain(world.settings, result, now=world.clock.now) is None
    assert stored(world) == 3


def test_a_loss_holds_retention_up_until_it_is_accepted(world: World) -> None:
    """No row of the days from then on goes, though the others are proven."""
    bench = world.producer()
    made = world.publish(bench, *["numbered"] * 10)
    world.store(*made[:4], *made[5:])
    world.lose(made[4])
    world.later(3 * DAY)
    done = drop(world)
    assert "missing" in done.waits
    assert done.rows == 0
    assert done.waiting_seconds >= DAY / 2
    assert stored(world) == 9
    world.both()
    accept_loss(world.settings, bench.run.name, "the disk of the sensor", now=world.clock.now)
    made[4].place = "accepted"
    assert drop(world).rows == 9
    world.both()
    assert world.tally() == Counter(expired=9, accepted=1)


def test_the_last_number_that_is_missing_holds_up_as_well(world: World) -> None:
    """All rows that are there are proven, and their day stays."""
    bench = world.producer()
    made = world.publish(bench, *["numbered"] * 5)
    world.store(*made[:4])
    world.lose(made[4])
    world.later(3 * DAY)
    assert drop(world).waits
    assert stored(world) == 4


def test_a_loss_behind_the_proof_holds_up_from_then_on(world: World) -> None:
    """A row was deleted by hand: --full finds it, and each audit after it holds its day."""
    bench = world.producer()
    made = world.publish(bench, *["numbered"] * 5)
    world.store(*made)
    world.later(3 * DAY)
    world.audit()
    delete_row(world, made[4])
    made[4].place = "missing"
    world.audit(full=True)
    for _ in range(2):
        world.later(3600)
        assert "missing" in drop(world).waits
        assert stored(world) == 4
    accept_loss(world.settings, bench.run.name, "deleted by hand", now=world.clock.now)
    made[4].place = "accepted"
    assert drop(world).rows == 4
    world.both()


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (
            "numbered",
            f"1 of the 5 events with the numbers 1 to 5: {DROPPED}",
        ),
        ("foreign", "1 events whose ids nobody knows any more"),
    ],
)
def test_a_loss_among_what_is_dropped_is_named_and_closed(world: World, kind: str, named: str) -> None:
    """A row was deleted by hand behind its proof, and the rows of its day have gone since."""
    made = hide(world, kind)
    name = made.run
    with pytest.raises(CommandFailed, match="is closed with --full --accept"):
        accept_loss(world.settings, name, "deleted by hand", now=world.clock.now)
    (run,) = world.audit(full=True).runs
    assert run.missing == [named]
    close(world, made, kind, full=True)


@pytest.mark.parametrize("kind", ["numbered", "foreign"])
def test_a_loss_among_what_is_dropped_holds_up_until_it_is_accepted(world: World, kind: str) -> None:
    """Each audit names it once an audit of everything has found it, and no day goes, whatever came since."""
    made = hide(world, kind)
    world.audit(full=True)
    for _ in range(2):
        world.later(3 * DAY)
        done = drop(world)
        assert "missing" in done.waits
        assert done.rows == 0
        (run,) = world.both().runs
        assert run.missing
    (run,) = world.audit().runs
    assert run.missing == [
        f"1 of the events with the numbers up to 5: {DROPPED} (--full says which numbers they are among)"
        if kind == "numbered"
        else "1 events whose ids nobody knows any more"
    ]
    close(world, made, kind, full=False)


@pytest.mark.parametrize("kind", ["numbered", "foreign"])
def test_a_loss_that_comes_back_holds_nothing_up(world: World, kind: str) -> None:
    """Its row was restored from a backup: the next audit of everything finds it."""
    made = hide(world, kind)
    world.audit(full=True)
    world.sink.write([row(event_id=made.event_id, device_id="d", zone="z")])
    made.place = "stored"
    world.audit(full=True)
    world.later(2 * 3600)
    world.both()
    assert drop(world).rows == 1
    world.both()


@pytest.mark.parametrize("is_accepted", [False, True])
def test_the_version_before_writes_its_proofs_beside_a_hidden_loss(
    world: World, monkeypatch: pytest.MonkeyPatch, is_accepted: bool
) -> None:
    """It knows nothing of the columns, and keeps them; what it has accepted is accepted."""
    made = hide(world, "numbered")
    world.audit(full=True)
    world.later(DAY / 2)
    world.store(*world.publish(world.benches[0], "numbered"))
    with monkeypatch.context() as before:
        columns = [name for name in proofs._RUN_COLUMNS if name not in proofs.NEWEST]
        before.setattr(proofs, "_RUN_COLUMNS", tuple(columns))
        before.setattr(proofs, "astuple", lambda one: astuple(one)[: len(columns)])
        if is_accepted:
            accept_loss(world.settings, made.run, "by the version before", now=world.clock.now, full=True)
            made.place = "accepted"
        else:
            assert prove(world.settings, now=world.clock.now).is_kept
        world.store(*world.publish(world.producer(), "numbered"))
        assert prove(world.settings, now=world.clock.now).is_kept
    world.both()
    world.later(3 * DAY)
    assert bool(drop(world).waits) != is_accepted


@pytest.mark.parametrize("step", ["write", "accept"])
@pytest.mark.parametrize("is_before", [True, False], ids=["before", "behind"])
def test_a_hidden_loss_is_found_and_closed_whole_or_not_at_all(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str, is_before: bool
) -> None:
    """The process ends between the statements that write it, or behind them: the next one does all of it."""
    made = hide(world, "numbered")
    if step == "accept":
        world.audit(full=True)
    original: Any = getattr(proofs.ProofTables, step)

    def end(self: Any, *arguments: Any) -> Any:
        if is_before:
            monkeypatch.setattr(self, "_ask", ends_at_last(self._ask))
        original(self, *arguments)
        raise Killed

    audit: Any = functools.partial(prove, world.settings, full=True, now=world.clock.now)
    accept: Any = functools.partial(accept_loss, world.settings, made.run, "by hand", now=world.clock.now)
    with monkeypatch.context() as patch:
        patch.setattr(proofs.ProofTables, step, end)
        with pytest.raises(Killed):
            (audit if step == "write" else accept)()
    assert prove(world.settings, now=world.clock.now).total.missing == (step == "accept")
    world.audit(full=True)
    close(world, made, "numbered", full=False)


def ends_at_last(ask: Any) -> Any:
    """Ask, and end the process at the statement that writes a run."""

    def dressed(text: str, values: Any) -> Any:
        if "proven_runs" in text and not text.startswith("SELECT"):
            raise Killed
        return ask(text, values)

    return dressed


def hide(world: World, kind: str) -> Made:
    """Delete a row behind its proof, and have retention drop the rest of its day; gives its event."""
    bench = world.producer()
    made = world.publish(bench, *[kind] * 5)
    world.store(*made)
    world.later(2 * 3600)
    world.audit()
    delete_row(world, made[2])
    world.later(3 * DAY)
    world.store(*world.publish(bench, *[kind] * 2))
    # Nobody knows of it so far: it counts as stored.
    assert drop(world).rows == 4
    made[2].place = "missing"
    return made[2]


def close(world: World, made: Made, kind: str, *, full: bool) -> None:
    """Accept a hidden loss, and see that days go again."""
    accept_loss(world.settings, made.run, "deleted by hand", now=world.clock.now, full=full)
    made.place = "accepted"
    world.both()
    (loss,) = world.known().accepted
    assert (loss.events, loss.hidden, loss.proven_ids) == (1, kind == "numbered", kind == "foreign")
    world.later(3 * DAY)
    assert drop(world).rows == 2
    world.both()
    assert world.tally() == Counter(expired=6, accepted=1)


def test_a_dropped_row_that_comes_back_takes_no_place_of_a_closed_loss(world: World) -> None:
    """It goes again, counts once, and what is missing later is missing."""
    hidden = hide(world, "numbered")
    world.audit(full=True)
    accept_loss(world.settings, hidden.run, "deleted by hand", now=world.clock.now)
    hidden.place = "accepted"
    back = next(one for one in world.events if one.place == "expired")
    world.later(2 * 3600)
    world.sink.write([row(event_id=back.event_id, device_id="d", zone="z")])
    back.place = "stored"
    assert drop(world).rows == 1
    assert world.known().runs[hidden.run].expired == 4
    world.both()
    gone = next(one for one in world.events if one.place == "stored")
    delete_row(world, gone)
    world.later(3 * DAY)
    assert drop(world).rows == 1
    gone.place = "missing"
    world.audit(full=True)


def test_two_hidden_losses_of_a_run_are_both_closed(world: World) -> None:
    """One after the other: the second takes no place of the first."""
    first = hide(world, "numbered")
    world.audit(full=True)
    accept_loss(world.settings, first.run, "deleted by hand", now=world.clock.now)
    first.place = "accepted"
    world.later(2 * 3600)
    world.both()
    second = next(one for one in world.events if one.place == "stored")
    delete_row(world, second)
    world.later(3 * DAY)
    assert drop(world).rows == 1
    second.place = "missing"
    world.audit(full=True)
    accept_loss(world.settings, second.run, "deleted by hand", now=world.clock.now)
    second.place = "accepted"
    world.both()


def test_a_hidden_loss_that_was_closed_and_comes_back_is_stored(world: World) -> None:
    """Its row was restored from a backup: an audit of everything counts it once."""
    made = hide(world, "numbered")
    world.audit(full=True)
    accept_loss(world.settings, made.run, "deleted by hand", now=world.clock.now)
    world.sink.write([row(event_id=made.event_id, device_id="d", zone="z")])
    made.place = "stored"
    world.audit(full=True)
    world.audit(full=True)


def test_a_letter_whose_loss_is_closed_takes_no_place_of_a_dropped_row(world: World) -> None:
    """It is one event: a row that comes back beside new ones hides none of these."""
    bench = world.producer()
    made = world.publish(bench, *["numbered"] * 6)
    world.store(*made[:5])
    world.bury(made[5])
    world.later(2 * 3600)
    world.both()
    world.settings.dead_letter_file.unlink()
    accept_loss(world.settings, bench.run.name, "its disk died", now=world.clock.now)
    made[5].place = "accepted"
    world.later(3 * DAY)
    assert drop(world).rows == 5
    late = world.publish(bench, *["numbered"] * 10, skew_ms=-3 * DAY_MS)
    world.store(*late)
    world.sink.write([row(event_id=made[0].event_id, device_id="d", zone="z")])
    made[0].place = "stored"
    world.later(2 * 3600)
    assert drop(world).rows == 11
    assert world.known().runs[bench.run.name].expired == 15
    world.both()


@pytest.mark.parametrize("full", [False, True])
def test_a_lost_letter_among_what_is_dropped_keeps_its_number(world: World, *, full: bool) -> None:
    """It had no row, so nobody dropped it: whichever audit looks names it, and closes it."""
    bench = world.producer()
    made = world.publish(bench, *["numbered"] * 6)
    world.store(*made[:1], *made[3:])
    world.bury(*made[1:3])
    world.later(3 * DAY)
    assert drop(world).rows == 4
    path = world.settings.dead_letter_file
    letters = path.read_bytes()
    path.write_bytes(letters.splitlines(keepends=True)[1])
    made[1].place = "missing"
    for _ in range(2):
        for is_full in (False, True):
            (run,) = world.audit(full=is_full).runs
            assert run.missing == [f"*-{bench.run.name}{2:09x}"]
    assert world.known().runs[bench.run.name].hidden == 0
    accept_loss(world.settings, bench.run.name, "its disk died", full=full, now=world.clock.now)
    made[1].place = "accepted"
    world.both()
    world.both()
    (loss,) = world.known().accepted
    assert (loss.events, loss.hidden, list(loss.numbers)) == (1, 0, [(2, 2)])
    path.write_bytes(letters)
    made[1].place = "dead"
    world.both()


def test_a_lost_letter_and_a_hidden_loss_are_told_apart(world: World) -> None:
    """One has its number, and of the other only how many of the numbers beside it are gone is known."""
    bench = world.producer()
    made = world.publish(bench, *["numbered"] * 6)
    world.store(*made[:1], *made[2:])
    world.bury(made[1])
    world.later(2 * 3600)
    world.audit()
    delete_row(world, made[4])
    world.later(3 * DAY)
    assert drop(world).rows == 4
    world.settings.dead_letter_file.unlink()
    made[1].place = made[4].place = "missing"
    (run,) = world.audit(full=True).runs
    assert run.missing == [
        f"*-{bench.run.name}{2:09x}",
        f"1 of the 5 events with the numbers 1, 3 to 6: {DROPPED}",
    ]
    world.both()
    accept_loss(world.settings, bench.run.name, "by hand", now=world.clock.now)
    made[1].place = made[4].place = "accepted"
    world.both()


@pytest.mark.parametrize("kind", ["numbered", "foreign", "nameless"])
def test_a_lost_letter_holds_up_until_it_is_accepted(world: World, kind: str) -> None:
    """Its event is missing, so its day stays; one without a readable id may be of any."""
    bench = world.producer()
    made = world.publish(bench, *["numbered"] * 4, kind)
    world.store(*made[:4])
    world.bury(made[4])
    world.later(2 * 3600)
    world.both()
    world.settings.dead_letter_file.unlink()
    made[4].place = "missing"
    world.later(3 * DAY)
    for _ in range(2):
        done = drop(world)
        assert (done.rows, "missing" in done.waits) == (0, True)
    accept_loss(world.settings, bench.run.name, "its disk died", now=world.clock.now)
    made[4].place = "accepted"
    assert drop(world).rows == 4
    world.both()


def test_a_closed_loss_of_a_run_is_closed_in_no_other_ones_place(world: World) -> None:
    """Of ids that neither has numbered nobody can tell whose row was deleted, or dropped."""
    benches = sorted((world.producer(), world.producer()), key=lambda one: one.run.name)
    made = [world.publish(bench, *["foreign"] * 5) for bench in benches]
    world.store(*made[0], *made[1])
    world.later(2 * 3600)
    world.audit()
    delete_row(world, made[0][2])
    made[0][2].place = "missing"
    (name,) = [one.run for one in world.audit(full=True).runs if one.missing]
    assert name == benches[0].run.name, "the first by its name, and its rows are dropped first"
    accept_loss(world.settings, name, "deleted by hand", now=world.clock.now)
    made[0][2].place = "accepted"
    world.both()
    world.later(3 * DAY)
    world.store(*world.publish(benches[0], "numbered"))
    assert drop(world).rows == 9
    world.both()
    assert world.tally() == Counter(expired=9, accepted=1, stored=1)


def test_days_before_a_loss_go(world: World) -> None:
    """What is missing was published after the last audit, and holds up no day before."""
    bench = world.producer()
    world.store(*world.publish(bench, *["numbered"] * 10))
    world.later(2 * DAY)
    world.audit()
    made = world.publish(bench, *["numbered"] * 3)
    world.store(*made[1:])
    world.lose(made[0])
    world.later(2 * DAY)
    done = drop(world)
    assert done.rows == 10
    assert done.waits
    assert stored(world) == 2
    world.both()


@pytest.mark.parametrize("kind", ["numbered", "foreign"])
def test_what_was_stored_since_the_audit_waits(world: World, kind: str) -> None:
    """Rows of old ids, numbered or not, that came between the audit and the drop, are not proven."""
    bench = world.producer()
    late = world.publish(bench, kind, kind)
    world.later(3 * DAY)
    result = prove(world.settings, now=world.clock.now)
    world.store(*late)
    done = retain(replace(world.settings, retain_days=1), result, now=world.clock.now)
    assert done is not None
    assert done.waits
    assert stored(world) == 2
    world.later(2 * 3600)
    world.audit()
    assert drop(world).rows == 2
    world.both()


def test_one_row_that_came_since_the_audit_holds_all_of_its_day(world: World) -> None:
    """The others of it were stored before, and are of ids that no run has numbered as well."""
    bench = world.producer()
    made = world.publish(bench, *["foreign"] * 3)
    world.store(*made[:2])
    world.later(3 * DAY)
    result = prove(world.settings, now=world.clock.now)
    world.store(made[2])
    see_that_it_waits(world, result, "no audit of")
    world.later(2 * 3600)
    assert drop(world).rows == 3
    world.both()


def test_rows_behind_the_last_number_that_was_met_wait(world: World) -> None:
    """Published and stored since the audit, with ids of a day whose other rows are proven."""
    bench = world.producer()
    world.store(*world.publish(bench, *["numbered"] * 3))
    world.later(3 * DAY)
    result = prove(world.settings, now=world.clock.now)
    world.store(*world.publish(bench, *["numbered"] * 2, skew_ms=-3 * DAY_MS))
    see_that_it_waits(world, result, "no audit of")
    world.later(2 * 3600)
    assert drop(world).rows == 5
    world.both()


def test_the_first_row_behind_an_open_id_waits(world: World) -> None:
    """It is stored, and not proven as long as the id before it waits: nothing newer has to be there."""
    made = world.publish(world.producer(), *["foreign"] * 2)
    world.store(made[1])
    world.later(3 * DAY)
    result = prove(world.settings, now=world.clock.now)
    see_that_it_waits(world, result, "no audit of")
    world.store(made[0])
    world.later(2 * 3600)
    assert drop(world).rows == 2
    world.both()


def test_rows_of_a_run_that_another_group_has_not_met_wait_for_it(world: World) -> None:
    """Its numbers say nothing there: they go by when they were stored."""
    second = replace(world.settings, group_name="second")
    world.client.xgroup_create(KEYS.stream, second.group_name, "0")
    world.store(*world.publish(world.producer(), "numbered"))
    world.later(3 * DAY)
    assert prove(second, now=world.clock.now).is_kept
    world.store(*world.publish(world.producer(), *["numbered"] * 2, skew_ms=-3 * DAY_MS))
    result = prove(world.settings, now=world.clock.now)
    see_that_it_waits(world, result, "group second has met")
    world.later(2 * 3600)
    assert prove(second, now=world.clock.now).is_kept
    assert drop(world).rows == 3


def test_a_proof_of_a_version_that_writes_no_holds_drops_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holds that are there are of the proof before, and know nothing of what is missing since."""
    bench = world.producer()
    world.store(*world.publish(bench, *["numbered"] * 2))
    world.later(3 * DAY)
    world.audit()
    original: Any = proofs.ProofTables.write

    def write(self: Any, *arguments: Any) -> Any:
        ask = self._ask
        self._ask = lambda text, values: [] if "retention_holds" in text else ask(text, values)
        return original(self, *arguments)

    made = world.publish(bench, *["numbered"] * 2)
    world.store(made[1])
    world.lose(made[0])
    with monkeypatch.context() as before:
        before.setattr(proofs.ProofTables, "write", write)
        result = prove(world.settings, now=world.clock.now)
    assert result.is_kept
    see_that_it_waits(world, result, "no audit since")


def test_rows_without_a_time_wait_for_a_loss(world: World) -> None:
    """They may be of its day, whichever that is."""
    bench = world.producer()
    now = world.clock.now()
    ids = [f"12341234-1234-4abc-8def-{number:012x}" for number in range(1, 4)]
    made = [Made(one, bench.run.name) for one in ids]
    publish_ids(world, made)
    for one in made:
        world.sink.write([row(event_id=one.event_id, device_id="d", zone="z", ts=now)])
        world._place(one, "stored")
    world.lose(*world.publish(bench, "numbered"))
    world.later(3 * DAY)
    result = prove(world.settings, now=world.clock.now)
    see_that_it_waits(world, result, "missing")
    accept_loss(world.settings, bench.run.name, "lost", now=world.clock.now)
    world.events[-1].place = "accepted"
    prove(world.settings, now=world.clock.now)
    assert drop(world).rows == 3
    world.both()


def see_that_it_waits(world: World, result: Audit, why: str) -> None:
    """Drop behind an audit that was made, and see that nothing goes, and why."""
    before = stored(world)
    done = retain(replace(world.settings, retain_days=1), result, now=world.clock.now)
    assert done is not None
    assert (done.rows, stored(world)) == (0, before)
    assert why in done.waits


def test_rows_of_no_run_hold_nothing_back(world: World) -> None:
    """They are counted apart, and less of them are after the drop."""
    bench = world.producer()
    world.store(*world.publish(bench, *["numbered"] * 3))
    at = int(world.clock.now() * 1000)
    text = f"{at:012x}"
    strangers = [f"{text[:8]}-{text[8:]}-7aaa-8bbb-ccc{number:09x}" for number in range(1, 5)]
    world.sink.write([row(event_id=one, device_id="d", zone="z") for one in strangers])
    world.later(3 * DAY)
    assert prove(world.settings, now=world.clock.now).unrecorded.stored == 4
    assert drop(world).rows == 7
    for full in (False, True):
        result = prove(world.settings, full=full, now=world.clock.now)
        assert (result.total.missing, result.total.expired, result.unrecorded.stored) == (0, 3, 0)


def test_rows_of_no_run_that_stay_are_counted_as_before(world: World) -> None:
    """A number 0 is no run's, and its row goes; the proven ids that go with it are taken for no such row."""
    bench = world.producer()
    world.store(*world.publish(bench, "numbered", *["foreign"] * 3))
    store_strangers(world, f"{bench.run.name}{0:09x}")
    world.later(2 * DAY)
    store_strangers(world, "7aaa-8bbb-ccc000000001", "7aaa-8bbb-ccc000000002")
    world.later(2 * 3600)
    assert prove(world.settings, now=world.clock.now).unrecorded.stored == 3
    assert drop(world).rows == 5
    for full in (False, True):
        assert prove(world.settings, full=full, now=world.clock.now).unrecorded.stored == 2


def store_strangers(world: World, *ends: str) -> None:
    """Store rows that no run has published: ids of now that end so."""
    text = f"{int(world.clock.now() * 1000):012x}"
    ids = [f"{text[:8]}-{text[8:]}-{end}" for end in ends]
    world.sink.write([row(event_id=one, device_id="d", zone="z") for one in ids])


@pytest.mark.parametrize("has_day", [True, False])
def test_ids_without_a_time_go_by_their_ts(world: World, has_day: bool) -> None:
    """Whatever they begin with, and wherever they lie."""
    bench = world.producer()
    now = world.clock.now()
    head = f"{int(now * 1000):012x}" if has_day else "123412341234"
    ids = [f"{head[:8]}-{head[8:]}-4abc-8def-{number:012x}" for number in range(1, 6)]
    made = [Made(one, bench.run.name) for one in ids]
    publish_ids(world, made)
    for one, ts in zip(made, (now - DAY, now - DAY, now, now + 2.5 * DAY, now + 2.5 * DAY), strict=True):
        world.sink.write([row(event_id=one.event_id, device_id="d", zone="z", ts=ts)])
        world._place(one, "stored")
    world.later(2.5 * DAY)
    world.audit()
    prove(world.settings, now=world.clock.now)
    assert drop(world).rows == 3
    assert [one.place for one in made] == ["expired"] * 3 + ["stored"] * 2
    world.both()


def publish_ids(world: World, made: list[Made]) -> None:
    """Publish events whose run did not number them."""
    bench = world.benches[0]
    before = world.client.xinfo_stream("telemetry_stream")["last-generated-id"]
    bench.publisher.publish(
        Batch(
            [
                Outgoing(
                    (str(one.event_id), "d", "z", "1800000000.5", "humidity", "42.25"),
                    None,
                    bytes.fromhex(str(one.event_id).replace("-", "")),
                    is_plain=True,
                )
                for one in made
            ]
        )
    )
    entries: Any = world.client.xrange("telemetry_stream", f"({before.decode()}", "+")
    for one, (entry_id, _) in zip(made, entries, strict=True):
        one.entry_id = entry_id
        world.events.append(one)
        world.by_id[str(one.event_id)] = one
        world.waiting.setdefault(str(one.event_id), []).append(entry_id)


def test_a_letter_that_is_replayed_after_its_proof_is_dropped_with_its_day(world: World) -> None:
    """It counts once, and again once where it is replayed after that."""
    bench = world.producer()
    made = world.publish(bench, *["numbered"] * 4, *["foreign"] * 4)
    world.store(*made[1:4], *made[5:])
    world.bury(made[0], made[4])
    world.later(2 * 3600)
    world.audit()
    world.store(made[0], made[4])
    world.later(3 * DAY)
    assert drop(world).rows == 8
    assert_counted(world)
    assert world.known().without_row == {}
    world.sink.write([row(event_id=made[0].event_id, device_id="d", zone="z")])
    world.later(DAY)
    assert drop(world).rows == 1
    assert world.known().runs[bench.run.name].expired == 4
    assert_counted(world)


def test_a_replayed_letter_takes_no_place_of_a_lost_row(world: World) -> None:
    """A consumer whose clock is behind has stored it, and a row of its day was deleted, between audits."""
    made = world.publish(world.producer(), *["foreign"] * 6)
    world.store(*made[1:])
    world.bury(made[0])
    world.later(3 * DAY)
    result = prove(world.settings, now=world.clock.now)
    world.later(-2 * DAY)
    world.store(made[0])
    world.later(2 * DAY)
    delete_row(world, made[3])
    done = retain(replace(world.settings, retain_days=1), result, now=world.clock.now)
    assert done is not None
    assert done.rows == 5
    assert world.known().runs[made[0].run].expired_ids == 5
    see_expired(world, is_whole=True)
    made[3].place = "missing"
    assert numbers_of(prove(world.settings, full=True, now=world.clock.now).total) == world.tally()


def test_ids_that_only_another_group_knows_are_remembered_for_it(world: World) -> None:
    """Nobody asks its broker which of them come again; an id with a number is its run's, and needs it not."""
    second = replace(world.settings, group_name="second")
    world.client.xgroup_create(KEYS.stream, second.group_name, "0")
    bench = world.producer()
    made = world.publish(bench, *["numbered"] * 3, *["foreign"] * 3)
    world.store(*made)
    world.later(3 * DAY)
    assert prove(second, now=world.clock.now).is_kept
    assert drop(world).rows == 6
    remembered = store_of(second).open_proofs().read().without_row
    assert remembered == {str(one.event_id): "" for one in made[3:]}
    assert world.known().without_row == {}
    world.publish(bench, "again")
    assert prove(second, now=world.clock.now).total.published == 6


def test_an_id_that_is_remembered_is_no_letter(world: World) -> None:
    """Its row is back, as from a backup, and goes again: it stays remembered, and the rows are its run's."""
    made = world.publish(world.producer(), *["foreign"] * 3)
    world.store(*made)
    world.later(3 * DAY)
    world.audit()
    remember(world, made[0])
    before_ms = (int(world.clock.now() * 1000) // DAY_MS - 1) * DAY_MS
    steps = store_of(world.settings).open_retention().drop(before_ms, lambda: ())
    assert sum(one.rows for one in steps if isinstance(one, Step)) == 3
    known = world.known()
    assert known.without_row == {made[0].event_id: ""}
    assert known.runs[made[0].run].expired_ids == 3


def remember(world: World, one: Made) -> None:
    """Note that an event's row went before, and its id may come again."""
    values = (*scope_of(world.settings), one.event_id)
    if world.settings.database_url:
        text = "INSERT INTO telemetry.proven_without_row VALUES (%s, %s, %s, %s, '') RETURNING 1"
        rows_of(world.settings.database_url, text, *values)
        return
    with closing(sqlite3.connect(world.settings.database)) as connection, connection:
        connection.execute("INSERT INTO proven_without_row VALUES (?, ?, ?, ?, '')", values)


def test_a_letter_that_is_replayed_between_the_audit_and_the_drop_counts_once(world: World) -> None:
    """Its number is proven, so its row goes with the day, and it is no event without a row any more."""
    made = world.publish(world.producer(), *["numbered"] * 3)
    world.store(*made[1:])
    world.bury(made[0])
    world.later(3 * DAY)
    result = prove(world.settings, now=world.clock.now)
    world.store(made[0])
    done = retain(replace(world.settings, retain_days=1), result, now=world.clock.now)
    assert done is not None
    assert done.rows == 3
    see_expired(world, is_whole=True)
    world.both()
    assert world.tally() == Counter(expired=3)


def assert_counted(world: World) -> None:
    """Audit what came since, and all; a letter that is kept is one of an id that no run tells of by now."""
    for full in (False, True):
        result = prove(world.settings, full=full, now=world.clock.now)
        assert numbers_of(result.total) == world.tally()
        assert result.unrecorded == Tally(published=1, dead=1)


def test_an_id_that_comes_again_beside_the_drop_is_no_further_event(world: World) -> None:
    """A file is replayed, its copy is found to be stored, and then the row goes."""
    bench = world.producer()
    made = world.publish(bench, *["foreign"] * 3)
    world.store(*made)
    world.later(3 * DAY)
    result = prove(world.settings, now=world.clock.now)
    before_ms = (int(world.clock.now() * 1000) // DAY_MS - 1) * DAY_MS
    with closing(operator_side(world.settings)) as broker:
        again = PublishedAgain(broker, result)
        steps = (
            store_of(world.settings)
            .open_retention()
            .drop(before_ms, lambda: published_meanwhile(world, again))
        )
        assert sum(one.rows for one in steps if isinstance(one, Step)) == 3
    for one in made:
        one.place = "expired"
    world.later(3600)
    world.audit()
    world.later(3600)
    world.both()
    assert world.known().without_row == {}


def published_meanwhile(world: World, again: PublishedAgain) -> Collection[str]:
    """Publish an id again, and have it acknowledged as a duplicate, at the last moment."""
    (copy,) = world.publish(world.benches[0], "again")
    world._ack(copy)
    return again()


def test_two_at_once_drop_each_row_once(world: World) -> None:
    """And count it once, beside an audit of everything."""
    bench = world.producer()
    for _ in range(3):
        world.store(*world.publish(bench, *["numbered"] * 20, *["foreign"] * 20))
        world.later(DAY)
    world.later(DAY)
    result = prove(world.settings, now=world.clock.now)
    done: list[Retained | None] = []
    wanted = replace(world.settings, retain_days=1)
    threads = [
        threading.Thread(target=lambda: done.append(retain(wanted, result, now=world.clock.now)))
        for _ in range(2)
    ]
    for one in threads:
        one.start()
    audits = [prove(world.settings, full=full, now=world.clock.now) for full in (False, True, True)]
    for one in threads:
        one.join()
    assert [one.total.missing for one in audits] == [0, 0, 0]
    drop(world)
    world.both()
    assert world.tally()["expired"] == 120


def test_an_audit_that_read_before_a_drop_writes_nothing(world: World) -> None:
    """Its counts are of rows that are gone."""
    bench = world.producer()
    world.store(*world.publish(bench, *["numbered"] * 5, *["foreign"] * 5))
    world.later(3 * DAY)
    world.audit()
    before = prove(world.settings, keeps=False, now=world.clock.now)
    done = retain(replace(world.settings, retain_days=1), before, now=world.clock.now)
    assert done is not None
    assert done.rows == 10
    see_expired(world, is_whole=True)
    assert store_of(world.settings).open_proofs().write(before.proof, before.known.generation)
    world.both()


def test_a_pipeline_that_no_audit_has_met_holds_its_rows(world: World) -> None:
    """Its consumers have said that they write here: who shares the database waits for its first audit."""
    bench = world.producer()
    world.store(*world.publish(bench, *["numbered"] * 5))
    other = replace(world.settings, pipeline_name="other")
    store_of(other).open_sink(world.clock, logging.getLogger("test")).close()
    world.later(3 * DAY)
    done = drop(world)
    assert (done.rows, "pipeline other" in done.waits) == (0, True)
    assert stored(world) == 5


def test_an_empty_partition_is_removed(world: World) -> None:
    """So that plans don't get longer for ever."""
    if not world.settings.database_url:
        pytest.skip("the other store has no partitions")
    world.store(*world.publish(world.producer(), *["numbered"] * 5))
    world.later(3 * DAY)
    with closing(postgres_database(world.settings.database_url).connect()) as connection:
        before = days(connection)
        drop(world)
        after = days(connection)
    assert len(before) - len(after) == 3
    assert rows_of(world.settings.database_url, "SELECT count(*) FROM telemetry.events") == [(0,)]


def test_an_empty_partition_that_is_in_the_way_of_nobody_is_removed_later(world: World) -> None:
    """While a batch is written the table can't be locked: that is no reason to say that retention waits."""
    if not world.settings.database_url:
        pytest.skip("the other store has no partitions")
    world.store(*world.publish(world.producer(), *["numbered"] * 5))
    world.later(3 * DAY)
    database = postgres_database(world.settings.database_url)
    with closing(database.connect()) as connection, closing(database.connect()) as writing:
        before = days(connection)
        with writing.transaction():
            writing.execute("LOCK TABLE ONLY telemetry.events IN ROW EXCLUSIVE MODE")
            done = drop(world)
        assert (done.rows, done.waits, days(connection)) == (5, "", before)
        done = drop(world)
        assert (done.rows, done.waits, len(before) - len(days(connection))) == (0, "", 3)


POINTS: Final = [("judge", True), ("count", True), ("count", False), ("took", False), ("delete", True)]


@pytest.mark.parametrize(("step", "is_before"), POINTS, ids=[f"{a}-{b}" for a, b in POINTS])
@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("has_days", [True, False])
def test_a_drop_that_is_killed_at_any_step_loses_nothing(
    server: Server, settings: ConsumerSettings, step: str, is_before: bool, nth: int, has_days: bool
) -> None:
    """Kill -9: what is gone is counted, what is counted is gone, and the next one does the rest."""
    if not (settings.database_url or has_days):
        pytest.skip("this store has no partitions")
    with closing(server.client()) as client, closing(World(settings, client)) as world:
        if has_days:
            make_days(world, 6)
        bench = world.producer()
        for _ in range(2):
            world.store(*world.publish(bench, *["numbered"] * 8, *["foreign"] * 8))
            world.bury(*world.publish(bench, "numbered"))
            world.later(DAY)
        world.later(DAY)
        result = prove(world.settings, now=world.clock.now)
        child = os.fork()
        if child == 0:
            kill_at(step, nth, is_before=is_before)
            PagedRetention.rows_a_step = SQLiteRetention.rows_a_step = 5
            PostgresRetention.rows_a_page = 5
            retain(replace(settings, retain_days=1), result, now=world.clock.now)
            os._exit(0)
        os.waitpid(child, 0)
        see_expired(world, is_whole=False)
        world.both()
        drop(world)
        world.both()
        assert world.tally() == Counter(expired=32, dead=2)


def kill_at(step: str, nth: int, *, is_before: bool) -> None:
    """Have this process kill itself when it comes to a step for the n-th time."""
    owner: Any = RetentionTables if hasattr(RetentionTables, step) else PagedRetention
    original = getattr(owner, step)
    left = [nth]

    def dressed(self: Any, *arguments: Any) -> Any:
        left[0] -= 1
        if is_before and not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        found = original(self, *arguments)
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, step, dressed)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_nothing_goes_that_is_not_proven(
    world: World, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Runs that overlap, end and are folded, letters that are replayed late or lost, over months."""
    monkeypatch.setattr(publishing, "CHUNK_IDS", 20)
    for store in (PagedRetention, SQLiteRetention):
        monkeypatch.setattr(store, "rows_a_step", 7)
    monkeypatch.setattr(PostgresRetention, "rows_a_page", 3)
    chance = random.Random(seed)
    waits: list[Made] = []
    buried: list[Made] = []
    world.producer()
    for step in range(50):
        others = ["replay", "purge", "spoil", "close", "later", "later", "end", "new", "skew", "drop"]
        kind = chance.choice(["publish"] * 4 + ["settle"] * 4 + others)
        if kind in {"publish", "skew"}:
            bench = chance.choice(world.benches[-3:])
            kinds = chance.choices(["numbered", "foreign", "nameless"], [6, 3, 1], k=chance.randrange(1, 9))
            waits += world.publish(bench, *kinds, skew_ms=-chance.randrange(10**9) if kind == "skew" else 0)
        elif kind == "settle":
            chance.shuffle(waits)
            some, waits = waits[: len(waits) // 2 + 1], waits[len(waits) // 2 + 1 :]
            for one in some:
                if one.event_id is None or chance.random() < 0.2:
                    world.bury(one)
                    buried.append(one)
                else:
                    world.store(one)
        elif kind == "replay" and buried:
            one = chance.choice(buried)
            if one.event_id is not None and one.place != "expired":
                world.store(one)
        elif kind == "purge" and buried:
            world.purge(buried.pop(chance.randrange(len(buried))))
        elif kind == "spoil" and buried:
            spoil(world, buried.pop(chance.randrange(len(buried))))
        elif kind == "close":
            close_losses(world)
        elif kind == "later":
            world.later(chance.choice([100, 10_000, 1.2 * DAY, 3 * DAY, 9 * DAY]))
        elif kind == "end":
            chance.choice(world.benches).publisher.end()
        elif kind == "new":
            world.producer()
        elif kind == "drop":
            drop(world, chance.randrange(1, 4))
        world.later(1)
        if step % 5 == 0:
            assert_sums(world)
    for one in waits:
        world.bury(one)
    world.later(9 * DAY)
    assert_sums(world)
    close_losses(world)
    assert not drop(world).waits
    assert_sums(world)
    assert world.tally()["expired"] > 0
    assert not world.tally()["stored"]


def spoil(world: World, one: Made) -> None:
    """Lose a letter from under everybody."""
    path = world.settings.dead_letter_file
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if b'"%s"' % one.entry_id not in line))
    if one.place == "dead":
        one.place = "missing"


def close_losses(world: World) -> None:
    """Accept all that is missing, of one run after the other."""

    def short() -> list[str]:
        runs = prove(world.settings, full=True, now=world.clock.now).runs
        return [one.run for one in runs if one.tally.missing]

    while runs := short():
        accept_loss(world.settings, runs[0], "lost", full=True, now=world.clock.now)
    for made in world.events:
        if made.place == "missing":
            made.place = "accepted"


def assert_sums(world: World) -> None:
    """Audit what came since, and all of it: each event is where it is known to be."""
    for full in (False, True):
        result = prove(world.settings, full=full, now=world.clock.now)
        assert numbers_of(result.total) == world.tally(), (full, result)
        assert result.unrecorded.stored == 0
        assert result.is_kept, result.notes


def test_consumers_audit_and_drop_by_themselves(
    server: Server, settings: ConsumerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two does, by the real command; a loss is told of, and so is what waits for it."""
    old = FakeClock(time.time() - 3 * DAY)
    with closing(server.client()) as client, closing(World(settings, client, old)) as world:
        bench = world.producer()
        world.store(*world.publish(bench, *["numbered"] * 5))
        for name, value in {
            "BROKER_URL": f"redis://{server.host}:{server.port}",
            "DATA_DIR": str(settings.data_dir),
            "DATABASE_URL": settings.database_url,
            "DEAD_LETTERS": "file",
            "RETAIN_DAYS": "1",
        }.items():
            monkeypatch.setenv(name, value)
        store = store_of(settings)
        store.open_sink(FakeClock(), logging.getLogger("test")).close()
        logs = Lines()
        logger = logging.getLogger("auditors")
        logger.setLevel(logging.INFO)
        logger.addHandler(logs)
        with ExitStack() as stack:
            for _ in range(2):
                auditor = Auditor(store.open_retention(), 30.0, time.time, logger)
                stack.enter_context(closing(auditor))
            eventually(lambda: logs.named("audited") or logs.named("audit_not_made"), 60, "an audit")
        assert [one.getMessage() for one in logs.records if one.levelno > logging.INFO] == []
        assert len(logs.named("audited")) == 1, "one audit serves both"
        (dropped,) = logs.named("days_dropped")
        assert vars(dropped)["rows"] == 5
        assert stored(world) == 0
        lost, *there = world.publish(bench, *["numbered"] * 3)
        world.store(*there)
        world.lose(lost)
        logs.records.clear()
        with closing(Auditor(store.open_retention(), 1.0, time.time, logger)):
            eventually(lambda: logs.named("retention_waits"), 60, "retention waits")
        assert bench.run.name in vars(logs.named("retention_waits")[0])["why"]
        assert world.client.hget(KEYS.audit, "missing") == b"1"
        assert int(world.client.hget(KEYS.audit, "retention_waiting_seconds") or 0) > DAY / 2


def test_one_of_many_makes_an_audit_and_again_after_the_interval(world: World) -> None:
    """Who has begun keeps the others from it, and so does who has proven anything, whoever that was."""
    store = store_of(world.settings)
    store.open_sink(world.clock, logging.getLogger("test")).close()
    one, other = store.open_retention(), store.open_retention()
    began = world.clock.now()
    assert one.claim_audit(began, 60)
    assert not other.claim_audit(began + 59, 60)
    assert other.claim_audit(began + 61, 60)
    world.store(*world.publish(world.producer(), "numbered"))
    world.later(200)
    world.audit()
    assert not one.claim_audit(began + 259, 60)
    assert one.claim_audit(began + 261, 60)
