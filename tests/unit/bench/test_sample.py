"""Samples and percentiles."""

import pytest
from bench.sample import Sample, percentile
from hypothesis import given
from hypothesis import strategies as st

_POSITIVE = st.floats(min_value=1e-3, max_value=1e6)


def test_a_sample_tells_its_median_and_extremes() -> None:
    """The order of the rounds doesn't matter to them."""
    sample = Sample.of(3.0, 1.0, 2.0)
    assert (sample.low, sample.median, sample.high) == (1.0, 2.0, 3.0)


def test_ratios_are_taken_round_by_round() -> None:
    """A machine that halves its speed in the second round changes no ratio."""
    assert Sample.of(300.0, 150.0).over(Sample.of(200.0, 100.0)) == Sample.of(1.5, 1.5)


def test_samples_of_different_rounds_have_no_ratio() -> None:
    """A round without its counterpart would be dropped in silence."""
    with pytest.raises(ValueError, match="shorter"):
        Sample.of(1.0, 2.0).over(Sample.of(1.0))


def test_a_sample_without_values_is_refused() -> None:
    """It would have no median."""
    with pytest.raises(ValueError, match="at least one"):
        Sample(())


@given(st.lists(_POSITIVE, min_size=1))
def test_the_median_lies_between_the_extremes(values: list[float]) -> None:
    """Whatever was measured."""
    sample = Sample(tuple(values))
    assert sample.low <= sample.median <= sample.high


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.001, 1.0)])
def test_a_percentile_is_one_of_the_values(share: float, expected: float) -> None:
    """Nearest rank: nothing is interpolated."""
    assert percentile([float(number) for number in range(100, 0, -1)], share) == expected


@given(st.lists(_POSITIVE, min_size=1), st.floats(min_value=0.01, max_value=1))
def test_that_share_of_the_values_does_not_exceed_a_percentile(values: list[float], share: float) -> None:
    """The promise of the nearest rank."""
    bound = percentile(values, share)
    assert sum(value <= bound for value in values) >= share * len(values) - 1e-9


def test_no_values_have_no_percentile() -> None:
    """A latency of nothing is no latency of 0."""
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
