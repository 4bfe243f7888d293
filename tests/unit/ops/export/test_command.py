"""`telemetry export`."""

import csv
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from samples import id_of, row
from telemetry_cli import is_refusal, json_lines, store, telemetry

from services.ops.export import command
from services.ops.output.progress import ProgressLine
from services.stores.sqlite import rows as sqlite_rows

ROOT = Path(__file__).parents[4]


def names() -> list[str]:
    """List what is in the folder beside the data."""
    return sorted(path.name for path in Path().iterdir() if path.name != "data")


def test_events_are_written_in_the_order_of_their_ids() -> None:
    """As a table with a header; nothing else is on standard output."""
    store([row(2), row(1, kpi="temperature", value=-0.5)])
    result = telemetry("export")
    assert (result.exit_code, result.stderr) == (0, "")
    found = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(one["event_id"], one["value"]) for one in found] == [(id_of(1), "-0.5"), (id_of(2), "42.25")]


def test_json_lines_are_those_of_the_events() -> None:
    """All that `telemetry events --json` says of them."""
    store([row(1, attributes='{"b":"1","a":"2"}'), row(2)])
    listed = json_lines(telemetry("events", "--json", "--limit", "0"))
    assert json_lines(telemetry("export", "--format", "jsonl")) == listed[::-1]


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        (["--device", "device-1"], [1]),
        (["--id", id_of(2)], [2]),
        (["--zone", "zone-2", "--kpi", "pressure"], [2]),
        (["--degraded"], [3]),
        (["--healthy"], [1, 2]),
        (["--since", "2023-11-14T22:13:21Z"], [3]),
        (["--until", "1700000000.5"], [1, 2]),
        (["--attribute", "firmware=1.2"], [2, 3]),
    ],
)
def test_the_filters_are_those_of_the_events(arguments: list[str], numbers: list[int]) -> None:
    """By the same options."""
    store(
        [
            row(1),
            row(2, zone="zone-2", kpi="pressure", attributes='{"firmware":"1.2"}'),
            row(3, is_degraded=True, ts=1_700_000_003.0, attributes='{"firmware":"1.2"}'),
        ]
    )
    found = [one["event_id"] for one in json_lines(telemetry("export", "--format", "jsonl", *arguments))]
    assert found == [id_of(number) for number in numbers]


def test_no_event_is_a_table_without_rows_and_a_remark() -> None:
    """Which is no part of the answer."""
    store([row(1)])
    result = telemetry("export", "--device", "x")
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    assert result.stderr == "no stored event matches --device\n"
    assert telemetry("export", "--device", "x", "--format", "jsonl").stdout == ""


@pytest.mark.parametrize(
    ("name", "first"), [("e.csv", "event_id,"), ("e", "event_id,"), ("e.jsonl", '{"ev'), ("e.ndjson", '{"ev')]
)
def test_a_file_is_written_in_the_form_that_its_name_says(name: str, first: str) -> None:
    """With the rights that others' files have here, and nothing beside it."""
    store([row(1), row(2)])
    result = telemetry("export", "--output", name)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"2 events in {name}\n")
    assert Path(name).read_text(encoding="utf-8").startswith(first)
    before = os.umask(0)
    os.umask(before)
    assert Path(name).stat().st_mode & 0o777 == 0o666 & ~before
    assert names() == [name]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_is_there_is_replaced_only_when_that_is_said(
    monkeypatch: pytest.MonkeyPatch, *, has_links: bool
) -> None:
    """Also where it came meanwhile, and where the disk knows no hard links. A link is followed."""

    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", link)
    store([row(1)])
    Path("real.csv").write_text("old", encoding="utf-8")
    Path("link.csv").symlink_to("real.csv")
    for name in ("real.csv", "link.csv"):
        result = telemetry("export", "-o", name)
        assert is_refusal(result, 2)
        assert "--overwrite" in result.stderr
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(command, "place_of", lambda given, **_: Path(given).absolute())
        assert is_refusal(telemetry("export", "-o", "real.csv"), 2)
    assert Path("real.csv").read_text(encoding="utf-8") == "old"
    assert telemetry("export", "-o", "link.csv", "--overwrite").exit_code == 0
    assert Path("link.csv").is_symlink()
    assert Path("real.csv").read_text(encoding="utf-8").count("\n") == 2
    assert telemetry("export", "-o", "new.csv").exit_code == 0
    assert names() == ["link.csv", "new.csv", "real.csv"]


