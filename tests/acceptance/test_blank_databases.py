"""A consumer that finds nothing in PostgreSQL where its group has stored before, and what only looks so."""

import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from acceptance.killed_at import POINTS
from acceptance.pages import run_blocks
from acceptance.rig import Process, Rig
from acceptance.test_postgres import PostgresRig
from acceptance.test_run import Laptop
from consumers import KEYS
from postgres import PostgresServers, rows_of, with_tables
from servers import LocalServer, eventually

REFUSED = "has nothing of this pipeline, and the group telemetry_consumers has acknowledged entries"


@pytest.fixture
def blank_rig(
    own_server: Callable[..., LocalServer], tmp_path: Path, postgres_url: str
) -> Iterator[PostgresRig]:
    """Give a rig on a database that has not even tables."""
    one = PostgresRig(own_server(), tmp_path)
    one.url = postgres_url
    one.environment |= {"CLAIM_IDLE_MS": "60000"}
    yield one
    one.close()


def of_postgres(rig: PostgresRig, **more: str) -> dict[str, str]:
    """Name the database of a rig for a consumer."""
    return {"DATABASE_URL": rig.url, **more}


def store_in_sqlite(rig: Rig, seed: int = 1) -> None:
    """Have a consumer store some events in the folder, and end."""
    consumer = rig.consumer("consumer-1")
    rig.publisher(seed=seed).mix(100).send()
    rig.drain(consumer)
    consumer.stop()


def assert_refused(process: Process) -> None:
    """See that it has ended with 2, with one line that names both ways on."""
    assert process.wait() == 2, process.text
    (error,) = [line["error"] for line in process.lines("sink_unusable")]
    assert REFUSED in error
    assert "telemetry copy --to" in error
    assert "FRESH=true" in error
    assert "consumer_finished" not in process.text


def test_it_takes_nothing_from_the_stream_until_a_copy_has_filled_it(blank_rig: PostgresRig) -> None:
    """The pipeline goes on in the database, and the audit there knows of all that was before."""
    rig = blank_rig
    store_in_sqlite(rig)
    rig.publisher(seed=2).mix(100).send()
    delivered = rig.last_delivered()
    for name in ("consumer-1", "consumer-2"):
        assert_refused(rig.consumer(name, **of_postgres(rig)))
    assert rig.last_delivered() == delivered
    assert rig.pending() == set()
    assert rig.client.xinfo_consumers(KEYS.stream, KEYS.group) == []
    copied = run_blocks(rig, ["telemetry copy"], COPY_TO=rig.url)
    assert copied.returncode == 0, copied.stdout + copied.stderr
    consumer = rig.consumer("consumer-1", **of_postgres(rig))
    rig.drain(consumer)
    consumer.stop()
    rig.assert_complete()


def test_it_is_refused_though_consumers_were_killed_with_entries_in_hand(blank_rig: PostgresRig) -> None:
    """What the killed one held is pending, and what it had stored before is nowhere in the database."""
    rig = blank_rig
    rig.publisher(seed=1).mix(200).send()
    doomed = rig.doomed_consumer("after_commit", 3, RETENTION_INTERVAL_S="0")
    assert doomed.wait() == -signal.SIGKILL, doomed.text
    assert rig.pending()
    assert_refused(rig.consumer("consumer-1", **of_postgres(rig)))


def test_it_begins_anew_where_that_is_said(blank_rig: PostgresRig) -> None:
    """FRESH=true: what was stored before is missing there, and the audit says so. It is needed once."""
    rig = blank_rig
    store_in_sqlite(rig)
    consumer = rig.consumer("consumer-1", **of_postgres(rig, FRESH="true"))
    rig.publisher(seed=2).valid(50).send()
    rig.drain(consumer)
    consumer.stop()
    before, after = rig.audit().runs
    assert before.tally.missing > 0
    assert after.tally.missing == 0
    consumer_that_starts(rig, **of_postgres(rig)).stop()


@pytest.mark.parametrize("point", [point for point in POINTS if point != "mid_dead_letter"])
def test_one_that_was_killed_in_its_first_batch_is_followed_by_another(
    blank_rig: PostgresRig, point: str
) -> None:
    """At every step: nothing is stored yet, or all of it is."""
    rig = blank_rig
    rig.url = with_tables(rig.url)
    rig.publisher(seed=1).mix(100).send()
    doomed = rig.doomed_consumer(point, 1, "consumer-1", **of_postgres(rig))
    assert doomed.wait() == -signal.SIGKILL, doomed.text
    successor = rig.consumer("consumer-1", **of_postgres(rig))
    rig.drain(successor)
    successor.stop()
    rig.assert_complete()


def test_many_that_start_at_once_begin_in_a_new_database(blank_rig: PostgresRig) -> None:
    """The first ever: some have stored before the others look. Then each is replaced, one after the other."""
    rig = blank_rig
    rig.publisher(seed=1).mix(400).send()
    running = [rig.consumer(f"consumer-{number}", **of_postgres(rig)) for number in range(1, 5)]
    rig.drain(*running)
    for number, old in enumerate(running, start=5):
        new = consumer_that_starts(rig, f"consumer-{number}", **of_postgres(rig))
        old.stop()
        rig.publisher(seed=number).mix(20).send()
        rig.drain(new)
        new.stop()
    rig.assert_complete()


