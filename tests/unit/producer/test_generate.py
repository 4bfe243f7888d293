"""The generator: repeatable, plausible, and wrong in every way that is asked for."""

from collections import Counter
from random import Random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import KPIS, NOW

from services.consumer.validate import check
from services.contract.codec import decode
from services.contract.event import Event, Fields, Reason
from services.contract.ids import MAX_SEQUENCE, draw_name, numbered
from services.contract.kpis import Kpi, Kpis
from services.contract.producing.outgoing import Numbering, Outgoing, flat
from services.producer.generate import Generator, Walk
from services.producer.invalid import WAYS

LATER_REASONS = {
    "pack_truncated", "pack_invalid", "rejected_by_step", "step_failed", "conflict",
    "refused_by_sink", "retries_exhausted", "deliveries_exhausted", "entry_too_large",
}  # fmt: skip


def raw(event: Outgoing) -> list[bytes]:
    fields = flat(event.fields) if event.is_plain else event.fields
    return [part.encode() if isinstance(part, str) else part for part in fields]


def reason(event: Outgoing, kpis: Kpis = KPIS) -> str | None:
    fields = decode(raw(event))
    outcome = check(fields, kpis, NOW + 300) if isinstance(fields, Fields) else fields
    return None if isinstance(outcome, Event) else outcome.reason


def events(
    count: int, *, invalid: float = 0.0, duplicate: float = 0.0, seed: int = 1, size: int = 100
) -> list[Outgoing]:
    generator = Generator(KPIS, 5, 3, Random(seed), invalid_ratio=invalid, duplicate_ratio=duplicate)
    numbering = Numbering(draw_name())
    found: list[Outgoing] = []
    while len(found) < count:
        found += generator.next_batch(min(size, count - len(found)), NOW, numbering).events
    return found


def test_every_ordinary_event_is_valid() -> None:
    """Without a ratio the consumer takes every event, and each of the devices and KPIs has its turn."""
    found = events(400)
    assert {reason(event) for event in found} == {None}
    assert len({event.fields[1] for event in found}) == 5
    assert {event.fields[4] for event in found} == set(KPIS)


def test_some_events_are_degraded() -> None:
    """Excursions above the threshold last a while: some percent of all events."""
    found = events(40_000)
    degraded = sum(float(one.fields[5]) > KPIS[str(one.fields[4])].threshold for one in found)
    assert 0.005 < degraded / len(found) < 0.2


def test_every_kind_of_invalidity_is_reached() -> None:
    """With a ratio of 1 each reason that decoding and validating know is met."""
    found = Counter(reason(event) for event in events(len(WAYS) * 2, invalid=1.0))
    assert set(found) == set(get_args(Reason)) - LATER_REASONS


@pytest.mark.parametrize(("expected", "way"), WAYS)
def test_each_way_breaks_just_the_rule_that_it_names(expected: str, way: object) -> None:
    """The consumer's reason is the one that stands beside the way."""
    assert callable(way)
    for kpi in KPIS.values():
        fields = way((f"018f3c5e-8a10-{draw_name()}000000001", "d", "z", f"{NOW}", kpi.name, "1.5"), kpi)
        assert reason(Outgoing(fields, 1, is_plain=False)) == expected


@pytest.mark.parametrize(("expected", "way"), WAYS)
@pytest.mark.parametrize(("least", "most"), [(-130.0, -10.0), (-40.0, 60.0), (-1e-3, 1e-3)])
def test_each_way_breaks_a_rule_of_kpis_below_zero(
    expected: str, way: object, least: float, most: float
) -> None:
    """Whatever the range is; a value below it has no reason of its own there."""
    assert callable(way)
    kpis = {"own": Kpi("own", "dBm", least, most, most, least)}
    fields = way(
        (f"018f3c5e-8a10-{draw_name()}000000001", "d", "z", f"{NOW}", "own", str(least)), kpis["own"]
    )
    expected = "value_out_of_range" if expected == "value_negative" else expected
    assert reason(Outgoing(fields, 1, is_plain=False), kpis) == expected


@given(invalid=st.floats(0, 1), duplicate=st.floats(0, 1), seed=st.integers(0, 99))
def test_sequence_numbers_have_no_gap(invalid: float, duplicate: float, seed: int) -> None:
    """Each distinct numbered event has the next number; neither duplicates nor events without id take one."""
    found = events(200, invalid=invalid, duplicate=duplicate, seed=seed)
    own = [one.sequence for one in found if one.sequence is not None and not one.is_duplicate]
    assert own == list(range(1, len(own) + 1))
    by_number = {one.sequence: one.fields for one in found if not one.is_duplicate}
    assert all(by_number[one.sequence] == one.fields for one in found if one.is_duplicate)


def test_an_invalid_event_still_tells_its_number() -> None:
    """A lenient reader finds run and sequence in the spoilt id, so the audit can match the event."""
    for one in events(len(WAYS), invalid=1.0):
        if one.sequence is None:
            assert b"event_id" not in raw(one)[::2]
            continue
        own = numbered(dict(zip(raw(one)[::2], raw(one)[1::2], strict=True))[b"event_id"].decode().lower())
        assert own is not None
        assert own.sequence == one.sequence


@given(size=st.integers(1, 50))
def test_a_seed_repeats_everything_but_ids(size: int) -> None:
    """The same seed gives the same devices, values and choices, whatever the size of the batches."""

    def story(size: int) -> list[tuple[object, ...]]:
        found = events(150, invalid=0.3, duplicate=0.2, seed=7, size=size)
        return [(one.sequence, one.is_duplicate, reason(one), one.fields[-1]) for one in found]

    assert story(size) == story(150)


def test_a_run_knows_when_its_numbers_end() -> None:
    """The last number can be used, and none behind it."""
    assert Numbering("7", MAX_SEQUENCE - 5).has_room_for(5)
    assert not Numbering("7", MAX_SEQUENCE - 5).has_room_for(6)


@pytest.mark.parametrize("scale", [1e-6, 0.01, 1.0, 1000.0])
def test_values_drift_whatever_their_range(scale: float) -> None:
    """And are at times above the threshold: a sensor of millionths is no constant."""
    kpi = Kpi("flow", "l/s", 0.0, scale, 0.3 * scale, 0.2 * scale)
    random = Random(1)
    walk = Walk(kpi, random)
    values = [walk.next(random) for _ in range(5000)]
    assert len(set(values)) > 10
    assert min(values) >= kpi.min
    assert kpi.threshold < max(values) <= kpi.max
