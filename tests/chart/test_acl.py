"""The ACL users of the chart's Redis, by real processes on a real server: each does its work, and no more."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from chart.rendering import ROOT, Rendered, template
from prometheus_client.parser import text_string_to_metric_families
from servers import LocalServer, eventually, free_port, local_binary, new_client

from services.contract.streams import StreamKeys
from services.runtime.catalogue import CATALOGUE

USERS: Final = ("producer", "consumer", "operator", "observer")
KEYS: Final = StreamKeys()
_TIMEOUT_S: Final = 60.0


@pytest.fixture
def guarded(tmp_path: Path, helm: None) -> Iterator[LocalServer]:  # noqa: ARG001 - it renders the users
    """Start a server with the users that the chart gives it, each with its name as the password.

    A redis-server, where there is one: the newest Valkey is more forgiving in what the default user lacks.
    """
    config = Rendered(template().stdout).named("ConfigMap", "demo-redis")["data"]
    rules = dict(line.split(" ", 1) for line in config["users"].splitlines())
    assert tuple(rules) == USERS
    for user in USERS:
        (tmp_path / user).write_text(user)
    lines = [f"user {user} on #{hashlib.sha256(user.encode()).hexdigest()} {rules[user]}" for user in USERS]
    (default,) = re.findall(r'echo "(user default [^"]*)"', config["start.sh"])
    (tmp_path / "users.acl").write_text("\n".join([*lines, default, ""]))
    found = shutil.which("redis-server")
    options = ("--appendonly", "yes", "--aclfile", str(tmp_path / "users.acl"))
    server = LocalServer(Path(found) if found else local_binary(), tmp_path / "server", *options)
    server.start()
    yield server
    server.kill()


class Actor:
    """Runs services and commands as users of a server."""

    def __init__(self, server: LocalServer, folder: Path) -> None:
        self._server = server
        self._folder = folder

    def runs(self, user: str, *module: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        """Run `python -m MODULE ARGUMENTS` as this user, to its end."""
        environment = {
            **os.environ,
            "REDIS_HOST": self._server.host,
            "REDIS_PORT": str(self._server.port),
            "REDIS_USERNAME": user,
            "REDIS_PASSWORD_FILE": str(self._folder / user),
            "DATA_DIR": str(self._folder / "data"),
            "PYTHONPATH": str(ROOT),
            "PRODUCER_METRICS_PORT": "0",
            "CONSUMER_METRICS_PORT": "0",
            **settings,
        }
        return subprocess.run(
            [sys.executable, "-m", *module],
            env=environment,
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )

    def telemetry(self, user: str, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        """Run the command as this user."""
        return self.runs(user, "services.ops", *arguments, **settings)

    def client(self, user: str) -> redis.Redis:
        """Connect as this user."""
        return new_client(self._server, username=user, password=user)


def _must_have_worked(done: "subprocess.CompletedProcess[str]") -> str:
    """Every right was there: the process ended well, and nothing was refused on the way."""
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "NOPERM" not in said
    assert "ACL failure" not in said
    return said


_QUICK: Final[Mapping[str, str]] = {
    "CONSUMER_RUN_DURATION": "2",
    "SLEEP_INTERVAL": "0.05",
    "CLAIM_INTERVAL_S": "0.1",
    "RETENTION_INTERVAL_S": "0.2",
    "CONSUMER_EXPIRY_S": "1",
}


@pytest.mark.parametrize("dead_letters", ["file", "stream"])
def test_each_user_has_the_rights_of_its_work(
    guarded: LocalServer, tmp_path: Path, dead_letters: str
) -> None:
    """Publish, consume, replay a dead letter, audit: with nothing refused, and nothing missing."""
    actor = Actor(guarded, tmp_path)
    settings = {"DEAD_LETTERS": dead_letters}
    mixed = ("--rate", "500", "--duration", "1", "--invalid-ratio", "0.1", "--duplicate-ratio", "0.1")
    _must_have_worked(actor.runs("producer", "services.producer", *mixed, "--seed", "1"))
    for name in ("consumer-1", "consumer-2"):  # the second claims, trims and looks for the long gone
        _must_have_worked(
            actor.runs("consumer", "services.consumer", CONSUMER_NAME=name, **_QUICK, **settings)
        )
    for command in (
        "status",
        "audit",
        "dlq list",
        "dlq replay --reason value_invalid --yes",
        "audit",
        "dlq purge --replayed --yes",
    ):
        _must_have_worked(actor.telemetry("operator", *command.split(), **settings))
    _must_have_worked(actor.runs("consumer", "services.consumer", **_QUICK, **settings))
    audit = json.loads(actor.telemetry("operator", "audit", "--json", "--wait", "10", **settings).stdout)
    assert (audit["missing"], audit["undelivered"], audit["pending"]) == (0, 0, 0)
    assert audit["published"] > 300


def test_a_consumer_observes_the_group_and_tells_the_recorded_audit(
    guarded: LocalServer, tmp_path: Path
) -> None:
    """With a port for its metrics it takes the lease, and has every figure: nothing is refused."""
    actor = Actor(guarded, tmp_path)
    limit = {"STREAM_MAX_LENGTH": "5000"}
    _must_have_worked(
        actor.runs("producer", "services.producer", "--rate", "200", "--duration", "1", **limit)
    )
    for user in ("consumer", "operator"):  # either may record: the command in a pod, and a CronJob
        _must_have_worked(actor.telemetry(user, "audit", "--record"))
    port = free_port()
    settings = {**_QUICK, "CONSUMER_RUN_DURATION": "12", "CONSUMER_METRICS_PORT": str(port)}
    consumer = threading.Thread(
        target=lambda: said.append(_must_have_worked(actor.runs("consumer", "services.consumer", **settings)))
    )
    said: list[str] = []
    consumer.start()
    # The first look may come before the group is made, and the second comes five seconds later.
    names = {one.name.removesuffix("_total") for one in CATALOGUE if one.scope == "group"}
    eventually(lambda: names <= _families(port), _TIMEOUT_S, "every figure of the group")
    consumer.join()
    assert said
    assert "right_lacking" not in said[0]
    with closing(actor.client("operator")) as client:
        eventually(lambda: client.get(KEYS.observer) is None, _TIMEOUT_S, "the lease is given back")


def _families(port: int) -> set[str]:
    """Scrape; nothing while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return set()
    return {family.name for family in text_string_to_metric_families(text)}


