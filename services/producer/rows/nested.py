"""JSON: an object's members by paths, and the readings that an object is made of.

a.b.c         members in each other; a name with dots is found as it is before it is taken for a path
a.list[0]     an element, from 0; a list alone is `[0]`, `[1]`
a.list[].b[]  of `readings`: each element of each list is a reading. A path of a field is looked for in the
              element, then in what it lies in, from the inside out
a.hourly{}    of `readings`: an object of lists side by side, such as {"time": [...], "value": [...]}; each
              place in them is a reading
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal, DecimalException
from functools import reduce
from typing import Any, Final

from services.producer.rows.problem import Problem, shown

_STEP: Final = re.compile(r"\[([0-9]{1,6})\]|([^.\[\]]+)")
_PATH: Final = re.compile(r"(?:[^.\[\]]+|\[[0-9]{1,6}\])(?:\.[^.\[\]]+|\[[0-9]{1,6}\])*")
_BARE: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\b(?:nan|inf|infinity|none)\b', re.IGNORECASE)

_UNITS: Final = {"Cel": "°C", "%RH": "%"}

_VERSIONS: Final = tuple(map(str, range(1, 11)))
"""Of SenML, as they stand in a record."""
_RELATIVE: Final = 1 << 28
"""A time of SenML below this one is so many seconds from now."""
_MOST_DIGITS: Final = 40
"""Before or behind the mark of a sum: no time and no reading has more."""
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?")
COLUMNS: Final = "{}"
"""Ends a path of readings to an object of lists side by side."""
Row = tuple[Any, ...]
"""An object, and what it lies in, from the inside out."""


def parse_json(data: bytes) -> Any:
    """Read a value; numbers keep their text. Raises Problem."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Problem(f"not UTF-8: {error.reason} at byte {error.start + 1}", "not UTF-8") from None
    try:
        return _load(text)
    except (ValueError, RecursionError) as error:
        # What some languages write for a number that is none costs no more than its own member.
        mended = _BARE.sub(lambda found: found[0] if found[0].startswith(b'"') else b"null", data)
        if mended == data:
            raise Problem(f"not JSON: {error}", "not JSON") from None
    try:
        return _load(mended.decode())
    except (ValueError, RecursionError) as error:
        raise Problem(f"not JSON: {error}", "not JSON") from None


def _load(text: str) -> Any:
    return json.loads(
        text, parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=_without_doubles
    )


def parse_object(data: bytes) -> dict[str, Any]:
    """Read an object. Raises Problem."""
    found = parse_json(data)
    if not isinstance(found, dict):
        raise Problem(f"not a JSON object but {kind_of(found)}")
    return found


def path_of_lists(readings: str) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Give the names down to the first list, and those from each list to the next."""
    first, *others = readings.replace(COLUMNS, "[]").split("[]")[:-1] if readings else [""]
    return _names(first), tuple(map(_names, others))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(".") if name)


def unfold(row: Row, others: tuple[tuple[str, ...], ...], *, has_columns: bool = False) -> Iterator[Row]:
    """Give the readings of an element, by the lists in it; `has_columns`: the last is an object of lists.

    Raises Problem where one is none.
    """
    if not others:
        yield from _side_by_side(row) if has_columns else (row,)
        return
    found = row[0]
    for name in others[0]:
        found = found.get(name) if isinstance(found, dict) else None
    if has_columns and len(others) == 1:
        yield from _side_by_side((found, *row))
        return
    if not isinstance(found, list):
        raise Problem(f"no list at {'.'.join(others[0]) or '[]'}")
    for element in found:
        yield from unfold((element, *row), others[1:], has_columns=has_columns)


def _side_by_side(row: Row) -> Iterator[Row]:
    found = row[0]
    if not isinstance(found, dict):
        raise Problem(f"not an object of lists but {kind_of(found)}", "no object of lists")
    lists = {name: one for name, one in found.items() if isinstance(one, list)}
    lengths = sorted(map(len, lists.values()))
    if not lengths:
        raise Problem("an object without lists", "no object of lists")
    if lengths[0] != lengths[-1]:
        raise Problem(
            f"its lists have {lengths[0]} to {lengths[-1]} readings: which belong together is not known",
            "lists of different lengths",
        )
    beside = {name: one for name, one in found.items() if name not in lists}
    for at in range(lengths[0]):
        yield ({name: one[at] for name, one in lists.items()}, beside, *row[1:])


def finder(path: str) -> Callable[[Any], Any]:
    """Make what finds a path in an object; None where it isn't."""
    if not _PATH.fullmatch(path):
        return lambda found: found.get(path) if isinstance(found, dict) else None
    steps = [int(step[1]) if step[1] else step[2] for step in _STEP.finditer(path)]
    if len(steps) == 1 and isinstance(steps[0], str):
        return lambda found: found.get(path) if isinstance(found, dict) else None

    def find(found: Any) -> Any:
        if isinstance(found, dict) and path in found:
            return found[path]
        return reduce(_step, steps, found)

    return find


