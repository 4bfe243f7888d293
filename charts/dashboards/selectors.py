"""What the dashboards are about: their variables, and the label matchers that follow from these.

    {consumers}   what each consumer tells of itself: namespace, release and pod as chosen
    {group}       what is told once for the stream and its group, and by producers: namespace and release
    {pods}        pods of the release as the cluster sees them, by the names that the chart gives

A query is written with these, and `filled` puts the matchers in. «All» is `.*`, which also matches where there
is no such label: on a laptop there is neither namespace nor release.
"""

from typing import Final

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as model

DATA_SOURCE: Final = "datasource"
DATABASE: Final = "database"
POSTGRES: Final = "grafana-postgresql-datasource"
SOURCES: Final = {DATA_SOURCE: "prometheus", "jaeger": "jaeger", "tempo": "tempo", "logs": "loki"}
"""Variable of each data source, with the type that Grafana gives it."""

_GROUP: Final = 'namespace=~"$namespace",release=~"$release"'
_MATCHERS: Final = {
    "group": _GROUP,
    "consumers": f'{_GROUP},pod=~"$consumer"',
    "pods": 'namespace=~"$namespace",pod=~"($release)-.*",container=~"consumer|producer|redis"',
    "claims": 'namespace=~"$namespace"',
}


def filled(query: str) -> str:
    """Put the label matchers into a query: `up{group,job="x"}` becomes `up{namespace=~"$namespace",...}`."""
    for name, matcher in _MATCHERS.items():
        query = query.replace(f"{{{name}", f"{{{matcher}")
    return query


def prometheus() -> model.DataSourceRef:
    """Refer to the data source that is chosen above the dashboard."""
    return model.DataSourceRef("prometheus", f"${{{DATA_SOURCE}}}")


def postgres() -> model.DataSourceRef:
    """Refer to the database that is chosen above the dashboard of the data."""
    return model.DataSourceRef(POSTGRES, f"${{{DATABASE}}}")


def variables(*, needs_namespace: bool = False) -> list[build.DatasourceVariable | build.QueryVariable]:
    """Give the variables, which are the same on each dashboard so that links carry them over.

    With `needs_namespace`, «All» namespaces are those where the pipeline is, and not every one of the cluster.
    """
    labels = {"datasource": "Metrics", "jaeger": "Traces (Jaeger)", "tempo": "Traces (Tempo)", "logs": "Logs"}
    sources = [
        build.DatasourceVariable(name).type(kind).label(labels[name]) for name, kind in SOURCES.items()
    ]
    return [
        *sources,
        _choice("namespace", "Namespace", "telemetry_build_info", None if needs_namespace else ".*"),
        _choice("release", "Release", 'telemetry_build_info{namespace=~"$namespace"}', ".*"),
        _choice(
            "consumer",
            "Consumer",
            f"telemetry_sink_up{{{_GROUP}}}",
            ".*",
            "pod",
            "A pod, or a process on a laptop",
        ),
    ]


def _choice(
    name: str, title: str, series: str, all_value: str | None, label: str = "", description: str = ""
) -> build.QueryVariable:
    query = f"label_values({series}, {label or name})"
    choice = (
        build.QueryVariable(name)
        .label(title)
        .description(description)
        .datasource(prometheus())
        .query({"query": query, "refId": name, "qryType": 1})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .current(model.VariableOption(text="All", value="$__all", selected=True))
    )
    return choice if all_value is None else choice.all_value(all_value)
