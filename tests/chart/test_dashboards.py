"""The dashboards as they are checked in: made by their code, whole, and about metrics that there are."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from charts.dashboards.__main__ import BOARDS, DATA_FILE, FILES
from charts.dashboards.answers import Target, all_values, read_board, substituted, targets_of
from charts.dashboards.data import DATA
from services.runtime.telemetry.catalogue import CATALOGUE

RULES: Final = FILES.parent / "rules"
NAMES: Final = [board.name for board in BOARDS]
EVERY: Final = [*NAMES, DATA.name]
OURS: Final = {one.name: one for one in CATALOGUE}
FROM_ELSEWHERE: Final = ("kube_", "kubelet_", "container_", "process_")
EVERYWHERE: Final = {"namespace", "release", "pod", "le", "instance", "job"}
_SELECTOR: Final = re.compile(r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)\{(?P<matchers>[^}]*)\}")


def board_of(name: str) -> dict[str, Any]:
    return read_board(DATA_FILE if name == DATA.name else FILES / f"{name}.json")


def panels_of(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def selectors() -> Iterator[tuple[Target, str, str]]:
    """Give each series selector of each query: the name and the matchers."""
    for name in NAMES:
        for target in targets_of(board_of(name)):
            for found in _SELECTOR.finditer(target.expression):
                yield target, found["name"], found["matchers"]


def base(name: str) -> str:
    """Give the catalogue's name of a series: without what a histogram adds."""
    for suffix in ("_bucket", "_count", "_sum"):
        if (short := name.removesuffix(suffix)) in OURS and OURS[short].kind == "histogram":
            return short
    return name


@pytest.mark.parametrize("board", [*BOARDS, DATA], ids=EVERY)
def test_a_dashboard_is_what_its_code_makes(board: Any) -> None:
    """Otherwise: make dashboards."""
    file = DATA_FILE if board is DATA else FILES / f"{board.name}.json"
    assert file.read_text(encoding="utf-8") == board.json()


def test_there_is_no_other_dashboard() -> None:
    """A file without code would be nobody's."""
    assert {file.stem for file in FILES.iterdir()} == set(NAMES)
    assert list(DATA_FILE.parent.iterdir()) == [DATA_FILE]


def test_each_has_an_address_that_stays() -> None:
    """Links and bookmarks hold through its UID, and Grafana gives ids itself."""
    boards = [board_of(name) for name in EVERY]
    assert [board["uid"] for board in boards] == [f"telemetry-{name}" for name in EVERY]
    assert all("id" not in board for board in boards)
    assert all(board["schemaVersion"] <= 39 for board in boards), "Grafana 11.0 knows no later one"


@pytest.mark.parametrize("name", EVERY)
def test_each_panel_says_what_it_shows(name: str) -> None:
    """A title of its own, a description and a unit; numbered without a repetition; at least one query."""
    board = board_of(name)
    panels = panels_of(board)
    ids = Counter(panel["id"] for panel in board["panels"])
    titles = Counter(panel["title"] for panel in panels)
    assert max(ids.values()) == 1
    assert max(titles.values()) == 1, titles.most_common(1)
    for panel in panels:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters), panel["title"]


@pytest.mark.parametrize("name", EVERY)
def test_no_panel_lies_on_another(name: str) -> None:
    """Nor outside the 24 columns."""
    taken: dict[tuple[int, int], str] = {}
    for panel in board_of(name)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken[x, y]}"
                taken[x, y] = panel["title"]


def test_the_pipeline_begins_with_three_questions_of_a_few_panels_each() -> None:
    """Who opens it has the answers without scrolling far; the stages come below."""
    parts: list[tuple[str, list[str]]] = []
    for panel in sorted(board_of("pipeline")["panels"], key=lambda one: int(one["gridPos"]["y"])):
        if panel["type"] == "row":
            parts.append((panel["title"], []))
        else:
            parts[-1][1].append(panel["title"])
    questions = parts[:3]
    assert [title for title, _ in questions] == ["Does it flow?", "What takes the time?", "What goes wrong?"]
    assert [title for title, panels in questions if not 3 <= len(panels) <= 6] == []
    assert [title for title, _ in parts[3:] if title.endswith("?")] == []


@pytest.mark.parametrize("name", NAMES)
def test_data_sources_are_chosen_above_the_dashboard(name: str) -> None:
    """By variables, so that it serves whoever imports it."""
    board = board_of(name)
    choices = {one["name"]: one for one in board["templating"]["list"]}
    assert list(choices) == ["datasource", "jaeger", "tempo", "logs", "namespace", "release", "consumer"]
    assert {choices[one]["query"] for one in ("datasource", "jaeger", "tempo", "logs")} == {
        "prometheus", "jaeger", "tempo", "loki",
    }  # fmt: skip
    wanted = {"type": "prometheus", "uid": "${datasource}"}
    assert all(choices[one]["datasource"] == wanted for one in ("namespace", "release", "consumer"))
    for panel in panels_of(board):
        assert panel["datasource"] == wanted
        assert all(target["datasource"] == wanted for target in panel["targets"])


