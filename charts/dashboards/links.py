"""Links from a panel to what Grafana's Explore shows of the same time: traces and logs.

Exemplars need none: the data source itself says where a trace id leads (charts/observe/grafana/datasources).
"""

import json
from typing import Any, Final
from urllib.parse import quote

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as model

_OUR_STREAMS: Final = '{service_name=~".*(telemetry|producer|consumer).*"}'
"""Loki names each stream's service since its version 3: of OTLP the service's name, of pods the container's."""
PROBLEMS: Final = (
    f'{_OUR_STREAMS} | json levelname="levelname"'
    ' | levelname=~"WARNING|ERROR|CRITICAL" or severity_text=~"WARN.*|ERROR|CRITICAL|FATAL"'
)
"""Lines of a pod are JSON; those that came by OTLP have their severity beside the text."""


def dashboards() -> build.DashboardLink:
    """Link to the other dashboards, with the same variables and time."""
    return (
        build.DashboardLink("Dashboards")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags(["telemetry-pipeline"])
        .include_vars(include_vars=True)
        .keep_time(keep_time=True)
    )


def to_traces(service: str = "telemetry-consumer") -> list[build.DashboardLink]:
    """Link to a service's traces, in whichever of the two stores there is."""
    return [
        _explore(
            f"Traces of the {service} (Jaeger)",
            "jaeger",
            "jaeger",
            {"queryType": "search", "service": service},
        ),
        _explore(
            f"Traces of the {service} (Tempo)",
            "tempo",
            "tempo",
            {"queryType": "traceql", "query": f'{{resource.service.name="{service}"}}', "limit": 20},
        ),
    ]


def to_failed_traces() -> list[build.DashboardLink]:
    """Link to the traces that hold an error; those are always kept, whatever the sampling."""
    tags = json.dumps({"error": "true"})
    service = "telemetry-consumer"
    return [
        _explore(
            "Traces with errors (Jaeger)",
            "jaeger",
            "jaeger",
            {"queryType": "search", "service": service, "tags": tags},
        ),
        _explore(
            "Traces with errors (Tempo)",
            "tempo",
            "tempo",
            {
                "queryType": "traceql",
                "query": f'{{resource.service.name="{service}" && status=error}}',
                "limit": 20,
            },
        ),
    ]


def to_logs(title: str = "Logs", query: str = _OUR_STREAMS) -> list[build.DashboardLink]:
    """Link to the log lines of producers and consumers."""
    return [_explore(title, "logs", "loki", {"expr": query, "queryType": "range"})]


def _explore(title: str, variable: str, kind: str, query: dict[str, Any]) -> build.DashboardLink:
    source = f"${{{variable}}}"
    pane = {
        "datasource": source,
        "queries": [{"refId": "A", "datasource": {"type": kind, "uid": source}, **query}],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    panes = quote(json.dumps({"telemetry": pane}, separators=(",", ":")))
    for name in (variable, "__from", "__to"):  # Grafana puts values in where it sees these, and only there
        panes = panes.replace(quote(f"${{{name}}}"), f"${{{name}}}")
    return (
        build.DashboardLink(title)
        .type(model.DashboardLinkType.LINK)
        .url(f"/explore?schemaVersion=1&panes={panes}")
        .target_blank(target_blank=True)
    )
