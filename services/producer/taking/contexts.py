"""The trace context of whoever sends, given to the events that were sent. Pure."""

from collections.abc import Callable
from typing import Any

from services.contract.trace_context import parse as parse_context
from services.producer.rows.pick import Picked


def traced(traceparent: str, tracestate: str) -> Callable[[Picked], Picked]:
    """Make what gives a context to events, where it is sampled and they have none of their own."""
    if not traceparent:
        return lambda one: one
    context = parse_context(traceparent.encode(errors="replace"), tracestate.encode(errors="replace"))
    if context is None or not context.is_sampled:
        return lambda one: one
    more: list[Any] = ["traceparent", context.traceparent]
    if context.tracestate:
        more += ["tracestate", context.tracestate]

    def with_context(one: Picked) -> Picked:
        if "traceparent" in one.trace[::2]:
            return one
        return one._replace(trace=[*one.trace, *more], is_plain=False)

    return with_context
