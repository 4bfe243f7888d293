"""Producers that begin to write entries of many events, beside consumers of both versions, and go back."""

import signal
import sys
from typing import Any, Final, cast

from acceptance.rig import PATIENCE_S, ROOT, Process, Rig
from servers import eventually

from services.brokers.redis.keys import StreamKeys

KEYS: Final = StreamKeys()
_CONSUMING: Final = {"BATCH_SIZE": "500"}


def _producer(rig: Rig, events_per_entry: int) -> Process:
    settings = {
        "EVENTS_PER_ENTRY": str(events_per_entry), "BATCH_SIZE": "100", "RATE": "1000",
        "PRODUCER_RUN_DURATION": "0", "PRODUCER_METRICS_PORT": "0",
    }  # fmt: skip
    return rig.start("producer", [sys.executable, "-m", "services.producer"], settings)


def _earlier(rig: Rig, name: str) -> Process:
    script = ROOT / "tests" / "acceptance" / "earlier.py"
    return rig.start(name, [sys.executable, script], {"CONSUMER_NAME": name, **_CONSUMING})


def _reads(rig: Rig, name: str) -> bool:
    groups = cast("list[Any]", rig.client.xinfo_consumers(KEYS.stream, KEYS.group))
    return name.encode() in {one["name"] for one in groups}


def _goes_on(rig: Rig) -> None:
    """Wait until more is stored."""
    rig.wait_for_rows(rig.count() + 300)


def _end(one: Process) -> dict[str, Any]:
    one.signal(signal.SIGTERM)
    assert one.wait() == 0, one.text
    (line,) = one.lines("producer_finished")
    return line


def _is_settled(rig: Rig) -> bool:
    (group,) = cast("list[Any]", rig.client.xinfo_groups(KEYS.stream))
    return (group["lag"], group["pending"]) == (0, 0)


def test_an_upgrade_and_a_rollback_under_load_make_no_dead_letter(rig: Rig) -> None:
    """Consumers of both versions side by side; entries of many are written while no earlier one reads."""
    old = _earlier(rig, "old-1")
    old.says("consumer_started")
    packing = _producer(rig, 50)
    packing.says("entries_not_packed")
    _goes_on(rig)
    new = rig.consumer("new-1", **_CONSUMING)
    eventually(lambda: _reads(rig, "new-1"), PATIENCE_S, "the new one reads")
    _goes_on(rig)
    assert packing.lines("entries_packed") == []
    assert rig.client.exists(KEYS.events) == 0
    old.stop()
    packing.says("entries_packed")
    _goes_on(rig)
    published = _end(packing)["published"]

    single = _producer(rig, 1)
    eventually(lambda: rig.client.xlen(KEYS.events) == 1, PATIENCE_S, "entries of many are gone")
    again = _earlier(rig, "old-2")
    eventually(lambda: _reads(rig, "old-2"), PATIENCE_S, "the earlier one reads")
    new.stop()
    _goes_on(rig)
    published += _end(single)["published"]
    eventually(lambda: _is_settled(rig), PATIENCE_S, "all is settled")
    again.stop()
    assert rig.letters() == {}
    assert len(rig.stored()) == published
    total = rig.audit().total
    assert (total.published, total.stored, total.missing) == (published, published, 0)


def test_consumers_killed_at_random_lose_nothing_of_entries_of_many(rig: Rig) -> None:
    """A producer of ours packs all the while: each event is stored once, or is a letter of its own."""
    consuming = {
        **_CONSUMING,
        "MAX_DELIVERIES": "1000",
        "SQLITE_BUSY_TIMEOUT_MS": "5000",
        "CLAIM_IDLE_MS": "25000",
    }
    replicas = [rig.consumer(f"consumer-{number}", **consuming) for number in range(3)]
    eventually(lambda: rig.client.hlen(KEYS.forms) == 3, PATIENCE_S, "each has said what it reads")
    settings = {
        "EVENTS_PER_ENTRY": "100", "BATCH_SIZE": "1000", "RATE": "5000", "INVALID_RATIO": "0.01",
        "DUPLICATE_RATIO": "0.01", "PRODUCER_RUN_DURATION": "0", "PRODUCER_METRICS_PORT": "0",
    }  # fmt: skip
    producer = rig.start("producer", [sys.executable, "-m", "services.producer"], settings)
    producer.says("entries_packed")
    for victim in (0, 1, 2):
        rig.wait_for_rows(rig.count() + 1000)
        replicas[victim].kill()
        replicas[victim] = rig.consumer(f"consumer-{victim}", **consuming)
    finished = _end(producer)
    eventually(lambda: _is_settled(rig), PATIENCE_S, "all is settled")
    for one in replicas:
        one.stop()
    assert rig.client.xlen(KEYS.events) > 1
    total = rig.audit().total
    assert (total.missing, total.pending, total.undelivered, total.conflicts) == (0, 0, 0, 0)
    assert total.published == finished["published"] == total.stored + total.dead
    assert total.stored == len(rig.stored())
    assert {letter.reason for letters in rig.letters().values() for letter in letters}.isdisjoint(
        {"deliveries_exhausted", "retries_exhausted", "pack_invalid", "pack_truncated"}
    )
