"""`telemetry dlq replay`: publish dead letters again."""

import time
from typing import Annotated, Final

import typer

from services.contract.codec import REQUIRED
from services.ops.dlq.letters import LetterFilter, choose, letters_of, open_letters, reasons, select, told
from services.ops.dlq.options import (
    Consumers,
    Devices,
    Entries,
    Reasons,
    Replayed,
    Stages,
    Yes,
    ask,
    one_of,
)
from services.ops.dlq.replay import FIELDS, Mending, Report, prepare_all, replay
from services.ops.dlq.replay_traces import open_traces
from services.ops.failures import CommandFailed
from services.ops.output.output import Wide, answer, remark, show_records
from services.ops.output.parts import Column
from services.ops.output.times import Since, Until, refuse_empty
from services.ops.server.doors import open_server
from services.ops.steps import installed_steps
from services.runtime.settings import ConsumerSettings, load, read_sources

_COLUMNS: Final = (
    Column("entry_id", "entry"),
    Column("event_id", optional=True),
    Column("reason"),
    Column("outcome", wraps=True),
)


def _pairs(given: list[str]) -> list[str]:
    """Check what is to be set: NAME=VALUE, of fields that an event has."""
    for pair in given:
        name, equals, _ = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"write NAME=VALUE, got {pair!r}")
        one_of(FIELDS, "field", [name])
    return given


def _optional(given: list[str]) -> list[str]:
    for name in given:
        if name.encode() in REQUIRED:
            raise typer.BadParameter(f"an event must have {name}; correct it with --set {name}=...")
    return given


def replay_command(
    reason: Reasons,
    stage: Stages,
    device: Devices,
    entry: Entries,
    consumer: Consumers,
    values: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            default_factory=list,
            show_default=False,
            callback=_pairs,
            help="Publish it with this value in this field.",
        ),
    ],
    dropped: Annotated[
        list[str],
        typer.Option(
            "--unset",
            metavar="NAME",
            default_factory=list,
            show_default=False,
            callback=_optional,
            help="Publish it without this field.",
        ),
    ],
    since: Since = None,
    until: Until = None,
    replayed: Replayed = None,
    again: Annotated[bool, typer.Option("--again", help="Also letters that were replayed before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be published.")] = False,
    yes: Yes = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: answer in JSON.")] = False,
    _wide: Wide = False,
) -> None:
    """Publish dead letters again, with the same event ids, so nothing can be stored twice.

    What still breaks a rule comes back as another letter. Exit code 1 if a letter was left out because it
    has no readable event id, or is truncated; or if a letter can't be read.
    """
    refuse_empty(since, until)
    asked = LetterFilter(reason, stage, device, entry, consumer, since, until, replayed)
    mending = Mending(dict(pair.split("=", 1) for pair in values), dropped)
    sources = read_sources()
    settings = load(ConsumerSettings, sources)
    latest_ts = time.time() + settings.max_future_s
    steps = installed_steps()
    with open_letters(settings, sources, may_start=not dry_run) as store:
        meant = (one for one in select(store, asked) if again or one.replayed_at is None)
        chosen = choose(meant)
        _refuse_one_id_for_many(len(chosen), mending)
        if dry_run:
            found = select(store, LetterFilter(entries=chosen)) if chosen else ()
            rules = (settings.kpis, latest_ts, settings.max_entry_bytes, steps)
            ready = (each.record() for one in found for each in prepare_all(one, mending, *rules))
            show_records(ready, _COLUMNS, as_json=as_json)
        if not chosen:
            remark("no dead letter to replay")
        elif not dry_run:
            if not yes:
                ask("Replay", reasons(chosen))
            with (
                open_traces(settings, sources) as traces,
                open_server(settings, sources, may_start=True) as server,
            ):
                letters = letters_of(server.settings, server.side)
                _tell(replay(server, letters, chosen.keys(), mending, latest_ts, traces, steps))


def _refuse_one_id_for_many(number: int, mending: Mending) -> None:
    """Keep one event id from being given to different events, which would conflict in the sink."""
    if "event_id" in mending.values and number > 1:
        raise CommandFailed(
            f"--set event_id= takes one dead letter, and {number:,} are meant; name it by --entry",
            exit_code=2,
        )


def _tell(report: Report) -> None:
    """Say what became of the letters; raises CommandFailed when some were left out."""
    answer(f"replayed {report.published:,}")
    if report.objections:
        remark(f"still against a rule, so they come back as dead letters: {told(report.objections)}")
    for entry_id, why in report.refused.items():
        remark(f"refused {entry_id}: {why}")
    if report.refused and not report.skipped:
        raise CommandFailed(f"{len(report.refused):,} refused: there is no whole event to publish")
    if report.skipped:
        names = ", ".join(report.skipped[:10]) + (", ..." if len(report.skipped) > 10 else "")
        raise CommandFailed(
            f"{len(report.skipped):,} skipped without a readable event_id: {names}; "
            "replay each with --entry ID --set event_id=..."
        )
