"""Every warning and error at most once in ten seconds, by kind; and how many were held back.

A kind is the message with what bounds it: stage, part, kind and category, and a reason that is a word.
Lines of others, whose messages are sentences with values in them, are told apart by who wrote them where.

What was held back is told: by the next line of its kind, or else by the last one of them, written as it was,
before the next line of any kind that comes when the ten seconds are over, and at the end of the process.
"""

import logging
import math
import traceback
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Final

INTERVAL_S: Final = 10.0
_MOST_KINDS: Final = 500
_NEVER_HELD: Final = frozenset({"line_unreadable"})
"""Each is about another line of a file, which nobody finds again by a number; bounded where it is written."""
_PARTS: Final = ("stage", "part", "kind", "category", "reason")


@dataclass(slots=True)
class _Kind:
    over_at: float
    held: int = 0
    last: logging.LogRecord | None = None


class Repeats:
    """Holds back what repeats. What ends the process (CRITICAL), or is no warning, always passes."""

    def __init__(self, monotonic: Callable[[], float], interval_s: float = INTERVAL_S) -> None:
        self._monotonic = monotonic
        self._interval_s = interval_s
        self._kinds: dict[Hashable, _Kind] = {}
        self._next_told = math.inf
        """When the first kind is over that has something held back."""

    def passes(self, record: logging.LogRecord) -> bool:
        """Tell whether to write a record now; it then has `held_back`, where some were."""
        is_free = isinstance(record.msg, str) and record.msg in _NEVER_HELD
        if is_free or not logging.WARNING <= record.levelno < logging.CRITICAL:
            return True
        now = self._monotonic()
        key = self._key(record)
        kind = self._kinds.get(key)
        if kind is None or now >= kind.over_at:
            if kind is not None and kind.held:
                record.held_back = kind.held
            self._kinds[key] = _Kind(now + self._interval_s)
            return True
        kind.held += 1
        kind.last = _kept(record)
        self._next_told = min(self._next_told, kind.over_at)
        return False

    @property
    def has_held(self) -> bool:
        """Whether anything is held back that is still to be told of."""
        return self._next_told != math.inf

    def overdue(self) -> Iterator[logging.LogRecord]:
        """Give the last record of each kind whose time is over with some held back."""
        if self._monotonic() < self._next_told:
            return
        yield from self._told(self._monotonic())

    def rest(self) -> Iterator[logging.LogRecord]:
        """Give the last record of each kind that has some held back: this is the end."""
        yield from self._told(math.inf)

    def _told(self, now: float) -> Iterator[logging.LogRecord]:
        for kind in tuple(self._kinds.values()):
            if kind.held and kind.last is not None and now >= kind.over_at:
                record = kind.last
                if kind.held > 1:
                    record.held_back = kind.held - 1
                kind.over_at = self._monotonic() + self._interval_s
                kind.held, kind.last = 0, None
                yield record
        self._next_told = min((kind.over_at for kind in self._kinds.values() if kind.held), default=math.inf)

    def _key(self, record: logging.LogRecord) -> Hashable:
        message = record.msg
        if not (isinstance(message, str) and message.isidentifier()):
            key: Hashable = (record.name, record.pathname, record.lineno)
        else:
            key = (message, *(_word(getattr(record, part, None)) for part in _PARTS))
        if key not in self._kinds and len(self._kinds) >= _MOST_KINDS:
            self._forget()
            if len(self._kinds) >= _MOST_KINDS:
                return record.levelno
        return key

    def _forget(self) -> None:
        now = self._monotonic()
        self._kinds = {key: kind for key, kind in self._kinds.items() if kind.held or now < kind.over_at}


def _word(value: object) -> str | None:
    """Give a word of a bounded vocabulary; a sentence has no end of them."""
    return value if isinstance(value, str) and value.isidentifier() else None


def _kept(record: logging.LogRecord) -> logging.LogRecord:
    """Let go of what a record holds alive: arguments, and the frames of a traceback."""
    if record.args:
        record.msg, record.args = record.getMessage(), None
    if record.exc_info and record.exc_info[1] is not None:
        record.exc_text = "".join(traceback.format_exception_only(record.exc_info[1]))
        record.exc_info = None
    return record
