"""`telemetry inspect`: what it proposes reads the file, what it can't know is said, and a screen has room."""

import gzip
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from reading_files import read_file
from telemetry_cli import is_refusal, telemetry
from typer.testing import Result

ROOT = Path(__file__).parents[4]
INPUTS = ROOT / "tests" / "inputs"
EXAMPLES = ROOT / "examples"
FIVE = [(f"probe-{n}", "hall", str(1710028800 + 3600 * n), "temperature", f"20.{n}") for n in range(1, 6)]
MARCH = 1710028800


def look(path: Path, *options: str, **environment: str) -> tuple[Result, Any]:
    result = telemetry("inspect", str(path), "--json", *options, **environment)
    assert result.stdout, result.stderr
    return result, json.loads(result.stdout)


@pytest.mark.parametrize(
    "name",
    [
        "comma_in_header.csv",
        "comments.csv",
        "cr.csv",
        "dup_header.csv",
        "headerless.csv",
        "latin1_header.csv",
        "plain.csv.gz",
        "preamble.csv",
        "semicolon_decimalcomma.csv",
        "sep_line.csv",
        "space_after_comma.csv",
        "space_in_values.csv",
        "tab.tsv",
        "trailing_comma_rows_only.csv",
        "trailing_commas.csv",
        "units_row.csv",
        "upper_header.csv",
        "utf16.csv",
    ],
)
def test_of_every_layout_a_mapping_is_written_that_gives_the_same_readings(name: str) -> None:
    """Nothing has to be changed in it."""
    result, told = look(INPUTS / name, "--write", "m.toml")
    assert (result.exit_code, told["account"]["lines_refused"]) == (0, 0)
    assert read_file(INPUTS / name, "--mapping", "m.toml").events == FIVE


