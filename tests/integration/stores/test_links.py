"""Links in DATA_DIR: those to files that we write are not followed, and what they lead to is left alone."""

import os
import stat
from pathlib import Path

import pytest

from services.contract.consuming.doors import Dead, Entry
from services.contract.errors import DeadLettersUnavailable, SinkUnusable
from services.contract.event import Event, Rejection
from services.stores.files.dead_letters import DeadLetterFile
from services.stores.sqlite.sink import SQLiteSink

NOBODY = 65534
DEAD = Dead(Entry(b"1-1", [b"device_id", b"d"]), Rejection("decode", "missing_field", "no zone"))
EVENT = Event("018f3c5e-8a10-4abc-8def-000000000001", "d", "z", 1_700_000_000.0, "humidity", 1.0)


def letters(folder: Path) -> DeadLetterFile:
    """Give the letters of a folder."""
    return DeadLetterFile(folder / "dlq.jsonl", lambda: 1.0, "c")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Give a file that is none of the pipeline's."""
    path = tmp_path / "victim"
    path.write_text("precious\n")
    return path


@pytest.mark.parametrize("name", ["dlq.jsonl", "dlq.lock"])
def test_a_letter_is_not_written_through_a_link(tmp_path: Path, victim: Path, name: str) -> None:
    """The consumer waits, as for a full disk, and acknowledges nothing; the message names the link."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / name).symlink_to(victim)
    with pytest.raises(DeadLettersUnavailable, match="it is a link"):
        letters(folder).put([DEAD])
    assert victim.read_text() == "precious\n"


@pytest.mark.parametrize("name", ["dlq.replayed.jsonl", "dlq.purged.jsonl"])
def test_a_mark_is_not_written_through_a_link(tmp_path: Path, victim: Path, name: str) -> None:
    """The letters stay as they are then."""
    folder = tmp_path / "data"
    letters(folder).put([DEAD])
    (folder / name).symlink_to(victim)
    with pytest.raises(OSError, match="it is a link"):
        letters(folder).mark_replayed([("1-1", "2-2")]) if "replayed" in name else letters(folder).purge(
            ["1-1"]
        )
    assert victim.read_text() == "precious\n"
    assert len(list(letters(folder).read())) == 1


def test_a_purge_writes_no_copy_through_a_link(tmp_path: Path, victim: Path) -> None:
    """It has a file of its own, and puts nothing but that in the place of the letters."""
    folder = tmp_path / "data"
    letters(folder).put([DEAD])
    (folder / "dlq.new").symlink_to(victim)
    assert letters(folder).purge(["1-1"]) == 1
    assert victim.read_text() == "precious\n"
    assert (folder / "dlq.jsonl").lstat().st_size == 0
    assert not (folder / "dlq.jsonl").is_symlink()


def test_letters_that_are_a_link_are_not_purged(tmp_path: Path) -> None:
    """Neither is it replaced by a file, nor is a note written."""
    letters(tmp_path / "elsewhere").put([DEAD])
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "dlq.jsonl").symlink_to(tmp_path / "elsewhere" / "dlq.jsonl")
    with pytest.raises(OSError, match="it is a link"):
        letters(folder).purge(["1-1"])
    assert (folder / "dlq.jsonl").is_symlink()
    assert not (folder / "dlq.purged.jsonl").exists()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_letters_keep_their_mode_and_their_marks_have_it(tmp_path: Path, mode: int) -> None:
    """Who may not read the letters may not read what became of them, whoever purges them."""
    path = tmp_path / "dlq.jsonl"
    letters(tmp_path).put([DEAD, DEAD])
    path.chmod(mode)
    before = os.umask(0o022)
    try:
        letters(tmp_path).mark_replayed([("1-1", "2-2")])
        letters(tmp_path).purge(["1-1"])
    finally:
        os.umask(before)
    for name in ("dlq.jsonl", "dlq.replayed.jsonl", "dlq.purged.jsonl"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode, name


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
def test_letters_keep_their_owner(tmp_path: Path) -> None:
    """Root purges them, and the consumer still writes them."""
    letters(tmp_path).put([DEAD])
    os.chown(tmp_path / "dlq.jsonl", NOBODY, NOBODY)
    letters(tmp_path).purge(["1-1"])
    assert (tmp_path / "dlq.jsonl").stat().st_uid == NOBODY


def test_a_database_may_be_a_link_of_ones_own(tmp_path: Path) -> None:
    """People move it to another disk that way; also before there is one."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "telemetry.db").symlink_to(tmp_path / "disk" / "telemetry.db")
    for stored in (1, 0):
        sink = SQLiteSink(tmp_path / "telemetry.db", 5000, lambda: 1.0)
        assert sink.write([EVENT]).inserted == stored
        sink.close()
    assert (tmp_path / "disk" / "telemetry.db").is_file()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a link of another user")
@pytest.mark.parametrize("foreign", ["link", "target"])
def test_a_database_may_be_no_link_of_others(tmp_path: Path, victim: Path, foreign: str) -> None:
    """Nor one to their file: what is stored would be theirs."""
    link = tmp_path / "telemetry.db"
    link.symlink_to(victim)
    os.chown(link if foreign == "link" else victim, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(SinkUnusable, match="link by another user"):
        SQLiteSink(link, 5000, lambda: 1.0)
    assert victim.read_text() == "precious\n"
