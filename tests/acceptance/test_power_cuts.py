"""The power goes at any moment: whatever was acknowledged before it is on the disk."""

import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from acceptance.publisher import Published
from acceptance.rig import ROOT, Process, Rig
from powercut import Call, Disk, calls, under_strace
from servers import eventually

from services.stores.files.dead_letters import DeadLetterFile

_XACK = re.compile(rb"\r\nXACK\r\n((?:\$\d+\r\n[^\r]*\r\n)*)")
_ENTRY_ID = re.compile(rb"\r\n(\d+-\d+)\r\n")


def acknowledged(call: Call) -> set[str]:
    """Name the entries that a call acknowledges."""
    return {
        entry_id.decode() for command in _XACK.findall(call.sent) for entry_id in _ENTRY_ID.findall(command)
    }


@pytest.fixture
def disk(rig: Rig) -> Disk:
    """Give a disk with a folder in which DATA_DIR is to be made."""
    folder = rig.folder / "disk"
    folder.mkdir()
    rig.use_data(folder / "data")
    return Disk(folder)


def traced_consumer(rig: Rig, trace: Path, failing: str = "", **environment: str) -> Process:
    """Start a consumer that strace watches."""
    command = under_strace([sys.executable, "-m", "services.consumer"], trace, failing)
    return rig.start("traced", command, {"CONSUMER_NAME": "consumer-1", **environment})


def stop(traced: Process) -> None:
    """Ask the process below strace to stop, and wait until both have ended."""
    children = Path(f"/proc/{traced.pid}/task/{traced.pid}/children").read_text().split()
    for child in children:
        subprocess.run(["kill", f"-{signal.SIGTERM.value}", child], check=True)
    assert traced.wait() == 0, traced.text


def lost(rig: Rig, disk: Disk, settled: set[str], chance: random.Random | None = None) -> list[Published]:
    """Cut the power, and give what of the acknowledged entries is nowhere any more."""
    rig.use_data(disk.restore(rig.folder / "after", chance) / "data")
    return rig._unsettled(one for one in rig.published if one.entry_id in settled)


def assert_nothing_is_lost(
    rig: Rig, disk: Disk, trace: Path, every: int, settled: Iterable[str] = (), ack: int = 1
) -> int:
    """Cut the power at every so-manyth call and `ack`: all that was acknowledged is there.

    Gives how many acknowledgements there were. `settled`: what was acknowledged before the trace begins.
    """
    settled = set(settled)
    steps = acks = 0
    for call in calls(trace):
        if names := acknowledged(call):
            acks += 1
            settled |= names
        elif not disk.apply(call):
            continue
        steps += 1
        if not settled:
            continue
        is_due = acks % ack == 0 if names else steps % every == 0
        if is_due or call.name in {"rename", "unlink", "ftruncate"}:
            where = f"{acks}. acknowledgement, call {steps}: {call.name}, not synced: {disk.unsynced()}"
            assert lost(rig, disk, settled) == [], where
            assert lost(rig, disk, settled, random.Random(steps)) == [], where
    assert settled == {one.entry_id for one in rig.published}, "the trace has not all acknowledgements"
    return acks


def test_nothing_is_acknowledged_before_the_disk_has_it(rig: Rig, disk: Disk) -> None:
    """Rows in their WAL, letters, the names of both and their folder's own: all synced before the XACK."""
    rig.publisher().mix(200).send()
    trace = rig.folder / "trace"
    consumer = traced_consumer(rig, trace)
    data = rig.data
    rig.drain(consumer)
    stop(consumer)
    rig.assert_complete()
    assert rig.letters()
    assert assert_nothing_is_lost(rig, disk, trace, every=20) >= 10
    rig.use_data(data)


@pytest.mark.parametrize("failing", ["fdatasync:error=EIO:when=14..25", "fsync:error=EIO:when=5..6"])
def test_what_a_failed_sync_left_in_memory_is_not_taken_for_stored(
    rig: Rig, disk: Disk, failing: str
) -> None:
    """A WAL, letters or folders that can't be synced for a while are written anew, not believed."""
    rig.publisher().mix(200).send()
    trace = rig.folder / "trace"
    consumer = traced_consumer(rig, trace, failing)
    data = rig.data
    rig.drain(consumer)
    stop(consumer)
    assert "(INJECTED)" in trace.read_text(encoding="ascii", errors="replace"), "nothing failed"
    rig.assert_complete()
    assert_nothing_is_lost(rig, disk, trace, every=50)
    rig.use_data(data)


def test_what_one_who_was_killed_has_not_synced_is_synced_by_the_next(rig: Rig, disk: Disk) -> None:
    """Killed between write and sync: its successor finds the rows in the WAL, where only memory has them."""
    rig.publisher().mix(200).send()
    first, second = rig.folder / "trace-1", rig.folder / "trace-2"
    killed = traced_consumer(rig, first, "fdatasync:error=EIO:signal=SIGKILL:when=14")
    assert killed.wait() != 0
    assert not rig.is_drained()
    data = rig.data
    consumer = traced_consumer(rig, second)
    rig.drain(consumer)
    stop(consumer)
    rig.assert_complete()
    settled = {
        entry_id for call in calls(first) if disk.apply(call) or True for entry_id in acknowledged(call)
    }
    disk.close_all()
    assert_nothing_is_lost(rig, disk, second, every=50, settled=settled)
    rig.use_data(data)


