"""The audit finds what is missing and names it, and says nothing is missing when nothing is."""

import contextlib
import json
import sqlite3
import sys
import time
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

import pytest
from acceptance.publisher import KEYS, Publisher
from acceptance.rig import CROWDED, PATIENCE_S, Rig
from servers import eventually

from services.contract.ids import CANONICAL, id_pattern
from services.ops.audit.result import Audit, Tally
from services.stores.files.dead_letters import DeadLetterFile
from services.stores.sqlite.sink import SQLiteSink

LOAD_S = 4.0


@pytest.fixture
def settled(rig: Rig) -> Publisher:
    """Give a run of every kind of event, all of it settled, and nobody running."""
    publisher = rig.publisher()
    publisher.mix(300).send()
    consumer = rig.consumer(RETENTION_INTERVAL_S="0")
    rig.drain(consumer)
    consumer.stop()
    rig.assert_complete()
    return publisher


def _names(publisher: Publisher, event_ids: Collection[str | None]) -> list[str]:
    """Name events as the audit does, which doesn't know their milliseconds."""
    sequences = sorted(int(str(event_id)[27:], 16) for event_id in event_ids)
    return [id_pattern(publisher.run, sequence) for sequence in sequences]


def _assert_missing(result: Audit, publisher: Publisher, event_ids: Collection[str | None]) -> None:
    assert result.total.missing == len(event_ids)
    (run,) = result.runs
    assert run.missing == _names(publisher, event_ids)
    assert f"missing={len(event_ids)}" in result.line()


def _read_as(rig: Rig, name: str, count: int) -> list[str]:
    """Have entries delivered to a consumer that never settles them."""
    reply: Any = rig.client.xreadgroup(KEYS.group, name, {KEYS.stream: ">"}, count=count)
    return [entry_id.decode() for entry_id, _ in reply[0][1]]


def test_a_deleted_row_is_named(rig: Rig, settled: Publisher) -> None:
    """Rows that are deleted from the database are missing, each by its number."""
    gone = [one.event_id for one in settled.entries if one.event is not None][10:13]
    with contextlib.closing(sqlite3.connect(rig.settings.database)) as connection:
        connection.executemany("DELETE FROM telemetry_events WHERE event_id = ?", [(one,) for one in gone])
        connection.commit()
    _assert_missing(rig.audit(), settled, set(gone))


def test_a_deleted_row_is_named_where_a_conflict_of_its_id_is_a_dead_letter(rig: Rig) -> None:
    """A letter of another content under the same id doesn't stand for the row."""
    publisher = rig.publisher()
    publisher.valid(1).conflict(3).send()
    consumer = rig.consumer()
    rig.drain(consumer)
    consumer.stop()
    rig.assert_complete()
    assert len(rig.letters()) == 3
    with contextlib.closing(sqlite3.connect(rig.settings.database)) as connection:
        connection.execute("DELETE FROM telemetry_events")
        connection.commit()
    _assert_missing(rig.audit(), publisher, {publisher.entries[0].event_id})


def test_a_removed_dead_letter_is_named(rig: Rig, settled: Publisher) -> None:
    """A line that is removed from the dead letters is missing, by its event's number."""
    gone = next(one for one in settled.entries if one.event is None and one.event_id is not None)
    _remove_letter(rig, gone.entry_id)
    _assert_missing(rig.audit(), settled, [gone.event_id])


def test_a_removed_dead_letter_without_an_id_is_counted(rig: Rig, settled: Publisher) -> None:
    """An event that has no readable id can't be named, and is missed all the same."""
    gone = next(one for one in settled.entries if one.event_id is None)
    before = rig.audit().total
    _remove_letter(rig, gone.entry_id)
    result = rig.audit()
    assert result.total.missing == 1
    assert result.total.dead == before.dead - 1
    assert result.runs[0].missing == ["1 events without a readable event_id"]


def _remove_letter(rig: Rig, entry_id: str) -> None:
    path = rig.settings.dead_letter_file
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if entry_id.encode() not in line))


def test_what_waits_is_counted_where_it_waits(rig: Rig, settled: Publisher) -> None:
    """Delivered and not acknowledged is pending; the rest of the stream is undelivered."""
    before = rig.audit().total
    settled.valid(20).send()
    _read_as(rig, "sleeper-1", 4)
    _read_as(rig, "sleeper-2", 3)
    total = rig.audit().total
    assert (total.pending, total.undelivered, total.missing) == (7, 13, 0)
    assert (total.stored, total.dead) == (before.stored, before.dead)
    assert total.published == before.published + 20


