"""What a kill -9 can't show, for the system's memory lives on: each thing is synced, and in which order.

From outside, with all calls of a process: tests/acceptance/test_power_cuts.py.
"""

import errno
import os
import sqlite3
import stat
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from samples import dead, row

from services.contract.errors import DeadLettersUnavailable, SinkUnavailable
from services.stores.files.dead_letters import DeadLetterFile
from services.stores.folders import make_folder, sync_folder
from services.stores.sqlite.sink import SQLiteSink

SYNC = "os.fsync" if sys.platform == "darwin" else "os.fdatasync"
"""What syncs a WAL."""


class Recorder:
    """Syncs and renames in their order: what, and the size that it had."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self._root = root
        self._calls: list[tuple[str, str, int]] = []
        self._sync, self._replace = os.fsync, os.replace
        patch.setattr("os.fsync", self._note_sync)
        patch.setattr(SYNC, self._note_sync)
        patch.setattr("os.replace", self._note_replace)

    def take(self) -> list[tuple[str, str, int]]:
        """Give what was recorded since the last look. Folders have the size 0."""
        calls, self._calls = self._calls, []
        return calls

    def _note_sync(self, descriptor: int) -> None:
        self._sync(descriptor)
        status = os.fstat(descriptor)
        for path in (self._root, *self._root.rglob("*")):
            if os.path.samestat(path.stat(), status):
                self._note("sync", path)

    def _note_replace(self, source: Any, target: Any) -> None:
        self._note("replace", Path(source))
        self._replace(source, target)

    def _note(self, what: str, path: Path) -> None:
        size = 0 if path.is_dir() else path.stat().st_size
        self._calls.append((what, str(path.relative_to(self._root)), size))


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Record what happens below the test's folder."""
    return Recorder(tmp_path, monkeypatch)


def open_letters(tmp_path: Path) -> tuple[DeadLetterFile, Callable[[str], int]]:
    """Open letters in a folder that isn't there yet; gives how large each file is, too."""
    folder = tmp_path / "data"
    return DeadLetterFile(folder / "dlq.jsonl", lambda: 1.0, "c"), lambda name: (folder / name).stat().st_size


def test_letters_are_synced_with_their_name_and_their_folders(tmp_path: Path, recorder: Recorder) -> None:
    """The file, the folder that it is new in, and the one that this is new in; later the file alone."""
    letters, size = open_letters(tmp_path)
    letters.put([dead(1)])
    first = recorder.take()
    assert first[-3:] == [
        ("sync", "data/dlq.jsonl", size("dlq.jsonl")),
        ("sync", "data", 0),
        ("sync", ".", 0),
    ]
    letters.put([dead(2), dead(3)])
    assert recorder.take() == [("sync", "data/dlq.jsonl", size("dlq.jsonl"))]


