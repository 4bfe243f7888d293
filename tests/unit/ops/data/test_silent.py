"""`telemetry events --silent`."""

import time
from pathlib import Path

import pytest
from samples import row
from telemetry_cli import is_refusal, json_lines, store, telemetry

from services.contract.consuming.proofs import Scope
from services.contract.consuming.readings import Reading
from services.stores.sqlite.readings import SQLiteReadings

SET = {"SILENT_AFTER_S": "600"}
DAY_S = 86_400 + 3600 / 2
"""With a part of an hour, so that a slow machine writes the same."""


def note(*heard: tuple[str, float]) -> None:
    """Note devices, each with how many seconds ago it was heard."""
    scope = Scope("telemetry", "telemetry_stream", "telemetry_consumers")
    now = time.time()
    SQLiteReadings(Path("data/telemetry.db"), 5000, scope).note(
        [Reading(name, "z", "temperature", 21.5, 1_700_000_000.5, now - ago, "id") for name, ago in heard]
    )


def test_silent_devices_are_named_with_their_last_reading() -> None:
    """Who fell silent last comes first."""
    store([row(1)])
    note(("a", 5 * DAY_S), ("b", 2 * DAY_S), ("c", 10))
    lines = telemetry("events", "--silent", **SET).stdout.splitlines()
    assert lines[0].split() == [
        "DEVICE",
        "ZONE",
        "LAST",
        "STORED",
        "TIME",
        "KPI",
        "VALUE",
        "UNIT",
        "EVENT",
        "ID",
    ]
    assert [line.split() for line in lines[1:]] == [
        ["b", "z", "2d01h", "ago", "2023-11-14T22:13:20.500Z", "temperature", "21.5", "°C", "id"],
        ["a", "z", "5d02h", "ago", "2023-11-14T22:13:20.500Z", "temperature", "21.5", "°C", "id"],
    ]
    assert len(telemetry("events", "--silent", "--limit", "1", **SET).stdout.splitlines()) == 2


def test_in_json_a_device_is_an_object() -> None:
    """With numbers, and the unit."""
    store([row(1)])
    note(("a", 7200))
    (found,) = json_lines(telemetry("events", "--silent", "--json", **SET))
    assert {name: found[name] for name in ("device_id", "kpi", "value", "unit", "ts")} == {
        "device_id": "a", "kpi": "temperature", "value": 21.5, "unit": "°C", "ts": 1_700_000_000.5,
    }  # fmt: skip


def test_none_is_said() -> None:
    """Beside the list, which is empty."""
    store([row(1)])
    note(("a", 10))
    result = telemetry("events", "--silent", **SET)
    assert (result.exit_code, "no device is silent: each has sent in the last 10m00s" in result.stderr) == (
        0,
        True,
    )


def test_without_the_setting_it_says_which_one() -> None:
    """Nobody has noted anything then."""
    store([row(1)])
    result = telemetry("events", "--silent")
    assert is_refusal(result, 2)
    assert "SILENT_AFTER_S" in result.stderr


@pytest.mark.parametrize("option", [["--device", "a"], ["--follow"], ["--since", "1h"], ["--degraded"]])
def test_options_that_say_nothing_of_it_are_refused(option: list[str]) -> None:
    result = telemetry("events", "--silent", *option, **SET)
    assert is_refusal(result, 2)
    assert option[0] in result.stderr


def test_a_device_can_t_be_silent_longer_than_it_is_known() -> None:
    """The settings say so before anything runs."""
    result = telemetry("events", "--silent", SILENT_AFTER_S="90000", SILENT_FORGET_DAYS="1")
    assert is_refusal(result, 2)
    assert "SILENT_FORGET_DAYS=1" in result.stderr


def test_a_device_that_was_taken_away_is_forgotten() -> None:
    """What is stored of it stays; who is not known is told."""
    store([row(1)])
    note(("a", DAY_S), ("b", DAY_S))
    assert telemetry("forget", "a").stdout == "forgot the device a\n"
    assert [one["device_id"] for one in json_lines(telemetry("events", "--silent", "--json", **SET))] == ["b"]
    again = telemetry("forget", "a")
    assert is_refusal(again, 1)
    assert "no last reading of a device a is noted here" in again.stderr
    assert len(json_lines(telemetry("events", "--json"))) == 1


def test_where_nothing_is_stored_nothing_is_forgotten_or_made() -> None:
    """It makes no database."""
    result = telemetry("forget", "a")
    assert is_refusal(result, 2)
    assert "is not there" in result.stderr
    assert not Path("data").exists()