@pytest.mark.parametrize(
    ("name", "events"),
    [
        ("array_oneline.json", [(f"p{n}", str(MARCH + 3600 * n), "temperature", f"20.{n}") for n in (1, 2)]),
        ("array_pretty.json", [(f"p{n}", str(MARCH + 3600 * n), "temperature", f"20.{n}") for n in (1, 2)]),
        ("date_and_time.csv", [("date_and_time", "1710093600", "temperature", "13.6")]),
        (
            "date_parts.csv",
            [
                ("date_parts", "1710028800", "temperature", "21"),
                ("date_parts", "1710032400", "temperature", "-4"),
            ],
        ),
        (
            "decimals.csv",
            [
                ("decimals", "1551129661.95456123352050781250", "unknown", "21.5"),
                ("decimals", "1551129662.14344882965087890625", "unknown", "21.6"),
                ("decimals", "1551575237.1385763", "unknown", "21.7"),
            ],
        ),
        ("flat.csv", [(f"p{n}", str(MARCH + 3600 * n), "temperature", f"20.{n}") for n in (1, 2, 3)]),
        (
            "kpinames.csv",
            [("kpinames", "1710032400", "temperature", "21")] * 3
            + [("kpinames", "1710032400", "PM2.5", "11")],
        ),
        ("latin1_row.csv", [("Fühler", ts, kpi, value) for _, _, ts, kpi, value in FIVE]),
        (
            "lineprotocol.lp",
            [
                ("attic", "1710028800", "temperature", "21.4"),
                ("attic", "1710028800", "humidity", "48"),
                ("attic", "1710028810", "temperature", "21.6"),
            ],
        ),
        ("ms_exp.csv", [("ms_exp", "1663846236.123", "unknown", "21.5")]),
        ("nan_other.jsonl", [("nan_other", "1710032400", "unknown", "21.5")] * 3),
        (
            "prom.json",
            [("prom", "1710028800.781", "unknown", "21.4"), ("prom", "1710028815.781", "unknown", "21.6")],
        ),
        ("quote_space.csv", [("quote_space", "1710032400", "unknown", "21")]),
        (
            "rtl433.jsonl",
            [
                ("23", "1710095013", "temperature", "5.300"),
                ("23", "1710095013", "humidity", "74"),
                ("23", "1710095014", "temperature", "-2.000"),
                ("23", "1710095014", "humidity", "77"),
            ],
        ),
        ("same_id.csv", [("same_id", str(MARCH + 3600 + n), "unknown", f"2{n}") for n in range(5)]),
        (
            "senml.json",
            [
                ("urn:dev:ow:10e2073a01080063:", "1710028800", "temperature", "21.4"),
                ("urn:dev:ow:10e2073a01080063:", "1710028810", "temperature", "21.6"),
                ("urn:dev:ow:10e2073a01080063:", "1710028800", "humidity", "48.1"),
            ],
        ),
        ("skiprows.csv", [("R1", "1710022767", "unknown", "21"), ("R2", "1710040984", "unknown", "22")]),
        (
            "telegraf.jsonl",
            [
                ("pi-7", "1710028800", "temperature", "21.4"),
                ("pi-7", "1710028800", "humidity", "48.1"),
                ("pi-7", "1710028810", "temperature", "21.6"),
                ("pi-7", "1710028810", "humidity", "47.9"),
            ],
        ),
        (
            "thingsboard.jsonl",
            [
                ("thingsboard", "1710028800.512", "temperature", "21.4"),
                ("thingsboard", "1710028800.512", "humidity", "48"),
                ("thingsboard", "1710028810.512", "temperature", "21.5"),
                ("thingsboard", "1710028810.512", "humidity", "48"),
            ],
        ),
        (
            "thingspeak.csv",
            [
                ("thingspeak", "1710107183", "field1", "21.4"),
                ("thingspeak", "1710107183", "field2", "48"),
                ("thingspeak", "1710107199", "field1", "21.6"),
            ],
        ),
        (
            "timescale.csv",
            [
                ("weather-pro-000000", "1710072000", "column_3", "51.9"),
                ("weather-pro-000000", "1710072000", "column_4", "66.5"),
                ("weather-pro-000001", "1710072000", "column_3", "52.0"),
                ("weather-pro-000001", "1710072000", "column_4", "66.4"),
            ],
        ),
        (
            "ttn.jsonl",
            [
                ("eui-7", "1710028801.828332", "temperature", "21.4"),
                ("eui-7", "1710028801.828332", "humidity", "48"),
            ],
        ),
        (
            "wide.csv",
            [
                ("a", "1710028800", "temperature", "21.4"),
                ("b", "1710028800", "temperature", "19.2"),
                ("a", "1710028800", "humidity", "48"),
                ("a", "1710028860", "temperature", "21.5"),
                ("b", "1710028860", "temperature", "19.3"),
                ("a", "1710028860", "humidity", "49"),
            ],
        ),
    ],
)
def test_of_every_shape_a_mapping_is_written_that_gives_every_reading(
    name: str, events: list[tuple[str, ...]]
) -> None:
    """What the file does not say is unknown, and not guessed."""
    result, told = look(INPUTS / name, "--write", "m.toml")
    assert (result.exit_code, told["account"]["lines_refused"]) == (0, 0)
    found = read_file(INPUTS / name, "--mapping", "m.toml")
    assert [(one[0], *one[2:]) for one in found.events] == events
    assert found.refused == []
    first = [tuple(one[key] for key in ("device_id", "ts", "kpi", "value")) for one in told["first_events"]]
    assert first == events[:5]


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("backslash.csv", [2]),
        ("ditto_marks.csv", [3, 9]),
        ("two_unbalanced_quotes.csv", [3, 9]),
        ("ha_mixed.csv", [4]),
        ("unit.csv", [6, 7]),
        ("values.csv", [11, 21, 25, 26, 27]),
        ("times.csv", [4, 5, 6, 17, 18]),
    ],
)
def test_lines_that_no_mapping_reads_are_told(name: str, refused: list[int]) -> None:
    """With the first reasons; the exit code says so, and the others are read."""
    result, told = look(INPUTS / name)
    assert result.exit_code == 1
    assert [one["line"] for one in told["first_refused"]] == refused
    assert told["account"]["lines_published"] > 0


