"""`telemetry run` at its start, as a process: Ctrl-C and SIGTERM end it soon, whatever it waits for.

And what no look beforehand can see (a right, a lock) ends it as well, in a few seconds, with the reason.
"""

import contextlib
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from acceptance.rig import PATIENCE_S, Process, Rig
from acceptance.test_run import Laptop
from servers import LocalServer, eventually, free_port, kept_waiting_s

from services.ops.run.start import LIMIT_S

SOON_S = 2.0
"""How long the end may take once it is asked for, without the time that it waits for a processor."""


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    """Give a folder without a server."""
    one = Laptop(tmp_path)
    yield one
    one.close()


@pytest.fixture
def deaf() -> Iterator[int]:
    """Give a port where somebody listens, and answers nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield listening.getsockname()[1]


STORE = "postgresql://u:s3cret-of-a-test@127.0.0.1:{}/x"
WAITS: dict[str, Callable[[int], dict[str, str]]] = {
    "a store that is deaf": lambda port: {"DATABASE_URL": STORE.format(port)},
    "a store that is away": lambda _: {"DATABASE_URL": STORE.format(free_port())},
    "a broker that is deaf": lambda port: {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(port)},
    "a broker that is away": lambda _: {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(free_port())},
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("state", WAITS)
def test_a_signal_ends_the_wait_soon(state: str, number: signal.Signals, laptop: Laptop, deaf: int) -> None:
    """And nobody is left behind."""
    run = laptop.types("run", "--duration", "1", **WAITS[state](deaf))
    eventually(lambda: "waiting for " in run.text, PATIENCE_S, "it says what it waits for")
    _ends_soon(run, number, laptop)


@pytest.mark.parametrize("state", WAITS)
def test_the_wait_ends_by_itself(state: str, laptop: Laptop, deaf: int) -> None:
    """With what to change, and with exit code 2."""
    run = laptop.types("run", "--duration", "1", **WAITS[state](deaf))
    assert run.wait(LIMIT_S + PATIENCE_S) == 2
    waits, ends = run.text.splitlines()
    assert waits.startswith("waiting for ")
    assert ends.endswith(f"waited {LIMIT_S:g} s")
    assert "DATABASE_URL" in ends or "REDIS_HOST" in ends
    assert "s3cret" not in run.text
    assert laptop.processes() == []


@contextlib.contextmanager
def locked(laptop: Laptop) -> Iterator[None]:
    """Have somebody hold the file's lock, who never lets go."""
    laptop.types("run", "--duration", "0.2", "--rate", "50").wait(60)
    with contextlib.closing(sqlite3.connect(laptop.data / "telemetry.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def test_a_file_that_somebody_has_locked_ends_a_run_with_the_reason(laptop: Laptop) -> None:
    """The consumers would wait for ever; a person need not."""
    with locked(laptop):
        run = laptop.types("run", "--replicas", "2", "--duration", "0")
        assert run.wait(LIMIT_S + 2 * PATIENCE_S) == 2, run.text
    assert "the consumer-1 to consumer-2 waits: sink: " in run.text
    assert "can't begin" in run.text
    assert "database is locked" in run.text.splitlines()[-1]
    assert laptop.processes() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_of_which_nothing_has_begun(number: signal.Signals, laptop: Laptop) -> None:
    """Nothing is to be finished."""
    with locked(laptop):
        run = laptop.types("run", "--duration", "0")
        eventually(lambda: "the consumer-1 waits: " in run.text, PATIENCE_S, "it says what it waits for")
        _ends_soon(run, number, laptop)


def test_a_right_that_the_producer_lacks_ends_a_run_with_the_reason(
    tmp_path: Path, own_server: Callable[..., LocalServer]
) -> None:
    """A PING is allowed; nothing else is."""
    server = own_server()
    with contextlib.closing(server.client()) as admin:
        admin.execute_command("ACL", "SETUSER", "weak", "on", ">s3cret-of-a-test", "+ping")
    laptop = Laptop(tmp_path, server)
    try:
        run = laptop.types(
            "run",
            "--duration",
            "0",
            REDIS_USERNAME="weak",
            REDIS_PASSWORD="s3cret-of-a-test",  # noqa: S106
        )
        assert run.wait(LIMIT_S + 2 * PATIENCE_S) == 2, run.text
        assert "lacks a right for this user" in run.text
        assert "s3cret" not in run.text
        assert laptop.processes() == []
    finally:
        laptop.close()


SERVICE_WAITS: dict[str, tuple[Callable[[int], str], str]] = {
    "unknown host": (lambda _: "postgresql://u:s3cret-of-a-test@localhst.invalid/x", "check the host's name"),
    "away": (lambda _: STORE.format(free_port()), "check host and port"),
    "deaf": (STORE.format, "check host, port and firewall"),
}


@pytest.mark.parametrize("state", SERVICE_WAITS)
def test_a_consumer_waits_unready_and_says_why(
    state: str, tmp_path: Path, own_server: Callable[..., LocalServer], deaf: int
) -> None:
    """In a pod the name, or the server, may come a minute later; asked to stop, it ends well."""
    address, named = SERVICE_WAITS[state]
    rig = Rig(own_server(), tmp_path)
    try:
        consumer = rig.consumer(
            DATABASE_URL=address(deaf), CONSUMER_METRICS_PORT=str(free_port()), CLAIM_IDLE_MS="60000"
        )
        assert consumer.is_unready(named)
        consumer.says("sink_unavailable")
        assert not consumer.lines("consumer_started")
        consumer.signal(signal.SIGTERM)
        began = time.monotonic()
        assert consumer.wait() == 0
        assert time.monotonic() - began < 2 * SOON_S
        assert "s3cret" not in consumer.text
    finally:
        rig.close()


def _ends_soon(run: Process, number: signal.Signals, laptop: Laptop) -> None:
    began, before_s, delayed_s = time.monotonic(), kept_waiting_s(run.pid), 0.0
    run.signal(number)
    while run.exit_code is None and time.monotonic() - began < PATIENCE_S:
        delayed_s = max(delayed_s, kept_waiting_s(run.pid) - before_s)
        time.sleep(0.005)
    assert time.monotonic() - began - delayed_s < SOON_S
    assert "Traceback" not in run.text
    assert "s3cret" not in run.text
    eventually(lambda: laptop.processes() == [], PATIENCE_S, "nobody is left behind")
