"""`telemetry doctor`: what it finds on real servers and in folders, and what it says to do."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from postgres import with_tables
from samples import row
from servers import Server
from telemetry_cli import json_lines, store, telemetry

from charts.users import rules
from services.contract.event import DEFAULT_STREAM
from services.ops.doctor import disk, may_run_scripts

_ALL: Final = "all that is needed"


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
    assert found["disk"]["state"] in {"ok", "warn"}  # of the machine that the tests run on
    assert "`telemetry run` starts its own" in found["broker"]["found"]
    assert list(Path.cwd().iterdir()) == []


def test_a_pipeline_that_runs_is_well(server: Server) -> None:
    """Broker, clock, store, rights and disk; a server of an old patch release is one to warn of."""
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


@contextmanager
def _user(server: Server, *rights: str) -> Iterator[dict[str, str]]:
    """Make a user with these rights, and give what connects as this user."""
    with closing(server.client()) as client:
        client.execute_command("ACL", "SETUSER", "weak", "reset", "on", ">x", *rights)
        try:
            yield _at(server) | {"REDIS_USERNAME": "weak", "REDIS_PASSWORD": "x"}
        finally:
            client.execute_command("ACL", "DELUSER", "weak")


def _state(client: Any) -> list[Any]:
    return [client.keys(), *client.xinfo_groups(DEFAULT_STREAM)]


def _for(finding: dict[str, Any]) -> dict[str, str]:
    """Give what a finding says for each user."""
    told = (one.removeprefix("for the ").partition(": ") for one in finding["found"].split("; "))
    return {user: missing for users, _, missing in told for user in users.split(" and the ")}


def test_a_user_without_rights_is_told_what_is_missing(server: Server) -> None:
    """As a finding of its own, and the server is not said to be away."""
    with _user(server, "+ping") as settings:
        found = _found(1, **settings)
    assert found["broker"]["state"] == "ok"
    assert "does not tell us its version" in found["broker"]["found"]
    rights = found["broker's rights"]
    assert (rights["state"], rights["do"]) == ("wrong", "grant it (docs/redis-users.md)")
    missing = "missing MULTI (the other rights were not looked at)"
    assert _for(rights) == dict.fromkeys(("producer", "consumer", "operator"), missing)
    assert found["clock"]["state"] == "warn"
    assert found["clock"]["found"].startswith("not looked at: ")
    with _user(server, "+info") as settings:
        assert _found(1, **settings)["broker"]["do"] == "grant it (docs/redis-users.md)"


def test_each_missing_right_is_named_with_its_key(server: Server) -> None:
    """Of a user who may look, and neither publish nor consume."""
    with _user(server, "~*", "+@all", "-xadd", "-xack", "-xautoclaim", "-smembers") as settings:
        rights = _found(1, **settings)["broker's rights"]
    assert rights["state"] == "wrong"
    assert _for(rights) == {
        "producer": f"missing XADD on {DEFAULT_STREAM}",
        "consumer": f"missing XAUTOCLAIM on {DEFAULT_STREAM}, XACK on {DEFAULT_STREAM}",
        "operator": f"missing XADD on {DEFAULT_STREAM}, SMEMBERS on {{{DEFAULT_STREAM}}}:runs",
    }


@pytest.mark.parametrize("user", ["producer", "consumer", "operator"])
@pytest.mark.parametrize("letters", ["stream", "file"])
def test_a_user_of_ours_is_known_by_its_rights(server: Server, user: str, letters: str) -> None:
    """Nothing is published, consumed or removed to see it."""
    with closing(server.client()) as client:
        client.xadd(DEFAULT_STREAM, {"a": "b"})
        client.xgroup_create(DEFAULT_STREAM, "telemetry_consumers", "0")
        before = _state(client)
        with _user(server, *_words(rules(DEFAULT_STREAM)[user])) as settings:
            found = _found(0, DEAD_LETTERS=letters, **settings)
        assert _state(client) == before
    rights = found["broker's rights"]
    assert rights["state"] == "ok"
    assert [one for one, missing in _for(rights).items() if missing == _ALL] == [user]


def _words(rule: str) -> list[str]:
    """Split a rule as a shell would: a selector in parentheses is one word."""
    words: list[str] = []
    for word in rule.split():
        if words and words[-1].startswith("(") and not words[-1].endswith(")"):
            words[-1] += f" {word}"
        else:
            words.append(word)
    return words


def test_a_role_without_rights_is_told_what_is_missing(postgres_url: str) -> None:
    """In a database with tables: one who may do nothing, one who may read, and the owner."""
    rights = _found(0, DATABASE_URL=postgres_url)["store's rights"]
    assert _for(rights) == {"consumer": _ALL}  # to make the tables
    with_tables(postgres_url)
    rights = _found(0, DATABASE_URL=postgres_url)["store's rights"]
    assert _for(rights) == {"consumer": _ALL, "reader": _ALL}
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE weak LOGIN PASSWORD 'x'")
        try:
            weak = {"DATABASE_URL": re.sub("//[^@]*@", "//weak:x@", postgres_url)}
            found = _found(1, **weak)
            assert found["store"]["found"].startswith("not looked at: ")
            rights = found["store's rights"]
            assert (rights["state"], rights["do"]) == ("wrong", "grant it (docs/postgres.md)")
            assert "USAGE on the schema telemetry" in _for(rights)["reader"]
            connection.execute("GRANT USAGE, CREATE ON SCHEMA telemetry TO weak")
            connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA telemetry TO weak")
            rights = _found(0, **weak)["store's rights"]
            assert _for(rights)["reader"] == _ALL
            assert _for(rights)["consumer"].startswith("missing ownership of events, INSERT on events, ")
        finally:
            connection.execute("DROP OWNED BY weak")
            connection.execute("DROP ROLE weak")


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
    assert found["disk"]["state"] in {"ok", "warn"}
    Path("file").touch()
    assert "is no folder" in _found(1, DATA_DIR="file/data")["rights"]["found"]
    monkeypatch.setattr("os.access", lambda *_a, **_k: False)
    rights = _found(1, DATA_DIR="elsewhere")["rights"]
    assert "can't be written to" in rights["found"]
    assert "chown" in rights["do"]
    monkeypatch.setattr("services.ops.doctor.find_server", lambda: None)
    assert "install one" in _found(1, DATA_DIR="elsewhere")["broker"]["do"]


@pytest.mark.parametrize(
    ("free", "state"), [(1 << 20, "wrong"), (1 << 29, "warn"), (5 << 30, "warn"), (60 << 30, "ok")]
)
def test_a_disk_is_judged_by_what_is_left(free: int, state: str, tmp_path: Path) -> None:
    """Of 100 GiB: less than a tenth is a warning."""
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