def test_every_input_is_looked_at_here() -> None:
    """A new one has to be given an answer above."""
    text = Path(__file__).read_text(encoding="utf-8")
    names = {one.name for one in INPUTS.iterdir()} - {INPUTS.joinpath("kpis.toml").name}
    assert sorted(name for name in names if f'"{name}"' not in text) == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("date_and_time.csv", "Is 10/03/2024 18.00.00 day-month-year? Taken so. Else: --time-format month-"),
        ("date_and_time.csv", "Times name no zone: taken as UTC. For local times: --time-zone"),
        ("date_and_time.csv", "Is T temperature? Taken so. Else: --value T=KPI"),
        ("date_parts.csv", "No column is the device_id (sensor's name): all are 'date_parts'."),
        ("rtl433.jsonl", "No column is the zone (place): all are 'unknown'. --map zone=COLUMN"),
        ("skiprows.csv", "Which KPI are the values of status? As 'unknown' they are dead letters."),
        ("thingspeak.csv", "Which KPI is field1 (21.4, 21.6)? --value field1=KPI"),
        ("timescale.csv", "Which KPI is #3 (51.9, 52.0)? --value '#3'=KPI"),
        ("headerless.csv", "Is column #2 the device_id? Taken so. Else: --map device_id=COLUMN"),
        ("latin1_row.csv", "It is not UTF-8: read as latin-1. Is this right: 2024-03-10T01:00:00Z,Fühler"),
        ("prom.json", "Is [0] the time? Taken so. Else: --map ts=COLUMN"),
        ("lineprotocol.lp", "Is location the device_id, and the measurement the zone? Taken so."),
    ],
)
def test_what_cant_be_known_is_said_with_what_to_write(name: str, says: str) -> None:
    """One line each."""
    _, told = look(INPUTS / name)
    assert [one for one in told["unsure"] if one.startswith(says)] != []


@pytest.mark.parametrize("name", ["comments.csv", "flat.csv", "telegraf.jsonl", "wide.csv"])
def test_nothing_is_said_of_what_is_known(name: str) -> None:
    """Times with a zone, and columns of our names or usual ones."""
    _, told = look(INPUTS / name)
    assert [one for one in told["unsure"] if "zone" not in one and "device_id" not in one] == []


def test_a_loggers_table_is_read_with_all_that_is_odd_about_it() -> None:
    """Lines before the header, a row of units, decimal commas, thousands, a date and a clock, frost."""
    path = EXAMPLES / "logger.csv"
    result, told = look(path, "--write", "m.toml", KPIS_FILE=str(EXAMPLES / "kpis.toml"))
    assert result.exit_code == 0
    options = ["--mapping", str(EXAMPLES / "logger.toml"), "--time-zone", "UTC"]
    wanted = [(one[2], *one[3:]) for one in read_file(path, *options).events]
    assert [(one[2], *one[3:]) for one in read_file(path, "--mapping", "m.toml").events] == wanted
    assert len(wanted) == 19
    assert {one["name"]: one["taken_as"] for one in told["columns"]}["Akku"] is None


def test_a_unit_in_a_header_or_in_a_row_below_it_is_converted(tmp_path: Path) -> None:
    """Of the column that it belongs to; a doubtful one is said."""
    path = tmp_path / "a.csv"
    path.write_text(
        "time,Temp (°F),press,temp_k\nutc,,Pa,\n2024-03-10T00:00:00Z,71.6,101300,295.15\n", "utf-8"
    )
    result, told = look(path, "--write", "m.toml")
    assert result.exit_code == 0
    values = {(one[3], one[4]) for one in read_file(path, "--mapping", "m.toml").events}
    assert values == {("temperature", "22.0"), ("pressure", "1013.0")}
    assert [one for one in told["unsure"] if one.startswith("Is temp_k in K?")] != []


@pytest.mark.parametrize(
    ("head", "below", "unit"),
    [
        ("TemperatureF", "", "°F"),
        ("tempF", "", "°F"),
        ("temp_f_attic", "", "°F"),
        ("Temp-degF", "", "degF"),
        ("temp_fahrenheit", "", "Fahrenheit"),
        ("AirTemperature", "Deg F", "Deg F"),
        ("PressureInHg", "", "inHg"),
    ],
)
def test_a_unit_that_a_name_says_by_a_word_is_taken(tmp_path: Path, head: str, below: str, unit: str) -> None:
    """And asked about where it might be something else."""
    path = tmp_path / "a.csv"
    path.write_text(f"time,{head}\n,{below}\n2024-03-10T00:00:00Z,29.92\n", encoding="utf-8")
    _, told = look(path, "--write", "m.toml")
    assert f'unit = "{unit}"' in Path("m.toml").read_text(encoding="utf-8")
    assert bool(below) or [one for one in told["unsure"] if one.startswith(f"Is {head} in {unit}?")] != []


