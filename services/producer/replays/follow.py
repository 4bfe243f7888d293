"""Follow files, and those that come to a folder: publish what is appended, a batch of each in turn."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from services.contract.errors import Stopping
from services.producer.files.account import Account
from services.producer.files.decode import SourceUnusable
from services.producer.files.ending import NOT_ALL, Result, failures
from services.producer.files.listing import files_of, is_one_file, links_within
from services.producer.files.reading import Reading
from services.producer.loop import Totals
from services.producer.replays.following import is_packed, is_that, look_at, may_have_been, why_not_there
from services.producer.replays.trail import Trail
from services.producer.wiring import Parts, finish, pacer_of

_LOOK_S: Final = 0.2
"""Between two looks whether there is more."""
_LIST_S: Final = 1.0
"""Between two looks for new files."""
_MOST_OPEN: Final = 200
"""Files; the one that was silent for longest is closed for another."""
_MOST_NAMED: Final = 20


class Following:
    """All that is followed. A reading names a file, a folder or a pattern."""

    def __init__(self, parts: Parts, readings: Sequence[Reading]) -> None:
        self._parts = parts
        self._readings = readings
        self._is_one = len(readings) == 1 and is_one_file(readings[0].source)
        self._named = {Path(one.source).absolute() for one in readings if is_one_file(one.source)}
        self._is_first = True
        """Whether nothing was looked at so far: then what is wrong with a file that was named is refused."""
        self._trails: dict[Path, Trail] = {}
        """By path."""
        self._broken: dict[Path, str] = {}
        """Why a file can't be followed."""
        self._rotated: set[Path] = set()
        """Files that are what others were: they are read as those."""
        self._pacer = pacer_of(parts.told, parts.clock)
        self._totals = Totals()
        self._account = Account()
        self._left_out: Counter[str] = Counter()
        self._unreadable = self._times_twice = self._files = 0
        self._last = Result(Path(readings[0].source).name if self._is_one else "the files", Account())
        self._run = ""
        self._listed_at = float("-inf")
        self._ends = parts.clock.monotonic() + parts.told.duration_s

    def run(self) -> int:
        """Follow them until asked to stop; gives the exit code. Raises SourceUnusable and BrokerRefuses."""
        try:
            while self._goes_on():
                self._list()
                if not self._turn_all() and self._goes_on():
                    self._parts.clock.sleep(_LOOK_S)
                self._is_first = False
        except Stopping:
            self._parts.logger.warning(
                "stopped_while_waiting", extra={"hint": "the batch in hand was not confirmed"}
            )
        return self._finish()

    def _goes_on(self) -> bool:
        self._parts.health.turn()
        clock = self._parts.clock
        return not clock.is_stopping() and (not self._parts.told.duration_s or clock.monotonic() < self._ends)

    def _list(self) -> None:
        """Look for new files, and leave those that are gone."""
        now = self._parts.clock.monotonic()
        if now - self._listed_at < _LIST_S:
            return
        self._listed_at = now
        found: dict[Path, Reading] = {}
        for reading in self._readings:
            for name in files_of([reading.source], []):
                found.setdefault(Path(name).absolute(), reading)
        for path in links_within(found.keys() - self._named):
            del found[path]
        for path, trail in list(self._trails.items()):
            if trail.is_over or (path not in found and trail.is_at_rest):
                del self._trails[path]
        self._rotated &= found.keys()
        new = [one for one in found.items() if one[0] not in self._trails and one[0] not in self._rotated]
        # What was rotated before it was seen comes first: it is told by the record that the other has not.
        for path, reading in sorted(new, key=lambda one: not may_have_been(one[0])):
            trail = self._trail(path, reading)
            if self._is_first and path in self._named:
                if (why := why_not_there(path)) and trail.record() is None:
                    raise SourceUnusable(f"{reading.source}: {why}")
            elif (origin := self._origin(trail, reading, found)) is not None:
                self._rotated.add(path)
                self._trails.setdefault(origin.path, origin)
                self._parts.logger.info(
                    "taken_for_rotated", extra={"file": str(path), "origin": str(origin.path)}
                )
                continue
            self._trails[path] = trail

    def _trail(self, path: Path, reading: Reading) -> Trail:
        reading = replace(reading, source=str(path))
        return Trail(self._parts, reading, path, self._pacer, self._totals, self._add, self._trails)

    def _origin(self, trail: Trail, reading: Reading, found: dict[Path, Reading]) -> Trail | None:
        """Give the file that another one was before it was rotated; None: it is one by itself.

        Where nothing of that path is published, and it is not held open, nobody has read it under that name.
        """
        may_be = may_have_been(trail.path)
        trail.is_single = bool(may_be)
        known = trail.record() if may_be else None
        if known is not None and is_that(trail.path, known.run.fingerprint, known.offset):
            may_be = []  # it was one before another came to the name that it seems to be of
        look = look_at(trail.path)
        for path in may_be:
            other = self._trails.get(path) or self._trail(path, found.get(path, reading))
            holds_it = look is not None and other.begun.inode == look[:2]
            if holds_it or other.record() is not None or (is_packed(trail.path) and path in found):
                return other
        if not may_be or look is None:
            return None
        # One by itself is renamed again: app.csv.1 to app.csv.2.
        return next((one for one in self._trails.values() if one.begun.inode == look[:2]), None)

    def _make_room(self, opened: Trail) -> None:
        """Close the file that was silent for longest, where another one is too many."""
        others = [one for one in self._trails.values() if one.is_open and one is not opened]
        if len(others) >= _MOST_OPEN:
            min(others, key=lambda one: one.idle_since).close()

    def _turn_all(self) -> bool:
        """Publish a batch of each that has more; tells whether any had."""
        is_any = False
        for path, trail in list(self._trails.items()):
            while self._goes_on() and (wait := self._pacer.wait_s()):
                self._parts.clock.sleep(min(wait, _LIST_S))
            if not self._goes_on():
                break
            was_open = trail.is_open
            try:
                is_any = trail.turn() or is_any
            except SourceUnusable as error:
                if self._is_one or (self._is_first and path in self._named):
                    raise
                if path not in self._broken:
                    self._parts.logger.error("source_broken", extra={"error": str(error)})
                self._broken[path] = str(error)
            else:
                if trail.is_open and not was_open:
                    self._broken.pop(path, None)
                    self._make_room(trail)
        return is_any

    def _add(self, result: Result) -> None:
        """Count what came of one file."""
        self._last = result
        self._files += 1
        self._account.add(result.account)
        self._left_out.update(result.left_out)
        self._unreadable += result.unreadable
        self._times_twice += result.times_twice
        if not self._is_one:
            self._parts.logger.info("file_finished", extra=result.as_record())

    def _finish(self) -> int:
        for trail in self._trails.values():
            trail.close()
            self._run = trail.run or self._run
        last = self._last
        total = Result(
            last.name if self._is_one else f"{self._files} files",
            self._account,
            is_known=True,
            after_line=last.after_line if self._is_one else 0,
            unreadable=self._unreadable,
            unreadable_lines=last.unreadable_lines if self._is_one else (),
            rejected_file=last.rejected_file if self._is_one else "",
            left_out=self._left_out,
            times_twice=self._times_twice,
        )
        told = failures([total], self._readings[0].max_rejected) + list(self._broken.values())[:_MOST_NAMED]
        of_files = {} if self._is_one else {"files": self._files}
        finish(
            self._parts,
            self._run,
            self._totals,
            {**total.as_record(), "failures": told, "is_followed": True, **of_files},
        )
        return NOT_ALL if told else 0
