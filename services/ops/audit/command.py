"""`telemetry audit`: the proof that nothing is missing, and its exit code. What is proven, and how: proof.py.

With --record the numbers are left in the hash {telemetry_stream}:audit, for an alert on `missing`.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Final

import redis
import typer

from services.brokers.redis.backlog import read_backlog
from services.brokers.redis.keys import StreamKeys, keys_of
from services.brokers.redis.operating.met import keep_met
from services.brokers.redis.operating.records import read_records
from services.brokers.redis.server.connection import address, connect, explain
from services.contract.errors import SinkAbsent
from services.ops.audit.proof import audit
from services.ops.audit.result import Audit, Tally
from services.ops.failures import CommandFailed
from services.ops.output.output import AsJson, Column, Table, answer, choose_style, number, show_document
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
        bool, typer.Option("--record", help="Leave the result in Redis: a consumer's /metrics tells it.")
    ] = False,
) -> None:
    """Prove that no published event is missing.

    Exit code 1 if any is; each is named. Also if nothing is proven: where no producer run was ever recorded
    (a wrong folder, stream or server), or where a record or a dead letter can't be read. With --wait, also
    if the consumers need longer than that for what was published when the command began.
    """
    sources = read_sources()
    with open_server(load(ConsumerSettings, sources), sources, may_start=start_server) as server:
        is_settled = wait == 0 or settle(server, wait)
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
    """Leave the result in Redis; says why not where the server is full: the proof is shown all the same."""
    client, keys = server.client, keys_of(server.settings)
    try:
        # What is no proof takes no older one's place, unless it is bad news.
        if result.is_proven or result.total.missing:
            leave_result(client, keys, result.total, time.time())
        _keep(client, keys, result)
    except redis.exceptions.OutOfMemoryError as error:
        return f"not recorded: {explain(error, server.settings)}"
    return ""


def settle(server: Server, at_most_s: float) -> bool:
    """Wait until a run is recorded and all that is in the stream now is acknowledged.

    Gives False when that takes too long.
    """
    deadline = time.monotonic() + at_most_s
    newest: str | None = None
    while True:
        backlog = read_backlog(server.client, keys_of(server.settings))
        if backlog is not None:
            newest = backlog.last_generated_id if newest is None else newest
            if (
                backlog.is_settled_up_to(newest)
                and read_records(server.client, keys_of(server.settings)).runs
            ):
                return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_S)


def prove(settings: ConsumerSettings, show: int = 20) -> Audit:
    """Audit the stream, the dead letters and the sink that the settings name."""
    with connect(settings) as client:
        letters = Server(client, settings).letters
        try:
            with open_rows(settings) as rows:
                result = audit(client, keys_of(settings), rows, letters, show)
        except SinkAbsent:
            result = audit(client, keys_of(settings), _NoRows(), letters, show)
    if not result.runs and not result.problems:
        result.problems.append(
            f"nothing is proven: no producer run was ever recorded for the stream {settings.stream_name} "
            f"at Redis {address(settings)} (rows and dead letters: {settings.data_dir.absolute()}). "
            "Either no producer has started yet, or DATA_DIR, STREAM_NAME, BROKER_URL or REDIS_HOST is wrong"
        )
    return result


def leave_result(client: redis.Redis, keys: StreamKeys, total: Tally, ended_at: float) -> None:
    """Leave the numbers of an audit in Redis, in place of those before; `ended_at` in Unix seconds.

    The consumer that observes the group exports them as telemetry_audit_*. Raises redis.RedisError.
    """
    # In one command: whoever reads meanwhile has all numbers of one audit.
    result: dict[Any, Any] = {**asdict(total), "ended_at": f"{ended_at:.3f}"}
    client.hset(keys.audit, mapping=result)


def _keep(client: redis.Redis, keys: StreamKeys, result: Audit) -> None:
    """Keep what was met of each run, so that a record that is lowered from now on shows."""
    if not keep_met(client, keys, {one.run: one.met for one in result.runs}):
        result.notes.append(f"what was met is not kept: this user lacks the right HSET on {keys.met}")


def show_audit(result: Audit, *, as_json: bool) -> None:
    """Show an audit: each run, what is missing by name, and the line that sums it up."""
    missing = [{"run": run.run, "event": event} for run in result.runs for event in run.missing]
    document = {
        **asdict(result.total),
        "runs": [{"run": run.run, "source": run.source, **asdict(run.tally)} for run in result.runs],
        "unrecorded": asdict(result.unrecorded),
        "missing_events": missing,
        "unknown_rows": result.unknown_rows,
        "tampered_or_lost": result.tampered_or_lost,
        "notes": result.notes,
        "problems": result.problems,
    }
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


class _NoRows:
    """The rows of a database that no consumer has made yet."""

    def event_ids(self) -> Sequence[str]:
        """Give none."""
        return ()

    def missing_of(self, ids: Sequence[str]) -> list[str]:
        """Give all of them."""
        return list(ids)
