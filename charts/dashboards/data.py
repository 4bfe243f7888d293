"""What the devices say: values, degraded readings, the newest ones, and who is silent. It asks PostgreSQL.

Never from metrics: a label for each device would be ten thousand series. Each query but those of silent devices is
held to the chosen time, so that the index on `ts` leaves out all other days, and gives so many rows at most.
"""

from typing import Final

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as model

from charts.dashboards import selectors
from charts.dashboards.boards import Board, Row
from charts.dashboards.panels import Panel, Sql, figure, lines, listing

_ALL: Final = "'__all'"
"""What «All» is in a query; Grafana puts it in as it is. No device can have that name and quotes, too."""
_LINES: Final = 20
_ROWS: Final = 500
_CHOICES: Final = 1000


def _any_of(column: str, variable: str) -> str:
    chosen = f"${{{variable}:sqlstring}}"
    return f"({_ALL} IN ({chosen}) OR {column} IN ({chosen}))"


_CHOSEN: Final = " AND ".join(
    [
        "$__timeFilter(ts)",
        *(_any_of(*one) for one in (("zone", "zone"), ("device_id", "device"), ("kpi", "kpi"))),
    ]
)
_EVENTS: Final = f"FROM telemetry.events WHERE {_CHOSEN}"
_POINT: Final = "date_bin(make_interval(secs => $__interval_ms / 1000.0), ts, to_timestamp(0)) AS time"
_SILENT: Final = (
    "FROM telemetry.last_readings WHERE stored_at < extract(epoch FROM now()) - $silent_after "
    f"AND {_any_of('zone', 'zone')} AND {_any_of('device_id', 'device')}"
)


def _values() -> Panel:
    panel = lines(
        "Values of $kpi",
        f"Mean value at each point, in the unit of the KPI: a line for each chosen device, {_LINES} at most.",
        "short",
        Sql(
            f"SELECT {_POINT}, device_id AS metric, avg(value) AS value {_EVENTS} AND device_id IN (SELECT device_id "
            f"{_EVENTS} GROUP BY device_id ORDER BY device_id LIMIT {_LINES}) GROUP BY 1, 2 ORDER BY 1, 2",
            is_series=True,
        ),
        width=12,
        minimum=None,
    )
    panel.repeat("kpi").repeat_direction("h").max_per_row(2)
    return panel


_NOW: Final = Row(
    "Now",
    figure(
        "Events",
        "Events in the chosen time range.",
        "short",
        Sql(f"SELECT count(*) AS events {_EVENTS}"),
        width=5,
    ),
    figure(
        "Devices",
        "Devices that have events in the chosen time range.",
        "short",
        Sql(f"SELECT count(DISTINCT device_id) AS devices {_EVENTS}"),
        width=5,
    ),
    figure(
        "Degraded",
        "Share of the events that are above their threshold.",
        "percentunit",
        Sql(f"SELECT avg(is_degraded::int)::float8 AS degraded {_EVENTS}"),
        steps=[(0.05, "yellow"), (0.2, "red")],
        decimals=1,
        width=5,
    ),
    figure(
        "Newest reading",
        "Time since the newest of these events was stored.",
        "s",
        Sql(f"SELECT extract(epoch FROM now() - max(stored_at))::float8 AS age {_EVENTS}"),
        decimals=0,
        width=4,
    ),
    figure(
        "Silent devices",
        "Devices that used to send, but of which nothing was stored for the time in «Silent after». Consumers "
        "write this down only if SILENT_AFTER_S is set.",
        "short",
        Sql(f"SELECT count(*) AS silent {_SILENT}"),
        steps=[(1, "yellow")],
        width=5,
    ),
)

_VALUES: Final = Row("Values", _values())

_DEGRADED: Final = Row(
    "Degraded readings",
    lines(
        "Degraded share by KPI",
        "Share of the events that are above their threshold.",
        "percentunit",
        Sql(
            f"SELECT {_POINT}, kpi AS metric, avg(is_degraded::int)::float8 AS value {_EVENTS} GROUP BY 1, 2 ORDER BY 1, 2",
            is_series=True,
        ),
        width=10,
        maximum=1,
    ),
    listing(
        "By device and KPI",
        f"Devices and KPIs in the chosen time range, the most degraded first; {_ROWS} at most.",
        Sql(
            'SELECT device_id AS "Device", zone AS "Zone", kpi AS "KPI", count(*) AS "Events", '
            'avg(is_degraded::int)::float8 AS "Degraded", min(value) AS "Min", avg(value) AS "Mean", max(value) AS "Max" '
            f'{_EVENTS} GROUP BY 1, 2, 3 ORDER BY "Degraded" DESC, "Events" DESC, 1, 3 LIMIT {_ROWS}'
        ),
        units={"Degraded": "percentunit"},
        no_value="no event in the chosen time range",
        width=14,
    ),
)

_DEVICES: Final = Row(
    "Devices",
    listing(
        "Newest readings",
        f"The newest reading of each device and KPI in the chosen time range, the newest first; {_ROWS} at most.",
        Sql(
            'SELECT * FROM (SELECT DISTINCT ON (device_id, kpi) ts AS "Time", device_id AS "Device", zone AS "Zone", '
            f'kpi AS "KPI", value AS "Value", is_degraded AS "Degraded" {_EVENTS} ORDER BY device_id, kpi, ts DESC) '
            f'AS newest ORDER BY "Time" DESC, "Device", "KPI" LIMIT {_ROWS}'
        ),
        units={"Degraded": "bool_yes_no"},
        no_value="no event in the chosen time range",
        width=12,
    ),
    listing(
        "Silent",
        f"Devices of which nothing was stored for the time in «Silent after», with their last readings; {_ROWS} at most. The "
        "time range does not matter here.",
        Sql(
            'SELECT to_timestamp(stored_at) AS "Last stored", extract(epoch FROM now())::float8 - stored_at AS "Silent for", '
            'device_id AS "Device", zone AS "Zone", kpi AS "KPI", value AS "Value", pipeline AS "Pipeline" '
            f"{_SILENT} ORDER BY stored_at DESC, device_id LIMIT {_ROWS}"
        ),
        units={"Silent for": "s"},
        no_value="no device is silent",
        width=12,
    ),
)


def _choice(name: str, title: str, column: str) -> build.QueryVariable:
    return (
        build.QueryVariable(name)
        .label(title)
        .datasource(selectors.postgres())
        .query(
            f"SELECT DISTINCT {column} FROM telemetry.events WHERE $__timeFilter(ts) ORDER BY 1 LIMIT {_CHOICES}"
        )
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(_ALL)
        .current(model.VariableOption(text="All", value="$__all", selected=True))
    )


DATA: Final = Board(
    "data",
    "Telemetry pipeline / Data",
    "What devices report, read from PostgreSQL: values, degraded readings, the newest readings, silent devices.",
    (_NOW, _VALUES, _DEGRADED, _DEVICES),
    variables=(
        build.DatasourceVariable(selectors.DATABASE).type(selectors.POSTGRES).label("Database"),
        _choice("zone", "Zone", "zone"),
        _choice("device", "Device", "device_id"),
        _choice("kpi", "KPI", "kpi"),
        build.CustomVariable("silent_after")
        .label("Silent after")
        .values("10 minutes : 600, 1 hour : 3600, 6 hours : 21600, 1 day : 86400, 1 week : 604800")
        .current(model.VariableOption(text="1 hour", value="3600", selected=True)),
    ),
)
