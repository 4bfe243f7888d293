"""How large an entry is, and what is kept of one that is too large."""

import logging
import tracemalloc

import pytest
from fakes import FakeClock, FakeDeadLetters, FakeSink, FakeSource, FakeStream
from hypothesis import example, given
from hypothesis import strategies as st
from samples import KPIS, NOW, entry, event_fields, id_of, raw_fields

from services.consumer.batch import Outcome, Rules, run_batch
from services.consumer.breaker import Breaker
from services.consumer.persist import Persist
from services.consumer.recognise import recognise
from services.contract.consuming.doors import Dead, Entry
from services.contract.consuming.large import (
    UNKNOWN_BYTES,
    beginning,
    burden_of,
    cut,
    is_heavy,
    limit_size,
    size_of,
)
from services.contract.consuming.letter import dead_letter, letter_line, parse_letter
from services.contract.event import DEFAULT_ENTRY_BYTES, LEAST_ENTRY_BYTES, Rejection
from services.contract.trace_context import TraceContext
from services.runtime.health import Health
from services.runtime.telemetry.metrics import Metrics

MEGABYTE = 1 << 20


def _run(entries: list[Entry], max_deliveries: int = 5) -> tuple[Outcome, FakeSource, FakeDeadLetters]:
    clock = FakeClock()
    source, letters = FakeSource(FakeStream()), FakeDeadLetters()
    metrics, logger = Metrics("consumer"), logging.getLogger("test.large")
    persist = Persist(FakeSink(), letters, 3, 0.5, clock, Health(60.0, clock.monotonic), metrics, logger)
    outcome = run_batch(entries, source, Rules(KPIS, 300.0, max_deliveries), persist, Breaker(0.0), clock.now)
    return outcome, source, letters


def _of(size: int) -> list[bytes]:
    """Make an entry of exactly this size."""
    fields = [*event_fields(1), b"blob", b""]
    return [*fields[:-1], b"b" * (size - size_of(fields))]


def test_the_limit_itself_is_no_more_than_the_limit() -> None:
    """An entry of exactly MAX_ENTRY_BYTES has a letter with all of it; one byte more is too large."""
    for more, reason in ((0, "unknown_field"), (1, "entry_too_large")):
        outcome, source, letters = _run([Entry(b"1-1", _of(DEFAULT_ENTRY_BYTES + more))])
        (letter,) = letters.read()
        assert letter.reason == reason
        assert letter.truncated == bool(more)
        assert (letter.fields == _of(DEFAULT_ENTRY_BYTES)) == (not more)
        assert letter.size_bytes == (DEFAULT_ENTRY_BYTES + 1 if more else None)
        assert len(outcome.dead) == 1
        assert source.aside == ([b"1-1"] if more else [])


def test_many_empty_fields_are_large_too() -> None:
    """Each name and value counts for a byte at least."""
    assert size_of([b""] * 4000) == 4000
    assert size_of([b"ab"] * 4000) == 8000


def test_an_entry_in_the_hand_is_cut_as_one_that_was_looked_at() -> None:
    """A large entry that came unforeseen has the same letter, and tells that others may follow."""
    fields = _of(2 * MEGABYTE)
    read = _run([Entry(b"1-1", fields), entry(7)])
    seen = _run([Entry(b"1-1", beginning(fields), 1, size_of(fields)), entry(7)])
    assert read[2].lines == seen[2].lines
    assert [row.event_id for row in read[0].rows] == [id_of(7)]
    assert (read[1].expected_large, seen[1].expected_large) == (1, 1)


def test_the_size_says_more_than_the_deliveries() -> None:
    """A large entry that was delivered too often is told as large; a small one is whole and replayable."""
    large = Entry(b"1-1", beginning(_of(2 * MEGABYTE)), 9, 2 * MEGABYTE)
    outcome, _, letters = _run([large, entry(2, deliveries=9)], max_deliveries=5)
    assert [one.rejection.reason for one in outcome.dead] == ["deliveries_exhausted", "entry_too_large"]
    assert {letter.reason: letter.truncated for letter in letters.read()} == {
        "deliveries_exhausted": False,
        "entry_too_large": True,
    }


