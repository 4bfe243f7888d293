"""Files as loggers and other programs write them: each is stored rightly, or refused line by line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from reading_files import read_file

from services.producer.files.decode import SourceUnusable

INPUTS = Path(__file__).parents[3] / "inputs"
PLACE = ("--const", "device_id=d", "--const", "zone=z")
CONSTANTS = (*PLACE, "--const", "kpi=temperature")
FIVE = [(f"probe-{n}", "hall", str(1710028800 + 3600 * n), "temperature", f"20.{n}") for n in range(1, 6)]
"""What most of the inputs hold, each in its own shape."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _map(*pairs: str) -> list[str]:
    return [part for pair in pairs for part in ("--map", pair)]


def _values(*pairs: str) -> list[str]:
    return [part for pair in pairs for part in ("--value", pair)]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("comma_in_header.csv", ["--map", "value=Temp, °C (S/N: 9911)"]),
        ("comments.csv", ["--comment", "#"]),
        ("cr.csv", []),
        ("dup_header.csv", []),
        ("headerless.csv", ["--no-header", "--columns", "ts,device_id,zone,kpi,value"]),
        ("headerless.csv", ["--no-header", *_map("ts=#1", "device_id=#2", "zone=#3", "kpi=#4", "value=#5")]),
        ("latin1_header.csv", ["--encoding", "latin-1", "--map", "value=Temp °C"]),
        ("plain.csv.gz", []),
        ("preamble.csv", ["--skip-lines", "1"]),
        ("semicolon_decimalcomma.csv", ["--decimal", ","]),
        ("sep_line.csv", []),
        ("space_after_comma.csv", []),
        ("space_in_values.csv", []),
        ("tab.tsv", []),
        ("trailing_comma_rows_only.csv", []),
        ("trailing_commas.csv", []),
        ("units_row.csv", ["--skip-after-header", "1"]),
        ("upper_header.csv", []),
        ("utf16.csv", []),
    ],
)
def test_the_same_readings_are_read_out_of_every_layout(name: str, options: list[str]) -> None:
    """Marks, encodings, headers, lines around them: nothing is refused, and every line is accounted for."""
    found = read_file(INPUTS / name, *options)
    assert found.events == FIVE
    assert found.refused == []
    assert found.failures == []
    assert found.account.published == 5


