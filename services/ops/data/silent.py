"""Which devices are silent, with the last reading of each; and forgetting one that was taken away."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from services.ops.data.filters import unit_of
from services.ops.failures import CommandFailed
from services.ops.output.output import answer, remark, show_records
from services.ops.output.parts import Column, number, printable
from services.ops.output.times import show_ago, show_span, show_time
from services.runtime.settings import ConsumerSettings, load, read_sources
from services.stores.choice import store_of

_COLUMNS: Final = (
    Column("device_id", "device"),
    Column("zone", optional=True),
    Column("stored_at", "last stored", show_ago),
    Column("ts", "time", show_time),
    Column("kpi"),
    number("value", show=lambda value: f"{value:.6g}"),
    Column("unit"),
    Column("event_id", optional=True),
)


def refuse_others(given: Mapping[str, object]) -> None:
    """Refuse options that say nothing about silent devices. Raises typer.BadParameter."""
    if others := [option for option, value in given.items() if value not in (None, False, [])]:
        raise typer.BadParameter(
            f"it names devices, and takes no {' and no '.join(others)}; --limit, --json, --wide go with it",
            param_hint="--silent",
        )


def list_silent(settings: ConsumerSettings, now: float, limit: int, *, as_json: bool) -> None:
    """List silent devices, who fell silent last first; `now` in Unix seconds. Raises BadParameter."""
    if settings.silent_after_s == 0:
        raise typer.BadParameter(
            "SILENT_AFTER_S is 0, so consumers note no last readings; set it to the seconds after which a "
            "device counts as silent, for the consumers and for this command",
            param_hint="--silent",
        )
    found = store_of(settings).open_readings().silent(now - settings.silent_after_s, limit or None)
    records: list[dict[str, Any]] = [
        one._asdict() | {"unit": unit_of(settings.kpis, one.kpi)} for one in found
    ]
    if show_records(iter(records), _COLUMNS, as_json=as_json) == 0:
        remark(f"no device is silent: each has sent in the last {show_span(settings.silent_after_s)}")


def forget_command(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="As `telemetry events --silent` shows it.")],
) -> None:
    """Forget a device that was taken away: it no longer counts as silent. Its stored events stay.

    When it sends again, it is known again. Exit code 1 if no last reading of it is noted.
    """
    if not store_of(load(ConsumerSettings, read_sources())).open_readings().drop(device):
        raise CommandFailed(f"no last reading of a device {printable(device)} is noted here (SILENT_AFTER_S)")
    answer(f"forgot the device {printable(device)}")