def test_the_dashboard_of_the_data_asks_the_database_and_no_metrics() -> None:
    """Its data source is a variable of another name: links carry the others' values over to it."""
    board = board_of(DATA.name)
    choices = {one["name"]: one for one in board["templating"]["list"]}
    assert list(choices) == ["database", "zone", "device", "kpi", "silent_after"]
    assert choices["database"]["query"] == "grafana-postgresql-datasource"
    wanted = {"type": "grafana-postgresql-datasource", "uid": "${database}"}
    assert all(choices[one]["datasource"] == wanted for one in ("zone", "device", "kpi"))
    for panel in panels_of(board):
        assert panel["datasource"] == wanted
        for target in panel["targets"]:
            assert target["datasource"] == wanted
            assert (target["rawQuery"], target["format"] in {"table", "time_series"}) == (True, True)
    assert [link["type"] for link in board["links"]] == ["dashboards"]


@pytest.mark.parametrize("name", NAMES)
def test_every_query_follows_the_variables(name: str) -> None:
    """Each selector is narrowed by the namespace; no variable is left over, and none is misspelt."""
    board = board_of(name)
    values = {**all_values(board), "__rate_interval": "60s", "__range": "3600s"}
    for target in targets_of(board):
        for found in _SELECTOR.finditer(target.expression):
            assert 'namespace=~"$namespace"' in found["matchers"], target.name
        assert "$" not in substituted(target.expression, values), target.name
        assert "{consumers" not in target.expression, target.name


def test_queries_ask_for_metrics_of_the_catalogue() -> None:
    """Or for what the recording rules make of them, for alerts, or for what the cluster says."""
    recorded = {
        rule["record"]
        for file in RULES.glob("*.yaml")
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    for target, name, _ in selectors():
        known = base(name) in OURS or name in recorded or name == "ALERTS" or name.startswith(FROM_ELSEWHERE)
        assert known, f"{target.name}: {name}"


def test_queries_ask_for_labels_and_values_that_there_are() -> None:
    """A misspelt outcome would be an empty panel for ever."""
    for target, name, matchers in selectors():
        if base(name) not in OURS:
            continue
        labels = {label.name: label.values for label in OURS[base(name)].labels}
        for label, value in re.findall(r'(\w+)(?:=|!=|=~)"([^"]*)"', matchers):
            if label in EVERYWHERE:
                continue
            assert set(value.split("|")) <= set(labels[label]), f"{target.name}: {label}={value}"


def test_every_metric_is_on_a_dashboard() -> None:
    """What nobody sees need not be counted."""
    shown = {base(name) for _, name, _ in selectors()} | {
        base(name)
        for name in NAMES
        for target in targets_of(board_of(name))
        for name in re.findall(r"telemetry_\w+", target.expression)
    }
    assert set(OURS) - shown == set()


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_dashboards_traces_and_logs(name: str) -> None:
    """Explore opens with a query, and the data source and time that are chosen; dashboards keep all."""
    board = board_of(name)
    (others,) = (link for link in board["links"] if link["type"] == "dashboards")
    assert (others["tags"], others["includeVars"], others["keepTime"]) == (board["tags"], True, True)
    links = [link for link in board["links"] if link["type"] == "link"]
    links += [
        link for panel in panels_of(board) for link in panel["fieldConfig"]["defaults"].get("links", ())
    ]
    kinds = set()
    for link in links:
        address = urlsplit(link["url"])
        assert address.path == "/explore"
        (pane,) = json.loads(parse_qs(address.query)["panes"][0]).values()
        (query,) = pane["queries"]
        kinds.add(query["datasource"]["type"])
        variable = {"jaeger": "jaeger", "tempo": "tempo", "loki": "logs"}[query["datasource"]["type"]]
        assert pane["datasource"] == query["datasource"]["uid"] == f"${{{variable}}}"
        assert pane["range"] == {"from": "${__from}", "to": "${__to}"}
        assert query.get("service") or query.get("query") or query.get("expr")
    assert kinds == {"jaeger", "tempo", "loki"}


def test_the_latency_panels_have_exemplars() -> None:
    """They lead from a slow batch to its trace."""
    shown = {
        target.panel["title"]
        for name in NAMES
        for target in targets_of(board_of(name))
        if target.has_exemplars
    }
    assert len(shown) == 2
    assert all(title.startswith("From publication to commit") for title in shown)
