"""A PostgreSQL server of our own, for one case: as Debian ships it, with a folder of its own."""

import itertools
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger
from typing import Final

from postgres import LocalPostgres, binaries
from servers import Absent

from bench.plan import BenchFailed
from bench.processor import family_spent_s
from services.stores.postgres.connection import Database
from services.stores.postgres.keeper import Keeper
from services.stores.postgres.sink import PostgresSink

_OPTIONS: Final = ("shared_buffers=128MB", "max_wal_size=4GB")
"""The first is the server's own default. With the second no checkpoint falls into one contestant's turn."""
_NUMBERS: Final = itertools.count(1)


class Postgres:
    """A running server."""

    def __init__(self, server: LocalPostgres) -> None:
        self._server = server

    def new_database(self) -> str:
        """Make a database with our tables and the days of now in it; gives its URL."""
        name = f"bench_{next(_NUMBERS)}"
        with self._server.admin() as admin:
            admin.execute(f"CREATE DATABASE {name}".encode())
        url = self._server.dsn(name)
        database = Database.of(url)
        PostgresSink(database, time.time).close()
        Keeper(database, getLogger(__name__)).turn()
        return url

    def drop(self, url: str) -> None:
        """Remove a database."""
        with self._server.admin() as admin:
            admin.execute(f"DROP DATABASE {_name(url)} WITH (FORCE)".encode())

    def count_rows(self, url: str) -> int:
        """Count the stored events."""
        return int(self._ask(url, "SELECT count(*) FROM telemetry.events"))

    def backend_of(self, url: str) -> int:
        """Give the process that serves the one connection to a database."""
        return int(
            self._ask(
                self._server.dsn(),
                "SELECT pid FROM pg_stat_activity "  # noqa: S608 - a name of ours
                f"WHERE datname = '{_name(url)}' AND backend_type = 'client backend'",
            )
        )

    def spent_s(self) -> float:
        """Give the processor time of all of the server's processes until now."""
        return family_spent_s(self._server.pid)

    def _ask(self, url: str, question: str) -> int:
        with self._server.admin(_name(url)) as admin:
            (row,) = admin.execute(question.encode()).fetchall()
            return int(row[0])


def version(*, is_needed: bool = True) -> str:
    """Tell which server there is, such as `15.18`. Raises BenchFailed where a needed one is absent."""
    try:
        program = binaries() / "postgres"
    except Absent as why:
        if not is_needed:
            return "none"
        raise BenchFailed(f"{why}; or choose the other cases with --only") from None
    said = subprocess.run([str(program), "--version"], capture_output=True, check=True, text=True).stdout
    return said.split()[2]


@contextmanager
def serving() -> Iterator[Postgres]:
    """Run a server until the block ends. Raises BenchFailed where there is none."""
    version()
    server = LocalPostgres(*_OPTIONS)
    try:
        server.start()
        yield Postgres(server)
    finally:
        server.remove()


def _name(url: str) -> str:
    return url.rpartition("/")[2]
