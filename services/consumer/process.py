"""From a valid event to the row that is stored: the users' steps, then `is_degraded`. Pure."""

from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Final

from services.contract.consuming.doors import Dead, Entry, Processed, Valid
from services.contract.event import Event, Rejection
from services.contract.kpis import Kpis

Step = Callable[[Event], Event | Rejection]
"""A user's step: gives the event on, changed or not, or a rejection with its reason."""

_KINDS: Final[Mapping[str, type | UnionType]] = {
    "event_id": str,
    "device_id": str,
    "zone": str,
    "ts": float | int,
    "kpi": str,
    "value": float | int,
}
"""What a sink can store. Another type would be stored converted, and then conflict with itself."""


def process(
    valid: Sequence[Valid], kpis: Kpis, steps: Sequence[Step] = ()
) -> tuple[list[Processed], list[Dead]]:
    """Make rows of events; what a step rejects becomes a dead letter."""
    dead: list[Dead] = []
    if steps:
        valid, dead = _take_steps(valid, kpis, steps)
    thresholds = {name: kpi.threshold for name, kpi in kpis.items()}
    rows = [pair if pair[1].value <= thresholds[pair[1].kpi] else _degraded(*pair) for pair in valid]
    return rows, dead


def _degraded(entry: Entry, event: Event) -> Processed:
    return entry, Event(*event[:6], 1)


def _take_steps(valid: Sequence[Valid], kpis: Kpis, steps: Sequence[Step]) -> tuple[list[Valid], list[Dead]]:
    kept: list[Valid] = []
    dead: list[Dead] = []
    for entry, event in valid:
        outcome = _through(event, kpis, steps)
        if isinstance(outcome, Event):
            kept.append((entry, outcome))
        else:
            dead.append(Dead(entry, outcome))
    return kept, dead


def _through(event: Event, kpis: Kpis, steps: Sequence[Step]) -> Event | Rejection:
    current = event
    for step in steps:
        try:
            outcome: object = step(current)
        except Exception as error:  # noqa: BLE001 - users' code: its error ends this event, not the batch
            return _failed(step, f"{type(error).__name__}: {error}")
        if isinstance(outcome, Rejection):
            return outcome
        if not isinstance(outcome, Event):
            return _failed(step, f"returned {type(outcome).__name__}, neither an Event nor a rejection")
        wrong = [name for name, kind in _KINDS.items() if not isinstance(getattr(outcome, name), kind)]
        if wrong:
            return _failed(step, f"gave an event whose {', '.join(wrong)} has the wrong type")
        if outcome.event_id != event.event_id:
            return _failed(step, "changed the event_id, by which the audit finds the event")
        if outcome.kpi not in kpis:
            return _failed(step, f"changed the kpi to {outcome.kpi!r}, which is not configured")
        current = outcome
    return current


def _failed(step: Step, why: str) -> Rejection:
    name = getattr(step, "__qualname__", repr(step))
    return Rejection("process", "step_failed", f"step {name}: {why}"[:500])
