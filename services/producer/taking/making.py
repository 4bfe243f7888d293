"""From what was sent to events that can be published, or to what is wrong with each. Pure.

What has no id of its own is given one of all its content, or of what the mapping says (`id_from`): a client
that sends it again after an answer that was lost sends a duplicate. What has no time of its own has the time
of its arrival: it is numbered when it is published, and sent again it is another event.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from services.contract.event import MAX_LABEL_CHARS
from services.contract.ids import derived_id
from services.contract.kpis import Kpi
from services.contract.producing.outgoing import FIELD_NAMES, TRACE_NAMES, Outgoing
from services.producer.mapping.mapped import ATTRIBUTES, UNIT, Format, Mapped
from services.producer.rows.forms import with_defaults
from services.producer.rows.influx import FIELD, MEASUREMENT, TIME, VALUE, lines_of, parse_line, rows_of
from services.producer.rows.nested import (
    COLUMNS,
    finder,
    kind_of,
    outward,
    parse_json,
    path_of_lists,
    resolved,
    unfold,
)
from services.producer.rows.pick import Get, Picked, Picker
from services.producer.rows.problem import Problem, shown
from services.producer.rows.publishable import checked
from services.producer.rows.resolve import resolver
from services.producer.rows.times import TimeReader
from services.producer.spellings import NumberStyle, Spellings

ARRIVAL: Final = ""
"""The time of an event that has none of its own."""
MOST_NAMED: Final = 20
"""Refusals that are named one by one; the rest is counted."""
_LABEL: Final = re.compile(rf"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{{1,{MAX_LABEL_CHARS}}}")
_TAGS: Final[Mapping[str, tuple[str, ...]]] = {
    "device_id": ("device_id", "device", "sensor_id", "sensor", "host"),
    "zone": ("zone", "area", "room", "location", "site"),
}
"""Tags of line protocol that are looked for, in this order, where a mapping says nothing."""
_DEFAULT_ZONE: Final = "default"
_BESIDE: Final = frozenset({"event_id", ATTRIBUTES, UNIT, *TRACE_NAMES})
"""What an event may have beside its five fields."""
_FIVE: Final = frozenset(FIELD_NAMES[1:])
_UNUSUAL: Final = ("", "", "", "", "")
"""Says that a row wants a closer look."""
_TOLD: Final = "\0"
"""Begins the column of a field that is told beside a document: no mapping names such a one."""
Told = Mapping[str, str]
"""Fields of ours, and what they are."""
PRECISIONS: Final[Mapping[str, tuple[str, int]]] = {
    "ns": ("ns", 1), "n": ("ns", 1), "us": ("us", 1), "u": ("us", 1), "µ": ("us", 1), "ms": ("ms", 1),
    "s": ("s", 1), "m": ("s", 60), "h": ("s", 3600),
}  # fmt: skip
"""How line protocol may say its times: a unit of ours, and how many of it."""


_VALUES_OF_EVENT: Final = 40
_MOST_VALUES: Final = 200_000
"""Of a document, however few events it may have. One of 5 MiB can have millions, which take 200 MB."""


class TooMany(Exception):
    """There are more events than one request may have, or far more values than they have."""


class Refused(NamedTuple):
    """What is wrong with one event."""

    position: int
    """Of the event, or of its line; from 1."""
    field: str
    """Of the event; empty where it can't be told."""
    reason: str


@dataclass(slots=True)
class Made:
    """What became of all that was sent. Adding to it raises TooMany."""

    most: int
    """Events and refusals that it may have."""
    events: list[tuple[int, Picked]] = field(default_factory=list)
    """Each behind its position."""
    ready: Sequence[Outgoing] = ()
    """Events that want nothing more before they are published. Then there are no others, and no refusals."""
    refused: list[Refused] = field(default_factory=list)
    """The first of them."""
    refused_fields: list[str] = field(default_factory=list)
    """Of all of them."""
    without_reading: int = 0
    """Where it says itself that there is none: null, unavailable, nan."""

    @property
    def good(self) -> int:
        """How many events there are."""
        return len(self.events) + len(self.ready)

    def labels(self) -> Iterator[tuple[int, str, str]]:
        """Give position, device and zone of each event."""
        for position, picked in self.events:
            yield position, picked.values[0], picked.values[1]
        for position, outgoing in enumerate(self.ready, 1):
            yield position, str(outgoing.fields[1]), str(outgoing.fields[2])

    def refuse(self, position: int, problem: Problem) -> None:
        """Enter a refusal."""
        self._make_room()
        self.refused_fields.append(problem.field)
        if len(self.refused) < MOST_NAMED:
            self.refused.append(Refused(position, problem.field, str(problem)))

    def add(self, position: int, picked: Picked) -> None:
        """Enter an event."""
        self._make_room()
        self.events.append((position, picked))

    def _make_room(self) -> None:
        if len(self.events) + len(self.refused_fields) >= self.most:
            raise TooMany


