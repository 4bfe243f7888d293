"""The KPIs are data: a TOML file names them, so somebody with other sensors changes a file."""

import functools
import math
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from importlib import resources
from typing import Any, Final

Kpis = Mapping[str, "Kpi"]

_NAME: Final = re.compile("[a-z][a-z0-9_]{0,63}")
_NUMBERS: Final = ("min", "max", "threshold", "typical")
_FRACTION: Final = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20}|/[1-9][0-9]{0,19})?")
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
class Conversion:
    """From a unit that sources use to the KPI's own: `number x scale + offset`, exactly."""

    scale: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)


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
    aliases: tuple[str, ...] = ()
    """What sources call it as well; no two KPIs share one (`alike`)."""
    units: Mapping[str, Conversion] = field(default_factory=dict)
    """Units beside its own that sources may use, by `unit_key`."""


def alike(name: str) -> str:
    """Give what two spellings of a KPI's name have in common: case and blanks make no difference."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


@functools.lru_cache(maxsize=4096)
def unit_key(unit: str) -> str:
    """Give what two spellings of a unit have in common. Case tells mPa from MPa; blanks tell nothing."""
    # The ordinal sign looks like the sign of degrees, and some keyboards have it alone.
    return "".join(unicodedata.normalize("NFKC", unit.replace("\xba", "°")).split())


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
    errors += _shared_names(kpis)
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
        errors.append(
            f"[{name}]: a name is lower-case letters, digits and _, at most 64; what sources call it goes "
            f'into its aliases, aliases = ["{name}"]'
        )
    if not isinstance(table, dict):
        errors.append(f"{name}: write a table, [{name}]")
        return None
    known = {"unit", "aliases", "units", *_NUMBERS}
    errors += [f"[{name}] {_short(key)}: unknown key" for key in table if key not in known]
    if not isinstance(table.get("unit"), str):
        errors.append(f'[{name}] unit: write a text, such as unit = "°C"')
    aliases = _aliases(name, table.get("aliases", []), errors)
    units = _units(name, table.get("units", {}), errors)
    halfway = (
        (table["min"] / 2 + table["threshold"] / 2)
        if _is_number(table.get("min")) and _is_number(table.get("threshold"))
        else 0.0
    )
    numbers = {"typical": halfway} | table
    for key in _NUMBERS:
        if not _is_number(numbers.get(key)):
            errors.append(f"[{name}] {key}: write a finite number")
    if len(errors) > before:
        return None
    if not (numbers["min"] < numbers["max"] and _is_number(float(numbers["max"]) - float(numbers["min"]))):
        errors.append(f"[{name}] min, max: min is below max, and what lies between is a finite number")
        return None
    least, most, threshold, typical = (float(numbers[key]) for key in _NUMBERS)
    return Kpi(name, table["unit"], least, most, threshold, typical, aliases, units)


def _aliases(name: str, given: Any, errors: list[str]) -> tuple[str, ...]:
    if isinstance(given, list) and all(isinstance(one, str) and alike(one) for one in given):
        return tuple(given)
    errors.append(f'[{name}] aliases: write a list of texts, such as aliases = ["temp", "t_air"]')
    return ()


def _units(name: str, given: Any, errors: list[str]) -> dict[str, Conversion]:
    """Read what units are accepted, by their keys."""
    how = f'write for example units = {{ "°F" = {{ scale = "5/9", offset = "-160/9" }} }} in [{name}]'
    if not isinstance(given, dict):
        errors.append(f"[{name}] units: {how}")
        return {}
    units: dict[str, Conversion] = {}
    for unit, table in given.items():
        about = f"[{name}] units, {_short(unit)}"
        if not isinstance(table, dict) or table.keys() - {"scale", "offset"} or not unit_key(unit):
            errors.append(f"{about}: {how}")
            continue
        scale, offset = (_fraction(table.get(key, default)) for key, default in (("scale", 1), ("offset", 0)))
        if not scale or offset is None:
            errors.append(
                f'{about}: scale and offset are numbers or fractions such as "5/9", and scale is not 0'
            )
        elif unit_key(unit) in units:
            errors.append(f"{about}: given twice")
        else:
            units[unit_key(unit)] = Conversion(scale, offset)
    return units


def _fraction(value: Any) -> Fraction | None:
    """Read an exact number, as it is written; None for what is none."""
    if isinstance(value, str):
        return Fraction(value) if _FRACTION.fullmatch(value) else None
    # Through its text: 0.1 is a tenth, and not the float next to it.
    return Fraction(repr(value)) if _is_number(value) else None


def _shared_names(kpis: Mapping[str, Kpi]) -> list[str]:
    """List the names that two KPIs claim."""
    owners: dict[str, str] = {}
    errors: list[str] = []
    for kpi in kpis.values():
        for text in dict.fromkeys(map(alike, (kpi.name, *kpi.aliases))):
            owner = owners.setdefault(text, kpi.name)
            if owner != kpi.name:
                errors.append(f"[{kpi.name}] aliases: {_short(text)} is [{owner}] already")
    return errors


def _is_number(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of more than 308 digits
        return False


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