_TWO = """
    trap 'kill $pids; for one in $pids; do wait $one || exit 1; done; exit 0' TERM
    for name in consumer-1 consumer-2; do
        CONSUMER_NAME=$name "$0" -m services.consumer & pids="$pids $!"
    done
    wait
"""


def test_rows_that_another_has_not_synced_yet_are_on_the_disk_before_they_are_duplicates(
    rig: Rig, disk: Disk
) -> None:
    """Two on one file whose syncs take long: what one has just written, the other one gets once more."""
    publisher = rig.publisher()
    for _ in range(15):
        publisher.valid(10).again(10)
    trace = rig.folder / "trace"
    command = under_strace(["sh", "-c", _TWO, sys.executable], trace, "fdatasync:delay_enter=20000")
    consumers = rig.start("traced", command, {"BATCH_SIZE": "10"})
    data = rig.data
    eventually(lambda: len(consumers.lines("consumer_started")) == 2, 30, "both run")
    publisher.send()
    rig.drain(consumers)
    stop(consumers)
    rig.assert_complete()
    assert times_one_wrote_before_the_other_had_synced(trace) > 3
    assert_nothing_is_lost(rig, disk, trace, every=50)
    rig.use_data(data)


def times_one_wrote_before_the_other_had_synced(trace: Path) -> int:
    """Count the turns that began while the last one's pages were not synced yet."""
    times = 0
    unsynced: set[int] = set()
    for call in calls(trace):
        if call.name == "fdatasync":
            unsynced.discard(call.process)
        elif call.name == "pwrite64" and len(call.texts[0]) == 4096:
            unsynced.add(call.process)
        elif call.name == "pwrite64" and b'"since"' in call.texts[0]:  # telemetry.turn
            times += bool(unsynced - {call.process})
    return times


@pytest.mark.storm
def test_nothing_is_lost_while_the_wal_is_folded_into_the_database(rig: Rig, disk: Disk) -> None:
    """More than a thousand pages of WAL, so that checkpoints come in between."""
    publisher = rig.publisher()
    for _ in range(6):
        publisher.mix(1000).send()
    trace = rig.folder / "trace"
    consumer = traced_consumer(rig, trace)
    data = rig.data
    rig.drain(consumer, timeout_s=120)
    stop(consumer)
    rig.assert_complete()
    database = [call for call in calls(trace) if call.name == "pwrite64" and len(call.texts[0]) == 4096]
    assert len(database) > 1000, "there was no checkpoint"
    assert_nothing_is_lost(rig, disk, trace, every=100, ack=20)
    rig.use_data(data)


def ops(rig: Rig, trace: Path, *arguments: str) -> None:
    """Run a `telemetry` command that strace watches."""
    command = under_strace([sys.executable, "-m", "services.ops", *arguments], trace)
    done = rig.start("ops", command, {"PYTHONPATH": f"{ROOT}"})
    assert done.wait() == 0, done.text


@pytest.fixture
def letters(rig: Rig) -> list[str]:
    """Keep twelve dead letters on a disk; gives the ids of their entries."""
    rig.use_data(rig.folder / "disk" / "data")
    rig.publisher().invalid(12).send()
    consumer = rig.consumer()
    rig.drain(consumer)
    consumer.stop()
    return sorted(rig.letters())


def cuts(rig: Rig, disk: Disk, trace: Path) -> Iterator[DeadLetterFile]:
    """Cut the power after each call of a trace, three times, and give the letters that are left."""
    for number, call in enumerate(calls(trace)):
        if disk.apply(call):
            for chance in (None, random.Random(number), random.Random(-number)):
                after = disk.restore(rig.folder / "after", chance)
                yield DeadLetterFile(after / "data" / "dlq.jsonl", lambda: 0.0)


def test_a_power_cut_during_a_purge_loses_no_letter_without_a_note(rig: Rig, letters: list[str]) -> None:
    """Whenever it comes, a letter is there or noted as purged, and those that stay are there."""
    disk, trace = Disk(rig.folder / "disk"), rig.folder / "trace"
    gone, kept = set(letters[:5]), set(letters[5:])
    entries = [f"--entry={one}" for one in gone]
    ops(rig, trace, "dlq", "purge", *entries, "--yes")
    moments = 0
    for store in cuts(rig, disk, trace):
        there = {one.entry_id for one in store.read()}
        noted = {note.entry_id for note in store.purged()}
        assert kept <= there <= kept | gone
        assert gone - there <= noted <= gone
        moments += 1
    assert moments > 10
    assert there == kept
    assert noted == gone
    assert disk.unsynced() == []


def test_what_was_replayed_is_noted_on_the_disk(rig: Rig, letters: list[str]) -> None:
    """When the command has ended, no power cut makes a replayed letter one that was not."""
    disk, trace = Disk(rig.folder / "disk"), rig.folder / "trace"
    ops(rig, trace, "dlq", "replay", "--yes")
    for store in cuts(rig, disk, trace):
        assert sorted(one.entry_id for one in store.read()) == letters
    assert sorted(store.replayed()) == letters
    assert disk.unsynced() == []
