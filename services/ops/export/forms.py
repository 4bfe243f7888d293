"""Stored events as text: CSV, and JSON by the line. Both have the fields of `telemetry events --json`. Pure.

Numbers are written with all of their digits, and names as they are, so that `telemetry run --from` makes the
same events of them again.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, Protocol

from services.contract.attributes import write_attributes
from services.contract.codec import decimal
from services.contract.kpis import Kpis
from services.ops.data.filters import unit_of
from services.stores.rows import StoredRow

Form = Literal["csv", "jsonl"]

COLUMNS: Final = (
    "event_id",
    "device_id",
    "zone",
    "ts",
    "kpi",
    "value",
    "unit",
    "is_degraded",
    "stored_at",
    "attributes",
)
_FORMULA: Final = ("=", "+", "-", "@")
"""What a text begins with that a spreadsheet takes for a formula; no name has a tab or a line feed."""
_MARK: Final = "\ufeff"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Lines(Protocol):
    """Writes events in one form."""

    @property
    def formulas(self) -> int:
        """How many of the texts so far a spreadsheet would take for formulas."""
        ...

    def head(self) -> str:
        """Give what stands before the first event."""
        ...

    def lines(self, rows: Iterable[StoredRow]) -> str:
        """Give the lines of some events, each with its end."""
        ...


class JsonLines:
    """An object a line, in ASCII: JSON escapes the rest."""

    formulas = 0
    """A spreadsheet reads no JSON."""

    def __init__(self, kpis: Kpis, *, with_iso_times: bool) -> None:
        self._kpis = kpis
        self._time: Callable[[float], float | str] = iso if with_iso_times else float
        self._write = json.JSONEncoder(allow_nan=False).encode

    def head(self) -> str:
        """Give nothing."""
        return ""

    def lines(self, rows: Iterable[StoredRow]) -> str:
        """Give the objects of some events."""
        return "".join(f"{self._write(self._record(row))}\n" for row in rows)

    def _record(self, row: StoredRow) -> dict[str, Any]:
        values = row._asdict() | {
            "unit": unit_of(self._kpis, row.kpi),
            "ts": self._time(row.ts),
            "stored_at": self._time(row.stored_at),
            # In one order, whatever the store has them in.
            "attributes": dict(sorted(row.attributes.items())),
        }
        return {name: values[name] for name in COLUMNS}


class CsvLines:
    """A table with a header; an event's attributes are one cell of JSON.

    `for_spreadsheet`: an apostrophe stands before each text that would be a formula, and a mark before all,
    by which the table is seen to be UTF-8.
    """

    def __init__(self, kpis: Kpis, *, with_iso_times: bool, for_spreadsheet: bool) -> None:
        self.formulas = 0
        self._kpis = kpis
        self._time = iso if with_iso_times else decimal
        self._for_spreadsheet = for_spreadsheet
        self._text = io.StringIO(newline="")
        self._plain = csv.writer(self._text, lineterminator="\n")
        self._quoted = csv.writer(self._text, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def head(self) -> str:
        """Give the header."""
        return f"{_MARK if self._for_spreadsheet else ''}{','.join(COLUMNS)}\n"

    def lines(self, rows: Iterable[StoredRow]) -> str:
        """Give the rows of some events."""
        self._text.seek(0)
        self._text.truncate()
        for row in rows:
            cells = self._cells(row)
            # Blanks around a name are of the name, and readers leave them only within quotes.
            has_blanks = any(text != text.strip() for text in (row.device_id, row.zone))
            (self._quoted if has_blanks else self._plain).writerow(cells)
        return self._text.getvalue()

    def _cells(self, row: StoredRow) -> Sequence[str]:
        return (
            row.event_id,
            self._safe(row.device_id),
            self._safe(row.zone),
            self._time(row.ts),
            self._safe(row.kpi),
            decimal(row.value),
            self._safe(unit_of(self._kpis, row.kpi) or ""),
            "true" if row.is_degraded else "false",
            self._time(row.stored_at),
            write_attributes(row.attributes) or "",
        )

    def _safe(self, text: str) -> str:
        if not text.lstrip().startswith(_FORMULA):
            return text
        self.formulas += 1
        return f"'{text}" if self._for_spreadsheet else text


def iso(unix_s: float) -> str:
    """Write a time as ISO 8601 in UTC, with its microseconds; one beyond the year 9999 as Unix seconds."""
    try:
        # By whole microseconds: a float's own fraction is a little more or less.
        moment = _EPOCH + timedelta(microseconds=round(unix_s * 1e6))
    except OverflowError:
        return decimal(unix_s)
    return moment.isoformat().replace("+00:00", "Z")
