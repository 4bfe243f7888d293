"""`telemetry events` and `telemetry summary`: what is stored, without SQL."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Annotated, Any, Final

import typer

from services.consumer.validate import is_label
from services.contract.attributes import AttributesInvalid, write_attributes
from services.contract.errors import SinkAbsent
from services.contract.event import MAX_LABEL_CHARS
from services.contract.kpis import Kpis
from services.ops.audit.ledger import readable_id
from services.ops.output.output import MOST_SHOWN, AsJson, remark, show_document, show_records
from services.ops.output.parts import Column, Table, number
from services.ops.output.progress import ProgressLine
from services.ops.output.times import Since, Until, refuse_empty, show_time
from services.runtime.settings import ConsumerSettings, load, read_sources
from services.stores.choice import open_rows
from services.stores.rows import EVERY_ROW, RowFilter, Rows, SummaryRow


def _value(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _pairs(attributes: Mapping[str, str]) -> str:
    return " ".join(f"{name}={text}" for name, text in sorted(attributes.items()))


_EVENT_COLUMNS: Final = (
    Column("ts", "time", show_time),
    Column("device_id", "device"),
    Column("zone"),
    Column("kpi"),
    number("value", show=_value),
    Column("unit"),
    Column("is_degraded", "degraded"),
    Column("event_id", optional=True),
)
_ATTRIBUTES: Final = Column("attributes", show=_pairs, wraps=True, optional=True)
_PEEKED: Final = 1000
"""Events of which one has to have attributes, for them to have a column."""
_KPI_COLUMNS: Final = (
    Column("kpi"),
    Column("unit"),
    number("events"),
    number("healthy"),
    number("degraded"),
    number("min", show=_value),
    number("mean", show=_value),
    number("max", show=_value),
)
_ZONE_COLUMNS: Final = (
    Column("kpi"),
    Column("zone"),
    number("events"),
    number("healthy"),
    number("degraded"),
)

_OPTIONS: Final = {
    "event_id": "--id",
    "device_id": "--device",
    "kpi": "--kpi",
    "zone": "--zone",
    "since": "--since",
    "until": "--until",
    "is_degraded": "--degraded or --healthy",
    "attributes": "--attribute",
}

Device = Annotated[str | None, typer.Option(metavar="ID", help="Of this device.")]
KpiName = Annotated[str | None, typer.Option("--kpi", metavar="NAME", help="Of this KPI.")]
Zone = Annotated[str | None, typer.Option(metavar="NAME", help="Of this zone.")]


def events_command(
    event: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The event with this id alone.")
    ] = None,
    device: Device = None,
    kpi: KpiName = None,
    zone: Zone = None,
    since: Since = None,
    until: Until = None,
    degraded: Annotated[
        bool | None, typer.Option("--degraded/--healthy", help="Only above the threshold, or only below.")
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=TEXT", help="With this attribute; given more than once, with all."),
    ] = None,
    limit: Annotated[int, typer.Option(min=0, max=MOST_SHOWN, help="At most so many; 0: all.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List stored events, the newest first, as one line each.

    Newest by event id, which is the order of publication; ids of foreign producers that don't begin with
    their time stand where their first digits put them. Times that are asked for are event times.
    """
    refuse_empty(since, until)
    settings = load(ConsumerSettings, read_sources())
    asked = RowFilter(
        event_id=_event_id(event),
        device_id=_label(device, "--device"),
        kpi=kpi,
        zone=_label(zone, "--zone"),
        since=since,
        until=until,
        is_degraded=degraded,
        attributes=_attributes(attribute or []),
    )
    with _opened(settings, kpi) as rows:
        found = rows.events(asked, limit or None)
        records = (row._asdict() | {"unit": _unit(settings.kpis, row.kpi)} for row in found)
        first = list(itertools.islice(records, _PEEKED))
        more = [_ATTRIBUTES] if any(one["attributes"] for one in first) else []
        if show_records(itertools.chain(first, records), [*_EVENT_COLUMNS, *more], as_json=as_json) == 0:
            remark(_why_none(rows, asked))


def summary_command(since: Since = None, until: Until = None, as_json: AsJson = False) -> None:
    """Count stored events by KPI and zone, healthy and degraded, with the range of their values."""
    refuse_empty(since, until)
    settings = load(ConsumerSettings, read_sources())
    with open_rows(settings) as rows:
        asked = RowFilter(since=since, until=until)
        with ProgressLine("parts read") as progress:
            document = summarize(rows.summary(asked, progress), settings.kpis)
        empty = "" if document["events"] else _why_none(rows, asked)
    show_document(document, _summary_parts(document, empty), as_json=as_json)


