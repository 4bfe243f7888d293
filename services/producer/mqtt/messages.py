"""From a message to what is published of it: events, and what makes none as it came. Pure.

A payload is a number, a JSON object, a list of either, or whatever a mapping reads. What the topic says goes
before what the payload says: brokers let a device write to topics of its own, and to no others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from services.producer.mapping.mapped import Mapped
from services.producer.mqtt.topics import Template
from services.producer.rows.pick import Picked
from services.producer.rows.problem import Problem
from services.producer.taking.contexts import traced
from services.producer.taking.desk import AsItCame
from services.producer.taking.making import ARRIVAL, JsonMaker, Made, Rules, TooMany
from services.runtime.redact import head

Result = Literal["events", "dead", "partly", "without_reading"]

MOST_READ_BYTES: Final = 5 << 20
"""A larger payload is not read: it is a dead letter."""
MOST_WHOLE_BYTES: Final = 16 << 20
"""Of a larger one only the beginning is published, as much as an entry may have."""
_LONGEST_PROBLEM: Final = 1000
_BEGINS_JSON: Final = b'{["'


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message as the broker sent it."""

    topic: str
    payload: bytes
    at: float
    """Unix seconds."""
    traceparent: str = ""
    tracestate: str = ""


@dataclass(frozen=True, slots=True)
class Readings:
    """What is published of a message."""

    events: Sequence[Picked | AsItCame]
    result: Result
    reason: str = ""
    """The field at fault, where something made no event."""
    lag_s: float | None = None
    """How long before its arrival its newest event was; None where no event says a time."""


class MessageMaker:
    """Makes events of messages, by templates and a mapping."""

    def __init__(self, templates: Sequence[Template], mapped: Mapped, rules: Rules) -> None:
        self._makers = [(one, JsonMaker(mapped, rules, one.fields)) for one in templates]
        self._rules = rules

    def make(self, message: Arrived) -> Readings:
        """Make what is published of a message. Never raises for what is in it."""
        try:
            made = self._made(message)
        except Problem as problem:
            return self.refused(message, str(problem), problem.field or "form")
        except TooMany:
            return self.refused(
                message,
                f"more than {self._rules.most_events:,} events in a message, or far more values than those; "
                "send them in parts",
                "size",
            )
        lag_s = _lag_s(made, message.at)
        with_context = traced(message.traceparent, message.tracestate)
        events: list[Picked | AsItCame] = [with_context(_at(one, message.at)) for _, one in made.events]
        if not made.refused_fields:
            return Readings(events, "events" if events else "without_reading", lag_s=lag_s)
        letter = self.refused(message, _told(made), made.refused_fields[0] or "form")
        return Readings([*events, *letter.events], "partly", letter.reason, lag_s) if events else letter

    def refused(self, message: Arrived, problem: str, reason: str) -> Readings:
        """Give a message as it came, for a dead letter that says what is wrong."""
        payload, size = message.payload, len(message.payload)
        fields: list[str | bytes] = ["topic", message.topic.encode(errors="replace"), "problem", problem]
        if size > MOST_WHOLE_BYTES:
            payload = payload[: self._rules.max_entry_bytes]
            fields += ["payload_bytes", str(size)]
        return Readings([AsItCame([*fields, "payload", payload])], "dead", reason)

    def _made(self, message: Arrived) -> Made:
        if len(message.payload) > MOST_READ_BYTES:
            raise Problem(f"the payload is larger than {MOST_READ_BYTES:,} bytes", "", "size")
        for template, maker in self._makers:
            said = template.read(message.topic)
            if said is None:
                continue
            payload = message.payload.strip()
            if not payload:
                raise Problem("the payload is empty")
            if payload[:1] in _BEGINS_JSON:
                return maker.document(payload, said)
            try:
                return maker.value(payload.decode(), said)
            except UnicodeDecodeError as error:
                raise Problem(f"not UTF-8: {error.reason} at byte {error.start + 1}") from None
        raise Problem("no template of MQTT_TOPICS is like its topic", "", "topic")


def _lag_s(made: Made, at: float) -> float | None:
    times = [float(one.values[2]) for _, one in made.events if one.values[2] != ARRIVAL]
    return max(0.0, at - max(times)) if times else None


def _at(picked: Picked, at: float) -> Picked:
    """Give an event without a time that of its arrival: it may wait here before it is published."""
    if picked.values[2] != ARRIVAL:
        return picked
    device_id, zone, _, kpi, value = picked.values
    return picked._replace(values=[device_id, zone, f"{at:.3f}", kpi, value])


def _told(made: Made) -> str:
    several = len(made.events) + len(made.refused_fields) > 1
    named = "; ".join(
        f"event {one.position}: {one.reason}" if several else one.reason for one in made.refused
    )
    more = len(made.refused_fields) - len(made.refused)
    return head(f"{named}{f'; and {more} more' if more else ''}", _LONGEST_PROBLEM)
