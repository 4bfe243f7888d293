"""Names and numbers that others have written."""

import pytest

from services.brokers.consuming.foreign import LONGEST_NAME, name_of, number_of, whole_of


@pytest.mark.parametrize(
    ("raw", "name"),
    [(b"consumer-1", "consumer-1"), ("zähler".encode(), "zähler"), (b"a\xff\xfe", "a\\xff\\xfe"), (b"", "")],
)
def test_a_name_is_always_text(raw: bytes, name: str) -> None:
    """What is no UTF-8 is written out, so that it can be found."""
    assert name_of(raw) == name


def test_a_long_name_is_cut() -> None:
    """Its end is marked."""
    assert name_of(b"x" * 10_000_000) == "x" * LONGEST_NAME + "…"


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        (b"0", 0), (b"17", 17), (b" 17 ", 17), (b"17.0", 17), (b"+5", 5), (b"100", 100), (b"101", None),
        (b"-5", None), (b"1.5", None), (b"abc", None), (b"", None), (b"nan", None), (b"inf", None),
        (b"1e2", None), (b"\xff", None), (b"1" * 30, None), (b"1" * 100_000, None), (b"1_0", None),
        (b"1.", 1), (None, None),
    ],
)  # fmt: skip
def test_a_whole_number_is_one_of_those_that_can_be(raw: bytes | None, number: int | None) -> None:
    """From 0 to the highest that is asked for."""
    assert whole_of(raw, 100) == number


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        (b"0", 0.0), (b"-1.5", -1.5), (b"1e3", 1000.0), (b"1e999", None), (b"nan", None), (b"-inf", None),
        (b"", None), (b"many", None), (b"\xff", None), (b"1" * 5000, None), (None, None),
    ],
)  # fmt: skip
def test_a_number_is_finite(raw: bytes | None, number: float | None) -> None:
    """Whatever else stands there is none."""
    assert number_of(raw) == number
