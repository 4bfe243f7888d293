"""`telemetry dlq replay` from the letter to the row, on real servers."""

import base64
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from fakes import FakeClock, FakeSpans
from postgres import STORED, PostgresServers, database, rows_of
from samples import KPIS, event_fields, flat, id_of
from servers import Server
from telemetry_cli import json_lines, telemetry

from services.brokers.redis.consuming.dead_letters import DeadLetterStream
from services.brokers.redis.consuming.reading.source import RedisSource
from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.operating.side import RedisOperatorSide
from services.consumer.batch import Rules, run_batch
from services.consumer.breaker import Breaker
from services.consumer.persist import Persist
from services.contract.consuming.doors import Sink
from services.contract.errors import BrokerUnavailable
from services.contract.trace_context import TraceContext
from services.ops.dlq.replay import Mending, replay
from services.ops.dlq.replay_traces import ReplayTraces
from services.ops.server.doors import Server as Door
from services.runtime.health import Health
from services.runtime.logs.gate import build_logger
from services.runtime.settings import ConsumerSettings
from services.runtime.telemetry.metrics import Metrics
from services.runtime.telemetry.spans import set_current
from services.stores.files.dead_letters import DeadLetterFile
from services.stores.postgres.dead_letters import PostgresDeadLetters
from services.stores.postgres.sink import PostgresSink
from services.stores.sqlite.sink import SQLiteSink

KEYS = StreamKeys()


class Pipeline:
    """A consumer whose batches are run one by one, and a producer's hand."""

    def __init__(self, server: Server, place: str, url: str = "") -> None:
        self.environment = {"REDIS_HOST": server.host, "REDIS_PORT": str(server.port), "DEAD_LETTERS": place}
        self.client = server.client()
        self.url = url
        self.sink: Sink
        self.letters: Any
        if url:
            self.environment["DATABASE_URL"] = url
            self.sink = PostgresSink(database(url), time.time)
            self.letters = PostgresDeadLetters(
                database(url), "telemetry", KEYS.stream, time.time, "consumer-1"
            )
        else:
            self.sink = SQLiteSink(Path("data/telemetry.db"), 5000, time.time)
            self.letters = (
                DeadLetterFile(Path("data/dlq.jsonl"), time.time, "consumer-1")
                if place == "file"
                else DeadLetterStream(server.client(), KEYS, time.time, "consumer-1")
            )
        self.clock = FakeClock()
        self.metrics = Metrics("consumer")
        self.logger = build_logger("consumer", "ERROR")
        self.source = RedisSource(
            server.client(),
            KEYS,
            "consumer-1",
            batch_size=100,
            block_ms=1,
            claim_idle_ms=60_000,
            claim_interval_s=60.0,
            monotonic=self.clock.monotonic,
            metrics=self.metrics,
            logger=self.logger,
        )

    def publish(self, fields: list[bytes]) -> str:
        """Add an entry, and give its id."""
        return str(self.client.execute_command("XADD", KEYS.stream, "*", *fields).decode())

    def consume(self) -> None:
        """Take what waits to where it belongs."""
        health = Health(60.0, self.clock.monotonic)
        persist = Persist(self.sink, self.letters, 0, 0.0, self.clock, health, self.metrics, self.logger)
        rules = Rules(KPIS, 300.0, 5)
        while entries := self.source.read():
            run_batch(entries, self.source, rules, persist, Breaker(0.0), time.time)

    def rows(self) -> list[tuple[str, float]]:
        """Give event id and value of what is stored."""
        if self.url:
            return [(one[0], one[5]) for one in rows_of(self.url, STORED)]
        with closing(sqlite3.connect("data/telemetry.db")) as connection:
            return connection.execute("SELECT event_id, value FROM telemetry_events ORDER BY 1").fetchall()

    def replay(self, *arguments: str) -> Any:
        """Run `telemetry dlq replay`."""
        return telemetry("dlq", "replay", *arguments, **self.environment)

    def close(self) -> None:
        """Let go of everything."""
        for one in (self.source, self.sink, self.letters, self.client):
            one.close()


@pytest.fixture(params=["file", "stream", "database"])
def pipeline(
    server: Server, request: pytest.FixtureRequest, postgres_servers: PostgresServers
) -> Iterator[Pipeline]:
    """Give a pipeline with each place for dead letters in turn."""
    is_there = request.param == "database"
    made = Pipeline(server, request.param, postgres_servers.new_database("postgresql") if is_there else "")
    yield made
    made.close()


