"""From a row, whatever its form, to the texts of its events: fields, readings, times, units.

A row is one event; with columns of readings it is one for each, and a bad cell costs itself alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from services.contract.attributes import AttributesInvalid, attributes_of, read_attributes, write_attributes
from services.contract.ids import CANONICAL, derived_id
from services.contract.producing.outgoing import FIELD_NAMES, TRACE_NAMES
from services.producer.keeping import kept
from services.producer.mapping.mapped import ATTRIBUTES, NO_READING, UNIT, Mapped, ValueColumn
from services.producer.rows.nested import kind_of
from services.producer.rows.problem import Problem, shown
from services.producer.rows.times import TimeReader

Get = Callable[[Any], Any]
Find = Callable[[str], Get | None]
"""Makes what takes a column out of a row; None: there is no such column."""


class Resolve(Protocol):
    """Writes a KPI's name and a value as the contract has them."""

    def __call__(self, kpi: str, value: str, unit: str, /) -> tuple[str, str]:
        """Give both. Raises ValueError for a value that is no number, or in a unit that nobody knows."""
        ...


class Picked(NamedTuple):
    """One event's texts."""

    values: list[str]
    """The five fields behind event_id, in the contract's order."""
    own_id: str | None
    trace: list[str]
    """Names and values in turn, of the trace context and the attributes."""
    is_plain: bool = True
    """Whether the five values are all of it, on a line each."""


NOTHING: Final = None
"""Where there is no reading, and nothing is wrong."""


