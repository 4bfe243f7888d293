"""Transactions of a copy: whatever the role or database says, what they wrote lasts when they are over."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from services.stores.postgres.connection import Connection
from services.stores.postgres.partitions import READERS_LOCK

LIMIT_S: Final = 600.0
"""How long one statement may take: a person waits, and can press Ctrl-C."""
_LOCK_MS: Final = 10_000


@contextmanager
def reading(connection: Connection, *, by_key: bool = True) -> Iterator[None]:
    """All answers as of one moment; `by_key`: some of the rows. Raises psycopg.Error."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # A day that is attached while a statement is planned would be missed by it.
        # And while a table is new, nothing is known of it: each page would be looked for in all of it.
        connection.execute(
            "SELECT pg_advisory_xact_lock_shared(%s), set_config('enable_seqscan', %s, true)",
            (READERS_LOCK, "off" if by_key else "on"),
        )
        yield


@contextmanager
def writing(connection: Connection) -> Iterator[None]:
    """Write all of it or nothing, durable on return. Raises psycopg.Error."""
    with connection.transaction():
        connection.execute(
            "SELECT set_config('lock_timeout', %s, true), set_config('synchronous_commit', "
            "CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' "
            "ELSE current_setting('synchronous_commit') END, true)",
            (str(_LOCK_MS),),
        )
        yield
