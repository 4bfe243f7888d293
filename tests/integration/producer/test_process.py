"""The producer as a process: killed, stopped, without its server."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from integration.producer.parts import KEYS, entries, finish, sequences, start_producer
from servers import LocalServer, Server, eventually

Start = Callable[..., LocalServer]

MAPPED = ("--map", "device_id=sensor,ts=time", "--const", "zone=lab")


def test_a_replay_killed_at_any_point_ends_with_every_line_once(server: Server, tmp_path: Path) -> None:
    """SIGKILL at random moments, --resume each time: nothing is twice and nothing is skipped."""
    chance = random.Random(5)
    lines = 30_000
    path = tmp_path / "readings.csv"
    with path.open("w") as file:
        file.write("sensor,time,kpi,value,note\n")
        for number in range(lines):
            bad = number % 1000 == 7
            file.write(f'"s\n{number}",1700000000,humidity,{number}{"" if bad else ",x"}\n')
    arguments = (
        "--from",
        str(path),
        "--max-rejected",
        "99",
        *MAPPED,
        "--batch-size",
        "20",
        "--sleep-interval",
        "0",
        "--resume",
    )
    with closing(server.client()) as client:
        for _ in range(6):
            process = start_producer(server, arguments, tmp_path)
            before = client.xlen(KEYS.stream)
            after = before + chance.randrange(1, 3000)
            eventually(
                lambda after=after, process=process: (  # type: ignore[misc]
                    client.xlen(KEYS.stream) >= after or process.poll() is not None
                ),
                30.0,
                "it publishes",
            )
            process.send_signal(signal.SIGKILL)
            process.communicate()
        process = start_producer(server, arguments, tmp_path)
        log, _ = finish(process)
        assert process.returncode == 0
        found = [int(fields[b"device_id"].split(b"\n")[1]) for fields in entries(client)]
        expected = [number for number in range(lines) if number % 1000 != 7]
        assert found == expected
        run = log[-1]["run"]
        assert sequences(client, run) == list(range(1, len(expected) + 1))
        again, _ = finish(start_producer(server, arguments, tmp_path))
        assert "already_published" in [line["message"] for line in again]
        assert client.xlen(KEYS.stream) == len(expected)


def test_a_killed_server_loses_no_number(own_server: Start, tmp_path: Path) -> None:
    """Killed and restarted on its append-only file meanwhile: 1 to the last, each exactly once."""
    server = own_server()
    process = start_producer(server, ("--rate", "3000", "--duration", "0", "--seed", "1"), tmp_path)
    with closing(server.client()) as client:
        for _ in range(3):
            before = eventually(lambda: client.xlen(KEYS.stream), 10.0, "it publishes")
            eventually(lambda before=before: client.xlen(KEYS.stream) > before + 500, 20.0, "it goes on")  # type: ignore[misc]
            client.close()
            server.restart()
        before = client.xlen(KEYS.stream)
        eventually(lambda: client.xlen(KEYS.stream) > before + 200, 20.0, "it goes on")
        process.send_signal(signal.SIGTERM)
        log, complaints = finish(process)
        assert (process.returncode, complaints) == (0, "")
        last = log[-1]
        assert last["message"] == "producer_finished"
        assert sequences(client, last["run"]) == list(range(1, last["published"] + 1))
        assert client.hget(KEYS.run(last["run"]), "last") == str(last["published"]).encode()


def test_an_unreachable_server_is_waited_for(own_server: Start, tmp_path: Path) -> None:
    """The address is in the log, and the work begins when the server is there."""
    server = own_server()
    server.kill()
    process = start_producer(server, ("--rate", "100", "--duration", "1"), tmp_path)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "redis_unavailable" in line
    assert f"127.0.0.1:{server.port}" in line
    server.start()
    log, _ = finish(process)
    assert process.returncode == 0
    assert log[-1]["published"] > 0


def test_a_stop_while_the_server_is_away_is_heard(own_server: Start, tmp_path: Path) -> None:
    """SIGTERM ends the waiting, with a last line and without an error."""
    server = own_server()
    server.kill()
    process = start_producer(server, (), tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    log, _ = finish(process, 10.0)
    assert (process.returncode, log[-1]["message"]) == (0, "producer_finished")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rate", "fast", "--seed-s"], "--seed-s"),
        (["--rate", "fast", "--batch-size", "0"], "BATCH_SIZE"),
        (["--from", "-", "--resume"], "--resume"),
        (["--from", "nowhere.csv"], "nowhere.csv"),
        (["--from", "a.csv", "--mapping", "no.toml"], "no.toml: no such file"),
    ],
)
def test_a_usage_error_is_told_without_a_traceback(
    own_server: Start, tmp_path: Path, arguments: list[str], words: str
) -> None:
    """Exit code 2, and nothing was started."""
    process = start_producer(own_server(), arguments, tmp_path)
    _, complaints = finish(process)
    assert process.returncode == 2
    assert words in complaints
    assert "Traceback" not in complaints


def test_a_pipe_is_read_whole(own_server: Start, tmp_path: Path) -> None:
    """A named pipe gives its bytes once: nothing of them is spent on a look at the file."""
    server = own_server()
    path = tmp_path / "pipe.jsonl"
    os.mkfifo(path)
    arguments = ("--from", str(path), "--const", "zone=lab")
    process = start_producer(server, arguments, tmp_path)
    with path.open("w") as pipe:
        for number in range(100):
            pipe.write(f'{{"device_id": {number}, "ts": 1700000000, "kpi": "humidity", "value": 2}}\n')
    log, _ = finish(process)
    assert log[-1]["published"] == 100


def test_the_tail_of_standard_input_does_not_wait(own_server: Start, tmp_path: Path) -> None:
    """What was written to a pipe that stays open is published within a moment."""
    server = own_server()
    process = start_producer(server, ("--from", "-", "--const", "zone=lab"), tmp_path, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write('{"device_id": 1, "ts": 1700000000, "kpi": "humidity", "value": 2}\n')
    process.stdin.flush()
    with closing(server.client()) as client:
        eventually(lambda: client.xlen(KEYS.stream) == 1, 10.0, "the line is published")
    process.send_signal(signal.SIGTERM)
    log, _ = finish(process)
    assert (process.returncode, log[-1]["published"]) == (0, 1)


def test_importing_has_no_effects_and_needs_no_extras() -> None:
    """A lean image has neither rich nor typer."""
    code = (
        "import sys, services.producer.__main__; "
        "sys.exit(bool({'rich', 'typer', 'services.consumer'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[3]).returncode
        == 0
    )