@pytest.mark.parametrize("where", ["database", "file", "stream"])
def test_a_pipeline_of_dead_letters_alone_is_started_again(blank_rig: PostgresRig, where: str) -> None:
    """Whatever keeps them, and though they are purged: no row was ever to be there."""
    rig = blank_rig
    rig.publisher(seed=1).invalid(12).send()
    with_letters = of_postgres(rig, DEAD_LETTERS=where)
    for _ in range(2):
        consumer = consumer_that_starts(rig, **with_letters)
        rig.drain(consumer)
        consumer.stop()
    purged = run_blocks(rig, ["telemetry dlq purge --all --yes"], **with_letters)
    assert purged.returncode == 0, purged.stdout + purged.stderr
    consumer_that_starts(rig, **with_letters).stop()


def test_another_group_begins_in_a_database_of_its_own(
    blank_rig: PostgresRig, postgres_servers: PostgresServers
) -> None:
    """The first one's entries are its own: a group that has read nothing has nothing to bring."""
    rig = blank_rig
    consumer = consumer_that_starts(rig, **of_postgres(rig, RETENTION_INTERVAL_S="0"))
    rig.publisher(seed=1).mix(100).send()
    rig.drain(consumer)
    consumer.stop()
    rows = "SELECT count(*) FROM telemetry.events"
    of_the_first = rows_of(rig.url, rows)
    rig.url = postgres_servers.any().new_database()
    other = of_postgres(rig, GROUP_NAME="another")
    second = consumer_that_starts(rig, **other)
    eventually(lambda: rows_of(rig.url, rows)[0][0] > 0 and is_settled(rig, "another"), 30, "its rows")
    second.stop()
    assert rows_of(rig.url, rows) == of_the_first
    consumer_that_starts(rig, **other).stop()


def test_rows_of_another_group_are_enough_to_start_with(blank_rig: PostgresRig) -> None:
    """Both store the same rows in one database, and none says whose it is."""
    rig = blank_rig
    rows: list[int] = []
    for group in ("telemetry_consumers", "another", "telemetry_consumers"):
        consumer = consumer_that_starts(rig, **of_postgres(rig, GROUP_NAME=group))
        rig.publisher(seed=len(rig.published)).mix(20).send()
        eventually(partial(is_settled, rig, group), 30, f"{group} has settled all")
        consumer.stop()
        rows.append(rows_of(rig.url, "SELECT count(*) FROM telemetry.events")[0][0])
    assert 0 < rows[0] < rows[1] < rows[2]


def test_an_empty_stream_with_a_group_just_made_is_no_reason(blank_rig: PostgresRig) -> None:
    """Nothing came yet, through several starts."""
    rig = blank_rig
    for _ in range(2):
        consumer_that_starts(rig, **of_postgres(rig)).stop()


def test_a_broker_that_is_away_is_waited_for(blank_rig: PostgresRig) -> None:
    """It is asked before the first entry is taken, whenever that is."""
    rig = blank_rig
    store_in_sqlite(rig)
    rig.server.kill()
    waiting_one = rig.consumer("consumer-1", **of_postgres(rig))
    eventually(lambda: "redis_unavailable" in waiting_one.text, 30, "it waits for the broker")
    rig.server.start()
    assert_refused(waiting_one)


def test_a_run_says_it_before_anything_is_published(tmp_path: Path, postgres_url: str) -> None:
    """With a server of its own, which has what an earlier run has published."""
    laptop = Laptop(tmp_path)
    quick = ("run", "--duration", "2", "--rate", "100")
    try:
        first = laptop.types(*quick)
        assert first.wait(120) == 0, first.text
        refused = laptop.types(*quick, DATABASE_URL=postgres_url)
        assert refused.wait(60) == 2, refused.text
        assert REFUSED in refused.text
        assert "FRESH=true" in refused.text
        assert "published=" not in refused.text
        assert "Traceback" not in refused.text
        copied = laptop.types("copy", "--to", postgres_url)
        assert copied.wait(60) == 0, copied.text
        moved = laptop.types(*quick, DATABASE_URL=postgres_url)
        assert moved.wait(120) == 0, moved.text
        assert " missing=0" in moved.text
    finally:
        laptop.close()


def consumer_that_starts(rig: Rig, name: str = "consumer-1", **environment: str) -> Process:
    """Start a consumer, and wait until it has looked at all and belongs to its group."""
    consumer = rig.consumer(name, **environment)
    group = environment.get("GROUP_NAME", KEYS.group)

    def belongs() -> bool:
        assert consumer.exit_code is None, consumer.text
        return name in names_of(rig, group)

    eventually(belongs, 60, f"{name} reads: {consumer.text}")
    return consumer


def names_of(rig: Rig, group: str) -> set[str]:
    """Name the consumers of a group."""
    try:
        return {one["name"].decode() for one in rig.client.xinfo_consumers(KEYS.stream, group)}
    except Exception as error:
        if "no such key" in str(error) or "NOGROUP" in str(error):
            return set()
        raise


def is_settled(rig: Rig, group: str) -> bool:
    """Tell whether a group has acknowledged all there is."""
    for one in rig.client.xinfo_groups(KEYS.stream):
        if one["name"].decode() == group:
            return bool(one["lag"] == 0 and one["pending"] == 0)
    return False
