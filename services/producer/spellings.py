"""What sources write, as the contract has it: KPIs by any of their names, values in any of their units.

The stream is strict, and the doors are lenient: whatever takes in events of others resolves these spellings
here, by the KPI file, before an event is published. Pure.

    kpi     any name or alias of the KPI file, whatever its case and blanks      Temperature, PM 2.5
    value   an ordinary spelling of a number, with a unit behind it or none      +21.5, .5, 5., 71.6 °F
    unit    the KPI's own, or one that its `units` convert

What is no KPI or no number stays as it is: whoever calls refuses it, or the consumer keeps it as a dead
letter. What would be stored as another number than was meant is an error: one in a unit that the KPI does not
accept, say.
"""

import functools
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from services.contract.codec import DECIMAL, decimal
from services.contract.kpis import Conversion, Kpi, Kpis, alike, unit_key
from services.runtime.redact import head

_PLACES: Final = 20
"""Digits that decimal text of the contract has at most on either side of the mark."""
_SAME: Final = str.maketrans({"\u2212": "-", "\u2019": "'", "\u00a0": " ", "\u202f": " ", "\u2009": " "})
"""Marks that look like others: the minus sign, an apostrophe, and blanks that don't break."""
_MOST_KEPT: Final = 4096
_LONGEST_KEPT: Final = 128
"""Characters of a name that is remembered: what is no name may be as long as a body."""
_OWN: Final = Conversion()


class Unclear(ValueError):
    """A value can't be told for certain; the message says why, and what would be clear."""


@dataclass(frozen=True, slots=True)
class NumberStyle:
    """How a source writes numbers: its decimal mark, and the mark between thousands (none: empty).

    Raises ValueError for marks that can't be told from digits, signs or each other.
    """

    decimal: str = "."
    thousands: str = ""

    def __post_init__(self) -> None:
        if self.decimal not in {".", ","}:
            raise ValueError(f"decimal mark {self.decimal!r}: . or ,")
        if self.thousands not in {"", ".", ",", "'", " ", "_"} or self.thousands == self.decimal:
            raise ValueError(
                f"thousands mark {self.thousands!r}: another than the decimal one, of . , ' _ and a blank"
            )


PLAIN: Final = NumberStyle()


def number_text(text: str, style: NumberStyle = PLAIN) -> str | None:
    """Write a number as decimal text of the contract; None where it is no ordinary spelling of one.

    What is decimal text already stays as it is, digit for digit, and no digit is lost that a float has.
    """
    number, unit = split(text, style)
    return None if unit else number


def split(text: str, style: NumberStyle = PLAIN) -> tuple[str | None, str]:
    """Part a value into decimal text of the contract, and the unit behind it (none: empty).

    None: no ordinary spelling of a number begins it.
    """
    if style.decimal == "." and DECIMAL.fullmatch(text):
        return (text[1:] if text[0] == "-" and not float(text) else text), ""
    text = text.translate(_SAME).strip()
    found = _spelling(style).fullmatch(text)
    if found is None:
        return None, ""
    sign, whole, fraction, exponent, unit = (part or "" for part in found.groups())
    whole = "".join(filter(str.isdigit, whole)).lstrip("0") or "0"
    is_zero = not (whole + fraction).strip("0")
    sign = "-" if sign == "-" and not is_zero else ""
    number = f"{sign}{whole}{fraction and '.'}{fraction}{exponent}"
    if len(whole) <= _PLACES and len(fraction) <= _PLACES:
        return number, unit
    nearest = float(number)
    return (decimal(nearest) if math.isfinite(nearest) else None), unit


@functools.cache
def _spelling(style: NumberStyle) -> re.Pattern[str]:
    """Write the pattern of a number: its sign, whole part, fraction, exponent, and the unit behind it."""
    mark, between = re.escape(style.decimal), re.escape(style.thousands)
    grouped = rf"[0-9]{{1,3}}(?:{between}[0-9]{{3}})+|" if between else ""
    return re.compile(
        rf"(?=[+-]?{mark}?[0-9])([+-]?)({grouped}[0-9]*)(?:{mark}([0-9]*))?([eE][+-]?[0-9]{{1,3}})?"
        r"\s*([^\s0-9.,'+-].{0,39})?"
    )


class Spellings:
    """The names and units of one KPI file. Each call gives the same for the same."""

    def __init__(self, kpis: Kpis) -> None:
        self._kpis = kpis
        self._by_name = {alike(name): kpi for kpi in kpis.values() for name in (*kpi.aliases, kpi.name)}
        self._met: dict[str, Kpi | None] = {}

    def kpi(self, name: str) -> Kpi | None:
        """Find a KPI by any spelling of its name or of an alias; None: there is none."""
        found = self._kpis.get(name)
        if found is not None:
            return found
        try:
            return self._met[name]
        except KeyError:
            # A column has the same name a million times, but may have another each time.
            if len(name) > _LONGEST_KEPT:
                return self._by_name.get(alike(name))
            if len(self._met) >= _MOST_KEPT:
                self._met.clear()
            met = self._met[name] = self._by_name.get(alike(name))
            return met

    def reading(self, kpi: str, value: str, unit: str = "", style: NumberStyle = PLAIN) -> tuple[str, str]:
        """Resolve a KPI's name and a value as a source writes them; `unit` where it says it elsewhere.

        A unit behind the number is the nearer one. Raises Unclear.
        """
        known = self.kpi(kpi)
        name = kpi if known is None else known.name
        number, behind = split(value, style)
        if number is None or (behind and (known is None or unit_of(known, behind) is None)):
            if style.decimal != "." and DECIMAL.fullmatch(value):
                raise Unclear(f"value {head(value, 40)!a}: the decimal mark is {style.decimal}")
            return name, value
        return name, (number if known is None else convert(known, number, behind or unit))


def unit_of(kpi: Kpi, unit: str) -> Conversion | None:
    """Tell how a unit becomes the KPI's own; None: it is none that the KPI accepts."""
    key = unit_key(unit)
    return _OWN if key in {"", unit_key(kpi.unit)} else kpi.units.get(key)


def convert(kpi: Kpi, number: str, unit: str) -> str:
    """Write decimal text in a unit as decimal text in the KPI's own. Raises Unclear."""
    if unit in {"", kpi.unit}:
        return number
    conversion = unit_of(kpi, unit)
    if conversion is None:
        accepted = ", ".join(dict.fromkeys((kpi.unit, *kpi.units)))
        raise Unclear(
            f"unit {head(unit, 40)!a} is none of {kpi.name}, which has {accepted}: name another, or add it "
            f"to the units of [{kpi.name}] (KPIS_FILE)"
        )
    if conversion == _OWN:
        return number
    try:
        return decimal(_converted(number, conversion))
    except OverflowError:  # beyond every range
        return number


def _converted(number: str, conversion: Conversion) -> float:
    """Convert exactly, and round once. Raises OverflowError."""
    # By whole numbers: of most values a Fraction would take several times as long.
    scale, offset = conversion.scale, conversion.offset
    if "e" in number or "E" in number:
        return float(Fraction(number) * scale + offset)
    whole, _, fraction = number.partition(".")
    tens: int = 10 ** len(fraction)
    dividend = int(whole + fraction) * scale.numerator * offset.denominator
    return (dividend + offset.numerator * scale.denominator * tens) / (
        scale.denominator * offset.denominator * tens
    )