def _step(found: Any, step: str | int) -> Any:
    if isinstance(step, str):
        return found.get(step) if isinstance(found, dict) else None
    return found[step] if isinstance(found, list) and step < len(found) else None


def outward(find: Callable[[Any], Any]) -> Callable[[Row], Any]:
    """Make what looks in an element first, and then in what it lies in."""

    def look(row: Row) -> Any:
        for one in row:
            found = find(one)
            if found is not None:
                return found
        return None

    return look


def resolved(elements: list[Any]) -> Iterator[dict[str, Any]]:
    """Read SenML (RFC 8428): a record says only what differs from the base before it.

    Gives `device` (the base name), `n`, `name` (both), `t`, `u` and `v`. Raises Problem.
    """
    base: dict[str, Any] = {}
    for element in elements:
        if not isinstance(element, Mapping):
            raise Problem(f"not a SenML record but {kind_of(element)}")
        _check_understood(element)
        base |= {name: element[name] for name in ("bn", "bt", "bu", "bv") if name in element}
        own, prefix = element.get("n", ""), base.get("bn", "")
        row = {
            "device": prefix,
            "n": own,
            "name": f"{prefix}{own}",
            "u": _unit(element.get("u", base.get("bu"))),
        }
        row["t"] = _time(base.get("bt"), element.get("t"))
        if "v" in element:
            added, own = base.get("bv"), element["v"]
            # What is no number is refused with the reading, or says that there is none.
            is_sum = added is not None and isinstance(own, str) and _NUMBER.fullmatch(own)
            yield row | {"v": _sum(added, own, "value") if is_sum else own}


def _unit(unit: Any) -> Any:
    """Write a unit of SenML's as others do."""
    return _UNITS.get(unit, unit) if isinstance(unit, str) else None


def _check_understood(record: Mapping[str, Any]) -> None:
    """See that nothing is in a record that has to be understood and is not. Raises Problem."""
    if foreign := [name for name in record if name.endswith("_")]:
        raise Problem(f"{shown(foreign[0])}: SenML says that who does not know it must not read the record")
    if "bver" in record and record["bver"] not in _VERSIONS:
        raise Problem(f"SenML of version {shown(record['bver'])}: up to {_VERSIONS[-1]} are read")


def _time(base: Any, own: Any) -> str | None:
    """Give a record's time; None for that of its arrival."""
    if base is None and own is None:
        return None
    time = _sum(base, own, "time")
    if not float(time):
        return None
    if float(time) < _RELATIVE:
        raise Problem(
            f"time {shown(time)} is relative to when it was sent: only with a base time (bt) it is one",
            "time not read",
            "ts",
        )
    return time


def _sum(base: Any, own: Any, what: str) -> str:
    try:
        found = sum((Decimal(str(one)) for one in (base, own) if one is not None), Decimal(0))
        if abs(found.adjusted()) <= _MOST_DIGITS:
            return format(found, "f")
    except DecimalException:
        pass
    raise Problem(f"{what} {shown(base)} and {shown(own)}: no numbers", f"{what} not read")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found


def kind_of(value: Any) -> str:
    """Name what a JSON value is."""
    names = {dict: "an object", list: "a list", str: "a text or a number", bool: "true or false"}
    return names.get(type(value), "null")
