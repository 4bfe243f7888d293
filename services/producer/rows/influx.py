"""InfluxDB line protocol: `measurement,tag=text field=1.5,other=2i 1710028800000000000`.

Why it is ours: docs/decisions/0064. The grammar is InfluxDB's own: a backslash escapes comma, blank and =.
"""

import re
from typing import Any, Final

from services.producer.rows.problem import Problem
from services.producer.rows.table import text_of

MEASUREMENT: Final = "measurement"
FIELD: Final = "field"
VALUE: Final = "value"
TIME: Final = "time"
"""Names under which a line's parts are found beside its tags."""

_KEY: Final = r"(?:\\.|[^\\,= ])+"
_HEAD: Final = re.compile(rf"(?P<measurement>(?:\\.|[^\\, ])+)(?P<tags>(?:,{_KEY}={_KEY})*) +")
_PAIR: Final = re.compile(rf",?({_KEY})=({_KEY})")
_FIELD: Final = re.compile(rf'({_KEY})=("(?:\\.|[^"\\])*"|[^ ,"]+)(,|(?= |$))')
_NUMBER: Final = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)[iu]?")
_ESCAPE: Final = re.compile(r"\\([,= \\])")


def parse_line(data: bytes) -> dict[str, Any]:
    """Read a line: its tags by their names, `measurement`, `time`, and `fields`, the numbers alone.

    Raises Problem.
    """
    text = text_of(data).strip()
    head = _HEAD.match(text)
    if head is None:
        raise Problem("not line protocol: write measurement,tag=text field=1.5 time", "not line protocol")
    found: dict[str, Any] = {_plain(name): _plain(value) for name, value in _PAIR.findall(head["tags"])}
    fields: dict[str, str] = {}
    at = head.end()
    while (field := _FIELD.match(text, at)) is not None:
        if number := _NUMBER.fullmatch(field[2]):
            fields[_plain(field[1])] = number[1]
        at = field.end()
        if field[3] != ",":
            break
    else:
        raise Problem("not line protocol: a field=value is wanted behind the tags", "not line protocol")
    found |= {MEASUREMENT: _plain(head["measurement"]), "fields": fields}
    if time := text[at:].strip():
        found[TIME] = time
    return found


def rows_of(line: dict[str, Any], *, is_wide: bool) -> list[dict[str, Any]]:
    """Make rows of a line that was read: one of all its fields where it `is_wide`, else one of each."""
    fields = line.pop("fields")
    if is_wide:
        return [{**fields, **line}]
    return [{**line, FIELD: name, VALUE: value} for name, value in fields.items()]


def _plain(text: str) -> str:
    return _ESCAPE.sub(r"\1", text) if "\\" in text else text