def test_everything_is_undelivered_before_there_is_a_consumer(rig: Rig) -> None:
    """Without a group, a database or dead letters, all that is published waits."""
    rig.publisher().valid(50).invalid(10).unreadable(5).send()
    total = rig.audit().total
    assert (total.published, total.undelivered, total.missing) == (65, 65, 0)


def test_a_trimmed_undelivered_entry_is_named(rig: Rig, settled: Publisher) -> None:
    """An entry that was removed before anybody had it is missing."""
    gone = settled.valid(10).send()[4]
    assert rig.client.xdel(KEYS.stream, gone.entry_id) == 1
    result = rig.audit()
    _assert_missing(result, settled, [gone.event_id])
    assert result.total.undelivered == 9


def test_trimmed_pending_entries_are_named(rig: Rig, settled: Publisher) -> None:
    """Entries that were removed from under their consumer are missing, and it is said why."""
    entries = settled.valid(10).send()
    delivered = _read_as(rig, "sleeper", 6)
    gone = [entries[0], entries[5]]
    assert rig.client.xdel(KEYS.stream, *(one.entry_id for one in gone)) == 2
    assert [one.entry_id in delivered for one in gone] == [True, True]
    result = rig.audit()
    _assert_missing(result, settled, [one.event_id for one in gone])
    assert (result.total.pending, result.total.undelivered) == (4, 4)
    assert any("2 pending entries have no content" in note for note in result.notes)


def test_trimmed_pending_entries_are_still_named_after_a_consumer_has_met_them(
    rig: Rig, settled: Publisher
) -> None:
    """A consumer that finds its entries emptied says so and goes on; the audit still misses them."""
    entries = settled.valid(30).send()
    _read_as(rig, "consumer-1", 6)
    gone = entries[1:4]
    rig.client.xdel(KEYS.stream, *(one.entry_id for one in gone))
    consumer = rig.consumer("consumer-1")
    rig.drain(consumer)
    consumer.stop()
    (line,) = consumer.lines("pending_entries_trimmed")
    assert (line["levelname"], line["entries"], line["first"]) == ("ERROR", 3, gone[0].entry_id)
    result = rig.audit()
    _assert_missing(result, settled, [one.event_id for one in gone])
    assert (result.total.pending, result.total.undelivered) == (0, 0)


def test_entries_that_were_thrown_away_with_their_consumer_are_named(rig: Rig, settled: Publisher) -> None:
    """XGROUP DELCONSUMER ends the waiting of all that it had in hand, and nobody is ever given it again."""
    entries = settled.valid(60).send()
    gone = set(_read_as(rig, "removed", 40))
    assert rig.client.xgroup_delconsumer(KEYS.stream, KEYS.group, "removed") == 40
    consumer = rig.consumer()
    rig.drain(consumer)
    consumer.stop()
    result = rig.audit(show=100)
    _assert_missing(result, settled, [one.event_id for one in entries if one.entry_id in gone])
    assert (result.total.pending, result.total.undelivered) == (0, 0)


def test_a_trimmed_head_and_a_trimmed_tail_are_named(rig: Rig, settled: Publisher) -> None:
    """Entries cut off at either end of what nobody has read yet are missing."""
    entries = settled.valid(20).send()
    newest = [one.entry_id for one in entries[-3:]]
    rig.client.xdel(KEYS.stream, *newest)
    rig.client.xtrim(KEYS.stream, minid=entries[2].entry_id, approximate=False)
    result = rig.audit()
    _assert_missing(result, settled, [one.event_id for one in (*entries[:2], *entries[-3:])])
    assert result.total.undelivered == 15


def test_the_audit_is_exact_beside_running_consumers(rig: Rig) -> None:
    """However events move while it reads, an audit under load finds all that was published before it."""
    publisher = rig.publisher()
    busy = {**CROWDED, "RETENTION_INTERVAL_S": "0.05"}
    consumers = [rig.consumer(f"consumer-{number}", **busy) for number in range(2)]
    audits = 0
    ends = time.monotonic() + LOAD_S
    while time.monotonic() < ends:
        publisher.mix(300).send()
        published = rig._distinct()
        for _ in range(3):
            result = rig.audit()
            audits += 1
            assert result.total.missing == 0, result
            assert result.total.published - result.total.conflicts == published
    rig.drain(*consumers)
    for one in consumers:
        one.stop()
    rig.assert_complete()
    print(f"{audits} audits under load")


def test_purged_letters_are_not_missing(rig: Rig, settled: Publisher) -> None:
    """Dead letters that an operator has purged are accounted for as such."""
    before = rig.audit().total
    letters = rig.letters()
    purged = [one for one in settled.entries if one.event is None][:8]
    store = DeadLetterFile(rig.settings.dead_letter_file, time.time)
    assert store.purge({one.entry_id for one in purged}) >= 8
    result = rig.audit()
    assert result.total.missing == 0
    assert (result.total.purged, result.total.dead) == (8, before.dead - 8)
    assert "purged=8" in result.line()
    assert len(rig.letters()) == len(letters) - 8