@pytest.mark.parametrize(
    ("name", "options", "events"),
    [
        (
            "wide.csv",
            [
                *_map("ts=time"),
                *_values("temp_a=temperature,device_id=a", "temp_b=temperature,device_id=b"),
                *_values("hum_a=humidity,device_id=a"),
                *("--const", "zone=z"),
            ],
            [
                ("a", "z", "1710028800", "temperature", "21.4"),
                ("b", "z", "1710028800", "temperature", "19.2"),
                ("a", "z", "1710028800", "humidity", "48"),
                ("a", "z", "1710028860", "temperature", "21.5"),
                ("b", "z", "1710028860", "temperature", "19.3"),
                ("a", "z", "1710028860", "humidity", "49"),
            ],
        ),
        (
            "date_and_time.csv",
            [
                *("--time-column", "Date", "--time-column", "Time", "--time-format", "day-month-year"),
                *("--decimal", ",", "--map", "value=T", "--time-zone", "Europe/Rome", *CONSTANTS),
            ],
            [("d", "z", "1710090000", "temperature", "13.6")],
        ),
        (
            "date_parts.csv",
            [
                *(f"--time-column={part}" for part in ("year", "month", "day", "hour")),
                *("--time-format", "year-month-day", "--map", "value=temp", *CONSTANTS),
            ],
            [("d", "z", "1710028800", "temperature", "21"), ("d", "z", "1710032400", "temperature", "-4")],
        ),
        (
            "skiprows.csv",
            ["--skip-lines", "2", *_map("ts=time", "value=status"), *CONSTANTS],
            [("d", "z", "1710022767", "temperature", "21"), ("d", "z", "1710040984", "temperature", "22")],
        ),
        (
            "thingspeak.csv",
            [*_map("ts=created_at"), *_values("field1=temperature", "field2=humidity"), *PLACE],
            [
                ("d", "z", "1710107183", "temperature", "21.4"),
                ("d", "z", "1710107183", "humidity", "48"),
                ("d", "z", "1710107199", "temperature", "21.6"),
            ],
        ),
        (
            "timescale.csv",
            [
                *("--no-header", "--columns", "time,device,temp,hum", *_map("ts=time", "device_id=device")),
                *(*_values("temp=temperature"), "--const", "zone=z"),
            ],
            [
                ("weather-pro-000000", "z", "1710072000", "temperature", "51.9"),
                ("weather-pro-000001", "z", "1710072000", "temperature", "52.0"),
            ],
        ),
        (
            "latin1_row.csv",
            ["--encoding", "latin-1"],
            [("Fühler", "hall", ts, kpi, value) for _, _, ts, kpi, value in FIVE],
        ),
        ("quote_space.csv", CONSTANTS, [("d", "z", "1710032400", "temperature", "21")]),
        (
            "ms_exp.csv",
            ["--ts-unit", "ms", *CONSTANTS],
            [("d", "z", "1663846236.123", "temperature", "21.5")],
        ),
        (
            "decimals.csv",
            CONSTANTS,
            [
                ("d", "z", "1551129661.95456123352050781250", "temperature", "21.5"),
                ("d", "z", "1551129662.14344882965087890625", "temperature", "21.6"),
                ("d", "z", "1551575237.1385763", "temperature", "21.7"),
            ],
        ),
        (
            "kpinames.csv",
            PLACE,
            [("d", "z", "1710032400", "temperature", "21")] * 3 + [("d", "z", "1710032400", "PM2.5", "11")],
        ),
        (
            "array_oneline.json",
            [],
            [(f"p{n}", "hall", str(1710028800 + 3600 * n), "temperature", f"20.{n}") for n in (1, 2)],
        ),
        (
            "array_pretty.json",
            [],
            [(f"p{n}", "hall", str(1710028800 + 3600 * n), "temperature", f"20.{n}") for n in (1, 2)],
        ),
        (
            "flat.csv",
            [],
            [(f"p{n}", "hall", str(1710028800 + 3600 * n), "temperature", f"20.{n}") for n in (1, 2, 3)],
        ),
        (
            "telegraf.jsonl",
            [
                *_map("device_id=tags.host", "zone=tags.room", "ts=timestamp"),
                *_values("fields.temperature=temperature", "fields.humidity=humidity"),
            ],
            [
                ("pi-7", "attic", "1710028800", "temperature", "21.4"),
                ("pi-7", "attic", "1710028800", "humidity", "48.1"),
                ("pi-7", "attic", "1710028810", "temperature", "21.6"),
                ("pi-7", "attic", "1710028810", "humidity", "47.9"),
            ],
        ),
        (
            "thingsboard.jsonl",
            ["--ts-unit", "ms", *_values("values.temperature=temperature"), *PLACE],
            [
                ("d", "z", "1710028800.512", "temperature", "21.4"),
                ("d", "z", "1710028810.512", "temperature", "21.5"),
            ],
        ),
        (
            "ttn.jsonl",
            [
                *_map("device_id=end_device_ids.device_id", "ts=received_at"),
                *_map("zone=end_device_ids.application_ids.application_id"),
                *_values("uplink_message.decoded_payload.humidity=humidity"),
            ],
            [("eui-7", "barn", "1710028801.828332", "humidity", "48")],
        ),
        (
            "prom.json",
            [
                *("--readings", "data.result[].values[]", "--const", "kpi=temperature"),
                *_map("ts=[0]", "value=[1]", "device_id=metric.room", "zone=metric.__name__"),
            ],
            [
                ("attic", "room_temp", "1710028800.781", "temperature", "21.4"),
                ("attic", "room_temp", "1710028815.781", "temperature", "21.6"),
            ],
        ),
        (
            "senml.json",
            ["--format", "senml", "--const", "zone=z"],
            [
                ("urn:dev:ow:10e2073a01080063:", "z", "1710028800", "temperature", "21.4"),
                ("urn:dev:ow:10e2073a01080063:", "z", "1710028810", "temperature", "21.6"),
                ("urn:dev:ow:10e2073a01080063:", "z", "1710028800", "humidity", "48.1"),
            ],
        ),
        (
            "lineprotocol.lp",
            _map("device_id=location", "zone=measurement"),
            [
                ("attic", "weather", "1710028800", "temperature", "21.4"),
                ("attic", "weather", "1710028800", "humidity", "48"),
                ("attic", "weather", "1710028810", "temperature", "21.6"),
            ],
        ),
        (
            "rtl433.jsonl",
            [*_map("device_id=id", "zone=model", "ts=time"), *_values("temperature_C=temperature")],
            [
                ("23", "Make-TH1", "1710095013", "temperature", "5.300"),
                ("23", "Make-TH1", "1710095014", "temperature", "-2.000"),
            ],
        ),
        ("nan_other.jsonl", CONSTANTS, [("d", "z", "1710032400", "temperature", "21.5")] * 3),
    ],
)
def test_every_reading_is_the_one_that_was_written(
    name: str, options: list[str], events: list[tuple[str, ...]]
) -> None:
    """Columns, times, units, nesting: as each source has them; and nothing is refused."""
    found = read_file(INPUTS / name, *options)
    assert found.events == events
    assert found.refused == []
    assert found.failures == []


