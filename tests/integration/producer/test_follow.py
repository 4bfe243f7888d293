"""`--follow`: a file is read as it is written, through what its writer does with it, and through kills."""

import gzip
import itertools
import json
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from integration.producer.parts import KEYS, entries, finish, start_producer
from integration.producer.test_same_file import CONST
from servers import LocalServer, eventually

Start = Callable[..., LocalServer]

HEADER = "ts,value\n"


class Logger:
    """What writes a file: one reading a line, numbered."""

    def __init__(self, server: LocalServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.path = folder / "app.csv"
        self.written = 0
        self.rotated = 0
        self._pending = ""
        self.path.write_text(HEADER, encoding="utf-8")

    def write(self, lines: int, *, half: bool = False) -> None:
        """Append lines; the last one by half, if so: its rest is written with the next ones."""
        text = self._pending
        for _ in range(lines):
            text += f"{1_700_000_000 + self.written},{self.written}\n"
            self.written += 1
        cut = len(text) - 4 if half else len(text)
        self._pending = text[cut:]
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text[:cut])

    def rename(self) -> None:
        """Rotate as logrotate does: app.csv.2, app.csv.1, and a new file with a header of its own."""
        self.write(0)
        for number in range(self.rotated, 0, -1):
            self.path.with_name(f"app.csv.{number}").rename(self.path.with_name(f"app.csv.{number + 1}"))
        self.path.rename(self.path.with_name("app.csv.1"))
        self.rotated += 1
        self.path.write_text(HEADER, encoding="utf-8")

    def copy_and_empty(self) -> None:
        """Rotate in place, where the file's name can't change."""
        self.write(0)
        name = f"app.csv-2026-11-{self.rotated + 1:02}"
        self.path.with_name(name).write_bytes(self.path.read_bytes())
        self.rotated += 1
        self.path.write_text(HEADER, encoding="utf-8")

    @contextmanager
    def followed(self) -> Iterator[subprocess.Popen[str]]:
        options = ("--from", "app.csv", "--follow", *CONST)
        process = start_producer(self.server, options, self.folder)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def published(self) -> int:
        with closing(self.server.client()) as client:
            return int(client.xlen(KEYS.stream))

    def wait(self, count: int) -> None:
        eventually(lambda: self.published() >= count, 40.0, f"{count} of {self.written} are published")

    def assert_law(self) -> None:
        """Each line once, in order."""
        with closing(self.server.client()) as client:
            found = [int(fields[b"value"]) for fields in entries(client)]
        assert found == list(range(self.written))


@pytest.fixture
def logger(own_server: Start, tmp_path: Path) -> Logger:
    """Give a server without events, and what writes a file."""
    return Logger(own_server(), tmp_path)


def test_a_file_is_followed_until_one_is_asked_to_stop(logger: Logger) -> None:
    """It says where it stopped, has used next to no processor, and the same command goes on there."""
    logger.write(3, half=True)
    with logger.followed() as process:
        logger.wait(2)
        used = _processor_s(process.pid)
        time.sleep(2)  # nothing happens, and that is what is looked at
        assert _processor_s(process.pid) - used < 0.3
        assert logger.published() == 2
        logger.write(2)
        logger.wait(5)
        log = _stop(process)
    last = log[-1]
    assert (last["message"], last["after_line"], last["failures"]) == ("producer_finished", 6, [])
    assert last["account"]["lines_published"] == 5
    logger.write(2)
    with logger.followed() as process:
        logger.wait(7)
        log = _stop(process)
    assert log[-1]["after_line"] == 8
    logger.assert_law()


@pytest.mark.parametrize("rotate", [Logger.rename, Logger.copy_and_empty])
def test_a_rotated_file_is_read_to_its_end_and_then_the_next(
    logger: Logger, rotate: Callable[[Logger], None]
) -> None:
    """Also where it is rotated twice at once, and where what is written next makes it longer than before."""
    logger.write(5)
    with logger.followed() as process:
        logger.wait(5)
        logger.write(4, half=True)
        rotate(logger)
        logger.write(30)
        logger.wait(39)
        logger.write(1)
        logger.wait(40)
        _stop(process)
    logger.write(10)
    rotate(logger)
    logger.write(10)
    rotate(logger)
    logger.write(10)
    with logger.followed() as process:
        logger.wait(70)
        log = _stop(process)
    assert log[-1]["failures"] == []
    logger.assert_law()


def test_a_line_that_a_rename_cut_off_is_refused(logger: Logger) -> None:
    """Nobody writes its rest; it is in the account, with its number."""
    logger.write(3, half=True)
    with logger.followed() as process:
        logger.wait(2)
        logger.path.rename(logger.path.with_name("app.csv.1"))
        logger.path.write_text(f"{HEADER}1700000009,9\n", encoding="utf-8")
        logger.wait(3)
        log = _stop(process, code=3)
    assert log[-1]["account"]["lines_refused"] == 1
    (kept,) = (logger.folder / "data" / "rejected").iterdir()
    refused = json.loads(kept.read_text(encoding="utf-8"))
    assert (refused["line"], refused["reason"]) == (4, "it has no end, and its file is not written any more")


