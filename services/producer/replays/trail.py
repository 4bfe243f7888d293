"""One path that is followed: publish what is appended to it, whatever its writer renames or empties.

What is read next is told by the run's record and the folder alone, so a restart after a kill is no case of
its own: the path, where it is the file of the record; or else the rest of that file under its other name,
then the files that were begun after it, and then the path.
"""

import functools
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.contract.producing.outgoing import Position
from services.contract.producing.publishing import Replayed
from services.producer.files.decode import SourceUnreadable, SourceUnusable
from services.producer.files.ending import Ending, Result
from services.producer.files.inputs import source_key
from services.producer.files.lines import Half
from services.producer.files.read import MOST_OF_A_RECORD, Reader
from services.producer.files.reading import Reading
from services.producer.files.rejected import Rejected
from services.producer.loop import Loop, Totals
from services.producer.pace import Pacer
from services.producer.replays.begun import Begun
from services.producer.replays.following import Followed, Look, NotYet, look_at, next_file
from services.producer.replays.publish import opener_of
from services.producer.wiring import Parts, loop_of

_RENAMED_S: Final = 0.2
"""How long a file may be without a name, while it is renamed."""
_AGAIN_S: Final = 5.0
"""Until a file that the system did not give is tried again."""


class _OnlyLooked(Exception):
    """The record was looked at, and nothing is changed."""


@dataclass(slots=True)
class _Piece:
    """One file under the path, opened."""

    file: Path
    source: Followed
    reader: Reader
    stack: ExitStack
    """Closes it."""
    replayed: Replayed | None = None
    """How far it was published before."""
    behind: Position | None = None
    loop: Loop | None = None
    """What publishes it; None: it has no row so far."""
    ending: Ending | None = None


