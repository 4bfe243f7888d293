"""What a mapping may say, in a file and as options, and what is wrong with what it says."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, cast

from services.contract.attributes import MAX_ATTRIBUTES, MAX_NAME_CHARS
from services.contract.producing.outgoing import FIELD_NAMES
from services.producer.mapping.mapped import (
    BLANKS,
    FORMATS,
    MAPPABLE,
    ORDERS,
    SETTABLE,
    TS_UNITS,
    TWICE,
    UNIT,
    Format,
    Layout,
    Mapped,
    Times,
    Twice,
    ValueColumn,
)
from services.producer.mapping.zones import zone_of
from services.producer.spellings import NumberStyle
from services.runtime.redact import head

Kind = Literal["text", "number", "flag", "list"]


class Key(NamedTuple):
    """One thing that a mapping may say."""

    name: str
    """In the file; behind a dot, in the table before it."""
    option: str
    kind: Kind
    meaning: str
    metavar: str = "TEXT"


KEYS: Final = (
    Key("format", "--format", "text", f"{', '.join(FORMATS)}; by default it is recognised", "FORMAT"),
    Key("delimiter", "--delimiter", "text", f"separator of cells: a character, tab or {BLANKS}", "MARK"),
    Key("quote", "--quote", "text", "quotation mark of cells; none: cells are not quoted", "MARK"),
    Key(
        "encoding", "--encoding", "text", "encoding, such as latin-1; UTF-8 and UTF-16 are recognised", "NAME"
    ),
    Key("skip_lines", "--skip-lines", "number", "lines to skip before the header", "N"),
    Key(
        "skip_after_header",
        "--skip-after-header",
        "number",
        "lines to skip after the header, such as a row of units",
        "N",
    ),
    Key("comment", "--comment", "text", "text that comment lines begin with", "MARK"),
    Key(
        "header",
        "--no-header",
        "flag",
        "there is no header; the columns are #1, #2, ... or those of --columns",
    ),
    Key("columns", "--columns", "list", "names of the columns, instead of those of the header", "A,B,C"),
    Key("decimal", "--decimal", "text", "decimal mark of numbers: . or ,", "MARK"),
    Key("thousands", "--thousands", "text", "separator of thousands in numbers", "MARK"),
    Key("missing", "--missing", "list", "text of a cell without a reading, such as -200", "TEXT"),
    Key("keep", "--keep", "list", "columns to keep as attributes, such as firmware,status", "THEIRS"),
    Key(
        "id_from",
        "--id-from",
        "list",
        "make the event id from these fields, such as device_id,kpi,ts: a repeated reading is stored once",
        "A,B,C",
    ),
    Key("readings", "--readings", "text", "path of the list of readings in JSON, such as data[]", "PATH"),
    Key(
        "time.columns",
        "--time-column",
        "list",
        "a column of the time; give it twice if date and time have a column each",
        "COLUMN",
    ),
    Key(
        "time.format",
        "--time-format",
        "text",
        f"{', '.join(ORDERS)}, {', '.join(TS_UNITS)}, or a pattern such as %d.%m.%Y %H:%M",
        "FORMAT",
    ),
    Key(
        "time.zone", "--time-zone", "text", "time zone of times that name none, such as Europe/Berlin", "ZONE"
    ),
    Key(
        "time.twice",
        "--time-twice",
        "text",
        f"how to read the hour that comes twice in autumn: {', '.join(TWICE)}",
        "WHICH",
    ),
    Key(
        "time.earliest",
        "--earliest-time",
        "text",
        "refuse times before this day, such as 2010-01-01",
        "DAY",
    ),
)
TABLES: Final = {"fields": "--map", "constants": "--const", "values": "--value"}
"""The tables of names that are the source's own or ours."""
_BY_NAME: Final = {key.name: key for key in KEYS}
_LISTS: Final = re.compile(r"(?:[^.\[\]{}]+(?:\.[^.\[\]{}]+)*)?(?:\[\](?:\.[^.\[\]{}]+)*)*(?:\{\})?")
_CODE: Final = re.compile(r"%(.)")
_NONE: Final = "none"
_MARKS: Final = {"tab": "\t", "\\t": "\t"}
_MOST_LINES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Said:
    """A value, and where it was said: `mapping.toml:7: decimal`, or `--decimal`."""

    value: Any
    where: str


Sayings = dict[str, Said]
"""By key; of a table `fields.device_id`."""


def build(said: Mapping[str, Said], errors: list[str]) -> Mapped:
    """Make a mapping; what is wrong with it goes into `errors`, all of it."""
    before = len(errors)
    for name, one in said.items():
        if name in _BY_NAME and (wrong := _wrong_kind(_BY_NAME[name].kind, one.value)):
            errors.append(f"{one.where}: {wrong}")
    fields = _table(said, "fields", MAPPABLE, errors)
    constants = _table(said, "constants", SETTABLE, errors)
    errors += [f"--map and --const both give {name}" for name in fields if name in constants]
    values = _values(said, errors)
    _check(said, errors)
    if values and "event_id" in fields:
        errors.append("an event_id is of one event: with columns of values (--value) leave it out")
    if len(errors) > before:
        return Mapped()
    get = _getter(said)
    earliest = _day(get("time.earliest", ""))
    return Mapped(
        columns=fields,
        constants=constants,
        values=values,
        readings=get("readings", ""),
        layout=Layout(
            delimiter=_mark(get("delimiter", None)),
            quote=_mark(get("quote", '"')) or "",
            encoding=get("encoding", None),
            skip_lines=get("skip_lines", 0),
            skip_after_header=get("skip_after_header", 0),
            comment=_mark(get("comment", "")) or "",
            has_header=get("header", True),
            columns=tuple(get("columns", ())),
        ),
        times=Times(
            columns=tuple(get("time.columns", ())),
            format=get("time.format", "auto"),
            zone=get("time.zone", "UTC"),
            twice=cast("Twice", get("time.twice", "earlier")),
            earliest=Times().earliest if earliest is None else earliest,
        ),
        decimal=get("decimal", "."),
        thousands=_mark(get("thousands", "")) or "",
        kept=tuple(dict.fromkeys(map(str, get("keep", ())))),
        missing=frozenset(map(str, get("missing", ()))),
        id_from=tuple(name for name in FIELD_NAMES if name in get("id_from", ())),
        format=cast("Format | None", get("format", None)),
    )


def _getter(said: Mapping[str, Said]) -> Any:
    return lambda name, otherwise: said[name].value if name in said else otherwise


def _mark(text: str | None) -> str | None:
    if text is None:
        return None
    return "" if text == _NONE else _MARKS.get(text, text)


def _wrong_kind(kind: Kind, value: Any) -> str:
    if kind == "text" and not isinstance(value, str):
        return f"write a text, not {_shown(value)}"
    if kind == "flag" and not isinstance(value, bool):
        return "write true or false"
    if kind == "number" and not (
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_LINES
    ):
        return f"write a number of lines, not {_shown(value)}"
    if kind == "list" and not (
        isinstance(value, list)
        and all(isinstance(one, str | int | float) and one is not True for one in value)
    ):
        return 'write a list, such as ["a", "b"]'
    return ""


def _check(said: Mapping[str, Said], errors: list[str]) -> None:
    """Check each value by itself."""
    checks: dict[str, Callable[[str], str]] = {
        "format": lambda text: "" if text in FORMATS else f"one of {', '.join(FORMATS)}",
        "delimiter": lambda text: _one_character(text, {BLANKS, *_MARKS}),
        "quote": lambda text: _one_character(text, {_NONE}),
        "encoding": _encoding,
        "comment": lambda text: "" if text.strip() else "a mark that is not blank",
        "decimal": lambda text: _style(text, ""),
        "readings": lambda text: (
            "" if _is_path(text) else "a path with a list in it, such as data.result[], [] or hourly{}"
        ),
        "time.format": _time_format,
        "time.zone": _zone,
        "time.twice": lambda text: "" if text in TWICE else f"one of {', '.join(TWICE)}",
        "time.earliest": lambda text: "" if _day(text) is not None else "a day, such as 2010-01-01",
    }
    for name, check in checks.items():
        if name in said and isinstance(said[name].value, str) and (wrong := check(said[name].value)):
            errors.append(f"{said[name].where}: {_shown(said[name].value)}: {wrong}")
    if "thousands" in said and isinstance(said["thousands"].value, str):
        decimal = said["decimal"].value if "decimal" in said else "."
        if wrong := _style(decimal if decimal in {".", ","} else ".", _mark(said["thousands"].value) or ""):
            errors.append(f"{said['thousands'].where}: {wrong}")
    if "keep" in said and isinstance(said["keep"].value, list):
        errors += _keep(said["keep"])
    if "id_from" in said and isinstance(said["id_from"].value, list):
        errors += _id_from(said["id_from"], has_own="fields.event_id" in said)
    columns = said.get("columns")
    if (
        columns is not None
        and isinstance(columns.value, list)
        and len(set(columns.value)) < len(columns.value)
    ):
        errors.append(f"{columns.where}: a name is there twice")


