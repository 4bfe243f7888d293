"""The KPIs are data: a TOML file names them, so somebody with other sensors changes a file."""

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, Final

Kpis = Mapping[str, "Kpi"]

_NAME: Final = re.compile("[a-z][a-z0-9_]{0,63}")
_NUMBERS: Final = ("min", "max", "threshold", "typical")
_LONGEST_LINE: Final = 8192
"""Characters. The reader takes time with the square of the parts of a key."""
_LONG_LINE: Final = re.compile(rf"[^\n]{{{_LONGEST_LINE + 1}}}")
_TOO_LONG: Final = re.compile("[0-9_]{4000,}")
_DEEP: Final = re.compile(r"[\[{](?:[^\n]*?[\[{]){50}")
_MOST_NAMED: Final = 20
_LONGEST_NAME: Final = 64
"""Errors, and characters of a name, that one message has."""


class KpisInvalid(ValueError):
    """The KPI file can't be used; the message lists every error in it."""


@dataclass(frozen=True, slots=True)
class Kpi:
    """One KPI: its unit, its plausible range (both ends included), and when it is degraded."""

    name: str
    unit: str
    min: float
    max: float
    threshold: float
    """A value above this one is degraded."""
    typical: float
    """Where a generated value starts from."""


def shipped() -> str:
    """Read the text of the KPI file that comes with the package."""
    return resources.files("services.contract").joinpath("kpis.toml").read_text(encoding="utf-8")


def parse_kpis(text: str) -> dict[str, Kpi]:
    """Read KPIs from TOML.

    Raises KpisInvalid, naming every error.
    """
    if _LONG_LINE.search(text):
        raise KpisInvalid(f"line {_line_of(_LONG_LINE, text)} is longer than {_LONGEST_LINE:,} characters")
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise KpisInvalid(f"not TOML: {error}") from None
    except ValueError:  # of Python itself, which reads no number of that many digits
        raise KpisInvalid(f"line {_line_of(_TOO_LONG, text)}: write a shorter number") from None
    except RecursionError:
        raise KpisInvalid(f"line {_line_of(_DEEP, text)}: brackets stand too deep in each other") from None
    errors: list[str] = []
    kpis = {name: kpi for name, table in tables.items() if (kpi := _kpi(name, table, errors))}
    if not tables:
        errors.append("no KPI in it; write for example [temperature] with unit, min, max and threshold")
    if errors:
        more = f"; and {len(errors) - _MOST_NAMED} more" if len(errors) > _MOST_NAMED else ""
        raise KpisInvalid("; ".join(errors[:_MOST_NAMED]) + more)
    return kpis


def with_thresholds(kpis: Kpis, thresholds: Mapping[str, float]) -> dict[str, Kpi]:
    """Override thresholds by KPI name.

    Raises KpisInvalid for a name that is no KPI.
    """
    unknown = sorted(set(thresholds) - set(kpis))
    if unknown:
        names = ", ".join(f"THRESHOLD_{name.upper()}" for name in unknown)
        raise KpisInvalid(f"{names}: no such KPI; there are {', '.join(sorted(kpis))}")
    return {name: replace(kpi, threshold=thresholds.get(name, kpi.threshold)) for name, kpi in kpis.items()}


def _line_of(what: re.Pattern[str], text: str) -> int:
    found = what.search(text)
    return text.count("\n", 0, found.start() if found else 0) + 1


def _kpi(name: str, table: Any, errors: list[str]) -> Kpi | None:
    before = len(errors)
    if not _NAME.fullmatch(name):
        name = _short(name)
        errors.append(f"[{name}]: a name is lower-case letters, digits and _, at most 64")
    if not isinstance(table, dict):
        errors.append(f"{name}: write a table, [{name}]")
        return None
    errors += [f"[{name}] {_short(key)}: unknown key" for key in table if key not in {"unit", *_NUMBERS}]
    if not isinstance(table.get("unit"), str):
        errors.append(f'[{name}] unit: write a text, such as unit = "°C"')
    numbers = {
        "typical": table.get("threshold", 0) / 2 if _is_number(table.get("threshold")) else 0.0
    } | table
    for key in _NUMBERS:
        if not _is_number(numbers.get(key)):
            errors.append(f"[{name}] {key}: write a finite number")
    if len(errors) > before:
        return None
    if not 0 <= numbers["min"] < numbers["max"]:
        errors.append(f"[{name}] min, max: values are not negative, and min is below max")
        return None
    return Kpi(name, table["unit"], *(float(numbers[key]) for key in _NUMBERS))


def _is_number(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of more than 308 digits
        return False


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