@pytest.mark.parametrize(
    ("name", "options", "stored", "refused"),
    [
        ("ditto_marks.csv", CONSTANTS, "21 23 24 25 26 27 29", {3: "never closed", 9: "never closed"}),
        ("two_unbalanced_quotes.csv", CONSTANTS, "21 23 24 25 26 27 29", {3: "never", 9: "never"}),
        ("backslash.csv", CONSTANTS, "22", {2: "not CSV"}),
        ("latin1_row.csv", [], "", dict.fromkeys(range(2, 7), "--encoding latin-1?")),
        ("ms_exp.csv", CONSTANTS, "", {2: "it looks like ms (--ts-unit ms)"}),
        ("unit.csv", CONSTANTS, "21.5 21.5 21.5 21.5", {6: "looks like ms", 7: "looks like ms"}),
        (
            "ha_mixed.csv",
            [*_map("ts=last_changed", "value=state"), *CONSTANTS],
            "21.4 48.2",
            {4: "value 'off' is no number"},
        ),
        ("units_row.csv", [], "20.1 20.2 20.3 20.4 20.5", {2: "'UTC' is neither ISO 8601"}),
        (
            "values.csv",
            [],
            "21.5 21.5 0.5 5 0.0 0 -3.2 21.5 21.5 1e1 2.15E+01 21.5 22.1",
            dict.fromkeys((11, 21, 25, 26, 27, 29, 30, 31), "is no number"),
        ),
    ],
)
def test_what_cant_be_stored_is_refused_line_by_line(
    name: str, options: list[str], stored: str, refused: dict[int, str]
) -> None:
    """Each with its number and the reason, which names what would help; the lines around it are stored."""
    found = read_file(INPUTS / name, *options)
    assert [line for line, _ in found.refused] == list(refused)
    for line, reason in found.refused:
        assert refused[line] in reason
    assert sorted(event[4] for event in found.events) == sorted(stored.split())
    assert found.account.refused == len(refused)
    assert found.failures != []


@pytest.mark.parametrize(
    ("header", "row", "reason"),
    [
        (
            "ts,value,",
            "1710028800,21,5",
            "'5' is in column #3, which has no name: if '21,5' is one number, quote it",
        ),
        ("ts,value, ,", "1710028800,21,5,", "'5' is in column #3"),
        ("ts,value,", "1710028800,21,5,", "'5' is in column #3"),
        (
            "ts,value,note,",
            "1710028800,21,5,fine",
            "'fine' is in column #4, which has no name: name all columns",
        ),
        ("value,ts,", "21,5,1710028800", "'1710028800' is in column #3"),
        (
            "ts;value;",
            "1710028800;21;5",
            "'5' is in column #3, which has no name: name all columns (--columns)",
        ),
        ("ts,value", "1710028800,21,5", "3 columns, and the header has 2"),
    ],
)
def test_a_value_behind_the_columns_that_have_a_name_is_refused(
    tmp_path: Path, header: str, row: str, reason: str
) -> None:
    """It moves the others: a decimal comma without quotes would store 21 for 21.5."""
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n{row}\n", encoding="utf-8")
    found = read_file(path, *CONSTANTS)
    assert found.events == []
    ((line, why),) = found.refused
    assert (line, why[: len(reason)]) == (2, reason)
    assert found.failures != []


