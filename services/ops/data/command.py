"""`telemetry events` and `telemetry summary`: what is stored, without SQL."""

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, get_args

import typer

from services.contract.kpis import Kpis
from services.ops.data.filters import (
    Attribute,
    Degraded,
    Device,
    EventId,
    KpiName,
    Zone,
    opened_rows,
    read_attribute_name,
    read_filter,
    unit_of,
    why_none,
)
from services.ops.data.follow import follow
from services.ops.data.silent import list_silent, refuse_others
from services.ops.output.output import (
    MOST_SHOWN,
    AsJson,
    Wide,
    remark,
    show_as_it_comes,
    show_document,
    show_records,
)
from services.ops.output.parts import Column, Table, number
from services.ops.output.progress import ProgressLine
from services.ops.output.times import Since, Until, show_time
from services.runtime.settings import ConsumerSettings, load, read_sources
from services.stores.rows import ByAttribute, Grouping, GroupName, RowFilter, Rows, SummaryRow


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
    Column("is_degraded", "degraded", optional=True),
    Column("event_id", optional=True),
)
_ATTRIBUTES: Final = Column("attributes", show=_pairs, wraps=True, optional=True)
_PEEKED: Final = 1000
"""Events of which one has to have attributes, for them to have a column."""
_KPI_COLUMNS: Final = (
    Column("kpi"),
    Column("unit"),
    number("events"),
    number("healthy", optional=True),
    number("degraded"),
    number("min", show=_value),
    number("mean", show=_value),
    number("max", show=_value),
)
_FIGURES: Final = _KPI_COLUMNS[2:]


def events_command(
    event: EventId = None,
    device: Device = None,
    kpi: KpiName = None,
    zone: Zone = None,
    since: Since = None,
    until: Until = None,
    degraded: Degraded = None,
    attribute: Attribute = None,
    limit: Annotated[
        int,
        typer.Option(
            min=0, max=MOST_SHOWN, metavar="N", help="Events to list, at most; 0: all, or with --follow none."
        ),
    ] = 20,
    following: Annotated[
        bool,
        typer.Option("--follow", help="List the newest last, then each event as it is stored, until Ctrl-C."),
    ] = False,
    silent: Annotated[
        bool,
        typer.Option(
            "--silent",
            help="List the devices that stopped sending (SILENT_AFTER_S), with their last readings.",
        ),
    ] = False,
    as_json: AsJson = False,
    _wide: Wide = False,
) -> None:
    """List stored events, the newest first, as one line each.

    The order is that of the event ids, which is the order of publication. An id that doesn't begin with a
    time (of another program's producer) is listed where its first digits put it. --since and --until are
    event times. With --follow, an event is left out if its id is more than ten seconds older than the
    newest one: such as one of another producer, or an old reading.
    """
    if silent:
        others = {
            "--id": event, "--device": device, "--kpi": kpi, "--zone": zone, "--since": since,
            "--until": until, "--degraded or --healthy": degraded, "--attribute": attribute,
            "--follow": following,
        }  # fmt: skip
        refuse_others(others)
        list_silent(load(ConsumerSettings, read_sources()), time.time(), limit, as_json=as_json)
        return
    asked = read_filter(
        event=event,
        device=device,
        kpi=kpi,
        zone=zone,
        since=since,
        until=until,
        degraded=degraded,
        attribute=attribute,
    )
    settings = load(ConsumerSettings, read_sources())
    with opened_rows(settings, kpi) as rows:
        if following:
            _follow(rows, asked, limit, settings.kpis, as_json=as_json)
            return
        found = rows.events(asked, limit or None)
        records = (row._asdict() | {"unit": unit_of(settings.kpis, row.kpi)} for row in found)
        first = list(itertools.islice(records, _PEEKED))
        more = [_ATTRIBUTES] if any(one["attributes"] for one in first) else []
        if show_records(itertools.chain(first, records), [*_EVENT_COLUMNS, *more], as_json=as_json) == 0:
            remark(why_none(rows, asked))


def _follow(rows: Rows, asked: RowFilter, limit: int, kpis: Kpis, *, as_json: bool) -> None:
    records = (row._asdict() | {"unit": unit_of(kpis, row.kpi)} for row in follow(rows, asked, limit))
    try:
        show_as_it_comes(records, [*_EVENT_COLUMNS, _ATTRIBUTES], as_json=as_json)
    except KeyboardInterrupt:  # the way to end it, so no error
        return