def test_a_mended_letter_is_stored_once(pipeline: Pipeline) -> None:
    """From the refused entry to the row; a second replay, even a forced one, adds none."""
    pipeline.publish(event_fields(1, value="-1"))
    pipeline.publish(event_fields(2))
    pipeline.consume()
    result = pipeline.replay("--reason", "value_negative", "--set", "value=1.5", "--yes")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "replayed 1\n", "")
    pipeline.consume()
    assert pipeline.rows() == [(id_of(1), 1.5), (id_of(2), 42.25)]
    assert pipeline.replay("--yes").stderr == "no dead letter to replay\n"
    assert pipeline.replay("--set", "value=1.5", "--yes", "--again").stdout == "replayed 1\n"
    pipeline.consume()
    assert pipeline.rows() == [(id_of(1), 1.5), (id_of(2), 42.25)]
    assert len(list(pipeline.letters.read())) == 1


def test_a_replayed_letter_carries_its_mark(pipeline: Pipeline) -> None:
    """In the list, by the time of its replay."""
    entry_id = pipeline.publish(event_fields(1, value="-1"))
    pipeline.consume()
    pipeline.replay("--yes")
    (line,) = json_lines(telemetry("dlq", "list", "--json", "--replayed", **pipeline.environment))
    assert line["entry_id"] == entry_id
    assert line["replayed_at"] <= time.time()


def test_what_still_breaks_a_rule_comes_back_as_another_letter(pipeline: Pipeline) -> None:
    """It is told beforehand, and neither lost nor replayed in a circle."""
    pipeline.publish(event_fields(1, value="-1"))
    pipeline.consume()
    result = pipeline.replay("--yes")
    assert result.exit_code == 0
    assert result.stderr == "still against a rule, so they come back as dead letters: value_negative 1\n"
    pipeline.consume()
    listed = json_lines(telemetry("dlq", "list", "--json", **pipeline.environment))
    assert [line["replayed_at"] is not None for line in listed] == [True, False]


def test_every_byte_is_published_as_it_was_received(pipeline: Pipeline) -> None:
    """No text, a name given twice: the new entry equals the old one."""
    odd = [event_fields(1, zone=b"\xff\xfe"), event_fields(2) + flat([("zone", b"\x80")])]
    for fields in odd:
        pipeline.publish(fields)
    pipeline.consume()
    pipeline.replay("--yes")
    connection = pipeline.client.connection_pool.get_connection()
    connection.send_command("XRANGE", KEYS.stream, "-", "+")
    entries: Any = connection.read_response()
    pipeline.client.connection_pool.release(connection)
    assert [fields for _, fields in entries] == odd * 2


def test_a_letter_without_an_event_id_is_skipped_until_it_is_given_one(pipeline: Pipeline) -> None:
    """The others are replayed; exit code 1 names the one that is not."""
    nameless = pipeline.publish(event_fields(1)[2:])
    pipeline.publish(event_fields(2, value="-1"))
    pipeline.consume()
    result = pipeline.replay("--set", "value=1.5", "--yes")
    assert (result.exit_code, result.stdout) == (1, "replayed 1\n")
    assert result.stderr.startswith(f"1 skipped without a readable event_id: {nameless}; replay each with")
    assert pipeline.replay("--entry", nameless, "--set", f"event_id={id_of(9)}", "--yes").exit_code == 0
    pipeline.consume()
    assert pipeline.rows() == [(id_of(2), 1.5), (id_of(9), 42.25)]


def test_an_unknown_field_can_be_left_out(pipeline: Pipeline) -> None:
    """So that the rest of the event is stored."""
    pipeline.publish(event_fields(1, colour="blue"))
    pipeline.consume()
    assert pipeline.replay("--unset", "colour", "--yes").stderr == ""
    pipeline.consume()
    assert pipeline.rows() == [(id_of(1), 42.25)]


def test_purged_letters_are_gone_and_noted(pipeline: Pipeline) -> None:
    """In the file as in the stream."""
    entry_id = pipeline.publish(event_fields(1, value="-1"))
    pipeline.consume()
    result = telemetry("dlq", "purge", "--stage", "validate", "--yes", **pipeline.environment)
    assert result.stdout == "purged 1 dead letter (value_negative 1)\n"
    assert list(pipeline.letters.read()) == []
    assert [(note.entry_id, note.event_id) for note in pipeline.letters.purged()] == [(entry_id, id_of(1))]


def packed(*lines: bytes, events: int = 0) -> list[bytes]:
    """Write an entry of many events."""
    return [b"events", b"%d" % (events or len(lines)), b"lines", b"".join(line + b"\n" for line in lines)]


def line(number: int, **changes: str | bytes) -> bytes:
    """Write an event as a line."""
    return b"\t".join(event_fields(number, **changes)[1::2])