@pytest.mark.parametrize(("head", "below"), [("Vibration (g)", ""), ("vibration", "g")])
def test_a_unit_that_is_none_of_its_kpi_is_said(tmp_path: Path, head: str, below: str) -> None:
    """Otherwise its values would be taken for what they are not."""
    path = tmp_path / "a.csv"
    path.write_text(f"time,{head}\nutc,{below}\n2024-03-10T00:00:00Z,0.5\n", encoding="utf-8")
    _, told = look(path)
    assert [
        one for one in told["unsure"] if one.startswith(f"Is {head} in mm/s? Taken so, though it says 'g'")
    ]


def test_units_that_stand_beside_their_values_are_taken(tmp_path: Path) -> None:
    """In a column, also where some are of no KPI; in JSON of lists, in the object beside it."""
    path = tmp_path / "a.csv"
    path.write_text(
        f"device,kpi,reading,uom,ts\na,temperature,71.6,°F,{MARCH}\na,power,9,W,{MARCH}\n", encoding="utf-8"
    )
    look(path, "--write", "m.toml")
    found = read_file(path, "--mapping", "m.toml").events
    assert [one[3:] for one in found] == [("temperature", "22.0"), ("power", "9")]
    path = tmp_path / "b.json"
    hourly = {"time": ["2024-03-10T00:00Z", "2024-03-10T01:00Z"], "temperature_2m": [71.6, 50]}
    path.write_text(
        json.dumps({"hourly_units": {"temperature_2m": "°F"}, "hourly": hourly}), encoding="utf-8"
    )
    look(path, "--write", "n.toml")
    assert [one[4] for one in read_file(path, "--mapping", "n.toml").events] == ["22.0", "10.0"]


def test_a_loggers_own_line_with_more_cells_than_columns_is_no_header(tmp_path: Path) -> None:
    """Such as the first one of TOA5."""
    path = tmp_path / "station.dat"
    lines = [
        '"TOA5","CR1000","CR1000","1234","CR1000.Std.32","CPU:x.CR1","999","Hourly"',
        '"TIMESTAMP","RECORD","BattV_Min","AirTemp","RH"',
        '"TS","RN","Volts","Deg F","%"',
        '"","","Min","Avg","Smp"',
        '"2024-03-10 00:00:00",0,12.5,71.6,40.1',
        '"2024-03-10 01:00:00",1,12.5,"NAN",40.2',
    ]
    path.write_text("".join(f"{line}\r\n" for line in lines), encoding="utf-8")
    result, _ = look(path, "--write", "m.toml")
    assert result.exit_code == 0
    assert [one[2:] for one in read_file(path, "--mapping", "m.toml").events] == [
        ("1710028800", "temperature", "22.0"),
        ("1710028800", "humidity", "40.1"),
        ("1710032400", "humidity", "40.2"),
    ]


def test_a_day_and_an_hour_in_digits_are_no_seconds(tmp_path: Path) -> None:
    """As weather services write them; and the pattern reads them."""
    path = tmp_path / "a.csv"
    path.write_text("time;temperature\n2024031000;20\n2024031013;21\n", encoding="utf-8")
    _, told = look(path, "--write", "m.toml")
    assert [one[2] for one in read_file(path, "--mapping", "m.toml").events] == ["1710028800", "1710075600"]
    assert [one for one in told["unsure"] if one.startswith("Times name no zone")] != []


@pytest.mark.parametrize(
    ("title", "ts"),
    [
        ("Date Time, GMT+01:00", MARCH - 3600),
        ("time (UTC-5)", MARCH + 18000),
        ("Time UTC+0530", MARCH - 19800),
        ("Time (UTC)", MARCH),
    ],
)
def test_an_offset_in_the_name_of_a_time_is_its_zone(tmp_path: Path, title: str, ts: int) -> None:
    """As many loggers write it; whoever knows better says so."""
    path = tmp_path / "a.csv"
    path.write_text(f'"{title}",temperature\n2024-03-10 00:00:00,20\n', encoding="utf-8")
    _, told = look(path, "--write", "m.toml")
    assert [one[2] for one in read_file(path, "--mapping", "m.toml").events] == [str(ts)]
    says = "Are times at " if ts != MARCH else "Times name no zone"
    assert [one for one in told["unsure"] if one.startswith(says)] != []
    assert [one[2] for one in read_file(path, "--mapping", "m.toml", "--time-zone=UTC").events] == [
        str(MARCH)
    ]


