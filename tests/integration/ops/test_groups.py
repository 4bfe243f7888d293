"""`telemetry groups` on real servers: what each group holds back, and the end of one."""

import json
from contextlib import closing
from typing import Any

import pytest
import redis
from samples import event_fields
from servers import Server
from telemetry_cli import is_refusal, telemetry

from services.brokers.redis.keys import StreamKeys

KEYS = StreamKeys()
OLD = "readers_of_before"
NOT_UTF8 = b"caf\xe9"


def _at(server: Server) -> dict[str, str]:
    return {"REDIS_HOST": server.host, "REDIS_PORT": str(server.port)}


def _groups(server: Server) -> dict[str, Any]:
    found = json.loads(telemetry("groups", "--json", **_at(server)).stdout)
    return {one["name"]: one for one in found["groups"]}


def _read(client: redis.Redis, group: str, count: int, *, acknowledge: int = 0) -> None:
    reply: Any = client.xreadgroup(group, "consumer-1", {KEYS.stream: ">"}, count=count)
    ids = [entry_id for entry_id, _ in reply[0][1]]
    if acknowledge:
        client.xack(KEYS.stream, group, *ids[:acknowledge])


@pytest.fixture
def filled(server: Server) -> Server:
    """Five entries: ours has acknowledged all, another group has one pending and three unread."""
    with closing(server.client()) as client:
        for number in range(1, 6):
            client.execute_command("XADD", KEYS.stream, "*", *event_fields(number))
        for group in (KEYS.group, OLD):
            client.xgroup_create(KEYS.stream, group, "0")
        _read(client, KEYS.group, 5, acknowledge=5)
        _read(client, OLD, 2, acknowledge=1)
    return server


def test_each_group_is_shown_with_what_it_holds_back(filled: Server) -> None:
    """To programs and to people."""
    found = _groups(filled)
    assert found.keys() == {KEYS.group, OLD}
    ours, old = found[KEYS.group], found[OLD]
    assert (ours["is_ours"], ours["pending"], ours["unread"], ours["oldest_age_s"]) == (True, 0, 0, None)
    assert (old["is_ours"], old["pending"], old["unread"]) == (False, 1, 3)
    assert old["oldest_age_s"] > 0
    assert (old["consumers"], old["live"]) == (1, 1)
    assert old["idle_s"] < 60
    shown = telemetry("groups", **_at(filled)).stdout
    (line,) = (line.split() for line in shown.splitlines() if OLD in line)
    assert line[:4] == [OLD, "no", "1", "3"]


def test_where_there_is_no_stream_it_is_said_so(server: Server) -> None:
    """No error, and none is made."""
    result = telemetry("groups", **_at(server))
    assert (result.exit_code, "none yet" in result.stdout) == (0, True)
    with closing(server.client()) as client:
        assert not client.exists(KEYS.stream)


def test_a_group_that_nobody_reads_by_is_removed_when_told_to(filled: Server) -> None:
    """Its entries stay for the others, and it says what the group held."""
    result = telemetry("groups", "remove", OLD, "--yes", **_at(filled), CLAIM_IDLE_MS="56000")
    assert is_refusal(result, 1)  # it was read a moment ago
    assert "being read by 1 consumer" in result.stderr
    with closing(filled.client()) as client:
        client.xgroup_delconsumer(KEYS.stream, OLD, "consumer-1")
    result = telemetry("groups", "remove", OLD, "--yes", **_at(filled))
    assert result.exit_code == 0, result.stderr
    assert "3 unread and 0 unacknowledged" in result.stdout
    assert _groups(filled).keys() == {KEYS.group}
    with closing(filled.client()) as client:
        assert client.xlen(KEYS.stream) == 5


def test_one_that_is_being_read_is_removed_by_force_alone(filled: Server) -> None:
    """With entries that it had taken."""
    result = telemetry("groups", "remove", OLD, "--yes", "--force", **_at(filled))
    assert "3 unread and 1 unacknowledged" in result.stdout
    assert _groups(filled).keys() == {KEYS.group}


def test_our_own_group_is_removed_by_force_alone(filled: Server) -> None:
    """Consumers would make it again, and read everything once more."""
    result = telemetry("groups", "remove", KEYS.group, "--yes", **_at(filled))
    assert is_refusal(result, 1)
    assert "GROUP_NAME" in result.stderr
    assert _groups(filled).keys() == {KEYS.group, OLD}
    assert telemetry("groups", "remove", KEYS.group, "--yes", "--force", **_at(filled)).exit_code == 0
    assert _groups(filled).keys() == {OLD}


def test_nothing_is_removed_unasked(filled: Server) -> None:
    """Where nobody can answer, the question names what would be lost, and what to add."""
    with closing(filled.client()) as client:
        client.xgroup_create(KEYS.stream, "forgotten", "0")
    result = telemetry("groups", "remove", "forgotten", **_at(filled))
    assert is_refusal(result, 2)
    assert "5 unread and 0 unacknowledged" in result.stderr
    assert "--yes" in result.stderr
    assert "forgotten" in _groups(filled)


def test_a_name_that_is_none_is_refused_with_those_that_are(filled: Server) -> None:
    """One line."""
    result = telemetry("groups", "remove", "typo", "--yes", **_at(filled))
    assert is_refusal(result, 1)
    assert OLD in result.stderr


def test_a_name_that_is_no_utf8_is_shown_and_removed_by_what_is_shown(filled: Server) -> None:
    """Whoever made it."""
    with closing(filled.client()) as client:
        client.execute_command("XGROUP", "CREATE", KEYS.stream, NOT_UTF8, "0")
    assert "caf\\xe9" in _groups(filled)
    assert telemetry("groups", "remove", "caf\\xe9", "--yes", **_at(filled)).exit_code == 0
    assert _groups(filled).keys() == {KEYS.group, OLD}


def test_a_server_that_is_away_is_told() -> None:
    """One line, and no traceback."""
    assert is_refusal(telemetry("groups", REDIS_HOST="127.0.0.1", REDIS_PORT="1"), 2)
