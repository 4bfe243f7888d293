"""A mapping out of what was seen. What is given stays; what can't be known is said, with what to write."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from services.contract.kpis import Kpi, Kpis
from services.ops.inspect.beginning import Beginning, told_encoding
from services.ops.inspect.columns import (
    MOST_CELLS,
    MOST_COLUMNS,
    Column,
    is_number,
    is_unclear,
    missing_marks,
    names_no_zone,
    other_order,
    style_of,
    tell_kinds,
    time_format,
)
from services.ops.inspect.layout import see_table
from services.ops.inspect.names import (
    FIELDS,
    PARTS,
    conversion_of,
    is_no_reading,
    kpi_of,
    offset_in,
    part_of_time,
    rank,
    unit_in,
    unknown_unit,
)
from services.ops.inspect.nested import is_line_protocol, see_json, see_line_protocol
from services.producer.files.inputs import tell_format
from services.producer.mapping.mapped import NO_READING, ORDERS, UNIT, Format, Mapped, Times, ValueColumn
from services.producer.rows.influx import FIELD, MEASUREMENT, TIME, VALUE
from services.producer.spellings import NumberStyle, Spellings, unit_of
from services.runtime.redact import head

UNKNOWN: Final = "unknown"
"""What a proposal says of a zone or a KPI that nothing in the file tells."""
_MOST_VALUES: Final = 50
_MOST_SAID: Final = 12


@dataclass(slots=True)
class Proposal:
    """What was seen in a source, and how it might be read."""

    mapped: Mapped
    columns: list[Column] = field(default_factory=list)
    header_line: int = 0
    unsure: list[str] = field(default_factory=list)
    """What was taken without knowing, and what to write if it is wrong."""
    left: list[str] = field(default_factory=list)
    """Columns that are not taken."""


def propose(
    beginning: Beginning, path: Path | None, given: Mapped, kpis: Kpis, *, is_final: bool = False
) -> Proposal:
    """Look at a source, and propose a mapping that keeps to what is given; `is_final`: that is the mapping.

    Raises SourceUnusable.
    """
    encoding = given.layout.encoding or (None if is_final else told_encoding(beginning.text))
    mapped = replace(given, layout=replace(given.layout, encoding=encoding))
    text, _ = beginning.text(encoding)
    kind = tell_format(path, text[: 1 << 16], mapped)
    if given.format is None and not is_final and kind == "csv" and is_line_protocol(text):
        kind = "influx"
    proposal = Proposal(replace(mapped, format=kind))
    if encoding is not None and given.layout.encoding is None:
        line = next(one for one in text.split(b"\n") if not one.isascii()).decode("utf-8", "replace").strip()
        proposal.unsure.append(
            f"It is not UTF-8: read as {encoding}. Is this right: {head(line, 40)}? Else: --encoding NAME"
        )
    if kind == "csv":
        _see_table(proposal, text)
    elif kind == "influx":
        proposal.columns = see_line_protocol(text)
    elif kind != "senml":
        _see_json(proposal, text, beginning.name, kind)
    if is_final:
        proposal.mapped = replace(mapped, format=kind)
        _tell_uses(proposal)
    else:
        stem = "stdin" if path is None else re.sub(r"[^\w-]+", "_", path.name.split(".")[0])[:64]
        _Maker(proposal, given, kpis, stem or "device").make()
    return proposal


def _tell_uses(proposal: Proposal) -> None:
    """Say of each column what a mapping takes it for."""
    mapped = proposal.mapped
    tell_kinds(proposal.columns, NumberStyle(mapped.decimal, mapped.thousands), mapped.times)
    uses = {mapped.column(name).casefold(): name for name in FIELDS}
    uses |= {one.column.casefold(): " ".join(one.constants.values()) for one in mapped.values}
    uses |= {name.casefold(): "ts" for name in mapped.times.columns}
    uses |= {mapped.columns[name].casefold(): name for name in (UNIT,) if name in mapped.columns}
    uses |= {name.casefold(): "attribute" for name in mapped.kept}
    for number, column in enumerate(proposal.columns, 1):
        column.use = uses.get(column.name.casefold(), "") or uses.get(f"#{number}", "")


def _see_table(proposal: Proposal, text: bytes) -> None:
    seen = see_table(text, proposal.mapped)
    proposal.columns, proposal.header_line = seen.columns, seen.header_line
    proposal.mapped = replace(proposal.mapped, layout=seen.layout)


def _see_json(proposal: Proposal, text: bytes, name: str, kind: Format) -> None:
    seen = see_json(text, name, is_lines=kind == "jsonl", readings=proposal.mapped.readings)
    if seen.is_senml:
        proposal.mapped = replace(proposal.mapped, format="senml")
        return
    is_one = kind == "jsonl" and seen.readings and text.strip().count(b"\n") == 0
    proposal.columns = seen.columns
    proposal.mapped = replace(proposal.mapped, readings=seen.readings, format="json" if is_one else kind)


class _Maker:
    """Fills in what a mapping does not say yet."""

    def __init__(self, proposal: Proposal, given: Mapped, kpis: Kpis, stem: str) -> None:
        self._proposal = proposal
        self._given = given
        self._kpis = kpis
        self._spellings = Spellings(kpis)
        self._stem = stem
        self._columns = proposal.columns
        self._fields = dict(given.columns)
        self._constants = dict(given.constants)
        self._values: list[ValueColumn] = list(given.values)
        self._taken = {*given.columns.values(), *given.times.columns, *given.kept}
        self._taken |= {one.column for one in given.values}

    def make(self) -> None:
        """Fill it in."""
        mapped = self._proposal.mapped
        style = NumberStyle(mapped.decimal, mapped.thousands)
        if style == NumberStyle() and mapped.format == "csv":
            style = style_of(self._columns)
        tell_kinds(self._columns, style, mapped.times)
        if not mapped.values:
            self._name_bad_cells(style, mapped.missing)
        if mapped.format == "csv" and (unclear := is_unclear(self._columns, style)):
            self._say(f"Is {unclear} below a thousand? Taken so. Else: --decimal . --thousands ,")
        if mapped.format == "influx":
            self._take_line_protocol()
        times = self._times(mapped.times) if mapped.format not in {"senml", "influx"} else mapped.times
        if mapped.format != "senml":
            self._field("kpi", "text")
            self._kpi_by_content()
        for name in ("device_id", "zone"):
            if mapped.format != "senml" or name == "zone":
                self._place(name)
        if mapped.format not in {"senml", "influx"}:
            self._readings()
        marks = [] if mapped.missing else missing_marks(self._columns, style)
        self._proposal.mapped = replace(
            mapped,
            columns=self._fields,
            constants=self._constants,
            values=tuple(self._values),
            times=times,
            decimal=style.decimal,
            thousands=style.thousands,
            missing=mapped.missing | {mark for mark in marks if mark.casefold() not in NO_READING},
        )
        for name, theirs in self._given.columns.items():
            for column in self._columns:
                if column.name == theirs:
                    column.use = name
        self._proposal.left = [
            column.name for column in self._columns if not column.use and column.name not in self._taken
        ]

    def _name_bad_cells(self, style: NumberStyle, missing: frozenset[str]) -> None:
        """Take a column of a KPI for numbers where texts stand between them, and ask what those mean."""
        for column in self._columns:
            named = kpi_of(column.title, self._kpis)
            if column.name in self._taken or named is None or not named[2]:
                continue
            cells = [one for one in column.filled if one.strip() not in missing]
            texts = [one for one in cells if not is_number(one, style)]
            if not cells or column.kind not in {"text", "number"} or len(texts) > 0.5 * len(cells):
                continue
            column.kind = "number"
            if texts and any(map(str.isalpha, texts[0])):
                self._say(
                    f"{column.name} has {head(texts[0], 20)!r}, which is refused. "
                    f"If it means no reading: --missing {head(texts[0], 20)!r}"
                )

    def _say(self, text: str) -> None:
        self._proposal.unsure.append(text)

    def _free(self, *kinds: str) -> list[Column]:
        return [one for one in self._columns if one.name not in self._taken and one.kind in kinds]

    def _take(self, field_name: str, column: Column) -> None:
        self._fields[field_name] = column.name
        self._use(column, field_name)

    def _use(self, column: Column, use: str) -> None:
        column.use = use
        self._taken.add(column.name)

    def _field(self, name: str, *kinds: str) -> None:
        """Take the column that is a field by its name."""
        if name in self._fields or name in self._constants:
            return
        ranked = [(at, one) for one in self._free(*kinds) if (at := rank(name, one.title)) is not None]
        if name == "device_id":
            ranked = [(at, one) for at, one in ranked if not _counts_rows(one)]
        if ranked:
            self._take(name, min(ranked, key=lambda pair: pair[0])[1])

    def _take_line_protocol(self) -> None:
        """Take what the format says, and a place."""
        for column in self._columns:
            uses = {TIME: "ts", FIELD: "kpi", VALUE: "value"}
            if column.name in uses:
                self._use(column, uses[column.name])
        tags = [one for one in self._columns if one.name not in {*self._taken, MEASUREMENT}]
        told = {*self._fields, *self._constants}
        if len(tags) == 1 and not told & {"device_id", "zone"} and rank("device_id", tags[0].name) is None:
            self._take("device_id", tags[0])
            self._take("zone", next(one for one in self._columns if one.name == MEASUREMENT))
            self._say(
                f"Is {tags[0].name} the device_id, and the measurement the zone? Taken so. "
                "Else: --map zone=TAG, or --const zone=NAME"
            )

    def _times(self, times: Times) -> Times:
        """Find the time: a column, a date and a clock, or parts."""
        if times.columns or "ts" in self._fields:
            names = times.columns or (self._fields["ts"],)
            columns = [one for name in names for one in self._columns if one.name == name]
            for column in columns:
                self._use(column, "ts")
            return self._format(times, columns)
        if "ts" in self._constants:
            return times
        parts = {part: one for one in self._free("number") if (part := part_of_time(one.title)) is not None}
        if {"year", "month", "day"} <= parts.keys():
            columns = [parts[part] for part in PARTS if part in parts]
            for column in columns:
                self._use(column, "ts")
            return self._format(replace(times, columns=tuple(one.name for one in columns)), columns)
        found = [(9 if (at := rank("ts", one.title)) is None else at, one) for one in self._free("time")]
        if not found:
            free = self._free("text", "number", "clock")
            by_name = [one for one in free if rank("ts", one.title) is not None]
            if not by_name:
                by_name = [one for one in free if one.kind == "number" and self._has_times(one, times)]
                if by_name:
                    self._say(f"Is {by_name[0].name} the time? Taken so. Else: --map ts=COLUMN")
            if not by_name:
                self._say("No column is a time. Name one: --map ts=COLUMN")
                return times
            self._take("ts", by_name[0])
            return self._format(times, by_name[:1])
        first = min(found, key=lambda pair: pair[0])[1]
        others = [one.name for at, one in found if one is not first and rank("ts", one.title) is not None]
        if others:
            several = ", ".join((first.name, *others[:4]))
            self._say(f"Which is the time: {several}? Taken: the first. Else: --map ts=COLUMN")
        clocks = self._free("clock")
        self._use(first, "ts")
        if clocks and not any(":" in cell for cell in first.filled[:20]):
            self._use(clocks[0], "ts")
            columns = [first, clocks[0]]
            return self._format(replace(times, columns=tuple(one.name for one in columns)), columns)
        self._fields["ts"] = first.name
        return self._format(times, [first])

    def _format(self, times: Times, columns: Sequence[Column]) -> Times:
        cells = [column.cells for column in columns]
        texts = [" ".join(row) for row in zip(*cells, strict=False) if all(row)][:MOST_CELLS]
        if not texts:
            return times
        form, _ = time_format(texts, times)
        other = other_order(texts, form) if times.format == "auto" and form in ORDERS else ""
        if other:
            self._say(f"Is {head(texts[0], 20)} {form}? Taken so. Else: --time-format {other}")
        if times.zone == "UTC" and names_no_zone(texts):
            if zone := next(filter(None, (offset_in(one.title) for one in columns)), ""):
                self._say(
                    f"Are times at {zone}, as their column says? Taken so. Else: --time-zone Europe/Berlin"
                )
                return replace(times, format=form, zone=zone)
            self._say("Times name no zone: taken as UTC. For local times: --time-zone Europe/Berlin")
        return replace(times, format=form)

    @staticmethod
    def _has_times(column: Column, times: Times) -> bool:
        cells = column.filled[:MOST_CELLS]
        return time_format(cells, times)[1] >= 0.8 * len(cells)

    def _kpi_by_content(self) -> None:
        """Take a column of texts that are KPIs."""
        if "kpi" in self._fields or "kpi" in self._constants or self._given.values:
            return
        for column in self._free("text"):
            cells = column.filled
            if sum(self._spellings.kpi(cell.strip()) is not None for cell in cells) >= 0.8 * len(cells):
                self._take("kpi", column)
                return

    def _place(self, name: str) -> None:
        if all(name in one.constants for one in self._given.values) and self._given.values:
            return
        self._field(name, "text", "number", "time")
        if name in self._fields or name in self._constants:
            return
        nameless = [one for one in self._free("text") if not one.title]
        if nameless:
            self._take(name, nameless[0])
            self._say(f"Is column {nameless[0].name} the {name}? Taken so. Else: --map {name}=COLUMN")
            return
        self._constants[name] = self._stem if name == "device_id" else UNKNOWN
        word = "sensor's name" if name == "device_id" else "place"
        self._say(
            f"No column is the {name} ({word}): all are {self._constants[name]!r}. "
            f"--map {name}=COLUMN, or --const {name}=NAME"
        )

    def _readings(self) -> None:
        """Find the value, or the columns that are a reading each."""
        if self._given.values:
            for column in self._columns:
                uses = (one.constants["kpi"] for one in self._values if one.column == column.name)
                column.use = next(uses, column.use)
            return
        numbers = self._free("number")
        # A value's column may have texts too, where several kinds of things are in one table.
        free = self._free("number", "text", "time")
        named = [(at, one) for one in free if (at := rank("value", one.title)) is not None]
        if "kpi" in self._fields or "kpi" in self._constants or "value" in self._fields:
            self._one_value(named, numbers)
            return
        wide = [(one, found) for one in numbers if (found := kpi_of(one.title, self._kpis)) is not None]
        if wide and not any(at == 0 for at, _ in named):
            self._wide(wide)
            rest = [one for one in self._free("number") if not is_no_reading(one.title)]
            for column in rest[:_MOST_SAID]:
                self._say(f"Is {column.name} a reading ({_some(column)})? Left out. Else: {_value(column)}")
            self._say_more(rest[_MOST_SAID:])
            return
        own = [one for one in numbers if not is_no_reading(one.title)]
        if named or len(own) <= 1:
            self._one_value(named, own or numbers)
            return
        for column in own[:_MOST_VALUES]:
            name = column.title.strip() or f"column_{column.name.removeprefix('#')}"
            self._values.append(ValueColumn(column.name, {"kpi": name}))
            self._use(column, name)
        for column in own[:_MOST_SAID]:
            self._say(f"Which KPI is {column.name} ({_some(column)})? {_value(column)}")
        self._say_more(own[_MOST_VALUES:])

    def _say_more(self, columns: Sequence[Column]) -> None:
        """Say that there are more columns of numbers than a proposal has: nobody would miss them."""
        unseen = max(0, len(self._columns) - MOST_COLUMNS)
        if count := len(columns) + unseen:
            first = (columns or self._columns[MOST_COLUMNS:])[0]
            self._say(
                f"{count:,} more columns, from {first.name} on, are left out. Those that are readings: "
                f"{_value(first)}, and so on"
            )

    def _one_value(self, named: Sequence[tuple[int, Column]], numbers: Sequence[Column]) -> None:
        if "value" not in self._fields and "value" not in self._constants:
            if named:
                self._take("value", min(named, key=lambda pair: pair[0])[1])
            elif numbers:
                if len(numbers) > 1:
                    names = ", ".join(one.name for one in numbers[:5])
                    self._say(f"Which is the value: {names}? Taken: the first. Else: --map value=COLUMN")
                self._take("value", numbers[0])
            else:
                self._say("No column has numbers. Name the one of the readings: --map value=COLUMN")
        if "kpi" not in self._fields and "kpi" not in self._constants:
            name = self._fields.get("value", "")
            column = next((one for one in self._columns if one.name == name), None)
            found = kpi_of(column.title, self._kpis) if column is not None else None
            self._constants["kpi"] = found[0].name if found else UNKNOWN
            if found is None or not found[2]:
                self._ask_kpi(name, self._constants["kpi"])
        units = [one for one in self._free("text") if rank("unit", one.title) is not None]
        if units and "unit" not in self._fields and "unit" not in self._constants:
            if self._knows_units(units[0]):
                self._take("unit", units[0])
            else:
                self._say(
                    f"{units[0].name} has no unit of a KPI ({_some(units[0])}): values are taken as they are"
                )

    def _ask_kpi(self, column: str, taken: str) -> None:
        known = next(iter(self._kpis))
        what = f"As {UNKNOWN!r} they are dead letters." if taken == UNKNOWN else f"Taken as {taken}."
        self._say(f"Which KPI are the values of {column or 'it'}? {what} --const kpi={known}")

    def _knows_units(self, column: Column) -> bool:
        """Tell whether a column has units of ours; another one of a known KPI is refused."""
        return any(
            unit_of(kpi, cell) is not None for kpi in self._kpis.values() for cell in set(column.filled)
        )

    def _unit_beside(self, column: Column) -> str:
        """Find the unit of a list in JSON: beside `hourly.temperature` that is `hourly_units.temperature`."""
        for one in self._columns if self._proposal.mapped.readings else ():
            at, _, name = one.name.rpartition(".")
            if name == column.name and "unit" in at.casefold() and len(set(one.filled)) == 1:
                return one.filled[0]
        return ""

    def _wide(self, wide: Sequence[tuple[Column, tuple[Kpi, str, bool]]]) -> None:
        """Take a reading out of each column; those of one KPI are told apart by the rest of their names."""
        counts: dict[str, int] = {}
        for _, (kpi, _, _) in wide:
            counts[kpi.name] = counts.get(kpi.name, 0) + 1
        # Where a column names the device, the columns are places of it.
        apart = "device_id" if "device_id" in self._constants else "zone" if "zone" in self._constants else ""
        apart = "" if apart in self._given.constants else apart
        has_twins = any(count > 1 for count in counts.values())
        for number, (column, (kpi, rest, is_sure)) in enumerate(wide[:_MOST_VALUES]):
            one: dict[str, str] = {"kpi": kpi.name}
            if apart and (counts[kpi.name] > 1 or (rest and apart == "device_id" and has_twins)):
                one[apart] = rest or f"{kpi.name}_{number + 1}"
            unit, is_unit = unit_in(column.title, kpi)
            below = column.unit or self._unit_beside(column)
            unit = unit or conversion_of(kpi, below)
            if unit:
                one["unit"] = unit
            elif foreign := unknown_unit(column.title, below, kpi):
                self._say(
                    f"Is {column.name} in {kpi.unit}? Taken so, though it says {head(foreign, 20)!r}, which "
                    f"is no unit of {kpi.name}. Else: its unit in [values], and how it is converted in "
                    "KPIS_FILE"
                )
            if unit and not is_unit:
                self._say(f"Is {column.name} in {unit}? Taken so. Else change its unit in [values]")
            self._values.append(ValueColumn(column.name, one))
            self._use(column, " ".join(one.values()))
            if not is_sure:
                self._say(f"Is {column.name} {kpi.name}? Taken so. Else: {_value(column)}")
        if apart and any(apart in one.constants for one in self._values):
            self._say(f"Columns of one KPI have a {apart} each, by their names. Change it in [values]")
            if all(apart in one.constants for one in self._values):
                self._constants.pop(apart, None)
                self._proposal.unsure[:] = [
                    one for one in self._proposal.unsure if not one.startswith(f"No column is the {apart} ")
                ]


def _counts_rows(column: Column) -> bool:
    """Tell whether an id is that of a row: each is another."""
    cells = column.filled
    return column.title.casefold() in {"id", "name"} and len(cells) >= 10 and len(set(cells)) == len(cells)


def _some(column: Column) -> str:
    return ", ".join(head(one, 12) for one in column.examples[:2])


def _value(column: Column) -> str:
    name = column.name if column.name.isidentifier() else f"'{column.name}'"
    return f"--value {name}=KPI"