def test_an_export_that_fails_leaves_the_file_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor half of another one. What it failed of is said."""
    store([row(1), row(2)])
    Path("e.csv").write_text("old", encoding="utf-8")
    monkeypatch.setattr(sqlite_rows, "_ROWS_A_PAGE", 1)

    def full(_: int) -> None:
        assert len(names()) == 2
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = telemetry("export", "-o", "e.csv", "--overwrite")
    assert is_refusal(result, 2)
    assert result.stderr == "--output e.csv: No space left on device\n"
    assert (names(), Path("e.csv").read_text(encoding="utf-8")) == (["e.csv"], "old")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_export_that_is_ended_leaves_nothing(number: signal.Signals) -> None:
    """By a signal, in the middle of it."""
    store([row(one) for one in range(1, 3000)])
    code = (
        "import sys, time; from services.ops.export import forms; from services.ops.__main__ import main\n"
        "head = forms.CsvLines.head\n"
        "forms.CsvLines.head = lambda self: (print('begun', flush=True), time.sleep(60), head(self))[2]\n"
        "sys.argv = ['telemetry', 'export', '-o', 'e.csv']; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    assert len(names()) == 1
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said, names()) == (128 + number, "", [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "xml"], "write csv or jsonl"),
        (["--for-spreadsheet", "--format", "jsonl"], "a spreadsheet reads CSV alone"),
        (["--overwrite"], "there is no --output to replace"),
        (["-o", "data"], "it is a folder"),
        (["-o", "no/such/e.csv"], "its folder is not there"),
        (["-o", "/dev/null", "--overwrite"], "no regular file"),
        (["--since", "1h", "--until", "2h"], "nothing can be in that time"),
        (["--kpi", "temprature"], "did you mean temperature"),
        (["--attribute", "x"], "write NAME=TEXT"),
        (["--device", "a\tb"], "no control characters"),
    ],
)
def test_what_cant_be_is_refused(arguments: list[str], said: str) -> None:
    """With what to change, and exit code 2."""
    store([row(1)])
    result = telemetry("export", *arguments)
    assert is_refusal(result, 2)
    assert said in " ".join(result.stderr.split())
    assert names() == []


def test_names_that_are_formulas_are_told() -> None:
    """And the option that has a spreadsheet not run them; with it they are as text."""
    store([row(1, device_id="=HYPERLINK(1)")])
    result = telemetry("export")
    assert "\n" + id_of(1) + ",=HYPERLINK(1)," in result.stdout
    assert "--for-spreadsheet" in result.stderr
    result = telemetry("export", "--for-spreadsheet")
    assert ",'=HYPERLINK(1)," in result.stdout
    assert result.stderr == ""


def test_a_terminal_gets_no_more_than_it_can_show() -> None:
    """An export that goes there is for a person; what turns text around is escaped."""
    store([row(1, device_id="a\u202eb")])
    code = "import pty, sys; sys.exit(pty.spawn([sys.executable, '-m', 'services.ops', 'export']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"a\\u202eb" in done.stdout
    assert "\u202e" not in done.stdout.decode()
    assert "\u202e" in telemetry("export").stdout


def test_a_long_export_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each page; not where its lines go to the same terminal."""
    told: list[int] = []

    class Line(ProgressLine):
        def __call__(self, read: int, parts: int | None = None) -> None:
            assert parts is None
            told.append(read)

    store([row(1), row(2), row(3)])
    monkeypatch.setattr(sqlite_rows, "_ROWS_A_PAGE", 2)
    monkeypatch.setattr(command, "ProgressLine", Line)
    telemetry("export")
    assert told == [2, 3]
    monkeypatch.setattr(command, "answers_on_terminal", lambda: True)
    telemetry("export")
    assert told == [2, 3]
    telemetry("export", "-o", "e.csv")
    assert told == [2, 3, 2, 3]
