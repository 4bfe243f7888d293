"""`telemetry run`: the whole pipeline on this machine, with the audit at its end."""

import contextlib
import json
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from services.ops.about.settings import load_both
from services.ops.failures import CommandFailed
from services.ops.output.output import AsJson, Wide, remark
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
from services.ops.run.processes import Plan, Processes
from services.ops.run.start import see_begin, see_broker, see_store
from services.ops.server.own import is_external, reachable
from services.runtime.own_files import private_files
from services.runtime.screen import wait_for_no_reader
from services.runtime.settings import ConsumerSettings, SettingsInvalid, Sources, load, read_sources
from services.stores.choice import place_of_letters, store_of

_RATE = 100.0
_INVALID_RATIO = 0.01
_DUPLICATE_RATIO = 0.01
_BATCH_SIZE = 500
_LOOPBACK = "127.0.0.1"


def run_command(
    replicas: Annotated[
        int, typer.Option(min=1, max=64, metavar="N", help="Consumers that share the work.")
    ] = 1,
    rate: Annotated[
        float | None, typer.Option(min=0.1, metavar="NUMBER", help="Events a second.  [default: 100]")
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="NUMBER",
            help="Seconds to publish; 0: until Ctrl-C.  [default: 30, or PRODUCER_RUN_DURATION]",
        ),
    ] = None,
    invalid_ratio: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="NUMBER", help="Share of events made invalid.  [default: 0.01]"),
    ] = None,
    duplicate_ratio: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="NUMBER", help="Share of events published twice.  [default: 0.01]"
        ),
    ] = None,
    seed: Annotated[str | None, typer.Option(metavar="TEXT", help="Seed for a repeatable run.")] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1, max=4000, metavar="N", help="Events in a consumer's batch, at most.  [default: 500]"
        ),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Publish this file, folder or pattern such as 'logs/*.csv'; -: standard input. May be given "
            "more than once.",
        ),
    ] = None,
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
    max_rejected: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Lines that may be refused without a failure.  [default: 0]"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in a file where the last run stopped.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Publish a file once more, from its beginning.")
    ] = False,
    complete: Annotated[
        bool, typer.Option("--complete", help="With --resume: take a last line without a line end as whole.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Wait for appended lines and new files, until Ctrl-C.")
    ] = False,
    logs: Annotated[bool, typer.Option("--logs", help="Show the services' logs as well.")] = False,
    as_json: AsJson = False,
    _wide: Wide = False,
) -> None:
    """Run the whole pipeline here: producer, consumers, and the audit at the end.

    Without BROKER_URL or REDIS_HOST it starts a server of its own. Ctrl-C ends the publishing; the run ends
    as soon as everything is stored. A second Ctrl-C ends it at once. Exit code 1 if an event is missing;
    with --from also if more lines were refused than --max-rejected, nothing was published, or the end of
    the file was not reached.
    """
    if find_spec("services.producer") is None:
        raise CommandFailed("the producer is not installed here: an image of the consumer has none", 2)
    # The pipeline goes on where nobody reads what is said about it, and hears Ctrl-C.
    wait_for_no_reader()
    sources = read_sources()
    given = {
        "--rate": _text(rate, sources, "RATE", None if source else _RATE),
        "--duration": None if duration is None else str(duration),
        "--invalid-ratio": _text(invalid_ratio, sources, "INVALID_RATIO", None if source else _INVALID_RATIO),
        "--duplicate-ratio": _text(
            duplicate_ratio, sources, "DUPLICATE_RATIO", None if source else _DUPLICATE_RATIO
        ),
        "--seed": seed,
    }
    of_file = mapping_options(locals())
    of_file += ["--max-rejected", str(max_rejected)] if max_rejected is not None else []
    said = {"--resume": resume, "--again": again, "--complete": complete, "--follow": follow}
    of_file += [option for option, is_said in said.items() if is_said]
    of_file = [part for name in source or () for part in ("--from", name)] + of_file
    options = [part for name, value in given.items() if value is not None for part in (name, value)]
    options += of_file
    # The producer's errors are better told here than in its log.
    _check_settings(sources, options if of_file else [])
    for name in source or ():
        _check_readable(name)
    settings = load(ConsumerSettings, sources)
    _see_what_is_elsewhere(settings, sources)
    with private_files(), reachable(settings, sources, may_start=True) as settings:
        if settings.database_url:
            see_begin(settings)
        plan = Plan(
            replicas=replicas,
            producer_options=options,
            batch_size=int(_text(batch_size, sources, "BATCH_SIZE", _BATCH_SIZE) or _BATCH_SIZE),
            environment=_environment(settings, sources),
        )
        _say_where(settings, replicas)
        with Processes(plan, settings.data_dir) as processes:
            # What watches them loads as long as they do: after them, so that events flow sooner.
            processes.let_load()
            from services.ops.run.watch import watch_and_prove  # noqa: PLC0415

            is_complete = watch_and_prove(processes, settings, show_logs=logs, as_json=as_json)
    tell_left_out(settings.data_dir / "logs" / "producer.jsonl")
    if not as_json:
        remark(_look_closer(sys.executable))
    if not is_complete:
        raise typer.Exit(1)


