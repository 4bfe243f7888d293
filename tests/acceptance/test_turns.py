"""One replica at a time writes in the folder: one that hangs in its turn is named, and nobody is deaf."""

import contextlib
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from acceptance.rig import CROWDED, PATIENCE_S, Process, Rig, free_port
from servers import eventually

GRACE_S = 5.0
"""It takes two seconds at most, on a machine that has nothing else to do."""
PATIENT = {**CROWDED, "SQLITE_BUSY_TIMEOUT_MS": "30000", "CLAIM_IDLE_MS": "600000"}


def freeze_in_its_turn(rig: Rig, idle: Process) -> Process:
    """Start a consumer that is stopped by SIGSTOP with the turn, in the middle of a transaction.

    `idle` is one that would take its entries.
    """
    rig.environment["CLAIM_IDLE_MS"] = "600000"  # nobody takes what another one holds
    idle.signal(signal.SIGSTOP)
    rig.publisher(9).mix(300).send()
    frozen = rig.doomed_consumer("mid_transaction", 2, "consumer-1", number="SIGSTOP")
    status = Path(f"/proc/{frozen.pid}/status")
    eventually(lambda: "T (stopped)" in status.read_text(), PATIENCE_S, "it is frozen")
    idle.signal(signal.SIGCONT)
    return frozen


def test_a_frozen_replica_that_has_the_turn_is_named_by_the_others(rig: Rig) -> None:
    """In the log and at /readyz: who, since when, what to do. Entries wait; when it is gone, all goes on."""
    publisher = rig.publisher()
    publisher.mix(100).send()
    other = rig.consumer("consumer-2", CONSUMER_METRICS_PORT=str(free_port()))
    rig.drain(other)
    frozen = freeze_in_its_turn(rig, other)
    publisher.mix(50).send()
    other.is_unready(f"consumer-1 (process {frozen.pid} on ")
    other.is_unready(f"If it hangs, end it: kill -9 {frozen.pid}")
    told = other.lines("write_unavailable")
    assert f"consumer-1 (process {frozen.pid} on " in told[0]["error"]
    assert rig.pending("consumer-2")
    rig.assert_law()
    starting = rig.consumer("consumer-3", CONSUMER_METRICS_PORT=str(free_port()))
    starting.is_unready(f"consumer-1 (process {frozen.pid} on ")
    frozen.kill()
    rig.drain(other, starting, rig.consumer("consumer-1"))
    assert other.is_ready()
    rig.assert_complete()


@pytest.mark.parametrize("moment", ["in the middle", "at the start"])
@pytest.mark.parametrize("who", ["another replica", "a stranger"])
def test_sigterm_is_heard_while_somebody_else_has_the_lock(rig: Rig, who: str, moment: str) -> None:
    """However long SQLITE_BUSY_TIMEOUT_MS is; what it holds stays pending."""
    publisher = rig.publisher()
    publisher.mix(50).send()
    first = rig.consumer("consumer-2", **PATIENT)
    rig.drain(first)
    with contextlib.ExitStack() as stack:
        if who == "another replica":
            freeze_in_its_turn(rig, first)
        else:
            held = stack.enter_context(
                contextlib.closing(sqlite3.connect(rig.settings.database, isolation_level=None))
            )
            held.execute("BEGIN IMMEDIATE")
        publisher.mix(50).send()
        waiting = first if moment == "in the middle" else rig.consumer("consumer-3", **PATIENT)
        if moment == "in the middle":
            eventually(lambda: rig.pending("consumer-2"), PATIENCE_S, "it has read")
        else:
            eventually(lambda: _has_open(waiting, rig.data), PATIENCE_S, "it waits for the lock")
        started = time.monotonic()
        waiting.signal(signal.SIGTERM)
        assert waiting.wait(PATIENCE_S) == 0, waiting.text
        assert time.monotonic() - started < GRACE_S
    rig.assert_law()


def _has_open(process: Process, folder: Path) -> bool:
    links = []
    for one in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(one.readlink()))
    return any(link.startswith(str(folder)) for link in links)