@pytest.mark.parametrize(
    ("text", "options", "value"),
    [
        ("ts,value,\n1710028800,21,\n", [], "21"),
        ("ts,value,,\n1710028800,21, ,\n", [], "21"),
        ('ts,value,\n1710028800,"21,5",\n', ["--decimal", ","], "21.5"),
        (",ts,value\n0,1710028800,21\n", [], "21"),
        ("ts,,value\n1710028800,x,21\n", [], "21"),
        ("ts,value,\n1710028800,x,21\n", ["--map", "value=#3"], "21"),
        ("ts,value,\n1710028800,21,5\n", ["--keep", "#3"], "21"),
        (
            "ts,value,\n1710028800,21,5\n",
            ["--columns", "ts,value,other", "--skip-lines", "1", "--no-header"],
            "21",
        ),
    ],
)
def test_a_column_without_a_name_may_be_empty_or_stand_before_others_or_be_taken_by_its_number(
    tmp_path: Path, text: str, options: list[str], value: str
) -> None:
    """As writers that end each line with a delimiter have it, and those that number rows."""
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    found = read_file(path, *CONSTANTS, *options)
    assert [event[4] for event in found.events] == [value]
    assert found.refused == []


def test_no_time_of_many_forms_is_stored_wrong() -> None:
    """All of them were written for the same spring; one that can't be told for certain is refused."""
    found = read_file(INPUTS / "times.csv")
    assert found.account.published + found.account.refused == 56
    day = 1710028800
    for device, _, ts, _, _ in found.events:
        if device.startswith(("t22", "t34", "t38")):
            continue  # ten digits, as seconds of 2034 and 2090: for the consumer; and a leap second
        assert abs(float(ts) - day) < 40 * 86_400, device
    assert found.account.published >= 30


def test_quotes_that_are_never_closed_cost_their_own_lines(tmp_path: Path) -> None:
    """However many, and however far apart; and a quoted cell of several lines is one reading."""
    stray = '"5 inch'
    rows = [f"{1710028800 + n},{n},{stray if n % 7 == 3 else 'ok'}\n" for n in range(500)]
    rows += [f'{1710028800 + n},{n},"two\nlines, of text"\n' for n in range(500, 600)]
    path = tmp_path / "a.csv"
    path.write_text("ts,value,note\n" + "".join(rows), encoding="utf-8")
    found = read_file(path, *CONSTANTS[:4], "--const", "kpi=pressure")
    bad = [n for n in range(500) if n % 7 == 3]
    assert [line for line, _ in found.refused] == [n + 2 for n in bad]
    assert [int(event[4]) for event in found.events] == [n for n in range(600) if n not in bad]
    assert found.account.lines == 1 + 500 + 200


def test_a_bad_cell_costs_itself_and_an_empty_one_nothing(tmp_path: Path) -> None:
    """Of a line with several readings."""
    path = tmp_path / "wide.csv"
    path.write_text("ts,a,b\n1710028800,1,x\n1710028801,,2\n1710028802,,NA\n1710028803,y,z\n", "utf-8")
    found = read_file(path, *_values("a=temperature", "b=humidity"), *PLACE)
    assert [event[3:] for event in found.events] == [("temperature", "1"), ("humidity", "2")]
    assert [line for line, _ in found.refused] == [2, 5, 5]
    assert "'b': value 'x'" in found.refused[0][1]
    account = found.account
    assert (account.published, account.refused, account.left_out) == (2, 1, {"header": 1, "missing": 1})
    assert (account.refused_readings, account.missing_readings) == (1, 1)


