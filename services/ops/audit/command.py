"""`telemetry audit`: the proof that nothing is missing, and its exit code. What is proven, and how: proof.py.

With --record the numbers are left in the hash {telemetry_stream}:audit, for an alert on `missing`.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer

from services.brokers.operating.side import OperatorSide
from services.contract.errors import BrokerFull, SinkAbsent
from services.ops.audit.proving import accept_loss, prove
from services.ops.audit.result import RARE, Audit, Tally
from services.ops.audit.retaining import Retained, retain
from services.ops.failures import CommandFailed
from services.ops.output.output import AsJson, Wide, answer, choose_style, show_document
from services.ops.output.parts import Column, Table, number
from services.ops.server.doors import LOOK_S, Server, StartServer, open_server, wait_for
from services.runtime.settings import ConsumerSettings, load, read_sources
from services.stores.choice import open_rows

_MOST_NAMED: Final = 1_000_000
_ENDED: Final = "(ended)"
"""How runs are named together that are ended and proven."""
_ALWAYS: Final = frozenset({"published", "stored", "dead", "missing"})
"""What a narrow terminal shows too, of the places that events are in."""


def audit_command(
    as_json: AsJson = False,
    _wide: Wide = False,
    show: Annotated[
        int,
        typer.Option(
            min=0, max=_MOST_NAMED, metavar="N", help="Missing events to name, at most, for each run."
        ),
    ] = 20,
    wait: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="First wait until the broker and the store answer, a producer run is recorded, and what is "
            "published is acknowledged.",
        ),
    ] = 0.0,
    start_server: StartServer = False,
    record: Annotated[
        bool,
        typer.Option(
            "--record", help="Keep the result at the broker, so that a consumer's /metrics shows it."
        ),
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Read everything again, also what was proven before.")
    ] = False,
    retains: Annotated[
        bool, typer.Option("--retain", help="Then drop the days that are older than RETAIN_DAYS and proven.")
    ] = False,
    accept: Annotated[
        str,
        typer.Option(metavar="RUN", help="Accept the loss of what is missing of this run."),
    ] = "",
    why: Annotated[str, typer.Option(metavar="TEXT", help="With --accept: the reason, which is kept.")] = "",
    who: Annotated[
        str,
        typer.Option(metavar="NAME", help="With --accept: who accepts it; by default, the system's user."),
    ] = "",
) -> None:
    """Prove that no published event is missing.

    Exit code 1 if an event is missing; each one is named. Also if nothing is proven: no producer run was
    ever recorded (a wrong folder, stream or server), or a record or a dead letter can't be read. With
    --wait, also if the consumers need longer than that for what was published when the command began.

    What is proven is kept in the store, and the next audit reads only what came since. --full reads
    everything.
    """
    if accept and not why.strip():
        raise CommandFailed("--accept closes a loss for good: say why, with --why TEXT", exit_code=2)
    sources = read_sources()
    until = time.monotonic() + wait
    settings = load(ConsumerSettings, sources)
    with open_server(settings, sources, may_start=start_server, wait_s=wait) as server:
        if wait > 0:
            wait_for(lambda: _find_store(server.settings), until - time.monotonic())
        is_settled = wait == 0 or settle(server.side, until - time.monotonic())
        if accept:
            accept_loss(server.settings, accept, why, who, full=full)
        result = prove(server.settings, show, full=full)
        retained = retain(server.settings, result) if retains else None
        if retained is not None and retained.rows:  # what is dropped is told, and as expired
            result = prove(server.settings, show)
        not_recorded = _record(server, result, retained) if record else ""
    show_audit(result, as_json=as_json, retained=retained)
    complaints = list(result.problems)
    if not is_settled and result.runs:
        complaints.append(f"after {wait:g} s, events that were published before it are still not settled")
    if record and result.problems and not result.total.missing:
        complaints.append("not recorded, as nothing is proven")
    if not_recorded:
        complaints.append(not_recorded)
    if complaints:
        raise CommandFailed(complaints[0], details=complaints[1:])
    if result.total.missing:
        raise typer.Exit(1)


def _find_store(settings: ConsumerSettings) -> None:
    """Raise SinkUnavailable where the store can't be read now. That it isn't there yet is an answer."""
    with suppress(SinkAbsent), open_rows(settings):
        pass


def _record(server: Server, result: Audit, retained: Retained | None) -> str:
    """Leave the result at the broker; says why not where that is full: the proof is shown all the same."""
    try:
        # What is no proof takes no older one's place, unless it is bad news.
        if result.is_proven or result.total.missing:
            numbers = asdict(result.total)
            if retained is not None or server.settings.retain_days == 0:
                numbers["retention_waiting_seconds"] = retained.waiting_seconds if retained else 0
            server.side.leave_audit(numbers, time.time())
    except BrokerFull as error:
        return f"not recorded: {error}"
    return ""


def settle(broker: OperatorSide, at_most_s: float) -> bool:
    """Wait until a run is recorded and all that is in the stream now is acknowledged.

    Gives False when that takes too long.
    """
    deadline = time.monotonic() + at_most_s
    newest: str | None = None
    while True:
        newest = broker.newest() if newest is None else newest
        if newest is not None and broker.is_settled_up_to(newest) and _is_any_recorded(broker):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_S)


def _is_any_recorded(broker: OperatorSide) -> bool:
    return bool(broker.records().runs or broker.ended_number())


def show_audit(
    result: Audit,
    *,
    as_json: bool,
    file: Mapping[str, Any] | None = None,
    retained: Retained | None = None,
) -> None:
    """Show an audit: each run, what is missing by name, and the line that sums it up.

    `file` is the account of a file that was published, as it is in the JSON.
    """
    missing = [{"run": run.run, "event": event} for run in result.runs for event in run.missing]
    missing += [{"run": _ENDED, "event": event} for event in result.ended_missing]
    document: dict[str, Any] = {
        **asdict(result.total),
        "ended_runs": {"runs": result.ended_runs, **asdict(result.ended)},
        "runs": [{"run": run.run, "source": run.source, **asdict(run.tally)} for run in result.runs],
        "unrecorded": asdict(result.unrecorded),
        "missing_events": missing,
        "unknown_rows": result.unknown_rows,
        "others_rows": result.others_rows,
        "tampered_or_lost": result.tampered_or_lost,
        "notes": result.notes,
        "problems": result.problems,
    }
    if file is not None:
        document["file"] = file
    if retained is not None:
        document["retention"] = asdict(retained)
    total = result.total
    names = [name for name in Tally.__slots__ if name not in RARE or getattr(total, name)]
    columns = [
        Column("run"),
        Column("source"),
        *(number(name, optional=name not in _ALWAYS) for name in names),
    ]
    rows = document["runs"]
    if result.ended_runs:
        ended = {"run": _ENDED, "source": f"{result.ended_runs:,} runs", **asdict(result.ended)}
        rows = [ended, *rows]
    tables = [Table("producer runs", columns, rows, "none has published anything here")]
    if result.unrecorded.published:
        title = "of producers without a record"
        tables.append(Table(title, columns[2:-1], [document["unrecorded"]]))
    if missing:
        tables.append(Table("missing", [Column("run"), Column("event")], missing))
    show_document(document, tables, as_json=as_json)
    if choose_style(as_json) == "json":
        return
    unnamed = result.total.missing - len(missing)
    if unnamed > 0 and missing:
        answer(f"... and {unnamed} more missing: --show names more of them")
    for note in result.notes:
        answer(f"note: {note}")
    answer(result.line())
    if retained is not None:
        answer(retained.line())
