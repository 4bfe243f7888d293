"""A KPI and a value as a file has them: names and units by the KPI file, and no value that is no number."""

import re
from typing import Final

from services.contract.codec import DECIMAL
from services.producer.rows.pick import Resolve
from services.producer.spellings import NumberStyle, Spellings
from services.runtime.redact import head

_COMMA: Final = re.compile(r"[+-]?[0-9]+,[0-9]+")
_GROUPED: Final = re.compile(r"[+-]?[0-9]{1,3}(?:([ ,'])[0-9]{3})+(?:\.[0-9]+)?")


class NoNumber(ValueError):
    """A value is no number; the message says which, and what might be missing."""

    kind = "value is no number"


def resolver(spellings: Spellings, style: NumberStyle) -> Resolve:
    """Make what resolves the readings of a source that writes numbers in this style."""
    is_decimal = DECIMAL.fullmatch
    is_usual = style.decimal == "."

    def resolve(kpi: str, value: str, unit: str, /) -> tuple[str, str]:
        if not unit and is_usual and is_decimal(value) and value[0] != "-":
            known = spellings.kpi(kpi)  # nothing is to be converted
            return (kpi if known is None else known.name), value
        name, text = spellings.reading(kpi, value, unit, style)
        if not is_decimal(text):
            # The stream would take it, as a dead letter; here its line can be told.
            raise NoNumber(f"value {head(value, 40)!a} is no number{_hint(value, style)}")
        return name, text

    return resolve


def _hint(value: str, style: NumberStyle) -> str:
    """Name the option that would make it a number."""
    if style.decimal == "." and _COMMA.fullmatch(value.strip()):
        return " (--decimal ,)"
    mark = _GROUPED.fullmatch(value.strip())
    return f" (--thousands '{mark[1]}')" if mark and not style.thousands else ""
