"""`telemetry doctor`: what it finds on real servers and in folders, and what it says to do."""

import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from samples import row
from servers import Server
from telemetry_cli import json_lines, store, telemetry

from services.ops.doctor import disk, may_run_scripts


def _found(exit_code: int, **environment: str) -> dict[str, Any]:
    result = telemetry("doctor", "--json", **environment)
    assert result.exit_code == exit_code, result.stderr
    return {one["check"]: one for one in json_lines(result)}


def _at(server: Server) -> dict[str, str]:
    return {"REDIS_HOST": server.host, "REDIS_PORT": str(server.port)}


def test_where_nothing_was_ever_run_all_is_well_and_stays_as_it_is() -> None:
    """No server is started, and no file made."""
    found = _found(0)
    assert {one["state"] for one in found.values() if one["check"] != "disk"} == {"ok"}
    assert found["disk"]["state"] in {"ok", "mind"}  # of the machine that the tests run on
    assert "`telemetry run` starts its own" in found["broker"]["found"]
    assert list(Path.cwd().iterdir()) == []


def test_a_pipeline_that_runs_is_well(server: Server) -> None:
    """Broker, clock, store, rights and disk; a server of an old patch release is one to mind."""
    store([row(1)])
    with closing(server.client()) as client:
        client.execute_command("XADD", "telemetry_stream", "*", "a", "b")
    found = _found(0, **_at(server))
    assert {name for name, one in found.items() if one["state"] == "ok"} >= {
        "settings", "versions", "broker", "clock", "store", "rights",
    }  # fmt: skip
    assert "disk" in found
    assert found["store"]["found"].endswith("with events")
    assert str(server.port) in found["broker"]["found"]


def test_a_clock_that_is_behind_is_wrong(server: Server) -> None:
    """By the ids of the stream."""
    ahead = int((time.time() + 3600) * 1000)
    with closing(server.client()) as client:
        client.execute_command("XADD", "telemetry_stream", f"{ahead}-0", "a", "b")
    clock = _found(1, **_at(server))["clock"]
    assert clock["state"] == "wrong"
    assert "set the clock" in clock["do"]


def test_what_is_away_is_told_with_what_to_do_and_the_rest_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broker that does not answer, a file in the folder's place, a database that is none."""
    Path("data").mkdir()
    Path("data/telemetry.db").write_text("no database, and long enough to be none" * 100, encoding="utf-8")
    found = _found(1, REDIS_HOST="127.0.0.1", REDIS_PORT="1")
    assert "can't be reached" in found["broker"]["found"]
    assert "REDIS_HOST" in found["broker"]["do"]
    assert "no SQLite database" in found["store"]["found"]
    assert found["disk"]["state"] in {"ok", "mind"}
    Path("file").touch()
    assert "is no folder" in _found(1, DATA_DIR="file/data")["rights"]["found"]
    monkeypatch.setattr("os.access", lambda *_a, **_k: False)
    rights = _found(1, DATA_DIR="elsewhere")["rights"]
    assert "can't be written to" in rights["found"]
    assert "chown" in rights["do"]
    monkeypatch.setattr("services.ops.doctor.find_server", lambda: None)
    assert "install one" in _found(1, DATA_DIR="elsewhere")["broker"]["do"]


@pytest.mark.parametrize(
    ("free", "state"), [(1 << 20, "wrong"), (1 << 29, "mind"), (5 << 30, "mind"), (60 << 30, "ok")]
)
def test_a_disk_is_judged_by_what_is_left(free: int, state: str, tmp_path: Path) -> None:
    """Of 100 GiB: less than a tenth is to be minded."""
    given = os.statvfs_result((1, 1, 100 << 30, free, free, 1, 1, 1, 0, 255))
    assert disk(tmp_path, lambda _: given).state == state


@pytest.mark.parametrize(
    ("name", "version", "trusted"),
    [
        ("redis", "8.2.1", False),
        ("redis", "8.2.2", True),
        ("redis", "7.0.15", False),
        ("redis", "8.4.0", True),
        ("valkey", "8.1.3", False),
        ("valkey", "8.1.4", True),
        ("valkey", "9.1.2", True),
        ("redis", None, True),
        ("redis", "unknown", True),
    ],
)
def test_servers_in_which_scripts_are_dangerous_are_known(
    name: str, version: str | None, *, trusted: bool
) -> None:
    """By the first patch release of each line that is mended."""
    assert may_run_scripts(name, version) is trusted