def test_every_event_of_an_entry_of_many_is_replayed(pipeline: Pipeline) -> None:
    """From a consumer that knew no such entry and wrote one letter of it: each is stored, it is marked."""
    entry_id = pipeline.publish(packed(line(1), line(2, value="-1"), line(3)))
    pipeline.consume()
    (letter,) = pipeline.letters.read()
    assert (letter.entry_id, letter.reason) == (entry_id, "missing_field")
    told = json_lines(pipeline.replay("--dry-run", "--json"))
    assert [(one["entry_id"], one["event_id"], one["outcome"][:9]) for one in told] == [
        (f"{entry_id}/1", id_of(1), "published"),
        (f"{entry_id}/2", id_of(2), "comes back"[:9]),
        (f"{entry_id}/3", id_of(3), "published"),
    ]
    assert pipeline.replay("--yes").stdout == "replayed 3\n"
    pipeline.consume()
    assert [event_id for event_id, _ in pipeline.rows()] == [id_of(1), id_of(3)]
    assert list(pipeline.letters.replayed()) == [entry_id]


def test_an_entry_of_many_that_is_not_whole_is_not_replayed(pipeline: Pipeline) -> None:
    """Nor is one id given to all of its events. With one left out, for want of an id, it stays unmarked."""
    cut = pipeline.publish(packed(line(1), events=2))
    pipeline.consume()
    result = pipeline.replay("--yes")
    assert result.exit_code == 1
    assert f"refused {cut}: not all of it is there: 1 whole lines of 2" in result.stderr
    whole = pipeline.publish(packed(line(2), line(3, event_id="")))
    pipeline.consume()
    result = pipeline.replay("--entry", whole, "--set", f"event_id={id_of(9)}", "--yes")
    assert f"refused {whole}: it has 2 events, and one event_id is for one of them" in result.stderr
    result = pipeline.replay("--entry", whole, "--yes")
    assert result.exit_code == 1
    assert f"{whole}/2" in result.stderr
    assert pipeline.letters.replayed() == {}
    pipeline.consume()
    assert [event_id for event_id, _ in pipeline.rows()] == [id_of(2)]


def test_an_entry_of_many_with_an_event_that_is_refused_stays_unmarked(pipeline: Pipeline) -> None:
    """Its event is in the letter alone, and a purge of what is replayed would give it up."""
    large = line(1, zone="z" * 9000)
    entry_id = pipeline.publish(packed(large, line(2)))
    pipeline.consume()
    environment = {**pipeline.environment, "MAX_ENTRY_BYTES": "8192"}
    result = telemetry("dlq", "replay", "--yes", **environment)
    assert result.exit_code == 1
    assert f"refused {entry_id}/1: 9" in result.stderr
    pipeline.consume()
    assert [event_id for event_id, _ in pipeline.rows()] == [id_of(2)]
    assert pipeline.letters.replayed() == {}
    telemetry("dlq", "purge", "--replayed", "--yes", **environment)
    assert [letter.entry_id for letter in pipeline.letters.read()] == [entry_id]


