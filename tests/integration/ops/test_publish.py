"""`telemetry publish` on real servers: what is in the stream afterwards, and what is said of the rest."""

import functools
import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from servers import Server, eventually
from telemetry_cli import is_refusal, telemetry
from typer.testing import CliRunner, Result

from services.brokers.redis.keys import StreamKeys
from services.contract.ids import numbered
from services.ops.app import app

ROOT = Path(__file__).parents[3]
ONE = ("--device", "greenhouse-1", "--kpi", "humidity", "--value", "42.5")


def _publish(server: Server, *arguments: str, lines: str = "") -> Result:
    at = {"REDIS_HOST": server.host, "REDIS_PORT": str(server.port)}
    return CliRunner().invoke(app, ["publish", *arguments], env=at, input=lines, prog_name="telemetry")


def _entries(server: Server) -> list[dict[bytes, bytes]]:
    with closing(server.client()) as client:
        found: Any = client.xrange(StreamKeys().stream)
        return [fields for _, fields in found]


def _there(server: Server, number: int) -> bool:
    return len(_entries(server)) >= number


def test_one_event_is_published_and_its_id_is_told(server: Server) -> None:
    """It is numbered as those of every producer are, and has the time of now."""
    done = _publish(server, *ONE, "--attribute", "site=north")
    assert done.exit_code == 0, done.stderr
    (entry,) = _entries(server)
    assert done.stdout == f"published {entry[b'event_id'].decode()}\n"
    told = numbered(entry[b"event_id"].decode())
    assert told is not None
    assert told.sequence == 1
    assert entry[b"zone"] == b"default"
    assert json.loads(entry[b"attributes"]) == {"site": "north"}
    with closing(server.client()) as client:
        run: Any = client.hgetall(StreamKeys().run(told.run))
    assert (run[b"published"], run[b"last"], run[b"source"]) == (b"1", b"1", b"publish")


def test_what_has_a_time_is_published_once(server: Server) -> None:
    """Sent again it is the same event, whose id is made of it."""
    first = _publish(server, *ONE, "--time", "2026-01-31T12:00:00Z")
    again = _publish(server, *ONE, "--time", "1769860800")
    ids = {entry[b"event_id"] for entry in _entries(server)}
    assert len(ids) == 1
    assert first.stdout.split()[1] == again.stdout.split()[1]


def test_json_lines_are_published_and_what_is_wrong_is_told_by_its_line(server: Server) -> None:
    """More than fit in one step, with a unit and another one's name of a KPI; exit code 1."""
    good = [{"device_id": f"d-{n}", "zone": "z", "kpi": "humidity", "value": n % 50} for n in range(1500)]
    lines = [json.dumps(one) for one in good]
    lines[700:700] = ["", "no json", json.dumps(good[0] | {"value": 1e9})]
    done = _publish(server, "--json", lines="\n".join(lines))
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (told["published"], told["refused"]) == (1500, 2)
    assert [(one["line"], one["field"]) for one in told["refusals"]] == [(702, ""), (703, "value")]
    assert [entry[b"device_id"].decode() for entry in _entries(server)] == [one["device_id"] for one in good]


def test_a_line_is_published_when_it_comes(server: Server) -> None:
    """And not when the next thousand have come: the pipe stays open."""
    at = {"REDIS_HOST": server.host, "REDIS_PORT": str(server.port)}
    line = json.dumps({"device_id": "d", "zone": "z", "kpi": "humidity", "value": 1}) + "\n"
    command = [sys.executable, "-m", "services.ops", "publish"]
    environment = os.environ | at | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None
        for published in (1, 2):
            process.stdin.write(line.encode())
            process.stdin.flush()
            there = functools.partial(_there, server, published)
            eventually(there, 60, f"event {published}")
        out, _ = process.communicate(timeout=60)
    assert out == b"published=2 duplicates=0 refused=0\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--device", "d"), "--value"),
        ((*ONE, "--attribute", "x"), "NAME=TEXT"),
    ],
)
def test_half_an_event_is_refused(arguments: tuple[str, ...], words: str) -> None:
    """Before anything is asked for."""
    result = telemetry("publish", *arguments, REDIS_HOST="127.0.0.1", REDIS_PORT="1")
    assert is_refusal(result, 2)
    assert words in result.stderr


def test_a_wrong_value_is_told_without_an_event(server: Server) -> None:
    """With what is allowed."""
    done = _publish(server, "--device", "d", "--kpi", "humidity", "--value", "400")
    assert done.exit_code == 1
    assert "humidity is 0 to 100 %" in done.stderr
    assert _entries(server) == []


def test_without_a_server_it_says_what_to_do() -> None:
    """None is started: what is published there would wait for nobody knows whom."""
    result = telemetry("publish", *ONE)
    assert is_refusal(result, 2)
    assert "`telemetry run` starts one" in result.stderr
