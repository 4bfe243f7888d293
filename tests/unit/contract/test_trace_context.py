"""W3C Trace Context, as the recommendation has it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import event_fields

from services.contract.trace_context import TraceContext, context_of, parse

TRACE, SPAN = "ab" * 16, "cd" * 8
GOOD = f"00-{TRACE}-{SPAN}-01".encode()


def test_a_context_is_read_and_written() -> None:
    """Both ids, and whether it is sampled."""
    assert parse(GOOD, b"a=1") == TraceContext(TRACE, SPAN, is_sampled=True, tracestate="a=1")
    assert TraceContext(TRACE, SPAN, is_sampled=True).traceparent.encode() == GOOD
    assert TraceContext(TRACE, SPAN, is_sampled=False).traceparent.endswith("-00")


@pytest.mark.parametrize(("flags", "is_sampled"), [("00", False), ("01", True), ("02", False), ("ff", True)])
def test_only_the_lowest_flag_tells_whether_it_is_sampled(flags: str, is_sampled: bool) -> None:
    """Others are of later versions."""
    found = parse(f"00-{TRACE}-{SPAN}-{flags}".encode())
    assert found is not None
    assert found.is_sampled == is_sampled


@pytest.mark.parametrize("text", [b"01" + GOOD[2:], b"cc" + GOOD[2:] + b"-more-of-it"])
def test_a_later_version_is_read_as_far_as_it_is_known(text: bytes) -> None:
    """Section 4.3: what stands behind the flags is passed over."""
    assert parse(text) == TraceContext(TRACE, SPAN, is_sampled=True)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        GOOD[:-1],
        GOOD + b"-more",
        GOOD + b"\n",
        GOOD.upper(),
        b"ff" + GOOD[2:],
        b"01" + GOOD[2:] + b"more",
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        b"\xff" * 55,
        b"0" * 100_000,
    ],
)
def test_what_is_not_well_formed_is_no_context(text: bytes) -> None:
    """And no error either."""
    assert parse(text) is None


@given(st.binary(max_size=80), st.binary(max_size=600))
def test_nothing_that_stands_in_the_fields_is_an_error(traceparent: bytes, tracestate: bytes) -> None:
    """Whatever bytes somebody sent."""
    parse(traceparent, tracestate)
    found = parse(GOOD, tracestate)
    assert found is not None
    assert found.tracestate.encode() in {tracestate, b""}


def test_the_context_of_an_entry_is_found_wherever_it_stands() -> None:
    """Among its fields, with its state."""
    fields = [b"traceparent", GOOD, *event_fields(1), b"tracestate", b"a=1"]
    assert context_of(fields) == TraceContext(TRACE, SPAN, is_sampled=True, tracestate="a=1")
    assert context_of(event_fields(1)) is None
    assert context_of([b"device_id", b"traceparent", b"zone"]) is None
    assert context_of([b"traceparent"]) is None