@pytest.mark.parametrize(
    ("name", "columns", "says"),
    [
        ("probe_", 50, ""),
        ("probe_", 60, "10 more columns, from probe_50 on, are left out."),
        ("probe_", 700, "650 more columns, from probe_50 on, are left out."),
        ("temp_", 60, ""),
        ("temp_", 80, "18 more columns, from temp_62 on, are left out."),
    ],
)
def test_columns_that_a_proposal_has_no_room_for_are_said(
    tmp_path: Path, name: str, columns: int, says: str
) -> None:
    """Otherwise their readings would be missed by nobody."""
    path = tmp_path / "a.csv"
    head = ",".join(f"{name}{number}" for number in range(columns))
    path.write_text(f"ts,{head}\n" + f"{MARCH}{',20.5' * columns}\n" * 2, encoding="utf-8")
    _, told = look(path)
    assert [one for one in told["unsure"] if "more columns" in one and one.startswith(says)] != [] or not says
    assert says or not [one for one in told["unsure"] if "more columns" in one]


def test_which_of_several_times_is_taken_is_said(tmp_path: Path) -> None:
    """That of a gateway may be another than that of the reading."""
    path = tmp_path / "a.csv"
    path.write_text(
        "received_at,measured_at,temperature\n2024-03-10T00:00:05Z,2024-03-10T00:00:00Z,20\n",
        encoding="utf-8",
    )
    _, told = look(path)
    says = "Which is the time: received_at, measured_at? Taken: the first. Else: --map ts=COLUMN"
    assert says in told["unsure"]


def test_a_number_that_may_be_another_is_said(tmp_path: Path) -> None:
    """One with a comma and three digits behind it, where no other tells what commas are."""
    path = tmp_path / "a.csv"
    path.write_text(f"ts;press\n{MARCH};1,013\n{MARCH};1,012\n", encoding="utf-8")
    _, told = look(path)
    assert "Is 1,013 below a thousand? Taken so. Else: --decimal . --thousands ," in told["unsure"]
    path.write_text(f"ts;press\n{MARCH};1,013\n{MARCH};1,01\n", encoding="utf-8")
    _, told = look(path)
    assert [one for one in told["unsure"] if "thousand" in one] == []


@pytest.mark.parametrize(
    ("days", "form", "other"),
    [
        (("01.02.26", "02.02.26"), "day-month-year", ""),
        (("31/01/26", "01/02/26"), "day-month-year", ""),
        (("01/02/26", "02/02/26"), "day-month-year", "month-day-year"),
        (("26-02-01", "26-02-02"), "year-month-day", ""),
        (("26-02-01",), "day-month-year", "year-month-day"),
    ],
)
def test_a_year_of_two_digits_is_where_times_lie_close_together(
    tmp_path: Path, days: tuple[str, ...], form: str, other: str
) -> None:
    """If another order is as good, that is said."""
    path = tmp_path / "a.csv"
    rows = "".join(f"{day} 06:00,a,b,20\n" for day in days)
    path.write_text(f"time,device,zone,temperature\n{rows}", encoding="utf-8")
    result, told = look(path, "--write", "m.toml")
    assert result.exit_code == 0
    assert f'format = "{form}"' in Path("m.toml").read_text(encoding="utf-8")
    said = [one for one in told["unsure"] if one.startswith(f"Is {days[0]} 06:00 {form}? Taken so.")]
    assert [one.endswith(f"--time-format {other}") for one in said] == ([True] if other else [])
    first = datetime.fromtimestamp(float(told["first_events"][0]["ts"]), UTC)
    assert f"{first:%y}" == ("26" if len(days) > 1 else "01")


