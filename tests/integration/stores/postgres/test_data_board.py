"""The dashboard of the data on a real PostgreSQL: each query, its variables filled in as Grafana does."""

import re
import time
import uuid
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import psycopg
import pytest
from postgres import PostgresServers, database, rows_of, with_tables
from samples import id_of, row

from charts.dashboards.__main__ import DATA_FILE
from charts.dashboards.answers import read_board
from services.contract.consuming.proofs import Scope
from services.contract.consuming.readings import Reading
from services.stores.postgres.readings import PostgresReadings
from services.stores.postgres.sink import PostgresSink

BOARD: Final = read_board(DATA_FILE)
PANELS: Final = {one["title"]: one for one in BOARD["panels"] if one["type"] != "row"}
VARIABLES: Final = {one["name"]: one for one in BOARD["templating"]["list"]}
ALL: Final = "$__all"
ODD: Final = 'it\'s \\ "odd"; $kpi --'
"""A device's name that a careless query would fall for."""


class Chosen(NamedTuple):
    """What is chosen above the dashboard."""

    since: float
    until: float
    zone: str | Sequence[str] = ALL
    device: str | Sequence[str] = ALL
    kpi: str | Sequence[str] = ALL
    silent_after: str = "3600"


def filled(sql: str, chosen: Chosen) -> str:
    """Put in the values and macros, as Grafana and its PostgreSQL data source do.

    `:sqlstring` quotes each value; a value that stands for «All» is put in as it is.
    """

    def value(found: "re.Match[str]") -> str:
        name = found["name"]
        given = getattr(chosen, name)
        if given == ALL:
            return str(VARIABLES[name]["allValue"])
        texts = [given] if isinstance(given, str) else given
        return ",".join("'" + text.replace("'", "''") + "'" for text in texts)

    between = " AND ".join(
        f"'{datetime.fromtimestamp(at, UTC).isoformat().replace('+00:00', 'Z')}'" for at in chosen[:2]
    )
    sql = sql.replace("$__timeFilter(ts)", f"ts BETWEEN {between}")
    sql = sql.replace("$__interval_ms", "60000").replace("$silent_after", chosen.silent_after)
    return re.sub(r"\$\{(?P<name>\w+):sqlstring\}", value, sql)


class Plant:
    """A database with events of an hour, and how its panels are asked."""

    def __init__(self, url: str) -> None:
        self.url = with_tables(url)
        self.now = float(int(time.time()))
        events = [
            (1, "oven-1", "north", "temperature", 20.0, False, 3000),
            (2, "oven-1", "north", "temperature", 90.0, True, 60),
            (3, "oven-2", "south", "temperature", 30.0, False, 600),
            (4, "oven-2", "south", "humidity", 40.0, False, 500),
            (5, ODD, "north", "humidity", 50.0, True, 400),
            (6, "oven-1", "north", "temperature", 10.0, True, 86_400),
        ]
        with closing(PostgresSink(database(self.url), lambda: self.now)) as sink:
            sink.write(
                [
                    row(number, event_id=id_of(number), device_id=device, zone=zone, kpi=kpi, value=value,
                        is_degraded=degraded, ts=self.now - ago)
                    for number, device, zone, kpi, value, degraded, ago in events
                ]
            )  # fmt: skip
        PostgresReadings(database(self.url), Scope("telemetry", "s", "g")).note(
            [
                Reading(device, zone, "temperature", 20.0, self.now - ago, self.now - ago, "id")
                for device, zone, ago in (
                    ("oven-1", "north", 60),
                    ("oven-8", "south", 7200),
                    ("oven-9", "north", 90_000),
                )
            ]
        )
        self.hour = Chosen(self.now - 3600, self.now)

    def ask(self, sql: str, chosen: Chosen) -> list[tuple[Any, ...]]:
        return rows_of(self.url, filled(sql, chosen))

    def panel(self, title: str, chosen: Chosen | None = None) -> list[tuple[Any, ...]]:
        """Ask a panel's only query."""
        (target,) = PANELS[title]["targets"]
        return self.ask(target["rawSql"], chosen or self.hour)

    def choices(self, name: str) -> list[str]:
        return [text for (text,) in self.ask(VARIABLES[name]["query"], self.hour)]


@pytest.fixture(scope="module")
def plant(postgres_servers: PostgresServers) -> Plant:
    return Plant(postgres_servers.any().new_database())


def test_the_variables_find_what_there_is(plant: Plant) -> None:
    """In the chosen time; each of them is used by some query."""
    assert plant.choices("zone") == ["north", "south"]
    assert set(plant.choices("device")) == {ODD, "oven-1", "oven-2"}
    assert plant.choices("kpi") == ["humidity", "temperature"]
    text = " ".join(target["rawSql"] for panel in PANELS.values() for target in panel["targets"])
    for name in ("zone", "device", "kpi"):
        assert f"${{{name}:sqlstring}}" in text
    assert "$silent_after" in text


