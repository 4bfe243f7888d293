"""Which events are asked for: the options that commands have in common, and why none was found."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Annotated, Final

import typer

from services.consumer.validate import is_label
from services.contract.attributes import AttributesInvalid, write_attributes
from services.contract.errors import SinkAbsent
from services.contract.event import MAX_LABEL_CHARS
from services.contract.kpis import Kpis
from services.ops.audit.ledger import readable_id
from services.ops.output.times import refuse_empty
from services.runtime.settings import ConsumerSettings
from services.stores.choice import open_rows
from services.stores.rows import EVERY_ROW, RowFilter, Rows

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

EventId = Annotated[str | None, typer.Option("--id", metavar="ID", help="Only the event with this id.")]
Device = Annotated[str | None, typer.Option(metavar="ID", help="Only of this device.")]
KpiName = Annotated[str | None, typer.Option("--kpi", metavar="NAME", help="Only of this KPI.")]
Zone = Annotated[str | None, typer.Option(metavar="NAME", help="Only of this zone.")]
Degraded = Annotated[
    bool | None,
    typer.Option("--degraded/--healthy", help="Only events above the threshold, or only the others."),
]
Attribute = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=TEXT", help="Only with this attribute; more than once: with all of them."),
]


def read_filter(
    *,
    event: str | None,
    device: str | None,
    kpi: str | None,
    zone: str | None,
    since: float | None,
    until: float | None,
    degraded: bool | None,
    attribute: Sequence[str] | None,
) -> RowFilter:
    """Read what is asked for. Raises typer.BadParameter for what no stored event can be."""
    refuse_empty(since, until)
    return RowFilter(
        event_id=_event_id(event),
        device_id=_label(device, "--device"),
        kpi=kpi,
        zone=_label(zone, "--zone"),
        since=since,
        until=until,
        is_degraded=degraded,
        attributes=_attributes(attribute or []),
    )


@contextmanager
def opened_rows(settings: ConsumerSettings, kpi: str | None) -> Iterator[Rows]:
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


def read_attribute_name(given: str) -> str:
    """Read the name of an attribute to count by. Raises typer.BadParameter for what none can be called."""
    try:
        write_attributes({given: ""})
    except AttributesInvalid as error:
        raise typer.BadParameter(f"{error}; write attribute:NAME", param_hint="--by") from None
    return given


def _label(given: str | None, option: str) -> str | None:
    """Refuse a name that no stored event can have."""
    if given is not None and not is_label(given):
        raise typer.BadParameter(
            f"{given!r} can't be: a name has 1 to {MAX_LABEL_CHARS} characters, and no control characters",
            param_hint=option,
        )
    return given


def why_none(rows: Rows, asked: RowFilter) -> str:
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


def unit_of(kpis: Kpis, name: str) -> str | None:
    """Find a KPI's unit; None for one that was configured when it was stored, and isn't any more."""
    kpi = kpis.get(name)
    return None if kpi is None else kpi.unit