@pytest.mark.parametrize("kind", ["csv", "gz", "utf-16", "array", "documents", "lines", "wide"])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_read_on_from_any_batch_the_rest_comes_and_nothing_twice(
    tmp_path: Path, kind: str, size: int
) -> None:
    """Whatever the file is packed in; and the numbers of lines are those of the file."""
    record = '{{"ts": {ts}, "device_id": "d", "zone": "z", "kpi": "humidity", "value": {n}}}'
    options: list[str] = []
    if kind in {"array", "documents", "lines"}:
        texts = [record.format(ts=1710028800 + n, n=n if n % 5 else '"x"') for n in range(20)]
        joined = ",\n\n".join(texts) if kind == "array" else "\n".join(texts)
        data = f"[{joined}]".encode() if kind == "array" else joined.encode()
        options = ["--format", "json"] if kind == "documents" else []
    elif kind == "wide":
        data = b"ts,a,b\n" + b"".join(b"%d,%d,%d\n" % (1710028800 + n, n, n + 50) for n in range(20))
        options = [*_values("a=humidity", "b=temperature"), *PLACE]
    else:
        rows = [f"{1710028800 + n},d,z,humidity,{n if n % 5 else 'x'}\n" for n in range(20)]
        data = ("ts,device_id,zone,kpi,value\n" + "".join(rows)).encode()
    path = tmp_path / ("a.csv.gz" if kind == "gz" else "a.txt")
    path.write_bytes(
        gzip.compress(data) if kind == "gz" else data.decode().encode(kind) if kind == "utf-16" else data
    )
    whole = read_file(path, *options, size=size)
    assert len(whole.events) == (40 if kind == "wide" else 16)
    for position, count in whole.positions:
        rest = read_file(path, *options, start=(position.offset, position.line), size=size)
        assert rest.events == whole.events[count:]
        assert rest.refused == [one for one in whole.refused if one[0] > position.line]
    assert whole.positions[-1][0].is_done


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"PK\x03\x04" + b"x" * 60, "spreadsheet"),
        (b"PAR1" + b"x" * 9, "Parquet"),
        (b"SQLite format 3\0", "data"),
        (b'<?xml version="1.0"?>\n<data><r t="1">2</r></data>\n', "XML or a web page"),
        (b"\xef\xbb\xbf<data><r t='1'>2</r></data>\n", "XML or a web page"),
        (b"\n<!DOCTYPE html><title>404</title>\n", "XML or a web page"),
        (bytes(range(256)) * 8, "no text"),
        (gzip.compress(bytes(range(256)) * 8), "no text"),
    ],
)
def test_what_is_no_text_is_refused_by_its_name(tmp_path: Path, data: bytes, what: str) -> None:
    """And what to do about it."""
    path = tmp_path / "a.dat"
    path.write_bytes(data)
    with pytest.raises(SourceUnusable, match=what):
        read_file(path)


@pytest.mark.parametrize(
    "data",
    [
        b"<ts>,<device_id>,<zone>,<kpi>,<value>\n1769904000,a,b,temperature,4\n",
        b"ts,device_id,zone,kpi,value\n" + b"\0" * 40 + b"\n" + b"1769904000,a,b,temperature,4\n" * 40,
    ],
)
def test_what_only_looks_like_another_kind_is_read(tmp_path: Path, data: bytes) -> None:
    """Names in angle brackets, and what a logger leaves whose power went away."""
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    names = ("ts", "device_id", "zone", "kpi", "value")
    maps = [f"{name}=<{name}>" for name in names] if data.startswith(b"<") else []
    found = read_file(path, *[part for one in maps for part in ("--map", one)])
    assert found.events[0] == ("a", "b", "1769904000", "temperature", "4")


SIDE_BY_SIDE = {
    "latitude": 52.5,
    "hourly_units": {"temperature_2m": "°C"},
    "hourly": {
        "time": ["2026-02-01T00:00", "2026-02-01T01:00", "2026-02-01T02:00"],
        "temperature_2m": [3.2, None, 2.9],
        "relative_humidity_2m": [88, 89, "broken"],
        "station": "roof",
    },
}