def test_a_file_is_replayed_and_gone_on_with_as_the_producer(guarded: LocalServer, tmp_path: Path) -> None:
    """Replaying keeps its own records, of the source and of foreign ids."""
    actor = Actor(guarded, tmp_path)
    (tmp_path / "events.csv").write_text(
        "event_id,device_id,zone,ts,kpi,value\n"
        "5f0b9c1e-8f0a-4d8b-9a1e-0c4f4a1b2c3d,pump-1,hall,1700000000,temperature,20.5\n"
        ",pump-1,hall,1700000001,temperature,21\n"
    )
    for _ in range(2):
        _must_have_worked(actor.runs("producer", "services.producer", "--from", "events.csv", "--resume"))
    with closing(actor.client("operator")) as client:
        assert client.xlen(KEYS.stream) == 2


def test_a_producer_may_drop_the_oldest(guarded: LocalServer, tmp_path: Path) -> None:
    """STREAM_FULL=drop_oldest looks at groups and trims."""
    actor = Actor(guarded, tmp_path)
    options = {"STREAM_FULL": "drop_oldest", "STREAM_MAX_LENGTH": "50", "BATCH_SIZE": "20"}
    _must_have_worked(
        actor.runs("producer", "services.producer", "--rate", "200", "--duration", "1", **options)
    )
    with closing(actor.client("operator")) as client:
        assert 0 < client.xlen(KEYS.stream) <= 50


def test_the_command_reads_as_the_consumer_and_publishes_as_the_operator(
    guarded: LocalServer, tmp_path: Path
) -> None:
    """In a consumer's pod: audit works as either user, and a replay needs the operator."""
    actor = Actor(guarded, tmp_path)
    _must_have_worked(
        actor.runs(
            "producer", "services.producer", "--rate", "100", "--duration", "1", "--invalid-ratio", "0.5"
        )
    )
    _must_have_worked(actor.runs("consumer", "services.consumer", **_QUICK))
    for command in ("audit", "status", "dlq list"):
        _must_have_worked(actor.telemetry("consumer", *command.split()))
    replay = ("dlq", "replay", "--reason", "value_invalid", "--yes")
    refused = actor.telemetry("consumer", *replay)
    assert refused.returncode == 1
    assert "lacks a right for this user" in refused.stderr
    assert "Traceback" not in refused.stderr
    as_operator = {
        "OPERATOR_REDIS_USERNAME": "operator",
        "OPERATOR_REDIS_PASSWORD_FILE": str(tmp_path / "operator"),
    }
    _must_have_worked(actor.telemetry("consumer", *replay, **as_operator))


def test_a_restart_of_the_server_keeps_what_these_users_wrote(guarded: LocalServer, tmp_path: Path) -> None:
    """Its append-only file is replayed as the default user, which is off and has all rights for that."""
    actor = Actor(guarded, tmp_path)
    _must_have_worked(actor.runs("producer", "services.producer", "--rate", "200", "--duration", "1"))
    before = json.loads(actor.telemetry("operator", "audit", "--json").stdout)
    guarded.restart()
    after = json.loads(actor.telemetry("operator", "audit", "--json").stdout)
    assert after == before
    assert (after["undelivered"], after["missing"]) == (after["published"], 0)
    _must_have_worked(actor.runs("consumer", "services.consumer", **_QUICK))
    assert json.loads(actor.telemetry("operator", "audit", "--json").stdout)["stored"] == after["published"]


FORBIDDEN: Final[list[tuple[str, tuple[Any, ...]]]] = [
    ("producer", ("XREADGROUP", "GROUP", KEYS.group, "me", "STREAMS", KEYS.stream, ">")),
    ("producer", ("XACK", KEYS.stream, KEYS.group, "1-1")),
    ("consumer", ("XADD", KEYS.stream, "*", "a", "b")),
    ("consumer", ("HSET", KEYS.run("r"), "last", "1")),
    ("consumer", ("SET", KEYS.limit, "1")),
    ("consumer", ("DEL", KEYS.audit)),
    ("operator", ("FLUSHALL",)),
    ("operator", ("CONFIG", "GET", "*")),
    ("observer", ("XRANGE", KEYS.stream, "-", "+")),
    ("observer", ("XADD", KEYS.stream, "*", "a", "b")),
    *((user, ("SET", "other", "1")) for user in USERS),
    *((user, ("DEL", KEYS.stream)) for user in USERS),
    *((user, ("ACL", "LIST")) for user in USERS),
    *((user, ("KEYS", "*")) for user in USERS),
]


@pytest.mark.parametrize(("user", "command"), FORBIDDEN, ids=lambda part: str(part)[:40])
def test_no_user_may_do_what_is_not_its_work(
    guarded: LocalServer, tmp_path: Path, user: str, command: tuple[Any, ...]
) -> None:
    """The server itself refuses it."""
    with (
        closing(Actor(guarded, tmp_path).client(user)) as client,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        client.execute_command(*command)


def test_nobody_gets_in_without_a_password(guarded: LocalServer) -> None:
    """The default user is off."""
    with closing(new_client(guarded)) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
