"""Dead letters in one file, shared by the replicas of one node.

    DATA_DIR/dlq.jsonl             one JSON line a letter, the oldest first; authoritative
    DATA_DIR/dlq.replayed.jsonl    one line a replayed letter: entry_id, replayed_at, replayed_as
    DATA_DIR/dlq.purged.jsonl      one line a purged letter: entry_id, event_id, reason, purged_at
    DATA_DIR/dlq.lock              held while any of them is written

A letter is durable (fsync) before its entry is acknowledged. The file is opened for each write: a
purge puts another one in its place, and letters in a file that is gone would be lost. A line that a
crash left half written is ended before the next one, so it spoils no other.
"""

import fcntl
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from services.consumer.dead_letters.letter import DeadLetter, dead_letter, parse_letter
from services.consumer.entry import Dead
from services.consumer.errors import DeadLettersUnavailable
from services.consumer.folders import make_folder, sync_folder, sync_name
from services.runtime.spans import current

_CHUNK_BYTES: Final = 1 << 20
_APPEND: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class DeadLetterFile:
    """The dead letters of a data folder. `now` in Unix seconds; `consumer` signs the letters."""

    def __init__(self, path: Path, now: Callable[[], float], consumer: str = "") -> None:
        self._path = path
        self._replayed = path.with_suffix(".replayed.jsonl")
        self._purged = path.with_suffix(".purged.jsonl")
        self._lock = path.with_suffix(".lock")
        self._now = now
        self._consumer = consumer

    def put(self, dead: Sequence[Dead]) -> None:
        """Keep dead letters, durable on return. Raises DeadLettersUnavailable."""
        failed_at = self._now()
        batch = current()
        lines = (dead_letter(one, failed_at, self._consumer, batch).to_json() for one in dead)
        try:
            with self._locked():
                _append(self._path, lines)
        except OSError as error:
            raise DeadLettersUnavailable(f"{self._path}: {error.strerror or error}", _kind(error)) from error

    def read(self) -> Iterator[DeadLetter]:
        """Give what was kept, the oldest first; a torn line is passed over."""
        for line in _lines(self._path):
            try:
                yield parse_letter(line)
            except ValueError:
                continue

    def torn_lines(self) -> int:
        """Count the lines that are no letters: what a crash left half written."""
        return sum(1 for _ in _lines(self._path)) - sum(1 for _ in self.read())

    def replayed(self) -> dict[str, float]:
        """Tell when each replayed letter was replayed (Unix seconds), by entry id."""
        return {mark["entry_id"]: mark["replayed_at"] for mark in _marks(self._replayed)}

    def purged(self) -> Iterator[tuple[str, str | None]]:
        """Give entry id and event id of each purged letter."""
        for mark in _marks(self._purged):
            yield mark["entry_id"], mark["event_id"]

    def mark_replayed(self, replayed: Sequence[tuple[str, str]]) -> None:
        """Note that letters were published again: entry id of the letter, and of the new entry."""
        if not replayed:
            return
        now = self._now()
        marks = [{"entry_id": old, "replayed_at": now, "replayed_as": new} for old, new in replayed]
        with self._locked():
            _append(self._replayed, [json.dumps(mark) for mark in marks])

    def purge(self, entry_ids: Collection[str]) -> int:
        """Remove the letters of these entries, and note it first; gives how many letters went."""
        now = self._now()
        notes: dict[str, str] = {}
        gone = 0
        with self._locked():
            for line in _lines(self._path):
                letter = _letter_or_none(line)
                if letter is not None and letter.entry_id in entry_ids:
                    gone += 1
                    notes[letter.entry_id] = json.dumps(
                        {"entry_id": letter.entry_id, "event_id": letter.text("event_id"),
                         "reason": letter.reason, "purged_at": now}
                    )  # fmt: skip
            if gone:
                # The note comes first: whatever happens in between, the audit can tell a letter that
                # was purged from one that is missing.
                _append(self._purged, notes.values())
                _replace(self._path, (line for line in _lines(self._path) if not _is_of(line, notes)))
        return gone

    def close(self) -> None:
        """Let go; nothing is kept open."""

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_folder(self._path.parent)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)  # ends the lock too, as does the end of the process


def _append(path: Path, lines: Iterable[str]) -> None:
    """Append lines as they come, durably and all or none; raises OSError."""
    descriptor = os.open(path, _APPEND, 0o644)
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


def _replace(path: Path, lines: Iterable[bytes]) -> None:
    """Put another content in a file's place, at once and durably."""
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            for line in file:
                if line.strip():
                    yield line if line.endswith(b"\n") else line + b"\n"
    except FileNotFoundError:
        return


def _letter_or_none(line: bytes) -> DeadLetter | None:
    try:
        return parse_letter(line)
    except ValueError:
        return None


def _is_of(line: bytes, entry_ids: Collection[str]) -> bool:
    letter = _letter_or_none(line)
    return letter is not None and letter.entry_id in entry_ids


def _marks(path: Path) -> Iterator[dict[str, Any]]:
    for line in _lines(path):
        try:
            mark = json.loads(line)
        except ValueError:  # torn by a crash
            continue
        if isinstance(mark, dict) and isinstance(mark.get("entry_id"), str):
            yield mark


def _kind(error: OSError) -> str:
    return os.strerror(error.errno).lower().replace(" ", "_") if error.errno else "os_error"
