"""Letters of entries with many events, whichever version wrote them: a letter for each event in one.

A consumer that takes entries apart writes a letter for each event. It writes one for a whole entry where that
can't be taken apart, and a consumer of an earlier version does for every packed entry, since it knows none.
"""

from dataclasses import replace
from typing import Final

from services.contract.codec import LINES, MARK, Packed, RawFields, is_packed
from services.contract.consuming.letter import DeadLetter, event_of

_LINES: Final = LINES.decode()
_TRACE: Final = (b"traceparent", b"tracestate")


def whole_lines(fields: RawFields) -> Packed | None:
    """Read those lines of an entry that have their end, whatever else is wrong with it; None without any."""
    if not is_packed(fields):
        return None
    found = dict(zip(fields[::2], fields[1::2], strict=False))
    text, end, _ = found[LINES].rpartition(b"\n")
    trace = [part for name in _TRACE if name in found for part in (name, found[name])]
    return Packed(text + end, found[LINES].count(end), trace) if end else None


def single_letters(letter: DeadLetter) -> list[DeadLetter]:
    """Give a letter for each event in one, named as a consumer names it; one of one event is its own."""
    names = letter.event if isinstance(letter.event, dict) else [name for name, _ in letter.event]
    # Of nearly every letter this is all that is asked.
    if _LINES not in names or (packed := whole_lines(letter.fields)) is None:
        return [letter]
    return [
        replace(letter, entry_id=f"{letter.entry_id}{MARK.decode()}{number}", event=event_of(fields))
        for number, fields in enumerate(packed.events(), start=1)
    ]
