"""The tables, made and brought up to date by whoever comes first; and what no database of ours can be.

    telemetry.schema_migrations   the steps that were run, with a comment that says whose they are
    advisory lock LOCK            held while steps are run, to the end of their transaction

Steps only add, so a program works on tables of one step newer than its own: a rollback needs no other
database.
"""

import logging
import re
from collections.abc import Collection
from importlib import resources
from typing import Final, NamedTuple

from services.contract.errors import SinkUnavailable, SinkWrong
from services.stores.postgres.connection import Connection

LOCK: Final = 0x54454C454D455452
"""`TELEMETR`: all of ours take advisory locks of this number and those behind it."""
OLDEST_SERVER: Final = 150_000
_NEWER_BY: Final = 1
_LOCK_MS: Final = 30_000
"""How long another consumer is waited for that runs steps."""

_FIT: Final = (
    "SELECT current_setting('server_version_num')::int, current_setting('fsync'), "
    "current_setting('server_encoding'), pg_is_in_recovery()"
)
_LOOK: Final = (
    "SELECT to_regclass('telemetry.schema_migrations') IS NOT NULL, "
    "coalesce(obj_description(to_regclass('telemetry.schema_migrations'), 'pg_class'), ''), "
    "(SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('telemetry')::oid AND relkind "
    "IN ('r', 'p', 'v'))"
)

_WRITTEN: Final = {
    "events": "INSERT",
    "sink_probe": "INSERT UPDATE",
    "upkeep": "INSERT UPDATE",
    "last_readings": "INSERT UPDATE DELETE",
    "dead_letters": "INSERT DELETE",
    "dead_letters_replayed": "INSERT UPDATE",
    "dead_letters_purged": "INSERT UPDATE",
    "proofs": "INSERT UPDATE",
    "proven_runs": "INSERT UPDATE",
    "proven_without_row": "INSERT DELETE",
    "proven_id_days": "INSERT UPDATE DELETE",
    "accepted_losses": "INSERT",
    "retention": "INSERT UPDATE",
    "retention_holds": "INSERT UPDATE",
}
"""What the sink, the letters and the proofs do to each table, beside reading it."""
_SCHEMA: Final = (
    "SELECT to_regnamespace('telemetry') IS NOT NULL, has_database_privilege(current_database(), 'CREATE'), "
    "coalesce(has_schema_privilege(to_regnamespace('telemetry')::oid, 'USAGE'), false), "
    "coalesce(has_schema_privilege(to_regnamespace('telemetry')::oid, 'CREATE'), false)"
)
_REFUSED: Final = (
    "SELECT name, privilege "
    "FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS given (name, privilege, at) "
    "JOIN pg_class ON relname = name AND relnamespace = to_regnamespace('telemetry')::oid "
    "WHERE NOT CASE privilege WHEN 'owner' THEN pg_has_role(relowner, 'USAGE') "
    "ELSE has_table_privilege(pg_class.oid, privilege) END ORDER BY at"
)
"""By the catalogue, which everybody may read."""


class Migration(NamedTuple):
    """A step, and its statements."""

    version: int
    name: str
    sql: str


def migrations() -> list[Migration]:
    """Give all steps, in their order."""
    return sorted(
        Migration(int(match[1]), match[2], file.read_text(encoding="utf-8"))
        for file in resources.files("services.stores.postgres.migrations").iterdir()
        if (match := re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name))
    )


def newest_schema() -> int:
    """Tell the newest step that this version knows."""
    return migrations()[-1].version


def refuse_unfit(connection: Connection, place: str) -> None:
    """Refuse a server that can't keep what it is given.

    Raises SinkWrong, SinkUnavailable and psycopg.Error.
    """
    # More than one statement in a transaction: what pools by statement ends here.
    with connection.transaction():
        row = connection.execute(_FIT).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has a row
    version, fsync, encoding, is_standby = row
    if version < OLDEST_SERVER:
        raise SinkWrong(
            f"PostgreSQL at {place} is of version {version // 10_000}: 15 or newer is needed", "old_server"
        )
    if fsync != "on":
        raise SinkWrong(
            f"PostgreSQL at {place} runs with fsync = off, and would lose acknowledged events: set fsync "
            "= on",
            "fsync_off",
        )
    if encoding != "UTF8":
        raise SinkWrong(
            f"PostgreSQL at {place}: the database's encoding is {encoding}, which has no place for every "
            "name: "
            "create one with ENCODING 'UTF8' (DATABASE_URL)",
            "encoding",
        )
    if is_standby:
        raise SinkUnavailable(
            f"PostgreSQL at {place} is a standby, and takes no writes: name the primary, or several hosts "
            "with "
            "target_session_attrs=read-write (DATABASE_URL)",
            "read_only",
        )