class Trail:
    """A path, through all the files that it was.

    `told` is called with what came of each; what is one of the `others` by itself is none of them.
    """

    def __init__(
        self,
        parts: Parts,
        reading: Reading,
        path: Path,
        pacer: Pacer,
        totals: Totals,
        told: Callable[[Result], None],
        others: Mapping[Path, "Trail"],
    ) -> None:
        self.path = path
        self.run = ""
        """The last run that was written."""
        self.is_single = False
        """Whether it is over with the first of its files: what comes to its name then was another path's."""
        self.is_over = False
        self.idle_since = parts.clock.monotonic()
        """Monotonic seconds."""
        self._parts = parts
        self._reading = reading
        self._key = source_key(path, reading.mapped)
        self._pacer = pacer
        self._totals = totals
        self._told = told
        self._others = others
        self._piece: _Piece | None = None
        self._looked: list[Look | None] = []
        """What was there when a file to read was last looked for; empty: one is to be looked for."""
        self.begun = Begun(path, parts.clock.monotonic)
        self._again_at = float("-inf")
        """Monotonic seconds; before them it is left alone."""

    @property
    def is_open(self) -> bool:
        """Tell whether a file is open."""
        return self._piece is not None

    @property
    def is_at_rest(self) -> bool:
        """Tell whether there is nothing to read before something comes to the path."""
        return self._piece is None and self._looked == [None]

    def record(self) -> Replayed | None:
        """Give what is published of the path, without taking it over. Raises Stopping and BrokerRefuses."""
        seen: list[Replayed] = []

        def keep(found: Replayed) -> None:
            seen.append(found)
            raise _OnlyLooked

        try:
            self._parts.side.take_over(self._key, keep)
        except _OnlyLooked:
            return seen[0]
        return None

    def turn(self) -> bool:
        """Publish a batch, if there is more just now; tells whether something was done.

        Raises SourceUnusable, Stopping and BrokerRefuses.
        """
        now = self._parts.clock.monotonic
        try:
            is_busy = now() >= self._again_at and self._turn()
        except SourceUnreadable:
            self._again_at, self._looked = now() + _AGAIN_S, []
            self.close([])  # what was read and not published is read again
            raise
        if is_busy:
            self.idle_since = now()
        return is_busy

    def close(self, looked: list[Look | None] | None = None) -> None:
        """Let go of the file; it is opened again once what is there is not what was `looked` at."""
        if self._piece is None:
            return
        piece, self._piece = self._piece, None
        self._looked = self._all_read(piece.source) if looked is None else looked
        without_a_row = piece.source.look() if piece.loop is None else None
        with piece.stack:
            if piece.loop is not None and piece.ending is not None:
                piece.loop.publisher.end()
                self.run = piece.loop.publisher.run.name
                self._told(piece.ending.result())
        if piece.source.change:
            self.is_over = self.is_single
            self.begun.ended(without_a_row)
            told = {"file": str(piece.file), "how": piece.source.change}
            self._parts.logger.info("file_rotated", extra=told)

    def _turn(self) -> bool:
        if self._piece is None:
            self._piece = self._next_piece()
        piece = self._piece
        if piece is None:
            return False
        if piece.loop is None:
            # By its first line behind the header a file is told from the next one.
            if piece.replayed is None and not piece.source.has_line_behind(piece.reader.position[0]):
                if piece.source.change:
                    self.close()
                return False
            piece.loop = self._begin(piece)
        before = piece.reader.position
        if not piece.loop.publish_next():
            if piece.reader.broken:
                self.close([look_at(self.path)])
                raise SourceUnusable(piece.reader.broken)
            self.close()
            return True
        return piece.reader.position != before

    def _all_read(self, source: Followed) -> list[Look | None]:
        """Give what is there, where all of it is read; of what was rotated the next file is there already."""
        look = look_at(self.path)
        if source.change == "removed" and look is None:
            return [None]
        with suppress(SourceUnreadable):
            if look is not None and not source.change and source.is_read_to(*look[:3]):
                return [look]
        return []

    def _next_piece(self) -> _Piece | None:
        """Open the file that is read next; None: there is none, or not enough of it."""
        look = look_at(self.path)
        if self.is_over or self._looked == [look]:
            return None
        self._looked = [look]
        known = self.record()
        file = self.begun.elsewhere(look) or self._next(known)
        if file is None:
            return None
        if self.is_single and not self.begun.is_of_path(look_at(file)):
            self.is_over = True
            return None
        with ExitStack() as stack:
            try:
                piece = self._open(file, known, stack)
            except NotYet:
                if self.begun.is_without_header(file):
                    self._looked = []
                return None
            except SourceUnreadable:
                if look_at(file) is not None:
                    raise
                piece = None  # it was renamed after it was looked for
            except SourceUnusable:
                if self.begun.is_unusable(file):
                    self._looked = []
                raise
            if piece is None:
                self._looked = []
            else:
                self.begun.opened(is_recorded=piece.replayed is not None)
                piece.stack = stack.pop_all()
            return piece

    def _is_left_out(self, file: Path) -> bool:
        """Tell whether a file that may have been under the path is none to read."""
        look, other = look_at(file), self._others.get(file)
        is_by_itself = other is not None and not other.is_over and other.begun.is_of_path(look)
        return is_by_itself or self.begun.is_passed(look)

    def _next(self, known: Replayed | None) -> Path | None:
        """Tell which file is read next; None: it is not there yet."""
        if known is None:
            return self.path if look_at(self.path) is not None else None
        found = next_file(self.path, known.run.fingerprint, known.offset, self._is_left_out)
        if found is None:  # it may be renamed just now
            self._parts.clock.sleep(_RENAMED_S)
            found = next_file(self.path, known.run.fingerprint, known.offset, self._is_left_out)
        if found is None and not known.is_done:
            self._parts.logger.warning(
                "followed_file_gone", extra={"file": str(self.path), "after_line": known.line}
            )
        found = found or self.path
        return found if look_at(found) is not None else None

    def _open(self, file: Path, known: Replayed | None, stack: ExitStack) -> _Piece | None:
        """Open a file, behind what is published of it; None where it is another one by now."""
        parts = self._parts
        opener = opener_of(parts, self._reading, stack)
        sources: list[Followed] = []

        def follow(descriptor: int, name: str, is_stopping: Callable[[], bool]) -> Followed:
            sources.append(Followed(descriptor, name, is_stopping, self.path, parts.clock.monotonic))
            self.begun.inode = sources[-1].inode
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
                return None  # it was renamed between the two looks
            behind = reader.pass_over(replayed.ahead, parts.clock.is_stopping)
            line = behind.line if behind else replayed.line
            parts.logger.info(
                "resumed", extra={"file": str(file), "run": replayed.run.name, "after_line": line}
            )
        sources[-1].is_opening = False
        return _Piece(file, sources[-1], reader, stack, replayed, behind)

    def _begin(self, piece: _Piece) -> Loop:
        """Open its run, or go on with it."""
        parts, replayed, reader, source = self._parts, piece.replayed, piece.reader, piece.source
        self.begun.recorded()
        begins = source.fingerprint() if replayed is None else replayed.run.fingerprint
        open_new = functools.partial(parts.side.open_run, self.path.name, self._key, begins)
        run = open_new() if replayed is None else replayed.run
        ending = piece.ending = Ending(reader, self._reading, is_resumed=replayed is not None)
        rejected = Rejected(
            parts.told.settings.data_dir,
            self.path.name,
            begins.rpartition(":")[2],
            parts.logger,
            after_line=0 if replayed is None else replayed.line,
        )
        ending.rejected = reader.refusals = piece.stack.enter_context(closing(rejected))

        def half() -> Half:
            return "refuse" if source.change in {"renamed", "removed"} else "wait"

        reader.half = half
        return loop_of(
            parts,
            reader,
            run,
            open_new,
            self._pacer,
            totals=self._totals,
            behind=piece.behind,
            on_batch=reader.confirm,
            most_of_a_record=MOST_OF_A_RECORD,
        )
