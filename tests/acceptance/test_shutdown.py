"""SIGTERM at any moment: the process ends in a few seconds, with exit code 0 and nothing half done."""

import contextlib
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from acceptance.killed_at import POINTS
from acceptance.rig import PATIENCE_S, ROOT, Rig
from servers import eventually

GRACE_S = 10.0
"""Well within the 30 s that Kubernetes gives, on a busy machine."""


def test_sigterm_under_load_leaves_nothing_pending(rig: Rig) -> None:
    """Told to stop in the middle of a backlog, it settles what it has, and only that."""
    rig.publisher().mix(12_000).send()
    for _ in range(3):
        before = rig.count()
        consumer = rig.consumer(BATCH_SIZE="50")
        rig.wait_for_rows(before + 200)
        started = time.monotonic()
        consumer.stop(GRACE_S)
        assert time.monotonic() - started < GRACE_S
        assert consumer.lines("consumer_finished")
        assert rig.pending() == set()
        assert not rig.is_drained(), "there was no load any more"
        rig.assert_law()
    last = rig.consumer(BATCH_SIZE="500")
    rig.drain(last)
    last.stop()
    rig.assert_complete()


@pytest.mark.parametrize("point", POINTS)
def test_sigterm_at_any_point_of_a_batch_settles_what_was_asked_for(rig: Rig, point: str) -> None:
    """Wherever in its batch it is, with the next one on its way or not: nothing of its stays pending."""
    rig.publisher().mix(300).send()
    consumer = rig.doomed_consumer(point, 2, number="SIGTERM")
    assert consumer.wait(GRACE_S + PATIENCE_S) == 0, consumer.text
    assert rig.pending() == set()
    assert not rig.is_drained()
    rig.assert_law()
    assert {letter.reason for letters in rig.letters().values() for letter in letters}.isdisjoint(
        {"retries_exhausted", "deliveries_exhausted"}
    )


def test_sigterm_while_the_sink_is_locked_leaves_entries_pending(rig: Rig) -> None:
    """It doesn't wait for the sink: what it had read stays pending, and is its successor's."""
    publisher = rig.publisher()
    consumer = rig.consumer()
    publisher.mix(50).send()
    rig.drain(consumer)
    with contextlib.closing(sqlite3.connect(rig.settings.database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        publisher.mix(50).send()
        consumer.says("write_unavailable")
        consumer.stop(GRACE_S)
        assert consumer.lines("stopped_while_waiting")
        assert rig.pending()
        rig.assert_law()
        connection.execute("ROLLBACK")
    successor = rig.consumer()
    rig.drain(successor)
    successor.stop()
    rig.assert_complete()


@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_sigterm_while_the_server_is_away_ends_promptly(rig: Rig, fault: str) -> None:
    """Without a server there is nothing to settle: it ends, and the next one goes on."""
    publisher = rig.publisher()
    consumer = rig.consumer()
    publisher.mix(200).send()
    rig.wait_for_rows(1)
    if fault == "killed":
        rig.server.kill()
    else:
        rig.server.pause()
    consumer.says("redis_unavailable")
    consumer.signal(signal.SIGTERM)
    assert consumer.wait(GRACE_S) == 0, consumer.text
    if fault == "killed":
        rig.server.start()
    else:
        rig.server.resume()
    successor = rig.consumer()
    rig.drain(successor)
    successor.stop()
    rig.assert_complete()


def test_the_run_duration_ends_the_process(rig: Rig) -> None:
    """After CONSUMER_RUN_DURATION it ends by itself, as if it had been told to."""
    rig.publisher().mix(200).send()
    consumer = rig.consumer(CONSUMER_RUN_DURATION="1")
    assert consumer.wait() == 0, consumer.text
    assert rig.pending() == set()
    assert consumer.lines("consumer_finished")
    rig.assert_law()


def test_sigterm_doesnt_wait_for_a_long_sleep_interval(rig: Rig) -> None:
    """However long an idle consumer waits for entries, it ends when it is told to."""
    consumer = rig.consumer(SLEEP_INTERVAL="300")
    publisher = rig.publisher()
    publisher.mix(50).send()
    rig.drain(consumer)
    consumer.stop(GRACE_S)
    rig.assert_complete()


ENDLESS = """
import time

def endless(event):
    while True:
        time.sleep(0.01)
"""


def test_a_step_that_does_not_return_is_named_and_ended_by_a_second_ctrl_c(rig: Rig, tmp_path: Path) -> None:
    """SIGTERM alone waits for the batch; what was in hand stays pending, and is another consumer's."""
    info = tmp_path / "site" / "site_steps-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: site-steps\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[telemetry.steps]\nendless = site_steps:endless\n")
    (tmp_path / "site" / "site_steps.py").write_text(ENDLESS)
    rig.publisher().mix(50).send()
    consumer = rig.consumer(PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}:{tmp_path / 'site'}")
    consumer.says("consumer_started")
    eventually(rig.pending, PATIENCE_S, "it has read")
    consumer.signal(signal.SIGTERM)
    consumer.says("stop_waits")
    assert any("site_steps.py" in one for one in consumer.lines("stop_waits")[0]["where"])
    assert consumer.exit_code is None
    consumer.signal(signal.SIGINT)
    assert consumer.wait(GRACE_S) == 1
    assert consumer.lines("stop_forced")
    assert rig.pending()
    successor = rig.consumer()
    rig.drain(successor)
    successor.stop()
    rig.assert_complete()


def test_sighup_ends_it_in_order(rig: Rig) -> None:
    """A terminal that is closed leaves nothing pending."""
    rig.publisher().mix(3000).send()
    consumer = rig.consumer()
    rig.wait_for_rows(100)
    consumer.signal(signal.SIGHUP)
    assert consumer.wait(GRACE_S) == 0, consumer.text
    assert consumer.lines("consumer_finished")
    assert rig.pending() == set()
    rig.assert_law()
