"""Several files: one account, and each is recognised and gone on with by itself."""

import random
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from integration.producer.parts import KEYS, entries, finish, start_producer
from integration.producer.test_same_file import CONST, Files
from servers import LocalServer, eventually

from services.producer.files.ending import STOPPED

Start = Callable[..., LocalServer]

HEADER = "ts,value\n"


def _write(folder: Path, name: str, *values: int, more: str = "") -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(HEADER + "".join(f"1700000000,{value}\n" for value in values) + more, encoding="utf-8")


def test_several_files_have_one_account_and_are_recognised_one_by_one(
    own_server: Start, tmp_path: Path
) -> None:
    """In the order in which they are named, patterns and folders by name; refused by name."""
    files = Files(own_server(), tmp_path)
    _write(tmp_path, "z.csv", 1)
    _write(tmp_path, "logs/b.csv", 3, 4, more="1700000000\n")
    _write(tmp_path, "logs/a.csv", 2)
    _write(tmp_path, "folder/c.csv")
    patterns = ("--from", "logs/*.csv", "--from", "folder/")
    last, said = files.produce(*patterns, name="z.csv", code=3)
    assert files.values() == ["1", "2", "3", "4"]
    assert last["file"] == "4 files"
    assert last["failures"] == ["1 refused, more than --max-rejected 0"]
    account = last["account"]
    assert (account["lines"], account["lines_published"], account["lines_refused"]) == (9, 4, 1)
    assert account["lines_left_out"] == {"header": 4}
    assert said.count("'message': 'file_finished'") == 4
    (kept,) = (tmp_path / "data" / "rejected").iterdir()
    assert kept.name.startswith("b.csv-")
    _, said = files.produce(*patterns, name="z.csv", code=2)
    for name in ("z.csv", "logs/a.csv", "logs/b.csv"):
        assert f"{name}: published before" in said
    _write(tmp_path, "logs/a.csv", 2, 5)
    _write(tmp_path, "logs/n.csv", 6)
    last, _ = files.produce(*patterns, "--resume", name="z.csv")
    assert files.values() == ["1", "2", "3", "4", "5", "6"]
    assert (last["already_published"], last["files"]) == (3, 5)


def test_nothing_is_published_where_one_of_the_files_cant_be(own_server: Start, tmp_path: Path) -> None:
    """All that is wrong is told, with the name of each."""
    files = Files(own_server(), tmp_path)
    _write(tmp_path, "a.csv", 1)
    (tmp_path / "b.csv").write_text("time,value\n1,1\n", encoding="utf-8")
    _, said = files.produce("--from", "b.csv", "--from", "nothere.csv", code=2)
    assert "b.csv:1: no column for ts" in said
    assert "nothere.csv: No such file" in said
    assert files.values() == []


def test_several_files_killed_at_any_point_end_with_every_line_once(
    own_server: Start, tmp_path: Path
) -> None:
    """SIGKILL at random moments, --resume each time; then SIGTERM says where it stopped, and what is left."""
    chance = random.Random(3)
    server, total = own_server(), 3_000
    for number in range(6):
        _write(tmp_path, f"logs/{number}.csv", *range(number * 500, number * 500 + 500))
    arguments = ("--from", "logs/*.csv", "--resume", *CONST, "--batch-size", "10", "--sleep-interval", "0")
    with closing(server.client()) as client:
        for _ in range(4):
            process = start_producer(server, arguments, tmp_path)
            after = client.xlen(KEYS.stream) + chance.randrange(1, 500)
            eventually(
                lambda after=after, process=process: (  # type: ignore[misc]
                    client.xlen(KEYS.stream) >= after or process.poll() is not None
                ),
                30.0,
                "it publishes",
            )
            process.send_signal(signal.SIGKILL)
            process.communicate()
        before = client.xlen(KEYS.stream)
        process = start_producer(server, (*arguments, "--rate", "50"), tmp_path)
        eventually(lambda: client.xlen(KEYS.stream) > before, 30.0, "it publishes")
        process.send_signal(signal.SIGTERM)
        log, _ = finish(process)
        if before < total - 600:
            assert process.returncode == STOPPED
            assert ".csv: stopped after line" in log[-1]["failures"][0]
            assert "began" in log[-1]["failures"][1]
        process = start_producer(server, arguments, tmp_path)
        finish(process)
        assert process.returncode == 0
        assert [int(fields[b"value"]) for fields in entries(client)] == list(range(total))
