"""Dead letters that a copy brings into a database: each comes once, and the newer mark or note counts."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from fakes import FakeClock
from postgres import LocalPostgres, database, rows_of, with_tables
from samples import dead
from servers import eventually

from services.stores.copying import Purge, Replay
from services.stores.postgres.copying.letters import PostgresCopiedLetters
from services.stores.postgres.dead_letters import PostgresDeadLetters

ENTRY = "1700000000000-1"
AT_US = 1_800_000_000_000_000


def letters_of(url: str, clock: FakeClock, pipeline: str = "here") -> PostgresDeadLetters:
    """Open the letters of a pipeline, beside the copy."""
    return PostgresDeadLetters(database(url), pipeline, "stream", clock.now)


def copied_of(url: str) -> PostgresCopiedLetters:
    """Open them for a copy."""
    return PostgresCopiedLetters(database(url), "here", "stream")


@pytest.fixture
def copied(url: str) -> Iterator[PostgresCopiedLetters]:
    """Give its letters, open for a copy."""
    with closing(copied_of(url)) as one:
        yield one


def test_the_newer_mark_stays_and_so_does_the_newer_note(copied: PostgresCopiedLetters) -> None:
    """Whichever of the two comes first; of one time the first that came."""
    for (seconds, name), stays in {
        (5, "b"): (5, "b"),
        (4, "a"): (5, "b"),
        (5, "z"): (5, "b"),
        (6, "c"): (6, "c"),
    }.items():
        at_us = AT_US + seconds * 1_000_000
        copied.mark([Replay(ENTRY, at_us, name)], [Purge(ENTRY, at_us, None, name, None)])
        newest_us, newest = AT_US + stays[0] * 1_000_000, stays[1]
        assert copied.replays() == {ENTRY: Replay(ENTRY, newest_us, newest)}
        assert copied.purges() == {ENTRY: Purge(ENTRY, newest_us, None, newest, None)}


def test_a_note_takes_the_letters_that_were_there_when_it_was_written(
    url: str, copied: PostgresCopiedLetters
) -> None:
    """Not one that came later, nor one of another pipeline, though its entry has the same id."""
    clock = FakeClock()
    with closing(letters_of(url, clock)) as box, closing(letters_of(url, clock, "there")) as other:
        for attempts in (1, 2, 3):
            box.put([dead(1, attempts=attempts)])
            other.put([dead(1, attempts=attempts), dead(2)])
            clock.elapsed += 1
        other.purge(["1700000000000-2"])
        box.put([dead(2)])
        copied.mark([], [Purge(ENTRY, AT_US + 1_000_000, None, "value_invalid", None)])
        assert [(one.entry_id[-1], one.attempts) for one in box.read()] == [("1", 3), ("2", 1)]
        assert [one.attempts for one in other.read()] == [1, 2, 3]


def test_two_copies_at_once_bring_each_letter_once(url: str, copied: PostgresCopiedLetters) -> None:
    """The second waits for the first, and finds what it has brought."""
    with closing(letters_of(url, FakeClock(), "source")) as box:
        box.put([dead(1), dead(2)])
        lines = list(box.lines())
    added: list[int] = []
    with closing(copied_of(url)) as second, psycopg.connect(url) as holder:
        holder.execute("LOCK TABLE telemetry.dead_letters IN SHARE MODE")
        threads = [
            threading.Thread(target=lambda one=one: added.append(one.take(lines))) for one in (copied, second)
        ]
        for thread in threads:
            thread.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        eventually(lambda: rows_of(url, waiting) == [(2,)], 10, "both wait")
        holder.rollback()
        for thread in threads:
            thread.join()
        assert sorted(added) == [0, 2]
        assert [line for line, _ in copied.lines()] == [line for line, _ in lines]
        assert copied.take(lines) == 0
    assert [json.loads(line)["entry_id"] for line, _ in lines] == [ENTRY, "1700000000000-2"]


def test_what_is_copied_outlives_a_crash(own_postgres_server: LocalPostgres) -> None:
    """Also where the role has synchronous_commit off: who has copied may remove the source."""
    server = own_postgres_server
    url = with_tables(server.dsn())
    with closing(letters_of(url, FakeClock(), "source")) as box:
        box.put([dead(1)])
        lines = list(box.lines())
    with server.admin() as admin:
        admin.execute("ALTER ROLE postgres SET synchronous_commit = off")
    with closing(copied_of(url)) as copied, server.lazy_disk():
        assert copied.take(lines) == 1
        server.kill()
    server.start()
    with closing(copied_of(url)) as copied:
        assert list(copied.lines()) == lines
