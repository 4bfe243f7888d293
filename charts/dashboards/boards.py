"""A dashboard: rows of panels, laid out, numbered, and with what all dashboards have."""

import json
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from charts.dashboards import links, selectors
from charts.dashboards.panels import Panel

Variable = Builder[model.VariableModel]

_SCHEMA: Final = 39
"""Of Grafana 11.0; later ones bring it forward themselves."""


class Row:
    """Panels under a heading, from the left to the right, and then below."""

    def __init__(self, title: str, *panels: Panel) -> None:
        self.title = title
        self.panels = panels


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard. `name` is its file's, and with `telemetry-` before it its UID, which links refer to."""

    name: str
    title: str
    description: str
    rows: tuple[Row, ...]
    needs_namespace: bool = False
    """For what has other people's series beside ours."""
    variables: tuple[Variable, ...] = ()
    """Of a board that asks something else than a Prometheus; it has no others, and no links to traces and logs."""

    def json(self) -> str:
        """Write it as Grafana reads it."""
        return json.dumps(self._built(), indent=2, sort_keys=True, cls=JSONEncoder) + "\n"

    def _built(self) -> model.Dashboard:
        board = (
            build.Dashboard(self.title)
            .uid(f"telemetry-{self.name}")
            .description(self.description)
            .tags(["telemetry-pipeline"])
            .timezone("browser")
            .time("now-1h", "now")
            .refresh("30s")
            .tooltip(model.DashboardCursorSync.CROSSHAIR)
            .links([links.dashboards(), *([] if self.variables else [*links.to_logs(), *links.to_traces()])])
            .variables([*(self.variables or selectors.variables(needs_namespace=self.needs_namespace))])
        )
        for row in self.rows:
            board.with_row(build.Row(row.title))
            for panel in row.panels:
                board.with_panel(panel)
        built = board.build()
        built.schema_version = _SCHEMA
        for number, one in enumerate(built.panels or [], start=1):
            one.id_val = number
        return built
