"""Commands whose broker or store is away, wrong or deaf: one line that names what to change, and exit code 2.

Within seconds, whatever it is; and no word of a password.
"""

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres import LocalPostgres, absent
from servers import Absent, LocalServer, eventually, free_port, local_binary
from telemetry_cli import telemetry

from services.contract.errors import SinkUnavailable
from services.ops.run import start
from services.stores.postgres.connection import Database
from services.stores.postgres.sink import PostgresSink

PASSWORD = "s3cret-of-a-test"  # noqa: S105 - of a server that lives as long as the tests
LONGEST_S = 15.0

READING = (
    ("events",),
    ("summary",),
    ("status",),
    ("audit",),
    ("dlq", "list"),
    ("dlq", "show", "1-1"),
    ("dlq", "purge", "--all", "--yes"),
    ("dlq", "replay", "--yes"),
)
"""What asks the store."""
ASKING = (
    ("status",),
    ("audit",),
    ("groups",),
    ("groups", "remove", "nobody", "--yes"),
    ("dlq", "list"),
    ("dlq", "purge", "--all", "--yes"),
)
"""What asks the broker, where dead letters are there."""


@contextmanager
def deaf() -> Iterator[int]:
    """Listen, and answer nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield listening.getsockname()[1]


@pytest.fixture(scope="module")
def postgres() -> Iterator[LocalPostgres]:
    """Give a server that asks for passwords, with a role that may do nothing, and a standby's database."""
    try:
        server = LocalPostgres()
    except Absent as why:
        absent(why)
    try:
        server.start()
        with server.admin() as admin:
            admin.execute(f"ALTER ROLE postgres PASSWORD '{PASSWORD}'".encode())
            admin.execute(f"CREATE ROLE weak LOGIN PASSWORD '{PASSWORD}'".encode())
            for name in ("filled", "others", "newer", "weakly", "bare"):
                admin.execute(f"CREATE DATABASE {name}".encode())
        for name in ("filled", "newer"):
            with closing(PostgresSink(Database.of(server.dsn(name)), time.time)):
                pass
        with server.admin("newer") as admin:
            admin.execute("INSERT INTO telemetry.schema_migrations VALUES (99, 'of tomorrow')")
        with server.admin("others") as admin:
            admin.execute("CREATE SCHEMA telemetry")
            admin.execute("CREATE TABLE telemetry.songs (name text)")
        (server.data / "pg_hba.conf").write_text(
            "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n", encoding="utf-8"
        )
        where = f"host={server.folder} port={server.port} user=postgres dbname=postgres"
        with psycopg.connect(where, autocommit=True) as admin:
            admin.execute("SELECT pg_reload_conf()")
        eventually(lambda: "no password" in _refusal(server), 20, "it asks for passwords")
        yield server
    finally:
        server.remove()


def _refusal(server: LocalPostgres) -> str:
    try:
        psycopg.connect(server.dsn(), connect_timeout=5).close()
    except psycopg.OperationalError as error:
        return str(error)
    return ""


def url(server: LocalPostgres, database: str, user: str = "postgres", password: str = PASSWORD) -> str:
    return f"postgresql://{user}:{password}@{server.host}:{server.port}/{database}"


LASTING: Mapping[str, tuple[Callable[[LocalPostgres], str], str]] = {
    "unknown host": (lambda _: f"postgresql://u:{PASSWORD}@localhst.invalid/x", "check the host's name"),
    "wrong password": (lambda it: url(it, "filled", password="wr0ng-s3cret"), "check user and password"),  # noqa: S106
    "unknown user": (lambda it: url(it, "filled", user="nobody"), "check user and password"),
    "no database": (lambda it: url(it, "nowhere"), "create the database, or name another one"),
    "no rights": (lambda it: url(it, "weakly", user="weak"), "docs/postgres.md has the GRANTs"),
    "no right to read": (lambda it: url(it, "filled", user="weak"), "docs/postgres.md has the GRANTs"),
    "another program's": (lambda it: url(it, "others"), "name another database"),
    "newer": (lambda it: url(it, "newer"), "Update this one, or name another database"),
    "no TLS there": (lambda it: url(it, "filled") + "?sslmode=require", "let the server speak TLS"),
}
"""What only a change ends: its URL, and what its line names."""


