"""Dead letters in a real database: apart by pipeline and stream, durable, and told where unreadable."""

import time
from contextlib import closing

import psycopg
import pytest
from fakes import FakeClock
from postgres import LocalPostgres, database, rows_of, with_tables
from samples import dead, entry, event_fields, flat
from servers import eventually

from services.contract.consuming.doors import Dead
from services.contract.consuming.letter import PORTION_CHARS
from services.contract.errors import DeadLettersUnavailable
from services.contract.event import Rejection
from services.stores.postgres.dead_letters import PostgresDeadLetters


def letters_of(url: str, pipeline: str = "here", stream: str = "stream") -> PostgresDeadLetters:
    """Open the letters of a pipeline's stream."""
    return PostgresDeadLetters(database(url), pipeline, stream, time.time, "consumer-1")


def test_two_pipelines_and_two_streams_in_one_database_don_t_meet(postgres_url: str) -> None:
    """Nobody reads, marks or purges the letters of another, though their entries have the same ids."""
    url = with_tables(postgres_url)
    names = [("here", "stream"), ("there", "stream"), ("here", "other")]
    boxes = [letters_of(url, *one) for one in names]
    for number, box in enumerate(boxes):
        box.put([dead(1, attempts=number + 1), dead(2)])
    boxes[0].mark_replayed([("1700000000000-1", "9-9")])
    assert boxes[0].purge(["1700000000000-1", "1700000000000-2"]) == 2
    for number, box in enumerate(boxes[1:], start=1):
        assert [(one.entry_id, one.attempts) for one in box.read()] == [
            ("1700000000000-1", number + 1),
            ("1700000000000-2", 1),
        ]
        assert box.replayed() == {}
        assert list(box.purged()) == []
    assert list(boxes[0].read()) == []
    for box in boxes:
        box.close()


def test_what_one_asks_by_is_in_columns_of_its_own(postgres_url: str) -> None:
    """For SQL: the reason, and the event's id as it was received, where it is a text."""
    url = with_tables(postgres_url)
    with closing(letters_of(url)) as box:
        odd = [b"a\0b", b"\xff", b"x" * 5000]
        fields = [flat([("event_id", one)]) for one in odd]
        box.put([dead(1), *(dead(number, one) for number, one in enumerate(fields, start=2))])
        assert [one.fields for one in box.read()] == [event_fields(1), *fields]
    found = rows_of(url, "SELECT reason, stage, event_id FROM telemetry.dead_letters ORDER BY position")
    assert found[0][2] == event_fields(1)[1].decode()
    assert [one[2] for one in found[1:]] == [None, None, None]


def test_letters_that_are_kept_in_part_are_kept_once(postgres_url: str) -> None:
    """Those of a batch that come to more than a portion, tried again until the last one can be written."""
    url = with_tables(postgres_url)
    put = [dead(number, event_fields(number, zone="z" * PORTION_CHARS)) for number in range(3)]
    with closing(letters_of(url)) as box, psycopg.connect(url, autocommit=True) as owner:
        owner.execute("ALTER TABLE telemetry.dead_letters ADD CHECK (entry_id <> '1700000000000-2')")
        for _ in range(3):
            with pytest.raises(DeadLettersUnavailable):
                box.put(put)
        owner.execute("ALTER TABLE telemetry.dead_letters DROP CONSTRAINT dead_letters_entry_id_check")
        box.put(put)
        assert [one.entry_id for one in box.read()] == [one.entry.entry_id.decode() for one in put]
        box.put(put)
        assert len(list(box.read())) == 6, "delivered again, it is another letter"


def test_a_letter_of_many_megabytes_is_kept(postgres_url: str) -> None:
    """As large as an entry may be: it comes back to the byte."""
    url = with_tables(postgres_url)
    fields = flat([("blob", bytes(range(256)) * 40_000)])
    with closing(letters_of(url)) as box:
        rejection = Rejection("decode", "unknown_field", "unknown field 'blob'")
        box.put([Dead(entry(1, fields), rejection), dead(2)])
        first, second = box.read()
    assert first.fields == fields
    assert second.entry_id == "1700000000000-2"


