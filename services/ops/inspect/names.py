"""What columns are usually called: which field of ours one is, and which KPI."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Final

from services.contract.kpis import Conversion, Kpi, Kpis, alike
from services.producer.spellings import unit_of

FIELDS: Final = ("device_id", "zone", "ts", "kpi", "value")
"""What an event has to have."""


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "ts": _split(
        "ts timestamp time datetime date_time date created_at received_at last_changed last_updated "
        "measured_at zeit zeitstempel datum datum_uhrzeit fecha data_ora"
    ),
    "device_id": _split(
        "device_id device deviceid device_name sensor_id sensor sensorid sensor_name dev_id dev_eui "
        "dev entity_id station station_id node node_id probe logger host serial mac messstelle geraet gerat "
        "id name"
    ),
    "zone": _split("zone room site area location place building raum ort standort hall region"),
    "kpi": _split("kpi metric measure parameter variable quantity messgroesse field type"),
    "value": _split("value val reading measured_value state wert messwert result valor"),
    "unit": _split("unit units uom unit_of_measurement einheit"),
}
"""Names of columns that are a field of ours, the surest first."""
PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "year": ("year", "yyyy", "yr", "jahr"),
    "month": ("month", "mo", "mm", "monat"),
    "day": ("day", "dd", "tag"),
    "hour": ("hour", "hh", "hr", "stunde"),
    "minute": ("minute", "min", "mi"),
    "second": ("second", "sec", "ss", "sekunde"),
}
_NO_READING: Final = frozenset(
    _split(
        "id no nr number index entry seq sequence count lat latitude lon lng longitude elevation altitude "
        "alt line row channel port battery bat akku rssi snr signal year month day hour minute second"
    )
)
"""Numbers that describe a reading or its place, and are none by themselves."""
_OTHER_WORDS: Final[Mapping[str, str]] = {
    "temperatur": "temperature",
    "temperatura": "temperature",
    "feuchte": "humidity",
    "luftfeuchte": "humidity",
    "luftfeuchtigkeit": "humidity",
    "humedad": "humidity",
    "umidita": "humidity",
    "humidite": "humidity",
    "druck": "pressure",
    "luftdruck": "pressure",
    "presion": "pressure",
    "pression": "pressure",
    "pressione": "pressure",
}
_LETTERS: Final[Mapping[str, str]] = {"t": "temperature", "p": "pressure", "h": "humidity"}
_NO_PLACE: Final = frozenset(_split("rel relative relativ relativa abs pct percent prozent"))
"""Words beside a KPI's that say how it is measured, and not where."""
_UNIT: Final = re.compile(r"[(\[]([^()\[\]]{1,12})[)\]]|[,_ /]\s*([^\s,_/()\[\]]{1,8})(?=\s*(?:$|[(\[]))")
_OFFSET: Final = re.compile(r"(?:GMT|UTC) ?([+-])(0?[0-9]|1[0-4])(?::?([0-5][0-9]))?(?![0-9])")
_SHORT: Final = 4


def words(name: str) -> list[str]:
    """Give the words of a name, in lower case and without accents."""
    plain = unicodedata.normalize("NFKD", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).casefold()
    return re.findall(r"[a-z0-9]+", "".join(one for one in plain if not unicodedata.combining(one)))


def rank(field: str, name: str) -> int | None:
    """Tell how surely a column is a field by its name, 0 the surest; None: it is not."""
    last = re.split(r"[.\]]", name)[-1]
    if last.startswith("__"):
        return None  # of the source's own making, such as __name__
    last = "_".join(words(last))
    known = _FIELDS[field]
    return next((at for at, one in enumerate(known) if last in {one, one.replace("_", "")}), None)


def part_of_time(name: str) -> str | None:
    """Tell which part of a time a column is by its name: year, month and so on."""
    last = "_".join(words(name))
    return next((part for part, names in PARTS.items() if last in names), None)


def offset_in(name: str) -> str:
    """Find the offset from UTC that the name of a time says, such as `Date Time, GMT-05:00`; empty: none."""
    found = _OFFSET.search(name)
    return f"{found[1]}{int(found[2]):02}:{found[3] or '00'}" if found else ""


def is_no_reading(name: str) -> bool:
    """Tell whether a column of numbers is none of readings, by its name."""
    return bool(_NO_READING & set(words(name)))


def kpi_of(name: str, kpis: Kpis) -> tuple[Kpi, str, bool] | None:
    """Find the KPI that a column's name says, what else it says, and whether that is sure."""
    known = {alike(one): kpi for kpi in kpis.values() for one in (kpi.name, *kpi.aliases)}
    last = name.rsplit(".", 1)[-1] if re.fullmatch(r"[\w.\[\]]+", name) else name
    if found := known.get(alike(last)):
        return found, "", True
    found_words = words(last)
    for at, word in enumerate(found_words):
        kpi = known.get(word) or kpis.get(_OTHER_WORDS.get(word, ""))
        if kpi is None and len(word) > _SHORT:
            kpi = next((one for one in kpis.values() if word.startswith(one.name)), None)
        if kpi is not None:
            rest = _without_units([one for other, one in enumerate(found_words) if other != at], kpi)
            return kpi, "_".join(one for one in rest if one not in _NO_PLACE), True
    kpi = kpis.get(_LETTERS.get("".join(found_words), ""))
    return None if kpi is None else (kpi, "", False)


def _without_units(rest: list[str], kpi: Kpi) -> list[str]:
    """Leave out the words of units, such as `h pa`."""
    units = {tuple(words(unit)) for unit in (kpi.unit, *kpi.units, "C", "F")} - {()}
    for unit in sorted(units, key=len, reverse=True):
        for at in range(len(rest) - len(unit), -1, -1):
            if tuple(rest[at : at + len(unit)]) == unit:
                del rest[at : at + len(unit)]
    return rest


def unit_in(name: str, kpi: Kpi) -> tuple[str, bool]:
    """Find a unit of a KPI in a column's name, such as in `Temp (°F)`, and whether it is surely one.

    Empty: none, or the KPI's own. A word without a mark, as in `tempF` and `temp_f_attic`, is not sure.
    """
    for found in _UNIT.finditer(name):
        text = (found[1] or found[2]).strip()
        lower = (one for one in kpi.units if one.casefold() == text.casefold())
        unit = text if unit_of(kpi, text) is not None else next(lower, "")
        if unit:
            return conversion_of(kpi, unit), found[1] is not None
    found_words = words(name)
    for unit in sorted(kpi.units, key=len, reverse=True):
        parts = words(unit)
        spellings = (parts, ["".join(parts)]) if parts else ()
        if any(_has(found_words, spelling) for spelling in spellings) and conversion_of(kpi, unit):
            return unit, False
    return "", True


def _has(found: list[str], part: list[str]) -> bool:
    return any(found[at : at + len(part)] == part for at in range(1, len(found) - len(part) + 1))


def unknown_unit(name: str, below: str, kpi: Kpi) -> str:
    """Give what stands where a unit does, in brackets or in the row `below` a name, and is none of the KPI's.

    Empty: there is no such text.
    """
    marked = [found[1].strip() for found in _UNIT.finditer(name) if found[1]]
    texts = [below] if below else marked
    return next((text for text in texts if text and unit_of(kpi, text) is None), "")


def conversion_of(kpi: Kpi, unit: str) -> str:
    """Give a unit that has to be converted; empty for one that is the KPI's own, or unknown."""
    return "" if unit_of(kpi, unit) in {None, Conversion()} else unit
