"""Where an export goes: standard output, or a file that is there whole or not at all."""

import contextlib
import errno
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TextIO

from services.ops.failures import CommandFailed

Write = Callable[[str], None]

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def place_of(given: str, *, may_overwrite: bool) -> Path:
    """Find the file that is to be written, at the end of links. Raises CommandFailed."""
    path = Path(os.path.realpath(given))
    if path.is_dir():
        raise _failed(given, "it is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise _failed(given, "it is no regular file; leave out --output, and send standard output there")
    if path.exists() and not may_overwrite:
        raise _there_already(given)
    if not path.parent.is_dir():
        raise _failed(given, "its folder is not there; make it first")
    return path


@contextlib.contextmanager
def whole_file(given: str, path: Path, *, may_overwrite: bool) -> Iterator[Write]:
    """Write a file under another name beside it, and put it in its place at the end.

    Where the writing ends before, by an error, Ctrl-C or SIGTERM, nothing is left. Raises CommandFailed.
    """
    new = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        with contextlib.ExitStack() as undo:
            undo.enter_context(_ending_by_exception())
            file = undo.enter_context(_created(new))
            undo.callback(new.unlink, missing_ok=True)
            yield _writer(given, file)
            file.flush()
            os.fsync(file.fileno())
            _put(new, path, may_overwrite=may_overwrite)
            _sync(path.parent)
    except FileExistsError:
        raise _there_already(given) from None
    except OSError as error:
        raise _failed(given, error.strerror or str(error)) from None


def _writer(given: str, file: TextIO) -> Write:
    def write(text: str) -> None:
        try:
            file.write(text)
        except OSError as error:
            raise _failed(given, error.strerror or str(error)) from None

    return write


def _created(path: Path) -> TextIO:
    # With the rights that a person's files have (umask): it is given to other programs.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    return os.fdopen(descriptor, "w", encoding="utf-8", newline="")


def _put(new: Path, path: Path, *, may_overwrite: bool) -> None:
    """Give a file its name. Raises FileExistsError where another has it, and may not be replaced."""
    if not may_overwrite:
        try:
            os.link(new, path)  # unlike a rename it replaces nothing that came meanwhile
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        else:
            return
    new.replace(path)


def _sync(folder: Path) -> None:
    """Have the name outlast a power cut, where a folder can be synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _ending_by_exception() -> Iterator[None]:
    """Have a signal that ends us leave nothing behind; one that is ignored stays so."""
    before = {number: signal.getsignal(number) for number in _ENDING}
    changed = {number: one for number, one in before.items() if one == signal.SIG_DFL}
    for number in changed:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        for number, one in changed.items():
            signal.signal(number, one)


def _there_already(given: str) -> CommandFailed:
    return _failed(given, "it is there already; name a new file, or say --overwrite")


def _failed(given: str, why: str) -> CommandFailed:
    return CommandFailed(f"--output {given}: {why}", 2)
