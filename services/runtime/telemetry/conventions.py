"""OpenTelemetry's semantic conventions for messaging, as far as we use them: every name, once.

Version 1.44 (https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/), still «Development»
there. A span is named `{operation} {destination}`. Redis has no entry of its own among the messaging
systems; `redis` is a custom value, which the conventions allow. docs/tracing.md has it as a table.

What they have no name for begins with `telemetry.`.
"""

from collections.abc import Mapping
from typing import Final

Attribute = str | int | float | bool
Attributes = Mapping[str, Attribute]

SEND: Final = "send"
PROCESS: Final = "process"
SETTLE: Final = "ack"

# Of messages
BATCH_SIZE: Final = "messaging.batch.message_count"
MESSAGE_ID: Final = "messaging.message.id"
"""The id of the stream entry."""
ERROR: Final = "error.type"

# Ours
EVENT_ID: Final = "telemetry.event_id"
DELIVERIES: Final = "telemetry.deliveries"
OUTCOME: Final = "telemetry.outcome"
"""stored, dead or pending."""
STAGE: Final = "telemetry.stage"
REASON: Final = "telemetry.reason"
STORED: Final = "telemetry.stored"
DUPLICATES: Final = "telemetry.duplicates"
DEAD: Final = "telemetry.dead"
SAMPLED: Final = "telemetry.sampled_events"
"""Events of a batch that have a span of their own."""
UNLINKED: Final = "telemetry.unlinked_events"
"""Those among them that the batch has no link for, since a span takes 128."""
UNFOLLOWED: Final = "telemetry.unfollowed_events"
"""Sampled events that have no span of their own since the last batch, by TRACE_SPANS_PER_SECOND."""
WAIT: Final = "telemetry.wait_s"
"""Seconds in the stream, from the entry's id to its receipt."""
RUN: Final = "telemetry.run"
ATTEMPT: Final = "telemetry.attempt"
PAUSE: Final = "telemetry.pause_s"

LINK_LIMIT: Final = 128
"""Links, and events, that one span may have (specification of the SDK, span limits)."""

_OPERATION_TYPES: Final = {SEND: "send", PROCESS: "process", SETTLE: "settle"}


def span_name(operation: str, stream: str) -> str:
    """Name a span of an operation on a stream."""
    return f"{operation} {stream}"


def operation_attributes(operation: str, stream: str, group: str = "") -> dict[str, Attribute]:
    """Give the attributes that every span of an operation has; `group` where it is a consumer's."""
    attributes: dict[str, Attribute] = {
        "messaging.system": "redis",
        "messaging.destination.name": stream,
        "messaging.operation.name": operation,
        "messaging.operation.type": _OPERATION_TYPES[operation],
    }
    if group:
        attributes["messaging.consumer.group.name"] = group
    return attributes
