"""What a copy carries is what the tables have: a column that is added to one has to be carried."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from postgres import rows_of, with_tables

from services.stores.copying import NOT_CARRIED, TABLES
from services.stores.sqlite.sink import SQLiteSink

CARRIED = {table.name: list(table.columns) for table in TABLES}
OF_LETTERS = {
    "dead_letters": {
        *("pipeline", "stream", "entry_id", "failed_at", "stage", "reason", "event_id", "letter"),
        "position",  # of its own at each place: letters keep their order, and not their number
    },
    "dead_letters_replayed": {"pipeline", "stream", "entry_id", "replayed_at", "replayed_as"},
    "dead_letters_purged": {"pipeline", "stream", "entry_id", "event_id", "reason", "content", "purged_at"},
}
"""The columns that copying/letters.py writes."""


def of_sqlite(folder: Path) -> dict[str, set[str]]:
    path = folder / "telemetry.db"
    SQLiteSink(path, 1000, lambda: 1.0).close()
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(
            "SELECT tables.name, columns.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) "
            "AS columns WHERE tables.type = 'table'"
        ).fetchall()
    return together([(table.removeprefix("telemetry_"), column) for table, column in found])


def of_postgres(url: str) -> dict[str, set[str]]:
    return together(
        rows_of(
            with_tables(url),
            "SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid "
            "WHERE relnamespace = 'telemetry'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition "
            "AND attnum > 0 AND NOT attisdropped",
        )
    )


def together(found: list[tuple[str, ...]]) -> dict[str, set[str]]:
    tables: dict[str, set[str]] = {}
    for table, column in found:
        tables.setdefault(table, set()).add(column)
    return tables


def test_all_of_postgresql_is_carried(postgres_url: str) -> None:
    """Each table with each column, or there is a reason."""
    found = of_postgres(postgres_url)
    carried = {name: set(columns) for name, columns in CARRIED.items()}
    assert {
        name: columns for name, columns in found.items() if name not in NOT_CARRIED
    } == carried | OF_LETTERS


def test_all_of_sqlite_is_carried(tmp_path: Path) -> None:
    """The same tables, with the same columns."""
    found = {name: columns for name, columns in of_sqlite(tmp_path).items() if name not in NOT_CARRIED}
    assert found == {name: set(columns) for name, columns in CARRIED.items()}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_key_of_a_table_comes_first(table: object, tmp_path: Path) -> None:
    """Rows are read and compared in the order of these columns."""
    of_sqlite(tmp_path)
    name = {"events": "telemetry_events"}.get(table.name, table.name)  # type: ignore[attr-defined]
    with closing(sqlite3.connect(tmp_path / "telemetry.db")) as connection:
        keys = connection.execute(
            "SELECT name FROM pragma_table_info(?) WHERE pk ORDER BY pk", (name,)
        ).fetchall()
    assert [key for (key,) in keys] == list(table.columns)[: table.keys]  # type: ignore[attr-defined]
