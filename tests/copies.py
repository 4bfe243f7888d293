"""Stores with something of everything in them, and all that is in one, to be compared."""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from postgres import rows_of
from samples import dead, id_of, row

from services.contract.attributes import write_attributes
from services.contract.consuming.doors import Dead, Entry
from services.contract.event import Event, Rejection
from services.stores.copying import PROOFS, PROVEN, Kind, Row, Table
from services.stores.files.dead_letters import DeadLetterFile
from services.stores.sqlite.copying import SQLiteCopied
from services.stores.sqlite.sink import SQLiteSink

SCOPE: Final = ("telemetry", "telemetry_stream", "telemetry_consumers")
FILES: Final = ("dlq.jsonl", "dlq.replayed.jsonl", "dlq.purged.jsonl")
STORED_AT: Final = 1_700_000_100.123457
"""With all the digits that a store keeps."""

_VALUES: Final[Mapping[Kind, Any]] = {
    "id": "018bcfe5-6800-7abc-8def-01200000002a",
    "text": "ümläut\\'\"",
    "number": 1_700_000_300.25,
    "whole": 12_345_678_901,
}


def value_of(kind: Kind, at: int) -> Any:
    """Give a value of a kind that no other column has."""
    value = _VALUES[kind]
    return f"{value} {at}" if kind == "text" else value if kind == "id" else value + at


def row_of(table: Table, scope: tuple[str, str, str] = SCOPE, **changes: Any) -> Row:
    """Make a row of a table of proofs."""
    values = {name: value_of(kind, at) for at, (name, kind) in enumerate(table.columns.items())}
    return tuple((values | dict(zip(list(values)[:3], scope, strict=True)) | changes).values())


def proof(generation: int = 3) -> tuple[Row, list[tuple[str, Row]]]:
    """Make what is proven of a group: a row of each table, and of some of them two."""
    rows = [(table.name, row_of(table)) for table in PROVEN]
    rows.append((PROVEN[0].name, row_of(PROVEN[0], run="another", folded_at=None)))
    return row_of(PROOFS, generation=generation), rows


def events(number: int, first: int = 1) -> list[Event]:
    """Make events that no two values are the same of; some have attributes, and values below zero."""
    return [
        row(
            one,
            zone=f"zone-{one % 3}",
            ts=round(1.7e9 + one / 7, 6),
            value=(-1) ** one * one / 3,
            is_degraded=one % 2,
            attributes=write_attributes({"site": f"é {one}", "firmware": "2"}) if one % 4 == 0 else None,
        )
        for one in range(first, first + number)
    ]


def fill(folder: Path, number: int = 25) -> list[Event]:
    """Put events, letters with marks and notes, and a proof into a data folder."""
    # Ids that carry no time lie apart in PostgreSQL, and so do days.
    some = [*events(number), row(0, event_id="f" * 8 + id_of(1)[8:]), row(0, event_id="0" * 8 + id_of(2)[8:])]
    with closing(SQLiteSink(folder / "telemetry.db", 5000, lambda: STORED_AT)) as sink:
        sink.write(some)
        with closing(SQLiteCopied(folder / "telemetry.db", sink)) as tables:
            tables.put_proven(*proof())
            tables.put_drops(2, 1_600_000_000_000)
    letters = DeadLetterFile(folder / "dlq.jsonl", lambda: 1_700_000_200.654321, "consumer-1")
    letters.put([dead(one) for one in range(1, 7)])
    letters.put([odd_letter()])
    letters.mark_replayed([("1700000000000-2", "1700000000001-0"), ("1700000000000-3", "1700000000001-1")])
    letters.purge(["1700000000000-5"])
    return some


def odd_letter() -> Dead:
    """Make a letter of an entry that is no text, twice the same name and an id that no database takes."""
    fields = [b"event_id", b"no\0id", b"x", b"\xff\xfe", b"x", "é\u2028".encode()]
    return Dead(Entry(b"1700000000000-9", fields, 2), Rejection("decode", "not_utf8", "value is no UTF-8"), 1)


def everything(folder: Path) -> dict[str, Any]:
    """Read all that a data folder has, table by table and byte by byte."""
    with closing(sqlite3.connect(folder / "telemetry.db")) as connection:
        names = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        tables = {
            name: connection.execute(f"SELECT * FROM {name}").fetchall()  # noqa: S608
            for name in names
            if name not in {"sink_probe", "schema_migrations"}
        }
    return tables | {name: lines_of(folder / name) for name in FILES}


def lines_of(path: Path) -> list[str]:
    """Read the lines of a file; none where there is none."""
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def everything_at(url: str) -> dict[str, Any]:
    """Read all that a database has, table by table."""
    tables = rows_of(
        url,
        "SELECT relname FROM pg_class WHERE relnamespace = 'telemetry'::regnamespace "
        "AND relkind IN ('r', 'p') AND NOT relispartition "
        "AND relname NOT IN ('sink_probe', 'schema_migrations', 'upkeep')",
    )
    asked = "SELECT * FROM telemetry.{} ORDER BY 1, 2, 3"
    return {name: rows_of(url, asked.format(name)) for (name,) in tables}


def letters_at(url: str) -> list[str]:
    """Read the dead letters of a database, as lines."""
    return [line for (line,) in rows_of(url, "SELECT letter FROM telemetry.dead_letters ORDER BY position")]


def marks(lines: list[str], name: str) -> dict[str, float]:
    """Read the newest time of each mark."""
    return {mark["entry_id"]: mark[name] for mark in map(json.loads, lines)}
