"""The dead letters of a data folder, open for a copy.

Letters that are added come behind those that are there. Whoever adds some has the files to itself till then:
two copies at once would add the same letter twice.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from services.contract.consuming.letter import DeadLetter
from services.contract.errors import DeadLettersUnavailable
from services.runtime.own_files import open_own
from services.stores.copying import Purge, Replay, digest, is_purged, microseconds
from services.stores.files.dead_letters import DeadLetterFile, is_purge, is_replay, kind_of, mode_of
from services.stores.files.lines import append, replace


class CopiedLetterFile(DeadLetterFile):
    """The letters of one file. Reading raises OSError, and writing DeadLettersUnavailable."""

    def __init__(self, path: Path, max_entry_bytes: int) -> None:
        super().__init__(path, float, max_entry_bytes=max_entry_bytes)

    @property
    def place(self) -> str:
        """Name the file."""
        return str(self._path)

    def replays(self) -> dict[str, Replay]:
        """Give the newest mark of each replayed letter, by entry id."""
        found: dict[str, Replay] = {}
        for mark in self._marks(self._replayed, is_replay):
            one = Replay(
                mark["entry_id"], microseconds(mark["replayed_at"]), str(mark.get("replayed_as", ""))
            )
            if one.entry_id not in found or found[one.entry_id].replayed_at_us <= one.replayed_at_us:
                found[one.entry_id] = one
        return found

    def purges(self) -> dict[str, Purge]:
        """Give the newest note on each purged letter, by entry id."""
        found: dict[str, Purge] = {}
        for mark in self._marks(self._purged, is_purge):
            one = Purge(
                mark["entry_id"],
                _time(mark.get("purged_at")),
                mark.get("event_id"),
                str(mark.get("reason", "")),
                mark.get("content"),
            )
            if one.entry_id not in found or found[one.entry_id].purged_at_us <= one.purged_at_us:
                found[one.entry_id] = one
        return found

    def mark(self, replays: Iterable[Replay], purges: Iterable[Purge]) -> None:
        """Add marks and notes, and remove the letters that are purged by them."""
        with self._writing():
            marked, noted = self.replays(), self.purges()
            newer = [
                one
                for one in replays
                if one.entry_id not in marked or marked[one.entry_id].replayed_at_us < one.replayed_at_us
            ]
            notes = [
                one
                for one in purges
                if one.entry_id not in noted or noted[one.entry_id].purged_at_us < one.purged_at_us
            ]
            if newer:
                append(self._replayed, map(_replay_line, newer), mode_of(self._path))
            if notes:
                # The note comes first, as in a purge: a letter that is gone without one would be missing.
                append(self._purged, map(_purge_line, notes), mode_of(self._path))
            self._remove_purged()

    def take(self, lines: Iterable[tuple[str, DeadLetter]]) -> int:
        """Add letters that are not there yet, in their order."""
        with self._writing():
            there = {digest(line) for line, _ in self.lines()}
            before = len(there)
            if new := _peeked(_new(lines, there)):
                append(self._path, new, mode_of(self._path))
            return len(there) - before

    def _remove_purged(self) -> None:
        notes = self.purges()
        gone = [
            line.span
            for line in self._lines_of(self._path)
            if (letter := self._letter_or_none(line)) is not None and is_purged(letter, notes)
        ]
        if gone:
            with os.fdopen(open_own(self._path, os.O_RDONLY), "rb") as old:
                replace(self._path, old, gone)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._locked():
                yield
        except OSError as error:
            raise DeadLettersUnavailable(
                f"{self._path}: {error.strerror or error}", kind_of(error)
            ) from error


def _new(lines: Iterable[tuple[str, DeadLetter]], there: set[bytes]) -> Iterator[str]:
    """Give the lines that are not there, and note them."""
    for line, _ in lines:
        if (name := digest(line)) not in there:
            there.add(name)
            yield line


def _peeked(lines: Iterator[str]) -> Iterator[str] | None:
    """Give the lines again; None where there is none, so that no file is made for them."""
    first = next(lines, None)
    if first is None:
        return None
    return (one for some in ([first], lines) for one in some)


def _time(unix_s: object) -> int:
    """Read a time that anybody may have written; 0 where it is none: everything came after it."""
    if isinstance(unix_s, int | float) and is_replay({"replayed_at": unix_s}):
        return microseconds(unix_s)
    return 0


def _replay_line(one: Replay) -> str:
    return json.dumps(
        {
            "entry_id": one.entry_id,
            "replayed_at": one.replayed_at_us / 1_000_000,
            "replayed_as": one.replayed_as,
        }
    )


def _purge_line(one: Purge) -> str:
    return json.dumps(
        {
            "entry_id": one.entry_id,
            "event_id": one.event_id,
            "reason": one.reason,
            "purged_at": one.purged_at_us / 1_000_000,
            **({} if one.content is None else {"content": one.content}),
        }
    )
