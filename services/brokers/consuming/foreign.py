"""What others have written, read without trust: bytes that may be no text, texts that may be no numbers.

Names of consumers and groups, run records, the audit's record and limits are written by whoever may write to
the server. Nothing of it raises here: it is a value, or it is none.
"""

import math
import re
from typing import Final

LONGEST_NAME: Final = 256
"""Bytes of a name that are shown; a longer one is cut. It need not be one of ours."""

_WHOLE: Final = re.compile(rb"\s*\+?\d{1,20}(?:\.0*)?\s*")


def name_of(raw: bytes) -> str:
    r"""Read a name for people: what is no UTF-8 is written as \xff, and a long one is cut."""
    text = raw[:LONGEST_NAME].decode(errors="backslashreplace")
    return f"{text}…" if len(raw) > LONGEST_NAME else text


def whole_of(raw: bytes | None, most: int) -> int | None:
    """Read a whole number of 0 to `most`; None for anything else."""
    if raw is None or not _WHOLE.fullmatch(raw[: LONGEST_NAME + 1]):
        return None
    found = int(raw.partition(b".")[0])
    return found if found <= most else None


def number_of(raw: bytes | None) -> float | None:
    """Read a finite number; None for anything else."""
    if raw is None or len(raw) > LONGEST_NAME:
        return None
    try:
        found = float(raw)
    except ValueError:
        return None
    return found if math.isfinite(found) else None