def test_an_interruption_repeats_no_more_than_a_chunk(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was published before the server went away is marked, and isn't published again."""
    monkeypatch.setattr("services.ops.dlq.replay._CHUNK", 2)
    ids = [pipeline.publish(event_fields(number, value="-1")) for number in range(1, 6)]
    pipeline.consume()
    settings = ConsumerSettings(kpis=KPIS)
    breaking: Any = _Breaking(pipeline.client)
    door = Door(RedisOperatorSide(breaking, settings), settings)
    with pytest.raises(BrokerUnavailable, match="can't be reached: gone"):
        replay(door, pipeline.letters, ids, Mending({"value": "1"}), 2e9)
    assert sorted(pipeline.letters.replayed()) == sorted(ids[:2])
    assert pipeline.replay("--set", "value=1", "--yes").stdout == "replayed 3\n"
    pipeline.consume()
    assert pipeline.rows() == [(id_of(number), 1.0) for number in range(1, 6)]


def test_a_replay_has_a_span_that_links_to_where_each_letter_died(pipeline: Pipeline) -> None:
    """In the trace that its event came with, or in that of the batch; an event's own context stays."""
    theirs = TraceContext("ab" * 16, "cd" * 8, is_sampled=True)
    batch = TraceContext("12" * 16, "34" * 8, is_sampled=True)
    set_current(batch)
    ids = [
        pipeline.publish(event_fields(1, value="-1", traceparent=theirs.traceparent)),
        pipeline.publish(event_fields(2, value="-1")),
    ]
    pipeline.consume()
    set_current(None)
    pipeline.client.delete(KEYS.stream)
    spans = FakeSpans()
    settings = ConsumerSettings(kpis=KPIS)
    door = Door(RedisOperatorSide(pipeline.client, settings), settings)
    replay(door, pipeline.letters, ids, Mending({"value": "1"}), 2e9, ReplayTraces(spans, KEYS.stream))
    span = spans.one("send telemetry_stream")
    assert (span.kind, span.attributes["messaging.batch.message_count"]) == ("producer", 2)
    assert [link.context for link in span.links] == [theirs, batch]
    assert [link.attributes["messaging.message.id"] for link in span.links] == ids
    found: Any = pipeline.client.xrange(KEYS.stream)
    assert [fields[b"traceparent"].decode() for _, fields in found] == [
        theirs.traceparent, span.context.traceparent,
    ]  # fmt: skip


class _Breaking:
    """A client that its server leaves before the second pipeline."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._pipelines = 0

    def pipeline(self, *, transaction: bool) -> Any:
        """Give a pipeline, once."""
        self._pipelines += 1
        if self._pipelines > 1:
            raise redis.ConnectionError("gone")
        return self._client.pipeline(transaction=transaction)


def _whole(text: str) -> list[bytes]:
    """Read what `dlq show --raw` says."""
    pairs = json.loads(text)["fields"]
    return [base64.b64decode(part["base64"]) for pair in pairs for part in pair]


def test_a_truncated_letter_is_listed_shown_purged_and_never_replayed(pipeline: Pipeline) -> None:
    """Its beginning and size are told, all of it is given as base64, and a replay says why it refuses."""
    fields = [*event_fields(1), b"blob", b"\x1b]0;PWNED\x07\xff" * 200_000]
    entry_id = pipeline.publish(fields)
    good = pipeline.publish(event_fields(2, value="-1"))
    pipeline.consume()
    size = sum(map(len, fields))

    def ask(*arguments: str) -> Any:
        return telemetry("dlq", *arguments, **pipeline.environment)

    (listed,) = json_lines(ask("list", "--json", "--reason", "entry_too_large"))
    assert (listed["entry_id"], listed["truncated"], listed["size_bytes"]) == (entry_id, True, size)
    assert listed["event"]["event_id"] == id_of(1)
    shown = ask("show", entry_id)
    assert shown.exit_code == 0
    assert f"{size:,} bytes" in shown.stdout
    assert "--raw" in shown.stdout
    assert "\x1b" not in shown.stdout
    raw = ask("show", "--raw", entry_id)
    assert raw.exit_code == 0
    assert raw.stdout.isascii()
    assert "\x1b" not in raw.stdout
    assert _whole(raw.stdout) == fields
    # Of a letter that is whole it gives what the letter has.
    assert _whole(ask("show", "--raw", good).stdout) == event_fields(2, value="-1")

    refused = pipeline.replay("--yes", "--set", "value=1")
    assert refused.exit_code == 1
    assert refused.stdout == "replayed 1\n"
    assert f"refused {entry_id}: truncated: the entry was {size} bytes large" in refused.stderr
    assert "Traceback" not in refused.stderr
    planned = json_lines(ask("replay", "--dry-run", "--json", "--reason", "entry_too_large"))
    assert planned[0]["outcome"].startswith("refused: truncated")

    pipeline.client.delete(KEYS.large)
    gone = ask("show", "--raw", entry_id)
    assert gone.exit_code == 1
    assert "is kept no more, or never was" in gone.stderr
    assert ask("purge", "--reason", "entry_too_large", "--yes").exit_code == 0
    assert json_lines(ask("list", "--json", "--reason", "entry_too_large")) == []
    assert "no dead letter" in ask("show", "--raw", entry_id).stderr


def test_a_piece_that_is_missing_is_said(pipeline: Pipeline) -> None:
    """Half of an entry is not given as the whole."""
    entry_id = pipeline.publish([*event_fields(1), b"blob", b"b" * 3_000_000])
    pipeline.consume()
    found: Any = pipeline.client.xrange(KEYS.large)
    pipeline.client.xdel(KEYS.large, found[1][0])
    raw = telemetry("dlq", "show", "--raw", entry_id, **pipeline.environment)
    assert raw.exit_code == 1
    assert f"entry {entry_id}: piece 2 of 3 is missing" in raw.stderr


def test_a_letter_larger_than_entries_may_be_is_not_replayed(pipeline: Pipeline) -> None:
    """It would only come back cut: the setting is named."""
    entry_id = pipeline.publish([*event_fields(1), b"blob", b"b" * 500_000])
    pipeline.consume()
    environment = {**pipeline.environment, "MAX_ENTRY_BYTES": "100000"}
    refused = telemetry("dlq", "replay", "--yes", **environment)
    assert refused.exit_code == 1
    assert f"refused {entry_id}: 5" in refused.stderr
    assert "more than MAX_ENTRY_BYTES 100000" in refused.stderr