def test_a_letter_whose_folder_cant_be_synced_is_not_kept(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next one would find a file that is there, and sync no folder any more."""
    letters, size = open_letters(tmp_path)
    with monkeypatch.context() as broken:
        sync = os.fsync

        def fail_at_folders(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(errno.EIO, "Input/output error")
            sync(descriptor)

        (tmp_path / "data").mkdir()
        broken.setattr("os.fsync", fail_at_folders)
        with pytest.raises(DeadLettersUnavailable, match="Input/output"):
            letters.put([dead(1)])
    assert size("dlq.jsonl") == 0
    recorder.take()
    letters.put([dead(1)])
    assert recorder.take()[-2:] == [("sync", "data", 0), ("sync", ".", 0)]


def test_a_purge_syncs_its_notes_then_the_replacement_then_its_name(
    tmp_path: Path, recorder: Recorder
) -> None:
    """In this order: whenever the power goes, a letter is there, or noted as purged."""
    letters, size = open_letters(tmp_path)
    letters.put([dead(1), dead(2)])
    recorder.take()
    assert letters.purge({"1700000000000-1"}) == 1
    assert recorder.take() == [
        ("sync", "data/dlq.purged.jsonl", size("dlq.purged.jsonl")),
        ("sync", "data", 0),
        ("sync", ".", 0),
        ("sync", "data/dlq.new", size("dlq.jsonl")),
        ("replace", "data/dlq.new", size("dlq.jsonl")),
        ("sync", "data", 0),
    ]


def test_a_mark_of_a_replay_is_synced(tmp_path: Path, recorder: Recorder) -> None:
    """With its name, where it is the first."""
    letters, size = open_letters(tmp_path)
    letters.put([dead(1)])
    recorder.take()
    for _ in range(2):
        letters.mark_replayed([("1700000000000-1", "2-0")])
    first = ("sync", "data/dlq.replayed.jsonl", size("dlq.replayed.jsonl") // 2)
    assert recorder.take() == [
        first,
        ("sync", "data", 0),
        ("sync", ".", 0),
        ("sync", "data/dlq.replayed.jsonl", size("dlq.replayed.jsonl")),
    ]


def test_each_new_folder_is_synced_in_its_parent(tmp_path: Path, recorder: Recorder) -> None:
    """From the topmost that is new; where all are there, nothing is done."""
    make_folder(tmp_path / "a" / "b" / "c")
    assert recorder.take() == [("sync", ".", 0), ("sync", "a", 0), ("sync", "a/b", 0)]
    make_folder(tmp_path / "a" / "b" / "c")
    assert recorder.take() == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL, errno.EIO])
def test_a_parent_that_cant_be_synced_is_no_reason_to_stop_and_one_that_fails_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Somebody else's folder, or a file system that has nothing to sync; but not a disk that fails."""

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fsync", fail)
    if number == errno.EIO:
        with pytest.raises(OSError, match="Input/output"):
            make_folder(tmp_path / "data")
    else:
        make_folder(tmp_path / "data")
        assert (tmp_path / "data").is_dir()
        with pytest.raises(OSError, match=os.strerror(number)):
            sync_folder(tmp_path / "data")


def test_a_folder_that_another_has_made_is_synced_by_the_sink(tmp_path: Path, recorder: Recorder) -> None:
    """Whoever made it may not have come to that yet."""
    (tmp_path / "data").mkdir()
    with closing(SQLiteSink(tmp_path / "data" / "telemetry.db", 50, lambda: 1.0)):
        assert recorder.take()[0] == ("sync", ".", 0)


def test_a_wal_that_somebody_left_is_written_anew_once(tmp_path: Path, recorder: Recorder) -> None:
    """He may have died before it was on the disk, and its rows would be duplicates to us."""
    path = tmp_path / "telemetry.db"
    with closing(SQLiteSink(path, 50, lambda: 1.0)) as first:
        first.write([row(1)])
        wal = path.with_name("telemetry.db-wal")
        before = wal.read_bytes()
        recorder.take()
        with closing(SQLiteSink(path, 50, lambda: 1.0)) as second:
            assert ("sync", "telemetry.db-wal", len(before)) in recorder.take()
            assert wal.read_bytes().startswith(before)
            assert second.write([row(1)]).inserted == 0
            assert recorder.take() == [("sync", "telemetry.db-wal", len(before))]


class Watched(SQLiteSink):
    """A sink that notes with which settings it commits."""

    def __init__(self, path: Path) -> None:
        self.seen: list[tuple[int, str, int]] = []
        super().__init__(path, 50, lambda: 1.0)

    def commit(self, connection: sqlite3.Connection) -> None:
        """Note it just before: PRAGMA synchronous (1: NORMAL) and journal_mode, and how large a WAL stays."""
        (level,) = connection.execute("PRAGMA synchronous").fetchone()
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        (limit,) = connection.execute("PRAGMA journal_size_limit").fetchone()
        self.seen.append((level, mode, limit))
        super().commit(connection)


@pytest.mark.parametrize("gone", [(), ("",), ("", "-wal", "-shm"), ("-wal",), ("-wal", "-shm"), ("-shm",)])
def test_every_connection_syncs_what_it_has_committed(
    tmp_path: Path, recorder: Recorder, gone: tuple[str, ...]
) -> None:
    """Also one that was opened anew since files were removed, or after an error."""
    path = tmp_path / "telemetry.db"

    def write(number: int) -> None:
        sink.write([row(number)])
        assert recorder.take()[-1] == ("sync", "telemetry.db-wal", wal.stat().st_size)

    wal = path.with_name("telemetry.db-wal")
    with closing(Watched(path)) as sink:
        write(1)
        for suffix in gone:
            path.with_name(f"telemetry.db{suffix}").unlink()
        write(2)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Exception, match="locked"):
                sink.write([row(3)])
            other.execute("ROLLBACK")
        write(3)
        recorder.take()
        sink.probe()
        assert recorder.take() == [("sync", "telemetry.db-wal", wal.stat().st_size)]
    assert len(sink.seen) >= 5
    assert set(sink.seen) == {(1, "wal", 64 << 20)}