def _look_closer(python: str) -> str:
    """Name commands to go on with, as they can be typed: `make run` puts no `telemetry` on the PATH."""
    beside = Path(python).with_name("telemetry")
    name = "telemetry"
    if shutil.which(name) is None and beside.is_file():
        name = str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)
    return f"look closer: {name} summary, {name} events, {name} dlq list"


def tell_left_out(log: Path) -> None:
    """Name the columns that were not published, with their numbers of values, from the producer's log."""
    counts: dict[str, int] = {}
    for text in log.read_bytes().splitlines():
        if b'"left_out"' not in text:
            continue
        with contextlib.suppress(ValueError):  # a producer that was killed may leave half a line
            line = json.loads(text)
            counts = line["left_out"] if line["message"] == "producer_finished" else counts
    if counts:
        named = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        remark(f"left out, values by column: {named} (--keep COLUMN keeps them as attributes)")


def _check_settings(sources: Sources, options: list[str]) -> None:
    """Check what both services are told, and what the producer is told of a file, before either is started.

    Raises SettingsInvalid with every error.
    """
    errors: dict[str, str] = {}  # by what is wrong: an option may repeat what the environment says
    try:
        load_both(sources)
    except SettingsInvalid as error:
        errors |= {text.partition(" (from ")[0]: text for text in error.errors}
    if options:
        from services.producer.options import read_options  # noqa: PLC0415 - only a file needs it

        try:
            read_options(options)
        except SettingsInvalid as error:
            errors = {text.partition(" (from ")[0]: text for text in error.errors} | errors
    if errors:
        raise SettingsInvalid(list(errors.values()))


def _check_readable(source: str) -> None:
    path = Path(source)
    if source == "-" or path.is_dir() or (not path.exists() and any(mark in source for mark in "*?[")):
        return  # the files that are meant are seen where they are listed
    # A pipe can be opened only once: whoever writes to it would take us for its reader, and be gone.
    if path.is_fifo() or path.is_char_device():
        return
    try:
        path.open("rb").close()
    except OSError as error:
        raise CommandFailed(f"--from {source}: {error.strerror or error}", 2) from error


def _text(given: float | None, sources: Sources, name: str, otherwise: float | None) -> str | None:
    """Take an option, else what the settings say, else the default of this command."""
    if given is not None:
        return str(given)
    found = sources.find(name)
    if found is not None:
        return found[0]
    return None if otherwise is None else str(otherwise)


def _environment(settings: ConsumerSettings, sources: Sources) -> dict[str, str]:
    """Pass on our own environment, and the server that was found or started."""
    environment = {**os.environ, "DATA_DIR": str(settings.data_dir)}
    if not (settings.broker_url or settings.redis_url):
        environment |= {"REDIS_HOST": settings.redis_host, "REDIS_PORT": str(settings.redis_port)}
    if not is_external(sources):  # our own, which has a password and one user
        own = {"REDIS_PASSWORD": settings.redis_password, "REDIS_USERNAME": "default", "REDIS_TLS": "false"}
        environment |= own
        environment.pop("REDIS_PASSWORD_FILE", None)
    environment["METRICS_HOST"] = settings.metrics_host or _LOOPBACK
    # The services are found wherever this command was started from.
    root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return environment


def _see_what_is_elsewhere(settings: ConsumerSettings, sources: Sources) -> None:
    """See that broker and store are there, before anything is started or published. Raises CommandFailed."""
    if settings.database_url:
        see_store(settings)
    if is_external(sources):
        # As the services and as the commands: these may be two users.
        see_broker(settings)
        if settings.as_operator() != settings:
            see_broker(settings.as_operator())


def _say_where(settings: ConsumerSettings, replicas: int) -> None:
    consumers = "1 consumer" if replicas == 1 else f"{replicas} consumers"
    for name, place in (
        ("redis", settings.broker_address),
        ("stored in", store_of(settings).place),
        ("dead letters", place_of_letters(settings)),
        ("logs", f"{settings.data_dir / 'logs'}, of 1 producer and {consumers}"),
    ):
        remark(f"{name:<13} {place}")
