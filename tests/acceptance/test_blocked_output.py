"""Standard output takes nothing: nobody reads it, or it is closed. The work goes on, and can be ended."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from acceptance.rig import PATIENCE_S, ROOT, Process, Rig, free_port
from samples import row
from servers import eventually

from services.stores.sqlite.sink import SQLiteSink

GRACE_S = 5.0
"""It takes two seconds at most, on a machine that has nothing else to do."""

INTO_PIPE = ["bash", "-c", 'exec "$0" "$@" > "$PIPE" 2>&1']


class FullPipe:
    """A named pipe that takes no byte more until somebody reads it."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._filler = b""
        try:
            while True:
                self._filler += b"." * os.write(self._descriptor, b"." * 4096)
        except BlockingIOError:
            pass

    def read(self) -> str:
        """Read what is there, without what it was filled with."""
        data = b""
        while select.select([self._descriptor], [], [], 0)[0]:
            data += os.read(self._descriptor, 1 << 16)
        taken, self._filler = self._filler, b""
        return data.removeprefix(taken).decode()

    def close(self) -> None:
        os.close(self._descriptor)


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[FullPipe]:
    """Give a full pipe."""
    one = FullPipe(tmp_path / "pipe")
    yield one
    one.close()


def in_pipe(rig: Rig, pipe: FullPipe, module: str, *options: str, **environment: str) -> Process:
    """Start a process that speaks into a pipe alone."""
    command = [*INTO_PIPE, sys.executable, "-m", module, *options]
    return rig.start(module, command, {"PIPE": str(pipe.path), **environment})


def ends(process: Process, number: signal.Signals = signal.SIGTERM) -> int:
    """Ask a process to stop; gives its exit code."""
    started = time.monotonic()
    process.signal(number)
    code = process.wait(PATIENCE_S)
    assert time.monotonic() - started < GRACE_S
    return code


def test_a_consumer_whose_log_nobody_reads_works_and_ends(rig: Rig, pipe: FullPipe) -> None:
    """It is alive and ready, settles all, says how many lines were lost, and hears SIGTERM."""
    rig.publisher().mix(300).send()
    consumer = in_pipe(rig, pipe, "services.consumer", CONSUMER_METRICS_PORT=str(free_port()))
    rig.drain(consumer)
    assert consumer.is_ready()
    assert consumer.probe("/livez") == (200, "ok\n")
    (lost,) = (
        float(line.split()[1])
        for line in consumer.probe("/metrics")[1].splitlines()
        if line.startswith("telemetry_log_lines_lost_total ")
    )
    assert lost > 0
    assert pipe.read() == ""
    rig.publisher(1).mix(50).send()
    rig.drain(consumer)
    eventually(lambda: _tells_lost(pipe.read()), PATIENCE_S, "it is told")
    assert ends(consumer) == 0
    rig.assert_complete()


def _tells_lost(text: str) -> bool:
    lines = [json.loads(line) for line in text.splitlines()]
    return bool(lines) and lines[0]["message"] == "log_lines_lost" and lines[0]["lines"] > 0


def test_sigterm_is_heard_while_nobody_reads_the_log(rig: Rig, pipe: FullPipe) -> None:
    """In the middle of a backlog; nothing of it stays pending."""
    rig.publisher().mix(6000).send()
    consumer = in_pipe(rig, pipe, "services.consumer")
    rig.wait_for_rows(100)
    assert ends(consumer) == 0
    assert rig.pending() == set()
    rig.assert_law()


def test_a_producer_whose_log_nobody_reads_publishes_and_ends(rig: Rig, pipe: FullPipe) -> None:
    """Until it is asked to stop."""
    producer = in_pipe(
        rig, pipe, "services.producer", "--duration", "0", "--rate", "500", PRODUCER_METRICS_PORT="0"
    )
    eventually(lambda: rig.client.xlen("telemetry_stream") > 500, PATIENCE_S, "events are published")
    assert ends(producer) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_nobody_looks_at_goes_on_and_ends(
    rig: Rig, pipe: FullPipe, number: signal.Signals
) -> None:
    """What it says is dropped; it ends as it does where somebody reads."""
    run = in_pipe(rig, pipe, "services.ops", "run", "--duration", "0", "--rate", "500", "--logs")
    rig.wait_for_rows(500)
    assert ends(run, number) == 0
    assert rig.audit().total.missing == 0


@pytest.mark.parametrize("how", [">&-", "2>&-", ">&- 2>&- <&-", "> /dev/full 2>&1", "> >(exit)"])
def test_a_consumer_without_a_log_settles_all(rig: Rig, how: str) -> None:
    """Closed before the start, a disk that is full, a reader that is gone."""
    rig.publisher().mix(100).send()
    consumer = rig.start(
        "consumer", ["bash", "-c", f'exec "$0" "$@" {how}', sys.executable, "-m", "services.consumer"], {}
    )
    rig.drain(consumer)
    assert ends(consumer) == 0
    rig.assert_complete()


@pytest.mark.parametrize(
    "command",
    [
        "run --duration 1 --rate 200 | head -1",
        "run --duration 1 --rate 200 2>&1 | head -1",
        "run --duration 1 --rate 200 --logs 2>&1 | true",
        "events --limit 100000 | head -1",
        "events --limit 100000 --json | head -1",
        "export | head -1",
        "export --format jsonl | true",
        "dlq list | true",
        "status | true",
        "run --duration 1 --rate 200 >&-",
        "status >&- 2>&-",
    ],
)
def test_commands_end_quietly_where_nobody_reads_on(rig: Rig, command: str) -> None:
    """No traceback, and nothing left running."""
    rig.publisher().mix(2000).send()
    consumer = rig.consumer(BATCH_SIZE="500")
    rig.drain(consumer)
    consumer.stop()
    done = subprocess.run(
        ["bash", "-c", f'"$0" -m services.ops {command}', sys.executable],
        env={**os.environ, "PYTHONPATH": str(ROOT), **rig.environment},
        cwd=rig.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_answer_that_does_not_fit_on_the_disk_is_an_error(rig: Rig, unbuffered: str) -> None:
    """One line, and exit code 1; not half an answer and 0. Whether it fails at once, or at the end."""
    with closing(SQLiteSink(rig.data / "telemetry.db", 5000, time.time)) as sink:
        sink.write([row(1)])
    for command in ("status", "settings", "export", "run --duration 0.1"):
        done = subprocess.run(
            ["bash", "-c", f'"$0" -m services.ops {command} > /dev/full', sys.executable],
            env={**os.environ, "PYTHONPATH": str(ROOT), **rig.environment, "PYTHONUNBUFFERED": unbuffered},
            cwd=rig.folder,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_S,
            check=False,
        )
        assert (done.returncode, done.stderr.splitlines()[-1]) == (
            1,
            "standard output: No space left on device",
        )
