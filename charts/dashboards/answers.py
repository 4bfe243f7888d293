"""A dashboard's queries, asked of a Prometheus as Grafana asks them, for the tests and the pictures.

Variables stand at «All». Sources of how Grafana fills in the rest: `$__rate_interval` is the greater of four scrape
intervals and the step plus one scrape interval; `$__range` is the dashboard's time range.
"""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_TIMEOUT_S: Final = 30.0
_POINTS: Final = 240
"""Points of a line, about what a panel of a third of the screen has."""


class QueryFailed(Exception):
    """Prometheus refused a query, or can't be reached."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line of an answer: its labels, and its points as Unix time and value."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Target:
    """One query of a panel."""

    panel: Mapping[str, Any]
    expression: str
    """As it stands in the file, with Grafana's variables."""
    legend: str
    ref_id: str
    is_instant: bool
    has_exemplars: bool

    @property
    def name(self) -> str:
        """Name it for a person."""
        return f"{self.panel['title']} ({self.ref_id})"


@dataclass(frozen=True, slots=True)
class Window:
    """The time range of a dashboard, in Unix seconds, and how often its Prometheus scrapes."""

    start: float
    end: float
    scrape_interval_s: float = 15.0

    @property
    def step_s(self) -> float:
        """Time between two points."""
        return max(self.scrape_interval_s, (self.end - self.start) / _POINTS)

    def values(self, all_values: Mapping[str, str]) -> dict[str, str]:
        """Give the value of each of Grafana's variables."""
        rate = max(self.step_s + self.scrape_interval_s, 4 * self.scrape_interval_s)
        return {
            **all_values,
            "__rate_interval": f"{max(1, round(rate))}s",
            "__range": f"{max(1, round(self.end - self.start))}s",
            "__interval": f"{max(1, round(self.step_s))}s",
        }


def read_board(file: Path) -> dict[str, Any]:
    """Read a dashboard."""
    board: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return board


def targets_of(board: Mapping[str, Any]) -> Iterator[Target]:
    """Give every query of a dashboard."""
    for panel in board["panels"]:
        for one in panel.get("targets", ()):
            yield Target(
                panel,
                one["expr"],
                one["legendFormat"],
                one["refId"],
                bool(one["instant"]),
                bool(one["exemplar"]),
            )


def all_values(board: Mapping[str, Any]) -> dict[str, str]:
    """Give what the dashboard's variables are at «All»."""
    return {
        one["name"]: one.get("allValue", ".+")
        for one in board["templating"]["list"]
        if one["type"] == "query"
    }


def substituted(expression: str, values: Mapping[str, str]) -> str:
    """Put the variables' values in, the longest names first."""
    for name in sorted(values, key=len, reverse=True):
        expression = expression.replace(f"${{{name}}}", values[name]).replace(f"${name}", values[name])
    return expression


class Prometheus:
    """A Prometheus by its address, such as http://127.0.0.1:9090."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    def answer(self, target: Target, board: Mapping[str, Any], window: Window) -> list[Series]:
        """Ask a panel's query. Raises QueryFailed."""
        query = substituted(target.expression, window.values(all_values(board)))
        if target.is_instant:
            found = self.ask("query", query=query, time=f"{window.end:.3f}")["result"]
            return [Series(one["metric"], _numbers([one["value"]])) for one in found]
        found = self.ask(
            "query_range",
            query=query,
            start=f"{window.start:.3f}",
            end=f"{window.end:.3f}",
            step=f"{window.step_s:.3f}",
        )["result"]
        return [Series(one["metric"], _numbers(one["values"])) for one in found]

    def exemplars(self, target: Target, board: Mapping[str, Any], window: Window) -> list[Series]:
        """Ask for the exemplars of a panel's query, with the labels of each."""
        query = substituted(target.expression, window.values(all_values(board)))
        found = self.ask("query_exemplars", query=query, start=f"{window.start:.3f}", end=f"{window.end:.3f}")
        return [
            Series(exemplar["labels"], _numbers([(exemplar["timestamp"], exemplar["value"])]))
            for one in found
            for exemplar in one["exemplars"]
        ]

    def ask(self, what: str, **parameters: str) -> Any:
        """Ask the API, and give its data. Raises QueryFailed with Prometheus' own words."""
        address = f"{self.address}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - its own address
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise QueryFailed(f"{parameters.get('query', what)}\n{error.read().decode()}") from error
        except OSError as error:
            raise QueryFailed(f"{self.address}: {error}") from error


def _numbers(points: Sequence[Sequence[Any]]) -> list[tuple[float, float]]:
    return [(float(time), float(value)) for time, value in points]
