"""Connections to a real PostgreSQL: passwords that change, servers that are deaf, and stopping meanwhile."""

import socket
import threading
import time
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from postgres import STORED, LocalPostgres, database, rows_of, waiting
from samples import row
from servers import eventually, free_port

from services.contract.errors import SinkUnavailable, SinkWrong
from services.contract.event import Event
from services.runtime.redact import redact
from services.stores.postgres.connection import Connection, Database
from services.stores.postgres.errors import NoAnswer
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


def test_asked_to_stop_an_answer_is_still_waited_for_a_moment(postgres_url: str) -> None:
    """What is in hand is stored then, and does not come again; and so it is with a connection."""
    with (
        closing(PostgresSink(database(postgres_url), time.time, is_stopping=lambda: True)) as sink,
        psycopg.connect(postgres_url) as other,
    ):
        other.execute("LOCK TABLE telemetry.events IN ACCESS EXCLUSIVE MODE")
        written: list[object] = []
        thread = threading.Thread(target=lambda: written.append(sink.write([row(1)])))
        thread.start()
        eventually(lambda: waiting(postgres_url), 10, "the sink waits")
        other.rollback()
        thread.join()
    assert written == [(1, [])]


@pytest.mark.parametrize("ended_by", [NoAnswer, KeyboardInterrupt])
def test_who_waits_no_longer_has_nobody_work_on(postgres_url: str, ended_by: type[BaseException]) -> None:
    """The server stops what it does, and an answer that comes too late is no answer to the next question."""

    def is_stopping() -> bool:
        if ended_by is KeyboardInterrupt:
            raise KeyboardInterrupt
        return False

    limit_s = 60.0 if ended_by is KeyboardInterrupt else 0.5
    with (
        closing(database(postgres_url).connect(is_stopping, limit_s=limit_s)) as connection,
        psycopg.connect(postgres_url) as other,
    ):
        other.execute("SELECT pg_advisory_lock(1)")
        with pytest.raises(ended_by):
            connection.execute("SELECT pg_advisory_lock(1)")
        eventually(lambda: not waiting(postgres_url), 10, "nobody waits")
        assert connection.closed


def late_look_ups(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Have no name looked up before this is set."""
    is_over, look_up = threading.Event(), socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **b: look_up(*a, **b) if is_over.wait(60) else [])
    return is_over


def test_a_name_server_that_answers_late_is_waited_for(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as a connection may take. Whoever is asked whether to stop has waited for a second by then."""
    is_over = late_look_ups(monkeypatch)

    def is_stopping() -> bool:
        is_over.set()
        return False

    url = postgres_url.replace("127.0.0.1", "localhost")
    with closing(database(url).connect(is_stopping)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("ended_by", [NoAnswer, KeyboardInterrupt])
def test_a_connection_that_comes_when_nobody_waits_is_closed(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, ended_by: type[BaseException]
) -> None:
    """Else each look-up that takes long would leave one there, till there are none left for others."""
    is_over = late_look_ups(monkeypatch)
    closed: list[Connection] = []
    close = Connection.close

    def and_note(connection: Connection) -> None:
        close(connection)
        closed.append(connection)

    def is_stopping() -> bool:
        if ended_by is KeyboardInterrupt:
            raise KeyboardInterrupt
        return True

    monkeypatch.setattr(Connection, "close", and_note)
    try:
        with pytest.raises(ended_by):
            database(postgres_url.replace("127.0.0.1", "localhost")).connect(is_stopping)
    finally:
        is_over.set()
    eventually(lambda: closed, 10, "it is closed")
    assert closed[0].closed


def test_names_are_utf8_whatever_the_environment_says(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are sent as such, and would be other names in another encoding."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    one = row(1, device_id="Gerät ☃", attributes='{"site":"é"}')
    with closing(PostgresSink(database(postgres_url), time.time)) as sink:
        assert sink.write([one]) == (1, [])
    monkeypatch.undo()
    assert [Event(*found) for found in rows_of(postgres_url, STORED)] == [one._replace(attributes=None)]


def test_what_the_url_says_of_a_connection_goes_before_what_we_say(postgres_url: str) -> None:
    """Its owner knows the network."""
    with closing(
        database(f"{postgres_url}?keepalives_idle=77&application_name=mine").connect()
    ) as connection:
        found = connection.info.get_parameters()
    assert (found["keepalives_idle"], found["application_name"]) == ("77", "mine")
    assert found["keepalives_interval"] == "5"


def test_a_server_has_a_moment_to_say_what_it_waited_for(postgres_url: str) -> None:
    """Its own timeout ends a statement first; who hangs up before learns nothing."""
    where = database(postgres_url, timeout_s=7.0)
    with closing(where.connect()) as connection:
        assert connection.limit_s == where.timeout_s + 1
    with closing(where.connect(limit_s=600.0)) as connection:
        assert connection.limit_s == 600