@pytest.mark.parametrize("form", ["json", "lines", "listed"])
def test_lists_side_by_side_are_a_reading_for_each_place(tmp_path: Path, form: str) -> None:
    """A place without a value costs itself; what stands beside the lists is of each."""
    path = tmp_path / ("a.jsonl" if form == "lines" else "a.json")
    path.write_text(
        json.dumps(
            [SIDE_BY_SIDE] if form == "listed" else SIDE_BY_SIDE, indent=None if form == "lines" else 1
        ),
        encoding="utf-8",
    )
    found = read_file(
        path,
        *("--format", "jsonl" if form == "lines" else "json"),
        *("--readings", "[].hourly{}" if form == "listed" else "hourly{}"),
        *("--map", "ts=time", "--map", "device_id=station", "--map", "zone=latitude"),
        *_values("temperature_2m=temperature", "relative_humidity_2m=humidity"),
    )
    assert found.events == [
        ("roof", "52.5", "1769904000", "temperature", "3.2"),
        ("roof", "52.5", "1769904000", "humidity", "88"),
        ("roof", "52.5", "1769907600", "humidity", "89"),
        ("roof", "52.5", "1769911200", "temperature", "2.9"),
    ]


@pytest.mark.parametrize(
    ("hourly", "why"),
    [
        ({"time": [1, 2], "temperature_2m": [3]}, "its lists have 1 to 2 readings"),
        ({"time": 1}, "an object without lists"),
        ([1, 2], "not an object of lists but "),
        ({"time": [1] * 10_001, "temperature_2m": [1] * 10_001}, "more than 10000 readings in it"),
    ],
    ids=["uneven", "none", "a list", "too many"],
)
def test_lists_that_do_not_belong_together_are_refused(tmp_path: Path, hourly: Any, why: str) -> None:
    """Which value belongs to which time is not guessed."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"hourly": hourly}) + "\n", encoding="utf-8")
    found = read_file(
        path,
        *("--readings", "hourly{}", "--map", "ts=time", "--const", "device_id=a", "--const", "zone=b"),
        *("--earliest-time", "1970-01-01", *_values("temperature_2m=temperature")),
    )
    assert found.events == []
    ((line, reason),) = [(one[0], one[1]) for one in found.refused]
    assert line == 1
    assert why in reason


def test_every_missing_column_of_a_header_is_named_at_once(tmp_path: Path) -> None:
    """Fields, columns of the time, columns of values."""
    path = tmp_path / "a.csv"
    path.write_text("a,b,b\n1,2,3\n", encoding="utf-8")
    with pytest.raises(SourceUnusable) as error:
        read_file(path, *_values("b=humidity", "c=humidity"), "--time-column", "day")
    text = str(error.value)
    for part in ("b is there 2 times", "#2", "no column for device_id, zone", "day, c"):
        assert part in text


def test_a_day_without_its_clock_is_no_midnight(tmp_path: Path) -> None:
    """Where two columns are the time, an empty one leaves it unknown."""
    path = tmp_path / "a.csv"
    path.write_text("day,clock,value\n2024-03-10,13:00,20\n2024-03-10,,21\n,,22\n", encoding="utf-8")
    found = read_file(path, "--time-column=day", "--time-column=clock", *CONSTANTS)
    assert [one[2:] for one in found.events] == [("1710075600", "temperature", "20")]
    assert [line for line, _ in found.refused] == [3, 4]
    assert found.refused[0][1] == "'clock' is empty, and a part of the time"


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_a_column_called_unit_says_what_values_are_measured_in(tmp_path: Path, name: str) -> None:
    """As it does by HTTP: no mapping is needed where the value stands in a column of our name."""
    rows = [
        {"device_id": "d", "zone": "z", "ts": "1710028800", "kpi": kpi, "value": value, "unit": unit}
        for kpi, value, unit in (
            *(("temperature", "71.6", "°F"), ("temperature", "22", "°C"), ("temperature", "23", "")),
            *(("temperature", "24", "furlong"), ("power", "5", "W")),
        )
    ]
    path = tmp_path / name
    if name == "a.csv":
        text = "".join(f"{','.join(row.values())}\n" for row in rows)
        path.write_text(f"device_id,zone,ts,kpi,value,Unit\n{text}", encoding="utf-8")
    elif name == "a.jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    else:
        path.write_text(json.dumps(rows), encoding="utf-8")
    found = read_file(path)
    assert [one[3:] for one in found.events] == [
        ("temperature", "22.0"),
        ("temperature", "22"),
        ("temperature", "23"),
        ("power", "5"),
    ]
    assert ["unit 'furlong' is none of temperature" in reason for _, reason in found.refused] == [True]
    own = read_file(path, "--map", f"zone={'Unit' if name == 'a.csv' else 'unit'}")
    assert [one[1] for one in own.events if one[4] == "24"] == ["furlong"]


HEADER = "device_id,zone,ts,kpi,value\n"


def test_a_header_between_rows_is_that_of_a_file_behind_another(tmp_path: Path) -> None:
    """With a mark before it or none, and so may rows have one; nothing of it is refused, or in a name."""
    path = tmp_path / "a.csv"
    row = "d,z,1710028800,temperature,20\n"
    path.write_text(f"\ufeff{HEADER}{row}\ufeff{HEADER}{row}{HEADER.upper()}\ufeff{row}", encoding="utf-8")
    found = read_file(path)
    assert found.events == [("d", "z", "1710028800", "temperature", "20")] * 3
    assert (found.refused, found.account.left_out["header"]) == ([], 3)
    lines = tmp_path / "a.jsonl"
    event = dict(zip(HEADER.strip().split(","), row.strip().split(","), strict=True))
    lines.write_text(f"\ufeff{json.dumps(event)}\n" * 2, encoding="utf-8")
    assert read_file(lines).events == found.events[:2]


@pytest.mark.parametrize(
    ("header", "options"),
    [
        ("zone,device_id,ts,kpi,value", ()),
        ("ts,kpi,value,device_id,zone", ()),
        ("device,place,ts,name,reading", ()),
    ],
)
def test_what_stands_behind_another_header_is_not_read(
    tmp_path: Path, header: str, options: tuple[str, ...]
) -> None:
    """Its columns are others: a value would be taken for what it is not. What is before it is published."""
    path = tmp_path / "a.csv"
    row = "d,z,1710028800,temperature,20\n"
    path.write_text(f"{HEADER}{row}{header}\n{row}{row}", encoding="utf-8")
    found = read_file(path, *options)
    assert len(found.events) == 1
    assert found.positions[-1][0].line == 2
    assert not found.positions[-1][0].is_done
    assert [one for one in found.failures if f"a.csv:3: another header: {header.replace(',', ', ')}" in one]


def test_columns_of_readings_that_change_places_are_not_mixed_up(tmp_path: Path) -> None:
    """A logger writes its header anew when a sensor is added, or takes the place of another."""
    path = tmp_path / "a.csv"
    options = ("--value", "temp=temperature", "--value", "hum=humidity", *PLACE)
    for second in ("ts,hum,temp", "ts,hum,co2"):
        path.write_text(f"ts,temp,hum\n1710028800,20,40\n{second}\n1710028860,41,21\n", encoding="utf-8")
        found = read_file(path, *options)
        assert [one[2:] for one in found.events] == [
            ("1710028800", "temperature", "20"),
            ("1710028800", "humidity", "40"),
        ]
        assert "another header" in found.failures[-1]


def test_a_row_with_a_word_in_it_is_no_header(tmp_path: Path) -> None:
    """It is refused, and the rows behind it are read."""
    path = tmp_path / "a.csv"
    rows = "d,z,1710028800,temperature,value\nd,z,Total,temperature,20\nzone,z,1710028801,temperature,21\n"
    path.write_text(f"{HEADER}{rows}", encoding="utf-8")
    found = read_file(path)
    assert [one[0] for one in found.events] == ["zone"]
    assert [line for line, _ in found.refused] == [2, 3]
