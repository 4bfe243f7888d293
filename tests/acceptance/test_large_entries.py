"""Large entries against consumers and producers with the memory that the chart gives them."""

import base64
import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from acceptance.memory import MemoryLimit, memory_limit
from acceptance.publisher import KEYS, Publisher, _pairs
from acceptance.rig import PATIENCE_S, Process, Rig
from fakes import FakeDeadLetters
from samples import flat
from servers import eventually, free_port

from services.brokers.redis.operating.side import RedisOperatorSide
from services.ops.dlq.raw import raw_json

CONSUMER_MIB = 256
PRODUCER_MIB = 128
MEGABYTE = 1_000_000
FULL = (1 << 20) - 400
"""Bytes that an entry of MAX_ENTRY_BYTES has room for beside an event."""


@pytest.fixture
def limit() -> Iterator[MemoryLimit]:
    """Limit memory to that of the chart's consumer."""
    with memory_limit(CONSUMER_MIB) as one:
        yield one


def add(publisher: Publisher, blob: bytes, reason: str = "unknown_field") -> None:
    """Make an event that is valid but for a field too many."""
    event = publisher._event()
    publisher._add([*flat([*_pairs(event)]), b"blob", blob], event.event_id, reason=reason)


def supervise(rig: Rig, limit: MemoryLimit, *names: str, **environment: str) -> int:
    """Start a consumer again whenever it dies, until all is settled; gives how often it was killed."""
    kills = 0
    while True:
        consumer = limited(rig, limit, names[kills % len(names)] if names else "consumer-1", environment)
        eventually(
            lambda consumer=consumer: consumer.exit_code is not None or rig.is_drained(),  # type: ignore[misc]
            3 * PATIENCE_S,
            "its end, or the work's",
        )
        if consumer.exit_code is None:
            consumer.stop()
            return kills
        assert consumer.exit_code == -signal.SIGKILL, consumer.text[-2000:]
        kills += 1
        assert kills < 10, "it is killed without end"
        rig.assert_law()


def limited(rig: Rig, limit: MemoryLimit, name: str, environment: dict[str, str]) -> Process:
    """Start a consumer within the limit."""
    command = limit.command([sys.executable, "-m", "services.consumer"])
    chart = {"BATCH_SIZE": "500", "CONSUMER_NAME": name}
    process = rig.start(name, command, {**chart, **environment})
    limit.watch(process)
    return process


def _one(publisher: Publisher) -> None:
    add(publisher.valid(5), b"b" * (64 * MEGABYTE), "entry_too_large")
    publisher.valid(10)


def _several(publisher: Publisher) -> None:
    for _ in range(3):
        add(publisher.valid(25), b"b" * (40 * MEGABYTE), "entry_too_large")
    publisher.valid(10)


def _many(publisher: Publisher) -> None:
    for _ in range(150):
        add(publisher, b"b" * MEGABYTE)
    publisher.valid(10)


def _feeds(publisher: Publisher) -> None:
    for _ in range(5):
        add(publisher.valid(), b"\n" * FULL)
        add(publisher.valid(), b"\n" * (3 * MEGABYTE), "entry_too_large")


def _bytes(publisher: Publisher) -> None:
    for blob in (b"\0", b"\xff", b"\t", "\N{GRINNING FACE}".encode()):
        for _ in range(3):
            add(publisher.valid(), blob * (FULL // len(blob)))
    publisher.raw([b"\0" * FULL, b""], "missing_field").valid()
    publisher.raw([part for n in range(80_000) for part in (b"%d" % n, b"\0")], "missing_field").valid()
    publisher.raw([part for n in range(120_000) for part in (b"%d" % n, b"")], "missing_field").valid()


@pytest.mark.parametrize(
    ("publish", "batch_size", "most_kills"),
    [
        pytest.param(_one, "500", 2, id="one of 64 MB"),
        pytest.param(_several, "10", 2, id="three of 40 MB, in batches of their own"),
        pytest.param(_several, "500", 2, id="three of 40 MB"),
        pytest.param(_many, "500", 2, id="150 of 1 MB"),
        pytest.param(_feeds, "500", 0, id="line feeds"),
        pytest.param(_bytes, "500", 0, id="any bytes"),
    ],
)
def test_large_entries_kill_twice_at_most(
    rig: Rig, limit: MemoryLimit, publish: Callable[[Publisher], None], batch_size: str, most_kills: int
) -> None:
    """Whatever the sizes are, then all is settled: events stored, letters whole up to the limit, none lost.

    The metrics port is open, so the consumer observes the group as well.
    """
    publisher = rig.publisher()
    publish(publisher)
    publisher.send()
    kills = supervise(rig, limit, BATCH_SIZE=batch_size, CONSUMER_METRICS_PORT=str(free_port()))
    assert kills <= most_kills
    letters = rig.letters()
    for one in rig.published:
        if one.event is not None:
            continue
        letter = letters[one.entry_id][-1]
        assert letter.truncated == (one.reason == "entry_too_large")
        if letter.truncated:
            assert letter.text("event_id") == one.event_id
            assert letter.size_bytes == sum(map(len, one.fields))
        else:
            assert letter.fields == one.fields
    rig.assert_complete()


def test_what_killed_one_is_cut_by_the_other(rig: Rig, limit: MemoryLimit) -> None:
    """A successor of another name claims the entry, and looks at it first; the server keeps all of it."""
    publisher = rig.publisher()
    # Behind a first batch that is taken with care.
    publisher.valid(600)
    add(publisher, b"b" * (64 * MEGABYTE), "entry_too_large")
    (*_, large) = publisher.valid(5).send()[600:601]
    assert supervise(rig, limit, "consumer-1", "consumer-2", BATCH_SIZE="100") <= 2
    rig.assert_complete()
    text = "".join(raw_json(RedisOperatorSide(rig.client, rig.settings), FakeDeadLetters(), large.entry_id))
    assert [base64.b64decode(part["base64"]) for pair in json.loads(text)["fields"] for part in pair] == (
        large.fields
    )


def test_a_producer_gets_through_a_file_of_long_lines(rig: Rig, tmp_path: Path) -> None:
    """A hundred and fifty lines of a megabyte under the memory of the chart's producer, without one death."""
    path = tmp_path / "long.jsonl"
    with path.open("w") as file:
        for number in range(150):
            line = {
                "device_id": f"{number}-" + "x" * MEGABYTE,
                "zone": "z",
                "ts": "1700000000",
                "kpi": "humidity",
            }
            file.write(json.dumps({**line, "value": "1"}) + "\n")
    with memory_limit(PRODUCER_MIB) as limit:
        command = [sys.executable, "-m", "services.producer", "--from", str(path), "--resume"]
        settings = {"PRODUCER_METRICS_PORT": "0", "BATCH_SIZE": "500", "SLEEP_INTERVAL": "0"}
        producer = rig.start("producer", limit.command(command), settings)
        limit.watch(producer)
        assert producer.wait(3 * PATIENCE_S) == 0, producer.text[-2000:]
        assert rig.client.xlen(KEYS.stream) == 150
