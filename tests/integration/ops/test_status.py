"""`telemetry status` on real servers."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from integration.producer.parts import Bench, announce, read_as
from samples import RUN, dead, event_fields, row
from servers import LocalServer, Server
from telemetry_cli import bury, is_refusal, store, telemetry

from services.brokers.redis.keys import StreamKeys
from services.ops.status.looks import Looks
from services.runtime.settings import ConsumerSettings

KEYS = StreamKeys()
ROOT = Path(__file__).parents[3]


def _at(server: Server | LocalServer) -> dict[str, str]:
    return {"REDIS_HOST": server.host, "REDIS_PORT": str(server.port)}


def _fill(server: Server) -> None:
    """Five entries: one pending, two acknowledged, two undelivered; a run, rows and dead letters."""
    with closing(server.client()) as client:
        for number in range(1, 6):
            client.execute_command("XADD", KEYS.stream, "*", *event_fields(number))
        client.xgroup_create(KEYS.stream, KEYS.group, "0")
        reply: Any = client.xreadgroup(KEYS.group, "consumer-1", {KEYS.stream: ">"}, count=3)
        client.xack(KEYS.stream, KEYS.group, *(entry_id for entry_id, _ in reply[0][1][1:]))
        client.sadd(KEYS.runs, RUN)
        record: Any = {
            "started_at": 1_700_000_000.0,
            "source": "generator",
            "host": "laptop",
            "pid": 17,
            "published": 5,
            "duplicates": 1,
            "unnumbered": 0,
            "last": 5,
            "updated_at": 1_700_000_009.0,
            "line": 6,
            "done": 1,
        }
        client.hset(KEYS.run(RUN), mapping=record)
        client.append(KEYS.run_ids(RUN), bytes(32))
    store([row(2), row(3)])
    bury([dead(8), dead(9)]).mark_replayed([("1700000000000-9", "1-1")])


def test_of_entries_of_many_events_both_are_told(server: Server) -> None:
    """How many entries, how many events of them, and how many events ever came, whatever was trimmed."""
    with closing(server.client()) as client:
        announce(client)
        read_as(client)
        bench, single = Bench(client, events_per_entry=10), Bench(client)
        single.publisher.publish(single.batch(2))
        bench.publisher.publish(bench.batch(25))
        client.xtrim(KEYS.stream, maxlen=2, approximate=False)
        for _ in range(3):
            single.publisher.publish(single.batch(2))
        client.xtrim(KEYS.stream, maxlen=2, approximate=False)
        single.publisher.publish(single.batch(1))
        bench.publisher.publish(bench.batch(30))
        result = telemetry("status", "--json", **_at(server))
        stream = json.loads(result.stdout)["stream"]
        assert {name: stream[name] for name in ("length", "events", "added", "added_events")} == {
            "length": 6, "events": 33, "added": 2 + 3 + 6 + 1 + 3, "added_events": 2 + 25 + 6 + 1 + 30,
        }  # fmt: skip
        shown = " ".join(telemetry("status", **_at(server)).stdout.split())
        assert "6 entries of 33 events" in shown
        for run in (bench.run.name, single.run.name):
            client.hset(KEYS.run(run), mapping={"last": 0, "published": 0})
    audited = json.loads(telemetry("audit", "--json", **_at(server)).stdout)
    assert any(note.startswith("64 of the 64 events that the stream has had") for note in audited["notes"]), (
        audited
    )


def test_everything_that_is_there_is_told(server: Server) -> None:
    """One document for programs, with what each part holds."""
    _fill(server)
    result = telemetry("status", "--json", **_at(server))
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["server"]["address"] == f"{server.host}:{server.port}"
    assert document["server"]["version"] == ".".join(map(str, server.version))
    assert (document["stream"]["length"], document["stream"]["added"]) == (5, 5)
    (group,) = document["groups"]
    assert (group["name"], group["lag"], group["lag_known"], group["pending"]) == (KEYS.group, 2, True, 1)
    assert group["oldest_pending_age_s"] > 0
    assert group["oldest_unread_age_s"] > 0
    figures = document["figures"]
    assert (figures["in_per_s"], figures["law"], figures["audit"], figures["processes"]) == (
        None,
        None,
        None,
        [],
    )
    (consumer,) = document["consumers"]
    assert (consumer["name"], consumer["group"], consumer["pending"]) == ("consumer-1", KEYS.group, 1)
    assert document["database"]["rows"] == 2
    assert document["dead_letters"]["reasons"] == [{"reason": "value_invalid", "letters": 2, "replayed": 1}]
    (run,) = document["runs"]
    assert (run["run"], run["source"], run["pid"], run["published"]) == (RUN, "generator", 17, 5)
    assert (run["started_at"], run["line"], run["done"], run["foreign"]) == (1_700_000_000.0, 6, True, 2)


def test_a_person_sees_the_same(server: Server) -> None:
    """Titles and aligned lines."""
    _fill(server)
    shown = telemetry("status", **_at(server)).stdout
    assert "telemetry_stream: 5 entries" in shown
    assert "2 rows in data/telemetry.db" in shown
    assert "Dead letters: 2 in data/dlq.jsonl" in shown
    assert any(line.split()[:3] == [RUN, "generator", "laptop"] for line in shown.splitlines())


def test_the_last_audit_is_told(server: Server) -> None:
    """Of whoever recorded it, and whenever."""
    _fill(server)
    with closing(server.client()) as client:
        client.hset(KEYS.audit, mapping={"missing": 3, "published": 1234, "ended_at": 1_700_000_000.5})
    document = json.loads(telemetry("status", "--json", **_at(server)).stdout)
    assert document["figures"]["audit"] == {
        "missing": 3, "published": 1234, "conflicts": 0, "ended_at": 1_700_000_000.5,
    }  # fmt: skip
    assert "3 MISSING of 1,234 published" in telemetry("status", **_at(server)).stdout


def test_rates_are_of_the_time_between_two_looks(server: Server) -> None:
    """Without processes that answer, by what the stream, the sink and the letters have."""
    settings = ConsumerSettings(redis_host=server.host, redis_port=server.port, metrics_port=0)
    looks = Looks(settings)
    assert looks.look()["figures"]["seconds"] is None
    _fill(server)
    figures = looks.look()["figures"]
    grown = {name: figures[f"{name}_per_s"] * figures["seconds"] for name in ("in", "stored", "dead")}
    assert grown == pytest.approx({"in": 5, "stored": 2, "dead": 2})
    assert looks.look()["figures"]["in_per_s"] == 0


def test_other_groups_are_shown_beside_ours(server: Server) -> None:
    """A group that nobody reads keeps the stream from being trimmed: it has to be seen."""
    _fill(server)
    with closing(server.client()) as client:
        client.xgroup_create(KEYS.stream, "archive", "0")
    groups = {
        one["name"]: one for one in json.loads(telemetry("status", "--json", **_at(server)).stdout)["groups"]
    }
    assert groups["archive"]["lag"] == 5
    assert (groups["archive"]["is_ours"], groups[KEYS.group]["is_ours"]) == (False, True)


def test_where_nothing_is_yet_it_is_said_so(server: Server) -> None:
    """No stream, no group, no database, no letters: no error, and nothing is made."""
    result = telemetry("status", **_at(server))
    assert result.exit_code == 0
    for text in ("no stream yet", "a consumer makes its group", "no database yet", "none has published here"):
        assert text in result.stdout
    assert not Path("data").exists()
    document = json.loads(telemetry("status", "--json", **_at(server)).stdout)
    assert (document["stream"], document["groups"], document["database"]["rows"]) == (None, [], None)


def test_dead_letters_in_redis_are_counted(server: Server) -> None:
    """DEAD_LETTERS says which place is meant."""
    document = json.loads(telemetry("status", "--json", **_at(server), DEAD_LETTERS="stream").stdout)
    assert document["dead_letters"] == {
        "place": "{telemetry_stream}:dlq", "letters": 0, "events": 0, "conflicts": 0, "replayed": 0,
        "purged": 0, "reasons": [], "notes": [],
    }  # fmt: skip


def test_a_server_that_is_away_is_told_and_the_rest_is_shown() -> None:
    """Exit code 2; rows and letters are on this machine, whatever the server does."""
    store([row(1)])
    result = telemetry("status", REDIS_HOST="127.0.0.1", REDIS_PORT="1")
    assert result.exit_code == 2
    assert "Redis at 127.0.0.1:1 can't be reached" in result.stderr
    assert "1 rows in data/telemetry.db" in result.stdout
    assert "Groups" not in result.stdout


def test_without_any_server_the_rest_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is named by the settings, and none runs here: that is no error, and none is started."""
    store([row(1)])
    result = telemetry("status", REDIS_PORT="1")
    assert result.exit_code == 0, result.stderr
    assert "there is no server: BROKER_URL and REDIS_HOST name none" in result.stdout
    assert "1 rows in data/telemetry.db" in result.stdout
    assert not Path("data/redis").exists()
    monkeypatch.setattr("services.ops.server.own.find_server", lambda: None)
    result = telemetry("status", "--start-server")
    assert is_refusal(result, 2)
    assert "there is no Redis" in result.stderr


