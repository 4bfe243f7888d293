"""The files of a path that no record tells of, since no row of them is published so far."""

from collections.abc import Callable
from pathlib import Path

from services.producer.replays.following import SILENT_S, Inode, Look, look_at, rotated_to


class Begun:
    """What this process alone knows of the files under a path."""

    def __init__(self, path: Path, monotonic: Callable[[], float]) -> None:
        self.inode: Inode | None = None
        """Of the file that was opened last; None where that has ended."""
        self._path = path
        self._monotonic = monotonic
        self._is_waiting = False
        """Whether that file has no record, and may have a row later."""
        self._ends_at: float | None = None
        """When nothing more is waited for in a file that has another name, and no header."""
        self._passed: set[Look | None] = set()
        """Files under other names that nothing is to be read of, as they are."""

    def opened(self, *, is_recorded: bool) -> None:
        """Note that the header of the file is read."""
        self._is_waiting, self._ends_at = not is_recorded, None

    def recorded(self) -> None:
        """Note that a record tells of the file, and by that of what is read next."""
        self._is_waiting = False
        self._passed.clear()

    def ended(self, without_a_row: Look | None) -> None:
        """Note that nothing more comes in the file."""
        self._is_waiting, self.inode = False, None
        self._passed.add(without_a_row)

    def is_unusable(self, file: Path) -> bool:
        """Note that nothing of a file can be read as it is; tells whether the next one can."""
        self._is_waiting = False
        if file == self._path:
            return False
        self._passed.add(look_at(file))
        return True

    def is_without_header(self, file: Path) -> bool:
        """Note that a file has no header so far; tells whether to look again before the path changes."""
        self._is_waiting = True
        if file == self._path:
            return False
        now = self._monotonic()
        if self._ends_at is None:
            self._ends_at = now + SILENT_S  # its writer may go on for a moment
        elif now >= self._ends_at:
            self._passed.add(look_at(file))
            self._is_waiting, self._ends_at = False, None
        return True

    def elsewhere(self, look: Look | None) -> Path | None:
        """Give the file where it has another name; `look` is at the path. Raises SourceUnreadable."""
        if not self._is_waiting or self.inode is None or (look is not None and look[:2] == self.inode):
            return None
        found = rotated_to(self._path, self.inode)
        self._is_waiting = found is not None
        return found

    def is_of_path(self, look: Look | None) -> bool:
        """Tell whether a file under the path is the one that was opened last; any may be before the first."""
        return self.inode is None or look is None or look[:2] == self.inode

    def is_passed(self, look: Look | None) -> bool:
        """Tell whether nothing is to be read of a file as it is."""
        return look in self._passed
