"""Paths in JSON, and the lists of readings in it, as columns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.ops.inspect.beginning import Held
from services.ops.inspect.columns import MOST_CELLS, Column
from services.ops.inspect.names import is_no_reading, rank
from services.producer.files.decode import BOM, SourceBroken
from services.producer.files.documents import Documents
from services.producer.rows.influx import FIELD, VALUE, parse_line
from services.producer.rows.nested import COLUMNS, parse_json, path_of_lists, unfold
from services.producer.rows.problem import Problem

_MOST_PATHS: Final = 300
_LONGEST_LINE: Final = 1 << 14
"""Bytes of line protocol: its parser takes memory with each of them."""
_DEEPEST: Final = 8
_SHORT_LIST: Final = 3
_SENML: Final = frozenset({"bn", "bt", "bu", "n", "u", "v", "vs", "vb", "t", "s", "bv", "bs", "ut", "bver"})


@dataclass(slots=True)
class SeenJson:
    """What JSON holds."""

    columns: list[Column]
    readings: str = ""
    is_senml: bool = False


def see_json(text: bytes, name: str, *, is_lines: bool, readings: str = "") -> SeenJson:
    """Look at the first documents: their paths, and the lists in which the readings are."""
    found, is_listed = _documents(text, name, is_lines=is_lines)
    objects = [one for one in found if isinstance(one, dict)]
    if (
        objects
        and all(name in _SENML or name.endswith("_") for one in objects for name in one)
        and any({"n", "bn"} & one.keys() for one in objects)
    ):
        return SeenJson([], is_senml=True)
    if not readings and (path := _lists(objects) or _side_by_side(objects)):
        readings = f"[]{path}" if is_listed and path == COLUMNS else f"[].{path}" if is_listed else path
    if not readings:
        return SeenJson(_columns([dict(_leaves(one)) for one in objects]))
    first, others = path_of_lists(readings)
    steps = others if is_listed and not first else (first, *others)
    rows: list[dict[str, str | None]] = []
    for one in found:
        for scopes in _unfolded(one, steps, has_columns=readings.endswith(COLUMNS)):
            leaves: dict[str, str | None] = {}
            for scope in (scopes[0], *map(_without_lists, scopes[1:])):
                # What is nearer is found first.
                for path, text_of_it in _leaves(scope):
                    leaves.setdefault(path, text_of_it)
            rows.append(leaves)
            if len(rows) >= MOST_CELLS:
                break
    return SeenJson(_columns(rows), readings)


def see_line_protocol(text: bytes) -> list[Column]:
    """Look at line protocol: its tags, and each field as a reading."""
    rows: list[dict[str, str | None]] = []
    for line in text.split(b"\n", MOST_CELLS)[:MOST_CELLS]:
        if len(line) > _LONGEST_LINE:
            continue
        try:
            row = parse_line(line)
        except Problem:
            continue
        fields = row.pop("fields")
        rows += [{**row, FIELD: name, VALUE: value} for name, value in fields.items()]
    return _columns(rows)


def is_line_protocol(text: bytes) -> bool:
    """Tell whether most lines are line protocol, with a time."""
    lines = [
        line for line in text.removeprefix(BOM).split(b"\n", 50)[:50] if line.strip() and line[:1] != b"#"
    ]
    good = 0
    for line in lines:
        try:
            good += len(line) <= _LONGEST_LINE and "time" in parse_line(line)
        except Problem:
            continue
    return bool(lines) and good >= 0.8 * len(lines)


def _documents(text: bytes, name: str, *, is_lines: bool) -> tuple[list[Any], bool]:
    found: list[Any] = []
    is_listed = False
    if is_lines:
        data = iter(text.removeprefix(BOM).split(b"\n", MOST_CELLS)[:MOST_CELLS])
    else:
        is_listed = text.removeprefix(BOM).lstrip().startswith(b"[")
        data = (record.data for record in Documents(Held(text), name) if record is not None)
    try:
        for one in data:
            if one.strip():
                try:
                    found.append(parse_json(one))
                except Problem:
                    continue
            if len(found) >= MOST_CELLS:
                break
    except SourceBroken:
        pass
    return found, is_listed


def _leaves(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, str | None]]:
    """Give the texts and numbers of an object by their paths; of lists those of short ones."""
    if depth > _DEEPEST:
        return
    if isinstance(value, dict):
        for name, one in list(value.items())[:_MOST_PATHS]:
            yield from _leaves(one, f"{path}.{name}" if path else name, depth + 1)
    elif isinstance(value, list):
        if len(value) <= _SHORT_LIST:
            for at, one in enumerate(value):
                yield from _leaves(one, f"{path}[{at}]", depth + 1)
    elif not isinstance(value, bool):
        yield path, value if isinstance(value, str) else None


def _columns(rows: Sequence[dict[str, str | None]]) -> list[Column]:
    columns: dict[str, Column] = {}
    for row in rows:
        for path, text in row.items():
            if path not in columns and len(columns) < _MOST_PATHS:
                columns[path] = Column(path, path)
            if path in columns:
                columns[path].cells.append("" if text is None else text)
    return list(columns.values())


def _lists(objects: Sequence[dict[str, Any]]) -> str:
    """Find the path of the lists of readings: of objects, or of pairs, if no number stands beside them."""
    for one in objects[:5]:
        if path := _list_in(one):
            leaves = _leaves(_without_lists(one))
            beside = [text for name, text in leaves if text and name and _is_reading(name, text)]
            return "" if beside else path
    return ""


def _is_reading(name: str, text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return not is_no_reading(name) and all(rank(field, name) is None for field in ("ts", "device_id", "zone"))


def _without_lists(value: Any, depth: int = 0) -> Any:
    if isinstance(value, dict) and depth < _DEEPEST:
        return {
            name: _without_lists(one, depth + 1) for name, one in value.items() if not isinstance(one, list)
        }
    return None if isinstance(value, list) else value


def _list_in(value: Any, path: str = "", depth: int = 0) -> str:
    if depth > _DEEPEST or not isinstance(value, dict):
        return ""
    for name, one in value.items():
        here = f"{path}.{name}" if path else name
        if isinstance(one, list) and one and isinstance(one[0], dict | list) and not set(name) & set(".[]"):
            inner = _list_in(one[0], "", depth + 1)
            return f"{here}[].{inner}" if inner else f"{here}[]"
        if found := _list_in(one, here, depth + 1):
            return found
    return ""


def _side_by_side(objects: Sequence[dict[str, Any]]) -> str:
    """Find the path of an object of lists side by side, one of them the times."""
    for one in objects[:5]:
        if (path := _times_among_lists(one)) is not None:
            return f"{path}{COLUMNS}"
    return ""


def _times_among_lists(value: Any, path: str = "", depth: int = 0) -> str | None:
    if depth > _DEEPEST or not isinstance(value, dict):
        return None
    lists = {
        name: one
        for name, one in value.items()
        if isinstance(one, list) and one and not any(isinstance(item, dict | list) for item in one)
    }
    is_even = len({len(one) for one in lists.values()}) == 1
    if len(lists) > 1 and is_even and any(rank("ts", name) is not None for name in lists):
        return path
    for name, one in value.items():
        if not set(name) & set(".[]{}"):
            found = _times_among_lists(one, f"{path}.{name}" if path else name, depth + 1)
            if found is not None:
                return found
    return None


def _unfolded(
    one: Any, steps: tuple[tuple[str, ...], ...], *, has_columns: bool
) -> Iterator[tuple[Any, ...]]:
    """Give readings as far as they are some."""
    try:
        yield from unfold((one,), steps, has_columns=has_columns)
    except Problem:
        return
