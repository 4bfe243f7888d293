"""The schedule: no drift, no bursts."""

from fakes import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from services.producer.pace import Pacer, at_rate


@given(rate=st.floats(1, 50_000), work=st.floats(0, 0.9))
def test_the_rate_is_kept_whatever_the_work(rate: float, work: float) -> None:
    """The number of events after a time is rate times time, however long each batch took."""
    clock = FakeClock()
    pacer = at_rate(rate, 0, clock.monotonic)
    sent = 0
    for _ in range(200):
        clock.elapsed += pacer.wait_s()
        ends = clock.elapsed
        sent += pacer.size
        pacer.sent(pacer.size)
        clock.elapsed += min(work, 1.0) * pacer.size / rate
    assert abs((sent - pacer.size) - rate * ends) <= 0.01 * sent + 1


def test_batches_are_small_at_a_thousand_a_second() -> None:
    """An event waits at most 20 ms for its companions."""
    assert at_rate(1000, 0, FakeClock().monotonic).size == 20
    assert at_rate(0.5, 0, FakeClock().monotonic).size == 1
    assert at_rate(1e6, 0, FakeClock().monotonic).size == 1000
    assert at_rate(1e6, 10, FakeClock().monotonic).size == 10


def test_a_stall_is_not_made_up_by_a_burst() -> None:
    """After more than a second without a turn the schedule begins anew."""
    clock = FakeClock()
    pacer = at_rate(1000, 0, clock.monotonic)
    clock.elapsed = 30.0
    due_at_once = 0
    while pacer.wait_s() == 0:
        due_at_once += 1
        pacer.sent(pacer.size)
    assert due_at_once == 1


def test_no_interval_means_no_pause() -> None:
    """A file without a rate is read as fast as it goes."""
    clock = FakeClock()
    pacer = Pacer(5, 0.0, clock.monotonic)
    pacer.sent(5)
    assert pacer.wait_s() == 0
