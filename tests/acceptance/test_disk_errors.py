"""Disks that fail, files that come back shorter, descriptors that run out: nothing acknowledged is lost."""

import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance.disks import FailingDisk
from acceptance.rig import Process, Rig, free_port
from powercut import strace_or_skip

_UNAVAILABLE = {"write_unavailable", "sink_unavailable"}


def failing_consumer(
    rig: Rig, file: str, calls: str, error: str, which: str, **environment: str
) -> tuple[Process, Path]:
    """Start a consumer whose calls on a file fail: those of these numbers. Gives the trace, too."""
    trace = rig.folder / "trace"
    command: list[str | Path] = [
        strace_or_skip(), "-f", "-qq", "-e", "signal=none", "-o", trace, "-P", rig.data / file,
        "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}:when={which}",
        sys.executable, "-m", "services.consumer",
    ]  # fmt: skip
    return rig.start("failing", command, {"CONSUMER_NAME": "consumer-1", **environment}), trace


@pytest.mark.parametrize(
    ("file", "calls", "error"),
    [
        ("telemetry.db-wal", "fdatasync,fsync", "EIO"),
        pytest.param("telemetry.db-wal", "pwrite64", "EROFS", marks=pytest.mark.storm),
        ("dlq.jsonl", "fsync", "EIO"),
        pytest.param("dlq.jsonl", "write", "EIO", marks=pytest.mark.storm),
        ("", "openat", "EMFILE"),
        pytest.param("telemetry.db-wal", "pwrite64", "EIO", marks=pytest.mark.storm),
        pytest.param("telemetry.db-wal", "pwrite64", "ENOSPC", marks=pytest.mark.storm),
        pytest.param("telemetry.db-wal", "fdatasync,fsync", "ENOSPC", marks=pytest.mark.storm),
        pytest.param("dlq.jsonl", "openat", "EROFS", marks=pytest.mark.storm),
        pytest.param("dlq.jsonl", "openat", "EMFILE", marks=pytest.mark.storm),
        pytest.param("dlq.jsonl", "fsync", "EDQUOT", marks=pytest.mark.storm),
        pytest.param("", "fsync", "EIO", marks=pytest.mark.storm),
    ],
)
def test_calls_that_fail_for_a_while_lose_nothing(rig: Rig, file: str, calls: str, error: str) -> None:
    """A dozen times in a row: what they are about waits, is settled then, and no innocent is dead."""
    rig.publisher().mix(200).send()
    which = "1..3" if (file, calls) == ("", "fsync") else "4..15"
    consumer, trace = failing_consumer(rig, file, calls, error, which)
    rig.drain(consumer)
    stop_below(consumer)
    assert "(INJECTED)" in trace.read_text(encoding="ascii", errors="replace"), "nothing failed"
    assert any(consumer.lines(event) for event in _UNAVAILABLE), consumer.text[-2000:]
    rig.assert_complete()


@pytest.mark.storm
def test_a_file_that_the_wal_cant_be_folded_into_for_a_while_loses_nothing(rig: Rig) -> None:
    """The pages of a thousand commits are to go there: it is told, and what was to be stored comes again."""
    rig.publisher().valid(4000).send()
    consumer, _ = failing_consumer(
        rig,
        "telemetry.db",
        "pwrite64",
        "EIO",
        "30..60",
        CONSUMER_METRICS_PORT=str(free_port()),
        BATCH_SIZE="10",
    )
    rig.drain(consumer, timeout_s=120)
    _, figures = consumer.probe("/metrics")
    assert 'telemetry_sink_errors_total{error="SQLITE_IOERR"} 1.0' in figures
    stop_below(consumer)
    rig.assert_complete()


def stop_below(traced: Process) -> None:
    """Ask the process below strace to stop, and wait until both have ended."""
    (child,) = Path(f"/proc/{traced.pid}/task/{traced.pid}/children").read_text(encoding="ascii").split()
    os.kill(int(child), signal.SIGTERM)
    assert traced.wait() == 0, traced.text


@pytest.fixture
def failing_disk(tmp_path: Path) -> Iterator[FailingDisk]:
    """Give a disk that can fail."""
    one = FailingDisk(tmp_path / "disk", tmp_path / "image")
    yield one
    one.close()


def test_a_disk_that_becomes_read_only_under_a_consumer_takes_no_acknowledgement(
    rig: Rig, failing_disk: FailingDisk
) -> None:
    """As kernels do at an error: unready, all pending; repaired and mounted again, the next settles it."""
    rig.use_data(failing_disk.folder / "data")
    publisher = rig.publisher()
    consumer = rig.consumer(CONSUMER_METRICS_PORT=str(free_port()))
    publisher.mix(200).send()
    rig.drain(consumer)
    failing_disk.fail()
    waiting = publisher.mix(100).send()
    assert consumer.is_unready(": ")
    consumer.says("write_unavailable")
    assert rig.pending() or rig.last_delivered() < (0, 1)
    consumer.stop()
    assert not {one.entry_id for one in waiting} & set(rig.letters())
    failing_disk.repair()
    rig.assert_law()
    following = rig.consumer()
    rig.drain(following)
    following.stop()
    rig.assert_complete()


def test_what_a_wal_that_was_cut_had_is_named(rig: Rig) -> None:
    """After a kill -9 the end of the WAL is gone, as where a disk lied: it is named, the rest is whole."""
    publisher = rig.publisher()
    consumer = rig.consumer()
    publisher.valid(100).send()
    rig.drain(consumer)
    middle = (rig.data / "telemetry.db-wal").stat().st_size
    publisher.valid(100).send()
    rig.drain(consumer)
    consumer.kill()
    os.truncate(rig.data / "telemetry.db-wal", middle + 5000)
    following = rig.consumer()
    publisher.valid(100).send()
    rig.drain(following)
    following.stop()
    rig.assert_integrity()
    stored = rig.stored()
    assert {one.event_id for one in (*publisher.entries[:100], *publisher.entries[200:])} <= set(stored)
    lost = sorted(one.event_id or "" for one in publisher.entries if one.event_id not in stored)
    assert 0 < len(lost) <= 100
    result = rig.audit(show=1000)
    assert result.total.missing == len(lost)
    assert [name.strip("*-") for name in result.runs[0].missing] == [name[14:] for name in lost]


def test_descriptors_that_run_out_are_waited_for(rig: Rig) -> None:
    """With none left no batch is written and no connection made; with some again, everything is settled."""
    publisher = rig.publisher()
    consumer = rig.consumer()
    publisher.mix(100).send()
    rig.drain(consumer)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.prlimit(consumer.pid, resource.RLIMIT_NOFILE, (_lowest_free(consumer), most))
    publisher.mix(300).send()
    consumer.says("write_unavailable")
    rig.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    rig.assert_law()
    assert rig.pending()
    assert consumer.exit_code is None
    resource.prlimit(consumer.pid, resource.RLIMIT_NOFILE, (1024, most))
    rig.drain(consumer)
    consumer.stop()
    rig.assert_complete()


def _lowest_free(one: Process) -> int:
    """Find the number that the next descriptor of a process will have."""

    def free() -> int:
        taken = {int(path.name) for path in Path(f"/proc/{one.pid}/fd").iterdir()}
        return min(set(range(len(taken) + 1)) - taken)

    return min(free() for _ in range(20))  # one or two come and go
