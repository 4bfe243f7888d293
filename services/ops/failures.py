"""What the errors of a command come to: one line for a person, and an exit code.

1   it was done, and something is wrong: an event is missing, a letter or a file can't be read
2   it could not be done: an argument or a setting is wrong, or what they lead to can't be used
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.contract.errors import EntryDamaged, PipelineError
from services.runtime.settings import SettingsInvalid


class CommandFailed(Exception):
    """A command can't go on; the message says why, and what to do, and `details` more of it by the line."""

    def __init__(self, message: str, exit_code: int = 1, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.details = tuple(details)


_BESIDE_A_PRODUCER: Final = ("services.producer", "services.ops.inspect", "services.ops.publish")
"""What the image of the consumer lacks: the producer, and what works with it alone."""
_OUTPUT_FAILS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What a write to it comes to, where no file is named."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How a command ends that failed."""

    message: str
    exit_code: int
    details: tuple[str, ...] = ()
    """Lines below it."""
    is_of_output: bool = False
    """Whether the answer could not be written."""


def failure_of(error: BaseException) -> Failure | None:
    """Say how an error ends the command; None for one that is a bug, or not an error at all."""
    if isinstance(error, CommandFailed):
        return Failure(str(error), error.exit_code, error.details)
    if isinstance(error, SettingsInvalid):
        return Failure(error.lines[0], 2, tuple(error.lines[1:]))
    if isinstance(error, PipelineError):
        return Failure(str(error), 1 if isinstance(error, EntryDamaged) else 2)
    if isinstance(error, UnicodeEncodeError):
        return Failure(f"an argument is not UTF-8: {error.object!r}", 2)
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith(_BESIDE_A_PRODUCER):
        return Failure("the producer is not installed here: an image of the consumer has none", 2)
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError) and error.filename:
        return Failure(f"{error.filename}: {error.strerror}", 2)
    if isinstance(error, OSError) and error.errno in _OUTPUT_FAILS:
        return Failure(f"standard output: {error.strerror}", 1, is_of_output=True)
    return None
