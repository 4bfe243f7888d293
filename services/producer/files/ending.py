"""How the reading of a file ended: its account, where it stopped, and whether that is a failure."""

from dataclasses import dataclass
from typing import Any, Final

from services.producer.files.read import Reader
from services.producer.files.reading import Reading
from services.producer.files.rejected import Rejected

NOT_ALL: Final = 3
"""Exit code: of a file not everything is published."""


@dataclass(slots=True)
class Ending:
    """What there is to say about a file when its reading has ended."""

    reader: Reader
    reading: Reading
    is_resumed: bool
    rejected: Rejected | None = None

    def failures(self) -> list[str]:
        """Say why this is no success; empty: it is one."""
        reader, account = self.reader, self.reader.published
        refused = account.refused + account.refused_readings
        found = []
        if reader.broken:
            found.append(f"it could not be read to its end: {reader.broken}")
        elif reader.waiting_line:
            found.append(
                f"line {reader.waiting_line}, its last, has no end yet, so it waits: --resume goes on "
                "with it, and with --complete it is taken as it is"
            )
        elif not self._reached_end:
            found.append(f"stopped after line {reader.published_line}, before its end")
        if refused > self.reading.max_rejected:
            found.append(f"{refused} refused, more than --max-rejected {self.reading.max_rejected}")
        if not account.events and reader.is_at_end and not self.is_resumed:
            found.append("nothing in it was published")
        return found

    @property
    def _reached_end(self) -> bool:
        """Whether nothing is left. What has no end, such as a pipe, ends where one stops."""
        path = self.reading.path
        return self.reader.is_at_end or (path is None or not path.is_file())

    def as_record(self) -> dict[str, Any]:
        """Give all of it for the producer's last line."""
        reader = self.reader
        more: dict[str, Any] = {}
        if reader.unreadable_lines:
            more["unreadable_lines"] = reader.unreadable_lines
        if self.rejected is not None and self.rejected.is_kept:
            more["rejected_file"] = str(self.rejected.path)
        if reader.left_out:
            more["left_out"] = dict(reader.left_out)
        if reader.times.twice:
            more["times_twice"] = reader.times.twice
        return {
            "unreadable": reader.unreadable,
            **more,
            "file": reader.name,
            "after_line": reader.published_line,
            "account": reader.published.as_record(),
            "failures": self.failures(),
        }
