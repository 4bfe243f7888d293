"""The refused lines of a file, all of them, where they can be looked at and mended.

    DATA_DIR/rejected/NAME-KEY.jsonl    a JSON object a refusal: line, reason, text

KEY is that of the file's replay. A replay that goes on keeps what was refused before its place.
"""

import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from services.runtime.own_files import open_own

FOLDER: Final = "rejected"
_MOST_TEXT: Final = 8192
"""Characters of a line that are kept: its number finds the rest."""
_UNUSUAL: Final = re.compile(r"[^\w.-]+")


class Rejected:
    """Writes refusals. Where the folder can't be written, that is said once, and reading goes on."""

    def __init__(
        self, data_dir: Path, name: str, key: str, logger: logging.Logger, *, after_line: int = 0
    ) -> None:
        self.path = data_dir / FOLDER / f"{_UNUSUAL.sub('_', name)[:80]}-{key[:12]}.jsonl"
        self._logger = logger
        self._after_line = after_line
        self._file: IO[bytes] | None = None
        self._is_useless = False
        if not after_line:
            self._attempt(lambda: self.path.unlink(missing_ok=True))

    @property
    def is_kept(self) -> bool:
        """Whether there is a file, with all that was refused."""
        return self._file is not None and not self._is_useless

    def add(self, line: int, reason: str, data: bytes) -> None:
        """Keep a refusal."""
        text = data.decode("utf-8", "backslashreplace").rstrip("\r\n")
        entry = {"line": line, "reason": reason, "text": text[:_MOST_TEXT]}
        self._attempt(lambda: self._write(json.dumps(entry).encode() + b"\n"))

    def flush(self) -> None:
        """Give it to the system."""
        if self._file is not None:
            self._attempt(self._file.flush)

    def close(self) -> None:
        """Close it."""
        if self._file is not None:
            self._attempt(self._file.close)

    def _write(self, entry: bytes) -> None:
        if self._file is None:
            self._file = self._open()
        self._file.write(entry)

    def _open(self) -> IO[bytes]:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept = self._kept() if self._after_line else None
        descriptor = open_own(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        if kept is not None:
            os.truncate(descriptor, kept)
        return os.fdopen(descriptor, "ab")

    def _kept(self) -> int:
        """Give how many bytes are of lines before the place where the replay goes on."""
        end = 0
        try:
            with self.path.open("rb") as file:
                for one in file:
                    if not one.endswith(b"\n") or json.loads(one)["line"] > self._after_line:
                        break
                    end += len(one)
        except (OSError, ValueError, LookupError, TypeError):
            pass
        return end

    def _attempt(self, what: Callable[[], object]) -> None:
        if self._is_useless:
            return
        try:
            what()
        except OSError as error:
            self._is_useless = True
            self._logger.warning(
                "refused_lines_not_kept",
                extra={"folder": str(self.path.parent), "error": str(error.strerror)},
            )
