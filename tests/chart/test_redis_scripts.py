"""The scripts of the chart's own Redis, on a real server: what probes say, and a changed password."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
import redis
from chart.rendering import Rendered, nested, template
from servers import Address, answers, eventually, free_port, new_client

_TIMEOUT_S: Final = 30.0
_USERS: Final = ("producer", "consumer", "operator", "observer")


class OwnRedis(Address):
    """The container of the chart's Redis without the container: its files, elsewhere."""

    host = "127.0.0.1"
    port: int = 0

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        config = Rendered(template(nested("redis.port", self.port)).stdout).named("ConfigMap", "demo-redis")
        for name in ("etc", "etc-passwords", "run", "data"):
            (folder / name).mkdir(parents=True)
        for name, text in config["data"].items():
            (folder / "etc" / name).write_text(self._here(text))
        for user in _USERS:
            self.rotate(user, f"{user}-1")
        self._log = (folder / "log").open("w+")
        self._process = subprocess.Popen(
            ["sh", str(folder / "etc" / "start.sh")],
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def _here(self, text: str) -> str:
        for path, name in (
            ("/etc/redis-passwords", "etc-passwords"),
            ("/etc/redis", "etc"),
            ("/run/redis", "run"),
            ("/data", "data"),
        ):
            text = text.replace(path, str(self.folder / name))
        return text

    def rotate(self, user: str, password: str) -> None:
        """Write what the Secret says."""
        (self.folder / "etc-passwords" / user).write_text(password)

    def probe(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Ask as the kubelet does."""
        command = ["sh", str(self.folder / "etc" / "probe.sh"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)

    def lets_in(self, user: str, password: str) -> bool:
        """Tell whether a password holds."""
        with closing(new_client(self, username=user, password=password)) as client:
            try:
                client.ping()
            except redis.AuthenticationError:
                return False
        return True

    @property
    def log(self) -> str:
        """All that the container has said."""
        self._log.seek(0)
        return self._log.read()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server alone."""
        self._process.send_signal(number)

    def end(self) -> None:
        """End all of it, as the end of a container does."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()


@pytest.fixture
def own(tmp_path: Path, helm: None) -> Iterator[OwnRedis]:  # noqa: ARG001 - it renders the scripts
    """Start it, and wait until it answers."""
    if shutil.which("redis-server") is None or shutil.which("redis-cli") is None:
        pytest.skip("no redis-server and redis-cli here, so the scripts of the chart's Redis are not run")
    one = OwnRedis(tmp_path / "container")
    eventually(lambda: answers(one), _TIMEOUT_S, "it answers")
    yield one
    one.end()


def test_a_server_that_serves_is_alive_and_ready(own: OwnRedis) -> None:
    """Both probes pass, and say nothing."""
    for arguments in ((), ("alive",)):
        done = own.probe(*arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("text", ["", "other", "other\n"])
def test_whatever_the_password_a_server_that_answers_is_alive(own: OwnRedis, text: str) -> None:
    """The probes' own password is changed, or gone: no reason to end the server."""
    own.rotate("observer", text)
    assert own.probe("alive").returncode == 0


def test_a_changed_password_does_not_take_the_server_from_its_service(own: OwnRedis) -> None:
    """It goes on for those who are connected, until it has read the new one."""
    own.rotate("observer", "observer-2")
    assert own.probe().returncode == 0


def test_a_changed_password_holds_after_a_moment_and_the_old_one_no_more(own: OwnRedis) -> None:
    """For every user; the server is the same, and a connection that is open stays open."""
    with closing(new_client(own, username="consumer", password="consumer-1")) as client:  # noqa: S106
        before = client.ping()
        for user in _USERS:
            own.rotate(user, f"{user}-2")
        eventually(lambda: own.lets_in("observer", "observer-2"), _TIMEOUT_S, "the new password holds")
        assert client.ping() == before
    for user in _USERS:
        assert own.lets_in(user, f"{user}-2"), user
        assert not own.lets_in(user, f"{user}-1"), user
    assert "those of the Secret hold now" in own.log
    for arguments in ((), ("alive",)):
        assert own.probe(*arguments).returncode == 0


def test_a_password_that_is_missing_leaves_those_that_hold(own: OwnRedis) -> None:
    """A Secret that was emptied by mistake locks nobody out."""
    own.rotate("consumer", "")
    own.rotate("producer", "producer-2")
    eventually(lambda: "no password for the user consumer" in own.log, _TIMEOUT_S, "it says so")
    assert own.lets_in("producer", "producer-1")
    own.rotate("consumer", "consumer-2")
    eventually(lambda: own.lets_in("consumer", "consumer-2"), _TIMEOUT_S, "the new ones hold")


def test_a_server_that_does_not_answer_is_neither(own: OwnRedis) -> None:
    """It has ended, and nothing listens."""
    own.signal(signal.SIGTERM)
    eventually(lambda: not answers(own), _TIMEOUT_S, "it has ended")
    for arguments in ((), ("alive",)):
        done = own.probe(*arguments)
        assert done.returncode == 1
        assert "Could not connect" in done.stderr


def test_a_frozen_server_gives_the_probe_no_answer(own: OwnRedis) -> None:
    """The kubelet's own timeout then counts it as a failure."""
    own.signal(signal.SIGSTOP)
    try:
        command = ["sh", str(own.folder / "etc" / "probe.sh"), "alive"]
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, timeout=1.0, check=False)
    finally:
        own.signal(signal.SIGCONT)