def test_a_columns_unit_and_how_it_is_measured_name_no_device(tmp_path: Path) -> None:
    """Only what tells two columns of one KPI apart does."""
    path = tmp_path / "shed.csv"
    path.write_text(
        "Time,Temp. in [°C],Temp. out [°C],rel. humidity [%],Luftdruck [hPa],pressure_sea_hPa\n"
        "2026-02-01T00:00Z,18.4,7.2,61,1013,1020\n",
        encoding="utf-8",
    )
    look(path, "--write", "m.toml")
    found = read_file(path, "--mapping", "m.toml")
    assert [(one[0], one[3]) for one in found.events] == [
        ("in", "temperature"),
        ("out", "temperature"),
        ("shed", "humidity"),
        ("pressure_4", "pressure"),
        ("sea", "pressure"),
    ]


def test_a_text_among_the_readings_of_a_kpi_leaves_it_one(tmp_path: Path) -> None:
    """It is refused, and asked about; a column of other texts is left as it is."""
    path = tmp_path / "a.csv"
    path.write_text(
        "time,device,zone,temperature,humidity\n"
        "2026-02-01T00:00Z,a,b,21,high\n2026-02-01T00:01Z,a,b,ERR,low\n2026-02-01T00:02Z,a,b,22,low\n",
        encoding="utf-8",
    )
    result, told = look(path)
    assert (
        "temperature has 'ERR', which is refused. If it means no reading: --missing 'ERR'" in told["unsure"]
    )
    assert result.exit_code == 1
    assert (told["account"]["lines_published"], told["account"]["lines_refused"]) == (2, 1)
    result, told = look(path, "--missing", "ERR")
    assert result.exit_code == 0
    assert not any("ERR" in one for one in told["unsure"])


@pytest.mark.parametrize("form", ["object", "whole", "lines", "listed"])
def test_lists_side_by_side_are_found(tmp_path: Path, form: str) -> None:
    """By the list of times among them."""
    lists = {"time": ["2026-02-01T00:00Z", "2026-02-01T01:00Z"], "temp": [3.2, 3.9], "hum": [88, None]}
    one = lists if form == "whole" else {"dev": "a", "site": "b", "data": lists}
    text = json.dumps([one] if form == "listed" else one) if form != "lines" else f"{json.dumps(one)}\n" * 2
    path = tmp_path / ("a.jsonl" if form == "lines" else "a.json")
    path.write_text(text, encoding="utf-8")
    assert look(path, "--write", "m.toml")[0].exit_code == 0
    found = read_file(path, "--mapping", "m.toml")
    assert [one[2:] for one in found.events[:3]] == [
        ("1769904000", "temperature", "3.2"),
        ("1769904000", "humidity", "88"),
        ("1769907600", "temperature", "3.9"),
    ]
    assert {one[0] for one in found.events} == {"a"}
    assert len(found.events) == (6 if form == "lines" else 3)


def test_an_id_that_is_another_in_each_row_is_no_device(tmp_path: Path) -> None:
    """It counts the rows, as in a table that was exported from a database."""
    path = tmp_path / "a.csv"
    path.write_text("id,ts,temp\n" + "".join(f"{at},{MARCH + at},20\n" for at in range(20)), encoding="utf-8")
    _, told = look(path)
    assert {one["device_id"] for one in told["first_events"]} == {"a"}


def test_times_are_told_with_their_order_and_gaps(tmp_path: Path) -> None:
    """Of each device and KPI by itself."""
    seconds = [0, 60, 120, 180, 240, 3840, 3900, 3840]
    path = tmp_path / "a.csv"
    path.write_text("ts,temp\n" + "".join(f"{MARCH + one},20\n" for one in seconds), encoding="utf-8")
    _, told = look(path)
    times = told["times"]
    assert (times["earliest"], times["latest"]) == (MARCH, MARCH + 3900)
    assert (times["usual_step_s"], times["gaps"], times["back"]) == (60, 1, 1)
    assert (times["longest_gap_s"], times["longest_gap_after"]) == (3600, MARCH + 240)
    shown = telemetry("inspect", str(path)).stdout
    assert "one gap; the longest is 1 h, after 2024-03-10 00:04:00" in shown


