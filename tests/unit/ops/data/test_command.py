"""`telemetry events` and `telemetry summary`."""

import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console
from samples import id_of, row
from telemetry_cli import is_refusal, json_lines, store, telemetry

from services.ops.data.command import _summary_parts
from services.ops.output.terminal import Terminal
from services.stores.rows import GroupName


def test_events_are_listed_newest_first() -> None:
    """Aligned lines under a heading, with units."""
    store([row(1), row(2, kpi="temperature", value=81.5, is_degraded=True)])
    lines = telemetry("events").stdout.splitlines()
    assert lines[0].split() == ["TIME", "DEVICE", "ZONE", "KPI", "VALUE", "UNIT", "DEGRADED", "EVENT", "ID"]
    assert lines[1].split() == [
        "2023-11-14T22:13:20.500Z", "device-2", "zone-1", "temperature", "81.5", "°C", "yes", id_of(2),
    ]  # fmt: skip
    assert lines[2].endswith(id_of(1))


def test_events_in_json_are_the_rows() -> None:
    """One object a line, with numbers and truth values."""
    store([row(1)], stored_at=1.5)
    assert json_lines(telemetry("events", "--json")) == [
        {
            "event_id": id_of(1),
            "device_id": "device-1",
            "zone": "zone-1",
            "ts": 1_700_000_000.5,
            "kpi": "humidity",
            "value": 42.25,
            "is_degraded": False,
            "stored_at": 1.5,
            "unit": "%",
            "attributes": {},
        }
    ]


def test_attributes_have_a_column_where_there_are_any() -> None:
    """By name, after everything else."""
    store([row(1), row(2, attributes='{"status":"ok","firmware":"1.2"}')])
    lines = telemetry("events").stdout.splitlines()
    assert lines[0].endswith("EVENT ID                              ATTRIBUTES")
    assert lines[1].endswith(f"{id_of(2)}  firmware=1.2 status=ok")
    assert lines[2].endswith(id_of(1))
    assert json_lines(telemetry("events", "--json"))[0]["attributes"] == {"status": "ok", "firmware": "1.2"}


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        (["--device", "device-1"], [1]),
        (["--id", id_of(2)], [2]),
        (["--id", id_of(9)], []),
        (["--zone", "zone-2", "--kpi", "pressure"], [2]),
        (["--degraded"], [3]),
        (["--healthy", "--limit", "1"], [2]),
        (["--limit", "0"], [3, 2, 1]),
        (["--since", "2023-11-14T22:13:21Z"], [3]),
        (["--until", "1700000000.5"], [2, 1]),
        (["--attribute", "firmware=1.2"], [3, 2]),
        (["--attribute", "firmware=1.2", "--attribute", "note=a=b c"], [3]),
        (["--attribute", "note="], []),
    ],
)
def test_events_are_filtered(arguments: list[str], numbers: list[int]) -> None:
    """Every option alone and together."""
    store(
        [
            row(1),
            row(2, zone="zone-2", kpi="pressure", attributes='{"firmware":"1.2"}'),
            row(3, is_degraded=True, ts=1_700_000_003.0, attributes='{"firmware":"1.2","note":"a=b c"}'),
        ]
    )
    found = [line["event_id"] for line in json_lines(telemetry("events", "--json", *arguments))]
    assert found == [id_of(number) for number in numbers]


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_no_event_is_an_empty_answer(form: list[str]) -> None:
    """The remark about it isn't part of the answer."""
    store([])
    result = telemetry("events", *form)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no event is stored yet\n")
    store([row(1)])
    assert telemetry("events", "--device", "x", *form).stderr == "no stored event matches --device\n"
    assert telemetry("events", "--attribute", "a=b").stderr == "no stored event matches --attribute\n"


@pytest.mark.parametrize(
    "given",
    [["firmware"], ["=1"], ["a=1", "a=2"], ["a=" + "x" * 200], [f"{number}=" for number in range(17)]],
)
def test_attributes_that_no_event_can_have_are_refused(given: list[str]) -> None:
    """With what they are like."""
    result = telemetry("events", *(part for one in given for part in ("--attribute", one)))
    assert result.exit_code == 2
    assert "--attribute" in result.stderr


