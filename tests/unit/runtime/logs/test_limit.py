"""A warning is written once in ten seconds, and how many were held back is told in the end."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fakes import FakeClock

from services.runtime.logs.gate import Logs
from services.runtime.logs.limit import INTERVAL_S
from services.runtime.telemetry.spans import begin_trace, set_current


class Log:
    """A log with a clock of its own."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.out = io.StringIO()
        self.logs = Logs("consumer", "DEBUG", "json", self.out, self.clock.monotonic)
        self.logger = self.logs.logger

    def lines(self) -> list[dict[str, Any]]:
        """Give the lines since the last time."""
        found = [json.loads(line) for line in self.out.getvalue().splitlines()]
        self.out.seek(0)
        self.out.truncate()
        return found

    def told(self) -> list[tuple[str, Any, int | None]]:
        """Give message, number and held_back of each line since the last time."""
        return [(line["message"], line.get("number"), line.get("held_back")) for line in self.lines()]


@pytest.fixture
def log() -> Iterator[Log]:
    """Give a log."""
    one = Log()
    yield one
    one.logs.close()


def test_a_warning_that_repeats_is_held_back_and_the_next_one_tells_how_often(log: Log) -> None:
    """The first at once, then nothing for ten seconds, then the next with the number between."""
    for number in range(5):
        log.logger.error("away", extra={"number": number})
    assert log.told() == [("away", 0, None)]
    log.clock.sleep(INTERVAL_S - 0.1)
    log.logger.error("away", extra={"number": 5})
    assert log.told() == []
    log.clock.sleep(0.1)
    log.logger.error("away", extra={"number": 6})
    assert log.told() == [("away", 6, 5)]


def test_the_last_one_held_back_is_told_by_the_next_line_of_any_kind(log: Log) -> None:
    """It never came again, so it is written as it was, ahead of that line, and is counted once."""
    for number in range(4):
        log.logger.warning("full", extra={"number": number})
    log.logger.info("batch")
    assert log.told() == [("full", 0, None), ("batch", None, None)]
    log.clock.sleep(INTERVAL_S)
    log.logger.debug("batch")
    assert log.told() == [("full", 3, 2), ("batch", None, None)]
    log.clock.sleep(2 * INTERVAL_S)
    log.logger.info("batch")
    assert log.told() == [("batch", None, None)]


def test_what_was_told_late_begins_the_ten_seconds_anew(log: Log) -> None:
    """Or a kind would be written twice within them."""
    log.logger.warning("full", extra={"number": 0})
    log.logger.warning("full", extra={"number": 1})
    log.clock.sleep(INTERVAL_S)
    log.logger.info("batch")
    log.logger.warning("full", extra={"number": 2})
    assert log.told() == [("full", 0, None), ("full", 1, None), ("batch", None, None)]
    log.clock.sleep(INTERVAL_S)
    log.logger.warning("full", extra={"number": 3})
    assert log.told() == [("full", 3, 1)]


def test_the_end_tells_what_is_held_back(log: Log) -> None:
    """Without a line of any kind after it; and lines after the end are written all the same."""
    for number in range(3):
        log.logger.warning("full", extra={"number": number})
    log.logs.tell_rest()
    assert log.told() == [("full", 0, None), ("full", 2, 1)]
    log.logger.warning("full", extra={"number": 3})
    log.logs.close()
    log.logs.close()
    assert log.told() == [("full", 3, None)]
    log.logger.warning("full", extra={"number": 4})
    assert log.told() == [("full", 4, None)]


@pytest.mark.parametrize("field", ["stage", "part", "kind", "category", "reason"])
def test_kinds_are_told_apart_by_bounded_fields(log: Log, field: str) -> None:
    """What is about another stage, part or reason is another warning."""
    for _ in range(3):
        for value in ("one", "another"):
            log.logger.warning("trouble", extra={field: value})
    assert [line[field] for line in log.lines()] == ["one", "another"]


def test_sentences_and_numbers_make_no_kinds(log: Log) -> None:
    """A value that is different each time would let everything through."""
    for number in range(100):
        log.logger.warning("unreadable", extra={"number": number, "reason": f"line {number}: no JSON"})
    assert log.told() == [("unreadable", 0, None)]


def test_lines_of_others_are_told_apart_by_the_place_that_wrote_them(log: Log) -> None:
    """Their messages are sentences with values in them."""
    for number in range(3):
        log.logger.warning(f"{number} connections dropped")  # noqa: G004 - as others do
        log.logger.warning("pool %s is full", number)
    assert [line["message"] for line in log.lines()] == ["0 connections dropped", "pool 0 is full"]
    log.logs.tell_rest()
    assert [(line["message"], line["held_back"]) for line in log.lines()] == [
        ("2 connections dropped", 1),
        ("pool 2 is full", 1),
    ]


def test_what_ends_the_process_and_what_is_no_warning_is_never_held_back(log: Log) -> None:
    """Batches come many times a second, and each has its line."""
    for level in (logging.CRITICAL, logging.INFO, logging.DEBUG):
        for number in range(3):
            log.logger.log(level, "said", extra={"number": number})
    assert len(log.told()) == 9


def test_kinds_without_end_take_no_memory_without_end(log: Log) -> None:
    """Beyond a few hundred they share one."""
    for number in range(3000):
        log.logger.warning("trouble", extra={"reason": f"reason_{number}"})
    repeats = log.logs._gate._repeats
    assert len(repeats._kinds) <= 510
    assert len(log.lines()) <= 510
    log.clock.sleep(INTERVAL_S)
    log.logger.warning("trouble", extra={"reason": "reason_new"})
    assert len(log.lines()) == 2  # the new one, and the last of those that shared
    assert len(repeats._kinds) < 10


def test_a_line_that_was_held_back_keeps_its_trace_and_its_error(log: Log) -> None:
    """Though it is written in another batch; the frames of the error are let go."""
    contexts = [begin_trace(), begin_trace()]
    for context in contexts:
        set_current(context)
        try:
            int(f"in {context.trace_id}")
        except ValueError:
            log.logger.exception("failed")
    set_current(begin_trace())
    log.clock.sleep(INTERVAL_S)
    log.logger.info("batch")
    set_current(None)
    first, held, _ = log.lines()
    assert [first["trace_id"], held["trace_id"]] == [context.trace_id for context in contexts]
    assert "Traceback" in first["exc_info"]
    assert (
        held["exc_info"]
        == f"ValueError: invalid literal for int() with base 10: 'in {contexts[1].trace_id}'\n"
    )


def test_each_line_that_cant_be_read_has_its_own(log: Log) -> None:
    """Its number and its reason are of no other one."""
    for number in range(3):
        log.logger.warning("line_unreadable", extra={"number": number})
    assert log.told() == [("line_unreadable", number, None) for number in range(3)]