def test_values_out_of_range_are_told_as_dead_letters(tmp_path: Path) -> None:
    """They are no refusal: the lines can be read."""
    path = tmp_path / "a.csv"
    path.write_text(f"ts,temp\n{MARCH},20\n{MARCH},-999\n{MARCH},900\n", encoding="utf-8")
    result, told = look(path)
    assert result.exit_code == 0
    assert told["values"]["temperature"]["dead_letters"] == {"value_negative": 1, "value_out_of_range": 1}
    result, told = look(path, "--missing", "-999")
    assert told["values"]["temperature"]["dead_letters"] == {"value_out_of_range": 1}


def test_what_is_given_stays_and_the_rest_is_proposed() -> None:
    """An answer to what was asked is an option."""
    options = ["--value", "field1=temperature", "--value", "field2=humidity", "--const", "zone=lab"]
    result, told = look(INPUTS / "thingspeak.csv", *options)
    assert result.exit_code == 0
    assert [one["kpi"] for one in told["first_events"]] == ["temperature", "humidity", "temperature"]
    assert {one["zone"] for one in told["first_events"]} == {"lab"}
    assert [one for one in told["unsure"] if "KPI" in one or "zone" in one] == []
    options = ["--time-format", "month-day-year", "--time-zone", "Europe/Rome"]
    _, told = look(INPUTS / "date_and_time.csv", *options)
    assert told["first_events"][0]["ts"] == "1727971200"  # 3 October, 18:00 by Rome's clocks
    assert [one for one in told["unsure"] if one.startswith(("Is 10", "Times"))] == []


def test_a_mapping_is_tried_as_it_is() -> None:
    """Nothing is proposed beside it, so a change is seen for what it does."""
    path = INPUTS / "semicolon_decimalcomma.csv"
    look(path, "--write", "m.toml")
    text = Path("m.toml").read_text(encoding="utf-8")
    assert 'decimal = ","' in text
    Path("m.toml").write_text(text.replace('decimal = ","\n', ""), encoding="utf-8")
    result, told = look(path, "--mapping", "m.toml")
    assert (result.exit_code, told["account"]["lines_refused"], told["unsure"]) == (1, 5, [])
    result, told = look(path, "--mapping", "m.toml", "--decimal", ",")
    assert (result.exit_code, told["account"]["lines_published"]) == (0, 5)


def test_only_the_mapping_is_written_and_never_over_a_file() -> None:
    """Not even where it is a link."""
    telemetry("inspect", str(INPUTS / "wide.csv"), "--write", "m.toml")
    assert [path.name for path in Path.cwd().iterdir()] == ["m.toml"]
    before = Path("m.toml").read_bytes()
    Path("link.toml").symlink_to("nowhere")
    for name in ("m.toml", "link.toml"):
        result = telemetry("inspect", str(INPUTS / "tab.tsv"), "--write", name)
        assert is_refusal(result, 2)
        assert f"{name}: it is there already" in result.stderr
    assert Path("m.toml").read_bytes() == before
    assert not Path("nowhere").exists()


