"""`telemetry dlq list`, `show`, `purge`, and what `replay` says before it needs a server."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from samples import entry, event_fields, id_of
from telemetry_cli import bury, is_refusal, json_lines, telemetry

from services.contract.consuming.doors import Dead
from services.contract.event import Reason, Rejection, Stage

ROOT = Path(__file__).parents[4]


def _dead(
    number: int, reason: Reason = "value_invalid", stage: Stage = "validate", **changes: str | bytes
) -> Dead:
    return Dead(entry(number, event_fields(number, **changes)), Rejection(stage, reason, f"{reason} it is"))


def _entry_id(number: int) -> str:
    return entry(number).entry_id.decode()


def _listed(*arguments: str) -> list[str]:
    return [line["entry_id"] for line in json_lines(telemetry("dlq", "list", "--json", *arguments))]


def test_letters_are_listed_newest_last() -> None:
    """Aligned lines under a heading, with a mark on what was replayed."""
    letters = bury([_dead(1), _dead(2, "not_utf8", "decode")])
    letters.mark_replayed([(_entry_id(1), "1-1")])
    lines = [line.split() for line in telemetry("dlq", "list").stdout.splitlines()]
    assert lines[0] == ["ENTRY", "FAILED", "AT", "STAGE", "REASON", "DEVICE", "REPLAYED", "ERROR"]
    assert lines[1] == [
        _entry_id(1), "2023-11-14T22:16:40.000Z", "validate", "value_invalid", "device-1", "yes",
        "value_invalid", "it", "is",
    ]  # fmt: skip
    assert lines[2][3:5] == ["not_utf8", "device-2"]


def test_letters_in_json_are_whole() -> None:
    """Everything that is known, and when it was replayed."""
    bury([_dead(1)])
    (line,) = json_lines(telemetry("dlq", "list", "--json"))
    assert line["event"]["event_id"] == id_of(1)
    assert (line["reason"], line["consumer"], line["replayed_at"]) == ("value_invalid", "consumer-1", None)


def test_an_entry_delivered_again_is_listed_once_with_its_newest_letter() -> None:
    """Two letters of one entry are one failure."""
    bury([_dead(1, "value_invalid")])
    bury([_dead(1, "retries_exhausted", "sink")], failed_at=1_700_000_300.0)
    (line,) = json_lines(telemetry("dlq", "list", "--json"))
    assert line["reason"] == "retries_exhausted"


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        ([], [1, 2, 3, 4]),
        (["--reason", "not_utf8"], [2]),
        (["--reason", "not_utf8", "--reason", "conflict"], [2, 3]),
        (["--stage", "sink"], [3]),
        (["--device", "device-2", "--device", "device-4"], [2, 4]),
        (["--device", "device-2", "--stage", "sink"], []),
        (["--entry", "1700000000000-4"], [4]),
        (["--consumer", "consumer-1"], [1, 2, 3, 4]),
        (["--consumer", "consumer-2"], []),
        (["--since", "1700000201"], [4]),
        (["--until", "1700000200"], [1, 2, 3]),
        (["--replayed"], [2]),
        (["--not-replayed"], [1, 3, 4]),
        (["--limit", "2"], [3, 4]),
        (["--limit", "0"], [1, 2, 3, 4]),
    ],
)
def test_letters_are_filtered(arguments: list[str], numbers: list[int]) -> None:
    """Every filter alone and together; the newest are those that a limit leaves."""
    letters = bury([_dead(1), _dead(2, "not_utf8", "decode"), _dead(3, "conflict", "sink")])
    bury([_dead(4)], failed_at=1_700_000_300.0)
    letters.mark_replayed([(_entry_id(2), "1-1")])
    assert _listed(*arguments) == [_entry_id(number) for number in numbers]


def test_a_limit_says_what_it_leaves_out() -> None:
    """On standard error, since it is no letter."""
    bury([_dead(1), _dead(2), _dead(3)])
    assert telemetry("dlq", "list", "--limit", "1").stderr == "the newest 1 of 3; --limit 0 shows all\n"


def test_no_letter_is_an_empty_answer() -> None:
    """There is no file yet, or none is of that kind."""
    result = telemetry("dlq", "list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no dead letter\n")
    assert not Path("data").exists()
    bury([_dead(1)])
    assert (
        telemetry("dlq", "list", "--device", "x").stderr
        == "no dead letter matches; there is 1 of other kinds\n"
    )


def test_a_letter_is_shown_whole_and_moves_no_cursor() -> None:
    """Bytes that are no text stand as they are kept; control characters are escaped."""
    bury([_dead(1, zone=b"\xff", device_id="\x1b[2J")])
    shown = telemetry("dlq", "show", _entry_id(1)).stdout
    assert 'zone       {"base64": "/w=="}' in shown
    assert "device_id  \\x1b[2J" in shown
    assert "reason      value_invalid" in shown
    letter = json.loads(telemetry("dlq", "show", _entry_id(1), "--json").stdout)
    assert letter["event"]["zone"] == {"base64": "/w=="}


def test_a_letter_that_is_not_there_is_an_error() -> None:
    """The message repeats what was asked for."""
    result = telemetry("dlq", "show", "1-1")
    assert is_refusal(result, 1)
    assert result.stderr == "no dead letter of entry '1-1'\n"


@pytest.mark.parametrize("command", ["list", "purge", "replay"])
@pytest.mark.parametrize(
    ("option", "word"), [("--reason", "value_invalid"), ("--stage", "decode")], ids=["reason", "stage"]
)
def test_an_unknown_name_is_refused_with_those_there_are(command: str, option: str, word: str) -> None:
    """A misspelt filter must not count as one that nothing matches."""
    result = telemetry("dlq", command, option, "valeu")
    assert is_refusal(result, 2)
    assert "no such" in result.stderr
    assert word in result.stderr


def test_purge_removes_what_is_meant_and_says_how_many() -> None:
    """By reason; the others stay, and the audit finds a note of each."""
    letters = bury([_dead(1), _dead(2), _dead(3, "conflict", "sink")])
    result = telemetry("dlq", "purge", "--reason", "value_invalid", "--yes")
    assert (result.exit_code, result.stdout) == (0, "purged 2 dead letters (value_invalid 2)\n")
    assert _listed() == [_entry_id(3)]
    assert {(note.entry_id, note.event_id) for note in letters.purged()} == {
        (_entry_id(1), id_of(1)),
        (_entry_id(2), id_of(2)),
    }


def test_purge_without_a_filter_wants_to_be_told_so() -> None:
    """A forgotten option must not cost every letter."""
    bury([_dead(1)])
    assert is_refusal(telemetry("dlq", "purge", "--yes"), 2)
    assert _listed() == [_entry_id(1)]
    assert telemetry("dlq", "purge", "--all", "--yes").exit_code == 0
    assert _listed() == []


def test_purge_of_nothing_is_no_error() -> None:
    """There is nothing to ask about either."""
    result = telemetry("dlq", "purge", "--all")
    assert (result.exit_code, result.stderr) == (0, "no dead letter to purge\n")


def test_where_nobody_can_answer_nothing_is_purged() -> None:
    """Exit code 2, and the way out is named."""
    bury([_dead(1)])
    result = telemetry("dlq", "purge", "--all")
    assert is_refusal(result, 2)
    assert "add --yes" in result.stderr
    assert _listed() == [_entry_id(1)]


@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", 0, 0), (b"n\n", 1, 1), (b"\n", 1, 1)])
def test_on_a_terminal_purge_asks_first(answer: bytes, code: int, left: int) -> None:
    """Only a yes is one."""
    bury([_dead(1)])
    leader, follower = pty.openpty()
    os.write(leader, answer)
    result = subprocess.run(
        [sys.executable, "-m", "services.ops", "dlq", "purge", "--all"],
        stdin=follower,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    os.close(follower)
    os.close(leader)
    assert result.returncode == code
    assert "Purge 1 dead letter (value_invalid 1); 1 of them never replayed" in result.stderr
    assert len(_listed()) == left


def test_a_dry_run_tells_what_would_be_published() -> None:
    """Without a server: what is mended, what would come back, and what has no id."""
    letters = bury(
        [_dead(1, value="-1"), _dead(2, value="-2", kpi="noise"), _dead(3, event_id=b"\xff"), _dead(4)]
    )
    letters.mark_replayed([(_entry_id(4), "1-1")])
    arguments = ["dlq", "replay", "--dry-run", "--set", "value=1.5"]
    found = [line["outcome"] for line in json_lines(telemetry(*arguments, "--json"))]
    assert found[0] == "published"
    assert found[1].startswith("comes back: kpi 'noise' is none of")
    assert found[2].startswith("skipped: no readable event_id")
    assert len(found) == 3
    assert len(telemetry(*arguments, "--again").stdout.splitlines()) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "value"], "write NAME=VALUE, got 'value'"),
        (["--set", "colour=blue"], "no such field: 'colour'"),
        (["--unset", "value"], "an event must have value"),
    ],
)
def test_a_wrong_mending_is_refused(arguments: list[str], message: str) -> None:
    """Before anything is read."""
    result = telemetry("dlq", "replay", *arguments)
    assert is_refusal(result, 2)
    assert message in result.stderr


def test_one_event_id_is_given_to_one_letter_only() -> None:
    """Two events under one id would conflict in the sink."""
    bury([_dead(1), _dead(2)])
    result = telemetry("dlq", "replay", "--set", f"event_id={id_of(9)}", "--yes")
    assert is_refusal(result, 2)
    assert "name it by --entry" in result.stderr


def test_a_replay_of_nothing_needs_no_server() -> None:
    """And is no error."""
    result = telemetry("dlq", "replay", "--yes", REDIS_HOST="127.0.0.1", REDIS_PORT="1")
    assert (result.exit_code, result.stderr) == (0, "no dead letter to replay\n")


def test_a_replay_asks_where_somebody_can_answer() -> None:
    """Nobody can here, so it is refused before a server is asked for."""
    bury([_dead(1)])
    result = telemetry("dlq", "replay")
    assert is_refusal(result, 2)
    assert result.stderr.startswith("Replay 1 dead letter (value_invalid 1)?")


def test_a_replay_without_a_server_marks_nothing() -> None:
    """Exit code 2, and the letter waits for the next time."""
    letters = bury([_dead(1)])
    result = telemetry("dlq", "replay", "--yes", REDIS_HOST="127.0.0.1", REDIS_PORT="1")
    assert is_refusal(result, 2)
    assert result.stderr.startswith("Redis at 127.0.0.1:1 can't be reached")
    assert letters.replayed() == {}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["list", "--reason", "value_invald"], "did you mean value_invalid? there are"),
        (["list", "--stage", "sinc"], "did you mean sink? there are"),
        (["list", "--entry", "first"], "'first' is no entry id; one looks like 1700000000000-0"),
        (["show", "1700000000000"], "'1700000000000' is no entry id"),
        (["purge", "--entry", "x", "--yes"], "'x' is no entry id"),
        (["list", "--since", "1h", "--until", "2h"], "nothing can be in that time"),
        (["purge", "--since", "1h", "--until", "2h", "--yes"], "nothing can be in that time"),
        (["replay", "--since", "1h", "--until", "2h", "--yes"], "nothing can be in that time"),
    ],
)
def test_what_can_t_be_is_said_with_what_was_meant(arguments: list[str], told: str) -> None:
    """Exit code 2, and nothing is done."""
    bury([_dead(1)])
    result = telemetry("dlq", *arguments)
    assert is_refusal(result, 2)
    assert told in " ".join(result.stderr.split())
    assert _listed() == [_entry_id(1)]