def test_ids_of_others_are_proven_by_the_list_of_the_run(rig: Rig) -> None:
    """A replayed file keeps its own ids, and each of them is looked for by name."""
    publisher = rig.publisher()
    entries = publisher.foreign(40).valid(10).send()
    waiting = rig.audit().total
    assert (waiting.published, waiting.undelivered, waiting.missing) == (50, 50, 0)
    consumer = rig.consumer()
    rig.drain(consumer)
    consumer.stop()
    assert rig.audit().total.stored == 50
    gone = entries[7].event_id
    with contextlib.closing(sqlite3.connect(rig.settings.database)) as connection:
        connection.execute("DELETE FROM telemetry_events WHERE event_id = ?", (gone,))
        connection.commit()
    result = rig.audit()
    assert result.total.missing == 1
    assert result.runs[0].missing == ["1 events whose ids nobody knows any more"], "they were proven"
    assert result.unknown_rows == 0


def test_events_that_are_published_again_from_a_file_are_no_further_events(rig: Rig) -> None:
    """Stored or dead, some of them or all, once or twice: they count for the run that has numbered them."""
    file = rig.folder / "again.jsonl"

    def publish(*options: str, ends_with: tuple[int, ...] = (0,)) -> None:
        quiet = {"PRODUCER_METRICS_PORT": "0", "DEVICE_COUNT": "7"}
        producer = rig.start("producer", [*rig.python, "-m", "services.producer", *options], quiet)
        assert producer.wait() in ends_with

    def drain() -> None:
        eventually(lambda: rig.client.xlen(KEYS.stream) == 0, PATIENCE_S, "all is acknowledged and trimmed")

    publish("--rate", "200", "--duration", "1", "--invalid-ratio", "0.3")
    found: Any = rig.client.xrange(KEYS.stream)
    contents = [
        {name.decode(): value.decode(errors="replace") for name, value in one.items()} for _, one in found
    ]
    named = [one for one in contents if CANONICAL.fullmatch(one.get("event_id", ""))]
    consumer = rig.consumer(RETENTION_INTERVAL_S="0.2")
    drain()
    before = rig.audit()
    assert before.total.stored > 0 < before.total.dead
    for lines in (named[::2], [*named, *named]):
        file.write_text("".join(f"{json.dumps(one)}\n" for one in lines), encoding="utf-8")
        publish("--from", str(file), ends_with=(0, 3))  # 3: some lines were refused
        waiting = rig.audit()
        assert min(asdict(waiting.unrecorded).values()) == 0 == waiting.unrecorded.published
        drain()
        after = rig.audit()
        assert after.total.missing == 0
        # A file can't say all that spoils an event, so some of the dead are stored by then, or in conflict.
        assert after.total.published - after.total.conflicts == before.total.published
        assert after.unrecorded == Tally()
        assert after.total.stored == rig.count()
    # Where the record of the run is gone, what is proven of it still tells whose events they are.
    (run,) = (one.run for one in before.runs)
    rig.client.srem(KEYS.runs, run)
    rig.client.delete(KEYS.run(run))
    gone = rig.audit()
    assert gone.total.missing == 0
    assert gone.total.stored + gone.unrecorded.stored == rig.count()
    assert gone.tampered_or_lost == [run]
    assert gone.total.published - gone.total.conflicts == before.total.published
    consumer.stop()


def test_every_id_of_a_long_list_is_looked_for(rig: Rig) -> None:
    """A large replay's ids are read piece by piece, to the last one."""
    publisher = rig.publisher()
    publisher.foreign(20_001).send()
    total = rig.audit().total
    assert (total.published, total.undelivered, total.missing) == (20_001, 20_001, 0)
    for gone in (publisher.entries[10_000], publisher.entries[-1]):
        rig.client.xdel(KEYS.stream, gone.entry_id)
    result = rig.audit()
    assert result.total.missing == 2
    assert result.runs[0].missing == [publisher.entries[10_000].event_id, publisher.entries[-1].event_id]


def test_a_run_whose_record_redis_has_lost_is_named(rig: Rig, settled: Publisher) -> None:
    """What audits have proven of it is still known; that nothing more was published is not."""
    before = rig.audit().total
    rig.client.delete(KEYS.run(settled.run), KEYS.runs)
    result = rig.audit()
    assert (result.total, result.unknown_rows) == (before, 0)
    assert result.tampered_or_lost == [settled.run]
    assert "the broker has no record of it" in result.problems[0]
    assert not result.is_proven


