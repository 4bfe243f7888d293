"""What a step of yours may import: this module stays, whatever moves behind it. See docs/steps.md.

Event             what a step is given, and gives on
reject            refuse an event, with a sentence that its dead letter has
attributes        what else the event has, by name
with_attributes   the same event with other attributes
Rejection, Step   for types
"""

from collections.abc import Callable, Mapping

from services.contract.attributes import AttributesInvalid, attributes_of, write_attributes
from services.contract.event import Event, Rejection

__all__ = ["AttributesInvalid", "Event", "Rejection", "Step", "attributes", "reject", "with_attributes"]

Step = Callable[[Event], Event | Rejection]
"""A user's step: gives the event on, changed or not, or a rejection with its reason."""


def reject(why: str) -> Rejection:
    """Refuse an event from within a step; it becomes a dead letter with this sentence in it."""
    return Rejection("process", "rejected_by_step", why)


def attributes(event: Event) -> dict[str, str]:
    """Give what else an event has, by name; empty where it has nothing else."""
    return attributes_of(event.attributes)


def with_attributes(event: Event, texts: Mapping[str, str]) -> Event:
    """Give the event with these attributes in place of its own.

    At most 16, names of 1 to 64 and texts of at most 128 characters, 2,048 bytes together. Raises
    AttributesInvalid.
    """
    return event._replace(attributes=write_attributes(texts))