class _DoorTimes(TimeReader):
    """Reads times, and lets them be missing."""

    def __init__(self, mapped: Mapped, factor: int = 1) -> None:
        super().__init__(mapped.times)
        self._factor = factor
        self._is_needed = bool(mapped.id_from)

    def seconds(self, text: str) -> str:
        text = text.strip()
        if not text and not self._is_needed:
            return ARRIVAL
        if self._factor != 1 and text.isascii() and text.isdigit() and len(text) < 20:
            text = str(int(text) * self._factor)
        return super().seconds(text)


@dataclass(frozen=True, slots=True)
class Rules:
    """What every event is held to."""

    spellings: Spellings
    kpis: Mapping[str, Kpi] | None
    """None: any KPI passes, in any range; the consumer holds it to the rules, behind its steps."""
    max_entry_bytes: int
    most_events: int


class JsonMaker:
    """Makes events of JSON, by a mapping.

    `told`: fields that are told beside each document. What is told goes before what the document says. With
    them a document may be a number alone, or have numbers among its elements: each is a value.
    """

    def __init__(self, mapped: Mapped, rules: Rules, told: Collection[str] | None = None) -> None:
        usual = None
        if mapped == Mapped():
            usual = _usual_event if told is None else _usual_told
        self._kind: Format = "senml" if mapped.format == "senml" else "json"
        mapped = _lenient(with_defaults(mapped, self._kind))
        mapped = replace(mapped, columns={ATTRIBUTES: ATTRIBUTES, **mapped.columns})
        self._value_column = mapped.column("value") if told is not None else None
        if told is not None:
            mapped = replace(mapped, columns={**mapped.columns, **{name: _TOLD + name for name in told}})
        self._rules = rules
        self._has_columns = mapped.readings.endswith(COLUMNS)
        self._lists: tuple[tuple[str, ...], ...] | None = None
        if mapped.readings:
            first, others = path_of_lists(mapped.readings)
            self._lists = (first, *others)
        self._is_list_itself = self._lists is not None and self._lists[0] == ()
        find: Callable[[str], Get] = finder if self._lists is None else lambda path: outward(finder(path))
        if told is not None:
            find = _beside
        self._picker = _picker(mapped, rules, find, _DoorTimes(mapped), usual)

    def document(self, data: bytes, told: Told | None = None) -> Made:
        """Make events of one document. Raises Problem where it is no JSON, and TooMany.

        Where it is a list, an element that can't be read costs itself alone. `told`: see the class.
        """
        return self.value(self._parsed(data), told)

    def _parsed(self, data: bytes) -> Any:
        """Read a document, unless it would take up too much. Raises Problem and TooMany."""
        most = max(_MOST_VALUES, _VALUES_OF_EVENT * self._rules.most_events)
        # Each value but the first stands behind one of these.
        if len(data) > most and sum(map(data.count, (b",", b"[", b"{"))) > most:
            raise TooMany
        return parse_json(data)

    def value(self, document: Any, told: Told | None = None) -> Made:
        """Make events of a document that is read already. Raises TooMany."""
        made = Made(self._rules.most_events)
        is_list = isinstance(document, list) and self._kind == "json" and not self._is_list_itself
        position = 0
        for element in document if is_list else [document]:
            position = self._take(made, element, position + 1, told=told)
        return made

    def lines(self, data: bytes) -> Made:
        """Make events of JSON lines; a bad line costs itself alone. Raises TooMany."""
        made = Made(self._rules.most_events)
        for number, line in enumerate(data.split(b"\n"), 1):
            if not line or line.isspace():
                continue
            try:
                found = self._parsed(line)
            except Problem as problem:
                made.refuse(number, problem)
            else:
                self._take(made, found, number, is_line=True)
        return made

    def _take(
        self, made: Made, element: Any, position: int, *, is_line: bool = False, told: Told | None = None
    ) -> int:
        """Make the events of an element, or of a line; gives the position of the last of them."""
        try:
            rows = self._rows(element)
            if told is not None:
                rows = [(*row, told) if isinstance(row, tuple) else (row, told) for row in rows]
        except Problem as problem:
            made.refuse(position, problem)
            return position
        for at, row in enumerate(rows):
            place = position if is_line else position + at
            _add(made, place, self._picker, row, self._rules)
        return position if is_line else position + max(0, len(rows) - 1)

    def _rows(self, element: Any) -> list[Any]:
        """Give the rows of an element, all of them or none. Raises Problem."""
        if self._kind == "senml":
            return list(resolved(element if isinstance(element, list) else [element]))
        if self._lists is not None:
            return list(unfold((element,), self._lists, has_columns=self._has_columns))
        if self._value_column is not None and (element is None or isinstance(element, str)):
            return [{self._value_column: "null" if element is None else element}]
        if not isinstance(element, dict):
            raise Problem(f"not a JSON object but {kind_of(element)}", "not an object")
        return [element]


