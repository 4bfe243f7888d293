"""`telemetry copy` between real stores: all of it, compared, and nothing overwritten."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from copies import (
    FILES,
    SCOPE,
    STORED_AT,
    events,
    everything,
    everything_at,
    fill,
    letters_at,
    lines_of,
    marks,
    row_of,
)
from postgres import PostgresServers, database, rows_of, with_tables
from samples import dead, event_fields, id_of, row
from telemetry_cli import bury, is_refusal, own_folder, store, telemetry

from services.contract.attributes import attributes_of
from services.contract.consuming.doors import Dead, Entry
from services.contract.event import Rejection
from services.ops.copy import events as copied_events
from services.ops.output.progress import ProgressLine
from services.stores.copying import PROOFS, Row
from services.stores.files.dead_letters import DeadLetterFile
from services.stores.postgres.copying import letters
from services.stores.postgres.sink import PostgresSink
from services.stores.sqlite.copying import SQLiteCopied
from services.stores.sqlite.sink import SQLiteSink

__all__ = ["own_folder"]

DATA = Path("data")


@pytest.fixture(autouse=True)
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have several pages of what is small."""
    monkeypatch.setattr(copied_events, "EVENTS_AT_ONCE", 10)


@pytest.fixture
def other_url(postgres_servers: PostgresServers, postgres_url: str) -> str:
    """Give another database on the same server."""
    del postgres_url
    return postgres_servers.any().new_database()


def copied(*arguments: str, **environment: str) -> str:
    """Copy, which has to go well; gives its answer."""
    result = telemetry("copy", *arguments, **environment)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_everything_is_copied_to_postgresql(postgres_url: str) -> None:
    """Rows with all that is in them, letters and what became of them, proofs; and one line says so."""
    some = fill(DATA)
    answer = copied("--to", postgres_url)
    assert answer.startswith("the same: PostgreSQL at ")
    assert "27 events (27 new), 6 dead letters (2 replayed, 1 purged), 1 proof of data/telemetry.db" in answer
    assert len(answer.splitlines()) == 1
    found = rows_of(
        postgres_url,
        "SELECT event_id::text, device_id, zone, extract(epoch FROM ts)::float8, kpi, value, "
        "is_degraded::int, "
        "attributes ->> 'site', extract(epoch FROM stored_at)::float8 FROM telemetry.events "
        "ORDER BY event_id",
    )
    assert found == [
        (*one[:7], attributes_of(one.attributes).get("site"), STORED_AT)
        for one in sorted(some, key=lambda one: one.event_id)
    ]
    assert letters_at(postgres_url) == lines_of(DATA / "dlq.jsonl")
    assert rows_of(postgres_url, "SELECT count(*) FROM telemetry.events_default") == [(0,)], (
        "the days are made before their rows come"
    )


def test_there_and_back_again_changes_nothing(postgres_url: str) -> None:
    """Not in the folder that it came from, and a new folder has the same, bit by bit."""
    fill(DATA)
    before = everything(DATA)
    copied("--to", postgres_url)
    there = everything_at(postgres_url)
    answer = copied("--to", "sqlite:", DATABASE_URL=postgres_url)
    assert "(0 new)" in answer
    assert everything(DATA) == before
    copied("--to", "sqlite:new", DATABASE_URL=postgres_url)
    new = everything(Path("new"))
    assert new == before
    copied("--to", postgres_url, DATA_DIR="new")
    assert everything_at(postgres_url) == there


def test_times_of_earlier_versions_are_copied_as_they_are_compared(postgres_url: str) -> None:
    """They have more digits than a microsecond, and half of one may be on either side of it."""
    fill(DATA)
    store([row(one, ts=1_700_000_000 + one / 7) for one in range(100, 200)])
    before = everything(DATA)
    copied("--to", postgres_url)
    assert "127 events (0 new)" in copied("--to", postgres_url)
    answer = copied("--to", "sqlite:", DATABASE_URL=postgres_url)
    assert "127 events (0 new)" in answer
    assert len(answer.splitlines()) == 1
    assert everything(DATA) == before
    with closing(PostgresSink(database(postgres_url), float)) as sink:
        again = [row(one, ts=round(1_700_000_000 + one / 7, 6)) for one in range(100, 200)]
        assert sink.write(again) == (0, []), "what comes again from the stream is a duplicate"


