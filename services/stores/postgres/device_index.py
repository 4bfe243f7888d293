"""An index by device on each partition, made and dropped beside the writing (DATABASE_DEVICE_INDEX).

    telemetry.PARTITION_device    (device_id, ts) of one partition; the parent table has none

An index of the parent can't be made CONCURRENTLY, and would keep writers out. What comes of a partition's own
is the same for whoever asks. One of ours at a time is at it: two on one table end in a deadlock. That lock is
held by a transaction on a second connection, since CONCURRENTLY goes into none, and a lock of a session
would belong to whoever gets it next of a pooler.
"""

import time
from collections.abc import Callable
from contextlib import closing
from typing import Final, LiteralString

import psycopg
from psycopg import IsolationLevel, sql

from services.stores.postgres.connection import Connection, Database
from services.stores.postgres.schema import LOCK

LONGEST_S: Final = 6 * 3600.0
"""How long one index may take: it waits for every transaction that is older than it."""
_TRY_LOCK: Final = f"SELECT pg_try_advisory_xact_lock({LOCK + 3})"
_SUFFIX: Final = "_device"

_PARTITIONS: Final = (
    "pg_partition_tree('telemetry.events') AS tree JOIN pg_class AS leaf ON leaf.oid = tree.relid "
    "AND tree.isleaf AND leaf.relkind = 'r'"
)
# Any that serves will do: one of the parent that a person has made has its part in each partition.
_WITHOUT: Final = (
    f"SELECT leaf.relnamespace::regnamespace::text, leaf.relname FROM {_PARTITIONS} WHERE NOT EXISTS "  # noqa: S608
    "(SELECT FROM pg_index WHERE indrelid = leaf.oid AND indisvalid AND indpred IS NULL "
    "AND pg_get_indexdef(indexrelid, 1, true) = 'device_id' AND pg_get_indexdef(indexrelid, 2, true) = 'ts')"
)
_OURS: Final = (
    f"SELECT leaf.relnamespace::regnamespace::text, index.relname FROM {_PARTITIONS} "  # noqa: S608
    "JOIN pg_index ON indrelid = leaf.oid JOIN pg_class AS index ON index.oid = indexrelid "
    f"WHERE index.relname = leaf.relname || '{_SUFFIX}' AND NOT index.relispartition "
    "AND (%s OR NOT indisvalid)"
)
# A build whose consumer was killed goes on for a while: what it makes is for the next time.
_FREE: Final = (
    " AND NOT EXISTS (SELECT FROM pg_locks WHERE relation = leaf.oid AND locktype = 'relation' AND granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND mode = 'ShareUpdateExclusiveLock') ORDER BY leaf.relname DESC"
)


def tend(database: Database, *, is_wanted: bool, is_stopping: Callable[[], bool], until: float) -> bool:
    """Make what is missing where it is wanted, else drop what is ours; gives False where more is left to do.

    `until`: no other index is begun after it, by time.monotonic(). Raises psycopg.Error, of the first that
    failed; the others are tried all the same. What was broken off is an invalid index, and is dropped the
    next time.
    """

    def is_over() -> bool:
        return is_stopping() or time.monotonic() > until

    with closing(database.connect(is_stopping, LONGEST_S)) as connection:
        if not _has_work(connection, is_wanted=is_wanted):
            return True
        with closing(database.connect(is_stopping, LONGEST_S)) as guard:
            # With a snapshot it would be waited for by the very index that it guards. A statement with
            # parameters keeps one as well, till the next comes.
            guard.isolation_level = IsolationLevel.READ_COMMITTED
            with guard.transaction():
                guard.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                row = guard.execute(_TRY_LOCK).fetchone()
                if row is None or not row[0]:
                    return False
                _work(connection, is_wanted=is_wanted, is_over=is_over)
        return not _has_work(connection, is_wanted=is_wanted)


def _has_work(connection: Connection, *, is_wanted: bool) -> bool:
    wanted = bool(is_wanted and connection.execute(_WITHOUT).fetchone())
    return wanted or connection.execute(_OURS, (not is_wanted,)).fetchone() is not None


def _work(connection: Connection, *, is_wanted: bool, is_over: Callable[[], bool]) -> None:
    first: psycopg.Error | None = None
    for schema, name in connection.execute(_OURS + _FREE, (not is_wanted,)).fetchall():
        if is_over():
            return
        error = _tried(connection, "DROP INDEX CONCURRENTLY IF EXISTS {}.{}", schema, name)
        first = first or error
    for schema, name in connection.execute(_WITHOUT + _FREE).fetchall() if is_wanted else []:
        if is_over():
            return
        error = _tried(connection, "CREATE INDEX CONCURRENTLY {index} ON {}.{} (device_id, ts)", schema, name)
        first = first or error
    if first is not None:
        raise first


def _tried(connection: Connection, text: LiteralString, schema: str, name: str) -> psycopg.Error | None:
    """Run a statement on an index or a table; gives what went wrong, where the connection outlives it."""
    try:
        connection.execute(
            sql.SQL(text).format(
                sql.Identifier(schema), sql.Identifier(name), index=sql.Identifier(f"{name}{_SUFFIX}")
            )
        )
    except psycopg.Error as error:
        if connection.closed:
            raise
        return error
    return None
