"""The kinds of panels, with what is the same in all of them. Each has a description and a unit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from grafana_foundation_sdk.builders import common, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from charts.dashboards import selectors

Unit = Literal["short", "s", "eps", "cps", "bytes", "Bps", "percentunit", "bool_yes_no"]
"""As Grafana names them; `eps` is events a second, `cps` counts a second, `percentunit` a share of 1."""
Colour = Literal["green", "yellow", "orange", "red", "blue", "text"]
Link = build.DashboardLink
Panel = timeseries.Panel | stat.Panel | table.Panel | heatmap.Panel

LINES_HEIGHT: Final = 8
FIGURE_HEIGHT: Final = 4


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel. In its text, {consumers} and the like stand for label matchers; see selectors.py."""

    text: str
    legend: str = ""
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Sql:
    """One query of a panel that asks PostgreSQL; `is_series`: it gives `time`, `metric` and `value`."""

    text: str
    is_series: bool = False


def lines(
    title: str,
    description: str,
    unit: Unit,
    *queries: Query | Sql,
    width: int = 8,
    stacked: bool = False,
    dashed: str = "",
    links: Sequence[Link] = (),
    minimum: float | None = 0,
    maximum: float | None = None,
    logarithmic: bool = False,
) -> timeseries.Panel:
    """Draw values over time; `dashed` is a pattern of the series that are limits.

    `logarithmic` is for what spreads from milliseconds to minutes, and has no minimum.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(_source(queries))
        .unit(unit)
        .height(LINES_HEIGHT)
        .span(width)
        .line_width(1.5)
        .fill_opacity(25 if stacked else 8)
        .show_points(common_model.VisibilityMode.AUTO)
        .legend(
            common.VizLegendOptions()
            .display_mode(common_model.LegendDisplayMode.TABLE)
            .placement(common_model.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_model.TooltipDisplayMode.MULTI)
            .sort(common_model.SortOrder.DESCENDING)
        )
        .targets(_targets(queries))
    )
    if logarithmic:
        panel.scale_distribution(
            common.ScaleDistributionConfig().type(common_model.ScaleDistribution.LOG).log(10)
        )
    elif minimum is not None:
        panel.min(minimum)
    if maximum is not None:
        panel.max(maximum)
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL).group("A"))
    if links:
        panel.data_links(list(links))
    if dashed:
        panel.override_by_regexp(
            dashed,
            [
                model.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 8]}),
                model.DynamicConfigValue("custom.fillOpacity", 0),
                model.DynamicConfigValue("custom.stacking", {"mode": "none", "group": "A"}),
                model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": "red"}),
            ],
        )
    return panel


def figure(
    title: str,
    description: str,
    unit: Unit,
    *queries: Query | Sql,
    steps: Sequence[tuple[float, Colour]] = (),
    below: Colour = "green",
    texts: Mapping[float, tuple[str, Colour]] | None = None,
    no_value: str = "no data",
    width: int = 4,
    height: int = FIGURE_HEIGHT,
    decimals: int | None = None,
    links: Sequence[Link] = (),
    area: bool = False,
    uncoloured: str = "",
) -> stat.Panel:
    """Show what is the case now: one number a query, coloured by the steps that it has passed.

    `texts` stand for single values. `uncoloured` is the letter of a query whose value is neither good nor bad. With
    `area`, its way over the time range is drawn behind it.
    """
    reduce = common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(values=False)
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(_source(queries))
        .unit(unit)
        .height(height)
        .span(width)
        .no_value(no_value)
        .reduce_options(reduce)
        .color_mode(
            common_model.BigValueColorMode.BACKGROUND
            if steps or texts
            else common_model.BigValueColorMode.NONE
        )
        .graph_mode(common_model.BigValueGraphMode.AREA if area else common_model.BigValueGraphMode.NONE)
        .text_mode(
            common_model.BigValueTextMode.VALUE_AND_NAME
            if len(queries) > 1
            else common_model.BigValueTextMode.VALUE
        )
        .thresholds(
            build.ThresholdsConfig()
            .mode(model.ThresholdsMode.ABSOLUTE)
            .steps(
                [model.Threshold(None, below), *(model.Threshold(value, colour) for value, colour in steps)]
            )
        )
        .targets(_targets(queries))
    )
    if decimals is not None:
        panel.decimals(decimals)
    if uncoloured:
        steps_of_it = {"mode": "absolute", "steps": [{"value": None, "color": "blue"}]}
        panel.override_by_query(uncoloured, [model.DynamicConfigValue("thresholds", steps_of_it)])
    if texts:
        options = {
            f"{value:g}": model.ValueMappingResult(text=text, color=colour, index=index)
            for index, (value, (text, colour)) in enumerate(texts.items())
        }
        panel.mappings([model.ValueMap(options)])
    if links:
        panel.data_links(list(links))
    return panel


def rows(
    title: str,
    description: str,
    unit: Unit,
    *queries: Query,
    columns: Mapping[str, str],
    no_value: str,
    width: int = 24,
    links: Sequence[Link] = (),
) -> table.Panel:
    """List what is the case now: `columns` are the labels, and `Value` (or `Value #A`), in order with their headings."""
    targets: list[Builder[Dataquery]] = [
        _target(query, chr(ord("A") + index)).format(PromQueryFormat.TABLE).instant()
        for index, query in enumerate(queries)
    ]
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(selectors.prometheus())
        .unit(unit)
        .height(LINES_HEIGHT)
        .span(width)
        .no_value(no_value)
        .targets(targets)
        .with_transformation(model.DataTransformerConfig("merge", options={}))
        .with_transformation(
            model.DataTransformerConfig(
                "organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": {name: index for index, name in enumerate(columns)},
                    "renameByName": dict(columns),
                },
            )
        )
    )
    if links:
        panel.data_links(list(links))
    return panel


def heat(
    title: str, description: str, unit: Unit, query: Query, *, width: int = 8, links: Sequence[Link] = ()
) -> heatmap.Panel:
    """Draw how a histogram's observations are spread, over time. The query keeps `le`."""
    panel = (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(selectors.prometheus())
        .unit(unit)
        .height(LINES_HEIGHT)
        .span(width)
        .calculate(calculate=False)
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_model.HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .steps(64)
            .exponent(0.5)
            .fill("dark-orange")
            .reverse(reverse=False)
        )
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .cell_gap(1)
        .show_legend()
        .exemplars_color("rgba(87, 148, 242, 0.9)")
        .targets([_target(query, "A").format(PromQueryFormat.HEATMAP).legend_format("{{le}}")])
    )
    if links:
        panel.data_links(list(links))
    return panel