def lacking_rights(connection: Connection) -> dict[str, list[str]]:
    """Tell what this role lacks to store events, and to read them. Raises psycopg.Error."""
    row = connection.execute(_SCHEMA).fetchone()
    assert row is not None  # noqa: S101 - as above
    is_there, may_make, may_use, may_create = row
    if not is_there:
        return {"consumer": [] if may_make else ["CREATE on the database"]}
    use = [] if may_use else ["USAGE on the schema telemetry"]
    create = [] if may_create else ["CREATE on the schema telemetry"]
    reads = [(table, "SELECT") for table in ("schema_migrations", *_WRITTEN)]
    writes = [(table, one) for table, privileges in _WRITTEN.items() for one in privileges.split()]
    # A day is a partition, and only the owner makes one, with CREATE on the schema.
    asked = [*reads, ("events", "owner"), *writes]
    found = connection.execute(_REFUSED, ([name for name, _ in asked], [one for _, one in asked])).fetchall()

    def named(pairs: Collection[tuple[str, str]]) -> list[str]:
        refused = [(name, one) for name, one in found if (name, one) in pairs]
        return [f"ownership of {name}" if one == "owner" else f"{one} on {name}" for name, one in refused]

    return {"consumer": [*use, *create, *named(asked)], "reader": [*use, *named(reads)]}


def version_of(connection: Connection, place: str) -> int:
    """Tell the newest step that was run; 0 where none was.

    Raises SinkWrong for a schema of somebody else.
    """
    row = connection.execute(_LOOK).fetchone()
    assert row is not None  # noqa: S101 - as above
    has_table, comment, tables = row
    if has_table and comment == "telemetry-pipeline":
        found = connection.execute(
            "SELECT coalesce(max(version), 0) FROM telemetry.schema_migrations"
        ).fetchone()
        return int(found[0]) if found is not None else 0
    if tables:
        raise SinkWrong(
            f"PostgreSQL at {place}: the schema telemetry there has {tables} tables of another program, "
            "and is left "
            "as it is; name another database (DATABASE_URL)",
            "foreign_database",
        )
    return 0


def made_at(connection: Connection, place: str) -> float | None:
    """Tell when the tables of this database were made, in Unix seconds by its own clock; None without any.

    It goes with them to a standby and through a backup, so it tells one database from another.
    Raises SinkWrong for a schema of somebody else, and psycopg.Error.
    """
    if version_of(connection, place) == 0:
        return None
    row = connection.execute(
        "SELECT extract(epoch FROM min(applied_at))::float8 FROM telemetry.schema_migrations"
    ).fetchone()
    return None if row is None else row[0]


def no_tables(place: str) -> str:
    """Say that a database has none of ours."""
    return f"PostgreSQL at {place}: no tables yet; a consumer makes them (DATABASE_URL)"


def check_version(version: int, place: str) -> None:
    """Refuse tables that are too new. Raises SinkWrong."""
    known = newest_schema()
    if version > known + _NEWER_BY:
        raise SinkWrong(
            f"PostgreSQL at {place} has schema {version}, and this version knows {known} and works with "
            f"{known + _NEWER_BY}: it was updated by a newer one. Update this one, or name another database "
            "(DATABASE_URL)",
            "newer_schema",
        )


def update(connection: Connection, place: str, logger: logging.Logger, upto: int | None = None) -> None:
    """Run the steps that are not run yet, up to a number.

    Raises SinkWrong, SinkUnavailable and psycopg.Error.
    """
    version = version_of(connection, place)
    check_version(version, place)
    newest = newest_schema() if upto is None else upto
    if version >= newest:
        return
    limit_s, connection.limit_s = connection.limit_s, 10 * _LOCK_MS / 1000
    try:
        with connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = {_LOCK_MS}")
            connection.execute("SET LOCAL statement_timeout = 0")
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            version = version_of(connection, place)  # another may have run them meanwhile
            for step in migrations():
                if version < step.version <= newest:
                    connection.execute(step.sql.encode())
                    connection.execute(
                        "INSERT INTO telemetry.schema_migrations (version, name) VALUES (%s, %s)",
                        (step.version, step.name),
                    )
                    logger.info(
                        "schema_updated", extra={"schema": step.version, "step": step.name, "place": place}
                    )
    finally:
        connection.limit_s = limit_s
