"""docs/moving-to-postgres.md: each of its commands is run as it stands, on a pipeline that publishes."""

import shutil
import signal
import threading

import pytest
from acceptance.pages import blocks_of, run_blocks
from acceptance.rig import PATIENCE_S, Rig
from postgres import LocalPostgres, rows_of
from servers import eventually


def test_a_running_pipeline_moves_with_no_event_lost(rig: Rig, own_postgres_server: LocalPostgres) -> None:
    """There, and back; the producer never stops, and the audit in PostgreSQL knows of all that was before."""
    if shutil.which("psql") is None:
        pytest.skip("no PostgreSQL client here")
    with own_postgres_server.admin() as admin:
        admin.execute("CREATE ROLE telemetry LOGIN PASSWORD 'change-me'")
        admin.execute("CREATE DATABASE telemetry OWNER telemetry ENCODING 'UTF8' TEMPLATE template0")
    blocks = blocks_of("moving-to-postgres.md")
    assert len(blocks) == 5
    publishing = {
        "PRODUCER_RUN_DURATION": "0",
        "RATE": "50",
        "PRODUCER_METRICS_PORT": "0",
        "INVALID_RATIO": "0.05",
        "BATCH_SIZE": "5",
    }
    rig.environment |= {"CLAIM_IDLE_MS": "60000"}
    producer = rig.start("producer", [*rig.python, "-m", "services.producer"], publishing)
    consumer = rig.consumer("consumer-1")
    rig.wait_for_rows(100)
    threading.Thread(target=consumer.wait, args=(300,), daemon=True).start()  # else it stays as a zombie
    # What the page leaves running ends with it.
    done = run_blocks(
        rig,
        [*blocks, "kill -TERM $!", "wait"],
        PGHOST=own_postgres_server.host,
        PGPORT=str(own_postgres_server.port),
        CONSUMERS=str(consumer.pid),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert consumer.exit_code == 0
    assert done.stdout.count(": PostgreSQL at ") == 2
    assert "the same: PostgreSQL at " in done.stdout
    assert "missing=0" in done.stdout
    assert "change-me" not in done.stdout + done.stderr
    url = own_postgres_server.dsn("telemetry")
    assert rows_of(url, "SELECT count(*) > 0 FROM telemetry.dead_letters") == [(True,)]
    producer.signal(signal.SIGTERM)
    assert producer.wait() == 0
    moved = {"DATABASE_URL": url}
    last = rig.consumer("consumer-2", **moved)
    audit = run_blocks(rig, [f"telemetry audit --wait {PATIENCE_S:g}"], **moved)
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert "pending=0 undelivered=0 missing=0" in audit.stdout
    eventually(
        lambda: rows_of(url, "SELECT count(*) FROM telemetry.events")[0][0] > rig.count(), 5, "new rows"
    )
    last.stop()
