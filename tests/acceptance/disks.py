"""Disks that are small enough to be filled."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Give a new folder on a disk of its own; skip where none can be mounted, unless in CI."""
    with _mounted(folder, megabytes) as why:
        if why and os.environ.get("CI") == "true":
            pytest.fail(why)
        if why:
            pytest.skip(why)
        yield folder


@contextlib.contextmanager
def disk_in_memory(folder: Path, megabytes: int) -> Iterator[Path]:
    """Give a new folder that waits for no other program's writes; an ordinary one where none can be mounted.

    On a disk whose queue is full, whoever writes a line to a file may be held up for seconds.
    """
    with _mounted(folder, megabytes):
        yield folder


@contextlib.contextmanager
def _mounted(folder: Path, megabytes: int) -> Iterator[str]:
    """Make a folder, and mount memory there; say why that can't be."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "small", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        yield f"no tmpfs can be mounted: {mounted.stderr.decode().strip()}"
        return
    try:
        yield ""
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class FailingDisk:
    """A disk of its own (ext4) whose kernel can find an error on it, and then lets nobody write any more."""

    def __init__(self, folder: Path, image: Path) -> None:
        self.folder = folder
        self._image = image
        folder.mkdir(parents=True)
        with image.open("wb") as file:
            file.truncate(32_000_000)
        _run_or_skip("mkfs.ext4", "-q", "-F", str(image))
        self._mount()

    def fail(self) -> None:
        """Have the kernel find an error: it remounts the disk read-only under all who have files open."""
        device = Path(
            subprocess.run(
                ["findmnt", "-no", "SOURCE", str(self.folder)], capture_output=True, text=True, check=True
            ).stdout.strip()
        )
        with contextlib.suppress(OSError):  # it is told that it worked by an error
            Path(f"/sys/fs/ext4/{device.name}/trigger_fs_error").write_text("1", encoding="ascii")

    def repair(self) -> None:
        """Check it and mount it again. Nobody may have a file of it open."""
        subprocess.run(["umount", str(self.folder)], check=True)
        check = ["fsck.ext4", "-f", "-y", str(self._image)]
        done = subprocess.run(check, capture_output=True, check=False)
        assert done.returncode <= 1, done.stdout  # 1: errors were corrected
        self._mount()

    def close(self) -> None:
        """Take it away."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False)

    def _mount(self) -> None:
        _run_or_skip("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.folder))


def _run_or_skip(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        why = done.stderr.strip() if done.returncode else ""
    except FileNotFoundError as error:
        why = str(error)
    if why:
        told = f"no disk of one's own can be made: {why}"
        if os.environ.get("CI") == "true":
            pytest.fail(told)
        pytest.skip(told)
