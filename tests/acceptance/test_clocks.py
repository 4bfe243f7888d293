"""Wall clocks that are wrong: ours, a producer's, the server's."""

import time
from typing import Any

import pytest
from acceptance.publisher import KEYS
from acceptance.rig import PATIENCE_S, ROOT, Process, Rig
from servers import eventually

HOUR_S = 3600


def shifted(rig: Rig, seconds: int, module: str, *arguments: str, **environment: str) -> Process:
    """Start a service whose clock is so far ahead, or behind."""
    script = ROOT / "tests" / "acceptance" / "shifted.py"
    return rig.start(
        f"{module}{seconds:+}", [*rig.python, script, str(seconds), module, *arguments], environment
    )


def finish(rig: Rig, producer: Process, consumer: Process) -> None:
    """Wait until the producer has ended and all is settled; nothing may be missing."""
    assert producer.wait() == 0, producer.text
    newest = rig.client.xinfo_stream(KEYS.stream)["last-generated-id"]

    def is_settled() -> bool:
        groups: Any = rig.client.xinfo_groups(KEYS.stream)  # none, before the consumer has begun
        return bool(groups) and groups[0]["last-delivered-id"] == newest and groups[0]["pending"] == 0

    eventually(is_settled, PATIENCE_S, "all is settled")
    consumer.stop()
    total = rig.audit().total
    assert (total.missing, total.pending, total.undelivered) == (0, 0, 0)
    assert total.published > 0
    assert total.stored == len(rig.stored())


PRODUCER = ("services.producer", "--rate", "500", "--duration", "1", "--seed", "1")


def test_a_consumer_whose_clock_is_an_hour_ahead_stores_all(rig: Rig) -> None:
    """Its clock judges nothing but events of the future, and to it there are none."""
    rig.publisher().mix(200).send()
    consumer = shifted(rig, HOUR_S, "services.consumer", CONSUMER_NAME="consumer-1")
    rig.drain(consumer)
    consumer.stop()
    rig.assert_complete()
    assert all(letter.failed_at > time.time() + 3000 for one in rig.letters().values() for letter in one)


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S])
def test_a_producer_whose_clock_is_an_hour_off_loses_nothing(rig: Rig, seconds: int) -> None:
    """Behind: all is stored. Ahead: each is a dead letter that tells why, and the audit finds each."""
    consumer = rig.consumer()
    producer = shifted(rig, seconds, *PRODUCER, PRODUCER_METRICS_PORT="0")
    finish(rig, producer, consumer)
    reasons = {letter.reason for one in rig.letters().values() for letter in one}
    if seconds > 0:
        assert reasons == {"ts_in_future"}
        assert rig.stored() == {}
    else:
        assert reasons == set()
        assert rig.stored()


def test_a_stream_whose_ids_are_years_ahead_is_read_and_trimmed(rig: Rig) -> None:
    """An entry with an id of 2055, and all later ones behind it: stored, settled, removed."""
    entry_id = f"{2_700_000_000_000}-7"
    publisher = rig.publisher().valid(1)
    publisher.send()
    rig.client.execute_command("XADD", KEYS.stream, entry_id, *publisher.entries[0].fields)
    consumer = rig.consumer()
    producer = rig.start("producer", [*rig.python, "-m", *PRODUCER], {"PRODUCER_METRICS_PORT": "0"})
    finish(rig, producer, consumer)
    assert rig.client.xinfo_stream(KEYS.stream)["last-generated-id"].startswith(b"2700000000000-")
    status = rig.start("status", [*rig.python, "-m", "services.ops", "status", "--json"], {})
    assert status.wait() == 0, status.text
    another = rig.consumer(RETENTION_INTERVAL_S="0.1")
    eventually(lambda: rig.client.xlen(KEYS.stream) == 0, PATIENCE_S, "the stream is trimmed")
    another.stop()