def test_the_beginning_of_a_large_file_is_looked_at_or_with_all_the_whole(tmp_path: Path) -> None:
    """What is wrong at its end is seen by --all alone; the cut line is no refusal."""
    path = tmp_path / "a.csv"
    rows = "".join(f"{MARCH + at},probe-{at % 10},hall,temperature,20.5\n" for at in range(60_000))
    path.write_text(f"ts,device_id,zone,kpi,value\n{rows}x\n", encoding="utf-8")
    result, told = look(path)
    assert (result.exit_code, told["is_whole"], told["account"]["lines_refused"]) == (0, False, 0)
    assert 10_000 < told["account"]["lines"] < 60_000
    result, told = look(path, "--all")
    assert (result.exit_code, told["is_whole"]) == (1, True)
    assert told["account"]["lines_published"] == 60_000
    assert [one["line"] for one in told["first_refused"]] == [60_002]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", 2),
        (b"\n\n\n", 2),
        (b"x" * 5_000_000, 2),
        (b'"' * 3_000_000, 2),
        (b"ts,value\n" + b'1710028800,"x\n' * 20_000, 1),
        (b"ts,value\n1710028800," + b"9" * 3_000_000, 1),
        (b"," * 60_000 + b"\n1710028800" + b"," * 60_000, 2),
        (b"[" * 1_000_000, 1),
        (b'{"a":' * 300_000, 1),
        (b'{"ts":1}{"ts":2}' * 1000, 1),
        (bytes(range(256)) * 4000, 2),
        (b"\x1f\x8b" + bytes(100), 2),
        (gzip.compress(bytes(200_000_000)), 2),
        (b"PK\x03\x04" + bytes(1000), 2),
        (b"\x1b[2J\x1b]0;x\x07,b\n\x1b[31m,1\n", 2),
    ],
    ids=[
        "empty", "blank", "one endless line", "quotes", "unclosed quotes", "an endless number",
        "many columns",
        "brackets", "braces", "objects in a line", "any bytes", "no gzip", "a bomb", "a zip", "escapes",
    ],
)  # fmt: skip
@pytest.mark.parametrize("options", [(), ("--all",)], ids=["beginning", "all"])
def test_hostile_files_cost_little_and_move_no_cursor(
    tmp_path: Path, data: bytes, code: int, options: tuple[str, ...]
) -> None:
    """They are told apart by the exit code; there is no traceback."""
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    began = time.monotonic()
    result = telemetry("inspect", str(path), *options)
    assert time.monotonic() - began < 30
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code
    assert (result.stdout + result.stderr).replace("\n", "").isprintable()
    assert max(map(len, result.stdout.splitlines()), default=0) <= 80


@pytest.mark.parametrize(
    "path", sorted([*INPUTS.iterdir(), *EXAMPLES.glob("*.*")]), ids=lambda path: path.name
)
def test_all_that_is_shown_fits_on_a_screen(path: Path) -> None:
    """Lines of 80 columns at most, and no mark of the file's that a terminal obeys."""
    result = telemetry("inspect", str(path))
    assert max(map(len, result.stdout.splitlines()), default=0) <= 80
    assert result.stdout.replace("\n", "").isprintable()


def test_wide_letters_and_escapes_have_their_room(tmp_path: Path) -> None:
    """Names of columns in Japanese, and one that would clear the screen."""
    path = tmp_path / "a.csv"
    path.write_text(
        f"ts,温度センサーの値段と場所の名前を書く,\x1b[2J,temp\n{MARCH},温度,b,20\n", encoding="utf-8"
    )
    result = telemetry("inspect", str(path))
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert r"\x1b[2J" in result.stdout
    for line in result.stdout.splitlines():
        assert len(line) + sum(ord(one) > 0x2E80 for one in line) <= 80


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["no-such-file"], "No such file"),
        (["."], "Is a directory"),
        (["{wide}", "--mapping", "absent.toml"], "absent.toml: no such file"),
        (["{wide}", "--time-zone", "Mars/Base"], "no such time zone"),
        (["{wide}", "--map", "device_id=nothing"], "no column for device_id"),
        (["{wide}", "--write", "no/folder/m.toml"], "No such file or directory"),
    ],
)
def test_what_cant_be_done_is_told_in_a_line(arguments: list[str], told: str) -> None:
    """Exit code 2, and nothing on standard output."""
    result = telemetry("inspect", *(one.format(wide=INPUTS / "wide.csv") for one in arguments))
    assert is_refusal(result, 2)
    assert told in result.stderr


def test_a_pipe_that_nobody_writes_to_ends_the_looking(tmp_path: Path) -> None:
    """It is not waited for without an end."""
    os.mkfifo(tmp_path / "pipe")
    result = telemetry("inspect", str(tmp_path / "pipe"))
    assert is_refusal(result, 2)
    assert "there is nothing in it" in result.stderr


def test_reasons_and_layout_are_not_cut(tmp_path: Path) -> None:
    """However long: they go on in another line of at most 80 columns."""
    path = tmp_path / "a_logger_with_a_rather_long_name_of_its_own.csv"
    path.write_text(
        "device_id;zone;ts;temperature\na;b;1710028800;-1,5\na;b;1710028801;1660,5\na;b;1710028802;17,5\n",
        encoding="utf-8",
    )
    shown = telemetry("inspect", str(path)).stdout
    assert "decimal comma" in " ".join(shown.split())
    assert "    dead letters: 1 value_negative, 1 value_out_of_range\n" in shown
    assert max(map(len, shown.splitlines())) <= 80