def summary_command(
    by: Annotated[
        str, typer.Option(metavar="GROUP", help="zone, device, hour or day (UTC), or attribute:NAME.")
    ] = "zone",
    device: Device = None,
    kpi: KpiName = None,
    zone: Zone = None,
    since: Since = None,
    until: Until = None,
    degraded: Degraded = None,
    attribute: Attribute = None,
    as_json: AsJson = False,
    _wide: Wide = False,
) -> None:
    """Count stored events by KPI and group, healthy and degraded, with the range of their values.

    Hours and days are those of the event times.
    """
    group = _grouping(by)
    asked = read_filter(
        event=None,
        device=device,
        kpi=kpi,
        zone=zone,
        since=since,
        until=until,
        degraded=degraded,
        attribute=attribute,
    )
    settings = load(ConsumerSettings, read_sources())
    with opened_rows(settings, kpi) as rows:
        with ProgressLine("parts read") as progress:
            document = summarize(rows.summary(asked, progress, group), settings.kpis, group)
        empty = "" if document["events"] else why_none(rows, asked)
    show_document(document, _summary_parts(document, group, empty), as_json=as_json)


def _grouping(given: str) -> Grouping:
    kind, separator, name = given.partition(":")
    if separator and kind == "attribute":
        return ByAttribute(read_attribute_name(name))
    for one in get_args(GroupName):
        if given == one:
            found: Grouping = one
            return found
    raise typer.BadParameter(
        f"{given!r} is none of {', '.join(get_args(GroupName))}, attribute:NAME", param_hint="--by"
    )


def _named(group: Grouping) -> str:
    """Name what is counted by, as a heading and in JSON."""
    return "attribute" if isinstance(group, ByAttribute) else group


def summarize(counted: Iterable[SummaryRow], kpis: Kpis, group: Grouping = "zone") -> dict[str, Any]:
    """Add the counts of groups up to KPIs, and those to totals."""
    by_kpi: dict[str, list[SummaryRow]] = {}
    for row in counted:
        by_kpi.setdefault(row.kpi, []).append(row)
    summaries = [_of_kpi(name, rows, kpis, group) for name, rows in by_kpi.items()]
    return _counts(sum(one["events"] for one in summaries), sum(one["degraded"] for one in summaries)) | {
        "kpis": summaries
    }


def _of_kpi(name: str, rows: Sequence[SummaryRow], kpis: Kpis, group: Grouping) -> dict[str, Any]:
    return {
        "kpi": name,
        "unit": unit_of(kpis, name),
        **_figures(rows),
        f"{_named(group)}s": [{_named(group): _shown(row.group), **_figures([row])} for row in rows],
    }


def _figures(rows: Sequence[SummaryRow]) -> dict[str, Any]:
    events = sum(row.events for row in rows)
    return {
        **_counts(events, sum(row.degraded for row in rows)),
        "min": min(row.value_min for row in rows),
        "mean": sum(row.value_total for row in rows) / events,
        "max": max(row.value_max for row in rows),
    }


def _shown(group: str | int) -> str:
    """Write a group; one of time by its beginning."""
    return group if isinstance(group, str) else show_time(group).replace(":00.000Z", "Z")


def _counts(events: int, degraded: int) -> dict[str, Any]:
    return {"events": events, "healthy": events - degraded, "degraded": degraded}


def _summary_parts(document: Mapping[str, Any], group: Grouping, empty: str) -> list[Table]:
    total = {"kpi": "all", "unit": None, "min": None, "mean": None, "max": None} | {
        name: document[name] for name in ("events", "healthy", "degraded")
    }
    named = _named(group)
    parts = [{"kpi": one["kpi"], **part} for one in document["kpis"] for part in one[f"{named}s"]]
    heading = group.name if isinstance(group, ByAttribute) else ""
    kpis = [*document["kpis"], total] if document["kpis"] else []
    return [
        Table("Events by KPI", _KPI_COLUMNS, kpis, empty),
        Table(
            f"Events by {heading or named}", [Column("kpi"), Column(named, heading), *_FIGURES], parts, empty
        ),
    ]
