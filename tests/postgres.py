"""Real PostgreSQL servers for the tests: Debian's, or what is on the PATH, else the container `postgres:17`.

A server refuses root, so it runs as `postgres` then, in a folder of its own. A shared one gives each test a
database of its own; one's own can be killed, stopped, frozen, and started with other options.
"""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

import psycopg
import pytest
from psycopg import sql
from servers import Absent, do_without, eventually, quiet_port, start_image

from services.stores.postgres.connection import Database
from services.stores.postgres.sink import PostgresSink

_TIMEOUT_S: Final = 60.0
_OLDEST: Final = 15
_USER: Final = "postgres"
_PASSWORD: Final = "of-a-test"  # noqa: S105 - of a server that lives as long as the tests
IMAGE: Final = "postgres:17"
_NUMBERS: Final = itertools.count(1)


def binaries() -> Path:
    """Find the folder of a server's programs, the newest. Raises Absent."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found and int(found[-1].parts[-3]) >= _OLDEST:
        return found[-1].parent
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    raise Absent("no PostgreSQL 15 or newer here: apt-get install postgresql")


def required() -> bool:
    """Tell whether a machine without a server fails the tests: CI does."""
    return os.environ.get("CI") == "true" or os.environ.get("TELEMETRY_TESTS_REQUIRE_POSTGRES") == "1"


class LocalPostgres:
    """A server process of one's own, and its files."""

    host = "127.0.0.1"

    def __init__(self, *options: str, folder: Path | None = None) -> None:
        self.bin = binaries()
        self.port = quiet_port()
        self.folder = Path(tempfile.mkdtemp(prefix="telemetry-postgres-")) if folder is None else folder
        self.data = self.folder / "data"
        self.options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._as_root = os.geteuid() == 0
        if self._as_root:
            user = pwd.getpwnam(_USER)
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        self.folder.chmod(0o755)

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def run(self, program: str, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run one of the server's programs to its end."""
        return subprocess.run(
            [str(self.bin / program), *arguments], check=True, capture_output=True, text=True, cwd="/",
            **self._identity(), **more,
        )  # fmt: skip

    def make(self) -> None:
        """Make its files: everybody on this machine may log in."""
        if not self.data.exists():
            self.run(
                "initdb", "-D", str(self.data), "-A", "trust", "-U", _USER, "-E", "UTF8", "--locale=C.UTF-8",
                "--no-sync",
            )  # fmt: skip

    def start(self, *more: str, wait: bool = True) -> None:
        """Start it, with options of the server besides, and wait until it serves."""
        self.make()
        options = [
            f"port={self.port}", f"listen_addresses={self.host}", f"unix_socket_directories={self.folder}",
            "shared_buffers=64MB", "max_wal_size=2GB", "max_connections=60", "timezone=Etc/GMT-5",
            *self.options, *more,
        ]  # fmt: skip

        def begin() -> bool:
            arguments = [part for option in options for part in ("-c", option)]
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    [str(self.bin / "postgres"), "-D", str(self.data), *arguments],
                    stdout=log, stderr=log, cwd="/", **self._identity(),
                )  # fmt: skip
            if not wait:
                return True
            # A killed one leaves processes behind that end in a moment; till then the next one refuses.
            return bool(
                eventually(lambda: self.answers() or self._ended(), _TIMEOUT_S, "it serves or ends")
            ) and (not self._ended())

        eventually(begin, _TIMEOUT_S, f"PostgreSQL serves: see {self.folder / 'log'}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends connections, SIGQUIT leaves the rest to its recovery, SIGKILL crashes it."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, how)
            self._process.wait(_TIMEOUT_S)
            self._process = None

    def kill(self) -> None:
        """Kill it and its processes as a power cut would: no goodbye."""
        if self._process is not None:
            self._signal_all(signal.SIGKILL)
            self.stop(signal.SIGKILL)

    @contextlib.contextmanager
    def lazy_disk(self) -> Iterator[None]:
        """Have nobody write the log to the disk but who waits for it: its writer is frozen."""
        with self.admin() as admin:
            row = admin.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"
            ).fetchone()
        assert row is not None
        os.kill(row[0], signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(row[0], signal.SIGCONT)

    def pause(self) -> None:
        """Freeze it and its backends: connections stay open and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)

    def remove(self) -> None:
        """Kill it, and remove its files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def answers(self) -> bool:
        """Tell whether it takes connections, if only with a password."""
        try:
            psycopg.connect(self.dsn(), connect_timeout=2).close()
        except psycopg.OperationalError as error:
            return "no password supplied" in str(error)
        return True

    def dsn(self, database: str = "postgres", user: str = _USER) -> str:
        """Give the URL of a database there."""
        return f"postgresql://{user}@{self.host}:{self.port}/{database}"

    def admin(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """Connect as its owner; each statement is its own transaction."""
        return psycopg.connect(self.dsn(database), autocommit=True)

    def log(self) -> str:
        """Read what it has said."""
        return (self.folder / "log").read_text(errors="replace")

    def _signal_all(self, what: signal.Signals) -> None:
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.pid)], check=False, capture_output=True, text=True
        )
        for pid in (*map(int, children.stdout.split()), self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, what)

    def _identity(self) -> dict[str, Any]:
        return {"user": _USER, "group": _USER, "extra_groups": []} if self._as_root else {}

    def _ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None


