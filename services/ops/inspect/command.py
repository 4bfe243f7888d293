"""`telemetry inspect`: what a file is, a mapping for it, and what would come of it. Nothing is published."""

import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final

import typer

from services.ops.failures import CommandFailed
from services.ops.inspect.beginning import begin
from services.ops.inspect.propose import propose
from services.ops.inspect.show import document, lines_of
from services.ops.inspect.trial import attempt
from services.ops.output.output import AsJson, answer, remark
from services.ops.output.progress import ProgressLine
from services.ops.run.mapping_options import (
    Columns,
    Comment,
    Constants,
    Decimal,
    Delimiter,
    EarliestTime,
    Encoding,
    Fields,
    FileFormat,
    IdFrom,
    Keep,
    MappingFile,
    Missing,
    NoHeader,
    Quote,
    Readings,
    SkipAfterHeader,
    SkipLines,
    Thousands,
    TimeColumns,
    TimeFormat,
    TimeTwice,
    TimeZone,
    TsUnit,
    Values,
    mapping_options,
)
from services.producer.files.decode import SourceUnusable
from services.producer.files.inputs import STANDARD_INPUT, Input, open_input
from services.producer.mapping.mapping_file import write_mapping
from services.producer.options import read_options
from services.runtime.screen import answer_json, shown
from services.runtime.settings import ConsumerSettings, load, read_sources

_LONGEST: Final = 1000
"""Characters of an error: it may name every column."""
_EVERY_S: Final = 0.2


def inspect_command(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A table, JSON or line protocol; -: standard input.")
    ],
    write: Annotated[
        str | None, typer.Option("--write", metavar="FILE", help="Write the mapping to this new file.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Read the whole file, not only its first megabyte.")
    ] = False,
    mapping: MappingFile = None,
    fields: Fields = None,
    constants: Constants = None,
    values: Values = None,
    file_format: FileFormat = None,
    delimiter: Delimiter = None,
    quote: Quote = None,
    encoding: Encoding = None,
    skip_lines: SkipLines = None,
    skip_after_header: SkipAfterHeader = None,
    comment: Comment = None,
    no_header: NoHeader = False,
    columns: Columns = None,
    decimal: Decimal = None,
    thousands: Thousands = None,
    missing: Missing = None,
    keep: Keep = None,
    id_from: IdFrom = None,
    readings: Readings = None,
    time_columns: TimeColumns = None,
    time_format: TimeFormat = None,
    ts_unit: TsUnit = None,
    time_zone: TimeZone = None,
    time_twice: TimeTwice = None,
    earliest_time: EarliestTime = None,
    as_json: AsJson = False,
) -> None:
    """Show what a file is, a mapping that reads it, and what would come of it.

    The options are those of `telemetry run --from`: what you give is taken as it is, the rest is proposed.
    With --mapping nothing is proposed, and that mapping is tried. Nothing is published, and no server is
    needed. Exit code 1 if the mapping can't read every line, or if there is no event; 2 if the file can't be
    read.
    """
    if Path(file).is_dir():
        raise CommandFailed(f"{shown(file)}: Is a directory; name one file of it", 2)
    told = read_options(["--from", file, *mapping_options(locals())])
    settings = load(ConsumerSettings, read_sources())
    reading = told.reading
    if reading is None:
        raise CommandFailed("name one file, or - for standard input", 2)
    given, path = reading.mapped, reading.path
    if write is not None and os.path.lexists(write):
        raise CommandFailed(f"--write {write}: it is there already; name a new file", 2)
    try:
        with closing(_opened(path)) as source:
            name = "standard input" if path is None else path.name
            beginning = begin(source, name)
            if not beginning.raw.strip():
                raise CommandFailed(f"{file}: there is nothing in it", 2)
            proposal = propose(beginning, path, given, settings.kpis, is_final=mapping is not None)
            with ProgressLine("bytes") as line:
                trial = attempt(
                    beginning,
                    proposal.mapped,
                    settings.kpis,
                    settings.max_future_s,
                    _progress(line, source, path) if everything else None,
                )
    except SourceUnusable as error:
        text = shown(str(error))
        raise CommandFailed(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..", 2) from None
    text = write_mapping(proposal.mapped)
    if write is not None:
        _write(write, text)
    if as_json:
        answer_json(document(name, proposal, trial, text), indent=2)
    else:
        answer(*lines_of(name, proposal, trial, settings.kpis, text, is_given=mapping is not None))
        if write is not None:
            remark(f"the mapping is in {write}; try a change: telemetry inspect {file} --mapping {write}")
    account = trial.account
    if account.refused or account.refused_readings or trial.broken or not account.events:
        raise typer.Exit(1)


def _opened(path: Path | None) -> Input:
    if path is not None:
        return open_input(path, lambda: False)
    # A copy, which may be closed.
    return Input(os.dup(0), STANDARD_INPUT, lambda: False)


def _progress(line: ProgressLine, source: Input, path: Path | None) -> Callable[[], None]:
    size = 0 if path is None else path.stat().st_size
    shown_at = time.monotonic()

    def show() -> None:
        nonlocal shown_at
        if size and time.monotonic() - shown_at >= _EVERY_S:
            shown_at = time.monotonic()
            line(source.position, size)

    return show


def _write(path: str, text: str) -> None:
    try:
        with Path(path).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise CommandFailed(f"--write {path}: it is there already; name a new file", 2) from None
    except OSError as error:
        raise CommandFailed(f"--write {path}: {error.strerror}", 2) from None
