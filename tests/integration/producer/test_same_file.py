"""A file that was published before is recognised: nothing of it is published twice unless one says so."""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from integration.producer.parts import KEYS, entries, finish, start_producer
from samples import row
from servers import LocalServer

from services.ops.audit.proving import prove
from services.runtime.settings import ConsumerSettings
from services.stores.sqlite.sink import SQLiteSink

Start = Callable[..., LocalServer]

CONST = ("--const", "device_id=d", "--const", "zone=z", "--const", "kpi=humidity")
ROWS = "ts,value,other\n1700000000,1,7\n1700000001,2,8\n"


class Files:
    """A folder in which producers are started."""

    def __init__(self, server: LocalServer, folder: Path) -> None:
        self.server = server
        self.folder = folder

    def produce(
        self, *options: str, name: str = "a.csv", code: int = 0, const: tuple[str, ...] = CONST
    ) -> tuple[dict[str, Any], str]:
        """Run a producer to its end; gives its last line, and all it has said."""
        process = start_producer(self.server, ("--from", name, *const, *options), self.folder)
        log, complaints = finish(process)
        assert process.returncode == code, (log, complaints)
        return (log[-1] if log else {}), complaints + "\n".join(str(line) for line in log)

    def values(self) -> list[str]:
        with closing(self.server.client()) as client:
            return [fields[b"value"].decode() for fields in entries(client)]


@pytest.fixture
def files(own_server: Start, tmp_path: Path) -> Files:
    """Give a server without events, and a file of two readings."""
    (tmp_path / "a.csv").write_text(ROWS, encoding="utf-8")
    return Files(own_server(), tmp_path)


def test_a_file_is_refused_the_second_time_with_the_ways_on(files: Files) -> None:
    """By whatever relative path, and also when it has grown; `--again` publishes all of it once more."""
    files.produce()
    _, said = files.produce(code=2)
    assert "a.csv: published before" in said
    assert "--resume goes on" in said
    assert "--again publishes" in said
    files.produce(name=str(files.folder / "a.csv"), code=2)
    with (files.folder / "a.csv").open("a", encoding="utf-8") as file:
        file.write("1700000002,3,9\n")
    _, said = files.produce(code=2)
    assert "published up to line 3 before" in said
    assert files.values() == ["1", "2"]
    files.produce("--resume")
    assert files.values() == ["1", "2", "3"]
    files.produce("--again")
    assert files.values() == ["1", "2", "3"] * 2
    last, _ = files.produce("--resume")
    assert last["published"] == 0


def test_another_mapping_is_another_replay(files: Files) -> None:
    """A second column is published whole, and each of the two is recognised by itself."""
    files.produce("--resume")
    last, _ = files.produce("--resume", "--map", "value=other")
    assert last["published"] == 2
    assert files.values() == ["1", "2", "7", "8"]
    assert files.produce("--resume", "--map", "ts=ts", "--decimal", ".")[0]["published"] == 0
    files.produce("--map", "value=other", code=2)
    assert files.values() == ["1", "2", "7", "8"]


def test_a_configmap_is_recognised_in_another_pod(files: Files) -> None:
    """There the file is a link into a folder that has another name in each pod."""
    mount = files.folder / "replay"
    mount.mkdir()
    for number, name in enumerate(("..2026_11_28_03_00_00.111", "..2026_11_28_04_00_00.222")):
        (mount / name).mkdir()
        (mount / name / "a.csv").write_text(ROWS, encoding="utf-8")
        (mount / "..data").unlink(missing_ok=True)
        (mount / "..data").symlink_to(name)
        if number == 0:
            (mount / "a.csv").symlink_to("..data/a.csv")
        files.produce("--resume", name="replay/a.csv")
    assert files.values() == ["1", "2"]
    files.produce(name="replay/a.csv", code=2)


def test_another_file_under_the_same_path_is_published(files: Files) -> None:
    """With `--resume` as well, once the one before it was published whole."""
    path = files.folder / "a.csv"
    files.produce("--resume")
    path.write_text("ts,value\n1700000009,5\n", encoding="utf-8")
    _, said = files.produce("--resume")
    assert "another_file" in said
    path.write_text("ts,value\n1700000009,6\n", encoding="utf-8")
    files.produce()
    assert files.values() == ["1", "2", "5", "6"]


def test_a_replay_that_audits_have_let_go_of_goes_on_in_a_run_of_its_own(files: Files) -> None:
    """Silent for nine days, and all of it proven: its position stays, and nothing is published twice."""
    path = files.folder / "a.csv"
    path.write_text(ROWS + "1700000002,3,9", encoding="utf-8")
    files.produce("--resume", code=3)
    settings = ConsumerSettings(
        redis_host=files.server.host, redis_port=files.server.port, data_dir=files.folder, dead_letters="file"
    )
    with closing(files.server.client()) as client:
        client.xgroup_create(KEYS.stream, KEYS.group, "0")
    store_all(files, settings)
    for _ in range(2):
        result = prove(settings, now=lambda: time.time() + 9 * 86_400)
    assert (len(result.runs), result.ended_runs, result.total.stored) == (0, 1, 2)
    with path.open("a", encoding="utf-8") as file:
        file.write("\n")
    files.produce("--resume")
    assert files.values() == ["1", "2", "3"]
    store_all(files, settings)
    result = prove(settings, full=True)
    assert (len(result.runs), result.ended_runs, result.total.stored) == (1, 1, 3)
    assert result.is_proven


