"""Whose clock is wrong: only ours is a reason to wait."""

import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fakes import FakeClock
from hypothesis import given
from hypothesis import strategies as st
from samples import KPIS, event_fields

from services.consumer.batch import Outcome, decode
from services.consumer.clocks import check_clock
from services.consumer.validate import read_form, validate
from services.consumer.worker import Worker
from services.contract.consuming.doors import Dead, Entry
from services.contract.errors import ClockBehind, Stopping
from services.runtime.health import Health
from services.runtime.telemetry.metrics import Metrics

NOW = 1_800_000_000.0
HOUR = 3600.0
MAX_FUTURE_S = 300.0
PLANTED = 9_999_999_999.0


def entry(server: float, device: float | str, number: int = 1) -> Entry:
    """Make an entry that the server took then, of an event of its own time. Both are seconds from now."""
    ts = device if isinstance(device, str) else f"{NOW + device:.3f}"
    return Entry(b"%d-%d" % (int((NOW + server) * 1000), number), event_fields(number, ts=ts))


def verdict(*entries: Entry, max_future_s: float = MAX_FUTURE_S, server: float | None = None) -> float:
    """Tell by how much our clock is behind; 0: it is not.

    `server`: how far the server itself says that it is ahead of us, in seconds; None: it does not tell.
    """
    decoded, undecodable = decode(entries)
    formed, malformed = read_form(decoded)
    _, invalid = validate(formed, KPIS, NOW + max_future_s)
    try:
        check_clock(
            entries,
            [*undecodable, *malformed, *invalid],
            NOW,
            max_future_s,
            lambda: None if server is None else NOW + server,
        )
    except ClockBehind as error:
        return error.seconds
    return 0.0


@pytest.mark.parametrize(
    ("entries", "behind"),
    [
        ([entry(HOUR, HOUR)], HOUR),
        ([entry(HOUR, HOUR - 200), entry(HOUR, HOUR + 200)], HOUR),
        ([entry(HOUR, HOUR), entry(HOUR, "tomorrow"), entry(HOUR, -9e8), entry(HOUR, -HOUR)], HOUR),
        ([entry(-HOUR, -HOUR), entry(-60, -60), entry(301, 301)], 301),
        ([entry(0, HOUR)], 0),
        ([entry(0, HOUR), entry(0, 0), entry(0, 9e8)], 0),
        ([entry(HOUR, 0)], 0),
        ([entry(HOUR, 0), entry(HOUR, 1), entry(HOUR, HOUR)], 0),
        ([entry(HOUR, 9e8)], 0),
        ([entry(PLANTED - NOW, 0), entry(PLANTED - NOW, HOUR)], 0),
        ([entry(-HOUR, 0), entry(-HOUR, HOUR)], 0),
        ([entry(-HOUR, -HOUR)], 0),
        ([entry(299, 299)], 0),
    ],
    ids=[
        "ours is behind",
        "ours is behind, and events take a moment",
        "ours is behind, with old events of a replay and broken ones among them",
        "ours is behind, and most are a backlog",
        "a device is ahead",
        "several devices are ahead",
        "the server is ahead",
        "the server is ahead, and a device as much",
        "the server is ahead, and a device far more",
        "a planted id, and a device that is ahead",
        "the server is behind, and a device ahead",
        "ours is ahead",
        "ours is behind by less than is allowed",
    ],
)
def test_only_our_own_clock_is_a_reason_to_wait(entries: Sequence[Entry], behind: float) -> None:
    """By the ids that the server gives, and by the events."""
    assert verdict(*entries) == pytest.approx(behind, abs=0.01)


@pytest.mark.parametrize(
    ("entries", "server", "behind"),
    [
        ([entry(PLANTED - NOW, PLANTED - NOW)], 0, 0),
        ([entry(2 * HOUR, 2 * HOUR), entry(2 * HOUR, 2 * HOUR)], 1, 0),
        ([entry(PLANTED - NOW, PLANTED - NOW), entry(PLANTED - NOW, HOUR)], 0, 0),
        ([entry(PLANTED - NOW, HOUR)], HOUR, HOUR),
        ([entry(PLANTED - NOW, PLANTED - NOW), entry(PLANTED - NOW, HOUR)], HOUR, HOUR),
        ([entry(PLANTED - NOW, 0), entry(PLANTED - NOW, HOUR)], HOUR, 0),
        ([entry(HOUR, HOUR)], HOUR + 1, HOUR),
        ([entry(PLANTED - NOW, PLANTED - NOW)], None, PLANTED - NOW),
    ],
    ids=[
        "an id and an event that somebody has planted together",
        "several of them",
        "such a one, and a device that is ahead",
        "ours is behind, and an id was planted",
        "ours is behind, and an id and an event were planted",
        "the server is ahead, an id was planted, and a device is ahead as much",
        "ours is behind",
        "the server does not tell",
    ],
)
def test_an_id_beyond_the_server_s_own_time_tells_nothing(
    entries: Sequence[Entry], server: float | None, behind: float
) -> None:
    """Whoever plants one may plant an event of the same time: it counts as of now by the server's clock."""
    assert verdict(*entries, server=server) == pytest.approx(behind, abs=0.01)


