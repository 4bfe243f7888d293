"""A run's record that says less than what is known of the run: named, and no loss is hidden by it."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from samples import RUN, event_fields
from servers import Server
from telemetry_cli import store, telemetry

from services.brokers.redis.keys import StreamKeys
from services.contract.consuming.proofs import Scope
from services.runtime.settings import ConsumerSettings
from services.stores.proofs import NEWEST
from services.stores.sqlite.proofs import SQLiteProofs
from services.stores.sqlite.schema import migrate

KEYS: Final = StreamKeys()
DATABASE: Final = Path("data/telemetry.db")
SCOPE: Final = Scope(ConsumerSettings().pipeline_name, KEYS.stream, KEYS.group)
EVENTS: Final = 100
NOTHING: Final[dict[Any, Any]] = {"last": 0, "published": 0, "unnumbered": 0, "duplicates": 0, "batches": 0}

Lower = Callable[[redis.Redis], object]


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """Give a server with a run of 100 events that nobody has read, and two without a readable id.

    A consumer has made its database, where what is proven is kept.
    """
    store(())
    with closing(server.client()) as one:
        for number in range(1, EVENTS + 1):
            one.execute_command("XADD", KEYS.stream, "*", *event_fields(number))
        for _ in range(2):
            one.execute_command("XADD", KEYS.stream, "*", *event_fields(event_id="none"))
        one.sadd(KEYS.runs, RUN)
        record = {"last": EVENTS, "published": EVENTS, "unnumbered": 2, "batches": 10, "source": "generator"}
        one.hset(KEYS.run(RUN), mapping=record)  # type: ignore[arg-type]
        yield one


def audit(server: Server, *options: str, **settings: str) -> tuple[int, dict[str, Any], str]:
    """Audit; gives the exit code, the answer, and what is said beside it."""
    where = {"REDIS_HOST": server.host, "REDIS_PORT": str(server.port), **settings}
    result = telemetry("audit", "--json", *options, **where)
    return result.exit_code, json.loads(result.stdout or "{}"), result.stderr


def lose(client: redis.Redis) -> None:
    """Remove all that is in the stream, as whoever may publish can."""
    client.xadd(KEYS.stream, {"a": "b"}, maxlen=0, approximate=False)


def test_a_record_that_is_right_is_not_doubted(server: Server, client: redis.Redis) -> None:
    """Whatever comes to it: what was met is kept, and what is published later is more."""
    for last in (EVENTS, EVENTS + 1, EVENTS + 2):
        client.hset(KEYS.run(RUN), mapping={"last": last, "published": last})
        if last > EVENTS:
            client.execute_command("XADD", KEYS.stream, "*", *event_fields(last))
        code, found, _ = audit(server, "--record")
        assert (code, found["tampered_or_lost"], found["missing"]) == (0, [], 0)
        known = SQLiteProofs(DATABASE, 1000, SCOPE).read().runs[RUN]
        assert (known.last, known.unnumbered, known.proven) == (last, 2, 0)


def test_what_an_audit_has_met_is_missing_whatever_the_record_says(
    server: Server, client: redis.Redis
) -> None:
    """Nothing of the run is left, and nothing in its record: each of its events is named all the same."""
    assert audit(server, "--record")[0] == 0
    lose(client)
    client.hset(KEYS.run(RUN), mapping=NOTHING)
    code, found, said = audit(server, "--record", "--show", "1000")
    assert (code, found["published"], found["missing"]) == (1, EVENTS + 2, EVENTS + 2)
    assert found["tampered_or_lost"] == [RUN]
    assert len(found["missing_events"]) == EVENTS + 1, "those without an id are counted in one line"
    assert f"the record of run {RUN} was tampered with or lost" in said
    assert audit(server)[1]["missing"] == EVENTS + 2, "the audit that found it made nothing smaller"


def test_a_last_number_below_what_was_met_is_told_as_such(server: Server, client: redis.Redis) -> None:
    """Also where all else in the record agrees with it."""
    assert audit(server, "--record")[0] == 0
    client.xtrim(KEYS.stream, maxlen=0, approximate=False)
    client.hset(KEYS.run(RUN), mapping={"last": 50, "published": 50})
    code, found, said = audit(server)
    assert (code, found["missing"], found["tampered_or_lost"]) == (1, EVENTS + 2, [RUN])
    assert "it says that 50 is the last number, and an audit has met 100" in said


def test_what_a_record_only_says_is_not_taken_for_met(server: Server, client: redis.Redis) -> None:
    """A number that is too large makes events missing until it is right again, and no longer."""
    client.hset(KEYS.run(RUN), mapping={"last": EVENTS + 7, "published": EVENTS + 7})
    code, found, _ = audit(server, "--record")
    assert (code, found["missing"], found["tampered_or_lost"]) == (1, 7, [])
    client.hset(KEYS.run(RUN), mapping={"last": EVENTS, "published": EVENTS})
    code, found, _ = audit(server, "--record")
    assert (code, found["missing"], found["tampered_or_lost"]) == (0, 0, [])


def test_numbers_below_the_highest_that_is_stored_are_missing_whatever_the_record_says(
    server: Server, client: redis.Redis
) -> None:
    """Without any audit before: one event that is left tells of all those before it."""
    client.xtrim(KEYS.stream, maxlen=3, approximate=False)
    client.hset(KEYS.run(RUN), mapping={"last": 0, "published": 0})
    code, found, _ = audit(server)
    assert (code, found["missing"], found["tampered_or_lost"]) == (1, EVENTS - 1, [RUN])


def test_of_what_nobody_has_met_it_says_that_nothing_can_be_known(
    server: Server, client: redis.Redis
) -> None:
    """Nothing was recorded before and nothing is left; a thief who forgot one field is found by it."""
    lose(client)
    client.hset(KEYS.run(RUN), mapping={"last": 0, "published": 0, "unnumbered": 0})
    code, found, said = audit(server)
    assert (code, found["missing"], found["tampered_or_lost"]) == (1, 0, [RUN])
    assert "it says 10 batches, and no event" in said
    (note,) = found["notes"]
    assert note.startswith(f"{EVENTS + 3:,} of the {EVENTS + 3:,} events that the stream has had")
    assert "can't be known" in note


@pytest.mark.parametrize(
    ("lower", "told"),
    [
        (lambda client: client.hset(KEYS.run(RUN), "last", 99), "1 events have higher ones"),
        (lambda client: client.hset(KEYS.run(RUN), "published", 101), "it says 101 numbered events"),
        (lambda client: client.hset(KEYS.run(RUN), "unnumbered", 1), "an audit has met 2"),
    ],
    ids=["the last number", "how many are numbered", "those without an id"],
)
def test_each_number_of_a_record_is_compared(
    server: Server, client: redis.Redis, lower: Lower, told: str
) -> None:
    """With what is stored or waits, with what was met before, and with the others in the record."""
    assert audit(server, "--record")[0] == 0
    lower(client)
    code, found, said = audit(server)
    assert (code, found["tampered_or_lost"], found["missing"]) == (1, [RUN], 0)
    assert told in said


def test_a_record_that_is_gone_says_less_too(server: Server, client: redis.Redis) -> None:
    """Until a person has closed it: what was met of the run stays, and accuses nobody any more."""
    assert client.exists(KEYS.runs)
    assert audit(server)[0] == 0
    lose(client)
    client.srem(KEYS.runs, RUN)
    client.delete(KEYS.run(RUN))
    code, found, said = audit(server)
    assert (code, found["missing"], found["tampered_or_lost"]) == (1, EVENTS + 2, [RUN])
    assert f"the broker has no record of it, and an audit has met its number {EVENTS}" in said
    closed = audit(server, "--accept", RUN, "--why", "the server was emptied", "--who", "ann")
    assert closed[0] == 0, closed
    code, found, _ = audit(server)
    assert (code, found["missing"], found["accepted"], found["tampered_or_lost"]) == (0, 0, EVENTS + 2, [])
    (loss,) = SQLiteProofs(DATABASE, 1000, SCOPE).read().accepted
    assert (loss.accepted_by, loss.reason, loss.events) == ("ann", "the server was emptied", EVENTS + 2)


def test_a_database_of_before_is_read_and_left_as_it_is(server: Server, client: redis.Redis) -> None:
    """An audit brings no tables: it says that nothing is kept, and what it has found is right."""
    DATABASE.unlink()
    with closing(sqlite3.connect(DATABASE, isolation_level=None)) as connection:
        migrate(connection, DATABASE, upto=1)
    assert client.exists(KEYS.runs)
    code, found, _ = audit(server)
    assert (code, found["published"], found["missing"]) == (0, EVENTS + 2, 0)
    (note,) = found["notes"]
    assert "what is proven is not kept" in note
    assert "a consumer of this one brings it up to date" in note


def test_proofs_of_before_are_read_and_left_as_they_are(server: Server, client: redis.Redis) -> None:
    """Of the version before, which had not all of the columns."""
    assert client.exists(KEYS.runs)
    assert audit(server)[0] == 0
    with closing(sqlite3.connect(DATABASE, isolation_level=None)) as connection:
        for name in NEWEST:
            connection.execute(f"ALTER TABLE proven_runs DROP COLUMN {name}")
    code, found, _ = audit(server)
    assert (code, found["published"], found["missing"]) == (0, EVENTS + 2, 0)
    assert "a consumer of this one brings it up to date" in found["notes"][0]


def test_the_answer_in_words_names_the_run(server: Server, client: redis.Redis) -> None:
    """On a terminal as in JSON."""
    client.hset(KEYS.run(RUN), "last", 40)
    result = telemetry("audit", REDIS_HOST=server.host, REDIS_PORT=str(server.port))
    assert result.exit_code == 1
    assert f"the record of run {RUN} was tampered with or lost: it says that 40 is" in result.output