def listing(
    title: str, description: str, query: Sql, *, units: Mapping[str, Unit], no_value: str, width: int = 24
) -> table.Panel:
    """List the rows of a query, under the names of its columns; `units` are those of some columns."""
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(selectors.postgres())
        .unit("short")
        .height(LINES_HEIGHT + FIGURE_HEIGHT)
        .span(width)
        .no_value(no_value)
        .targets(_targets([query]))
    )
    for column, unit in units.items():
        panel.override_by_name(column, [model.DynamicConfigValue("unit", unit)])
    return panel


def _source(queries: Sequence[Query | Sql]) -> model.DataSourceRef:
    return selectors.postgres() if isinstance(queries[0], Sql) else selectors.prometheus()


def _targets(queries: Sequence[Query | Sql]) -> list[Builder[Dataquery]]:
    letters = [chr(ord("A") + index) for index in range(len(queries))]
    return [
        _SqlTarget(query, letter) if isinstance(query, Sql) else _target(query, letter)
        for query, letter in zip(queries, letters, strict=True)
    ]


class _SqlQuery(Dataquery):
    """A query as Grafana's PostgreSQL data source reads it; Grafana's own library has none for it."""

    def __init__(self, query: Sql, ref_id: str) -> None:
        self._query = query
        self._ref_id = ref_id

    def to_json(self) -> dict[str, object]:
        """Give what stands in the dashboard."""
        return {
            "datasource": selectors.postgres(),
            "editorMode": "code",
            "format": "time_series" if self._query.is_series else "table",
            "rawQuery": True,
            "rawSql": self._query.text,
            "refId": self._ref_id,
        }


class _SqlTarget(Builder[Dataquery]):
    def __init__(self, query: Sql, ref_id: str) -> None:
        self._built = _SqlQuery(query, ref_id)

    def build(self) -> Dataquery:
        return self._built


def _target(query: Query, ref_id: str) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .expr(selectors.filled(query.text))
        .legend_format(query.legend or "__auto")
        .ref_id(ref_id)
        .datasource(selectors.prometheus())
        .exemplar(exemplar=query.exemplars)
        .range()
    )
