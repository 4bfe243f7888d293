"""Files that are none, or have no end: the producer hears SIGTERM whatever it reads."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from servers import LocalServer, eventually, free_port, kept_waiting_s

from services.producer.files.ending import NOT_ALL, STOPPED

Start = Callable[..., LocalServer]

ROOT = Path(__file__).parents[3]
GRACE_S = 2.0
"""Without the time that it waits for a processor: the machine may have other things to do."""
HEADER = "device_id,zone,ts,kpi,value\n"


@contextmanager
def producing(
    server: LocalServer, folder: Path, *options: str | Path, stdin: int = subprocess.DEVNULL
) -> Iterator[tuple[subprocess.Popen[bytes], Path, int]]:
    """Run a producer; gives it, its log and the port of its health."""
    port = free_port()
    log = folder / "log"
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [sys.executable, "-m", "services.producer", *options],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "REDIS_HOST": server.host,
                "REDIS_PORT": str(server.port),
                "PRODUCER_METRICS_PORT": str(port),
            },
            stdin=stdin,
            stdout=out,
            stderr=out,
            cwd=folder,
        ) as process,
    ):
        try:
            yield process, log, port
        finally:
            process.kill()


def _stops(process: subprocess.Popen[bytes], log: Path, port: int, code: int = 0) -> None:
    """See that it is alive, and ends when it is told to, with this exit code."""
    eventually(lambda: b"health_serving" in log.read_bytes() or process.poll() is not None, 30, "its start")
    time.sleep(0.3)  # so that it is in the middle of it
    assert process.poll() is None, log.read_text(encoding="utf-8")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=5) as answer:
        assert answer.status == 200
    asked_at = time.monotonic()
    process.send_signal(signal.SIGTERM)
    waited_s = kept_waiting_s(process.pid)
    delayed_s = 0.0
    while (ended := process.poll()) is None and time.monotonic() - asked_at < 30:
        delayed_s = max(delayed_s, kept_waiting_s(process.pid) - waited_s)
        time.sleep(0.005)
    text = log.read_text(encoding="utf-8")
    assert time.monotonic() - asked_at - delayed_s < GRACE_S, text
    assert ended == code, text
    assert '"stop_forced"' not in text
    assert '"producer_finished"' in text


def _endless(folder: Path) -> list[str]:
    with (folder / "endless.jsonl").open("wb") as file:
        file.truncate(64 << 30)
    return ["endless.jsonl", "--format", "jsonl"]


def _silent_pipe(folder: Path) -> list[str]:
    os.mkfifo(folder / "pipe.csv")
    return ["pipe.csv"]


def _device(_: Path) -> list[str]:
    return ["/dev/zero", "--format", "jsonl"]


def _noise(_: Path) -> list[str]:
    return ["/dev/urandom", "--format", "jsonl", "--batch-size", "10000"]


def _open_quotes(folder: Path) -> list[str]:
    row = f'"{"x" * 1000},z,1700000000,humidity,1\n'
    (folder / "quotes.csv").write_text(HEADER + row * 300_000, encoding="ascii")
    return ["quotes.csv", "--batch-size", "10000"]


def _bomb(folder: Path) -> list[str]:
    """Pack lines that are refused, for long; it unpacks to less than what a bomb does."""
    packer = zlib.compressobj(9, wbits=31)
    with (folder / "bomb.csv.gz").open("wb") as file:
        file.write(packer.compress(HEADER.encode()))
        for number in range(200):
            file.write(packer.compress(b"%d,x\n" % number * 50_000))
        file.write(packer.flush())
    return ["bomb.csv.gz", "--batch-size", "10000"]


def _long_json(folder: Path) -> list[str]:
    with (folder / "long.json").open("wb") as file:
        file.write(b'[{"a": "')
        file.truncate(64 << 30)
    return ["long.json", "--format", "json"]


@pytest.mark.parametrize("make", [_endless, _silent_pipe, _device, _noise, _open_quotes, _bomb, _long_json])
def test_sigterm_ends_a_producer_whatever_it_reads(
    own_server: Start, tmp_path: Path, make: Callable[[Path], list[str]]
) -> None:
    """A line without an end, a named pipe that nobody writes to, devices, quotes that are never closed."""
    with producing(own_server(), tmp_path, "--from", *make(tmp_path)) as (process, log, port):
        refused = NOT_ALL if make in {_open_quotes, _bomb, _noise} else 0
        _stops(process, log, port, STOPPED if make in {_endless, _long_json} else refused)


@pytest.mark.parametrize("is_named", [True, False], ids=["named", "standard input"])
@pytest.mark.parametrize(
    "sent", ["", "device_id,zo", HEADER + "a,z,1700000000,humidity,1\nb,z,1700000000,humidity,12"]
)
def test_sigterm_ends_a_producer_that_waits_for_more(
    own_server: Start, tmp_path: Path, sent: str, *, is_named: bool
) -> None:
    """And what has no end yet is no record: more of it may have been to come."""
    server = own_server()
    path = tmp_path / "pipe.csv"
    os.mkfifo(path)
    writing = os.open(path, os.O_RDWR)
    os.write(writing, sent.encode())
    source = ["--from", str(path)] if is_named else ["--from", "-"]
    with (
        producing(server, tmp_path, *source, stdin=writing) as (process, log, port),
        closing(server.client()) as client,
    ):
        whole = max(0, sent.count("\n") - 1)
        eventually(lambda: client.xlen("telemetry_stream") == whole, 30, "what is there is published")
        _stops(process, log, port)
        assert client.xlen("telemetry_stream") == whole
    os.close(writing)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["/dev/zero", "--format", "csv"], "zero:1: the header can't be read: it has no end"),
        (["/proc/self/mem", "--format", "jsonl"], "/proc/self/mem: Input/output error"),
        (["socket.csv"], "socket.csv: No such device or address"),
    ],
)
def test_what_cant_be_read_is_one_line(
    own_server: Start, tmp_path: Path, options: list[str], why: str
) -> None:
    """And exit code 2, at once."""
    (tmp_path / "folder.csv").mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(tmp_path / "socket.csv"))
        with producing(own_server(), tmp_path, "--from", *options) as (process, log, _):
            assert process.wait(30) == 2
    refused = [line for line in log.read_text(encoding="utf-8").splitlines() if "source_unusable" in line]
    assert [json.loads(line)["error"] for line in refused] == [why]
