"""The schema of the database, and the way to it from each one before (schema.sql)."""

import re
import sqlite3
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from services.contract.errors import SinkUnusable

APPLICATION_ID: Final = 0x54454C45
"""`TELE`, in the file's header: tells our databases from others."""


def migrate(connection: sqlite3.Connection, path: Path, upto: int | None = None) -> None:
    """Bring the schema to ours, or up to an earlier number.

    Raises SinkUnusable for a newer one, and for a database that isn't ours.
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
    for number in range(version + 1, newest + 1):
        for statement in migrations[number]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number}")
    if version < newest:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("COMMIT")


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