def test_the_next_one_writes_while_a_commit_is_synced(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it finds there may be on no disk yet: it syncs that too, though it has nothing to write itself."""
    path = tmp_path / "telemetry.db"
    with (
        closing(SQLiteSink(path, 50, lambda: 1.0)) as first,
        closing(SQLiteSink(path, 50, lambda: 1.0)) as second,
    ):
        recorder.take()
        meanwhile: list[int] = []
        sync = getattr(os, SYNC.removeprefix("os."))

        def write_first(descriptor: int) -> None:
            monkeypatch.setattr(SYNC, sync)
            meanwhile.append(second.write([row(1)]).inserted)
            assert recorder.take() == [
                ("sync", "telemetry.db-wal", path.with_name("telemetry.db-wal").stat().st_size)
            ]
            sync(descriptor)

        monkeypatch.setattr(SYNC, write_first)
        assert first.write([row(1)]).inserted == 1
        assert meanwhile == [0]
        assert [one[:2] for one in recorder.take()] == [("sync", "telemetry.db-wal")]


def fail_to_sync(_: int) -> None:
    """Fail as a disk does."""
    raise OSError(errno.EIO, "Input/output error")


def test_a_commit_that_cant_be_synced_is_not_believed(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system may take it for written from then on: it is written anew before anything is acknowledged."""
    path = tmp_path / "telemetry.db"

    with closing(SQLiteSink(path, 50, lambda: 1.0)) as sink:
        sync = getattr(os, SYNC.removeprefix("os."))
        for write in (lambda: sink.write([row(1)]), sink.probe):
            monkeypatch.setattr(SYNC, fail_to_sync)
            with pytest.raises(SinkUnavailable, match="db-wal: Input/output error") as failed:
                write()
            assert failed.value.kind == "SQLITE_IOERR"
            monkeypatch.setattr(SYNC, sync)
            recorder.take()
            assert sink.write([row(1)]).inserted == 0
            size = path.with_name("telemetry.db-wal").stat().st_size
            assert recorder.take() == [("sync", "telemetry.db-wal", size)] * 2


def test_who_opens_the_database_anew_believes_nothing_that_is_in_the_wal(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system tells each descriptor of a sync that failed, but not one that is opened after that."""
    path = tmp_path / "telemetry.db"

    with (
        closing(SQLiteSink(path, 50, lambda: 1.0)) as sink,
        closing(SQLiteSink(path, 50, lambda: 1.0)) as failing,
    ):
        with monkeypatch.context() as broken:
            broken.setattr(SYNC, fail_to_sync)
            with pytest.raises(SinkUnavailable):
                failing.write([row(1)])
        with closing(sqlite3.connect(path, isolation_level=None)) as stranger:
            stranger.execute("BEGIN IMMEDIATE")
            with pytest.raises(SinkUnavailable, match="locked"):
                sink.write([row(1)])
            stranger.execute("ROLLBACK")
        recorder.take()
        assert sink.write([row(1)]).inserted == 0
        whole = ("sync", "telemetry.db-wal", path.with_name("telemetry.db-wal").stat().st_size)
        assert recorder.take()[-2:] == [whole, whole]