def test_rows_of_runs_that_nobody_knows_are_noted(rig: Rig) -> None:
    """No audit has met them, and the record is gone: nothing can be proven, and it says so."""
    publisher = rig.publisher()
    publisher.valid(20).send()
    consumer = rig.consumer()
    rig.drain(consumer)
    consumer.stop()
    rig.client.delete(KEYS.run(publisher.run), KEYS.runs)
    result = rig.audit()
    assert (result.total.published, result.total.missing) == (0, 0)
    assert result.unknown_rows == 20
    assert any("20 stored events" in note for note in result.notes)
    assert result.problems[0].startswith("nothing is proven: no producer run was ever recorded")
    assert not result.is_proven


def test_a_record_that_says_less_than_what_is_stored_is_named(rig: Rig, settled: Publisher) -> None:
    """Events above the recorded number: somebody lowered it, or the server has lost its latest writes."""
    rig.client.hset(KEYS.run(settled.run), "last", settled.last - 10)
    result = rig.audit()
    assert result.total.missing == 0
    assert result.runs[0].beyond > 0
    assert result.tampered_or_lost == [settled.run]
    assert f"the record of run {settled.run} was tampered with or lost" in result.problems[0]
    assert not result.is_proven


_AUDIT = """
import re, sys, time
from pathlib import Path
from services.ops.audit.proving import prove
from services.runtime.settings import ConsumerSettings

def peak_kb():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])

settings = ConsumerSettings(redis_port=int(sys.argv[1]), redis_host="127.0.0.1", data_dir=Path(sys.argv[2]))
before = peak_kb()
started = time.monotonic()
result = prove(settings)
seconds = time.monotonic() - started
grown = peak_kb() - before
print(result.line(), result.runs[0].missing, f"grown_kb={grown}", f"seconds={seconds:.2f}", sep="|")
"""


def test_a_million_events_are_audited_in_bounded_memory(rig: Rig) -> None:
    """A million rows and their record: each looked for by its number, in a few megabytes."""
    publisher = rig.publisher()
    million = 1_000_000
    _fill(rig, publisher, million, without=765_432)
    rig.client.sadd(KEYS.runs, publisher.run)
    rig.client.hset(KEYS.run(publisher.run), mapping={"last": million, "published": million})
    code = ["-c", _AUDIT, str(rig.server.port), str(rig.data)]
    audit = rig.start("audit", [sys.executable, *code], {})
    assert audit.wait(120) == 0, audit.text
    line, missing, grown, seconds = audit.text.strip().split("|")
    print(line, grown, seconds)
    assert line == (
        "audit: published=1000000 stored=999999 dead=0 conflicts=0 pending=0 undelivered=0 missing=1"
    )
    assert missing == str([id_pattern(publisher.run, 765_432)])
    assert int(grown.removeprefix("grown_kb=")) < 48_000


def _fill(rig: Rig, publisher: Publisher, rows: int, without: int) -> None:
    """Fill the database as consumers would have done, but faster."""
    SQLiteSink(rig.settings.database, 5000, time.time).close()
    with contextlib.closing(sqlite3.connect(rig.settings.database)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(
            "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?1) "
            "INSERT INTO telemetry_events "
            "(event_id, device_id, zone, ts, kpi, value, is_degraded, stored_at) "
            "SELECT '018f3c5e-8a10-' || ?2 || printf('%09x', n), 'd', 'z', 1.7e9, 'humidity', 1.0, 0, 1.7e9 "
            "FROM number WHERE n <> ?3",
            (rows, publisher.run, without),
        )
        connection.commit()


def test_the_audit_command_agrees_and_its_exit_code_tells(rig: Rig, settled: Publisher) -> None:
    """`telemetry audit` in a process of its own: 0 and missing=0, then 1 and the name of what is gone."""
    assert "missing=0" in _command(rig, 0)
    gone = next(one.event_id for one in settled.entries if one.event is not None)
    with contextlib.closing(sqlite3.connect(rig.settings.database)) as connection:
        connection.execute("DELETE FROM telemetry_events WHERE event_id = ?", (gone,))
        connection.commit()
    assert "missing=0" in _command(rig, 0), "what is proven is not looked at again"
    text = _command(rig, 1, "--full")
    assert "missing=1" in text
    assert _names(settled, [gone])[0] in text


def _command(rig: Rig, code: int, *options: str) -> str:
    audit = rig.start("audit", [sys.executable, "-m", "services.ops", "audit", *options], {})
    assert audit.wait() == code, audit.text
    return audit.text
