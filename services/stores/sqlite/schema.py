"""The schema of the database, and the way to it from each one before (schema.sql)."""

import re
import sqlite3
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

from services.contract.errors import SinkUnusable
from services.stores.sqlite.check import AT_START_S, damaged, find_damage

APPLICATION_ID: Final = 0x54454C45
"""`TELE`, in the file's header: tells our databases from others."""
_NEEDED: Final = 1
"""The newest migration that a program has to know: what comes after it only adds, or allows more."""
_NOTED: Final = 3
"""The first migration with notes of what was made; before it `user_version` was the last one."""


class _Replaced(NamedTuple):
    """A constraint of a table that is replaced by one that allows more."""

    table: str
    old: str
    new: str


_REPLACED: Final[Mapping[int, _Replaced]] = {
    3: _Replaced(
        "telemetry_events",
        "CHECK (value >= 0 AND value < 9e999)",
        "CHECK (value > -9e999 AND value < 9e999)",
    )
}
"""By migration. ALTER TABLE can't do it, and a copy of the table would take its size on the disk again."""


def migrate(connection: sqlite3.Connection, path: Path, upto: int | None = None) -> None:
    """Bring the schema to ours, or up to an earlier number.

    Raises SinkUnusable for one that a newer version made and ours can't use, for a database that isn't ours,
    and for a damaged one.
    """
    connection.execute("BEGIN IMMEDIATE")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version:
        refuse_foreign(connection, path)
    migrations = _migrations()
    newest = newest_schema() if upto is None else upto
    if version > newest:
        connection.execute("ROLLBACK")
        raise SinkUnusable(
            f"{path} has schema {version}, and this version knows {newest}: it was written by a newer one. "
            "Update this consumer, or give it another DATA_DIR",
            "newer_schema",
        )
    made = _last_made(connection, version)
    for number in range(made + 1, newest + 1):
        for statement in migrations[number]:
            connection.execute(statement)
        if number in _REPLACED:
            _replace(connection, _REPLACED[number])
        if newest < _NOTED:
            connection.execute(f"PRAGMA user_version = {number}")
    if made < newest:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        if newest >= _NOTED:
            _note(connection, newest, version or _NEEDED)
        # What was there before has to be sound under the new constraints, as far as a start may take.
        if made and (found := find_damage(connection, AT_START_S)) is not None:
            connection.execute("ROLLBACK")
            raise SinkUnusable(damaged(path, found), "SQLITE_CORRUPT")
    connection.execute("COMMIT")


def _last_made(connection: sqlite3.Connection, version: int) -> int:
    """Tell the last migration that was made of a database that is ours."""
    if not has_column(connection, "schema_migrations", "version"):
        return version
    (last,) = connection.execute("SELECT max(version) FROM schema_migrations").fetchone()
    return int(last)


def _note(connection: sqlite3.Connection, last: int, needed: int) -> None:
    """Note what was made, and what a program has to know of it."""
    connection.executemany(
        "INSERT INTO schema_migrations VALUES (?, ?) ON CONFLICT DO NOTHING",
        [(number, time.time()) for number in range(1, last + 1)],
    )
    connection.execute(f"PRAGMA user_version = {needed}")


def has_column(connection: sqlite3.Connection, table: str, column: str) -> bool:
    """Tell whether there is such a table, with such a column."""
    found = connection.execute("SELECT 1 FROM pragma_table_info(?) WHERE name = ?", (table, column))
    return found.fetchone() is not None


def _replace(connection: sqlite3.Connection, replaced: _Replaced) -> None:
    """Replace a constraint in place, in the open transaction (https://sqlite.org/lang_altertable.html, 7).

    No row is touched; other connections see by the schema's version that they have to read it anew.
    """
    if sys.version_info >= (3, 12):
        # Some systems build SQLite so that nobody may write the schema.
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, False)
    (version,) = connection.execute("PRAGMA schema_version").fetchone()
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(
        "UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = ?",
        (replaced.old, replaced.new, replaced.table),
    )
    connection.execute(f"PRAGMA schema_version = {version + 1}")
    # Off again, and ours is read anew as well. A text that is no schema is an error here.
    connection.execute("PRAGMA writable_schema = RESET")
    connection.execute(f"SELECT * FROM {replaced.table} LIMIT 0")  # noqa: S608 - a constant


def newest_schema() -> int:
    """Tell the newest schema that this version knows."""
    return max(_migrations())


def refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    """Leave a database of somebody else alone. Raises SinkUnusable."""
    # In this order: another replica may make the tables meanwhile, and marks them as ours with them.
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    if application_id != APPLICATION_ID and (tables or application_id):
        raise SinkUnusable(
            f"{path} is a database of another program, and is left as it is; "
            "give the pipeline another DATA_DIR",
            "foreign_database",
        )


def _migrations() -> Mapping[int, Sequence[str]]:
    """Read the statements of each migration from schema.sql."""
    text = resources.files("services.stores.sqlite").joinpath("schema.sql").read_text(encoding="utf-8")
    _, *parts = re.split(r"^-- migration (\d+):.*$", text, flags=re.MULTILINE)
    return {
        int(number): _statements(body) for number, body in zip(parts[::2], parts[1::2], strict=True)
    }  # fmt: skip


def _statements(script: str) -> list[str]:
    """Split a script at its semicolons; executescript would commit in between."""
    statements: list[str] = []
    current = ""
    for line in script.splitlines():
        current += line + "\n"
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements
