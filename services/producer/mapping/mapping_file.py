"""A mapping as a TOML file: read, with the line of whatever is wrong, and written.

delimiter = ";"
decimal = ","

[fields]                                  # ours = their column
device_id = "Sensor"

[constants]                               # ours = what it always is
zone = "shed"

[values]                                  # columns that are a reading each
"Temp, °C" = "temperature"
hum_b = { kpi = "humidity", device_id = "b" }

[time]
columns = ["Date", "Time"]
format = "day-month-year"
zone = "Europe/Berlin"
"""

import json
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from services.producer.mapping.keys import KEYS, TABLES, Said, Sayings
from services.producer.mapping.mapped import Layout, Mapped, Times
from services.runtime.small_files import FileUnreadable, read_small

_NAMES: Final = frozenset(key.name for key in KEYS)
_HEAD: Final = re.compile(r"\s*\[\s*([A-Za-z_.]+)\s*\]")
_KEY: Final = re.compile(r"""\s*(?:"((?:\\.|[^"\\])*)"|'([^']*)'|([A-Za-z0-9_.-]+))\s*=""")
_LONGEST_LINE: Final = 8192
"""Characters. The reader takes time with the square of the parts of a key."""


def read_mapping_file(path: Path, errors: list[str], named_by: str = "--mapping") -> Sayings:
    """Read a file, which an option or a setting names; what is wrong with it goes into `errors`."""
    try:
        text = read_small(path)
    except FileUnreadable as error:
        errors.append(f"{named_by} {path}: {error}")
        return {}
    except OSError as error:
        errors.append(f"{named_by} {path}: {error.strerror}")
        return {}
    if text is None:
        errors.append(f"{named_by} {path}: no such file")
        return {}
    return read_mapping(text, str(path), errors)


def read_mapping(text: str, name: str, errors: list[str]) -> Sayings:
    """Read the text of a mapping; `name` is that of its file. What is wrong goes into `errors`."""
    if any(len(line) > _LONGEST_LINE for line in text.split("\n")):
        errors.append(f"{name}: a line is longer than {_LONGEST_LINE:,} characters")
        return {}
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        errors.append(f"{name}: not TOML: {error}")
        return {}
    except (ValueError, RecursionError):
        errors.append(f"{name}: not TOML: a number is too long, or brackets stand too deep in each other")
        return {}
    lines = _lines_of(text)
    said: Sayings = {}
    for key, value in document.items():
        where = f"{name}:{lines.get((key,), 1)}: {key}"
        if key in TABLES or key == "time":
            if not isinstance(value, dict):
                errors.append(f"{where}: write a table, [{key}]")
                continue
            for inner, one in value.items():
                place = f"{name}:{lines.get((key, inner), lines.get((key,), 1))}: {inner}"
                if key == "time" and f"time.{inner}" not in _NAMES:
                    errors.append(f"{place}: unknown; [time] has {_names_of('time.')}")
                else:
                    said[f"{key}.{inner}"] = Said(one, place)
        elif key in _NAMES:
            said[key] = Said(value, where)
        else:
            errors.append(f"{where}: unknown; there are {_names_of('')}, [{'], ['.join((*TABLES, 'time'))}]")
    return said


def _names_of(prefix: str) -> str:
    names = [name.removeprefix(prefix) for name in sorted(_NAMES) if name.startswith(prefix)]
    return ", ".join(name for name in names if "." not in name)


def _lines_of(text: str) -> dict[tuple[str, ...], int]:
    """Find where each key is: the reader of TOML doesn't tell."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), 1):
        if head := _HEAD.match(line):
            table = tuple(head[1].split("."))
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            plain = key[3].split(".") if key[3] else [_unquoted(key[1]) if key[1] is not None else key[2]]
            found.setdefault((*table, *plain), number)
    return found


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text


def write_mapping(mapped: Mapped, remarks: dict[str, str] | None = None) -> str:
    """Write a mapping: what is not as it would be without it. `remarks`: a comment behind a key."""
    remarks = remarks or {}
    layout, times, usual = mapped.layout, mapped.times, Layout()
    top: dict[str, Any] = {}
    if mapped.format is not None:
        top["format"] = mapped.format
    for name in ("delimiter", "quote", "encoding", "skip_lines", "skip_after_header", "comment"):
        if getattr(layout, name) != getattr(usual, name):
            top[name] = getattr(layout, name) or "none"
    if not layout.has_header:
        top["header"] = False
    if layout.columns:
        top["columns"] = list(layout.columns)
    for name in ("decimal", "thousands", "readings"):
        if getattr(mapped, name) != getattr(Mapped(), name):
            top[name] = getattr(mapped, name)
    if mapped.kept:
        top["keep"] = list(mapped.kept)
    if mapped.missing:
        top["missing"] = sorted(mapped.missing)
    if mapped.id_from:
        top["id_from"] = list(mapped.id_from)
    time = {
        name: list(value) if isinstance(value, tuple) else value
        for name in ("columns", "format", "zone", "twice")
        if (value := getattr(times, name)) != getattr(Times(), name)
    }
    if times.earliest != Times().earliest:
        time["earliest"] = datetime.fromtimestamp(times.earliest, UTC).isoformat()
    values = {
        one.column: one.constants["kpi"] if set(one.constants) == {"kpi"} else dict(one.constants)
        for one in mapped.values
    }
    parts = [_pairs(top, "", remarks)]
    for table, pairs in (
        ("fields", mapped.columns),
        ("constants", mapped.constants),
        ("values", values),
        ("time", time),
    ):
        if pairs:
            parts.append(f"[{table}]\n{_pairs(dict(pairs), f'{table}.', remarks)}")
    return "\n".join(part for part in parts if part)


def _pairs(pairs: dict[str, Any], prefix: str, remarks: dict[str, str]) -> str:
    lines = []
    for name, value in pairs.items():
        key = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)
        remark = remarks.get(f"{prefix}{name}", "")
        lines.append(f"{key} = {_toml(value)}" + (f"  # {remark}" if remark else ""))
    return "".join(f"{line}\n" for line in lines)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(one)}" for name, one in value.items()) + " }"
    return _text(value)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