def test_a_summary_counts_by_kpi_and_zone() -> None:
    """One document; zones add up to KPIs, and those to the total."""
    store(
        [
            row(1, value=10.0),
            row(2, value=20.0, zone="zone-2"),
            row(3, value=90.0, zone="zone-2", is_degraded=True),
            row(4, value=7.0, kpi="gone"),
        ]
    )
    document = json.loads(telemetry("summary", "--json").stdout)
    gone, humidity = document.pop("kpis")
    assert document == {"events": 4, "healthy": 3, "degraded": 1}
    assert gone["unit"] is None
    assert humidity == {
        "kpi": "humidity",
        "unit": "%",
        "events": 3,
        "healthy": 2,
        "degraded": 1,
        "min": 10.0,
        "mean": 40.0,
        "max": 90.0,
        "zones": [
            {
                "zone": "zone-1",
                "events": 1,
                "healthy": 1,
                "degraded": 0,
                "min": 10.0,
                "mean": 10.0,
                "max": 10.0,
            },
            {
                "zone": "zone-2",
                "events": 2,
                "healthy": 1,
                "degraded": 1,
                "min": 20.0,
                "mean": 55.0,
                "max": 90.0,
            },
        ],
    }


def test_a_summary_for_people_ends_with_the_total() -> None:
    """Two tables, by KPI and by zone."""
    store([row(1, value=10.0), row(2, value=20.0, kpi="pressure", is_degraded=True)])
    lines = [line.split() for line in telemetry("summary").stdout.splitlines()]
    assert ["humidity", "%", "1", "1", "0", "10", "10", "10"] in lines
    assert ["pressure", "hPa", "1", "0", "1", "20", "20", "20"] in lines
    assert ["all", "2", "1", "1"] in lines
    assert ["pressure", "zone-1", "1", "0", "1", "20", "20", "20"] in lines


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("device", ["device-1", "device-2"]),
        ("hour", ["2023-11-14T22:00Z"]),
        ("day", ["2023-11-14T00:00Z"]),
    ],
)
def test_a_summary_counts_by_what_it_is_asked_for(by: str, groups: list[str]) -> None:
    """Of the events that the options choose."""
    store([row(1), row(2), row(3, kpi="pressure")])
    (kpi,) = json.loads(telemetry("summary", "--by", by, "--kpi", "humidity", "--json").stdout)["kpis"]
    assert [one[by] for one in kpi[f"{by}s"]] == groups
    assert f"Events by {by}\n" in telemetry("summary", "--by", by).stdout


def test_a_summary_counts_by_an_attribute() -> None:
    """Under its name; an event without it has an empty one. What none can be called is refused."""
    store([row(1, attributes='{"firmware":"1.2"}'), row(2), row(3, attributes='{"firmware":"1.2"}')])
    lines = [line.split() for line in telemetry("summary", "--by", "attribute:firmware").stdout.splitlines()]
    at = lines.index(["Events", "by", "firmware"])
    assert lines[at + 1][:3] == ["KPI", "FIRMWARE", "EVENTS"]
    assert ["humidity", "1.2", "2", "2", "0", "42.25", "42.25", "42.25"] in lines[at:]
    (kpi,) = json.loads(telemetry("summary", "--by", "attribute:firmware", "--json").stdout)["kpis"]
    assert [(one["attribute"], one["events"]) for one in kpi["attributes"]] == [("", 1), ("1.2", 2)]
    for wrong in ("attribute:", f"attribute:{'n' * 65}", "attribute"):
        assert is_refusal(telemetry("summary", "--by", wrong), 2)


def test_a_summary_by_something_else_is_refused() -> None:
    """With what there is."""
    result = telemetry("summary", "--by", "week")
    assert is_refusal(result, 2)
    assert "zone, device, hour, day" in result.stderr


def test_a_summary_of_nothing_says_so() -> None:
    """Both as text and as a document."""
    store([row(1)])
    assert "no stored event matches --since" in telemetry("summary", "--since", "1s").stdout
    document = json.loads(telemetry("summary", "--since", "1s", "--json").stdout)
    assert document == {"events": 0, "healthy": 0, "degraded": 0, "kpis": []}


@pytest.mark.parametrize("command", ["events", "summary"])
def test_without_a_database_the_command_says_who_makes_it(command: str) -> None:
    """Exit code 2, one line, and no file appears."""
    result = telemetry(command)
    assert is_refusal(result, 2)
    assert result.stderr == "data/telemetry.db: no database yet; a consumer makes it (DATA_DIR)\n"
    assert not Path("data").exists()


def test_a_database_of_another_program_is_left_as_it_is() -> None:
    """One line, and not a byte changed."""
    Path("data").mkdir()
    with closing(sqlite3.connect("data/telemetry.db")) as other:
        other.execute("CREATE TABLE songs (name)")
    before = Path("data/telemetry.db").read_bytes()
    result = telemetry("events")
    assert is_refusal(result, 2)
    assert result.stderr == "data/telemetry.db is a database of another program\n"
    assert Path("data/telemetry.db").read_bytes() == before
    assert [path.name for path in Path("data").iterdir()] == ["telemetry.db"]