def test_the_server_is_asked_where_an_id_and_an_event_are_in_the_future_alone() -> None:
    """It costs a round trip."""
    asked: list[str] = []
    rejection = cast("Any", SimpleNamespace(reason="ts_in_future"))

    def look(one: Entry) -> None:
        check_clock([one], [Dead(one, rejection)], NOW, MAX_FUTURE_S, lambda: asked.append("asked"))

    look(entry(0, HOUR))
    assert asked == []
    look(entry(HOUR, 2 * HOUR))
    assert asked == ["asked"]


def test_nothing_in_the_future_is_allowed_and_clocks_still_need_not_agree_to_the_second() -> None:
    """MAX_FUTURE_S 0."""
    assert verdict(entry(HOUR, HOUR - 1), max_future_s=0) == pytest.approx(HOUR, abs=0.01)
    assert verdict(entry(0, 5), max_future_s=0) == 0


@given(st.lists(st.tuples(st.sampled_from([b"", b"-", b"1-1", b"x-1", b"9" * 40 + b"-0"]), st.binary())))
def test_no_id_and_no_time_makes_it_fail(found: list[tuple[bytes, bytes]]) -> None:
    """Whatever they are."""
    entries = [Entry(entry_id, [b"ts", ts, b"odd"]) for entry_id, ts in found]
    rejection = cast("Any", SimpleNamespace(reason="ts_in_future"))
    check_clock(entries, [Dead(one, rejection) for one in entries], NOW, MAX_FUTURE_S, lambda: None)


class Desk:
    """A worker with one batch in hand, and a clock that is behind for the first tries."""

    def __init__(self, tries: int) -> None:
        self.clock = FakeClock()
        self.health = Health(60.0, self.clock.monotonic)
        self.metrics = Metrics("consumer")
        self.tries: list[Sequence[Entry]] = []
        self.batch = [entry(HOUR, HOUR)]
        nobody: Any = SimpleNamespace()
        self.heard: list[float] = []
        """When the source was told that we still work."""
        source: Any = SimpleNamespace(still_working=lambda: self.heard.append(self.clock.elapsed))
        self.worker = Worker(
            source, self._run, nobody, nobody, self.clock, self.health, self.metrics,
            logging.getLogger("test-clocks"),
        )  # fmt: skip
        self._behind = tries
        self.health.started()

    def _run(self, entries: Sequence[Entry]) -> Outcome:
        self.tries.append(entries)
        if len(self.tries) <= self._behind:
            raise ClockBehind(HOUR)
        return Outcome(entries, [], 0, [])


def test_the_batch_is_kept_in_hand_until_the_clock_is_right() -> None:
    """Alive and unready meanwhile; and not read again, which would count as deliveries."""
    desk = Desk(tries=100)
    seen = []
    desk.clock.on_sleep = lambda: seen.append(
        (
            desk.health.readiness(),
            desk.health.liveness(),
            desk.metrics.value("telemetry_clock_behind_seconds"),
        )
    )
    assert desk.worker._judge(desk.batch).received is desk.batch
    assert len(desk.tries) == 101
    assert len(seen) == 100
    assert len(desk.heard) == 100
    assert {(unready[:33], unlive, behind) for unready, unlive, behind in seen} == {
        ("clock: our clock is 3600 s behind", "", HOUR)
    }
    assert desk.health.readiness() == ""
    assert desk.metrics.value("telemetry_clock_behind_seconds") == 0


def test_it_stops_while_the_clock_is_wrong() -> None:
    """What it holds stays pending."""
    desk = Desk(tries=100)
    desk.clock.stop_after = 3
    with pytest.raises(Stopping):
        desk.worker._judge(desk.batch)
    assert len(desk.tries) == 3