class SharedPostgres:
    """A server that is not one's own: it gives databases."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def new_database(self) -> str:
        """Make an empty database, and give its URL."""
        name = f"test_{os.getpid()}_{next(_NUMBERS)}"
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return f"{self._dsn.rpartition('/')[0]}/{name}"


STORED: Final = (
    "SELECT event_id::text, device_id, zone, extract(epoch FROM ts)::float8, kpi, value, is_degraded::int "
    "FROM telemetry.events ORDER BY event_id"
)
"""Gives the rows of the sink as events."""

KINDS: Final = ("postgresql", "postgres-17-container")


class PostgresServers:
    """The shared servers of a test session: each is started when it is first asked for."""

    def __init__(self) -> None:
        self._running: dict[str, SharedPostgres | Absent] = {}
        self._ends = contextlib.ExitStack()

    def get(self, kind: str) -> SharedPostgres:
        """Give the server of a kind. Raises Absent."""
        if kind not in self._running:
            try:
                self._running[kind] = self._start(kind)
            except Absent as why:
                self._running[kind] = why
        server = self._running[kind]
        if isinstance(server, Absent):
            raise server
        return server

    def new_database(self, kind: str) -> str:
        """Make an empty database on the server of a kind; skips the test where there is none, or fails it."""
        try:
            return self.get(kind).new_database()
        except Absent as why:
            absent(why, kind)

    def any(self) -> SharedPostgres:
        """Give the machine's own server, else the container.

        Raises Absent, which says why there is neither.
        """
        try:
            return self.get(KINDS[0])
        except Absent as why:
            try:
                return self.get(KINDS[1])
            except Absent as also:
                raise Absent(f"{why}; {also}") from None

    def stop(self) -> None:
        """Stop all that were started."""
        self._ends.close()

    def _start(self, kind: str) -> SharedPostgres:
        if kind == "postgresql":
            local = LocalPostgres()
            self._ends.callback(local.remove)
            local.start()
            return SharedPostgres(local.dsn())
        host, port, stop = start_image(IMAGE, 5432, {"POSTGRES_PASSWORD": _PASSWORD})
        self._ends.callback(stop)
        dsn = f"postgresql://postgres:{_PASSWORD}@{host}:{port}/postgres"
        eventually(lambda: _serves(dsn), _TIMEOUT_S, f"{IMAGE} serves")
        return SharedPostgres(dsn)


def _serves(dsn: str) -> bool:
    """Tell whether it serves for good: while it makes its files it listens on a socket of its own."""
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(dsn, connect_timeout=2):
        return True
    return False


def absent(why: Absent, kind: str = KINDS[0]) -> NoReturn:
    """Skip a test for want of a server, saying so; in CI it fails."""
    if "container" in kind:
        do_without(kind, why)
    if required():
        pytest.fail(f"{why}, and CI=true or TELEMETRY_TESTS_REQUIRE_POSTGRES=1 wants one")
    pytest.skip(str(why))


def database(url: str, **more: Any) -> Database:
    """Name a database for a test; how long it is waited for is for busy machines."""
    return Database.of(url, **{"connect_timeout_s": 5.0, "timeout_s": 20.0, "lock_timeout_s": 5.0, **more})


def with_tables(url: str) -> str:
    """Make the tables in a database, and give its URL again."""
    with contextlib.closing(PostgresSink(database(url), time.time)):
        return url


def rows_of(url: str, text: str, *values: Any) -> list[tuple[Any, ...]]:
    """Ask a database, beside the code that is tested."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(text.encode(), values).fetchall()


def waiting(url: str) -> int:
    """Count who waits for a lock on the server of a database."""
    return int(rows_of(url, "SELECT count(*) FROM pg_locks WHERE NOT granted")[0][0])


def own_postgres() -> Iterator[LocalPostgres]:
    """Give a server of one's own that runs; it ends with the test."""
    try:
        server = LocalPostgres()
    except Absent as why:
        absent(why)
    try:
        server.start()
        yield server
    finally:
        server.remove()


class PgBouncer:
    """A real pooler before a server; `mode` is session, transaction or statement."""

    def __init__(self, server: LocalPostgres, mode: str, pool_size: int = 2) -> None:
        program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise Absent("no pgbouncer here: apt-get install pgbouncer")
        self.port = quiet_port()
        self._program = program
        self._server = server
        folder = server.folder
        self._file = folder / f"bouncer-{self.port}.ini"
        users = folder / "users.txt"
        users.write_text(f'"{_USER}" ""\n', encoding="utf-8")
        self._file.write_text(
            f"[databases]\n* = host={server.host} port={server.port}\n[pgbouncer]\n"
            f"listen_addr = {server.host}\nlisten_port = {self.port}\nauth_type = trust\n"
            f"auth_file = {users}\npool_mode = {mode}\ndefault_pool_size = {pool_size}\n"
            "unix_socket_dir =\nquery_wait_timeout = 20\n"
            f"server_login_retry = 1\nlogfile = {folder}/bouncer.log\n",
            encoding="utf-8",
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it serves."""
        self._process = subprocess.Popen(
            [self._program, "-q", str(self._file)], cwd="/", **self._server._identity()
        )
        eventually(lambda: _serves(self.dsn()), _TIMEOUT_S, "PgBouncer serves")

    def kill(self) -> None:
        """Kill it: all connections break off."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_TIMEOUT_S)
            self._process = None

    def dsn(self, database: str = "postgres") -> str:
        """Give the URL of a database behind it."""
        return f"postgresql://{_USER}@{self._server.host}:{self.port}/{database}"
