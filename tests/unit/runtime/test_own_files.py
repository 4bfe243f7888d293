"""What we write in a folder goes into files there, and into nothing that a link leads to."""

import os
import stat
from pathlib import Path

import pytest

from services.runtime.own_files import check_link, open_own, private_files, write_own

ALL_WAYS = [
    os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    os.O_RDWR | os.O_CREAT | os.O_APPEND,
]
NOBODY = 65534


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("flags", ALL_WAYS)
def test_a_link_is_not_followed(tmp_path: Path, flags: int) -> None:
    """Neither to a file that is there, nor to one that would be made."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for target in (victim, tmp_path / "new"):
        link = tmp_path / "link"
        link.symlink_to(target)
        with pytest.raises(OSError, match="it is a link") as caught:
            open_own(link, flags)
        assert caught.value.filename == str(link)
        link.unlink()
    assert victim.read_text() == "precious"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("flags", ALL_WAYS)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, flags: int) -> None:
    """A pipe is not waited for, a device not written to."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"regular file|No such device"):
        open_own(tmp_path / "pipe", flags)
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        open_own(tmp_path / "folder", flags)


def test_a_new_file_is_ours_alone(tmp_path: Path) -> None:
    """Whatever the umask is; one that was there keeps its mode."""
    old = tmp_path / "old"
    old.touch(0o644)
    for path, mode in ((tmp_path / "new", 0o600), (old, 0o644)):
        os.close(open_own(path, os.O_WRONLY | os.O_CREAT))
        assert _mode(path) == mode


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_is_written_anew_and_whole(tmp_path: Path, mode: int) -> None:
    """Where a link stands in its place or in that of the next one, it is replaced and not followed."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("file", "file.new"):
        (tmp_path / name).symlink_to(victim)
    with private_files():
        write_own(tmp_path / "file", "text", mode)
    assert (tmp_path / "file").read_text() == "text"
    assert not (tmp_path / "file").is_symlink()
    assert _mode(tmp_path / "file") == mode
    assert victim.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "victim"]


def test_what_is_made_meanwhile_is_ours_alone(tmp_path: Path) -> None:
    """Files and folders; afterwards all is as it was."""
    before = os.umask(0o022)
    try:
        with private_files():
            (tmp_path / "a" / "b").mkdir(parents=True)
            (tmp_path / "a" / "file").touch()
        (tmp_path / "after").touch()
    finally:
        os.umask(before)
    assert [_mode(tmp_path / name) for name in ("a", "a/b", "a/file", "after")] == [
        0o700,
        0o700,
        0o600,
        0o644,
    ]


def test_a_link_of_ones_own_is_a_way_to_the_database(tmp_path: Path) -> None:
    """To a file that is there, and to one that will be made."""
    link = tmp_path / "telemetry.db"
    check_link(link)
    link.symlink_to(tmp_path / "elsewhere.db")
    check_link(link)
    (tmp_path / "elsewhere.db").touch()
    check_link(link)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
@pytest.mark.parametrize("foreign", ["link", "target"])
def test_a_link_of_another_user_is_none(tmp_path: Path, foreign: str) -> None:
    """Nor is one of our own to a file of somebody else."""
    link, target = tmp_path / "telemetry.db", tmp_path / "elsewhere.db"
    target.touch()
    link.symlink_to(target)
    os.chown(link if foreign == "link" else target, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(OSError, match="link by another user"):
        check_link(link)
