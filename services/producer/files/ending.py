"""How the reading of files ended: the account, where it stopped, and whether that is a failure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from services.producer.files.account import Account
from services.producer.files.read import Reader
from services.producer.files.reading import Reading
from services.producer.files.rejected import Rejected

NOT_ALL: Final = 3
"""Exit code: of the files not everything is published."""
STOPPED: Final = 4
"""Exit code: stopped before the end, and nothing else is wrong. Run again, it goes on there."""
_MOST_NAMED: Final = 100


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one file."""

    name: str
    account: Account
    stopped: str = ""
    """Why it was not read to its end; empty: it was."""
    may_go_on: bool = False
    """Whether it was stopped from outside, so that the same command goes on with it."""
    is_at_end: bool = True
    """Whether all of it was read: a pipe may have more when one stops, and that is no failure."""
    is_known: bool = False
    """Whether something of it was published before."""
    after_line: int = 0
    unreadable: int = 0
    unreadable_lines: Sequence[int] = ()
    rejected_file: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Values of columns that are not published."""
    times_twice: int = 0
    already_published: int = 0
    """Files that were, whole, before this began."""

    def as_record(self) -> dict[str, Any]:
        """Give all of it for a log line."""
        more = {
            "unreadable_lines": list(self.unreadable_lines),
            "rejected_file": self.rejected_file,
            "left_out": dict(self.left_out),
            "times_twice": self.times_twice,
            "already_published": self.already_published,
        }
        return {
            "unreadable": self.unreadable,
            **{name: value for name, value in more.items() if value},
            "file": self.name,
            "after_line": self.after_line,
            "account": self.account.as_record(),
        }


def failures(results: Sequence[Result], max_rejected: int, not_begun: Sequence[str] = ()) -> list[str]:
    """Say why what came of all files is no success; empty: it is one."""
    is_one = len(results) + len(not_begun) == 1
    found = [one.stopped if is_one else f"{one.name}: {one.stopped}" for one in results if one.stopped]
    if len(found) > _MOST_NAMED:
        found[_MOST_NAMED:] = [f"and {len(found) - _MOST_NAMED} more files were not read to their ends"]
    if not_begun:
        more = f" and {len(not_begun) - 3} more" if len(not_begun) > 3 else ""
        found.append(f"stopped before {', '.join(not_begun[:3])}{more} began")
    refused = _refused(results)
    if refused > max_rejected:
        found.append(f"{refused} refused, more than --max-rejected {max_rejected}")
    is_all = not found and all(one.is_at_end for one in results)
    if is_all and not any(one.account.events or one.is_known for one in results):
        found.append("nothing in it was published" if is_one else "nothing in them was published")
    return found


def exit_code(results: Sequence[Result], max_rejected: int, not_begun: Sequence[str] = ()) -> int:
    """Give that of the process: 0, NOT_ALL or STOPPED."""
    if not failures(results, max_rejected, not_begun):
        return 0
    was_stopped = bool(not_begun) or any(one.may_go_on for one in results)
    is_wrong = any(one.stopped and not one.may_go_on for one in results)
    return STOPPED if was_stopped and not is_wrong and _refused(results) <= max_rejected else NOT_ALL


def _refused(results: Sequence[Result]) -> int:
    return sum(one.account.refused + one.account.refused_readings for one in results)


def as_one_record(
    results: Sequence[Result], max_rejected: int, not_begun: Sequence[str] = ()
) -> dict[str, Any]:
    """Give what came of all files, as of one, for the producer's last line."""
    told = failures(results, max_rejected, not_begun)
    if len(results) + len(not_begun) == 1:
        return {**results[0].as_record(), "failures": told}
    account, left_out = Account(), Counter[str]()
    account.unit = results[0].account.unit if results else account.unit
    for one in results:
        account.add(one.account)
        left_out.update(one.left_out)
    total = Result(
        f"{len(results)} files",
        account,
        unreadable=sum(one.unreadable for one in results),
        left_out=left_out,
        times_twice=sum(one.times_twice for one in results),
        already_published=sum(one.already_published for one in results),
    )
    return {**total.as_record(), "failures": told, "files": len(results)}


@dataclass(slots=True)
class Ending:
    """What there is to say about a file when its reading has ended."""

    reader: Reader
    reading: Reading
    is_resumed: bool
    rejected: Rejected | None = None

    def result(self) -> Result:
        """Give it without the reader."""
        reader = self.reader
        is_kept = self.rejected is not None and self.rejected.is_kept
        return Result(
            name=reader.name,
            account=reader.published,
            stopped=self._stopped(),
            may_go_on=not (reader.broken or reader.waiting_line or self._reached_end),
            is_at_end=reader.is_at_end,
            is_known=self.is_resumed,
            after_line=reader.published_line,
            unreadable=reader.unreadable,
            unreadable_lines=reader.unreadable_lines,
            rejected_file=str(self.rejected.path) if is_kept and self.rejected else "",
            left_out=dict(reader.left_out),
            times_twice=reader.times.twice,
        )

    def failures(self) -> list[str]:
        """Say why this is no success; empty: it is one."""
        return failures([self.result()], self.reading.max_rejected)

    def _stopped(self) -> str:
        reader = self.reader
        if reader.broken:
            return f"it could not be read to its end: {reader.broken}"
        if reader.waiting_line:
            return (
                f"line {reader.waiting_line}, its last, has no end yet, so it waits: --resume goes on "
                "with it, and with --complete it is taken as it is"
            )
        return "" if self._reached_end else f"stopped after line {reader.published_line}, before its end"

    @property
    def _reached_end(self) -> bool:
        """Whether nothing is left. What has no end, such as a pipe, ends where one stops."""
        path = self.reading.path
        return self.reader.is_at_end or (path is None or not path.is_file())