@pytest.mark.parametrize("state", LASTING)
def test_a_run_ends_at_once_where_waiting_is_in_vain(state: str, postgres: LocalPostgres) -> None:
    """With one line; nothing is started, and nothing is published."""
    address, named = LASTING[state]
    began = time.monotonic()
    result = telemetry("run", "--duration", "1", DATABASE_URL=address(postgres))
    _is_one_line(result, named)
    assert time.monotonic() - began < start.LIMIT_S
    assert not Path("data").exists()


OF_ROWS: Mapping[str, tuple[Callable[[LocalPostgres], str], str]] = {
    **{state: told for state, told in LASTING.items() if state != "no rights"},
    "no tables": (lambda it: url(it, "bare"), "no tables yet; a consumer makes them"),
}
OF_LETTERS: Mapping[str, tuple[Callable[[LocalPostgres], str], str]] = {
    **{state: told for state, told in OF_ROWS.items() if state != "newer"},  # which have the same letters
    "another program's": (lambda it: url(it, "others"), "no tables yet; a consumer makes them"),
}
_COMMANDS = [
    *((state, one, OF_LETTERS[state]) for one in READING if one[0] == "dlq" for state in OF_LETTERS),
    *(
        (state, one, OF_ROWS[state])
        for one in READING
        if one[0] != "dlq"
        for state in OF_ROWS
        # To these two nothing that is there yet is no error.
        if state != "no tables" or one[0] not in {"status", "audit"}
    ),
]


@pytest.mark.parametrize(
    ("command", "told"),
    [pytest.param(one, told, id=f"{' '.join(one)}-{state}") for state, one, told in _COMMANDS],
)
def test_a_command_ends_at_once_too(
    command: tuple[str, ...],
    told: tuple[Callable[[LocalPostgres], str], str],
    postgres: LocalPostgres,
    broker: LocalServer,
) -> None:
    """The same line."""
    address, named = told
    _is_one_line(telemetry(*command, DATABASE_URL=address(postgres), **_at(broker)), named)


@pytest.mark.parametrize("command", [("events",), ("status",), ("audit",), ("dlq", "list")], ids=" ".join)
def test_a_command_waits_no_longer_for_a_lock(
    command: tuple[str, ...], postgres: LocalPostgres, broker: LocalServer
) -> None:
    """It is connected, and its first question is never answered."""
    with psycopg.connect(url(postgres, "filled")) as other:
        other.execute(
            "LOCK TABLE telemetry.schema_migrations, telemetry.dead_letters IN ACCESS EXCLUSIVE MODE"
        )
        began = time.monotonic()
        result = telemetry(*command, DATABASE_URL=url(postgres, "filled"), **_at(broker))
        assert time.monotonic() - began < LONGEST_S
    _is_one_line(result, "no answer within")


@pytest.mark.parametrize("command", READING, ids=" ".join)
@pytest.mark.parametrize("state", ["refused", "deaf"])
def test_a_command_waits_for_a_store_no_longer_than_told(
    state: str, command: tuple[str, ...], broker: LocalServer
) -> None:
    """Nobody listens there, or nobody answers: it is bounded in all, with the timeouts as they are."""
    with deaf() as port:
        at = free_port() if state == "refused" else port
        began = time.monotonic()
        result = telemetry(
            *command, DATABASE_URL=f"postgresql://u:{PASSWORD}@127.0.0.1:{at}/x", **_at(broker)
        )
        assert time.monotonic() - began < LONGEST_S
    _is_one_line(result, "DATABASE_URL, PGHOST, PGPORT")


