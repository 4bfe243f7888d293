"""A node of a Redis cluster: every key of a stream lives there, so all parts work on it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import Absent, LocalServer, eventually, form_cluster, local_binary

from services.brokers.redis.keys import StreamKeys, slot_of

ROOT: Final = Path(__file__).resolve().parents[4]
NAMES: Final = ("telemetry_stream", "events:{zone1}", "{plant}:events", "odd}name", "{}events")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[LocalServer]]:
    """Start a cluster of two nodes; each has half of the slots."""
    folder = tmp_path_factory.mktemp("cluster")
    try:
        binary = local_binary()
    except Absent as why:
        pytest.skip(str(why))
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    nodes = [LocalServer(binary, folder / str(number), *options) for number in range(2)]
    try:
        for node in nodes:
            node.start()
        form_cluster(*nodes)
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def owner_of(cluster: list[LocalServer], stream: str) -> LocalServer:
    return cluster[0 if slot_of(stream) < 8192 else 1]


def run(
    server: LocalServer, folder: Path, stream: str, *module: str, until: Callable[[], bool] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m MODULE ARGUMENTS` on a node, to its end; `until`: when it is told to end."""
    environment = {
        **os.environ,
        "REDIS_HOST": server.host,
        "REDIS_PORT": str(server.port),
        "STREAM_NAME": stream,
        "DEAD_LETTERS": "stream",
        "DATA_DIR": str(folder / "data"),
        "PYTHONPATH": str(ROOT),
        "PRODUCER_METRICS_PORT": "0",
        "CONSUMER_METRICS_PORT": "0",
        "CONSUMER_RUN_DURATION": "0",
        "SLEEP_INTERVAL": "0.05",
        "RETENTION_INTERVAL_S": "0.2",
    }
    with subprocess.Popen(
        [sys.executable, "-m", *module],
        env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            if until is not None:
                eventually(lambda: until() or process.poll() is not None, 60, "it has done its work")
                process.send_signal(signal.SIGTERM)
            stdout, stderr = process.communicate(timeout=60)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def consumed(server: LocalServer, folder: Path, stream: str) -> str:
    """Run a consumer on a node until its group has settled all that the stream has."""
    with closing(server.client()) as client:

        def is_settled() -> bool:
            groups: Any = client.xinfo_groups(stream) if client.exists(stream) else []
            return any((group["lag"], group["pending"]) == (0, 0) for group in groups)

        return worked(run(server, folder, stream, "services.consumer", until=is_settled))


def worked(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    assert "redis_unavailable" not in done.stdout
    return done.stdout


@given(st.text(min_size=1, max_size=20) | st.text("{}ab", max_size=10) | st.sampled_from(NAMES))
def test_the_server_says_the_same_of_a_key(cluster: list[LocalServer], name: str) -> None:
    """The slot of every key is what CLUSTER KEYSLOT says, and it is the stream's."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    with closing(cluster[0].client()) as client:
        assert client.execute_command("CLUSTER KEYSLOT", name) == slot_of(name)
        keys = StreamKeys(name or "s")
        for key in (keys.dead_letters, f"{keys.dead_letters}:purged", keys.run_ids("r"), keys.audit):
            assert client.execute_command("CLUSTER KEYSLOT", key) == slot_of(keys.stream)


@pytest.mark.parametrize("stream", ["telemetry_stream", "odd}name"])
def test_the_pipeline_runs_on_the_node_that_has_its_slot(
    cluster: list[LocalServer], tmp_path: Path, stream: str
) -> None:
    """Publish, consume, trim, dead letters, replay, purge, audit: all of it on one node of two."""
    node = owner_of(cluster, stream)

    def telemetry(*arguments: str) -> str:
        return worked(run(node, tmp_path, stream, "services.ops", *arguments))

    mixed = ("--rate", "300", "--duration", "1", "--invalid-ratio", "0.2", "--seed", "1")
    worked(run(node, tmp_path, stream, "services.producer", *mixed))
    consumed(node, tmp_path, stream)
    letters = [json.loads(line) for line in telemetry("dlq", "list", "--json", "--limit", "0").splitlines()]
    assert len(letters) > 10
    telemetry("dlq", "replay", "--reason", "value_invalid", "--set", "value=1", "--yes")
    consumed(node, tmp_path, stream)
    assert "purged" in telemetry("dlq", "purge", "--all", "--yes")
    found: Any = json.loads(telemetry("audit", "--json", "--wait", "5"))
    assert (found["missing"], found["pending"], found["undelivered"]) == (0, 0, 0)
    assert found["published"] > 200
    assert found["purged"] > 0
    status: Any = json.loads(telemetry("status", "--json"))
    assert (status["dead_letters"]["letters"], len(status["runs"])) == (0, 1)


def test_run_records_of_an_earlier_version_are_found(
    own_server: Callable[..., LocalServer], tmp_path: Path
) -> None:
    """A stream with braces had other names for its keys; what is recorded there still counts."""
    server, stream = own_server(), "events:{zone1}"
    keys = StreamKeys(stream)
    former = keys.former
    assert former is not None
    lines = [
        {"event_id": f"5f0b9c1e-8f0a-4d8b-9a1e-0c4f4a1b2c{n:02}", "device_id": "d", "zone": "z",
         "ts": 1_700_000_000 + n, "kpi": "temperature", "value": n} for n in range(40)
    ]  # fmt: skip
    file = tmp_path / "events.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines[:20]))
    publish = ("services.producer", "--from", "events.jsonl", "--resume")
    worked(run(server, tmp_path, stream, *publish))
    with closing(server.client()) as client:
        records: Any = client.keys(f"{keys.prefix}:*")
        for key in records:
            client.rename(key, f"{former.prefix}{key.decode().removeprefix(keys.prefix)}")
        # The earlier version was ended in the middle of the file.
        runs: Any = client.smembers(former.runs)
        (name,) = runs
        client.hset(former.run(name.decode()), "done", "0")
        file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        worked(run(server, tmp_path, stream, *publish))
        assert client.xlen(stream) == 40
        assert client.scard(keys.runs) == client.scard(former.runs) == 1
    consumed(server, tmp_path, stream)
    found: Any = json.loads(worked(run(server, tmp_path, stream, "services.ops", "audit", "--json")))
    assert (found["published"], found["stored"], found["missing"]) == (40, 40, 0)
    assert len(found["runs"]) == 2
