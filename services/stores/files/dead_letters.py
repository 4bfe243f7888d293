"""Dead letters in one file, shared by the replicas of one node.

    DATA_DIR/dlq.jsonl             one JSON line a letter, the oldest first; authoritative
    DATA_DIR/dlq.replayed.jsonl    one line a replayed letter: entry_id, replayed_at, replayed_as
    DATA_DIR/dlq.purged.jsonl      one line a purged letter: entry_id, event_id, reason, purged_at
    DATA_DIR/dlq.lock              held while any of them is written

A letter is durable (fsync) before its entry is acknowledged. The file is opened for each write: a
purge puts another one in its place, and letters in a file that is gone would be lost. What can't be read is
left where it is, and told by `damages`.
"""

import fcntl
import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from services.contract.consuming.damage import Damages, why
from services.contract.consuming.doors import Dead
from services.contract.consuming.letter import DeadLetter, Purged, letter_line, parse_letter
from services.contract.consuming.packed_letters import single_letters
from services.contract.errors import DeadLettersUnavailable
from services.contract.event import DEFAULT_ENTRY_BYTES
from services.runtime.own_files import open_own
from services.runtime.telemetry.spans import current
from services.stores.files.lines import Line, append, lines_of, replace
from services.stores.folders import make_folder

LONGEST_LINE: Final = 64 << 20
"""Bytes of a line that is read, unless MAX_ENTRY_BYTES lets a letter have more: a longer one is no letter."""
LONGER_THAN_ENTRY: Final = 20
"""How many times as large as its entry a letter may be: a value of one byte of no text takes 18."""

_LATEST_S: Final = 1e15
_AROUND_AN_EVENT: Final = 1 << 20
_NEW: Final = 0o644
"""Mode of a new file, less the umask: a backup in a pod may be another user of the same group."""
_BEGINNING: Final = b'{"entry_id":"'
_TORN: Final = re.compile(rb'\{"entry_id":"([^"\\]{1,64})"')


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
                append(self._path, lines, _NEW)
        except OSError as error:
            raise DeadLettersUnavailable(
                f"{self._path}: {error.strerror or error}", kind_of(error)
            ) from error

    def read(self) -> Iterator[DeadLetter]:
        """Give what was kept, the oldest first. Raises OSError for what is no ordinary file."""
        return (letter for _, letter in self.lines())

    def events_of(self, entry_id: str) -> set[str]:
        """Name those events of an entry of many that have a letter, as `ENTRY/LINE`.

        Raises DeadLettersUnavailable.
        """
        begin = _BEGINNING + f"{entry_id}/".encode()  # no other line is worth being read as JSON
        try:
            lines = (line for line in self._lines_of(self._path) if line.data.startswith(begin))
            return {letter.entry_id for line in lines if (letter := self._letter_or_none(line))}
        except OSError as error:
            raise DeadLettersUnavailable(
                f"{self._path}: {error.strerror or error}", kind_of(error)
            ) from error

    def lines(self) -> Iterator[tuple[str, DeadLetter]]:
        """Give each letter as it is written, without what ends its line, and read; as `read` does."""
        torn: dict[str, str] = {}
        for line in self._lines_of(self._path):
            try:
                found = self._letter(line)
            except ValueError as error:
                self._tell(line, error, torn)
            else:
                yield line.data.decode().strip(), found
        if torn:  # its entry came again, unless it still waits for that
            whole = {
                letter.entry_id
                for line in self._lines_of(self._path)
                if (letter := self._letter_or_none(line))
            }
            for entry_id, place in torn.items():
                if entry_id in whole:
                    self.damages.tell_torn(place, f"another letter of entry {entry_id} is whole")
                else:
                    self.damages.tell(place, f"half written, and entry {entry_id} has no other letter")

    def replayed(self) -> dict[str, float]:
        """Tell when each replayed letter was replayed (Unix seconds), by entry id."""
        return {
            mark["entry_id"]: float(mark["replayed_at"]) for mark in self._marks(self._replayed, is_replay)
        }

    def purged(self) -> Iterator[Purged]:
        """Give what is known of each purged letter."""
        for mark in self._marks(self._purged, is_purge):
            yield Purged(mark["entry_id"], mark["event_id"], mark.get("content"))

    def mark_replayed(self, replayed: Sequence[tuple[str, str]]) -> None:
        """Note that letters were published again: entry id of the letter, and of the new entry."""
        if not replayed:
            return
        now = self._now()
        marks = [{"entry_id": old, "replayed_at": now, "replayed_as": new} for old, new in replayed]
        with self._locked():
            append(self._replayed, [json.dumps(mark) for mark in marks], mode_of(self._path))

    def purge(self, entry_ids: Collection[str]) -> int:
        """Remove the letters of these entries, and note it first; gives how many letters went."""
        now = self._now()
        notes: dict[str, str] = {}
        with self._locked():
            gone = []
            for line in self._lines_of(self._path):
                letter = self._letter_or_none(line)
                if letter is not None and letter.entry_id in entry_ids:
                    gone.append(line.span)
                    for one in single_letters(letter):
                        notes[one.entry_id] = json.dumps(
                            {"entry_id": one.entry_id, "event_id": one.text("event_id"),
                             "reason": one.reason, "purged_at": now,
                             **({"content": one.content} if one.is_conflict else {})}
                        )  # fmt: skip
            if gone:
                # The note comes first: whatever happens in between, the audit can tell a letter that
                # was purged from one that is missing.
                with os.fdopen(open_own(self._path, os.O_RDONLY), "rb") as old:
                    append(self._purged, notes.values(), mode_of(self._path))
                    replace(self._path, old, gone)
        return len(gone)

    def close(self) -> None:
        """Let go; nothing is kept open."""

    def _lines_of(self, path: Path) -> Iterator[Line]:
        return lines_of(path, self._longest)

    @staticmethod
    def _letter(line: Line) -> DeadLetter:
        if line.is_too_long:
            raise ValueError("longer than a letter can be")
        return parse_letter(line.data)

    def _letter_or_none(self, line: Line) -> DeadLetter | None:
        try:
            return self._letter(line)
        except ValueError:
            return None

    def _tell(self, line: Line, error: ValueError, torn: dict[str, str]) -> None:
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
        for line in self._lines_of(path):
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


def mode_of(letters: Path) -> int:
    """Give the mode of the file of the letters: whoever may read them may read what became of them."""
    try:
        return stat.S_IMODE(letters.stat().st_mode)
    except FileNotFoundError:
        return _NEW


def is_replay(mark: dict[str, Any]) -> bool:
    """Tell whether it is the mark of a replay, with a time that can be."""
    at = mark.get("replayed_at")
    return isinstance(at, int | float) and not isinstance(at, bool) and abs(at) < _LATEST_S


def is_purge(mark: dict[str, Any]) -> bool:
    """Tell whether it is the note of a purge."""
    texts = (mark.get("event_id", 0), mark.get("content"))
    return all(text is None or isinstance(text, str) for text in texts)


def kind_of(error: OSError) -> str:
    """Name an error for a metric's label."""
    return os.strerror(error.errno).lower().replace(" ", "_") if error.errno else "os_error"
