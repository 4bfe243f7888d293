"""The rules as files: what Prometheus' own tools say of them, and what each alert has to have."""

import re
from pathlib import Path
from typing import Final

import pytest
import yaml
from observability import needed
from prometheus import ROOT, RULES, Promtool, Scale, rules_of

from charts.alerts.__main__ import page
from services.runtime.telemetry.metrics import CATALOGUE

UNIT_TESTS: Final = sorted((ROOT / "tests" / "rules").glob("*.yaml"))
RUNBOOKS: Final = ROOT / "docs" / "runbooks"
ALERTS: Final = {rule["alert"]: rule for rule in rules_of("alert")}
RECORDS: Final = {rule["record"]: rule for rule in rules_of("record")}

_SERIES: Final = {
    one.name + suffix
    for one in CATALOGUE
    for suffix in (("_bucket", "_sum", "_count") if one.kind == "histogram" else ("",))
}


@pytest.fixture(scope="session")
def promtool() -> Promtool:
    """Give Prometheus' own tool."""
    one = Promtool()
    needed(one.find, "the rules are not checked by Prometheus' own tool")
    return one


def test_promtool_finds_nothing_wrong(promtool: Promtool) -> None:
    """Syntax, and rules that are there twice."""
    files = sorted(RULES.glob("*.yaml"))
    assert promtool.run("check", "rules", *files).count("SUCCESS: ") == len(files) > 0


@pytest.mark.parametrize("file", UNIT_TESTS, ids=lambda file: file.stem)
def test_alerts_fire_and_do_not_fire_as_written_down(promtool: Promtool, file: Path) -> None:
    """On series made up for it, at times of their own."""
    assert "SUCCESS" in promtool.run("test", "rules", file)


def test_every_alert_is_seen_to_fire_and_to_be_silent() -> None:
    """In those tests, beside a pipeline that has no such trouble."""
    fires: set[str] = set()
    silent: set[str] = set()
    releases: dict[str, set[str]] = {}
    for file in UNIT_TESTS:
        for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
            for check in test["alert_rule_test"]:
                (fires if check["exp_alerts"] else silent).add(check["alertname"])
                found = re.findall(r'release="(\w+)"', str(test["input_series"]))
                releases.setdefault(check["alertname"], set()).update(found)
    assert fires == silent == set(ALERTS)
    assert {name for name, found in releases.items() if len(found) < 2} == set()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_all_that_the_woken_need(name: str) -> None:
    """What it is, how bad, with its value, and where to read on."""
    rule = ALERTS[name]
    assert re.fullmatch(r"Telemetry([A-Z][a-z]+)+", name)
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["for"] != "0s"
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert "{{ $value" in rule["annotations"]["description"]
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    """Each with the same three parts."""
    assert {file.stem for file in RUNBOOKS.glob("*.md")} == set(ALERTS)
    for file in RUNBOOKS.glob("*.md"):
        text = file.read_text(encoding="utf-8")
        assert text.startswith(f"# {file.stem}\n"), file.name
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Meaning", "How to see it", "What to do"], (
            file.name
        )


def test_the_page_of_alerts_is_made_from_the_rules() -> None:
    """`make docs` writes it."""
    written = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    assert written == page((RULES / "alerts.yaml").read_text(encoding="utf-8")), "run `make docs`"


@pytest.mark.parametrize("name", [*ALERTS, *RECORDS])
def test_a_rule_asks_for_what_there_is(name: str) -> None:
    """Metrics of the catalogue, and what is recorded."""
    text = re.sub(r'"[^"]*"', "", (ALERTS | RECORDS)[name]["expr"])
    asked = set(re.findall(r"(?<![\w:])(?:\w+:)?telemetry_\w+(?::\w+)?", text))
    assert asked
    assert asked <= _SERIES | RECORDS.keys()


@pytest.mark.parametrize("name", RECORDS)
def test_what_is_recorded_is_named_for_its_level(name: str) -> None:
    """level:metric:operations, and the level is what it is aggregated by."""
    level, metric, operations = name.split(":")
    assert metric.startswith("telemetry_")
    assert operations
    labels = re.findall(r"by \(([^)]*)\)", RECORDS[name]["expr"])
    wanted = ["namespace", "release", *level.removeprefix("namespace_release").strip("_").split("_")]
    for one in labels:
        assert set(one.split(", ")) - {"le"} == {label for label in wanted if label}


def test_a_copy_with_shorter_times_is_the_same_rules() -> None:
    """Windows, offsets, waiting, and thresholds that are times or sizes; and no other number."""
    scale = Scale(times=60, sizes=16)
    assert scale.duration("1h30m") == "90000ms"
    for text, expected in (
        ("rate(x[5m]) > 0.05", "rate(x[5000ms]) > 0.05"),
        ("max_over_time(x[1h:5m] offset 1d)", "max_over_time(x[60000ms:5000ms] offset 1440000ms)"),
        ("x > 10 * 60", "x > 0.166667 * 60"),
        ("predict_linear(x[1h], 4 * 3600) < 0", "predict_linear(x[60000ms], 0.066667 * 3600) < 0"),
        ("x > 256 * 2^20", "x > 16.000000 * 2^20"),
        ("namespace_release:x:rate5m > 14.4 * 0.01", "namespace_release:x:rate5m > 14.4 * 0.01"),
    ):
        assert scale.expression(text) == expected
    rule = {"alert": "A", "expr": "x > 0", "for": "2m"}
    copy = scale.rules({"groups": [{"name": "g", "interval": "1m", "rules": [rule]}]})
    assert copy == {"groups": [{"name": "g", "interval": "1000ms", "rules": [{**rule, "for": "2000ms"}]}]}
    assert rule["for"] == "2m"