def test_a_follower_killed_at_any_point_ends_with_every_line_once(logger: Logger) -> None:
    """While its file grows, is renamed, and is copied and emptied."""
    chance = random.Random(11)
    logger.write(5)
    with logger.followed() as process:
        logger.wait(5)
    for at in range(6):
        with logger.followed() as process:
            for _ in range(chance.randrange(1, 5)):
                logger.write(chance.randrange(1, 400), half=chance.random() < 0.5)
                if chance.random() < 0.5:
                    logger.rename()
                    logger.write(1)
                time.sleep(chance.random() / 3)  # so that it is killed in the middle of something
            if at % 2:
                before = logger.published()
                eventually(lambda before=before: logger.published() > before, 40.0, "it publishes")  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
            process.wait()
        if chance.random() < 0.5:
            logger.rename()
            logger.write(1)
    logger.write(0)
    with logger.followed() as process:
        logger.wait(logger.written)
        _stop(process)
    logger.assert_law()


def test_what_cant_be_followed_is_said(logger: Logger) -> None:
    """At once, with the way on."""
    (logger.folder / "list.json").write_text("[{}]\n", encoding="utf-8")
    for options, words in (
        (("app.csv", "--from", "list.json"), "--follow reads lines as they are written"),
        (("app.csv", "--from", "none.csv"), "none.csv: No such file or directory"),
        (("-",), "standard input is read as it comes"),
        (("app.csv", "--again"), "leave out --again"),
        (("list.json",), "--follow reads lines as they are written"),
        (("none.csv",), "none.csv: No such file or directory"),
    ):
        process = start_producer(logger.server, ("--follow", "--from", *options, *CONST), logger.folder)
        _, complaints = finish(process)
        assert process.returncode == 2
        assert words in complaints


