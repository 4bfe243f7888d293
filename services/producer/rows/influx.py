"""InfluxDB line protocol: `measurement,tag=text field=1.5,other=2i 1710028800000000000`.

Why it is ours: docs/decisions/0064. The grammar is InfluxDB's own: a backslash escapes comma, blank and =.
"""

import re
from collections.abc import Iterator
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
_TEXT: Final = r'"(?:[^"\\]|\\(?s:.))*"'
_FIELD: Final = re.compile(rf'({_KEY})=({_TEXT}|[^ ,"]+)(,|(?= |$))')
_NUMBER: Final = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)[iu]?")
_LINE: Final = re.compile(
    rb"[^\S\n]*+(?:#[^\n]*+|(?:\\[^\n]|[^ \n])*+"  # a comment, or all up to the first blank
    rb'(?: (?:[^"=\\\n]++|="(?:[^"\\]++|\\(?s:.))*+"|\\[^\n]|[^\n])*+)?)'  # and the fields, with their texts
)
_ESCAPE: Final = re.compile(r"\\([,= \\])")


def lines_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Give each line, without its end, behind its number, from 1.

    A text of a field may have line breaks in it. What stands behind one is no line, whatever it looks like.
    """
    if b'"' not in data:
        yield from enumerate(data.split(b"\n"), 1)
        return
    number, at = 1, 0
    while at <= len(data):
        found = _LINE.match(data, at)
        assert found is not None  # noqa: S101 - it matches nothing, too
        yield number, found[0]
        number += 1 + found[0].count(b"\n")
        at = found.end() + 1


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
