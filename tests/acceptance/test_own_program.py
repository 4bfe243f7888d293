"""What docs/your-data.md says of programs of one's own, and of asking with SQL, runs as it stands."""

import re
import shutil
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from acceptance.pages import blocks_of, run_blocks
from acceptance.rig import PATIENCE_S, ROOT, Rig
from postgres import database, rows_of, with_tables
from samples import row
from servers import eventually

from services.stores.postgres.sink import PostgresSink
from services.stores.sqlite.sink import SQLiteSink

PAGE = (ROOT / "docs" / "your-data.md").read_text(encoding="utf-8")
BY_REDIS_CLI, READS_MANY, BY_SQLITE, BY_PSQL = blocks_of("your-data.md")
BY_PYTHON, MANY_BY_PYTHON = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
COLUMNS = re.findall(
    r"^\| `(\w+)` \| `(\w+)` \| `([\w ]+)` \|",
    (ROOT / "docs" / "tables.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


def need(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"no {program} here")


def test_what_another_program_publishes_is_stored_and_found_by_sql(rig: Rig) -> None:
    """By Python, then by redis-cli; and the rows by sqlite3, beside a consumer."""
    need("redis-cli")
    need("sqlite3")
    address = f"redis://{rig.server.host}:{rig.server.port}"
    began = time.time()
    (rig.folder / "publish.py").write_text(BY_PYTHON, encoding="utf-8")
    rig.consumer()
    done = run_blocks(rig, [f"{sys.executable} publish.py", BY_REDIS_CLI], BROKER_URL=address)
    assert done.returncode == 0, done.stderr
    rig.wait_for_rows(2)
    assert rig.letters() == {}
    first, second = sorted(rig.stored().values(), key=lambda one: one.device_id)
    assert (first.device_id, first.zone, first.kpi, first.value) == (
        "boiler-3",
        "cellar",
        "temperature",
        61.5,
    )
    assert (second.device_id, second.value) == ("boiler-4", 58.0)
    assert began - 1 <= min(first.ts, second.ts) <= max(first.ts, second.ts) <= time.time()
    done = run_blocks(rig, [BY_SQLITE])
    assert done.returncode == 0, done.stderr
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second.ts))
    assert done.stdout.splitlines() == [f'"{moment}",boiler-4,58.0']


def test_many_events_in_one_entry_are_stored(rig: Rig) -> None:
    """By Python, with the client that the page has made before."""
    events = """
events = [event | {"event_id": str(uuid.uuid4()), "device_id": f"oven-{number}"} for number in range(3)]
"""
    program = BY_PYTHON + events + MANY_BY_PYTHON
    (rig.folder / "publish.py").write_text(program, encoding="utf-8")
    rig.consumer()
    address = f"redis://{rig.server.host}:{rig.server.port}"
    done = run_blocks(rig, [f"{sys.executable} publish.py"], BROKER_URL=address)
    assert done.returncode == 0, done.stderr
    rig.wait_for_rows(4)
    devices = sorted(one.device_id for one in rig.stored().values())
    assert devices == ["boiler-3", "oven-0", "oven-1", "oven-2"]
    assert rig.letters() == {}
    assert rig.client.xlen("telemetry_stream") == 2


def test_a_reader_of_ones_own_says_that_it_reads_entries_of_many(rig: Rig) -> None:
    """Before it has, each event has an entry of its own for its sake; from then on they share entries."""
    need("redis-cli")
    address = f"redis://{rig.server.host}:{rig.server.port}"
    rig.client.xgroup_create("telemetry_stream", "my_group", mkstream=True)
    rig.client.xreadgroup("my_group", "my_consumer", {"telemetry_stream": ">"}, count=1)
    rig.consumer()

    def ours_reads() -> bool:
        groups: Any = rig.client.xinfo_groups("telemetry_stream")
        return all(group["consumers"] for group in groups) and len(groups) == 2

    eventually(ours_reads, PATIENCE_S, "our consumer reads, too")
    settings = {
        "EVENTS_PER_ENTRY": "50", "BATCH_SIZE": "50", "RATE": "500",
        "PRODUCER_RUN_DURATION": "0", "PRODUCER_METRICS_PORT": "0",
    }  # fmt: skip
    producer = rig.start("producer", [sys.executable, "-m", "services.producer"], settings)
    producer.says("entries_not_packed")
    (line,) = producer.lines("entries_not_packed")
    assert (line["group"], line["consumer"]) == ("my_group", "my_consumer")
    done = run_blocks(rig, [READS_MANY], BROKER_URL=address)
    assert done.returncode == 0, done.stderr
    producer.says("entries_packed")


def test_rows_in_postgresql_are_found_by_sql(rig: Rig, postgres_url: str) -> None:
    """By psql."""
    need("psql")
    with closing(PostgresSink(database(postgres_url), time.time)) as sink:
        sink.write(
            [
                row(1, ts=round(time.time()), value=-1.5, attributes='{"firmware":"1.2"}'),
                row(2, ts=round(time.time()), attributes='{"firmware":"1.3"}'),
                row(3, attributes='{"firmware":"1.2"}'),
            ]
        )
    done = run_blocks(rig, [BY_PSQL], DATABASE_URL=postgres_url)
    assert done.returncode == 0, done.stderr
    heading, found = done.stdout.splitlines()
    assert heading == "ts,device_id,value"
    assert found.endswith(",device-1,-1.5")


def test_the_columns_on_the_page_are_those_of_the_tables(tmp_path: Path, postgres_url: str) -> None:
    """Each with its type, in both stores."""
    path = tmp_path / "telemetry.db"
    SQLiteSink(path, 1000, time.time).close()
    with closing(sqlite3.connect(path)) as connection:
        of_sqlite = connection.execute(
            "SELECT name, type FROM pragma_table_info('telemetry_events')"
        ).fetchall()
    of_postgres = rows_of(
        with_tables(postgres_url),
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = 'telemetry.events'::regclass AND attnum > 0 AND NOT attisdropped",
    )
    assert {name: kind for name, kind, _ in COLUMNS} == dict(of_sqlite)
    assert {name: kind for name, _, kind in COLUMNS} == dict(of_postgres)
