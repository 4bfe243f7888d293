"""What became of the lines of files, as the producer's log tells it: for people, and for --json."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_LAST_BYTES: Final = 1 << 20
_MOST_TOLD: Final = 5
"""Reasons that are told; --json has all."""
_LEFT_OUT: Final = {
    "header": "header",
    "skipped": "before the header",
    "after": "behind the header",
    "comment": "comment",
    "blank": "blank",
    "missing": "without a reading",
}


@dataclass(frozen=True, slots=True)
class FileAccount:
    """The account, where the reading stopped, and why that is no success."""

    file: str
    account: Mapping[str, Any]
    after_line: int
    failures: Sequence[str]
    rejected_file: str
    times_twice: int
    values_left_out: Mapping[str, int]
    """By the columns that are not published."""
    first_refused: Sequence[tuple[str, int, str]]
    """Files, lines and reasons."""
    is_followed: bool = False
    already_published: int = 0
    """Files that were, whole."""
    files: Sequence[Mapping[str, Any]] = ()
    """Of several, what came of each."""

    def as_record(self) -> dict[str, Any]:
        """Give it for --json."""
        return {
            "name": self.file,
            **self.account,
            "after_line": self.after_line,
            "failures": list(self.failures),
            "rejected_file": self.rejected_file or None,
            "times_twice": self.times_twice,
            "left_out": dict(self.values_left_out),
            **({"files": [_as_file(one) for one in self.files]} if self.files else {}),
        }

    def lines(self) -> list[str]:
        """Say it to a person."""
        account = self.account
        if self.already_published and not self.files:
            return [f"{self.file}: all of it was published before"]
        left_out = account["lines_left_out"]
        about = ", ".join(f"{_LEFT_OUT.get(why, why)} {count:,}" for why, count in left_out.items())
        told = [
            f"{self.file}: {account['unit']}={account['lines']} published={account['lines_published']} "
            f"refused={account['lines_refused']} left_out={sum(left_out.values())}"
            + (f" ({about})" if about else "")
        ]
        if self.already_published:
            told.append(f"  published before, whole: {self.already_published} of them")
        if account["events"] != account["lines_published"]:
            told.append(f"  as events: {account['events']:,}")
        if account["readings_refused"]:
            told.append(
                f"  readings refused, of {account['unit']} with others: {account['readings_refused']:,}"
            )
        reasons = list(account["reasons"].items())
        told += [f"  refused {count:,}: {reason}" for reason, count in reasons[:_MOST_TOLD]]
        for file, line, reason in self.first_refused:
            told.append(f"    {f'{file} ' if self.files else ''}line {line}: {reason}")
        if len(reasons) > _MOST_TOLD:
            told.append(f"  and for {len(reasons) - _MOST_TOLD} more reasons (--json)")
        kept = list(filter(None, [self.rejected_file, *(one.get("rejected_file", "") for one in self.files)]))
        told += [f"  each with its number and reason: {path}" for path in kept[:_MOST_TOLD]]
        if len(kept) > _MOST_TOLD:
            told.append(f"  and {len(kept) - _MOST_TOLD} more files beside these")
        if self.times_twice:
            told.append(f"  {self.times_twice:,} times were in an hour that comes twice (--time-twice)")
        if self.is_followed:
            where = f" after line {self.after_line}" if self.after_line else ""
            told.append(f"stopped{where}; the same command goes on there")
        told += [f"not all of {self.file} is published: {why}" for why in self.failures]
        if any("stopped" in why for why in self.failures):
            told.append("go on where it stopped: the same command, with --resume")
        return told


def read_account(log: Path) -> FileAccount | None:
    """Read it from the log of a producer that has ended; None where it published no file, or was killed."""
    refused: list[tuple[str, int, str]] = []
    try:
        size = log.stat().st_size
        with log.open("rb") as file:
            begins = file.read(_LAST_BYTES)
            file.seek(max(0, size - _LAST_BYTES))
            ends = file.read()
    except OSError:
        return None
    for text in begins.splitlines():
        if b'"line_unreadable"' in text and len(refused) < _MOST_TOLD:
            line = _parsed(text)
            refused.append((line.get("file", ""), line.get("line_number", 0), line.get("reason", "")))
    for text in reversed(ends.splitlines()):
        if b'"producer_finished"' in text:
            line = _parsed(text)
            if "account" in line:
                return FileAccount(
                    line["file"],
                    line["account"],
                    line["after_line"],
                    line["failures"],
                    line.get("rejected_file", ""),
                    line.get("times_twice", 0),
                    line.get("left_out", {}),
                    refused,
                    line.get("is_followed", False),
                    line.get("already_published", 0),
                    list(_files(log)) if "files" in line else (),
                )
    return None


def _files(log: Path) -> Iterator[Mapping[str, Any]]:
    with log.open("rb") as lines:
        for text in lines:
            if b'"file_finished"' in text and "account" in (line := _parsed(text)):
                yield line


def _as_file(line: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": line["file"],
        **line["account"],
        "after_line": line["after_line"],
        "rejected_file": line.get("rejected_file") or None,
    }


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:  # a producer that was killed may leave half a line
        return {}
    return found if isinstance(found, dict) else {}
