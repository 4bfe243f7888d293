"""The line that says how far a long answer is."""

import io

from fakes import FakeClock

from services.ops.output.progress import ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_long_answer_says_how_far_it_is_and_leaves_nothing() -> None:
    """Only once it takes a while; the last thing written clears the line."""
    clock, out = FakeClock(), Terminal()
    with ProgressLine("days read", out, clock.monotonic) as progress:
        progress(0, 30)
        assert out.getvalue() == ""
        clock.sleep(1.0)
        progress(12, 30)
        assert out.getvalue() == "\r\x1b[Kdays read [########            ] 12 of 30"
    assert out.getvalue().endswith("\r\x1b[K")


def test_a_short_answer_shows_nothing() -> None:
    """Nor does it clear a line that is not its own."""
    clock, out = FakeClock(), Terminal()
    with ProgressLine("days read", out, clock.monotonic) as progress:
        progress(0, 30)
        progress(30, 30)
    assert out.getvalue() == ""


def test_a_file_gets_no_such_line() -> None:
    """Whoever reads it later has no use for it."""
    clock, out = FakeClock(), io.StringIO()
    with ProgressLine("days read", out, clock.monotonic) as progress:
        clock.sleep(1.0)
        progress(1, 30)
    assert out.getvalue() == ""


def test_an_answer_of_which_nobody_knows_the_length_says_how_much_is_done() -> None:
    """A number alone."""
    clock, out = FakeClock(), Terminal()
    with ProgressLine("events written", out, clock.monotonic) as progress:
        clock.sleep(1.0)
        progress(12_000)
        assert out.getvalue() == "\r\x1b[Kevents written 12,000"
