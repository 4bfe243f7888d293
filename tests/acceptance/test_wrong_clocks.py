"""Clocks that are wrong: a consumer's, a device's, the server's."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from acceptance.publisher import KEYS
from acceptance.rig import PATIENCE_S, Process, Rig, free_port
from samples import event_fields, id_of
from servers import LocalServer, eventually

HOUR = 3600


def _library() -> Path | None:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return found[0] if found else None


LIBRARY = _library()
needs_faketime = pytest.mark.skipif(
    LIBRARY is None and not os.environ.get("CI"),
    reason="faketime is not installed (apt-get install faketime)",
)


class WrongClock:
    """The wall clock of one process, set from outside while it runs."""

    def __init__(self, path: Path, seconds: int) -> None:
        self._path = path
        self.set(seconds)

    def set(self, seconds: int) -> None:
        """Have it behind (below 0) or ahead by so much from now on."""
        fresh = self._path.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.replace(self._path)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }


def consumer_of(rig: Rig, clock: WrongClock, **environment: str) -> Process:
    """Start a consumer that has this clock."""
    return rig.consumer(CONSUMER_METRICS_PORT=str(free_port()), **clock.environment, **environment)


@needs_faketime
def test_a_consumer_whose_clock_is_behind_judges_nothing_until_it_is_right(rig: Rig, tmp_path: Path) -> None:
    """At the start and in the middle of it: unready, and no letter; then it goes on by itself."""
    clock = WrongClock(tmp_path / "clock", -HOUR)
    publisher = rig.publisher()
    publisher.valid(100).send()
    consumer = consumer_of(rig, clock)
    for _ in range(2):
        consumer.is_unready("clock: our clock is 3")
        assert consumer.probe("/livez")[0] == 200
        assert rig.pending()
        before = rig.count()
        eventually(
            lambda: "telemetry_clock_behind_seconds 3" in consumer.probe("/metrics")[1], 10, "the metric"
        )
        assert (rig.letters(), rig.count()) == ({}, before)
        clock.set(0)
        consumer.is_ready()
        rig.drain(consumer)
        publisher.valid(50).send()
        rig.drain(consumer)
        clock.set(-HOUR)
        publisher.valid(50).send()
    consumer.is_unready("clock: ")
    consumer.stop(PATIENCE_S)
    assert rig.pending()
    last = rig.consumer()
    rig.drain(last)
    rig.assert_complete()
    assert rig.letters() == {}


@needs_faketime
@pytest.mark.parametrize("seconds", [HOUR, -120])
def test_a_clock_that_is_ahead_or_hardly_behind_is_no_matter(rig: Rig, tmp_path: Path, seconds: int) -> None:
    """Everything is stored, and a device that is ahead of everybody is a dead letter."""
    rig.publisher().mix(200).send()
    consumer = consumer_of(rig, WrongClock(tmp_path / "clock", seconds))
    rig.drain(consumer)
    assert consumer.is_ready()
    rig.assert_complete()


@needs_faketime
@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_a_server_whose_clock_is_wrong_stops_nobody(
    own_server: Callable[..., LocalServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """Ahead or behind; a device that is ahead stays a dead letter, alone in its batch or not."""
    for name, value in WrongClock(tmp_path / "clock", seconds).environment.items():
        monkeypatch.setenv(name, value)
    server = own_server()
    monkeypatch.undo()
    rig = Rig(server, tmp_path)
    try:
        assert abs(rig.client.time()[0] - time.time() - seconds) < 60
        for number in range(1, 51):
            add(rig, time.time(), number=number)
        consumer = rig.consumer(CONSUMER_METRICS_PORT=str(free_port()))
        settled(rig, consumer)
        add(rig, time.time() + 2 * HOUR)
        settled(rig, consumer)
        for number in range(51, 101):
            add(rig, time.time(), number=number)
        settled(rig, consumer)
        assert consumer.is_ready()
        assert set(rig.stored()) == {id_of(number) for number in range(1, 101)}
        assert [one.reason for letters in rig.letters().values() for one in letters] == ["ts_in_future"]
    finally:
        rig.close()


def test_an_id_of_the_far_future_and_devices_that_are_ahead_stop_nobody(rig: Rig) -> None:
    """After XADD with such an id, the server gives the same time to all that follow."""
    publisher = rig.publisher()
    publisher.mix(100).send()
    consumer = rig.consumer(CONSUMER_METRICS_PORT=str(free_port()))
    rig.drain(consumer)
    add(rig, time.time(), "9999999999999-0", number=1)
    for number in range(2, 5):
        add(rig, time.time() + HOUR, number=number)
        settled(rig, consumer)
    assert consumer.is_ready()
    reasons = [one.reason for letters in rig.letters().values() for one in letters]
    assert reasons.count("ts_in_future") >= 3
    assert id_of(1) in rig.stored()


def test_an_id_and_an_event_of_the_far_future_together_stop_nobody(rig: Rig) -> None:
    """Alone in a batch, two clocks say the same; the server itself says another time. It is a dead letter."""
    publisher = rig.publisher()
    publisher.mix(100).send()
    consumer = rig.consumer(CONSUMER_METRICS_PORT=str(free_port()))
    rig.drain(consumer)
    add(rig, 9_999_999_999.0, "9999999999999-0")
    settled(rig, consumer)
    add(rig, 9_999_999_999.5, number=901)
    settled(rig, consumer)
    add(rig, time.time(), number=1)
    settled(rig, consumer)
    assert consumer.is_ready()
    planted = {id_of(900), id_of(901)}
    letters = [one for letters in rig.letters().values() for one in letters]
    assert {one.reason for one in letters if one.text("event_id") in planted} == {"ts_in_future"}
    assert id_of(1) in rig.stored()


def add(rig: Rig, ts: float, entry_id: str = "*", number: int = 900) -> None:
    """Publish one event of a device's own time, as a foreign producer does."""
    fields = event_fields(number, ts=f"{ts:.3f}")
    rig.client.xadd(KEYS.stream, dict(zip(fields[::2], fields[1::2], strict=True)), id=entry_id)


def settled(rig: Rig, consumer: Process) -> None:
    """Wait until nothing waits in the stream."""

    def is_empty() -> bool:
        groups = rig.client.xinfo_groups(KEYS.stream)
        last = rig.client.xinfo_stream(KEYS.stream)["last-generated-id"]
        return bool(groups) and groups[0]["last-delivered-id"] == last and not rig.pending()

    eventually(lambda: is_empty() or consumer.exit_code is not None, PATIENCE_S, "all is settled")