def test_a_database_is_copied_to_another_one(postgres_url: str, other_url: str) -> None:
    """All that is of this pipeline; of others it says how to copy it."""
    fill(DATA)
    copied("--to", postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            'UPDATE telemetry.events SET attributes = \'{"site": "é", "firmware": "2"}\' WHERE event_id = %s',
            (id_of(3),),
        )
        connection.execute(
            "INSERT INTO telemetry.dead_letters "
            "(pipeline, stream, entry_id, failed_at, stage, reason, letter) "
            "VALUES ('other', 's', '1-0', now(), 'decode', 'x', '{}')"
        )
    result = telemetry("copy", "--to", other_url, DATABASE_URL=postgres_url)
    assert result.exit_code == 0, result.output
    assert "PIPELINE_NAME=other STREAM_NAME=s: copy again with these" in result.stderr
    mine, theirs = everything_at(postgres_url), everything_at(other_url)
    assert [line for line in mine.pop("dead_letters") if line[0] != "other"] != []
    theirs.pop("dead_letters")
    assert theirs == mine
    assert letters_at(other_url) == lines_of(DATA / "dlq.jsonl")


def test_a_pipeline_may_have_another_name_there(postgres_url: str) -> None:
    """Letters, marks, notes and proofs are under that name, and go back to the old one."""
    fill(DATA)
    before = everything(DATA)
    copied("--to", postgres_url, "--as-pipeline", "space/demo")
    tables = everything_at(postgres_url)
    scoped = [name for name in tables if name.startswith(("dead", "pro", "acc"))]
    assert len(scoped) == 8
    assert {row[0] for name in scoped for row in tables[name]} == {"space/demo"}
    back = {"DATABASE_URL": postgres_url, "PIPELINE_NAME": "space/demo"}
    copied("--to", "sqlite:new", "--as-pipeline", "telemetry", **back)
    assert everything(Path("new")) == before


def test_a_folder_is_copied_to_another_one() -> None:
    """With its files of dead letters."""
    fill(DATA)
    copied("--to", "sqlite:other/telemetry.db")
    assert everything(Path("other")) == everything(DATA)


def test_run_again_it_brings_what_is_new(postgres_url: str) -> None:
    """Events, letters, marks, notes and a later proof; an older one never takes a later one's place."""
    fill(DATA)
    copied("--to", postgres_url)
    store(events(3, first=100))
    store([row(0, event_id=id_of(0))])  # an id before all others
    buried = bury([dead(50)], 1_700_000_300.0)
    buried.mark_replayed([("1700000000000-2", "1700000000009-0"), ("1700000000000-4", "1700000000009-1")])
    buried.purge(["1700000000000-6"])
    put_proof(4)
    answer = copied("--to", postgres_url)
    assert "31 events (4 new), 6 dead letters (3 replayed, 2 purged), 1 proof" in answer
    assert letters_at(postgres_url) == lines_of(DATA / "dlq.jsonl"), "what was purged is gone there too"
    assert rows_of(postgres_url, "SELECT generation FROM telemetry.proofs") == [(4,)]
    # And back into a folder of before, which has an older proof and a letter that was purged since.
    fill(Path("before"))
    copied("--to", "sqlite:before", DATABASE_URL=postgres_url)
    assert {
        name: sorted(lines) for name, lines in everything(Path("before")).items() if name == "proofs"
    } == {"proofs": everything(DATA)["proofs"]}
    assert sorted(lines_of(Path("before/dlq.jsonl"))) == sorted(lines_of(DATA / "dlq.jsonl"))
    assert marks(lines_of(Path("before/dlq.replayed.jsonl")), "replayed_at") == marks(
        lines_of(DATA / "dlq.replayed.jsonl"), "replayed_at"
    )
    put_proof(9)
    copied("--to", "sqlite:", DATABASE_URL=postgres_url)
    assert everything(DATA)["proofs"][0][3] == 9


