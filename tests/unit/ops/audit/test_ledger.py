"""Where each event was met: counted and named by number, in memory that follows what was met."""

import itertools
import random
import sys
from collections import Counter

import pytest

from services.contract.ids import MAX_SEQUENCE
from services.ops.audit.ledger import (
    ACCEPTED,
    DEAD,
    MISSING,
    PAGE,
    PENDING,
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
    assert list(book.missing(last)) == [(sequence, sequence) for sequence in sorted(gone)]
    assert book.settled(1, last) == 0
    assert book.settled(2, last) == max(1, last - 1)


@pytest.mark.parametrize("floor", [0, 1, PAGE - 2, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE + 5])
def test_what_is_proven_is_not_asked_for(floor: int) -> None:
    """Wherever on a page that ends: what lies behind it is missing or settled, and nothing before."""
    book = Book(3 * PAGE, floor)
    for sequence in range(1, 3 * PAGE + 1):
        assert book.put(sequence, MISSING if sequence <= floor else STORED)
    assert (list(book.missing(3 * PAGE)), book.settled(floor + 1, 3 * PAGE)) == ([], 3 * PAGE)
    assert book.highest == 3 * PAGE
    gone = Book(3 * PAGE, floor)
    assert list(gone.missing(3 * PAGE)) == [(floor + 1, 3 * PAGE)]
    assert (gone.settled(floor + 1, 3 * PAGE), gone.highest) == (floor, floor)
    for place in (UNDELIVERED, PENDING):
        assert book.put(floor + 3, place)
        assert book.settled(floor + 1, 3 * PAGE) == floor + 2
    for place in (ACCEPTED, PURGED, DEAD):
        assert book.put(floor + 3, place)
        assert book.settled(floor + 1, 3 * PAGE) == 3 * PAGE


@pytest.mark.parametrize("seed", range(20))
def test_pieces_that_are_missing_are_whole(seed: int) -> None:
    """Whatever was met: the pieces are those that a look at each number finds."""
    chance = random.Random(seed)
    floor, last = chance.randrange(2 * PAGE), chance.randrange(2 * PAGE, 5 * PAGE)
    book = Book(last, floor)
    met = {chance.randrange(1, last + PAGE) for _ in range(chance.choice([0, 5, 500, 4 * PAGE]))}
    for sequence in met:
        book.put(sequence, STORED)
    pieces = list(book.missing(last))
    named = [number for first, end in pieces for number in range(first, end + 1)]
    assert named == [number for number in range(floor + 1, last + 1) if number not in met]
    assert all(one[1] + 1 < other[0] for one, other in itertools.pairwise(pieces))
    assert len(named) == book.counts(floor + 1, last)[MISSING]


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
    assert list(book.missing(MAX_SEQUENCE)) == [(1, 4), (6, MAX_SEQUENCE - 1)]
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
