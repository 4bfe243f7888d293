"""Whom a consumer has heard, and who counts the silent ones."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from samples import NOW, row
from servers import eventually

from services.consumer.telemetry import silence
from services.consumer.telemetry.silence import HeardSink, Silence
from services.contract.consuming.columns import Columns
from services.contract.consuming.doors import Written
from services.contract.consuming.readings import Reading
from services.contract.errors import SinkUnavailable
from services.contract.event import Event


@dataclass
class KeptRows:
    """A sink in memory."""

    written: Written = field(default_factory=lambda: Written(1))
    fails: bool = False
    calls: list[str] = field(default_factory=list)

    def write(self, rows: Sequence[Event]) -> Written:
        if self.fails:
            raise SinkUnavailable("the sink is away", "away")
        self.calls.append(f"write {len(rows)}")
        return self.written

    def probe(self) -> None:
        self.calls.append("probe")

    def close(self) -> None:
        self.calls.append("close")


@dataclass
class KeptReadings:
    """Last readings in memory, and what was asked of them."""

    noted: dict[str, Reading] = field(default_factory=dict)
    is_away: bool = False
    forgotten: list[float] = field(default_factory=list)
    counted: int = 0
    meanwhile: Callable[[], None] = lambda: None
    """Done while a note fails."""

    def note(self, readings: Sequence[Reading]) -> None:
        if self.is_away:
            self.meanwhile()
            raise SinkUnavailable("it is away", "away")
        self.noted |= {one.device_id: one for one in readings}

    def forget(self, before: float) -> None:
        if self.is_away:
            raise SinkUnavailable("it is away", "away")
        self.forgotten.append(before)

    def count_silent(self, before: float) -> int:
        if self.is_away:
            raise SinkUnavailable("it is away", "away")
        self.counted += 1
        return sum(one.stored_at < before for one in self.noted.values())

    def drop(self, device_id: str) -> bool:
        raise NotImplementedError

    def silent(self, before: float, most: int | None = None) -> list[Reading]:
        raise NotImplementedError


@dataclass
class World:
    """A consumer that hears, and the clocks that it goes by."""

    rows: KeptRows = field(default_factory=KeptRows)
    readings: KeptReadings = field(default_factory=KeptReadings)
    now: float = NOW
    ticks: float = 1000.0
    observes: bool = True

    def __post_init__(self) -> None:
        self.sink = HeardSink(self.rows, lambda: self.now)
        self.silence = Silence(
            self.sink,
            self.readings,
            lambda: self.observes,
            lambda: self.now,
            lambda: self.ticks,
            logging.getLogger("test"),
            silent_after_s=600.0,
            forget_days=2,
        )

    def write(self, *rows: Event) -> None:
        self.rows.written = Written(len(rows))
        self.sink.write(rows)

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.ticks += seconds
        self.silence.look()


@pytest.fixture
def world() -> World:
    return World()


def of(device: str, value: float = 1.0) -> Event:
    return row(1, device_id=device, value=value)


def test_what_is_stored_is_noted_by_device(world: World) -> None:
    """The last one of each, with its place and time."""
    world.write(of("a", 1.0), of("b"), of("a", 2.0))
    world.later(1)
    event = of("a", 2.0)
    expected = Reading("a", event.zone, event.kpi, 2.0, event.ts, NOW, event.event_id)
    assert (world.readings.noted["a"], set(world.readings.noted)) == (expected, {"a", "b"})


def test_who_was_not_stored_was_not_heard(world: World) -> None:
    """Entries that came again, rows in conflict with what is there, and what the sink did not take."""
    world.rows.written = Written(0)
    world.sink.write([of("again")])
    world.rows.written = Written(1, [1])
    world.sink.write(Columns.of([of("new"), of("conflict")]))
    world.rows.fails = True
    with pytest.raises(SinkUnavailable):
        world.sink.write([of("failed")])
    assert [one.device_id for one in world.sink.take()] == ["new"]


def test_a_device_that_stopped_counts_until_it_sends_again(world: World) -> None:
    """And is forgotten in the end."""
    world.write(of("a"), of("b"))
    world.later(1)
    assert world.silence.figures() == {"telemetry_silent_devices": 0}
    world.later(300)
    world.write(of("b"))
    world.later(301)
    assert world.silence.figures() == {"telemetry_silent_devices": 1}
    world.write(of("a"))
    world.later(60)
    assert world.silence.figures() == {"telemetry_silent_devices": 0}
    assert world.readings.forgotten[-1] == world.now - 2 * 86_400


def test_it_is_noted_and_counted_once_a_minute(world: World) -> None:
    """However often it looks: a tenth of SILENT_AFTER_S, and no more than a minute."""
    world.later(1)
    for _ in range(11):
        world.later(5)
    assert world.readings.counted == 1
    world.later(5)
    assert world.readings.counted == 2


def test_only_who_observes_the_group_counts(world: World) -> None:
    """The others note, and forget. Who loses the group tells nothing more; who gets it counts at once."""
    world.observes = False
    world.write(of("a"))
    world.later(1)
    assert (set(world.readings.noted), world.readings.counted, world.silence.figures()) == ({"a"}, 0, {})
    assert world.readings.forgotten == [world.now - 2 * 86_400]
    world.later(60)
    assert world.readings.forgotten[1:] == [world.now - 2 * 86_400]
    world.observes = True
    world.later(5)
    assert world.silence.figures() == {"telemetry_silent_devices": 0}
    world.observes = False
    assert world.silence.figures() == {}


def test_what_could_not_be_noted_is_noted_later(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Unless something newer was heard meanwhile; and no old number is told."""
    world.later(1)
    world.write(of("a", 1.0), of("b", 1.0))
    world.readings.is_away = True
    world.readings.meanwhile = lambda: world.write(of("a", 2.0))
    world.later(60)
    assert world.silence.figures() == {}
    assert [record.message for record in caplog.records] == ["last_readings_not_noted"] * 2
    assert caplog.records[0].__dict__["devices"] == 2
    world.readings.is_away = False
    world.later(60)
    assert {name: one.value for name, one in world.readings.noted.items()} == {"a": 2.0, "b": 1.0}
    assert world.readings.noted["b"].stored_at == NOW + 1
    assert world.silence.figures() == {"telemetry_silent_devices": 0}


def test_memory_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes up device ids fills no memory with them; what is stored is stored all the same."""
    monkeypatch.setattr(silence, "MOST_HELD", 2)
    for number in range(5):
        world.write(of(f"device-{number}"))
    assert len(world.sink.take()) == 2
    assert world.rows.calls == ["write 1"] * 5


def test_it_is_a_sink_in_all_else(world: World) -> None:
    world.sink.probe()
    world.sink.close()
    assert world.rows.calls == ["probe", "close"]


def test_the_last_ones_are_noted_at_the_end(world: World) -> None:
    """A consumer that is stopped leaves nothing for the next reading to make good."""
    world.silence.start()
    world.write(of("a"))
    world.silence.close()
    assert set(world.readings.noted) == {"a"}
    eventually(lambda: "silence" not in {one.name for one in threading.enumerate()}, 5, "no thread is left")
