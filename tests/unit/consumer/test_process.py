"""Users' steps, and `is_degraded`."""

import math
from collections.abc import Callable
from typing import Any, cast

import pytest
from samples import KPIS, entry, row

from services.consumer.process import Step, process
from services.consumer.steps import reject
from services.contract.consuming.doors import Dead, Processed
from services.contract.event import Event, Rejection

EVENT = Event(*row(1)[:6])


def run(*steps: Callable[..., Any]) -> tuple[list[Processed], list[Dead]]:
    """Take one event through steps."""
    return process([(entry(1), EVENT)], KPIS, cast("list[Step]", list(steps)))


@pytest.mark.parametrize(
    ("value", "is_degraded"), [(0.0, False), (70.0, False), (70.0000001, True), (99.0, True)]
)
def test_an_event_above_its_threshold_is_degraded(value: float, is_degraded: bool) -> None:
    """The threshold itself is healthy."""
    rows, dead = process([(entry(1), EVENT._replace(value=value))], KPIS)
    assert ([one.is_degraded for _, one in rows], dead) == ([is_degraded], [])


def test_steps_are_taken_in_their_order() -> None:
    """Each step gets what the one before gave, and the row is made of the last."""
    rows, dead = run(
        lambda event: event._replace(value=event.value + 1),
        lambda event: event._replace(value=event.value * 2),
    )
    assert ([one.value for _, one in rows], dead) == ([(42.25 + 1) * 2], [])
    assert rows[0][1].is_degraded


def test_a_rejection_ends_an_event_with_its_reason() -> None:
    """Later steps don't see a rejected event."""
    seen: list[Event] = []
    rows, dead = run(lambda _: reject("not on Sundays"), seen.append)
    assert (rows, seen) == ([], [])
    assert dead[0].rejection == Rejection("process", "rejected_by_step", "not on Sundays")


def test_a_long_reason_is_cut() -> None:
    """A step's sentence can't blow up a dead letter."""
    assert len(reject("x" * 10_000).error) == 500


def test_an_exception_ends_the_event_and_not_the_batch() -> None:
    """A step that fails is named with its error."""

    def clumsy(event: Event) -> Event:
        raise KeyError(event.device_id)

    other = EVENT._replace(event_id=row(2).event_id)
    rows, dead = process(
        [(entry(1), EVENT), (entry(2), other)],
        KPIS,
        [lambda event: clumsy(event) if event == EVENT else event],
    )
    assert [one.entry_id for one, _ in rows] == [entry(2).entry_id]
    assert dead[0].rejection.reason == "step_failed"
    assert "KeyError: 'device-1'" in dead[0].rejection.error


def giving(**changes: Any) -> Callable[[Event], Event]:
    """Make a step that changes its event, also to what no type checker would allow."""
    return lambda event: event._replace(**changes)


WRONG: dict[str, Callable[[Event], Any]] = {
    "nothing": lambda _: None,
    "a plain tuple": tuple,
    "another id": giving(event_id=row(2).event_id),
    "an unknown kpi": giving(kpi="noise"),
    "a kpi that can't be looked up": giving(kpi=["humidity"]),
    "a text for the value": giving(value="hot"),
    "no value": giving(value=None),
    "a number for the device": giving(device_id=7),
    "bytes for the zone": giving(zone=b"z"),
    "a text for the time": giving(ts="1"),
}


@pytest.mark.parametrize("step", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_return_ends_the_event(step: Callable[[Event], Any]) -> None:
    """Whatever a step gives that is no event of the same id and of storable kinds is its failure."""
    rows, dead = run(step)
    assert rows == []
    assert [(one.rejection.stage, one.rejection.reason) for one in dead] == [("process", "step_failed")]


def test_a_whole_number_is_a_number() -> None:
    """A step may give 42 where 42.0 is meant."""
    rows, dead = run(lambda event: event._replace(value=42, ts=1))
    assert ([one.value for _, one in rows], dead) == ([42], [])


def test_a_value_that_is_no_number_is_left_to_the_sink() -> None:
    """NaN is a float: it goes on, and the sink refuses it."""
    rows, dead = run(lambda event: event._replace(value=math.nan))
    assert (len(rows), dead) == (1, [])