def test_what_was_purged_there_does_not_come_back(postgres_url: str) -> None:
    """Somebody had a reason; a letter that the same entry has left since does come."""
    fill(DATA)
    copied("--to", postgres_url)
    there = {"DATABASE_URL": postgres_url}
    purged = telemetry("dlq", "purge", "--entry", "1700000000000-4", "--yes", **there)
    assert purged.exit_code == 0, purged.output
    bury([dead(1)], 4_000_000_000.0)
    telemetry("dlq", "purge", "--entry", "1700000000000-1", "--yes", **there)
    answer = copied("--to", postgres_url)
    assert "5 dead letters (2 replayed, 1 purged)" in answer
    entries = [json.loads(line)["entry_id"].rpartition("-")[2] for line in letters_at(postgres_url)]
    assert entries == ["2", "3", "6", "9", "1"]
    copied("--to", "sqlite:", **there)
    assert sorted(lines_of(DATA / "dlq.jsonl")) == sorted(letters_at(postgres_url))


@pytest.mark.parametrize("is_to_sqlite", [False, True])
@pytest.mark.parametrize("is_purged_there", [False, True])
def test_a_letter_of_many_events_that_was_purged_does_not_come_back(
    postgres_url: str, *, is_to_sqlite: bool, is_purged_there: bool
) -> None:
    """A purge notes each of its events. One of which only some are purged stays, and so does a later one."""
    to = "sqlite:other/telemetry.db" if is_to_sqlite else postgres_url
    there = {"DATA_DIR": "other"} if is_to_sqlite else {"DATABASE_URL": postgres_url}
    store([row(1)])
    bury([pack(1), pack(2), pack(3), dead(50)])
    copied("--to", to)
    if not is_purged_there:
        there = {}
    purge = ("dlq", "purge", "--entry", pack(1).entry.entry_id.decode())
    purged = telemetry(*purge, "--entry", pack(3).entry.entry_id.decode(), "--yes", **there)
    assert purged.stdout.startswith("purged 2 dead letters"), purged.output
    bury([pack(2, place=b"/1")]).purge([f"{pack(2).entry.entry_id.decode()}/1"])
    bury([pack(3)], 4_000_000_000.0)
    for _ in range(2):
        copied("--to", to)
        found = lines_of(Path("other/dlq.jsonl")) if is_to_sqlite else letters_at(postgres_url)
        entries = [json.loads(line)["entry_id"].rpartition("-")[2] for line in found]
        assert entries == ["2", "50", "3"]


def pack(number: int, place: bytes = b"") -> Dead:
    """Make an entry of three events that can't be taken apart; or one event of it, as of its own."""
    lines = [b"\t".join(event_fields(10 * number + one)[1::2]) + b"\n" for one in range(3)]
    fields = event_fields(10 * number) if place else [b"events", b"4", b"lines", b"".join(lines)]
    return Dead(
        Entry(b"1700000000000-%d%s" % (number, place), fields), Rejection("decode", "pack_invalid", "4")
    )


def put_proof(generation: int) -> None:
    with (
        closing(SQLiteSink(DATA / "telemetry.db", 5000, lambda: STORED_AT)) as sink,
        closing(SQLiteCopied(DATA / "telemetry.db", sink)) as tables,
    ):
        tables.put_proven(row_of(PROOFS, generation=generation), [])


