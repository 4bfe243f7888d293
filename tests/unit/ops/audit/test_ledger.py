"""Where each event was met: counted and named by number, in memory that follows what was met."""

import sys
from collections import Counter

import pytest
from samples import RUN

from services.contract.ids import MAX_SEQUENCE, id_pattern
from services.ops.audit.ledger import (
    DEAD,
    MISSING,
    PAGE,
    PURGED,
    STORED,
    UNDELIVERED,
    Book,
    readable_id,
)


@pytest.mark.parametrize("last", [1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE])
def test_what_was_not_met_is_missing(last: int) -> None:
    """At the edges of pages too, each by its number."""
    book = Book(last)
    gone = {1, last}
    for sequence in range(1, last + 1):
        if sequence not in gone:
            assert book.put(sequence, STORED)
    assert book.counts(1, last) == Counter({MISSING: len(gone), STORED: last - len(gone)})
    assert list(book.missing(RUN, last)) == [id_pattern(RUN, sequence) for sequence in sorted(gone)]


def test_a_later_place_takes_the_earlier_ones() -> None:
    """Unless only what was met nowhere is meant."""
    book = Book(3)
    book.put(1, UNDELIVERED)
    book.put(1, STORED)
    book.put(2, DEAD)
    book.put(2, PURGED, unless_met=True)
    book.put(3, PURGED, unless_met=True)
    assert book.counts(1, 3) == Counter({STORED: 1, DEAD: 1, PURGED: 1})


def test_a_number_that_is_far_away_costs_a_page() -> None:
    """The highest that was met is known, and what lies between is not kept."""
    book = Book(MAX_SEQUENCE)
    assert book.put(MAX_SEQUENCE, STORED)
    assert book.put(5, DEAD)
    assert book.highest == MAX_SEQUENCE
    assert book.counts(1, MAX_SEQUENCE) == Counter({STORED: 1, DEAD: 1, MISSING: MAX_SEQUENCE - 2})
    assert next(book.missing(RUN, MAX_SEQUENCE)) == id_pattern(RUN, 1)
    assert sum(map(sys.getsizeof, book.pages.values())) < 4 * PAGE


def test_a_number_above_the_recorded_one_is_believed_so_far() -> None:
    """A server may have forgotten its latest writes; and no numbers are missing in a span that is none."""
    book = Book(10)
    assert book.put(11, STORED)
    assert book.counts(11, 11) == Counter({STORED: 1})
    assert book.counts(12, 10) == Counter()
    assert book.counts(20, 10)[MISSING] == 0


@pytest.mark.parametrize("sequence", [0, -1, 20_000_000])
def test_a_number_that_can_t_be_the_run_s_is_refused(sequence: int) -> None:
    """Numbers begin at 1, and a server forgets no ten million of them."""
    book = Book(10)
    assert not book.put(sequence, STORED)
    assert book.pages == {}
    assert book.highest == 0


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("018F3C5E-8A10-4ABC-8DEF-000000000001", "018f3c5e-8a10-4abc-8def-000000000001"),
        (" 018f3c5e-8a10-4abc-8def-000000000001\n", "018f3c5e-8a10-4abc-8def-000000000001"),
        ("018f3c5e", None), ("", None), (None, None),
        ("018f3c5e-8a10-4abc-8def-0000000000012", None),
    ],
)  # fmt: skip
def test_an_id_is_read_whatever_its_case(text: str | None, name: str | None) -> None:
    """An event whose id was spoilt by its case still tells its number."""
    assert readable_id(text) == name
