"""What panels show in odd cases, by Prometheus' own reckoning: no share above all of it, no false alarm."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from observability import needed
from prometheus import Promtool

from charts.dashboards.__main__ import FILES
from charts.dashboards.answers import all_values, read_board, substituted, targets_of

_EVERY_S: Final = 15
_CONSUMERS: Final = ("a", "b", "c")


def _query(board: str, panel: str, number: int = 0) -> str:
    """Give a panel's query with all variables at «All», and the window that Grafana would choose."""
    read = read_board(FILES / f"{board}.json")
    text = [one.expression for one in targets_of(read) if one.panel["title"] == panel][number]
    return substituted(text, {**all_values(read), "__rate_interval": "60s"})


def _series(store: dict[str, str]) -> Iterator[dict[str, str]]:
    for pod in _CONSUMERS:
        labels = f'namespace="plant",release="one",pod="{pod}"'
        yield {"series": f"telemetry_consumer_in_flight_events{{{labels}}}", "values": "0x40"}
        for stage, values in {"store": store[pod], "decode": "0+3x40"}.items():
            name = f'telemetry_consumer_stage_duration_seconds_sum{{{labels},stage="{stage}"}}'
            yield {"series": name, "values": values}


def _expect(tmp_path: Path, series: list[dict[str, str]], query: str, samples: dict[str, list[Any]]) -> None:
    """Have promtool work a query out on series that are made up, at some times."""
    checks = [
        {
            "expr": f"round({query}, 0.001)",
            "eval_time": at,
            "exp_samples": [{"labels": one, "value": round(value, 3)} for one, value in found],
        }
        for at, found in samples.items()
    ]
    test = {"interval": f"{_EVERY_S}s", "input_series": series, "promql_expr_test": checks}
    file = tmp_path / "shares.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}), encoding="utf-8")
    promtool = Promtool()
    needed(promtool.find, "no share is worked out")
    assert "SUCCESS" in promtool.run("test", "rules", file)


@pytest.mark.parametrize("busy_s", [9, 12])
def test_what_the_time_goes_into_is_a_share_of_all_consumers_time(tmp_path: Path, busy_s: int) -> None:
    """Three of them are no 300 %; at 100 % no time is left."""
    samples = {"5m": [('{stage="decode"}', 3 / _EVERY_S), ('{stage="store"}', busy_s / _EVERY_S)]}
    store = dict.fromkeys(_CONSUMERS, f"0+{busy_s}x40")
    query = _query("pipeline", "Share of time by stage")
    _expect(tmp_path, list(_series(store)), query, samples)


def test_a_batch_that_took_minutes_counts_as_no_more_than_all_of_the_time(tmp_path: Path) -> None:
    """It is counted when it is over: three minutes at once, in a window of one, on each."""
    store = dict.fromkeys(_CONSUMERS, "0x15 180x25")
    query = f"sum({_query('pipeline', 'Share of time by stage')})"
    _expect(tmp_path, list(_series(store)), query, {"4m20s": [("{}", 1)], "3m": [("{}", 3 / _EVERY_S)]})


def test_a_producer_can_t_be_blocked_for_longer_than_all_of_the_time(tmp_path: Path) -> None:
    """Counted at the end of a pause, and rates are made longer than their samples."""
    name = 'telemetry_producer_blocked_seconds_total{namespace="plant",release="one",pod="p"}'
    series = [{"series": name, "values": "0x15 90x25"}]
    samples = {"4m20s": [('{pod="p"}', 1)], "9m": [('{pod="p"}', 0)]}
    _expect(tmp_path, series, _query("pipeline", "Producers blocked"), samples)


def test_less_than_a_minute_of_work_is_no_backlog(tmp_path: Path) -> None:
    """Consumers always have some entries in hand, and these never shrink: the panel would always be red."""
    labels = '{namespace="plant",release="one"}'
    series = [
        {"series": f"namespace_release:{name}{labels}", "values": values}
        for name, values in {
            "telemetry_group_drain_seconds:rate5m": "7200x20",
            "telemetry_group_backlog_entries:sum": "8x10 90000x10",
            "telemetry_acknowledged_entries:rate5m": "400x20",
        }.items()
    ]
    samples = {"1m": [("{}", 0.0)], "4m": [("{}", 7200.0)]}
    _expect(tmp_path, series, _query("overview", "Drained in"), samples)


@pytest.mark.parametrize(
    ("panel", "counter"),
    [
        ("Errors of Redis", 'telemetry_redis_errors_total{error="timeout"}'),
        ("Retries", 'telemetry_retries_total{stage="store"}'),
        ("Dead letters", 'telemetry_consumer_dead_events_total{reason="not_utf8",stage="decode"}'),
    ],
)
def test_where_nothing_goes_wrong_a_panel_says_0(tmp_path: Path, panel: str, counter: str) -> None:
    """And nothing beside an error, or where nobody is scraped: there is no data then."""
    series = [
        {"series": 'telemetry_build_info{pod="p"}', "values": "1x40 _x40"},
        {"series": counter, "values": "0x20 1+1x12 13x8 _x40"},
    ]
    labels = counter.partition("{")[2].join("{ ").replace(" ", "")
    none, wrong = (
        {"4m": [("{}", 0)], "7m": [], "18m": []},
        {"4m": [], "7m": [(labels, 1 / _EVERY_S)], "18m": []},
    )
    _expect(tmp_path, series, _query("pipeline", panel, 1), none)
    _expect(tmp_path, series, _query("pipeline", panel, 0), wrong)