@pytest.mark.parametrize("state", ["refused", "deaf", "read-only"])
def test_a_run_waits_a_few_seconds_for_what_may_pass(
    state: str, postgres: LocalPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says at once what it waits for, and how long; then what to change."""
    monkeypatch.setattr(start, "LIMIT_S", 2.0)
    with deaf() as port:
        if state == "read-only":
            address = f"{url(postgres, 'filled')}?options=-c%20default_transaction_read_only%3Don"
        else:
            at = free_port() if state == "refused" else port
            address = f"postgresql://u:{PASSWORD}@127.0.0.1:{at}/x"
        began = time.monotonic()
        result = telemetry("run", "--duration", "1", DATABASE_URL=address)
        assert time.monotonic() - began < start.LIMIT_S + 2.0  # and no timeout of a connection more
    _has_waited(result, "PostgreSQL at 127.0.0.1:", "DATABASE_URL")


def test_a_run_begins_when_the_store_comes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It said that it waits, once."""
    failures = [SinkUnavailable("a store: it starts"), SinkUnavailable("a store: it starts")]

    def look() -> None:
        if failures:
            raise failures.pop()

    monkeypatch.setattr(start, "_PAUSE_S", 0.01)
    start.see(look, "a store", "DATABASE_URL")
    assert capsys.readouterr().err == "waiting for a store, 10 s at most: it starts\n"


BROKERS: Mapping[str, tuple[Mapping[str, str], str]] = {
    "unknown host": ({"REDIS_HOST": "localhst.invalid"}, "REDIS_HOST, REDIS_PORT"),
    "unknown host in a URL": ({"BROKER_URL": f"redis://u:{PASSWORD}@localhst.invalid/0"}, "BROKER_URL"),
    "wrong password": ({"REDIS_PASSWORD": "wr0ng-s3cret"}, "REDIS_PASSWORD"),
    "unknown user": ({"REDIS_USERNAME": "nobody", "REDIS_PASSWORD": PASSWORD}, "REDIS_USERNAME"),
    "no such database": ({"REDIS_DB": "99"}, "REDIS_DB"),
}
"""What only a change ends at the broker: settings besides, and what the line names."""


@pytest.mark.parametrize("command", [*ASKING, ("run", "--duration", "1")], ids=" ".join)
@pytest.mark.parametrize("state", BROKERS)
def test_a_broker_that_is_wrong_ends_a_command_at_once(
    state: str, command: tuple[str, ...], broker: LocalServer
) -> None:
    """A run as well: nothing is started."""
    settings, named = BROKERS[state]
    environment = {**_at(broker), "DEAD_LETTERS": "stream", **settings}
    if "BROKER_URL" in settings:
        del environment["REDIS_HOST"], environment["REDIS_PORT"]
    began = time.monotonic()
    result = telemetry(*command, **environment)
    assert time.monotonic() - began < start.LIMIT_S
    _is_one_line(result, named)
    assert not Path("data").exists()


@pytest.mark.parametrize("command", ASKING, ids=" ".join)
@pytest.mark.parametrize("state", ["refused", "deaf"])
def test_a_command_waits_for_a_broker_no_longer_than_told(state: str, command: tuple[str, ...]) -> None:
    """With the timeouts as they are."""
    with deaf() as port:
        at = free_port() if state == "refused" else port
        began = time.monotonic()
        result = telemetry(*command, REDIS_HOST="127.0.0.1", REDIS_PORT=str(at), DEAD_LETTERS="stream")
        assert time.monotonic() - began < LONGEST_S
    _is_one_line(result, f"Redis at 127.0.0.1:{at}")


@pytest.mark.parametrize("state", ["refused", "deaf"])
def test_a_run_waits_a_few_seconds_for_a_broker(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a store."""
    monkeypatch.setattr(start, "LIMIT_S", 2.0)
    with deaf() as port:
        at = free_port() if state == "refused" else port
        began = time.monotonic()
        result = telemetry("run", "--duration", "1", REDIS_HOST="127.0.0.1", REDIS_PORT=str(at))
        assert time.monotonic() - began < start.LIMIT_S + 2.0
    _has_waited(result, "the broker at 127.0.0.1:", "REDIS_HOST, REDIS_PORT")


def test_both_away_is_no_longer_than_one(broker: LocalServer) -> None:
    """The status asks for rows and letters, of a store that is deaf, beside a broker that is."""
    del broker
    with deaf() as port, deaf() as other:
        began = time.monotonic()
        result = telemetry(
            "status",
            DATABASE_URL=f"postgresql://u:{PASSWORD}@127.0.0.1:{port}/x",
            REDIS_HOST="127.0.0.1",
            REDIS_PORT=str(other),
        )
        assert time.monotonic() - began < LONGEST_S
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 2


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """Give a server with an empty stream, as the broker that is there."""
    try:
        server = LocalServer(local_binary(), tmp_path_factory.mktemp("broker"))
    except Absent as why:
        pytest.skip(str(why))
    server.start()
    yield server
    server.kill()


def _at(server: LocalServer) -> dict[str, str]:
    return {"REDIS_HOST": server.host, "REDIS_PORT": str(server.port)}


def _is_one_line(result: Any, named: str) -> None:
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    (line,) = result.stderr.splitlines()
    assert named in line
    assert "s3cret" not in result.output


def _has_waited(result: Any, place: str, named: str) -> None:
    waits, ends = result.stderr.splitlines()
    assert waits.startswith(f"waiting for {place}"), waits
    assert "2 s at most: " in waits
    assert ends.endswith("; waited 2 s")
    assert named in ends
    assert result.exit_code == 2
    assert "s3cret" not in result.output
    assert not Path("data").exists()
