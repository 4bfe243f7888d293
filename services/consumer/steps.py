"""Users' own steps, found by the entry-point group `telemetry.steps`. See docs/steps.md."""

from importlib.metadata import entry_points
from typing import Final

from services.consumer.process import Step
from services.contract.event import Rejection

GROUP: Final = "telemetry.steps"


class StepsInvalid(Exception):
    """A step can't be loaded; the message names it."""


def reject(why: str) -> Rejection:
    """Refuse an event from within a step; it becomes a dead letter with this sentence in it."""
    return Rejection("process", "rejected_by_step", why[:500])


def load_steps() -> list[Step]:
    """Load the installed steps, in the order of their names.

    Raises StepsInvalid for one that can't be imported or called.
    """
    steps: list[Step] = []
    for point in sorted(entry_points(group=GROUP), key=lambda one: one.name):
        try:
            step = point.load()
        except Exception as error:
            raise StepsInvalid(
                f"step {point.name} ({point.value}): {type(error).__name__}: {error}"
            ) from error
        if not callable(step):
            raise StepsInvalid(f"step {point.name} ({point.value}) is no function")
        steps.append(step)
    return steps
