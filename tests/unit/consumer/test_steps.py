"""Users' steps: what they give on, what they refuse, and what they do wrong."""

import math
from collections.abc import Callable
from typing import Any, cast

import pytest
from samples import KPIS, NOW, entry, row

from services.consumer.steps import take_steps
from services.consumer.validate import validate
from services.contract.consuming.doors import Dead, Valid
from services.contract.event import Event, Rejection
from services.steps import AttributesInvalid, Step, attributes, reject, with_attributes

EVENT = Event(*row(1)[:6])


def run(*steps: Callable[..., Any], event: Event = EVENT) -> tuple[list[Valid], list[Dead]]:
    """Take one event through steps, and hold it to the rules."""
    kept, dead = take_steps([(entry(1), event)], cast("list[Step]", list(steps)))
    valid, invalid = validate(kept, KPIS, NOW)
    return valid, [*dead, *invalid]


def test_steps_are_taken_in_their_order() -> None:
    """Each step gets what the one before gave, and the row is made of the last."""
    rows, dead = run(
        lambda event: event._replace(value=event.value + 1),
        lambda event: event._replace(value=event.value * 2),
    )
    assert ([one.value for _, one in rows], dead) == ([(42.25 + 1) * 2], [])


def test_a_rejection_ends_an_event_with_its_reason() -> None:
    """Later steps don't see a rejected event."""
    seen: list[Event] = []
    rows, dead = run(lambda _: reject("not on Sundays"), seen.append)
    assert (rows, seen) == ([], [])
    assert dead[0].rejection == Rejection("process", "rejected_by_step", "not on Sundays")


def test_a_long_reason_is_cut() -> None:
    """A step's sentence can't blow up a dead letter."""
    _, dead = run(lambda _: reject("x" * 10_000))
    assert len(dead[0].rejection.error) == 500


def test_a_rejection_without_a_sentence_is_the_steps_failure() -> None:
    """What stands in a dead letter is a text, whatever a step says."""
    _, dead = run(lambda _: reject(cast("str", 5)))
    assert dead[0].rejection.reason == "step_failed"
    assert "rejected an event with int, and no sentence" in dead[0].rejection.error


def test_an_exception_ends_the_event_and_not_the_batch() -> None:
    """A step that fails is named with its error."""

    def clumsy(event: Event) -> Event:
        raise KeyError(event.device_id)

    other = EVENT._replace(event_id=row(2).event_id)
    rows, dead = take_steps(
        [(entry(1), EVENT), (entry(2), other)], [lambda event: clumsy(event) if event == EVENT else event]
    )
    assert [one.entry_id for one, _ in rows] == [entry(2).entry_id]
    assert dead[0].rejection.reason == "step_failed"
    assert "KeyError: 'device-1'" in dead[0].rejection.error


class Wordless(Exception):
    """An error whose words are no text, as of one that is made of what it failed at."""

    def __str__(self) -> str:
        words: str = self.args[0]
        return words


@pytest.mark.parametrize(
    ("error", "told"),
    [(Wordless(7), "Wordless"), (SystemExit("no such unit"), "SystemExit: no such unit")],
    ids=["an error without words", "the end of the program"],
)
def test_whatever_a_step_raises_ends_no_consumer(error: BaseException, told: str) -> None:
    """A step has no say in the end of a process: it would be ended by the same event again."""

    def rude(_: Event) -> Event:
        raise error

    rows, dead = run(rude)
    assert rows == []
    assert [one.rejection.reason for one in dead] == ["step_failed"]
    assert dead[0].rejection.error.endswith(f"rude: {told}")


def giving(**changes: Any) -> Callable[[Event], Event]:
    """Make a step that changes its event, also to what no type checker would allow."""
    return lambda event: event._replace(**changes)


WRONG: dict[str, Callable[[Event], Any]] = {
    "nothing": lambda _: None,
    "a plain tuple": tuple,
    "another id": giving(event_id=row(2).event_id),
    "a kpi that can't be looked up": giving(kpi=["humidity"]),
    "a text for the value": giving(value="hot"),
    "no value": giving(value=None),
    "a number for the device": giving(device_id=7),
    "bytes for the zone": giving(zone=b"z"),
    "a text for the time": giving(ts="1"),
    "a number that no float holds": giving(value=10**400),
    "a dictionary for the attributes": giving(attributes={"a": "b"}),
    "a text for the mark": giving(is_degraded="yes"),
}


