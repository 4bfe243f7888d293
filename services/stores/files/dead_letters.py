"""Dead letters in one file, shared by the replicas of one node.

    DATA_DIR/dlq.jsonl             one JSON line a letter, the oldest first; authoritative
    DATA_DIR/dlq.replayed.jsonl    one line a replayed letter: entry_id, replayed_at, replayed_as
    DATA_DIR/dlq.purged.jsonl      one line a purged letter: entry_id, event_id, reason, purged_at
    DATA_DIR/dlq.lock              held while any of them is written

A letter is durable (fsync) before its entry is acknowledged. The file is opened for each write: a
purge puts another one in its place, and letters in a file that is gone would be lost. A line that a
crash left half written is ended before the next one, so it spoils no other. What can't be read is left
where it is, and told by `damages`.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from services.contract.damage import Damages, why
from services.contract.doors import Dead
from services.contract.errors import DeadLettersUnavailable
from services.contract.event import DEFAULT_ENTRY_BYTES
from services.contract.letter import DeadLetter, Purged, letter_line, parse_letter
from services.runtime.own_files import open_own
from services.runtime.telemetry.spans import current
from services.stores.folders import make_folder, sync_folder, sync_name

LONGEST_LINE: Final = 64 << 20
"""Bytes of a line that is read, unless MAX_ENTRY_BYTES lets a letter have more: a longer one is no letter."""
LONGER_THAN_ENTRY: Final = 20
"""How many times as large as its entry a letter may be: a value of one byte of no text takes 18."""

_LATEST_S: Final = 1e15
_AROUND_AN_EVENT: Final = 1 << 20
_BEGUN: Final = 1024
_CHUNK_BYTES: Final = 1 << 20
_NEW: Final = 0o644
"""Mode of a new file, less the umask: a backup in a pod may be another user of the same group."""
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_GLANCES: Final = 10
_GLANCE_S: Final = 0.01
"""How often, and in between how long, a reader waits for the end of a line that a consumer is writing."""
_BEGINNING: Final = b'{"entry_id":"'
_TORN: Final = re.compile(rb'\{"entry_id":"([^"\\]{1,64})"')


class _Line(NamedTuple):
    """A line of a file: its number from 1, and the bytes from `start` up to `end`."""

    path: Path
    number: int
    start: int
    end: int
    data: bytes
    """With what ends it; of one that is too long the beginning."""
    is_too_long: bool

    @property
    def place(self) -> str:
        return f"{self.path} line {self.number}"

    @property
    def span(self) -> tuple[int, int]:
        return self.start, self.end


class DeadLetterFile:
    """The dead letters of a data folder. `now` in Unix seconds; `consumer` signs the letters."""

    def __init__(
        self,
        path: Path,
        now: Callable[[], float],
        consumer: str = "",
        max_entry_bytes: int = DEFAULT_ENTRY_BYTES,
    ) -> None:
        self._path = path
        self._replayed = path.with_suffix(".replayed.jsonl")
        self._purged = path.with_suffix(".purged.jsonl")
        self._lock = path.with_suffix(".lock")
        self._now = now
        self._consumer = consumer
        self._longest = max(LONGEST_LINE, LONGER_THAN_ENTRY * max_entry_bytes + _AROUND_AN_EVENT)
        self.damages = Damages()
        """What could not be read so far."""

    def put(self, dead: Sequence[Dead]) -> None:
        """Keep dead letters, durable on return. Raises DeadLettersUnavailable."""
        failed_at = self._now()
        batch = current()
        lines = (letter_line(one, failed_at, self._consumer, batch) for one in dead)
        try:
            with self._locked():
                _append(self._path, lines)
        except OSError as error:
            raise DeadLettersUnavailable(f"{self._path}: {error.strerror or error}", _kind(error)) from error

    def read(self) -> Iterator[DeadLetter]:
        """Give what was kept, the oldest first. Raises OSError for what is no ordinary file."""
        torn: dict[str, str] = {}
        for line in self._lines(self._path):
            try:
                yield self._letter(line)
            except ValueError as error:
                self._tell(line, error, torn)
        if torn:  # its entry came again, unless it still waits for that
            whole = {
                letter.entry_id for line in self._lines(self._path) if (letter := self._letter_or_none(line))
            }
            for entry_id, place in torn.items():
                if entry_id in whole:
                    self.damages.tell_torn(place, f"another letter of entry {entry_id} is whole")
                else:
                    self.damages.tell(place, f"half written, and entry {entry_id} has no other letter")

    def replayed(self) -> dict[str, float]:
        """Tell when each replayed letter was replayed (Unix seconds), by entry id."""
        return {
            mark["entry_id"]: float(mark["replayed_at"]) for mark in self._marks(self._replayed, _is_replay)
        }

    def purged(self) -> Iterator[Purged]:
        """Give what is known of each purged letter."""
        for mark in self._marks(self._purged, _is_purge):
            yield Purged(mark["entry_id"], mark["event_id"], mark.get("content"))

    def mark_replayed(self, replayed: Sequence[tuple[str, str]]) -> None:
        """Note that letters were published again: entry id of the letter, and of the new entry."""
        if not replayed:
            return
        now = self._now()
        marks = [{"entry_id": old, "replayed_at": now, "replayed_as": new} for old, new in replayed]
        with self._locked():
            _append(self._replayed, [json.dumps(mark) for mark in marks], _mode(self._path))

    def purge(self, entry_ids: Collection[str]) -> int:
        """Remove the letters of these entries, and note it first; gives how many letters went."""
        now = self._now()
        notes: dict[str, str] = {}
        with self._locked():
            gone = []
            for line in self._lines(self._path):
                letter = self._letter_or_none(line)
                if letter is not None and letter.entry_id in entry_ids:
                    gone.append(line.span)
                    notes[letter.entry_id] = json.dumps(
                        {"entry_id": letter.entry_id, "event_id": letter.text("event_id"),
                         "reason": letter.reason, "purged_at": now,
                         **({"content": letter.content} if letter.is_conflict else {})}
                    )  # fmt: skip
            if gone:
                # The note comes first: whatever happens in between, the audit can tell a letter that
                # was purged from one that is missing.
                with os.fdopen(open_own(self._path, os.O_RDONLY), "rb") as old:
                    _append(self._purged, notes.values(), _mode(self._path))
                    _replace(self._path, old, gone)
        return len(gone)

    def close(self) -> None:
        """Let go; nothing is kept open."""

    def _lines(self, path: Path) -> Iterator[_Line]:
        """Give the lines that are not empty; none where there is no file. Raises OSError."""
        file = _opened(path)
        if file is None:
            return
        with file:
            number = start = 0
            while data := self._whole_line(file):
                number += 1
                end = start + len(data)
                is_too_long = len(data) > self._longest
                is_passed = is_too_long and not data.endswith(b"\n")
                while is_passed and (rest := file.readline(_CHUNK_BYTES)):
                    end += len(rest)
                    is_passed = not rest.endswith(b"\n")
                if not data.isspace():
                    yield _Line(path, number, start, end, data[:_BEGUN] if is_too_long else data, is_too_long)
                start = end

    def _whole_line(self, file: IO[bytes]) -> bytes:
        """Read a line, no further than is believed; waits a moment for the end of one being written."""
        data = file.readline(self._longest + 1)
        for _ in range(_GLANCES):
            if not data or data.endswith(b"\n") or len(data) > self._longest:
                break
            time.sleep(_GLANCE_S)
            data += file.readline(self._longest + 1 - len(data))
        return data

    @staticmethod
    def _letter(line: _Line) -> DeadLetter:
        if line.is_too_long:
            raise ValueError("longer than a letter can be")
        return parse_letter(line.data)

    def _letter_or_none(self, line: _Line) -> DeadLetter | None:
        try:
            return self._letter(line)
        except ValueError:
            return None

    def _tell(self, line: _Line, error: ValueError, torn: dict[str, str]) -> None:
        """Note a line that is no letter, unless it may be the beginning of one that came again."""
        found = _TORN.match(line.data)
        if not line.is_too_long and not line.data.endswith(b"\n"):
            self.damages.tell_torn(
                line.place, "it is the last, and what is written there is not acknowledged"
            )
        elif isinstance(error, json.JSONDecodeError) and found:
            torn[found[1].decode(errors="backslashreplace")] = line.place
        elif _BEGINNING.startswith(line.data.strip()[:64]):
            self.damages.tell_torn(line.place, "there is nothing of a letter in it")
        else:
            self.damages.tell(line.place, why(error))

    def _marks(self, path: Path, fits: Callable[[dict[str, Any]], bool]) -> Iterator[dict[str, Any]]:
        """Give the marks of a file; what is none is told."""
        for line in self._lines(path):
            try:
                mark = None if line.is_too_long else json.loads(line.data.decode())
            except (ValueError, RecursionError) as error:
                self.damages.tell(line.place, why(error))
                continue
            if isinstance(mark, dict) and isinstance(mark.get("entry_id"), str) and fits(mark):
                yield mark
            else:
                self.damages.tell(line.place, "no mark of ours")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_folder(self._path.parent)
        descriptor = open_own(self._lock, os.O_RDWR | os.O_CREAT, _NEW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)  # ends the lock too, as does the end of the process


def _append(path: Path, lines: Iterable[str], mode: int = _NEW) -> None:
    """Append lines as they come, durably and all or none; raises OSError, also where a link stands there."""
    descriptor = open_own(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, mode)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        try:
            for data in _chunks(lines, b"\n" if torn else b""):
                _write_all(descriptor, data)
            os.fsync(descriptor)
            if size == 0:  # new, or the first write into it failed: its name may not be durable yet
                sync_folder(path.parent)
                sync_name(path.parent)
        except OSError:
            # A full disk takes part of a line: take it back, so that no reader meets it.
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def _chunks(lines: Iterable[str], start: bytes) -> Iterator[bytes]:
    """Give lines as bytes, small ones together: a letter may be six times as large as its entry."""
    chunk = bytearray(start)
    for line in lines:
        chunk += line.encode()
        chunk += b"\n"
        if len(chunk) >= _CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    if chunk:
        yield bytes(chunk)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _mode(letters: Path) -> int:
    """Give the mode of the file of the letters: whoever may read them may read what became of them."""
    try:
        return stat.S_IMODE(letters.stat().st_mode)
    except FileNotFoundError:
        return _NEW


def _replace(path: Path, old: IO[bytes], gone: Sequence[tuple[int, int]]) -> None:
    """Put a copy of the old file without these pieces in its place, at once, durably and with its mode."""
    fresh = path.with_suffix(".new")
    was = os.fstat(old.fileno())
    with os.fdopen(open_own(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        with contextlib.suppress(PermissionError):  # only root may give it to another user
            os.fchown(file.fileno(), was.st_uid, was.st_gid)
        os.fchmod(file.fileno(), stat.S_IMODE(was.st_mode))
        at = 0
        for start, end in gone:
            _copy(old, file, start - at)
            at = old.seek(end)
        _copy(old, file, None)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def _copy(old: IO[bytes], new: IO[bytes], size: int | None) -> None:
    """Copy so many bytes, or all that is left."""
    while size is None or size > 0:
        piece = old.read(_CHUNK_BYTES if size is None else min(size, _CHUNK_BYTES))
        if not piece:
            return
        new.write(piece)
        size = None if size is None else size - len(piece)


def _opened(path: Path) -> IO[bytes] | None:
    """Open an ordinary file; None where there is none. Raises OSError for a folder, a pipe or a device.

    Waits for nobody: to open a pipe would last until somebody writes into it.
    """
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no ordinary file; move it away", str(path))
    return os.fdopen(descriptor, "rb", buffering=_CHUNK_BYTES)


def _is_replay(mark: dict[str, Any]) -> bool:
    at = mark.get("replayed_at")
    return isinstance(at, int | float) and not isinstance(at, bool) and abs(at) < _LATEST_S


def _is_purge(mark: dict[str, Any]) -> bool:
    texts = (mark.get("event_id", 0), mark.get("content"))
    return all(text is None or isinstance(text, str) for text in texts)


def _kind(error: OSError) -> str:
    return os.strerror(error.errno).lower().replace(" ", "_") if error.errno else "os_error"