def store_all(files: Files, settings: ConsumerSettings) -> None:
    """Store what is new in the stream, and acknowledge it."""
    with (
        closing(files.server.client()) as client,
        closing(SQLiteSink(settings.database, 1000, time.time)) as sink,
    ):
        found: Any = client.xreadgroup(KEYS.group, "c", {KEYS.stream: ">"})
        for entry_id, fields in found[0][1]:
            sink.write([row(event_id=fields[b"event_id"].decode())])
            client.xack(KEYS.stream, KEYS.group, entry_id)


def test_a_file_that_was_changed_half_way_is_not_gone_on_with(files: Files) -> None:
    """Nobody knows which of its lines are published: it is refused with the way on."""
    path = files.folder / "a.csv"
    path.write_text(ROWS + "1700000002,3", encoding="utf-8")
    files.produce("--resume", code=3)
    path.write_text(ROWS.replace(",2,", ",4,") + "1700000002,3,9\n", encoding="utf-8")
    _, said = files.produce("--resume", code=2)
    assert "or it was changed since; --again" in said
    files.produce()
    assert files.values() == ["1", "2", "1", "4", "3"]


@pytest.mark.parametrize(
    ("name", "begins", "rest"),
    [
        ("a.csv", "ts,value\n1700000000,21.5\n1700000001,2", "5.7\n1700000002,25.9\n"),
        ("a.csv", "value,ts\n21.5,1700000000\n25.7,171002", "0000\n25.9,1700000002\n"),
        ("a.csv", 'ts,value,note\n1700000000,21.5,""\n1700000001,25.7,"a\n', 'b"\n1700000002,25.9,c\n'),
        (
            "a.jsonl",
            '{"ts":1700000000,"value":21.5}\n{"ts":1700',
            '000001,"value":25.7}\n{"ts":1700000002,"value":25.9}\n',
        ),
        (
            "a.lp",
            "m value=21.5 1700000000000000000\nm value=25.7 170000000",
            "1000000000\nm value=25.9 1700000002000000000\n",
        ),
    ],
)
def test_a_half_written_last_line_waits_for_its_rest(files: Files, name: str, begins: str, rest: str) -> None:
    """It is said, and neither published nor refused; with its rest it is one reading."""
    path = files.folder / name
    path.write_text(begins, encoding="utf-8")
    last, said = files.produce("--resume", name=name, code=3)
    assert files.values() == ["21.5"]
    assert "half_line_waits" in said
    lines = begins.count("\n") + 1 - ('"a\n' in begins)
    assert f"line {lines}, its last, has no end yet, so it waits" in last["failures"][0]
    assert (last["account"]["lines"], last["account"]["lines_refused"]) == (lines - 1, 0)
    with path.open("a", encoding="utf-8") as file:
        file.write(rest)
    last, _ = files.produce("--resume", name=name)
    assert files.values() == ["21.5", "25.7", "25.9"]
    assert last["account"]["lines_refused"] == 0


def test_the_last_line_of_a_file_that_is_complete_needs_no_end(files: Files) -> None:
    """`--complete` says that it is; and a file that nobody wants to go on with is taken as it is."""
    path = files.folder / "a.csv"
    path.write_text(ROWS.rstrip(), encoding="utf-8")
    files.produce("--resume", code=3)
    files.produce("--resume", "--complete")
    assert files.produce("--resume", "--complete")[0]["published"] == 0
    files.produce("--again")
    assert files.values() == ["1", "2"] * 2


def test_the_rest_of_a_line_that_was_taken_without_it_is_refused(files: Files) -> None:
    """And not read as a line of its own, whatever it looks like."""
    path = files.folder / "a.csv"
    path.write_text("value,ts,kpi\n1,1700000000,humidity\n2,1700000001,humidity", encoding="utf-8")
    const = CONST[:4]
    files.produce(const=const)
    with path.open("a", encoding="utf-8") as file:
        file.write("9,1700000001,humidity\n3,1700000002,humidity\n")
    last, said = files.produce("--resume", code=3, const=const)
    assert files.values() == ["1", "2", "3"]
    assert last["account"]["lines_refused"] == 1
    assert "its beginning was published before it had an end" in said


def test_what_was_opened_and_not_begun_is_no_file_that_was_published(files: Files) -> None:
    """A run without a batch refuses nothing."""
    with closing(files.server.client()) as client:
        files.produce()
        (pointer,) = client.keys(f"{KEYS.replay('')}*")
        run = client.get(pointer)
        assert isinstance(run, bytes)
        client.hset(KEYS.run(run.decode()), mapping={"batches": 0, "offset": 0, "done": 0})
    files.produce()
    assert files.values() == ["1", "2"] * 2