def _beside(path: str) -> Get:
    """Find a path in a row whose last part is what was told beside it."""
    if path.startswith(_TOLD):
        name = path.removeprefix(_TOLD)
        return lambda row: row[-1].get(name)
    find = outward(finder(path))
    return lambda row: find(row[:-1])


class LineMaker:
    """Makes events of InfluxDB line protocol, by a mapping."""

    def __init__(self, mapped: Mapped, rules: Rules) -> None:
        usual = _usual_row if replace(mapped, format=None) == Mapped() else None
        mapped = _lenient(with_defaults(replace(mapped, format="influx"), "influx"))
        if "zone" not in mapped.columns and "zone" not in mapped.constants:
            mapped = replace(mapped, constants={**mapped.constants, "zone": _DEFAULT_ZONE})
        self._is_wide = bool(mapped.values)
        self._rules = rules
        self._pickers = {
            precision: _picker(
                mapped,
                rules,
                _tag_finder(mapped),
                _DoorTimes(replace(mapped, times=replace(mapped.times, format=unit)), factor),
                usual,
            )
            for precision, (unit, factor) in PRECISIONS.items()
        }

    def lines(self, data: bytes, precision: str) -> Made:
        """Make events of lines whose times are in `precision`; a bad line costs itself alone.

        Raises TooMany.
        """
        made = Made(self._rules.most_events)
        picker = self._pickers[precision]
        for number, line in lines_of(data):
            if not line or line.isspace() or line.lstrip().startswith(b"#"):
                continue
            try:
                rows = rows_of(parse_line(line), is_wide=self._is_wide)
            except Problem as problem:
                made.refuse(number, problem)
                continue
            if not rows:
                made.refuse(number, Problem("no field of it is a number", "no number", "value"))
            for row in rows:
                if row.get(FIELD) == VALUE:
                    row[FIELD] = row[MEASUREMENT]
                _add(made, number, picker, row, self._rules)
        return made


def _lenient(mapped: Mapped) -> Mapped:
    """Let a time be missing, and heed a unit."""
    constants, columns = dict(mapped.constants), dict(mapped.columns)
    if not (mapped.times.columns or mapped.id_from):
        constants.setdefault("ts", ARRIVAL)
    if UNIT not in constants:
        columns.setdefault(UNIT, UNIT)
    return replace(mapped, constants=constants, columns=columns)


def _picker(
    mapped: Mapped,
    rules: Rules,
    find: Callable[[str], Get],
    times: TimeReader,
    usual: Callable[[Any], Sequence[str]] | None,
) -> Picker:
    style = NumberStyle(mapped.decimal, mapped.thousands)
    return Picker(mapped, find, times, resolver(rules.spellings, style), usual)