@pytest.mark.parametrize("arguments", [["--since", "soon"], ["--until", "1700000000000"], ["--limit", "few"]])
def test_wrong_input_is_refused(arguments: list[str]) -> None:
    """Exit code 2 before anything is opened."""
    assert is_refusal(telemetry("events", *arguments), 2)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--kpi", "temprature"], "did you mean temperature? there are "),
        (["--kpi", "Humidity"], "did you mean humidity? "),
        (["--kpi", ""], "no such KPI"),
        (["--since", "15m", "--until", "1h"], "nothing can be in that time"),
        (["--since", "2026-01-02", "--until", "2026-01-01"], "ends before that, at 2026-01-01T00:00:00.000Z"),
        (["--id", "nosuch"], "'nosuch' is no event id"),
        (["--device", ""], "a name has 1 to 128 characters"),
        (["--device", "x" * 129], "a name has 1 to 128 characters"),
        (["--zone", "a\nb"], "no control characters"),
    ],
)
@pytest.mark.parametrize("is_there", [True, False])
def test_what_can_t_be_is_said_so(arguments: list[str], told: str, is_there: bool) -> None:
    """With the nearest that can be, and exit code 2, whether anything is stored or not."""
    if is_there:
        store([row(1)])
    result = telemetry("events", *arguments)
    assert is_refusal(result, 2)
    assert told in " ".join(result.stderr.replace("│", " ").split()).replace("  ", " ")


def test_a_kpi_that_was_configured_once_is_found() -> None:
    """Its rows are still there."""
    store([row(1, kpi="gone")])
    assert [line["kpi"] for line in json_lines(telemetry("events", "--json", "--kpi", "gone"))] == ["gone"]


def test_an_id_may_be_written_in_any_case() -> None:
    """It is the same id."""
    store([row(1)])
    (line,) = json_lines(telemetry("events", "--json", "--id", f" {id_of(1).upper()}"))
    assert line["event_id"] == id_of(1)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--device", "nosuch"], "no stored event matches --device"),
        (["--zone", "nosuch", "--since", "2030-01-01"], "no stored event matches --zone or --since"),
        (["--degraded"], "no stored event matches --degraded or --healthy"),
        (
            ["--device", "device-1", "--zone", "zone-2"],
            "no stored event matches all of it; each alone has some",
        ),
    ],
)
def test_an_empty_answer_says_why(arguments: list[str], why: str) -> None:
    """Which of the filters matches nothing by itself; or that each does, and all of them together don't."""
    store([row(1), row(2, zone="zone-2")])
    result = telemetry("events", *arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"{why}\n")


def test_a_damaged_database_is_one_line() -> None:
    """Of every command that reads it, with exit code 2."""
    store([row(number) for number in range(3000)])
    path = Path("data/telemetry.db")
    with path.open("r+b") as file:
        file.seek(4096 * 2)
        file.write(b"\xab" * 4096 * 40)
    for command in (("events", "--limit", "0"), ("summary",)):
        result = telemetry(*command)
        assert result.exit_code == 2
        assert isinstance(result.exception, SystemExit)
        assert result.stderr.splitlines() == [
            "data/telemetry.db can't be read: database disk image is malformed"
        ]
    assert "malformed" in telemetry("status").stderr


@pytest.mark.parametrize("group", ["zone", "device", "hour"])
def test_a_summary_fits_a_terminal_of_80_columns(group: GroupName) -> None:
    """As a table, without what the other columns tell, and it says so."""
    count = {"events": 1_163, "healthy": 1_162, "degraded": 1, "min": -7.19, "mean": 52.0818, "max": 57.05}
    name = {"zone": "zone-1", "device": "device-01", "hour": "2026-11-29T04:00Z"}[group]
    document = {
        "events": 1_163,
        "healthy": 1_162,
        "degraded": 1,
        "kpis": [{"kpi": "temperature", "unit": "°C", **count, f"{group}s": [{group: name, **count}]}],
    }
    shown = io.StringIO()
    terminal = Terminal()
    terminal._console = Console(file=shown, width=80, color_system=None, markup=False, highlight=False)
    for part in _summary_parts(document, group, ""):
        terminal.show(part)
    (row,) = (line for line in shown.getvalue().splitlines() if name in line)
    assert "57.05" in row
    assert len(row) <= 80