class Picker:
    """Takes events out of the rows of one source."""

    def __init__(
        self,
        mapped: Mapped,
        find: Find,
        times: TimeReader,
        resolve: Resolve,
        usual: Callable[[Any], Sequence[str]] | None = None,
    ) -> None:
        # `usual` gives the five fields of a row at once, where that is all there is to take.
        is_usual = not (mapped.values or mapped.times.columns or mapped.missing or mapped.kept)
        self._usual = usual if is_usual else None
        self._kept = [(name, find(name) or _nothing) for name in mapped.kept]
        self._attributes = find(mapped.column(ATTRIBUTES)) or _nothing
        self._mapped = mapped
        self._times = times
        self._resolve = resolve
        self._gets = {
            name: (find(mapped.column(name)) or _nothing)
            for name in (*FIELD_NAMES, *TRACE_NAMES, *((UNIT,) if UNIT in mapped.columns else ()))
        }
        self._time_gets = [find(column) or _nothing for column in mapped.times.columns]
        self._values = [(one, find(one.column) or _nothing) for one in mapped.values]
        self._missing = frozenset(text.casefold() for text in mapped.missing)
        self._id_from = [(name, FIELD_NAMES.index(name) - 1) for name in mapped.id_from]
        self._missing_numbers = frozenset(filter(None, map(_number, mapped.missing)))

    def events(self, row: Any) -> list[Picked | Problem | None]:
        """Take a row's events, with a Problem for each that can't be taken, and None where no reading is.

        Raises Problem where none can be.
        """
        made = self._events(row)
        if not self._id_from:
            return made
        return [self._with_id(one) if isinstance(one, Picked) else one for one in made]

    def _with_id(self, picked: Picked) -> Picked:
        values = picked.values
        content = {name: values[at] for name, at in self._id_from}
        return picked._replace(own_id=derived_id(content["ts"], content))

    def _events(self, row: Any) -> list[Picked | Problem | None]:
        if self._usual is not None:
            device_id, zone, ts, kpi, value = self._usual(row)
            value = value.strip()
            if value[:1].isdigit():
                kpi, value = self._reading(kpi.strip(), value, "")
                ts = self._times.seconds(ts)
                return [Picked([device_id.strip(), zone.strip(), ts, kpi, value], None, [])]
        if not self._values:
            return [self._one(row)]
        trace = self._beside(row)
        ts = self._time(row)
        return [self._cell(row, one, get, ts, trace) for one, get in self._values]

    def _one(self, row: Any) -> Picked | None:
        value = self._text(row, "value")
        if self._is_missing(value):
            return NOTHING
        own = None if self._id_from else self._gets["event_id"](row)
        own_id = None if own is None or own == "" else canonical_id(own)
        # An event that brings its id was one before: blanks around a name are of the name.
        device_id, zone = (self._text(row, name, strip=own_id is None) for name in ("device_id", "zone"))
        ts = self._time(row)
        kpi, value = self._reading(self._text(row, "kpi"), value, self._unit(row, self._mapped.constants))
        return Picked([device_id, zone, ts, kpi, value], own_id, self._beside(row, is_whole=bool(own_id)))

    def _cell(
        self, row: Any, one: ValueColumn, get: Get, ts: str, trace: list[str]
    ) -> Picked | Problem | None:
        found = get(row)
        try:
            value = _as_text(found, one.column, "value") if found is not None else ""
            if self._is_missing(value):
                return NOTHING
            own = one.constants
            device_id, zone = (own.get(name) or self._text(row, name) for name in ("device_id", "zone"))
            kpi, value = self._reading(own["kpi"], value, self._unit(row, own))
        except Problem as problem:
            return Problem(f"{shown(one.column)}: {problem}", problem.kind, problem.field)
        return Picked([device_id, zone, ts, kpi, value], None, trace)

    def _reading(self, kpi: str, value: str, unit: str) -> tuple[str, str]:
        try:
            return self._resolve(kpi, value, unit)
        except ValueError as error:
            raise Problem(str(error), getattr(error, "kind", "value not read"), "value") from None

    def _unit(self, row: Any, constants: Mapping[str, str]) -> str:
        if UNIT in constants:
            return constants[UNIT]
        found = self._gets[UNIT](row) if UNIT in self._gets else None
        return found.strip() if isinstance(found, str) else self._mapped.constants.get(UNIT, "")

    def _time(self, row: Any) -> str:
        if not self._time_gets:
            return self._times.seconds(self._text(row, "ts"))
        names = self._mapped.times.columns
        texts = [
            _as_text(get(row), name, "ts").strip() for get, name in zip(self._time_gets, names, strict=True)
        ]
        if not all(texts) and any(texts):
            # A day without its clock would pass for its midnight.
            empty = names[texts.index("")]
            raise Problem(f"{shown(empty)} is empty, and a part of the time", "no ts", "ts")
        return self._times.seconds(" ".join(texts))

    def _text(self, row: Any, name: str, *, strip: bool = True) -> str:
        found = self._gets[name](row)
        if found is None:
            found = self._mapped.constants.get(name)
        text = _as_text(found, self._mapped.column(name), name)
        return text.strip() if strip else text

    def _beside(self, row: Any, *, is_whole: bool = False) -> list[str]:
        """Take what an event has beside its six fields; `is_whole`: it brings its attributes with it."""
        found = self._trace(row)
        has_own = is_whole or ATTRIBUTES in self._mapped.columns
        if not self._kept and not has_own:
            return found
        try:
            texts = _attributes(self._attributes(row)) if has_own else {}
            texts |= kept({name: get(row) for name, get in self._kept}, self._mapped.kept)
            attributes = write_attributes(texts)
        except AttributesInvalid as error:
            raise Problem(str(error), "attribute not kept", "attributes") from None
        return found if attributes is None else [*found, "attributes", attributes]

    def _trace(self, row: Any) -> list[str]:
        """Take the trace context that a record carries; a state belongs to a context."""
        context, state = (self._gets[name](row) for name in TRACE_NAMES)
        if not context or not isinstance(context, str):
            return []
        more = [TRACE_NAMES[1], state] if state and isinstance(state, str) else []
        return [TRACE_NAMES[0], context, *more]

    def _is_missing(self, text: str) -> bool:
        if text[:1].isdigit() and not self._missing:
            return False
        low = text.strip().casefold()
        return (
            low in NO_READING
            or low in self._missing
            or (bool(self._missing_numbers) and _number(low.replace(",", ".")) in self._missing_numbers)
        )


def canonical_id(text: Any) -> str:
    """Write a UUID as the contract has it; capitals are the same id. Raises Problem."""
    lower = text.strip().lower() if isinstance(text, str) else ""
    if not CANONICAL.fullmatch(lower):
        raise Problem(f"event_id {shown(text)} is not a UUID", "event_id is not a UUID", "event_id")
    return lower


def id_bytes(text: str) -> bytes:
    """Give the 16 bytes of a canonical id."""
    return bytes.fromhex(text.replace("-", ""))


def _as_text(value: Any, column: str, name: str) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        raise Problem(f"no {shown(column)}, which is to be {name}", f"no {name}", name)
    raise Problem(
        f"{shown(column)} is {kind_of(value)}, and {name} is a text or a number", f"no {name}", name
    )


def _attributes(found: Any) -> dict[str, Any]:
    """Read attributes that stand in one object, or in the text of one. Raises AttributesInvalid."""
    if isinstance(found, str):
        return attributes_of(read_attributes(found)) if found.strip() else {}
    if found is None or isinstance(found, dict):
        return dict(found or {})
    raise AttributesInvalid("attributes are no JSON object of texts")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _nothing(_row: Any) -> None:
    return None
