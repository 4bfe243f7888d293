"""The main figures, made of what processes said at two moments."""

import math
from collections.abc import Mapping

import pytest

from services.ops.status.figures import Counts, figures, law, quantile
from services.ops.status.figures_text import figures_line, figures_part
from services.ops.status.scrapes import Labels, Scrape

SETTLED = "telemetry_consumer_settled_events_total"


def scrape(
    name: str = "consumer-1", *, stored: float = 0, dead: float = 0, in_flight: float = 0, lost: float = 0
) -> Scrape:
    """Make what a consumer says that took `lost` events more than it accounts for."""
    samples: dict[str, Mapping[Labels, float]] = {
        "telemetry_consumer_received_events_total": {
            frozenset({("source", "new")}): stored + dead + in_flight + lost,
            frozenset({("source", "recovered")}): 0,
        },
        SETTLED: {frozenset({("outcome", "stored")}): stored, frozenset({("outcome", "dead")}): dead},
        "telemetry_consumer_in_flight_events": {frozenset(): in_flight},
        "telemetry_breaker_open": {frozenset(): 0},
        "telemetry_consumer_publish_to_commit_seconds_bucket": {
            frozenset({("le", "0.1")}): stored / 2,
            frozenset({("le", "0.2")}): stored,
            frozenset({("le", "+Inf")}): stored,
        },
    }
    return Scrape(name, "127.0.0.1:1", samples)


def counts(at: float, *scrapes: Scrape, added: int = 0, rows: int = 0, letters: int = 0) -> Counts:
    """Make what a look counted."""
    return Counts(at, added, rows, letters, scrapes)


def test_rates_come_from_the_consumers_counters() -> None:
    """Added up over the consumers, and not from the rows: those of others may be among them."""
    before = counts(10.0, scrape("a", stored=100, dead=1), scrape("b", stored=50), added=1000)
    now = counts(12.0, scrape("a", stored=300, dead=3), scrape("b", stored=60), added=1500, rows=9)
    found = figures(now, before, None)
    assert (found["seconds"], found["in_per_s"], found["stored_per_s"], found["dead_per_s"]) == (
        2,
        250,
        105,
        1,
    )


def test_a_consumer_that_began_again_at_0_has_settled_what_it_says() -> None:
    """A restart makes no rate negative."""
    found = figures(counts(2.0, scrape(stored=40)), counts(0.0, scrape(stored=1000)), None)
    assert found["stored_per_s"] == 20


def test_a_consumer_that_is_new_to_us_has_no_rate_yet() -> None:
    """What it settled before we saw it was not settled in these seconds."""
    found = figures(counts(2.0, scrape("new", stored=5000), rows=10), counts(0.0, rows=4), None)
    assert found["stored_per_s"] == 3


def test_latency_is_of_the_time_between_two_looks() -> None:
    """Half of the new ones took up to 0.1 s, and half up to 0.2 s."""
    found = figures(counts(2.0, scrape(stored=300)), counts(0.0, scrape(stored=100)), None)
    assert found["latency_p50_s"] == pytest.approx(0.1)
    assert found["latency_p99_s"] == pytest.approx(0.198)
    unchanged = figures(counts(4.0, scrape(stored=300)), counts(2.0, scrape(stored=300)), None)
    assert unchanged["latency_p50_s"] is None


def test_conflicts_are_told_among_the_dead() -> None:
    """The consumers count them as dead; how many of them are conflicts is told beside the law."""
    one = scrape(stored=5, dead=3)
    samples = {
        **(one.samples or {}),
        "telemetry_consumer_dead_events_total": {
            frozenset({("stage", "sink"), ("reason", "conflict")}): 2.0,
            frozenset({("stage", "decode"), ("reason", "not_utf8")}): 1.0,
        },
    }
    audit = {"missing": 0, "published": 9, "conflicts": 2, "ended_at": 0.0}
    found = figures(counts(0.0, Scrape("a", "127.0.0.1:1", samples)), None, audit)
    assert found["conflicts"] == 2
    shown = dict(figures_part(found, None).pairs)
    assert "3 dead" in shown["law"]
    assert "(2 of the dead are conflicts)" in shown["law"]
    assert "9 published, 2 conflicts" in shown["last audit"]
    assert figures(counts(0.0), None, None)["conflicts"] is None


def test_the_law_is_added_up_over_the_consumers() -> None:
    """What is in none of its parts is unaccounted for."""
    whole = law([scrape("a", stored=10, in_flight=5), scrape("b", stored=1, dead=2)])
    parts = {"stored": 11, "duplicate": 0, "dead": 2, "pending": 0, "in_flight": 5}
    assert whole == {"received": 18, **parts, "unaccounted": 0}
    broken = law([scrape(stored=10, lost=3)])
    assert broken is not None
    assert broken["unaccounted"] == 3
    assert law([Scrape("a", "127.0.0.1:1", None)]) is None


@pytest.mark.parametrize(
    ("share", "buckets", "expected"),
    [
        (0.5, {0.1: 0, 0.2: 10, math.inf: 10}, 0.15),
        (0.5, {0.1: 10, math.inf: 10}, 0.05),
        (0.99, {0.1: 1, math.inf: 10}, 0.1),
        (0.5, {0.1: 0, math.inf: 0}, None),
        (0.5, {}, None),
    ],
)
def test_a_quantile_is_estimated_as_prometheus_does(
    share: float, buckets: Mapping[float, float], expected: float | None
) -> None:
    """Linear within a bucket, and the last bound where it is above that."""
    found = quantile(share, buckets)
    assert found is None if expected is None else found == pytest.approx(expected)


def test_a_person_reads_what_is_wrong_in_capitals() -> None:
    """A broken law, an open breaker, missing events, and who does not answer."""
    silent = Scrape("consumer-2", "127.0.0.1:2", None)
    found = figures(
        counts(0.0, scrape(stored=10, lost=2), silent), None, {"missing": 1, "published": 9, "ended_at": 0.0}
    )
    found["breaker_open"] = True
    shown = dict(figures_part(found, None).pairs)
    assert shown["law"].startswith("BROKEN, 2 unaccounted for: 12 received = 10 stored")
    assert shown["breaker"] == "OPEN: nothing is consumed"
    assert shown["last audit"].startswith("1 MISSING of 9 published")
    assert shown["no answer"] == "consumer-2"
    assert "flow" not in shown
    assert "unaccounted=2 missing=1 breaker=open" in figures_line(found)


def test_figures_of_one_consumer_of_several_say_so() -> None:
    """As in a pod of three, whose others can't be asked; on a laptop all of them are."""
    one, all_of_them = (
        figures(counts(0.0, scrape("consumer")), None, None),
        figures(counts(0.0, scrape()), None, None),
    )
    assert dict(figures_part(one, None, 3).pairs)["asked"].startswith("one of 3 consumers")
    assert "asked" not in dict(figures_part(one, None, 1).pairs)
    assert "asked" not in dict(figures_part(all_of_them, None, 3).pairs)


def test_what_is_not_known_is_a_dash() -> None:
    """Without processes and a second look, nearly nothing is."""
    line = figures_line(figures(counts(0.0), None, None))
    assert line == "in_rate=- stored_rate=- dead_rate=- p50=- p99=- unaccounted=- missing=- breaker=-"
