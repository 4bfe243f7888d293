"""`telemetry audit`: the proof that nothing is missing, and its exit code. What is proven, and how: proof.py.

With --record the numbers are left in the hash {telemetry_stream}:audit, for an alert on `missing`.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer

from services.brokers.choice import operator_side
from services.brokers.operating.side import OperatorSide
from services.contract.consuming.damage import Damages
from services.contract.consuming.letter import DeadLetter, Purged
from services.contract.errors import BrokerFull, SinkAbsent
from services.ops.audit.proof import audit
from services.ops.audit.result import Audit, Tally
from services.ops.dlq.letters import letters_of
from services.ops.failures import CommandFailed
from services.ops.output.output import AsJson, answer, choose_style, show_document
from services.ops.output.parts import Column, Table, number
from services.ops.server.doors import Server, StartServer, open_server
from services.runtime.settings import ConsumerSettings, load, read_sources
from services.stores.choice import open_rows

_LOOK_S: Final = 0.2
"""Time between two looks whether the consumers have caught up, with --wait."""
_MOST_NAMED: Final = 1_000_000


def audit_command(
    as_json: AsJson = False,
    show: Annotated[
        int, typer.Option(min=0, max=_MOST_NAMED, help="How many missing events are named, for each run.")
    ] = 20,
    wait: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="First wait until a producer run is recorded, and what is published is settled.",
        ),
    ] = 0.0,
    start_server: StartServer = False,
    record: Annotated[
        bool, typer.Option("--record", help="Leave the result at the broker: a consumer's /metrics tells it.")
    ] = False,
) -> None:
    """Prove that no published event is missing.

    Exit code 1 if any is; each is named. Also if nothing is proven: where no producer run was ever recorded
    (a wrong folder, stream or server), or where a record or a dead letter can't be read. With --wait, also
    if the consumers need longer than that for what was published when the command began.
    """
    sources = read_sources()
    with open_server(load(ConsumerSettings, sources), sources, may_start=start_server) as server:
        is_settled = wait == 0 or settle(server.side, wait)
        result = prove(server.settings, show)
        not_recorded = _record(server, result) if record else ""
    show_audit(result, as_json=as_json)
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


def _record(server: Server, result: Audit) -> str:
    """Leave the result at the broker; says why not where that is full: the proof is shown all the same."""
    try:
        # What is no proof takes no older one's place, unless it is bad news.
        if result.is_proven or result.total.missing:
            server.side.leave_audit(asdict(result.total), time.time())
        # What was met of each run is kept, so that a record that is lowered from now on shows.
        if why := server.side.keep_met({one.run: one.met for one in result.runs}):
            result.notes.append(f"what was met is not kept: {why}")
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
        if newest is not None and broker.is_settled_up_to(newest) and broker.records().runs:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_S)


def prove(settings: ConsumerSettings, show: int = 20) -> Audit:
    """Audit the stream, the dead letters and the sink that the settings name."""
    with closing(operator_side(settings)) as broker:
        letters = letters_of(settings, broker)
        try:
            with open_rows(settings) as rows:
                result = audit(broker, rows, letters, show)
        except SinkAbsent:
            nothing = _Nothing()
            result = audit(broker, nothing, nothing if settings.letters_in == "database" else letters, show)
    if not result.runs and not result.problems:
        result.problems.append(
            f"nothing is proven: no producer run was ever recorded for the stream {settings.stream_name} "
            f"at {broker.place} (rows and dead letters: {settings.data_dir.absolute()}). "
            "Either no producer has started yet, or DATA_DIR, STREAM_NAME, BROKER_URL or REDIS_HOST is wrong"
        )
    return result


def show_audit(result: Audit, *, as_json: bool, file: Mapping[str, Any] | None = None) -> None:
    """Show an audit: each run, what is missing by name, and the line that sums it up.

    `file` is the account of a file that was published, as it is in the JSON.
    """
    missing = [{"run": run.run, "event": event} for run in result.runs for event in run.missing]
    document: dict[str, Any] = {
        **asdict(result.total),
        "runs": [{"run": run.run, "source": run.source, **asdict(run.tally)} for run in result.runs],
        "unrecorded": asdict(result.unrecorded),
        "missing_events": missing,
        "unknown_rows": result.unknown_rows,
        "tampered_or_lost": result.tampered_or_lost,
        "notes": result.notes,
        "problems": result.problems,
    }
    if file is not None:
        document["file"] = file
    columns = [Column("run"), Column("source"), *(number(name) for name in Tally.__slots__)]
    tables = [Table("producer runs", columns, document["runs"], "none has published anything here")]
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


class _Nothing:
    """The rows of a database that no consumer has made yet, and its dead letters."""

    def __init__(self) -> None:
        self.damages = Damages()

    def event_ids(self) -> Sequence[str]:
        """Give none."""
        return ()

    def read(self) -> Iterator[DeadLetter]:
        """Give none."""
        return iter(())

    def purged(self) -> Iterator[Purged]:
        """Give none."""
        return iter(())