def test_a_proof_of_its_own_is_left_and_told(postgres_url: str) -> None:
    """As new as ours, and another: who has proven what there is not ours to say."""
    fill(DATA)
    with_tables(postgres_url)
    columns = ", ".join(PROOFS.columns)
    marks_ = ", ".join(["%s"] * len(PROOFS.columns))
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            f"INSERT INTO telemetry.proofs ({columns}) VALUES ({marks_})".encode(),  # noqa: S608
            row_of(PROOFS, generation=3, unrecorded=77),
        )
    answer = copied("--to", postgres_url)
    assert "0 proofs" in answer
    assert f"there is another proof of the group {SCOPE[2]}" in answer
    assert rows_of(postgres_url, "SELECT unrecorded FROM telemetry.proofs") == [(77,)]
    assert rows_of(postgres_url, "SELECT count(*) FROM telemetry.proven_runs") == [(0,)]


def test_another_content_is_told_and_left(postgres_url: str) -> None:
    """Nothing is overwritten, the rest is copied, and what is proven is not: it is not all there."""
    fill(DATA)
    with closing(SQLiteSink(Path("other/telemetry.db"), 5000, lambda: 1.0)) as sink:
        sink.write([row(3, value=99.0), *events(1, first=4), *events(2, first=500)])
    copied("--to", postgres_url, DATA_DIR="other")
    result = telemetry("copy", "--to", postgres_url)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert f"1 event with another content there, left as they are: {id_of(3)}" in result.stderr
    assert "what audits have proven was not copied" in result.stderr
    assert "Traceback" not in result.output
    assert rows_of(postgres_url, "SELECT value FROM telemetry.events WHERE event_id = %s", id_of(3)) == [
        (99.0,)
    ]
    assert rows_of(postgres_url, "SELECT count(*) FROM telemetry.events") == [(29,)]
    assert rows_of(postgres_url, "SELECT count(*) FROM telemetry.proofs") == [(0,)]


def test_what_is_there_already_is_no_conflict(postgres_url: str) -> None:
    """The same event stored at another time, and events of others: told, and no failure."""
    fill(DATA)
    with closing(SQLiteSink(Path("other/telemetry.db"), 5000, lambda: 1.0)) as sink:
        sink.write([*events(2), *events(2, first=500)])
    copied("--to", postgres_url, DATA_DIR="other")
    answer = copied("--to", postgres_url)
    assert "27 events (25 new)" in answer
    assert "note: 2 events of them were stored there at another time" in answer
    assert "note: there are 2 events more" in answer


@pytest.mark.parametrize("is_to_sqlite", [False, True])
def test_few_events_are_compared_among_many_of_others(postgres_url: str, is_to_sqlite: bool) -> None:
    """Between two of ours there may be a hundred that are not."""
    first, last = row(1, value=1.0), row(200, value=2.0)
    with closing(SQLiteSink(Path("data/telemetry.db"), 5000, lambda: STORED_AT)) as sink:
        sink.write([first, last])
    with closing(SQLiteSink(Path("others/telemetry.db"), 5000, lambda: STORED_AT)) as sink:
        sink.write([first, *events(150, first=20), row(200, value=3.0)])
    to = "sqlite:target" if is_to_sqlite else postgres_url
    copied("--to", to, DATA_DIR="others")
    result = telemetry("copy", "--to", to)
    assert result.exit_code == 1
    assert f"1 event with another content there, left as they are: {last.event_id}" in result.stderr


def test_a_row_that_is_refused_is_named_and_the_others_are_copied(postgres_url: str) -> None:
    """The target has a constraint of its own, say."""
    fill(DATA)
    with_tables(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "ALTER TABLE telemetry.events ADD CONSTRAINT mine CHECK (event_id <> "
            f"'{id_of(7)}'::uuid)".encode()
        )
    result = telemetry("copy", "--to", postgres_url)
    assert result.exit_code == 1
    assert "refuses (PostgreSQL at" in result.stderr
    assert id_of(7) in result.stderr
    assert rows_of(postgres_url, "SELECT count(*) FROM telemetry.events") == [(26,)]
    assert rows_of(postgres_url, "SELECT count(*) FROM telemetry.proofs") == [(0,)]


