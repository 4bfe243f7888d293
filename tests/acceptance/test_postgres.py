"""The pipeline on PostgreSQL: as docs/postgres.md says, and while the database and consumers are killed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from acceptance.killed_at import POINTS
from acceptance.rig import Rig
from acceptance.test_run import Laptop, _consumers_of
from postgres import STORED, LocalPostgres, database, rows_of, with_tables
from servers import LocalServer, eventually

from services.contract.consuming.letter import DeadLetter
from services.contract.event import DEFAULT_STREAM, Event
from services.runtime.settings import ConsumerSettings
from services.stores.postgres.dead_letters import PostgresDeadLetters

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "postgres.md"


@pytest.fixture
def bare_environment(tmp_path: Path) -> dict[str, str]:
    """Give the environment of a shell in which nothing of ours is set."""
    kept = {
        name: os.environ[name] for name in ("PATH", "LANG", "COVERAGE_PROCESS_START") if name in os.environ
    }
    return {**kept, "HOME": str(tmp_path), "DATA_DIR": str(tmp_path / "data")}


def test_the_page_leads_from_nothing_to_there(
    own_postgres_server: LocalPostgres, tmp_path: Path, bare_environment: dict[str, str]
) -> None:
    """Each of its commands is run, in one shell, and the last ones find what the first have stored."""
    if shutil.which("psql") is None:
        pytest.skip("no psql here")
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) > 5
    server = own_postgres_server
    environment = bare_environment | {
        "ADMIN_URL": server.dsn(),
        "PGHOST": server.host,
        "PGPORT": str(server.port),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "METRICS_HOST": "127.0.0.1",
    }
    script = tmp_path / "page.sh"
    script.write_text("set -euo pipefail\n" + "\n".join(blocks), encoding="utf-8")
    done = subprocess.run(
        ["bash", str(script)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "missing=0" in done.stdout
    assert "stored in     PostgreSQL at" in done.stderr
    assert "change-me" not in done.stdout + done.stderr
    database = server.dsn("telemetry")
    assert rows_of(database, "SELECT count(*) > 1000 FROM telemetry.events") == [(True,)]
    assert rows_of(database, "SELECT count(*) FROM telemetry.events_default") == [(0,)]
    assert rows_of(
        database, "SELECT count(*) > 0 FROM telemetry.dead_letters WHERE pipeline = 'telemetry'"
    ) == [(True,)]


def test_nothing_is_missing_though_the_database_and_consumers_are_killed(
    own_postgres_server: LocalPostgres, tmp_path: Path
) -> None:
    """Under load; every event has one row, or is a dead letter, and the audit says so."""
    server = own_postgres_server
    laptop = Laptop(tmp_path)
    try:
        run = laptop.types(
            *("run", "--replicas", "4", "--rate", "3000", "--duration", "12"),
            *("--invalid-ratio", "0.01", "--duplicate-ratio", "0.01"),
            DATABASE_URL=server.dsn(),
            RETRY_BACKOFF_S="0.1",
        )
        at_least = "SELECT count(*) FROM telemetry.events"
        eventually(lambda: stored(server, at_least) > 3000, 60, "the first rows")
        server.kill()
        time.sleep(1)
        server.start()
        before = stored(server, at_least)
        eventually(lambda: stored(server, at_least) > before, 60, "rows after the crash")
        for pid in _consumers_of(run)[:2]:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: run.exit_code is not None, 120, "the run has ended")
        assert run.exit_code == 0, run.text
        assert " missing=0" in run.text
    finally:
        laptop.close()
    total, distinct = rows_of(
        server.dsn(), "SELECT count(*), count(DISTINCT event_id) FROM telemetry.events"
    )[0]
    assert total == distinct > 20_000


class PostgresRig(Rig):
    """A rig whose consumers store in a database."""

    url = ""

    @property
    def settings(self) -> ConsumerSettings:
        return replace(super().settings, database_url=self.url)

    def letters(self) -> dict[str, list[DeadLetter]]:
        letters: dict[str, list[DeadLetter]] = {}
        with closing(PostgresDeadLetters(database(self.url), "telemetry", DEFAULT_STREAM, time.time)) as box:
            for letter in box.read():
                letters.setdefault(letter.entry_id, []).append(letter)
        return letters

    def count(self) -> int:
        return sum(1 for _ in self._rows())

    def assert_integrity(self) -> None:
        assert rows_of(self.url, "SELECT count(*) FROM telemetry.events_default") == [(0,)]

    def _rows(self) -> Iterator[Event]:
        for one in rows_of(self.url, STORED):
            yield Event(*one[:6])


@pytest.fixture
def postgres_rig(
    own_server: Callable[..., LocalServer], tmp_path: Path, postgres_url: str
) -> Iterator[PostgresRig]:
    """Give a rig on an empty database with tables."""
    one = PostgresRig(own_server(), tmp_path)
    one.url = with_tables(postgres_url)
    one.environment |= {"DATABASE_URL": one.url, "CLAIM_IDLE_MS": "60000"}
    yield one
    one.close()


@pytest.mark.parametrize("point", [point for point in POINTS if point != "mid_dead_letter"])
def test_a_consumer_killed_at_any_point_is_finished_by_its_successor(
    postgres_rig: PostgresRig, point: str
) -> None:
    """Nothing was acknowledged before it was durable, and in the end everything is where it belongs, once."""
    rig = postgres_rig
    rig.publisher(seed=1).mix(200).send()
    doomed = rig.doomed_consumer(point, 2, "consumer-1")
    assert doomed.wait() == -signal.SIGKILL, doomed.text
    rig.assert_law()
    assert not rig.is_drained(), "it died after its work, so this proves nothing"
    successor = rig.consumer("consumer-1")
    rig.drain(successor)
    successor.stop()
    rig.assert_complete()


def test_the_audit_names_what_a_failover_has_lost(
    postgres_rig: PostgresRig, own_postgres_server: LocalPostgres
) -> None:
    """The standby that is promoted lacks the last commits: each of them is missing, by name, and no other."""
    rig, primary = postgres_rig, own_postgres_server
    standby = LocalPostgres()
    try:
        rig.url = with_tables(primary.dsn())
        rig.environment["DATABASE_URL"] = rig.url
        copy_to(standby, primary)
        consumer = rig.consumer("consumer-1")
        rig.publisher(seed=6).mix(100).send()
        rig.drain(consumer)
        kept = {one.event_id for one in rig._rows()}
        eventually(lambda: len(rows_of(standby.dsn(), STORED)) == len(kept), 30, "the standby has it all")
        standby.stop()
        rig.publisher(seed=7).mix(60).send()
        rig.drain(consumer)
        consumer.stop()
        lost = {one.event_id for one in rig._rows()} - kept
        assert lost
        primary.kill()
        standby.start()
        standby.run("pg_ctl", "promote", "-D", str(standby.data))
        rig.url = standby.dsn()
        result = rig.audit(show=1000)
        before, after = result.runs
        assert before.tally.missing == 0
        # Their dead letters were there too.
        assert after.tally.missing == after.tally.published >= len(lost)
        named = {name.rpartition("*-")[2] or name for name in after.missing}
        assert all(any(event_id.endswith(name) for name in named) for event_id in lost)
    finally:
        standby.remove()


def copy_to(standby: LocalPostgres, primary: LocalPostgres) -> None:
    """Make a standby of a server, and start it."""
    primary.run(
        *("pg_basebackup", "-D", str(standby.data), "-h", primary.host, "-p", str(primary.port)),
        *("-U", "postgres", "-R", "-X", "stream", "-c", "fast"),
    )
    standby.start()


def stored(server: LocalPostgres, text: str) -> int:
    """Count rows; 0 before there is a table."""
    if rows_of(server.dsn(), "SELECT to_regclass('telemetry.events') IS NULL") == [(True,)]:
        return 0
    return int(rows_of(server.dsn(), text)[0][0])
