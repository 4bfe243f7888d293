"""Files that we write in a folder: never through a link that stands in a file's place.

Whoever may write in DATA_DIR could have us write into, or empty, any file of ours by such a link. The
database alone may be one, since people move it to another disk that way; then link and file have to be
ours (docs/decisions/0027).
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o600
_NO_LINK: Final = "it is a link, which is not followed here: put a file in its place, or remove it"
_NO_FILE: Final = "it is no regular file"
_FOREIGN_LINK: Final = "it is a link by another user, or to a file of another user, which is not followed"


def open_own(path: Path, flags: int, mode: int = PRIVATE) -> int:
    """Open a regular file to write it, made with `mode` where it isn't there.

    `flags` are those of os.open; with O_EXCL what is there already is removed first. Raises OSError, also for
    a link.
    """
    if flags & os.O_EXCL:
        path.unlink(missing_ok=True)
    try:
        # O_NONBLOCK: a pipe that stands there is refused, and not waited for. It changes nothing for a file.
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, mode)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, _NO_LINK, str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, _NO_FILE, str(path))
    return descriptor


def write_own(path: Path, text: str, mode: int = PRIVATE) -> None:
    """Put a file with this text in its place, whole, with this mode whatever the umask. Raises OSError."""
    new = path.with_name(f"{path.name}.new")
    with os.fdopen(open_own(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    new.replace(path)


def check_link(path: Path) -> None:
    """Make sure that a link is a way of our own to a file of our own; a file is fine. Raises OSError."""
    try:
        link = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISLNK(link.st_mode):
        return
    us = os.geteuid()
    try:
        is_target_ours = path.stat().st_uid in {us, link.st_uid}
    except FileNotFoundError:  # it is made at the end of the link
        is_target_ours = True
    if link.st_uid not in {us, 0} or not is_target_ours:
        raise OSError(errno.ELOOP, _FOREIGN_LINK, str(path))


@contextlib.contextmanager
def private_files() -> Iterator[None]:
    """Have all files and folders that this process and its children make be ours alone: 0600 and 0700."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
