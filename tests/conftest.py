"""The servers that every test may ask for. See servers.py."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from postgres import LocalPostgres, PostgresServers, absent, own_postgres
from servers import KINDS, Absent, LocalServer, Server, Servers, local_binary, shared_server

from services.runtime import redact

# Few examples and no deadline: the machine may be busy. HYPOTHESIS_PROFILE=thorough looks longer.
settings.register_profile(
    "quick", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


for number in (signal.SIGHUP, signal.SIGINT):
    # Ignored by `nohup`, or behind a shell's `&`. The processes that the tests start would inherit that; a
    # handler of ours they do not.
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


@pytest.fixture(autouse=True)
def own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test know the secrets of the one before: they would be hidden in what it reads."""
    monkeypatch.setattr(redact, "_known", {})


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Give the shared servers by the name of their kind."""
    running = Servers(tmp_path_factory.mktemp("servers"))
    yield running
    running.stop()


@pytest.fixture(params=[kind.name for kind in KINDS])
def server(request: pytest.FixtureRequest, servers: Servers) -> Server:
    """Give each real server in turn, with an empty database."""
    return shared_server(servers, request.param)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Callable[..., LocalServer]]:
    """Start servers of one's own, with append-only files; each ends with the test."""
    started: list[LocalServer] = []

    def start(*options: str) -> LocalServer:
        folder = tmp_path / f"server-{len(started)}"
        try:
            binary = local_binary()
        except Absent as why:
            pytest.skip(str(why))
        durable = ("--appendonly", "yes", "--appendfsync", "always")
        one = LocalServer(binary, folder, *durable, *options, name=f"own-{len(started)}")
        started.append(one)
        one.start()
        return one

    yield start
    for one in started:
        one.kill()


@pytest.fixture(scope="session")
def postgres_servers() -> Iterator[PostgresServers]:
    """Give the shared PostgreSQL servers by the name of their kind."""
    running = PostgresServers()
    yield running
    running.stop()


@pytest.fixture
def postgres_url(postgres_servers: PostgresServers) -> str:
    """Give the URL of a new, empty database on a shared PostgreSQL."""
    try:
        return postgres_servers.any().new_database()
    except Absent as why:
        absent(why)


@pytest.fixture
def own_postgres_server() -> Iterator[LocalPostgres]:
    """Give a PostgreSQL of one's own, to be killed and stopped; it ends with the test."""
    yield from own_postgres()