class Folder:
    """A folder that loggers write to, each to a file of its own."""

    def __init__(self, server: LocalServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.written: dict[str, list[int]] = {}
        self._numbers = itertools.count()

    def write(self, name: str, lines: int) -> None:
        """Append lines to a file, which begins with a header."""
        path = self.logs / name
        text = "" if path.exists() else HEADER
        for _ in range(lines):
            number = next(self._numbers)
            self.written.setdefault(name, []).append(number)
            text += f"{1_700_000_000 + number},{number}\n"
        with path.open("a", encoding="utf-8") as file:
            file.write(text)

    def rotate(self, name: str) -> None:
        """Rename a file and the ones that it was, as logrotate does, without another one in its place."""
        number = 1
        while (self.logs / f"{name}.{number}").exists():
            number += 1
        for at in range(number, 0, -1):
            older = self.logs / (name if at == 1 else f"{name}.{at - 1}")
            older.rename(self.logs / f"{name}.{at}")

    @contextmanager
    def followed(self, *sources: str) -> Iterator[subprocess.Popen[str]]:
        named = [part for one in sources or ("logs",) for part in ("--from", one)]
        process = start_producer(self.server, (*named, "--follow", *CONST), self.folder)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def values(self) -> list[int]:
        with closing(self.server.client()) as client:
            return [int(fields[b"value"]) for fields in entries(client)]

    def wait(self) -> None:
        wanted = sum(map(len, self.written.values()))
        eventually(lambda: len(self.values()) >= wanted, 40.0, f"{wanted} are published")

    def assert_law(self) -> None:
        """Each line once, and those of a file in order."""
        found = self.values()
        assert sorted(found) == sorted(itertools.chain.from_iterable(self.written.values()))
        for numbers in self.written.values():
            assert [one for one in found if one in set(numbers)] == numbers


@pytest.fixture
def folder(own_server: Start, tmp_path: Path) -> Folder:
    """Give a server without events, and an empty folder."""
    return Folder(own_server(), tmp_path)


def test_a_folder_is_followed_with_the_files_that_come_to_it(folder: Folder) -> None:
    """It may be empty at first; each file is rotated by itself, and no rotated one is published again."""
    with folder.followed() as process:
        for name in ("a.csv", "b.csv", "10.0.0.1"):
            folder.write(name, 3)
        folder.wait()
        folder.rotate("a.csv")
        folder.write("b.csv", 2)
        folder.write("a.csv", 2)
        folder.wait()
        (folder.logs / "a.csv.2.gz").write_bytes(gzip.compress(b"old"))
        (folder.logs / "10.0.0.1").unlink()
        (folder.logs / "c.csv").write_text("ts,val", encoding="utf-8")  # its header is not whole yet
        folder.write("b.csv", 1)
        folder.wait()
        with (folder.logs / "c.csv").open("a", encoding="utf-8") as file:
            file.write("ue\n")
        folder.write("c.csv", 1)
        folder.wait()
        eventually(
            lambda: not any("10.0.0.1" in name for name in _opened(process.pid, folder.logs)),
            40.0,
            "the removed file is closed",
        )
        log = _stop(process)
    last = log[-1]
    assert (last["failures"], last["is_followed"], last["account"]["lines_published"]) == ([], True, 15)
    assert {one["how"] for one in log if one["message"] == "file_rotated"} == {"renamed", "removed"}
    folder.rotate("a.csv")
    folder.write("c.csv", 2)
    with folder.followed() as process:  # between two files a.csv has none
        folder.wait()
        folder.write("a.csv", 2)
        folder.wait()
        _stop(process)
    folder.assert_law()


def test_a_file_that_cant_be_followed_holds_no_other_up(folder: Folder) -> None:
    """It is named, is a failure in the end, and is tried again when it is another."""
    with folder.followed("logs/*.csv") as process:
        (folder.logs / "bad.csv").write_text("time,val\n1,1\n", encoding="utf-8")
        (folder.logs / "bad.txt").write_text("time,val\n1,1\n", encoding="utf-8")
        folder.write("good.csv", 3)  # comes after it
        folder.wait()
        log = _stop(process, code=3)
    (broken,) = [one for one in log if one["message"] == "source_broken"]
    assert "bad.csv:1: no column for ts" in broken["error"]
    assert log[-1]["failures"] == [broken["error"]]
    (folder.logs / "bad.csv").unlink()
    with folder.followed("logs/*.csv") as process:
        folder.write("bad.csv", 1)
        folder.wait()
        _stop(process)
    folder.assert_law()


def test_a_followed_file_is_not_read_behind_the_header_of_another_table(folder: Folder) -> None:
    """It is named, and others are read on; rows behind it wait where they are, also after a restart."""
    folder.write("a.csv", 2)
    with (folder.logs / "a.csv").open("a", encoding="utf-8") as file:
        file.write(f"when,value\n{1_700_000_000},99\n")
    for _ in range(2):
        with folder.followed() as process:
            for _ in range(3):  # each is a turn of the other, too
                folder.write("good.csv", 2)
                folder.wait()
            log = _stop(process, code=3)
        assert "a.csv:4: another header: when, value" in log[-1]["failures"][0]
        with (folder.logs / "a.csv").open("a", encoding="utf-8") as file:
            file.write(f"{1_700_000_001},98\n")
    folder.assert_law()
    process = start_producer(folder.server, ("--from", "logs/a.csv", "--follow", *CONST), folder.folder)
    _, complaints = finish(process)
    assert process.returncode == 2
    assert "a.csv:4: another header: when, value" in complaints


def test_many_more_files_than_are_held_open(folder: Folder) -> None:
    """Each is closed when it is silent, and read on when something is appended."""
    names = [f"{number}.csv" for number in range(250)]
    for name in names:
        folder.write(name, 1)
    with folder.followed() as process:
        folder.wait()
        for name in names[::10]:
            folder.write(name, 2)
        folder.wait()
        assert len(_opened(process.pid, folder.logs)) <= 210
        _stop(process)
    folder.assert_law()


def test_a_follower_of_a_folder_killed_at_any_point_ends_with_every_line_once(folder: Folder) -> None:
    """While its files grow, come, and are renamed, twice at once, and for a while without a next one."""
    chance = random.Random(7)
    names = ["a.csv", "b.csv", "c-1.csv"]
    for _ in range(5):
        with folder.followed() as process:
            for _ in range(chance.randrange(2, 6)):
                name = chance.choice(names)
                folder.write(name, chance.randrange(1, 200))
                # Rotated before it was ever seen, it is a file by itself.
                if chance.random() < 0.4 and set(folder.written[name]) & set(folder.values()):
                    folder.rotate(name)
                if chance.random() < 0.2:
                    names.append(f"new-{len(names)}.csv")
                time.sleep(chance.random() / 4)  # so that it is killed in the middle of something
            process.send_signal(signal.SIGKILL)
            process.wait()
    for name in folder.written:
        folder.write(name, 1)
    with folder.followed() as process:
        folder.wait()
        _stop(process)
    folder.assert_law()


def _opened(pid: int, folder: Path) -> list[str]:
    """Give the names of the files of a folder that a process holds open."""
    names = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # it is closed by now
            if folder in (opened := link.readlink()).parents:
                names.append(opened.name)
    return names


def _stop(process: subprocess.Popen[str], code: int = 0) -> list[dict[str, Any]]:
    process.send_signal(signal.SIGTERM)
    log, complaints = finish(process)
    assert process.returncode == code, (log, complaints)
    return log


def _processor_s(pid: int) -> float:
    """Give the seconds of processor time that a process has used, in 1/100 s."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
