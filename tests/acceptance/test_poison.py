"""Entries that kill their consumer, and entries of foreign bytes: dead letters, and nobody else's loss."""

import itertools
import signal
from typing import Final

import pytest
from acceptance.rig import PATIENCE_S, Process, Rig
from samples import flat
from servers import eventually

MAX_DELIVERIES = 3

Pairs = list[tuple[str | bytes, str | bytes]]

EVENT: Final[Pairs] = [
    ("event_id", "018f3c5e-8a10-4abc-8def-012345678901"),
    ("device_id", "d"),
    ("zone", "z"),
    ("ts", "1700000000"),
    ("kpi", "humidity"),
    ("value", "1"),
]
MEGABYTE: Final = "x" * 1_000_000

FOREIGN: Final[list[tuple[Pairs, str]]] = [
    ([(b"\xff\x00\xfe", b"\x80" * 64)], "missing_field"),
    ([("sensor", "7"), ("temp", "21.5"), ("unit", "C")], "missing_field"),
    ([("", "")], "missing_field"),
    ([("payload", '{"a":' * 10_000)], "missing_field"),
    ([*EVENT, ("zone", "again")], "duplicate_field"),
    ([*EVENT, ("colour", "blue")], "unknown_field"),
    ([*EVENT, ("blob", MEGABYTE)], "unknown_field"),
    ([*EVENT, ("tracestate", b"\xff")], "not_utf8"),
    ([("event_id", MEGABYTE), *EVENT[1:]], "event_id_invalid"),
    ([EVENT[0], ("device_id", MEGABYTE), *EVENT[2:]], "device_id_invalid"),
    ([*EVENT[:2], ("zone", "line\nfeed\ttab\x00"), *EVENT[3:]], "zone_invalid"),
    ([*EVENT[:3], ("ts", "9" * 400), *EVENT[4:]], "ts_invalid"),
    ([*EVENT[:4], ("kpi", MEGABYTE), EVENT[5]], "kpi_unknown"),
    ([*EVENT[:5], ("value", "1e999")], "value_out_of_range"),
    ([*EVENT[:5], ("value", "NaN")], "value_invalid"),
    ([*EVENT[:5], ("value", "٣")], "value_invalid"),
]
"""Fields of foreign entries, and the reason of the dead letter that each becomes."""


def _supervise(rig: Rig, point: str, poison: str, *names: str) -> int:
    """Start a consumer again whenever it dies, until all is settled; gives how often it died."""
    for deaths in itertools.count():
        consumer = rig.doomed_consumer(
            point, poison, names[deaths % len(names)], MAX_DELIVERIES=str(MAX_DELIVERIES)
        )
        _wait_for_end(rig, consumer)
        if consumer.exit_code is None:
            consumer.stop()
            return deaths
        assert consumer.exit_code == -signal.SIGKILL, consumer.text
        assert deaths < 10, "the poison entry is delivered without end"
        rig.assert_law()
    raise AssertionError


def _wait_for_end(rig: Rig, consumer: Process) -> None:
    eventually(
        lambda: consumer.exit_code is not None or rig.is_drained(), PATIENCE_S, "its end, or the work's"
    )


@pytest.mark.parametrize("point", ["event_validated", "event_written"])
def test_an_entry_that_kills_its_consumer_ends_as_a_dead_letter(rig: Rig, point: str) -> None:
    """After MAX_DELIVERIES deaths the entry alone is given up; everything in its batch is stored."""
    entries = rig.publisher().valid(60).send()
    poison = str(entries[25].event_id)
    assert _supervise(rig, point, poison, "consumer-1") == MAX_DELIVERIES
    rig.assert_complete(dead={poison})
    (letter,) = rig.letters()[entries[25].entry_id]
    assert (letter.reason, letter.stage) == ("deliveries_exhausted", "receive")
    assert letter.deliveries == MAX_DELIVERIES + 1
    assert letter.fields == entries[25].fields
    assert len(rig.letters()) == 1


def test_two_poisonous_entries_in_one_batch_spare_the_others(rig: Rig) -> None:
    """Two entries of one batch that kill their consumer are given up one after the other, and no others."""
    entries = rig.publisher().valid(40).send()
    poison = [str(entries[number].event_id) for number in (3, 12)]
    _supervise(rig, "event_written", ",".join(poison), "consumer-1")
    rig.assert_complete(dead=poison)
    assert len(rig.letters()) == 2


@pytest.mark.parametrize("point", ["event_validated", "event_written"])
def test_two_poisonous_events_in_one_entry_spare_the_others(rig: Rig, point: str) -> None:
    """Of an entry of many those alone are given up, each by its line; the next entry has no part in it."""
    entries = rig.publisher().valid(45).invalid(2).valid(3).send(packs=[30, 20])
    poison = [entries[number] for number in (12, 25)]
    names = ",".join(str(one.event_id) for one in poison)
    # The first as ever; the other one as soon as it is met again.
    assert _supervise(rig, point, names, "consumer-1", "consumer-2") == MAX_DELIVERIES + 1
    rig.assert_complete(dead=[str(one.event_id) for one in poison])
    for one, line in zip(poison, (13, 26), strict=True):
        assert one.entry_id.endswith(f"/{line}")
        (letter,) = rig.letters()[one.entry_id]
        assert (letter.reason, letter.fields) == ("deliveries_exhausted", one.fields)
    assert len(rig.letters()) == 4


def test_poison_is_given_up_also_when_each_successor_has_another_name(rig: Rig) -> None:
    """The deliveries are counted on across consumers: each claims what the dead one before it had."""
    entries = rig.publisher().valid(40).send()
    poison = str(entries[5].event_id)
    _supervise(rig, "event_written", poison, "consumer-a", "consumer-b", "consumer-c", "consumer-d")
    rig.assert_complete(dead={poison})
    assert len(rig.letters()) == 1


def test_foreign_bytes_become_dead_letters_with_reasons(rig: Rig) -> None:
    """Whatever bytes are in the stream, the process stays up and keeps each entry as it was received."""
    publisher = rig.publisher()
    publisher.valid(10)
    for fields, reason in FOREIGN:
        publisher.raw(flat(fields), reason)
        publisher.valid()
    publisher.send()
    consumer = rig.consumer()
    rig.drain(consumer)
    consumer.stop()
    rig.assert_complete()
    letters = rig.letters()
    for one in rig.published:
        if one.event is None:
            assert [letter.fields for letter in letters[one.entry_id]] == [one.fields]
    assert len(consumer.text) < 100_000, "a foreign entry fills the log"
