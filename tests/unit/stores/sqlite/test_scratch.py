"""What an audit keeps in temporary files: events that no run has numbered, and ids that may come twice."""

from collections import Counter
from contextlib import closing

from services.ops.audit.ledger import DEAD, MISSING, PENDING, PURGED, STORED, UNDELIVERED
from services.stores.sqlite.scratch import DifferentIds, Unnumbered


def test_a_purged_event_may_be_elsewhere_again() -> None:
    """The note of a purge is the last that is believed; a letter more than an entry that waits."""
    with Unnumbered() as unnumbered:
        unnumbered.ask("run", ["x", "y"])
        unnumbered.meet("a", UNDELIVERED)
        unnumbered.meet("a", PURGED, unless_met=True)
        unnumbered.meet("b", UNDELIVERED)
        unnumbered.meet("b", DEAD)
        unnumbered.meet("c", PURGED, unless_met=True)
        unnumbered.meet("e", PENDING)
        unnumbered.meet("e", UNDELIVERED)
        unnumbered.meet("x", PURGED, unless_met=True)
        assert unnumbered.places(None) == Counter({UNDELIVERED: 1, DEAD: 1, PURGED: 1, PENDING: 1})
        assert unnumbered.places("run") == Counter({PURGED: 1, MISSING: 1})


def test_an_id_that_is_published_twice_is_asked_for_once() -> None:
    """By one run or by two, the first; and what no run has published is told apart from it."""
    with Unnumbered() as unnumbered:
        for name in "abc":
            unnumbered.meet(name, DEAD)
        unnumbered.ask("first", ["a", "a", "b"])
        unnumbered.ask("second", ["b", "y", "x"])
        assert [name for name in "abcdxy" if unnumbered.is_asked(name)] == ["a", "b", "x", "y"]
        found = {run: unnumbered.places(run) for run in ("first", "second", None)}
        assert found == {"first": {DEAD: 2}, "second": {MISSING: 2}, None: {DEAD: 1}}
        assert unnumbered.not_met("second", 9) == ["y", "x"], "in their order"
        assert unnumbered.not_met("second", 1) == ["y"]
        assert unnumbered.not_met("first", 9) == []


def test_what_is_stored_is_told_of_the_known_ones_alone() -> None:
    """Each counts once, whether a run has published it, or it was only met."""
    with Unnumbered() as unnumbered:
        assert unnumbered.meet_known(["a"], STORED) == 0
        unnumbered.ask("run", ["a", "b"])
        unnumbered.meet("c", PENDING)
        assert unnumbered.meet_known(["a", "c", "d"], STORED) == 2
        assert (unnumbered.places("run"), unnumbered.places(None)) == ({STORED: 1, MISSING: 1}, {STORED: 1})


def test_events_without_a_readable_id_are_used_up_in_the_order_of_their_places() -> None:
    """A letter counts for a run before an entry that waits, each once, wherever else its entry was met."""
    with Unnumbered() as unnumbered:
        for entry_id, place in (("1-1", UNDELIVERED), ("1-2", DEAD), ("1-2", PENDING), ("1-3", PENDING)):
            unnumbered.meet_unreadable(entry_id, place)
        assert unnumbered.take_unreadable(2) == Counter({DEAD: 1, PENDING: 1})
        assert unnumbered.take_unreadable(1 << 70) == Counter({UNDELIVERED: 1})
        assert unnumbered.take_unreadable(1) == Counter()


def test_a_conflict_is_an_id_and_a_content() -> None:
    """Its letter counts before the note of one that was purged, whichever is met first."""
    with Unnumbered() as unnumbered:
        unnumbered.meet_conflict("a", "one", DEAD)
        unnumbered.meet_conflict("a", "one", PURGED)
        unnumbered.meet_conflict("b", "one", PURGED)
        unnumbered.meet_conflict("b", "one", DEAD)
        unnumbered.meet_conflict("b", "other", PURGED)
        unnumbered.ask("run", ["b"])
        found = sorted(unnumbered.conflicts(), key=str)
    assert found == [("a", DEAD, None), ("b", PURGED, "run"), ("b", DEAD, "run")]


def test_an_id_that_comes_again_is_not_new() -> None:
    """Neither in the same portion nor in a later one."""
    with closing(DifferentIds()) as ids:
        assert ids.add([b"b", b"a", b"b"]) == 2
        assert ids.add([b"a", b"c"]) == 1
        assert ids.add([]) == 0
