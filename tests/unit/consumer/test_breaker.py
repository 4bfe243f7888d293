"""The breaker's window and its ratio."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.consumer.breaker import Breaker
from services.contract.errors import BreakerOpen


def test_ratio_zero_never_opens() -> None:
    """Switched off, it lets everything through."""
    breaker = Breaker(0.0)
    for _ in range(50):
        breaker.check(100, 100)


def test_fewer_than_a_hundred_entries_say_nothing() -> None:
    """A handful of invalid entries at the start doesn't stop a consumer."""
    breaker = Breaker(0.5)
    for _ in range(9):
        breaker.check(10, 10)
    with pytest.raises(BreakerOpen, match="DLQ_BREAKER_RATIO=0"):
        breaker.check(10, 10)


def test_the_ratio_itself_is_allowed() -> None:
    """It opens above its ratio, not at it."""
    breaker = Breaker(0.5)
    breaker.check(100, 50)
    with pytest.raises(BreakerOpen):
        breaker.check(100, 51)


def test_long_ago_is_forgotten() -> None:
    """Only the last hundred entries or a little more count."""
    breaker = Breaker(0.5)
    for _ in range(1000):
        breaker.check(10, 0)
    for _ in range(5):
        breaker.check(10, 10)
    with pytest.raises(BreakerOpen):
        breaker.check(10, 10)


@given(st.lists(st.integers(1, 150).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), max_size=40))
def test_it_opens_exactly_when_the_recent_share_is_too_large(batches: list[tuple[int, int]]) -> None:
    """The window is the fewest last batches with a hundred entries together."""
    breaker = Breaker(0.3)
    for end in range(1, len(batches) + 1):
        received = invalid = 0
        for size, bad in reversed(batches[:end]):
            received, invalid = received + size, invalid + bad
            if received >= 100:
                break
        if received >= 100 and invalid / received > 0.3:
            with pytest.raises(BreakerOpen):
                breaker.check(*batches[end - 1])
        else:
            breaker.check(*batches[end - 1])