def _usual_event(row: Any) -> Sequence[str]:
    """Give the five fields of an object that has them and nothing else; else five empty texts."""
    get = row.get
    five = (get("device_id"), get("zone"), get("ts", ARRIVAL), get("kpi"), get("value"))
    if len(row) != (5 if "ts" in row else 4):
        return _UNUSUAL
    for one in five:
        if type(one) is not str:
            return _UNUSUAL
    return five


def _usual_told(row: Any) -> Sequence[str]:
    """Give the five fields of an object and of what is told beside it, where the object has nothing else."""
    said, told = row
    if not _FIVE.issuperset(said):
        return _UNUSUAL
    five = {"ts": ARRIVAL, **said, **told}
    if len(five) != len(_FIVE):
        return _UNUSUAL
    for one in five.values():
        if type(one) is not str:
            return _UNUSUAL
    return (five["device_id"], five["zone"], five["ts"], five["kpi"], five["value"])


def _usual_row(row: Any) -> Sequence[str]:
    """Give the five fields of a line's field by the usual tags; else five empty texts."""
    if not _BESIDE.isdisjoint(row):
        return _UNUSUAL
    device_id = next((row[tag] for tag in _TAGS["device_id"] if tag in row), "")
    zone = next((row[tag] for tag in _TAGS["zone"] if tag in row), _DEFAULT_ZONE)
    return (device_id, zone, row.get(TIME, ARRIVAL), row[FIELD], row[VALUE]) if device_id else _UNUSUAL


def _tag_finder(mapped: Mapped) -> Callable[[str], Get]:
    def find(name: str) -> Get:
        tags = _TAGS.get(name, ()) if name not in mapped.columns.values() else ()
        if not tags:
            return lambda row: row.get(name)

        def first(row: Any) -> Any:
            return next((row[tag] for tag in tags if tag in row), None)

        return first

    return find


def _add(made: Made, position: int, picker: Picker, row: Any, rules: Rules) -> None:
    """Make the events of a row."""
    try:
        found = picker.events(row)
    except Problem as problem:
        made.refuse(position, problem)
        return
    for one in found:
        if one is None:
            made.without_reading += 1
            continue
        if isinstance(one, Picked):
            one = _whole(one, rules)  # noqa: PLW2901
        if isinstance(one, Problem):
            made.refuse(position, one)
            continue
        made.add(position, one)


def _whole(picked: Picked, rules: Rules) -> Picked | Problem:
    """Hold an event to the rules, and give it an id where it has none and its content makes one."""
    device_id, zone, ts, kpi, value = picked.values
    for name, text in (("device_id", device_id), ("zone", zone)):
        # What is printable is no control character; the rest wants a closer look.
        if not (text.isprintable() and 0 < len(text) <= MAX_LABEL_CHARS) and not _LABEL.fullmatch(text):
            return Problem(
                f"{name} {shown(text, 40)}: 1 to {MAX_LABEL_CHARS} characters, none of them a control "
                "character",
                f"{name} is no label",
                name,
            )
    if rules.kpis is not None and (problem := _kpi_problem(rules.kpis, kpi, value)) is not None:
        return problem
    found = checked(picked, rules.max_entry_bytes)
    if isinstance(found, Problem):
        return found
    if ts != ARRIVAL:
        if found.own_id is not None:
            return found
        content = dict(zip(FIELD_NAMES[1:], found.values, strict=True))
        if found.trace and "attributes" in found.trace[::2]:
            content["attributes"] = dict(zip(found.trace[::2], found.trace[1::2], strict=True))["attributes"]
        return Picked(found.values, derived_id(ts, content), found.trace, found.is_plain)
    if found.own_id is not None:
        return Problem("an event with an event_id has a ts too: sent again, it must be the same", "", "ts")
    return found


def _kpi_problem(kpis: Mapping[str, Kpi], name: str, value: str) -> Problem | None:
    kpi = kpis.get(name)
    if kpi is None:
        return Problem(f"kpi {shown(name, 40)} is none of {', '.join(sorted(kpis))}", "kpi unknown", "kpi")
    if not kpi.min <= float(value) <= kpi.max:
        return Problem(
            f"value {shown(value, 40)} is outside its range; {name} is {kpi.min:g} to {kpi.max:g} {kpi.unit}",
            "value outside its range",
            "value",
        )
    return None
