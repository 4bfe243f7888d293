"""What an audit keeps in temporary files: events that no run has numbered, and ids that may come twice."""

from collections import Counter
from contextlib import closing

from services.ops.audit.ledger import DEAD, MISSING, PENDING, PURGED, UNDELIVERED
from services.stores.sqlite.scratch import DifferentIds, Unnumbered


def test_a_purged_event_may_be_elsewhere_again() -> None:
    """The note of a purge is the last that is believed; a letter more than an entry that waits."""
    with Unnumbered() as unnumbered:
        unnumbered.meet("a", UNDELIVERED)
        unnumbered.meet("a", PURGED, unless_met=True)
        unnumbered.meet("b", UNDELIVERED)
        unnumbered.meet("b", DEAD)
        unnumbered.meet("c", PURGED, unless_met=True)
        unnumbered.meet("e", PENDING)
        unnumbered.meet("e", UNDELIVERED)
        unnumbered.ask("run", "abcde")
        found = unnumbered.uncounted([*"abcde"])
    assert [found[name].place for name in "abcde"] == [UNDELIVERED, DEAD, PURGED, MISSING, PENDING]


def test_an_id_that_is_published_twice_is_asked_for_once() -> None:
    """By one run or by two; and what no run has published is told apart from it."""
    with Unnumbered() as unnumbered:
        for name in "abc":
            unnumbered.meet(name, DEAD)
        unnumbered.ask("first", ["a", "a", "b"])
        assert unnumbered.uncounted([*"aabc"]).keys() == {"a", "b"}
        unnumbered.count(["a"], ["b"])
        unnumbered.ask("second", ["b", "x"])
        assert unnumbered.uncounted([*"abcx"]).keys() == {"x"}
        unnumbered.count([], ["x"])
        assert [unnumbered.is_open(name) for name in "abxc"] == [True, False, False, False]
        assert [name for name in "abcdx" if unnumbered.is_asked(name)] == ["a", "b", "x"]
        assert list(unnumbered.not_asked()) == [("c", DEAD)]


def test_what_is_seen_is_told_of_the_ids_alone_that_runs_have_published() -> None:
    """Whether a row of them was read."""
    with Unnumbered() as unnumbered:
        unnumbered.see(["a"])
        assert not unnumbered.is_asked("a")
        unnumbered.ask("run", ["a", "b"])
        unnumbered.see(["b", "c"])
        found = unnumbered.uncounted([*"abc"])
    assert {name: one.is_seen for name, one in found.items()} == {"a": False, "b": True}


def test_a_row_of_somebody_else_is_not_taken_for_one_that_begins_like_it() -> None:
    """A text may go on behind a NUL."""
    with Unnumbered() as unnumbered:
        unnumbered.ask("run", ["a"])
        unnumbered.see(["a\0"])
        assert not unnumbered.uncounted(["a"])["a"].is_seen


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
        unnumbered.ask("run", ["b", "c"])
        found = sorted(unnumbered.conflicts(), key=str)
        asked = unnumbered.uncounted(["b", "c"])
        assert [asked[name].has_conflict for name in "bc"] == [True, False]
    assert found == [("a", DEAD, None), ("b", PURGED, "run"), ("b", DEAD, "run")]


def test_an_id_that_comes_again_is_not_new() -> None:
    """Neither in the same portion nor in a later one."""
    with closing(DifferentIds()) as ids:
        assert ids.add([b"b", b"a", b"b"]) == 2
        assert ids.add([b"a", b"c"]) == 1
        assert ids.add([]) == 0