@pytest.mark.parametrize(
    ("full_size", "deliveries", "words"),
    [
        (2 * MEGABYTE, 1, "2097152 bytes, more than MAX_ENTRY_BYTES 1048576"),
        (500_000, 9, "500000 bytes, and it was delivered 9 times and never read whole"),
        (UNKNOWN_BYTES, 9, "delivered 9 times, never read whole, and its size can't be looked at"),
    ],
)
def test_a_letter_says_why_it_is_truncated(full_size: int, deliveries: int, words: str) -> None:
    """Too large, never sent, or not to be looked at."""
    whole, (dead,) = limit_size([Entry(b"1-1", [], deliveries, full_size)], MEGABYTE)
    assert (whole, dead.rejection.error) == ([], words)
    letter = parse_letter(dead_letter(dead, NOW, "consumer-1").to_json())
    assert letter.truncated
    assert letter.size_bytes == (full_size if full_size > 0 else None)


def test_a_whole_letter_says_nothing_of_being_cut() -> None:
    """Its line is what it always was, and an old version reads it."""
    line = dead_letter(Dead(entry(1), Rejection("validate", "ts_invalid", "no")), NOW, "c").to_json()
    assert "truncated" not in line
    assert "size_bytes" not in line
    assert not parse_letter(line).truncated


def test_ordinary_batches_are_never_heavy() -> None:
    """However many valid events there are; large ones are."""
    assert not is_heavy(size_of(event_fields(number)) for number in range(20_000))
    assert is_heavy([MEGABYTE + 1])
    assert cut(entry(1), MEGABYTE) == entry(1)


@pytest.mark.parametrize("name", ["event_id", "device_id", "zone", "ts", "kpi", "value"])
@pytest.mark.parametrize("text", [b"\n", b"\t", b"a\n", b","])
def test_line_feeds_cost_no_memory(name: str, text: bytes) -> None:
    """A megabyte of them is looked at with care, and not matched line by line; nor of what else divides."""
    large = text * (250_000 // len(text))
    entries = [Entry(b"1-%d" % number, event_fields(number, **{name: large})) for number in range(4)]
    tracemalloc.start()
    recognised = recognise(entries, KPIS, NOW)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(recognised.valid), recognised.odd) == (0, entries)
    assert peak < 8 * MEGABYTE


@given(raw_fields, st.sampled_from([0, UNKNOWN_BYTES, 5 * MEGABYTE]))
@example(event_fields(1, traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01"), 0)
def test_a_line_is_the_letter(fields: list[bytes], full_size: int) -> None:
    """Written from the bytes, a line says what the letter says."""
    rejection = Rejection("decode", "not_utf8", '"event":{} in it')
    dead = Dead(Entry(b"17-1", fields, 2, full_size), rejection)
    batch = TraceContext("12" * 16, "34" * 8, is_sampled=True)
    letter = dead_letter(dead, NOW, "consumer-1", batch)
    assert parse_letter(letter_line(dead, NOW, "consumer-1", batch)) == letter
    assert parse_letter(letter.to_json()) == letter
    assert letter.fields == fields


def test_an_entry_of_many_ordinary_events_is_no_burden() -> None:
    """However large it is. One with an event that is larger than a valid one counts with all of its bytes."""
    line = b"\t".join(event_fields(1)[1::2]) + b"\n"
    ordinary = [b"events", b"9000", b"lines", line * 9000]
    assert size_of(ordinary) > 500_000
    assert burden_of(ordinary) == 0
    heavy = [b"events", b"2", b"lines", line + b"x" * 2 * LEAST_ENTRY_BYTES + b"\n"]
    assert burden_of(heavy) == size_of(heavy)
    endless = [b"events", b"2", b"lines", b"x" * 5000]
    for other in (event_fields(1), endless):
        assert burden_of(other) == size_of(other)
