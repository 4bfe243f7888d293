"""The line of `telemetry run`, and the logs above it with --logs."""

import io
import json

import pytest

from services.ops.run.pipeline import Progress, _StatusLine

LINE = json.dumps(
    {
        "asctime": "2026-11-25T09:04:11.157Z",
        "name": "telemetry",
        "levelname": "INFO",
        "message": "batch_settled",
        "received": 100,
        "service": "consumer",
        "version": "0.1.0",
    }
)


class Terminal(io.StringIO):
    """A text that says it is one."""

    def isatty(self) -> bool:
        return True


def test_a_person_sees_logs_as_text_above_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the name of the process; what is no log line stays as it is."""
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    with _StatusLine(out) as status:
        status.show(Progress, at_last=False)
        status.write_log("consumer-1", f"{LINE}\nbare text\n[1]\n")
        status.write_log("consumer-1", "")
    assert out.getvalue().split("\r\x1b[K")[1:] == [
        "published=0 stored=0 dead=0 conflicts=0 pending=0 lag=0 0 events/s",
        (
            "consumer-1   09:04:11.157  INFO     batch_settled  received=100\n"
            "consumer-1   bare text\n"
            "consumer-1   [1]\n\n"
        ),
    ]


def test_colours_are_for_terminals_that_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the services themselves."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with _StatusLine(out) as status:
        status.write_log("producer", f"{LINE}\n")
    assert "\x1b[32mINFO" in out.getvalue()


def test_elsewhere_logs_stay_json() -> None:
    """One after the other, as the services wrote them."""
    out = io.StringIO()
    with _StatusLine(out) as status:
        status.write_log("consumer-1", f"{LINE}\n")
        status.write_log("producer", f"{LINE}\n")
    assert out.getvalue() == f"{LINE}\n{LINE}\n"


MUCH = Progress(1_234_567, 1_222_333, 12_234, 3, 4_000, 98_765, 31_600.0)


@pytest.mark.parametrize(
    ("most", "line"),
    [
        (
            None,
            "published=1234567 stored=1222333 dead=12234 conflicts=3 pending=4000 lag=98765 31600 events/s",
        ),
        (90, "published=1234567 stored=1222333 dead=12234 pending=4000 lag=98765 31600 events/s .."),
        (79, "published=1234567 stored=1222333 dead=12234 lag=98765 31600 events/s .."),
        (60, "published=1234567 stored=1222333 lag=98765 31600 events/s .."),
        (10, "published=1234567 stored=1222333 31600 events/s .."),
    ],
)
def test_a_line_that_is_too_long_leaves_out_whole_numbers(most: int | None, line: str) -> None:
    """What matters least first, and two dots say so."""
    assert MUCH.line(most) == line


def test_a_terminal_s_line_can_be_written_over() -> None:
    """It takes one line of the terminal; the last one is whole."""
    out = Terminal()
    with _StatusLine(out) as status:
        status.show(lambda: MUCH)
        status.show(MUCH, at_last=True)
    first, last = out.getvalue().rstrip("\n").split("\r\x1b[K")[1:]
    assert len(first) < 80
    assert last == MUCH.line()