@contextmanager
def _opened(settings: ConsumerSettings, kpi: str | None) -> Iterator[Rows]:
    """Open the rows. Raises typer.BadParameter for a KPI that is neither configured nor stored."""
    is_known = kpi is None or kpi in settings.kpis
    try:
        rows = open_rows(settings)
    except SinkAbsent:
        if not is_known:
            raise _no_kpi(kpi, settings.kpis) from None
        raise
    with rows:
        # One that was configured once may be stored still.
        if not is_known and not rows.has_any(RowFilter(kpi=kpi)):
            raise _no_kpi(kpi, settings.kpis)
        yield rows


def _no_kpi(name: str | None, kpis: Kpis) -> typer.BadParameter:
    near = get_close_matches(str(name).lower(), kpis, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return typer.BadParameter(
        f"no such KPI: {name!r}, and none of that name is stored; {meant}there are {', '.join(kpis)}",
        param_hint="--kpi",
    )


def _event_id(given: str | None) -> str | None:
    if given is not None and readable_id(given) is None:
        raise typer.BadParameter(
            f"{given!r} is no event id; one looks like 018f3c5e-8a10-7abc-8def-01200000002a",
            param_hint="--id",
        )
    return readable_id(given)


def _attributes(given: Sequence[str]) -> dict[str, str]:
    """Read the attributes that are asked for. Refuses what no stored event can have."""
    pairs = dict(text.partition("=")[::2] for text in given)
    try:
        if len(pairs) < len(given) or any("=" not in text for text in given):
            raise AttributesInvalid("write NAME=TEXT, each name once")  # noqa: TRY301 - told as the others are
        write_attributes(pairs)
    except AttributesInvalid as error:
        raise typer.BadParameter(str(error), param_hint="--attribute") from None
    return pairs


def _label(given: str | None, option: str) -> str | None:
    """Refuse a name that no stored event can have."""
    if given is not None and not is_label(given):
        raise typer.BadParameter(
            f"{given!r} can't be: a name has 1 to {MAX_LABEL_CHARS} characters, and no control characters",
            param_hint=option,
        )
    return given


def _why_none(rows: Rows, asked: RowFilter) -> str:
    """Say why nothing is listed: what alone is not there, or that nothing is of all of it together."""
    if asked == EVERY_ROW or not rows.has_any():
        return "no event is stored yet"
    alone = [
        (option, RowFilter(**{name: value}))
        for name, option in _OPTIONS.items()
        if (value := getattr(asked, name)) not in (None, {})
    ]
    absent = [option for option, condition in alone if not rows.has_any(condition)]
    if len(alone) > 1 and not absent:
        return "no stored event matches all of it; each alone has some"
    return f"no stored event matches {' or '.join(absent)}"


def summarize(counted: Iterable[SummaryRow], kpis: Kpis) -> dict[str, Any]:
    """Add the counts of zones up to KPIs, and those to totals."""
    by_kpi: dict[str, list[SummaryRow]] = {}
    for row in counted:
        by_kpi.setdefault(row.kpi, []).append(row)
    summaries = [_of_kpi(name, rows, kpis) for name, rows in by_kpi.items()]
    return _counts(sum(one["events"] for one in summaries), sum(one["degraded"] for one in summaries)) | {
        "kpis": summaries
    }


def _of_kpi(name: str, rows: Sequence[SummaryRow], kpis: Kpis) -> dict[str, Any]:
    events = sum(row.events for row in rows)
    return {
        "kpi": name,
        "unit": _unit(kpis, name),
        **_counts(events, sum(row.degraded for row in rows)),
        "min": min(row.value_min for row in rows),
        "mean": sum(row.value_total for row in rows) / events,
        "max": max(row.value_max for row in rows),
        "zones": [{"zone": row.zone, **_counts(row.events, row.degraded)} for row in rows],
    }


def _counts(events: int, degraded: int) -> dict[str, Any]:
    return {"events": events, "healthy": events - degraded, "degraded": degraded}


def _unit(kpis: Kpis, name: str) -> str | None:
    """Find a KPI's unit; None for one that was configured when it was stored, and isn't any more."""
    kpi = kpis.get(name)
    return None if kpi is None else kpi.unit


def _summary_parts(document: Mapping[str, Any], empty: str) -> list[Table]:
    total = {"kpi": "all", "unit": None, "min": None, "mean": None, "max": None} | {
        name: document[name] for name in ("events", "healthy", "degraded")
    }
    zones = [{"kpi": one["kpi"], **zone} for one in document["kpis"] for zone in one["zones"]]
    kpis = [*document["kpis"], total] if document["kpis"] else []
    return [
        Table("Events by KPI", _KPI_COLUMNS, kpis, empty),
        Table("Events by zone", _ZONE_COLUMNS, zones, empty),
    ]