@pytest.mark.parametrize("title", PANELS)
def test_a_panel_has_an_answer_whatever_is_chosen(plant: Plant, title: str) -> None:
    """All, one, several, a name that is hard to quote, and one that is not there: never an error."""
    for one in (
        {}, {"zone": "north"}, {"zone": ["north", "south"], "kpi": ["temperature"]}, {"device": ODD},
        {"device": ["oven-1", ODD]}, {"kpi": "no such"}, {"silent_after": "604800"},
    ):  # fmt: skip
        plant.panel(title, plant.hour._replace(**one))
    assert plant.panel(title, plant.hour._replace(silent_after="60")), "with all chosen there is something"


def test_the_figures_are_of_the_chosen_time_and_devices(plant: Plant) -> None:
    north = plant.hour._replace(zone="north")
    assert [plant.panel("Events", one) for one in (plant.hour, north)] == [[(5,)], [(3,)]]
    assert plant.panel("Devices") == [(3,)]
    assert plant.panel("Degraded") == [(0.4,)]
    assert plant.panel("Degraded", plant.hour._replace(device=ODD)) == [(1.0,)]
    assert plant.panel("Events", plant.hour._replace(since=plant.now - 90_000)) == [(6,)]
    ((age,),) = plant.panel("Newest reading")
    assert 0 <= age < 600


def test_values_are_by_device_and_kpi(plant: Plant) -> None:
    """A repeated panel has one KPI chosen; the mean of each minute, in the order of time."""
    found = plant.panel("Values of $kpi", plant.hour._replace(kpi="temperature"))
    assert [(device, value) for _, device, value in found] == [
        ("oven-1", 20.0),
        ("oven-2", 30.0),
        ("oven-1", 90.0),
    ]
    assert [at.timestamp() % 60 for at, _, _ in found] == [0, 0, 0]
    assert PANELS["Values of $kpi"]["repeat"] == "kpi"


def test_lines_are_of_a_few_devices(plant: Plant, postgres_servers: PostgresServers) -> None:
    """Ten thousand would stop a browser."""
    many = Plant(postgres_servers.any().new_database())
    with closing(PostgresSink(database(many.url), lambda: many.now)) as sink:
        sink.write([row(100 + n, device_id=f"d-{n:03}", kpi="pressure", ts=many.now - 30) for n in range(50)])
    found = many.panel("Values of $kpi", many.hour._replace(kpi="pressure"))
    assert [device for _, device, _ in found] == [f"d-{n:03}" for n in range(20)]
    assert plant.panel("Events") == [(5,)]


def test_degraded_shares_are_by_kpi_and_by_device(plant: Plant) -> None:
    shares = {(kpi, share) for _, kpi, share in plant.panel("Degraded share by KPI")}
    assert shares == {("temperature", 0.0), ("temperature", 1.0), ("humidity", 0.0), ("humidity", 1.0)}
    found = plant.panel("By device and KPI")
    assert [(one[0], one[2], one[3], one[4]) for one in found] == [
        (ODD, "humidity", 1, 1.0), ("oven-1", "temperature", 2, 0.5),
        ("oven-2", "humidity", 1, 0.0), ("oven-2", "temperature", 1, 0.0),
    ]  # fmt: skip


def test_the_newest_reading_of_each_device_and_kpi_is_listed(plant: Plant) -> None:
    found = [(one[1], one[3], one[4]) for one in plant.panel("Newest readings")]
    assert found == [
        ("oven-1", "temperature", 90.0), (ODD, "humidity", 50.0), ("oven-2", "humidity", 40.0),
        ("oven-2", "temperature", 30.0),
    ]  # fmt: skip


def test_silent_devices_are_counted_and_named_alike(plant: Plant) -> None:
    """By the chosen silence and zone, whatever the chosen time is."""
    for after, zone, names in (
        ("3600", ALL, ["oven-8", "oven-9"]), ("86400", ALL, ["oven-9"]), ("3600", "south", ["oven-8"]),
        ("604800", ALL, []),
    ):  # fmt: skip
        chosen = plant.hour._replace(silent_after=after, zone=zone)
        assert [one[2] for one in plant.panel("Silent", chosen)] == names
        assert plant.panel("Silent devices", chosen) == [(len(names),)]


def test_all_queries_but_those_of_silence_are_held_to_the_chosen_time() -> None:
    """Without it a panel would read all days at each refresh."""
    for title, panel in PANELS.items():
        for target in panel["targets"]:
            of_events = target["rawSql"].count("FROM telemetry.events ")
            assert target["rawSql"].count("$__timeFilter(ts)") == of_events, title
            assert (of_events == 0) == ("last_readings" in target["rawSql"]), title


def test_a_user_who_may_only_read_sees_all_of_it(plant: Plant) -> None:
    """As docs/postgres.md grants it: Grafana has no other right."""
    role = f"reader_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(plant.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role}".encode())
        try:
            for right in ("USAGE ON SCHEMA telemetry", "SELECT ON ALL TABLES IN SCHEMA telemetry"):
                connection.execute(f"GRANT {right} TO {role}".encode())
            connection.execute(f"SET ROLE {role}".encode())
            for panel in PANELS.values():
                for target in panel["targets"]:
                    connection.execute(filled(target["rawSql"], plant.hour).encode())
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("DELETE FROM telemetry.last_readings")
        finally:
            connection.execute("RESET ROLE")
            connection.execute(f"DROP OWNED BY {role}".encode())
            connection.execute(f"DROP ROLE {role}".encode())
