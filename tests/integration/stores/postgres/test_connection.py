"""Connections to a real PostgreSQL: passwords that change, servers that are deaf, and stopping meanwhile."""

import socket
import threading
import time
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from postgres import LocalPostgres, database
from samples import row
from servers import free_port

from services.contract.errors import SinkUnavailable, SinkWrong
from services.runtime.redact import redact
from services.stores.postgres.connection import Database
from services.stores.postgres.sink import PostgresSink


@pytest.fixture
def guarded(own_postgres_server: LocalPostgres) -> LocalPostgres:
    """Give a server that asks for passwords; the first is `first-s3cret`."""
    server = own_postgres_server
    set_password(server, "first-s3cret")
    (server.data / "pg_hba.conf").write_text(
        "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n", encoding="utf-8"
    )
    with psycopg.connect(f"host={server.folder} port={server.port} user=postgres", autocommit=True) as admin:
        admin.execute("SELECT pg_reload_conf()")
    return server


def set_password(server: LocalPostgres, password: str) -> None:
    """Change it, past the server's own question for one."""
    where = f"host={server.folder} port={server.port} user=postgres dbname=postgres"
    with psycopg.connect(where, autocommit=True) as admin:
        admin.execute(f"ALTER ROLE postgres PASSWORD '{password}'".encode())


def test_a_password_file_is_read_again_at_each_connection(guarded: LocalPostgres, tmp_path: Path) -> None:
    """It may be changed while a consumer runs; and no line says what is in it."""
    file = tmp_path / "password"
    file.write_text("first-s3cret\n", encoding="utf-8")
    where = database(guarded.dsn(), password_file=str(file))
    with closing(PostgresSink(where, time.time)) as sink:
        assert sink.write([row(1)]) == (1, [])
        set_password(guarded, "second-s3cret")
        file.write_text("second-s3cret\n", encoding="utf-8")
        guarded.stop()
        guarded.start()
        with pytest.raises(SinkUnavailable):
            sink.write([row(2)])
        assert sink.write([row(2)]) == (1, [])
    assert redact("it is second-s3cret") == "it is ***"


@pytest.mark.parametrize("content", ["wrong-s3cret", None])
def test_a_wrong_password_is_told_without_it(
    guarded: LocalPostgres, tmp_path: Path, content: str | None
) -> None:
    """And so is a file that is not there."""
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(SinkWrong, match="DATABASE_PASSWORD_FILE") as caught:
        PostgresSink(database(guarded.dsn(), password_file=str(file)), time.time)
    assert "s3cret" not in str(caught.value)


def test_libpqs_own_variables_lead_there(guarded: LocalPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing in the URL but its scheme; their password is hidden as well."""
    where = {"PGHOST": guarded.host, "PGPORT": str(guarded.port), "PGDATABASE": "postgres"}
    for name, value in {**where, "PGUSER": "postgres", "PGPASSWORD": "first-s3cret"}.items():
        monkeypatch.setenv(name, value)
    with closing(PostgresSink(Database.of("postgresql://"), time.time)) as sink:
        assert sink.write([row(1)]) == (1, [])
    assert redact("first-s3cret") == "***"


def test_a_server_that_does_not_answer_is_waited_for_no_longer_than_told(
    own_postgres_server: LocalPostgres,
) -> None:
    """It is frozen: its connections are open, and nothing comes. Afterwards the sink goes on."""
    server = own_postgres_server
    with closing(PostgresSink(database(server.dsn(), timeout_s=0.5), time.time)) as sink:
        server.pause()
        try:
            began = time.monotonic()
            with pytest.raises(SinkUnavailable, match="no answer within"):
                sink.write([row(1)])
            assert time.monotonic() - began < 6
        finally:
            server.resume()
        assert sink.write([row(1)]).inserted <= 1


def test_asked_to_stop_nobody_waits_for_long(own_postgres_server: LocalPostgres) -> None:
    """A second, whatever the timeouts are; what was in hand stays pending."""
    server = own_postgres_server
    stopping: list[bool] = []
    where = database(server.dsn(), timeout_s=60.0, lock_timeout_s=60.0)
    with (
        closing(PostgresSink(where, time.time, is_stopping=lambda: bool(stopping))) as sink,
        psycopg.connect(server.dsn()) as other,
    ):
        other.execute("LOCK TABLE telemetry.events IN ACCESS EXCLUSIVE MODE")
        stopping.append(True)
        began = time.monotonic()
        with pytest.raises(SinkUnavailable, match="no answer within"):
            sink.write([row(1)])
        assert time.monotonic() - began < 10


def test_nothing_that_listens_is_waited_for_with_what_to_check() -> None:
    """It may be a server that is yet to come."""
    with pytest.raises(SinkUnavailable, match="check host and port"):
        PostgresSink(database(f"postgresql://postgres@127.0.0.1:{free_port()}/x"), time.time)


@pytest.mark.parametrize("is_stopping", [False, True])
def test_a_name_server_that_is_deaf_is_waited_for_no_longer_than_told(
    *, is_stopping: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing ends a look-up; so it is left to itself. Asked to stop, not even that long."""
    is_over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: is_over.wait(60))
    where = database("postgresql://u@db.example/x", connect_timeout_s=10.0 if is_stopping else 2.0)
    began = time.monotonic()
    try:
        with pytest.raises(psycopg.OperationalError, match="no connection within"):
            where.connect(lambda: is_stopping)
        assert time.monotonic() - began < 8
    finally:
        is_over.set()
