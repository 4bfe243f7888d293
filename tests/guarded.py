"""Servers with the users of the chart, and services and commands that run as these users."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import redis
from servers import (
    KINDS,
    START_TIMEOUT_S,
    Address,
    Kind,
    LocalServer,
    answers,
    eventually,
    new_client,
    start_container,
)

from charts.users import rules
from services.brokers.redis.keys import StreamKeys

ROOT: Final = Path(__file__).parents[1]
KEYS: Final = StreamKeys()
USERS: Final = ("producer", "consumer", "operator", "observer")
ADMIN: Final = "admin"
"""A user of the tests, who may do all."""
DEFAULT: Final = "user default off ~* &* +@all"
"""As the chart's start.sh writes it."""
_TIMEOUT_S: Final = 60.0


def kind_of(name: str) -> Kind:
    """Give a kind of server by its name."""
    return next(kind for kind in KINDS if kind.name == name)


class Guarded:
    """A server of one kind with these users; each user's name is its password.

    `drops_oldest`: as the chart makes the users where STREAM_FULL is drop_oldest. Raises Absent.
    """

    def __init__(
        self, kind: Kind, folder: Path, *, stream: str = KEYS.stream, drops_oldest: bool = False
    ) -> None:
        self.folder = folder
        self.stream = stream
        for user in USERS:
            (folder / user).write_text(user, encoding="utf-8")
        found = rules(stream, drops_oldest=drops_oldest)
        assert tuple(found) == USERS
        lines = [_line(user, found[user]) for user in USERS]
        acl = folder / "acl" / "users.acl"
        acl.parent.mkdir()
        acl.write_text("\n".join([*lines, _line(ADMIN, "~* &* +@all"), DEFAULT, ""]), encoding="utf-8")
        self.local: LocalServer | None = None
        self._stop: Callable[[], None]
        self.server: Address
        if kind.image is None:
            assert kind.binary is not None
            options = ("--appendonly", "yes", "--aclfile", str(acl))
            self.local = LocalServer(kind.binary(), folder / "server", *options, name=kind.name)
            self.server, self._stop = self.local, self.local.kill
            self.local.start()
        else:
            options = ("--appendonly", "yes", "--aclfile", "/etc/redis/users.acl")
            self.server, self._stop = start_container(kind, acl.parent, *options)
            eventually(lambda: answers(self.server), START_TIMEOUT_S, f"{kind.name} serves")

    def client(self, user: str = ADMIN, **more: Any) -> redis.Redis:
        """Connect as a user."""
        return new_client(self.server, username=user, password=user, **more)

    def clear(self) -> None:
        """Remove all data, and what was refused so far."""
        with closing(self.client()) as client:
            client.flushall()
        self.forget_refusals()

    def forget_refusals(self) -> None:
        """Take what was refused so far as meant."""
        with closing(self.client()) as client:
            client.acl_log_reset()

    def refusals(self) -> list[str]:
        """Tell what the server has refused to our users since it was cleared."""
        with closing(self.client()) as client:
            found: Any = client.acl_log()
        return [f"{one['username']}: {one['reason']} {one['object']} {one['context']}" for one in found]

    def runs(self, user: str, *module: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        """Run `python -m MODULE ARGUMENTS` as this user, to its end."""
        with self.started(user, *module, **settings) as process:
            out, err = process.communicate(timeout=_TIMEOUT_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    @contextmanager
    def started(self, user: str, *module: str, **settings: str) -> Iterator["subprocess.Popen[str]"]:
        """Start it, and end it with the block, if it has not ended by then."""
        environment = {
            **os.environ,
            "REDIS_HOST": self.server.host,
            "REDIS_PORT": str(self.server.port),
            "REDIS_USERNAME": user,
            "REDIS_PASSWORD_FILE": str(self.folder / user),
            "DATA_DIR": str(self.folder / "data"),
            "STREAM_NAME": self.stream,
            "PYTHONPATH": str(ROOT),
            "PRODUCER_METRICS_PORT": "0",
            "CONSUMER_METRICS_PORT": "0",
            **settings,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def telemetry(self, user: str, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        """Run the command as this user."""
        return self.runs(user, "services.ops", *arguments, **settings)

    def close(self) -> None:
        """End the server."""
        self._stop()


def _line(user: str, rule: str) -> str:
    return f"user {user} on #{hashlib.sha256(user.encode()).hexdigest()} {rule}"


def stopped(process: "subprocess.Popen[str]") -> str:
    """Ask a process to stop; it must end well. Gives what it said."""
    process.terminate()
    out, err = process.communicate(timeout=_TIMEOUT_S)
    assert process.returncode == 0, out + err
    return out + err


def must_have_worked(done: "subprocess.CompletedProcess[str]") -> str:
    """See that a process ended well, and give what it said."""
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said