def test_a_server_that_starts_nowhere_ends_a_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is told in one line."""
    monkeypatch.setattr("services.ops.server.own.find_server", lambda: None)
    bury([dead(1)])
    result = telemetry("dlq", "replay", "--yes")
    assert is_refusal(result, 2)
    assert "there is no Redis" in result.stderr


def test_dead_letters_that_can_t_be_read_are_told(server: Server) -> None:
    """A folder in the file's place: exit code 1, and the stream is still shown."""
    Path("data/dlq.jsonl").mkdir(parents=True)
    result = telemetry("status", **_at(server))
    assert result.exit_code == 1
    assert result.stderr == "data/dlq.jsonl: no ordinary file; move it away\n"
    assert "no stream yet" in result.stdout


def test_the_newest_runs_stand_for_many(server: Server) -> None:
    """Ten for a person, all for a program; a damaged record is no obstacle."""
    with closing(server.client()) as client:
        for number in range(12):
            client.sadd(KEYS.runs, f"run-{number:02d}")
            record: Any = {"started_at": number, "published": 1}
            client.hset(KEYS.run(f"run-{number:02d}"), mapping=record)
        client.hset(KEYS.run("run-00"), "started_at", "long ago")
    shown = telemetry("status", **_at(server)).stdout
    assert "Producer runs, the newest 10 of 12" in shown
    assert "run-11" in shown
    assert "run-01" not in shown
    assert len(json.loads(telemetry("status", "--json", **_at(server)).stdout)["runs"]) == 12


def test_a_database_that_can_t_be_read_is_told(server: Server) -> None:
    """Exit code 2, and the stream is still shown."""
    Path("data").mkdir()
    Path("data/telemetry.db").write_bytes(b"no database" * 100)
    result = telemetry("status", **_at(server))
    assert result.exit_code == 2
    assert result.stderr == "data/telemetry.db is no SQLite database\n"
    assert "no stream yet" in result.stdout


def test_a_key_of_another_kind_in_the_stream_s_place_is_told(server: Server) -> None:
    """Somebody else uses that name."""
    with closing(server.client()) as client:
        client.set(KEYS.stream, "text")
    result = telemetry("status", **_at(server))
    assert result.exit_code == 2
    assert "WRONGTYPE" in result.stderr


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_watching_goes_on_until_ctrl_c_and_ends_well(
    own_server: Callable[..., LocalServer], form: list[str]
) -> None:
    """A line each time, the loss of the server included, and exit code 0."""
    server = own_server()
    command = [sys.executable, "-m", "services.ops", "status", "--watch", "--interval", "0.1", *form]
    environment = {**os.environ, **_at(server), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        assert "stored=- " in first or json.loads(first)["stream"] is None
        server.kill()
        while "can't be reached" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        assert process.stderr.read() == ""
