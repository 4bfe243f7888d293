"""What becomes of columns that are no field of an event: kept as attributes, or counted. Pure."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

OTHERS: Final = "(others)"
"""What columns are counted as that have no count of their own."""
_MOST_NAMED: Final = 100
_LONGEST_NAMED: Final = 128


def kept(texts: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """Give what is kept of a record as attributes: those of these columns that are not empty."""
    found = {name: _text(texts.get(name)) for name in columns}
    return {name: text for name, text in found.items() if text != ""}


class LeftOut:
    """Counts, by name, values in columns that are not published. Bounded, whatever the columns are called."""

    def __init__(self, published: Collection[str]) -> None:
        self._published = frozenset(published)
        self.counts: Counter[str] = Counter()

    def saw(self, texts: Mapping[str, Any]) -> None:
        """Count what is left out of a record; an empty text is nothing."""
        for name, value in texts.items():
            if name in self._published or value == "":
                continue
            is_named = name in self.counts or (len(self.counts) < _MOST_NAMED and len(name) <= _LONGEST_NAMED)
            self.counts[name if is_named else OTHERS] += 1


def _text(value: Any) -> Any:
    """Give what a reader makes of a value as a text; what is none stays, and is refused with its name."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value
