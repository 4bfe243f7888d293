"""`telemetry steps try`."""

import json
from pathlib import Path

import pytest
from telemetry_cli import is_refusal, json_lines
from typer.testing import CliRunner, Result

from services.ops.app import app

EVENT = {"device_id": "d", "zone": "z", "ts": 1_700_000_000, "kpi": "humidity", "value": 40}
MODULE = """
from services.steps import attributes, reject, with_attributes

def double(event):
    return event._replace(value=event.value * 2)

def refuse(event):
    return reject("not today")

def fail(event):
    raise RuntimeError("oops")

def mark(event):
    return with_attributes(event, {**attributes(event), "site": "lab"})

nothing = 1
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the name of a module in the working folder."""
    name = f"steps_{tmp_path.name.replace('-', '_')}"
    Path(f"{name}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    return name


def attempt(*arguments: str, lines: str = json.dumps(EVENT)) -> Result:
    return CliRunner().invoke(app, ["steps", "try", *arguments], input=lines, prog_name="telemetry")


def test_steps_are_taken_in_the_order_given(module: str) -> None:
    """And what they change is told, by field."""
    result = attempt(f"{module}:double", f"{module}:mark")
    assert result.stdout.splitlines()[1].split(None, 2) == [
        "1", "changed", 'value 40.0 -> 80.0, attributes None -> {"site":"lab"}',
    ]  # fmt: skip
    assert (result.stderr, result.exit_code) == ("changed 1\n", 0)


def test_what_they_give_is_held_to_the_rules(module: str) -> None:
    """As in the consumer: 160 % is out of range."""
    [told] = json_lines(attempt(f"{module}:double", f"{module}:double", "--json"))
    assert (told["outcome"], told["reason"], told["after"]) == ("dead", "value_out_of_range", None)
    assert told["before"]["value"] == 40.0


def test_a_row_of_the_command_is_an_event_too(module: str) -> None:
    """With its attributes by name, and what else `telemetry events --json` writes."""
    more = {"unit": "%", "is_degraded": True, "event_id": "00000000-0000-0000-0000-000000000000"}
    line = EVENT | more | {"attributes": {"site": "x"}}
    [told] = json_lines(attempt(f"{module}:mark", "--json", lines=json.dumps(line)))
    assert told["before"]["attributes"] == {"site": "x"}
    assert told["after"]["attributes"] == {"site": "lab"}
    assert told["after"]["event_id"] == line["event_id"]


@pytest.mark.parametrize(
    ("line", "reason", "outcome", "what"),
    [
        ("x", None, "unreadable", "no JSON"),
        ("[1]", None, "unreadable", "no JSON object"),
        ("[" * 100_000, None, "unreadable", "no JSON"),
        ("{}", None, "unreadable", "no device_id, zone, ts, kpi, value"),
        (json.dumps(EVENT | {"value": True}), None, "unreadable", "value is neither a text nor a number"),
        (json.dumps(EVENT | {"value": 10**400}), "value_invalid", "dead", "before the steps: value"),
        (json.dumps(EVENT | {"value": "warm"}), "value_invalid", "dead", "before the steps: value"),
        (
            json.dumps(EVENT | {"attributes": {"a": 1}}),
            "attributes_invalid",
            "dead",
            "before the steps: attr",
        ),
    ],
)
def test_what_can_not_come_to_a_step_is_told(
    module: str, line: str, reason: str | None, outcome: str, what: str
) -> None:
    """By its line; the others go on."""
    result = attempt(f"{module}:double", "--json", lines=f"{line}\n\n{json.dumps(EVENT)}\n")
    first, second = json_lines(result)
    assert (first["line"], first["outcome"], first["reason"]) == (1, outcome, reason)
    assert first["what"].startswith(what)
    assert (second["line"], second["outcome"]) == (3, "changed")
    assert result.exit_code == (outcome == "unreadable")


def test_a_step_that_fails_makes_the_command_fail(module: str) -> None:
    """A rejection does not."""
    result = attempt(f"{module}:fail")
    assert (result.exit_code, result.stderr) == (1, "step_failed 1\n")
    assert "RuntimeError: oops" in result.stdout
    result = attempt(f"{module}:refuse")
    assert (result.exit_code, result.stderr) == (0, "rejected_by_step 1\n")


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("double", "double: write MODULE:FUNCTION"),
        (":double", "write MODULE:FUNCTION"),
        ("no_such_module:f", "step no_such_module:f: ModuleNotFoundError"),
        ("{module}:absent", "AttributeError"),
        ("{module}:nothing", "is no function"),
    ],
)
def test_what_is_no_step_is_refused(module: str, function: str, told: str) -> None:
    """In one line, before anything is read."""
    result = attempt(function.format(module=module))
    assert is_refusal(result, 2)
    assert told in result.stderr


def test_without_a_name_the_installed_steps_are_tried() -> None:
    """Here there are none."""
    result = attempt()
    assert is_refusal(result, 2)
    assert "no step is installed here" in result.stderr


def test_no_event_is_no_answer(module: str) -> None:
    """And says so."""
    result = attempt(f"{module}:double", lines="\n")
    assert (result.stdout, result.stderr, result.exit_code) == ("", "no event was given\n", 0)
