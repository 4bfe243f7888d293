"""`telemetry export`: stored events as CSV or JSON by the line, in bounded memory."""

from contextlib import ExitStack
from pathlib import PurePath
from typing import Annotated, Final, cast, get_args

import typer

from services.ops.data.filters import (
    Attribute,
    Degraded,
    Device,
    EventId,
    KpiName,
    Zone,
    opened_rows,
    read_filter,
    why_none,
)
from services.ops.export.forms import CsvLines, Form, JsonLines, Lines
from services.ops.export.target import Write, place_of, whole_file
from services.ops.output.output import remark
from services.ops.output.parts import printable
from services.ops.output.progress import ProgressLine
from services.ops.output.times import Since, Until
from services.runtime.screen import answer_data, answers_on_terminal
from services.runtime.settings import ConsumerSettings, load, read_sources

_JSON_ENDINGS: Final = frozenset({".jsonl", ".ndjson", ".json"})


def export_command(
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write to this file instead of standard output."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    form: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="FORMAT", help="csv or jsonl.  [default: by the file's name, else csv]"
        ),
    ] = None,
    event: EventId = None,
    device: Device = None,
    kpi: KpiName = None,
    zone: Zone = None,
    since: Since = None,
    until: Until = None,
    degraded: Degraded = None,
    attribute: Attribute = None,
    iso_times: Annotated[
        bool, typer.Option("--iso", help="Times as 2026-01-31T12:00:00Z instead of Unix seconds.")
    ] = False,
    for_spreadsheet: Annotated[
        bool,
        typer.Option(
            "--for-spreadsheet",
            help="CSV for a spreadsheet: names that it would run as formulas get a ' before them.",
        ),
    ] = False,
) -> None:
    """Write stored events as CSV or JSON lines, in the order of their ids: all, or those of the filters.

    Consumers go on meanwhile; what they store during the export may be in it or not. The file gets its name
    when all of it is written. `telemetry run --from FILE` reads it back: each event keeps its id, so what is
    stored already is a duplicate.
    """
    chosen = _form(form, output)
    if for_spreadsheet and chosen != "csv":
        raise typer.BadParameter("a spreadsheet reads CSV alone", param_hint="--for-spreadsheet")
    if overwrite and output is None:
        raise typer.BadParameter("there is no --output to replace", param_hint="--overwrite")
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
    place = None if output is None else place_of(output, may_overwrite=overwrite)
    settings = load(ConsumerSettings, read_sources())
    lines: Lines = (
        JsonLines(settings.kpis, with_iso_times=iso_times)
        if chosen == "jsonl"
        else CsvLines(settings.kpis, with_iso_times=iso_times, for_spreadsheet=for_spreadsheet)
    )
    with opened_rows(settings, kpi) as rows:
        events = 0
        with ExitStack() as stack:
            write: Write = answer_data
            if output is not None and place is not None:
                write = stack.enter_context(whole_file(output, place, may_overwrite=overwrite))
            # Lines on the same terminal would be written into it.
            is_seen = output is None and answers_on_terminal()
            progress = None if is_seen else stack.enter_context(ProgressLine("events written"))
            write(lines.head())
            for page in rows.pages(asked):
                write(lines.lines(page))
                events += len(page)
                if progress is not None:
                    progress(events)
        if events == 0:
            remark(why_none(rows, asked))
    if output is not None:
        remark(f"{events:,} event{'' if events == 1 else 's'} in {printable(output)}")
    if lines.formulas and not for_spreadsheet:
        remark(
            f"{lines.formulas:,} names begin with =, +, - or @, which a spreadsheet may run as formulas: "
            "for one, use --for-spreadsheet"
        )


def _form(given: str | None, output: str | None) -> Form:
    if given is None:
        ending = PurePath(output or "").suffix.lower()
        return "jsonl" if ending in _JSON_ENDINGS else "csv"
    if given not in get_args(Form):
        raise typer.BadParameter(f"{given!r}: write {' or '.join(get_args(Form))}", param_hint="--format")
    return cast("Form", given)
