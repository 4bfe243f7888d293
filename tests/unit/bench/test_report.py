"""The report, from figures to text."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from bench import record
from bench.figure import Figure, at_least, at_most
from bench.plan import BenchFailed, smoke_plan
from bench.report import Report, goals_line, to_lines, to_markdown
from bench.sample import Sample

_FAST = Figure("ours", "ours / floor", "x", Sample.of(1.6, 1.55, 1.7), at_least(1.5))
_SLOW = Figure("latency", "p99", "ms", Sample.of(25.0), at_most(20))
_PLAIN = Figure("floor", "floor", "events/s", Sample.of(101_000.0, 99_000.0))
_REPORT = Report(
    command="make bench",
    taken_at="2026-01-31",
    sizes=smoke_plan().sizes,
    machine={"cores": "2"},
    versions={"SQLite": "3.40.1"},
    figures=[_PLAIN, _FAST, _SLOW],
)


def test_a_goal_is_held_against_the_median() -> None:
    """One slow round doesn't miss it, one fast round doesn't reach it."""
    assert _FAST.verdict == "met"
    assert replace(_FAST, sample=Sample.of(1.4, 1.45, 9.0)).verdict == "not met"


def test_an_upper_bound_is_met_up_to_itself() -> None:
    """20 ms are at most 20 ms."""
    assert _SLOW.verdict == "not met"
    assert replace(_SLOW, sample=Sample.of(20.0)).verdict == "met"


def test_a_figure_without_a_goal_has_no_verdict() -> None:
    """Nothing is claimed of it."""
    assert (_PLAIN.goal_text, _PLAIN.verdict) == ("", "")


def test_a_single_value_has_no_spread() -> None:
    """Its extremes would only repeat it."""
    assert _SLOW.spread_text == ""
    assert _FAST.spread_text == "1.55 - 1.70"


def test_the_page_shows_each_figure_with_its_goal_and_verdict() -> None:
    """One row a figure, as it stands."""
    page = to_markdown([_REPORT], "benchmarks.svg")
    assert "| floor | floor | 100,000 events/s | 99,000 - 101,000 |  |  |" in page
    assert "| ours | ours / floor | 1.60 x | 1.55 - 1.70 | >= 1.5 x | met |" in page
    assert "| latency | p99 | 25.0 ms |  | <= 20 ms | not met |" in page


@pytest.mark.parametrize("part", ["`make bench`", "2026-01-31", "- cores: 2", "- SQLite: 3.40.1"])
def test_the_page_tells_how_and_on_what_it_was_taken(part: str) -> None:
    """Without them no figure can be compared."""
    assert part in to_markdown([_REPORT], None)


def test_the_page_has_a_picture_only_where_there_is_one() -> None:
    """A broken picture is worse than none."""
    assert "](benchmarks.svg)" in to_markdown([_REPORT], "benchmarks.svg")
    assert "![" not in to_markdown([_REPORT], None)


def test_missed_goals_are_named() -> None:
    """A reader needn't look for them."""
    assert goals_line(_REPORT.figures) == "1 of 2 goals met. Not met: p99 (25.0 ms, wanted <= 20 ms)."
    assert goals_line([_FAST]) == "1 of 1 goals met."


def test_json_keeps_the_value_of_each_round() -> None:
    """Whoever wants other statistics can make them."""
    (run,) = json.loads(record.to_json([_REPORT]))
    assert run["figures"][1]["values"] == [1.6, 1.55, 1.7]
    assert run["figures"][1]["verdict"] == "met"


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Goals and units too; where there is none yet, nothing is kept."""
    path = tmp_path / "benchmarks.json"
    assert record.read(path) == []
    path.write_text(record.to_json([_REPORT]), encoding="utf-8")
    assert record.read(path) == [_REPORT]


@pytest.mark.parametrize("text", ["", "[1]", '[{"figures": []}]'])
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    """Before half an hour is spent."""
    path = tmp_path / "benchmarks.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BenchFailed, match="no record"):
        record.read(path)


def test_a_run_of_some_cases_replaces_theirs_and_keeps_the_others() -> None:
    """Each with what it was taken on, and nothing twice."""
    again = replace(_FAST, sample=Sample.of(2.0))
    new = replace(_REPORT, command="make bench ours", taken_at="2026-02-01", figures=[again])
    runs = record.merged([_REPORT], new)
    assert [run.figures for run in runs] == [[_PLAIN, _SLOW], [again]]
    page = to_markdown(runs, None)
    assert (
        "Made by `make bench` on 2026-01-31 (floor, latency), and by `make bench ours` on 2026-02-01 (ours); "
        in page
    )
    assert page.count("| ours | ours / floor |") == 1
    assert "## Where: floor, latency\n" in page
    assert "Not all of it was measured in one run." in page
    assert "Not all of it" not in to_markdown([new], None)
    assert record.merged(runs, replace(new, figures=[_PLAIN, again, _SLOW]))[:-1] == []


def test_the_lines_for_a_terminal_are_aligned() -> None:
    """The medians stand below their heading."""
    heading, first, *_ = to_lines(_REPORT.figures)
    assert heading.index("median") == first.index("100,000")


def test_the_picture_shows_ratios_and_no_other_figure() -> None:
    """Events a second and milliseconds have no common axis."""
    pytest.importorskip("matplotlib")
    from bench.picture import draw

    picture = draw(_REPORT.figures)
    texts = {text for node in ET.fromstring(picture).iter() if (text := (node.text or "").strip())}  # noqa: S314 - ours
    assert {"ours / floor", "1.60"} <= texts
    assert "p99" not in texts
    assert picture == draw(_REPORT.figures)
