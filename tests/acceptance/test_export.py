"""What `telemetry export` writes of one store, `telemetry run --from` stores in another as it was."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from acceptance.test_run import Laptop
from postgres import PostgresServers, database
from samples import id_of, row

from services.contract.attributes import write_attributes
from services.contract.consuming.doors import Sink
from services.contract.event import Event
from services.stores.postgres.rows import PostgresRows
from services.stores.postgres.sink import PostgresSink
from services.stores.rows import Rows
from services.stores.sqlite.rows import SQLiteRows
from services.stores.sqlite.sink import SQLiteSink

KPIS: Final = '[temperature]\nunit = "°C"\nmin = -90\nmax = 200\nthreshold = 80\n'
EVENTS: Final = [
    *(
        row(
            number,
            kpi="temperature",
            ts=round(1_700_000_000 + number / 7, 6),
            value=number / 3 - 20,
            is_degraded=int(number / 3 - 20 > 80),
            attributes=write_attributes({"firmware": f"1.{number}", "note": ""}) if number % 2 else None,
        )
        for number in range(1, 400)
    ),
    row(400, kpi="temperature", device_id=' "a", b ', zone="=1+1", value=-0.1),
    row(401, kpi="temperature", device_id="NA", zone="\u202eñorth\u2028", value=1e-07, ts=40_000_000.0),
    row(
        kpi="temperature",
        event_id="fb4e28ba-2fa1-4d3b-8f0e-000000000002",
        value=0.1 + 0.2,
        attributes=write_attributes({"b": 'x "y", z', "a": "°"}),
    ),
]


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    (tmp_path / "kpis.toml").write_text(KPIS, encoding="utf-8")
    one = Laptop(tmp_path)
    yield one
    one.close()


@pytest.mark.parametrize(
    ("form", "source", "target"), [("csv", "sqlite", "postgres"), ("jsonl", "postgres", "sqlite")]
)
def test_what_is_exported_is_stored_elsewhere_as_it_was(
    laptop: Laptop, postgres_servers: PostgresServers, form: str, source: str, target: str
) -> None:
    """Each event once, with its id; and where it was already, all of them are duplicates."""
    urls = {"postgres": postgres_servers.any().new_database(), "sqlite": ""}
    file = laptop.data / "telemetry.db"
    laptop.data.mkdir()

    def sink() -> Sink:
        if source == "sqlite":
            return SQLiteSink(file, 5000, time.time)
        return PostgresSink(database(urls[source]), time.time)

    def stored(kind: str) -> list[Event]:
        rows: Rows = SQLiteRows(file) if kind == "sqlite" else PostgresRows(database(urls[kind]))
        with rows:
            return [
                Event(*one[:6], int(one.is_degraded), write_attributes(one.attributes))
                for page in rows.pages()
                for one in page
            ]

    with closing(sink()) as given:
        given.write(EVENTS)
    expected = sorted(EVENTS)
    assert stored(source) == expected

    def types(*words: str, at: str) -> str:
        done = laptop.types(*words, DATABASE_URL=urls[at], KPIS_FILE="kpis.toml")
        assert done.wait(120) == 0, done.text
        return done.text

    name = f"events.{form}"
    types("export", "--output", name, at=source)
    answer = types("run", "--from", name, at=target)
    assert f"lines={len(EVENTS) + (form == 'csv')} published={len(EVENTS)} refused=0" in answer
    assert stored(target) == expected
    (laptop.folder / "again").mkdir()
    (laptop.folder / "again" / name).write_bytes((laptop.folder / name).read_bytes())
    types("run", "--from", f"again/{name}", at=source)
    assert stored(source) == expected
    assert id_of(400) in (laptop.folder / name).read_text(encoding="utf-8")