def test_the_last_replay_of_a_letter_and_the_last_purge_count(postgres_url: str) -> None:
    """A letter may be replayed again, and an entry may be buried and purged again."""
    url = with_tables(postgres_url)
    clock = FakeClock()
    reason = Rejection("sink", "conflict", "stored already, with another content")
    with closing(PostgresDeadLetters(database(url), "here", "stream", clock.now)) as box:
        noted: list[str | None] = []
        for value in ("1", "2"):
            box.put([Dead(entry(1, event_fields(1, value=value)), reason)])
            (letter,) = box.read()
            box.mark_replayed([(letter.entry_id, "8-8"), (letter.entry_id, f"9-{value}")])
            assert box.replayed() == {letter.entry_id: clock.now()}
            assert box.purge([letter.entry_id]) == 1
            noted += [one.content for one in box.purged()]
            assert noted[-1] == letter.content
            clock.elapsed += 60
    assert noted[0] != noted[1]
    assert rows_of(url, "SELECT replayed_as FROM telemetry.dead_letters_replayed") == [("9-2",)]


def test_a_purge_that_can_t_remove_a_letter_notes_nothing(postgres_url: str) -> None:
    """An audit would count the same event as dead and as purged."""
    url = with_tables(postgres_url)
    with closing(letters_of(url)) as box, psycopg.connect(url, autocommit=True) as owner:
        box.put([dead(1)])
        owner.execute(
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'kept'; END $$"
        )
        owner.execute(
            "CREATE TRIGGER keep BEFORE DELETE ON telemetry.dead_letters FOR EACH ROW EXECUTE FUNCTION keep()"
        )
        with pytest.raises(DeadLettersUnavailable, match="kept"):
            box.purge(["1700000000000-1"])
        assert list(box.purged()) == []
        assert [one.entry_id for one in box.read()] == ["1700000000000-1"]


def test_a_letter_that_somebody_has_spoilt_is_told_by_its_place(postgres_url: str) -> None:
    """And left where it is; the others are read."""
    url = with_tables(postgres_url)
    with closing(letters_of(url)) as box:
        box.put([dead(1), dead(2)])
        with psycopg.connect(url, autocommit=True) as other:
            other.execute("UPDATE telemetry.dead_letters SET letter = '{' WHERE entry_id = '1700000000000-1'")
        assert [one.entry_id for one in box.read()] == ["1700000000000-2"]
        assert box.damages.number == 1
        assert "telemetry.dead_letters position" in box.damages.named[0].place
        assert box.purge(["1700000000000-1", "1700000000000-2"]) == 1


def test_a_put_that_was_told_outlives_a_crash(own_postgres_server: LocalPostgres) -> None:
    """Also where the role has synchronous_commit off: it is on the disk before its entry is acknowledged."""
    server = own_postgres_server
    with_tables(server.dsn())
    with server.admin() as admin:
        admin.execute("ALTER ROLE postgres SET synchronous_commit = off")
    with closing(letters_of(server.dsn())) as box, server.lazy_disk():
        box.put([dead(1)])
        server.kill()
    server.start()
    with closing(letters_of(server.dsn())) as box:
        assert [one.entry_id for one in box.read()] == ["1700000000000-1"]


def test_a_server_that_is_away_takes_no_letter_and_later_does(own_postgres_server: LocalPostgres) -> None:
    """The failure names what to change; the same put works once it is back."""
    server = own_postgres_server
    with_tables(server.dsn())
    with closing(letters_of(server.dsn())) as box:
        box.put([dead(1)])
        server.kill()
        with pytest.raises(DeadLettersUnavailable):
            box.put([dead(2)])
        with pytest.raises(DeadLettersUnavailable, match="check host and port"):
            box.put([dead(2)])
        server.start()

        def puts() -> bool:
            try:
                box.put([dead(2)])
            except DeadLettersUnavailable:
                return False
            return True

        eventually(puts, 20, "the letters are taken again")
        assert {one.entry_id for one in box.read()} == {"1700000000000-1", "1700000000000-2"}
