"""Producers whose wall clock is wrong. A consumer's, a device's and a server's: test_wrong_clocks.py."""

from pathlib import Path
from typing import Any

from acceptance.publisher import KEYS
from acceptance.rig import PATIENCE_S, ROOT, Process, Rig
from servers import eventually

HOUR_S = 3600


def shifted_producer(rig: Rig, seconds: int) -> Process:
    """Start a producer whose clock is so far ahead, or behind."""
    script = ROOT / "tests" / "acceptance" / "shifted.py"
    options = ["--rate", "500", "--duration", "1"]
    command: list[str | Path] = [*rig.python, script, str(seconds), "services.producer", *options]
    return rig.start(f"producer{seconds:+}", command, {"PRODUCER_METRICS_PORT": "0"})


def test_producers_whose_clocks_are_an_hour_off_lose_nothing(rig: Rig) -> None:
    """Behind: all is stored. Ahead: each is a dead letter that tells why. The audit finds each of both."""
    consumer = rig.consumer()
    producers = [shifted_producer(rig, seconds) for seconds in (HOUR_S, -HOUR_S)]
    for one in producers:
        assert one.wait() == 0, one.text
    newest = rig.client.xinfo_stream(KEYS.stream)["last-generated-id"]

    def is_settled() -> bool:
        groups: Any = rig.client.xinfo_groups(KEYS.stream)  # none, before the consumer has begun
        return bool(groups) and groups[0]["last-delivered-id"] == newest and groups[0]["pending"] == 0

    eventually(is_settled, PATIENCE_S, "all is settled")
    consumer.stop()
    result = rig.audit()
    total = result.total
    assert (total.missing, total.pending, total.undelivered) == (0, 0, 0)
    assert {letter.reason for one in rig.letters().values() for letter in one} == {"ts_in_future"}
    tallies = [(one.tally.stored, one.tally.dead, one.tally.published) for one in result.runs]
    assert sorted(tallies) == sorted(
        (0, dead, dead) if dead else (stored, 0, stored) for stored, dead, _ in tallies
    )
    assert total.stored == len(rig.stored()) > 0
    assert total.dead > 0
