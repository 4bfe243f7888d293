"""Follow a file: publish what is appended to it, whatever its writer renames or empties.

What is read next is told by the run's record and the folder alone, so a restart after a kill is no case of
its own: the path, where it is the file of the record; or else the rest of that file under its other name,
then the files that were begun after it, and then the path.
"""

import errno
import functools
import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from services.contract.producing.outgoing import Position
from services.contract.producing.publishing import Replayed
from services.producer.files.account import Account
from services.producer.files.decode import SourceUnusable
from services.producer.files.ending import NOT_ALL, Ending, Result, failures
from services.producer.files.inputs import source_key
from services.producer.files.read import MOST_OF_A_RECORD, Reader
from services.producer.files.reading import Reading
from services.producer.files.rejected import Rejected
from services.producer.loop import Totals
from services.producer.replays.following import Followed, next_file
from services.producer.replays.publish import opener_of
from services.producer.wiring import Parts, finish, publish_feed

_LOOK_S: Final = 0.2


class _OnlyLooked(Exception):
    """The record was looked at, and nothing is changed."""


class Following:
    """One file that is followed, through all that it was."""

    def __init__(self, parts: Parts, reading: Reading, path: Path) -> None:
        self._parts = parts
        self._reading = reading
        self._path = path
        self._key = source_key(path, reading.mapped)
        self._totals = Totals()
        self._account = Account()
        self._last: Result | None = None
        self._unreadable = 0
        self._run = ""
        self._has_looked = False
        self._ends = parts.clock.monotonic() + parts.told.duration_s

    def run(self) -> int:
        """Follow it until asked to stop; gives the exit code. Raises SourceUnusable."""
        clock = self._parts.clock
        while not clock.is_stopping() and (not self._parts.told.duration_s or clock.monotonic() < self._ends):
            known = self._look()
            file = self._next(known)
            if file is None:
                self._parts.health.turn()
                clock.sleep(_LOOK_S)
                continue
            try:
                with ExitStack() as stack:
                    self._publish(file, known, stack)
            except SourceUnusable:
                if file.exists():
                    raise
                # It was renamed after it was looked for.
        return self._finish()

    def _look(self) -> Replayed | None:
        """Give the record of what is published, without taking it over."""
        seen: list[Replayed] = []
        has_looked, self._has_looked = self._has_looked, True

        def keep(found: Replayed) -> None:
            seen.append(found)
            raise _OnlyLooked

        try:
            self._parts.side.take_over(self._key, keep)
        except _OnlyLooked:
            return seen[0]
        if not has_looked and not self._path.exists():
            raise SourceUnusable(f"{self._path}: {os.strerror(errno.ENOENT)}")
        return None

    def _next(self, known: Replayed | None) -> Path | None:
        """Tell which file is read next; None: it is not there yet."""
        if known is None:
            return self._path if self._path.exists() else None
        found = next_file(self._path, known.run.fingerprint, known.offset)
        if found is None:  # it may be renamed just now
            self._parts.clock.sleep(_LOOK_S)
            found = next_file(self._path, known.run.fingerprint, known.offset)
        if found is None and not known.is_done:
            self._parts.logger.warning(
                "followed_file_gone", extra={"file": str(self._path), "after_line": known.line}
            )
        found = found or self._path
        return found if found.exists() else None

    def _publish(self, file: Path, known: Replayed | None, stack: ExitStack) -> None:
        parts, logger = self._parts, self._parts.logger
        opener = opener_of(parts, self._reading, stack)
        sources: list[Followed] = []

        def follow(descriptor: int, name: str, is_stopping: Callable[[], bool]) -> Followed:
            sources.append(Followed(descriptor, name, is_stopping, self._path))
            return sources[-1]

        opener.file, opener.make = file, follow
        reader = opener.open()
        if not opener.is_exact:
            raise SourceUnusable(
                f"{file}: --follow reads lines as they are written: none that are packed, in UTF-16, or JSON "
                "of other forms"
            )
        behind: Position | None = None
        is_known = known is not None and sources[-1].is_same(known.run.fingerprint, known.offset)
        replayed = parts.side.take_over(self._key, lambda _: None) if is_known else None
        if replayed is not None:
            reader = opener.open((replayed.offset, replayed.line))
            if not sources[-1].is_same(replayed.run.fingerprint, replayed.offset):
                return  # it was renamed between the two looks
            behind = reader.pass_over(replayed.ahead, parts.clock.is_stopping)
            line = behind.line if behind else replayed.line
            logger.info("resumed", extra={"file": str(file), "run": replayed.run.name, "after_line": line})
            begins, run = replayed.run.fingerprint, replayed.run
        else:
            if not self._waits_for_a_row(sources[-1], reader):
                return
            begins = sources[-1].fingerprint()
        open_new = functools.partial(parts.side.open_run, self._path.name, self._key, begins)
        run = open_new() if replayed is None else replayed.run
        ending = Ending(reader, self._reading, is_resumed=replayed is not None)
        rejected = Rejected(
            parts.told.settings.data_dir,
            self._path.name,
            begins.rpartition(":")[2],
            logger,
            after_line=0 if replayed is None else replayed.line,
        )
        ending.rejected = reader.refusals = stack.enter_context(closing(rejected))
        reader.half = lambda: "refuse" if sources[-1].change == "renamed" else "wait"
        self._run = publish_feed(
            parts,
            reader,
            run,
            open_new,
            duration_s=max(0.001, self._ends - parts.clock.monotonic()) if parts.told.duration_s else 0.0,
            totals=self._totals,
            behind=behind,
            on_batch=reader.confirm,
            most_of_a_record=MOST_OF_A_RECORD,
        )
        self._last = ending.result()
        self._account.add(self._last.account)
        self._unreadable += self._last.unreadable
        if sources[-1].change:
            logger.info("file_rotated", extra={"file": str(file), "how": sources[-1].change})

    def _waits_for_a_row(self, source: Followed, reader: Reader) -> bool:
        """Wait for the first line behind the header: by it a file is told from the next one."""
        clock = self._parts.clock
        while not clock.is_stopping() and not source.change:
            self._parts.health.turn()
            if source.has_line_behind(reader.position[0]):
                return True
            clock.sleep(_LOOK_S)
        return False

    def _finish(self) -> int:
        last = self._last or Result(self._path.name, Account())
        total = Result(
            self._path.name,
            self._account,
            is_known=True,
            after_line=last.after_line,
            unreadable=self._unreadable,
            unreadable_lines=last.unreadable_lines,
            rejected_file=last.rejected_file,
            left_out=last.left_out,
            times_twice=last.times_twice,
        )
        told = failures([total], self._reading.max_rejected)
        finish(
            self._parts, self._run, self._totals, {**total.as_record(), "failures": told, "is_followed": True}
        )
        return NOT_ALL if told else 0
