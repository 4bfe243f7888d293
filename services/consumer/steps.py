"""Users' own steps, found by the entry-point group `telemetry.steps`. See docs/steps.md.

A step sees an event of the right form, of any KPI and in any range; what it gives is held to the rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from types import NoneType, UnionType
from typing import Final

from services.contract.consuming.doors import Dead, Valid
from services.contract.event import Event, Rejection
from services.runtime.redact import shortened
from services.steps import Step, reject

__all__ = [
    "GROUP",
    "StepsInvalid",
    "load_steps",
    "reject",
    "take_steps",
]  # steps of before import reject from here

GROUP: Final = "telemetry.steps"

_LONGEST_WHY: Final = 500
"""Characters of what a step has raised, or rejects an event with."""
_KINDS: Final[Mapping[str, type | UnionType]] = {
    "event_id": str,
    "device_id": str,
    "zone": str,
    "ts": float | int,
    "kpi": str,
    "value": float | int,
    "is_degraded": int,
    "attributes": str | NoneType,
}
"""What the rules can be held against."""


class StepsInvalid(Exception):
    """A step can't be loaded; the message names it."""


def load_steps() -> list[Step]:
    """Load the installed steps, in the order of their names.

    Raises StepsInvalid for one that can't be imported or called.
    """
    steps: list[Step] = []
    for point in sorted(entry_points(group=GROUP), key=lambda one: one.name):
        try:
            step = point.load()
        except (Exception, SystemExit) as error:
            raise StepsInvalid(f"step {point.name} ({point.value}): {_told(error)}") from error
        if not callable(step):
            raise StepsInvalid(f"step {point.name} ({point.value}) is no function")
        steps.append(step)
    return steps


def take_steps(events: Sequence[Valid], steps: Sequence[Step]) -> tuple[list[Valid], list[Dead]]:
    """Lead events through the steps, in order; what a step rejects, or fails at, becomes a dead letter."""
    kept: list[Valid] = []
    dead: list[Dead] = []
    for entry, event in events:
        outcome = through(event, steps)
        if isinstance(outcome, Event):
            kept.append((entry, outcome))
        else:
            dead.append(Dead(entry, outcome))
    return kept, dead


def through(event: Event, steps: Sequence[Step]) -> Event | Rejection:
    """Lead one event through the steps. Raises nothing that a step raises."""
    current = event
    for step in steps:
        try:
            outcome: object = step(current)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - users' code: it ends this event, not us
            return _failed(step, _told(error))
        if isinstance(outcome, Rejection):
            return _rejected(step, outcome)
        if not isinstance(outcome, Event):
            return _failed(step, f"returned {type(outcome).__name__}, neither an Event nor a rejection")
        wrong = [name for name, kind in _KINDS.items() if not isinstance(getattr(outcome, name), kind)]
        if wrong:
            return _failed(step, f"gave an event whose {', '.join(wrong)} has the wrong type")
        if outcome.event_id != event.event_id:
            return _failed(step, "changed the event_id, by which the audit finds the event")
        try:
            current = outcome._replace(ts=float(outcome.ts), value=float(outcome.value))
        except OverflowError:
            return _failed(step, "gave a number that is too large for any float")
    return current


def _told(error: BaseException) -> str:
    """Say what a step has raised; its own words may be no text."""
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except Exception:  # noqa: BLE001 - the words of an error are users' code as well
        return name


def _rejected(step: Step, rejection: Rejection) -> Rejection:
    """Cut a step's sentence here: where it is made, nobody knows our secrets."""
    why: object = rejection.error
    if not isinstance(why, str):
        return _failed(step, f"rejected an event with {type(why).__name__}, and no sentence")
    return replace(rejection, error=shortened(why, _LONGEST_WHY))


def _failed(step: Step, why: str) -> Rejection:
    name = getattr(step, "__qualname__", repr(step))
    return Rejection("process", "step_failed", shortened(f"step {name}: {why}", _LONGEST_WHY))