def _id_from(said: Said, *, has_own: bool) -> list[str]:
    names, known = list(map(str, said.value)), FIELD_NAMES[1:]
    errors = [
        f"{said.where} {_shown(name)}: one of {', '.join(known)}" for name in names if name not in known
    ]
    if "ts" not in names:
        errors.append(f"{said.where}: name ts as well: a time is in each id")
    if has_own:
        errors.append(f"{said.where}: an id is derived, or taken from a column (--map event_id=); not both")
    return errors


def _keep(said: Said) -> list[str]:
    names = list(map(str, said.value))
    errors = [] if any(name.strip() for name in names) else [f"{said.where}: name the columns"]
    if len(names) > MAX_ATTRIBUTES:
        errors.append(f"{said.where}: {len(names)} columns; an event has at most {MAX_ATTRIBUTES} attributes")
    return errors + [
        f"{said.where} {head(name, MAX_NAME_CHARS)}...: an attribute's name has at most {MAX_NAME_CHARS} "
        "characters"
        for name in names
        if len(name) > MAX_NAME_CHARS
    ]


def _is_path(text: str) -> bool:
    """Tell whether `readings` has the form of one."""
    return bool(text) and bool(_LISTS.fullmatch(text)) and ("[]" in text or text.endswith("{}"))


def _one_character(text: str, words: set[str]) -> str:
    if text in words or (len(text) == 1 and text not in "\r\n" and text.isascii()):
        return ""
    return f"one character, or {' or '.join(sorted(word for word in words if word.isalpha()))}"


def _encoding(text: str) -> str:
    try:
        "".encode(text)  # refuses what is none of text, such as base64
    except (LookupError, ValueError):
        return "no such encoding; write for example utf-8, latin-1, cp1252, utf-16"
    return ""


def _style(decimal: str, thousands: str) -> str:
    try:
        NumberStyle(decimal, thousands)
    except ValueError as error:
        return str(error)
    return ""


def _time_format(text: str) -> str:
    if text in {"auto", *ORDERS, *TS_UNITS}:
        return ""
    if "%" not in text:
        return f"one of auto, {', '.join((*TS_UNITS, *ORDERS))}, or a pattern such as %d.%m.%Y %H:%M"
    try:
        datetime.strptime(datetime(2024, 3, 10, tzinfo=UTC).strftime(text), text)  # noqa: DTZ007 - a trial
    except ValueError as error:
        return f"not a pattern: {error}"
    codes = set(_CODE.findall(text))
    if "Z" in codes:
        return "%Z tells no zone: write the letters themselves in its place, and name the zone (--time-zone)"
    if ("p" in codes) != ("I" in codes):
        return "%I and %p belong together: the hour is one of AM and PM. Of 24 hours it is %H, without %p"
    return ""


def _zone(text: str) -> str:
    try:
        zone_of(text)
    except ValueError as error:
        return str(error)
    return ""


def _day(text: str) -> float | None:
    """Read a day, or a moment, as Unix seconds in UTC; None for what is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return seconds if math.isfinite(seconds) else None


def _table(said: Mapping[str, Said], table: str, names: Sequence[str], errors: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, one in said.items():
        head, _, name = key.partition(".")
        if head != table or not name:
            continue
        value = str(one.value) if isinstance(one.value, int | float) and one.value is not True else one.value
        if name not in names:
            each = "each event has an id of its own; " if name == "event_id" else ""
            errors.append(f"{one.where}: {each}FIELD is one of {', '.join(names)}")
        elif not isinstance(value, str) or (table == "fields" and not value.strip()):
            errors.append(f"{one.where}: write a text")
        else:
            found[name] = value
    return found


def _values(said: Mapping[str, Said], errors: list[str]) -> tuple[ValueColumn, ...]:
    """Read the columns that are a reading each: a KPI, or a table with one."""
    found = []
    allowed = ("kpi", "device_id", "zone", UNIT)
    for key, one in said.items():
        head, _, column = key.partition(".")
        if head != "values" or not column:
            continue
        table = {"kpi": one.value} if isinstance(one.value, str) else one.value
        if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
            errors.append(f'{one.where}: write a KPI, or {{ kpi = "temperature", device_id = "probe-1" }}')
        elif unknown := [name for name in table if name not in allowed]:
            errors.append(f"{one.where}: {', '.join(unknown)}: only {', '.join(allowed)}")
        elif not table.get("kpi"):
            errors.append(f"{one.where}: no kpi")
        else:
            found.append(ValueColumn(column, table))
    return tuple(found)


def _shown(value: Any) -> str:
    return head(ascii(value), 80)
