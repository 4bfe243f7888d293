"""The texts of a foreign record, made ours: parsing, mapping, time. Pure.

A value that merely breaks a rule of the contract passes: the consumer keeps it as a dead letter. What
can't be read, or misses a field that nobody supplied, is a Problem with its reason.
"""

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import UUID

from services.contract.ids import CANONICAL
from services.contract.producing.outgoing import FIELD_NAMES, TRACE_NAMES
from services.producer.spellings import Spellings, Unclear

Format = Literal["jsonl", "csv"]
TsUnit = Literal["s", "ms", "us", "ns"]
Texts = dict[str, str]

UNIT: Final = "unit"
"""What may be mapped besides the fields of an event: the unit of its value. Only where it is asked for."""
FORMATS: Final = ("jsonl", "csv")
TS_UNITS: Final[Mapping[str, int]] = {"s": 0, "ms": 3, "us": 6, "ns": 9}
"""How many decimals of a second each unit is."""

_DECIMAL: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Problem(Exception):
    """A record can't be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """Where each field comes from: a column of theirs, or a constant."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Our field: their column."""
    constants: Mapping[str, str] = field(default_factory=dict)
    ts_unit: TsUnit = "s"
    kept: tuple[str, ...] = ()
    """Columns of theirs that become attributes."""

    @property
    def has_unit(self) -> bool:
        """Tell whether records or the options say what values are measured in."""
        return UNIT in self.columns or UNIT in self.constants

    def column(self, name: str) -> str:
        """Name the column of a field."""
        return self.columns.get(name, name)

    def absent(self, columns: Sequence[str]) -> list[str]:
        """List the fields that neither these columns nor a constant supply."""
        wanted = (*FIELD_NAMES[1:], UNIT) if self.has_unit else FIELD_NAMES[1:]
        return [name for name in wanted if self.column(name) not in columns and name not in self.constants]

    def unused(self, columns: Sequence[str]) -> list[str]:
        """List the columns that are not published."""
        published = self.published()
        return [column for column in columns if column not in published]

    def published(self) -> set[str]:
        """Name all columns that something of is published, if they are there."""
        names = (*FIELD_NAMES, *TRACE_NAMES, *((UNIT,) if self.has_unit else ()))
        return {*map(self.column, names), *self.kept}


def parse_json(data: bytes) -> Texts:
    """Read an object; numbers keep their text, null counts as absent. Raises Problem."""
    try:
        found = json.loads(
            data.decode(),
            parse_float=str,
            parse_int=str,
            parse_constant=str,
            object_pairs_hook=_without_doubles,
        )
    except UnicodeDecodeError as error:
        raise Problem(f"not UTF-8: {error.reason} at byte {error.start + 1}") from None
    except (ValueError, RecursionError) as error:
        raise Problem(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Problem(f"not a JSON object but {_kind(found)}")
    return {name: value for name, value in found.items() if value is not None}


def csv_parser(columns: Sequence[str]) -> Callable[[bytes], Texts]:
    """Make a parser of records with these columns; an empty text counts as given."""

    def parse(data: bytes) -> Texts:
        row = parse_row(data)
        if len(row) != len(columns):
            raise Problem(f"{len(row)} columns, and the header has {len(columns)}")
        return dict(zip(columns, row, strict=True))

    return parse


def parse_row(data: bytes) -> list[str]:
    """Read one CSV record. Raises Problem."""
    try:
        text = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise Problem(f"not UTF-8: {error.reason} at byte {error.start + 1}") from None
    if "\0" in text:
        raise Problem("a NUL byte in it")
    try:
        rows = list(csv.reader(text.splitlines(keepends=True) if "\n" in text else [text], strict=True))
    except csv.Error as error:
        raise Problem(f"not CSV: {error}") from None
    if len(rows) != 1:
        raise Problem(f"not CSV: {len(rows)} rows in one record")
    return rows[0]


def pick(texts: Mapping[str, Any], mapped: Mapped, spellings: Spellings) -> tuple[list[str], str | None]:
    """Take the five fields behind event_id, in the contract's order, and the record's own id if any.

    Raises Problem.
    """
    device_id, zone, ts, kpi, value = (_text(texts, name, mapped) for name in FIELD_NAMES[1:])
    unit = _text(texts, UNIT, mapped) if mapped.has_unit else ""
    try:
        kpi, value = spellings.reading(kpi, value, unit)
    except Unclear as error:
        raise Problem(str(error)) from None
    values = [device_id, zone, unix_seconds(ts, mapped.ts_unit), kpi, value]
    own_id = texts.get(mapped.column("event_id"), mapped.constants.get("event_id"))
    if own_id is None or own_id == "":
        return values, None
    return values, canonical_id(own_id)


def pick_trace(texts: Mapping[str, Any], mapped: Mapped) -> list[str]:
    """Take the trace context that a record carries, as names and values in turn; empty without one."""
    found = ((name, texts.get(mapped.column(name))) for name in TRACE_NAMES)
    kept = {name: value for name, value in found if isinstance(value, str) and value}
    # A state belongs to a context.
    return [part for pair in kept.items() for part in pair] if "traceparent" in kept else []


def canonical_id(text: Any) -> str:
    """Write a UUID as the contract has it; capitals are the same id. Raises Problem."""
    lower = text.lower() if isinstance(text, str) else ""
    if not CANONICAL.fullmatch(lower):
        raise Problem(f"event_id {_shown(text)} is not a UUID")
    return lower


def id_bytes(text: str) -> bytes:
    """Give the 16 bytes of a canonical id."""
    return UUID(text).bytes


def unix_seconds(text: str, unit: TsUnit) -> str:
    """Write a time as Unix seconds: a number in `unit`, or ISO 8601 (UTC where it names no zone).

    What is neither stays as it is. Nothing is rounded: the digits are moved.
    """
    if _DECIMAL.fullmatch(text):
        return _moved(text, TS_UNITS[unit])
    if not _DATE.match(text):
        return text
    try:
        moment = datetime.fromisoformat(text)
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        return text
    micros = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    sign = "-" if micros < 0 else ""
    return sign + _moved(str(abs(micros)), 6)


def _moved(text: str, places: int) -> str:
    if places == 0:
        return text
    whole, _, fraction = text.partition(".")
    whole = whole.zfill(places + 1)
    return f"{whole[:-places]}.{whole[-places:]}{fraction}".rstrip("0").rstrip(".")


def _text(texts: Mapping[str, Any], name: str, mapped: Mapped) -> str:
    column = mapped.column(name)
    value = texts.get(column, mapped.constants.get(name))
    if isinstance(value, str):
        return value
    if value is None:
        raise Problem(f"no {_shown(column)}, which is to be {name}")
    raise Problem(f"{_shown(column)} is {_kind(value)}, and {name} is a text or a number")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text or a number", bool: "true or false"}
    return names.get(type(value), "null")


def _shown(text: Any) -> str:
    return ascii(text)[:80]