def test_what_the_target_does_otherwise_is_seen(postgres_url: str) -> None:
    """It says that it has written, and a trigger has changed one event and left out another one."""
    fill(DATA)
    with_tables(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION telemetry.odd() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF NEW.event_id = '{id_of(7)}' THEN RETURN NULL; END IF; "
            f"IF NEW.event_id = '{id_of(9)}' THEN NEW.zone := 'elsewhere'; END IF; RETURN NEW; END $$; "
            "CREATE TRIGGER odd BEFORE INSERT ON telemetry.events FOR EACH ROW "
            "EXECUTE FUNCTION telemetry.odd()"
        )
    result = telemetry("copy", "--to", postgres_url)
    assert result.exit_code == 1
    assert f"1 event with another content there, left as they are: {id_of(9)}" in result.stderr
    assert "1 event that were written there are gone again" in result.stderr
    assert rows_of(postgres_url, "SELECT count(*) FROM telemetry.events") == [(26,)]
    assert rows_of(postgres_url, "SELECT count(*) FROM telemetry.proofs") == [(0,)]


def test_what_comes_while_as_much_is_removed_is_copied_too(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number is the same then, and when the last one was stored is not."""
    fill(DATA)
    page, once = SQLiteCopied.page, iter([row(0, event_id=id_of(0))])

    def and_swap(tables: SQLiteCopied, after: str, most: int) -> list[Row]:
        found = page(tables, after, most)
        if not found and (late := next(once, None)) is not None:
            with closing(SQLiteSink(DATA / "telemetry.db", 5000, lambda: STORED_AT + 1)) as sink:
                sink.write([late])
            with closing(sqlite3.connect(DATA / "telemetry.db", isolation_level=None)) as connection:
                connection.execute("DELETE FROM telemetry_events WHERE event_id = ?", (id_of(1),))
        return found

    monkeypatch.setattr(SQLiteCopied, "page", and_swap)
    copied("--to", postgres_url)
    assert rows_of(postgres_url, "SELECT count(*) FROM telemetry.events WHERE event_id = %s", id_of(0)) == [
        (1,)
    ]


def test_a_letter_that_cant_be_read_fails_the_copy_and_the_rest_is_there(postgres_url: str) -> None:
    """Nobody is to believe that all of it was carried."""
    fill(DATA)
    with (DATA / "dlq.jsonl").open("a") as file:
        file.write('{"no": "letter"}\n')
    result = telemetry("copy", "--to", postgres_url)
    assert result.exit_code == 1
    assert "1 place of the dead letters in data/dlq.jsonl can't be read" in result.stderr
    assert len(letters_at(postgres_url)) == 6


class Writing:
    """A source that somebody writes to while it is read: an event at each page, behind it and before it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        self.left = times
        page = SQLiteCopied.page

        def and_write(tables: SQLiteCopied, after: str, most: int) -> list[Row]:
            found = page(tables, after, most)
            if self.left and found:
                self.left -= 1
                (one,) = events(1, first=self.left + 1000)
                store([one if self.left % 2 else one._replace(event_id="00" + one.event_id[2:])])
            return found

        monkeypatch.setattr(SQLiteCopied, "page", and_write)


def test_what_comes_while_it_copies_is_copied_too(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also an id before those that were looked at already; one look more finds it."""
    fill(DATA)
    Writing(monkeypatch, 5)
    answer = copied("--to", postgres_url)
    assert "32 events (32 new)" in answer


def test_a_source_that_is_written_all_the_time_is_told(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not the same, so it fails; unless that is what was asked for. All of before is there."""
    some = fill(DATA)
    writing = Writing(monkeypatch, 10_000)
    result = telemetry("copy", "--to", postgres_url)
    assert result.exit_code == 1
    assert "consumers still write" in result.stderr
    assert "Stop them, and run it again" in result.stderr
    stored = {one for (one,) in rows_of(postgres_url, "SELECT event_id::text FROM telemetry.events")}
    assert stored >= {one.event_id for one in some}
    assert rows_of(postgres_url, "SELECT generation FROM telemetry.proofs") == [(3,)]
    assert "consumers still write here" in copied("--to", postgres_url, "--while-running")
    writing.left = 0
    assert copied("--to", postgres_url).startswith("the same: ")


def test_days_that_are_dropped_meanwhile_are_no_part_of_a_proof(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was proven before they were dropped says that their rows are there."""
    fill(DATA)
    page, dropped = SQLiteCopied.page, iter([1_650_000_000_000])

    def and_drop(tables: SQLiteCopied, after: str, most: int) -> list[Row]:
        if (before := next(dropped, None)) is not None:
            with (
                closing(SQLiteSink(DATA / "telemetry.db", 5000, lambda: STORED_AT)) as sink,
                closing(SQLiteCopied(DATA / "telemetry.db", sink)) as writing,
            ):
                writing.put_drops(3, before)
            put_proof(8)
        return page(tables, after, most)

    monkeypatch.setattr(SQLiteCopied, "page", and_drop)
    copied("--to", postgres_url)
    assert rows_of(postgres_url, "SELECT generation FROM telemetry.proofs") == [(8,)]
    assert rows_of(postgres_url, "SELECT generation, dropped_before FROM telemetry.retention") == [
        (3, 1_650_000_000_000)
    ]


def test_letters_at_the_broker_stay_there(postgres_url: str) -> None:
    """And so does a file that both sides have."""
    fill(DATA)
    assert "0 dead letters" in copied("--to", postgres_url, DEAD_LETTERS="stream")
    assert "0 dead letters" in copied("--to", postgres_url, DEAD_LETTERS="file")
    assert letters_at(postgres_url) == []


def test_the_answer_in_json_says_the_same(postgres_url: str) -> None:
    """For programs: counts by name, and whether it is the same."""
    fill(DATA)
    found = json.loads(copied("--to", postgres_url, "--json"))
    assert (found["is_same"], found["events"], found["events_added"], found["letters"], found["proofs"]) == (
        *(True, 27, 27, 6, 1),
    )


def test_an_older_file_is_read_as_it_is(postgres_url: str) -> None:
    """Of before there were proofs: it has rows, and is not changed by being copied."""
    fill(DATA)
    with closing(sqlite3.connect(DATA / "telemetry.db", isolation_level=None)) as connection:
        for table in (
            "proofs",
            "proven_runs",
            "proven_without_row",
            "proven_id_days",
            "accepted_losses",
            "retention",
        ):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("PRAGMA user_version = 1")
    before = everything(DATA)
    assert "27 events (27 new), 6 dead letters (2 replayed, 1 purged), 0 proofs" in copied(
        "--to", postgres_url
    )
    assert everything(DATA) == before


def test_a_column_that_is_not_known_is_not_left_behind(postgres_url: str) -> None:
    """A newer version has added it: neither from there nor to there is anything copied."""
    fill(DATA)
    copied("--to", postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE telemetry.events ADD COLUMN quality integer")
    for arguments in (
        {"to": postgres_url, "DATABASE_URL": ""},
        {"to": "sqlite:new", "DATABASE_URL": postgres_url},
    ):
        result = telemetry("copy", "--to", arguments["to"], DATABASE_URL=arguments["DATABASE_URL"])
        assert is_refusal(result, 2)
        assert "has a column quality that this version does not know" in result.stderr


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("", "--to: it is empty"),
        ("mysql://a:secretpw@b/c", "--to: 'mysql' is no scheme of a store here"),
        ("nonsense", "--to: what it begins with is no scheme"),
        ("postgresql://a:secretpw/x@b/c", "--to: write postgresql://"),
        ("postgresql://a:b@host:99999/c", "no port from 1 to 65535"),
        ("sqlite://host/folder", "--to: write sqlite:FOLDER"),
        ("sqlite:some.db", "--to: write sqlite:FOLDER: the database in it is called telemetry.db"),
        ("sqlite:", "--to names the store that is to be copied"),
        ("sqlite:data/../data", "--to names the store that is to be copied"),
    ],
)  # fmt: skip
def test_a_wrong_address_is_told_in_one_line(to: str, why: str) -> None:
    """What was given may hold a password, so it is not said again."""
    fill(DATA, 1)
    result = telemetry("copy", "--to", to)
    assert is_refusal(result, 2)
    assert why in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "secretpw" not in result.output


def test_the_same_database_by_another_name_is_refused(postgres_url: str) -> None:
    """Whatever way leads there."""
    fill(DATA, 1)
    copied("--to", postgres_url)
    result = telemetry(
        "copy", "--to", postgres_url.replace("127.0.0.1", "localhost"), DATABASE_URL=postgres_url
    )
    assert is_refusal(result, 2)
    assert "--to names the store that is to be copied" in result.stderr


def test_nothing_is_made_where_there_is_nothing_to_copy(postgres_url: str) -> None:
    """A wrong folder, most likely."""
    result = telemetry("copy", "--to", postgres_url)
    assert is_refusal(result, 2)
    assert "no database yet" in result.stderr
    assert rows_of(postgres_url, "SELECT to_regnamespace('telemetry') IS NULL") == [(True,)]


def test_a_target_of_another_program_is_left_as_it_is(postgres_url: str) -> None:
    """In PostgreSQL a schema of that name, in a folder a database of that name."""
    fill(DATA, 1)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA telemetry; CREATE TABLE telemetry.mine (x int)")
    result = telemetry("copy", "--to", postgres_url)
    assert is_refusal(result, 2)
    assert "tables of another program" in result.stderr
    Path("theirs").mkdir()
    with closing(sqlite3.connect("theirs/telemetry.db")) as connection:
        connection.execute("CREATE TABLE mine (x)")
    result = telemetry("copy", "--to", "sqlite:theirs")
    assert is_refusal(result, 2)
    assert "database of another program" in result.stderr


def test_a_server_that_is_away_is_told() -> None:
    """With what to do then."""
    fill(DATA, 1)
    result = telemetry("copy", "--to", "postgresql://x@127.0.0.1:1/x")
    assert is_refusal(result, 2)
    assert "nothing listens there" in result.stderr


def test_the_address_may_be_in_the_environment(postgres_url: str) -> None:
    """So that no list of processes shows a password."""
    fill(DATA, 1)
    assert copied(COPY_TO=postgres_url).startswith("the same: ")


def test_a_file_with_the_password_is_of_the_database_that_there_is(postgres_url: str) -> None:
    """From SQLite it is of the target."""
    fill(DATA, 1)
    Path("password").write_text("of-a-test")
    with_file = {"DATABASE_PASSWORD_FILE": "password"}
    assert copied("--to", postgres_url, **with_file).startswith("the same: ")


def test_it_says_how_far_it_is(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many of how many events, at each page."""
    fill(DATA)
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(ProgressLine, "__call__", lambda _self, read, parts: told.append((read, parts)))
    copied("--to", postgres_url)
    assert told[:3] == [(10, 27), (20, 27), (27, 27)]


def test_letters_are_copied_in_portions(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By number and by size; none is left out between two, and none comes twice."""
    fill(DATA)
    bury([dead(one) for one in range(100, 120)])
    bury([dead(7, event_fields(7, zone="z" * 5000))])
    monkeypatch.setattr(letters, "_LETTERS_AT_ONCE", 3)
    monkeypatch.setattr(letters, "_CHARS_AT_ONCE", 2000)
    for _ in range(2):
        copied("--to", postgres_url)
        assert letters_at(postgres_url) == lines_of(DATA / "dlq.jsonl")


def test_names_are_those_of_the_files() -> None:
    """What `everything` reads is what DeadLetterFile writes."""
    letters = DeadLetterFile(Path("dlq.jsonl"), lambda: 1.0)
    letters.put([dead(1)])
    letters.mark_replayed([("1700000000000-1", "1-0")])
    letters.purge(["1700000000000-1"])
    assert {path.name for path in Path().glob("dlq*.jsonl")} == set(FILES)