@pytest.mark.parametrize("step", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_return_ends_the_event(step: Callable[[Event], Any]) -> None:
    """Whatever a step gives that is no event of the same id and of storable kinds is its failure."""
    rows, dead = run(step)
    assert rows == []
    assert [(one.rejection.stage, one.rejection.reason) for one in dead] == [("process", "step_failed")]


AGAINST_THE_RULES: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown kpi": ({"kpi": "noise"}, "kpi_unknown"),
    "a value above the range": ({"value": 100.5}, "value_out_of_range"),
    "a value below zero": ({"value": -1}, "value_negative"),
    "no number": ({"value": math.nan}, "value_invalid"),
    "an infinite number": ({"value": -math.inf}, "value_invalid"),
    "a time to come": ({"ts": NOW + 1}, "ts_in_future"),
    "a time before all": ({"ts": -1}, "ts_invalid"),
    "a time that is none": ({"ts": math.nan}, "ts_invalid"),
    "no device": ({"device_id": ""}, "device_id_invalid"),
    "a zone in two lines": ({"zone": "a\nb"}, "zone_invalid"),
    "attributes that are none": ({"attributes": "firmware"}, "attributes_invalid"),
}


@pytest.mark.parametrize(("changes", "reason"), AGAINST_THE_RULES.values(), ids=AGAINST_THE_RULES.keys())
def test_what_a_step_gives_is_held_to_the_rules(changes: dict[str, Any], reason: str) -> None:
    """As if it had come so."""
    rows, dead = run(giving(**changes))
    assert rows == []
    assert [(one.rejection.stage, one.rejection.reason) for one in dead] == [("validate", reason)]


def test_a_step_sees_what_breaks_the_rules() -> None:
    """Of another KPI, in another range: it may mend both."""

    def to_celsius(event: Event) -> Event:
        return event._replace(kpi="temperature", value=(event.value - 32) * 5 / 9)

    rows, dead = run(to_celsius, event=EVENT._replace(kpi="Fahrenheit", value=-10_000.0))
    assert (rows, dead[0].rejection.reason) == ([], "value_negative")
    rows, dead = run(to_celsius, event=EVENT._replace(kpi="Fahrenheit", value=212.0))
    assert ([one[4:6] for _, one in rows], dead) == ([("temperature", 100.0)], [])


def test_a_whole_number_is_a_number() -> None:
    """A step may give 42 where 42.0 is meant, and True for a mark."""
    rows, dead = run(giving(value=42, ts=1, is_degraded=True))
    assert ([(one.value, one.ts, one.is_degraded) for _, one in rows], dead) == ([(42.0, 1.0, 1)], [])
    assert [type(part) for part in rows[0][1][3:7]] == [float, str, float, int]


def test_a_time_is_rounded_to_microseconds() -> None:
    """As every store has them."""
    rows, _ = run(giving(ts=1.23456789))
    assert rows[0][1].ts == 1.234568


def test_attributes_are_a_dictionary_for_a_step() -> None:
    """It gives the event others, or none, and what they can't be is its own failure."""
    rows, _ = run(lambda event: with_attributes(event, attributes(event) | {"status": "ok"}))
    assert attributes(rows[0][1]) == {"status": "ok"}
    rows, _ = run(lambda event: with_attributes(event, {}), event=rows[0][1])
    assert rows[0][1].attributes is None
    rows, dead = run(lambda event: with_attributes(event, {"a": "x" * 200}))
    assert (rows, dead[0].rejection.reason) == ([], "step_failed")
    with pytest.raises(AttributesInvalid, match="more than 16"):
        with_attributes(EVENT, {str(number): "" for number in range(17)})


def test_attributes_of_a_step_are_written_in_one_way() -> None:
    """Whatever text it wrote itself: two texts of the same attributes would be a conflict."""
    rows, _ = run(giving(attributes='{"b": "2", "a": "1"}'))
    assert rows[0][1].attributes == '{"a":"1","b":"2"}'
