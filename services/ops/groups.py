"""`telemetry groups`: what each consumer group of the stream holds back; and how to remove one.

Only what every group has acknowledged is trimmed. So a group without readers, such as the one that GROUP_NAME
named before, holds everything that came since, and at STREAM_MAX_LENGTH producers stop.
"""

import sys
import time
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer

from services.brokers.operating.side import OperatorSide
from services.contract.operating import Group
from services.ops.dlq.options import Yes
from services.ops.failures import CommandFailed
from services.ops.lazy import bare_app
from services.ops.output.output import AsJson, Wide, answer, confirmed, show_document
from services.ops.output.parts import Column, Part, Record, Table, number, printable
from services.ops.output.times import show_span
from services.ops.server.doors import open_server
from services.runtime.settings import ConsumerSettings, load, read_sources

groups: Final = bare_app(
    help="Show the consumer groups of the stream, or remove one.",
    invoke_without_command=True,
)

_COLUMNS: Final = (
    Column("name", "group"),
    Column("is_ours", "ours", optional=True),
    number("pending"),
    Column("unread", show=lambda count: "not known" if count is None else f"{count:,}", right=True),
    Column("oldest_age_s", "oldest", lambda age: "-" if age is None else show_span(age), right=True),
    number("consumers"),
    number("live"),
    Column(
        "idle_s", "last active", lambda idle: "-" if idle is None else f"{show_span(idle)} ago", right=True
    ),
)


@groups.callback()
def list_groups(context: typer.Context, as_json: AsJson = False, _wide: Wide = False) -> None:
    """Show what each consumer group of the stream keeps from being trimmed.

    An entry is trimmed when all groups have acknowledged it. PENDING and UNREAD are the entries that a group
    has not acknowledged yet, and OLDEST is the age of the oldest one. LIVE counts the consumers that asked
    for entries within CLAIM_IDLE_MS.
    """
    if context.invoked_subcommand is not None:
        return
    sources = read_sources()
    with open_server(load(ConsumerSettings, sources), sources) as server:
        settings = server.settings
        found = server.side.groups(time.time())
        document = {
            "stream": settings.stream_name,
            "group": settings.group_name,
            "groups": [_record(one) for one in found],
        }
    show_document(document, _parts(document), as_json=as_json)


@groups.command("remove")
def remove_group(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `telemetry groups` shows it.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also the group of GROUP_NAME, or a group that is in use.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Remove a consumer group that is not used any more.

    Entries that only this group kept are trimmed soon after. A consumer that uses the name again begins at
    the oldest entry that is still there. Exit code 1 if there is no such group, or it is in use or our own.
    """
    sources = read_sources()
    with open_server(load(ConsumerSettings, sources), sources) as server:
        stream = server.settings.stream_name
        one = _choose(server.side, stream, name, force=force)
        if not yes:
            _ask(one)
            one = _choose(server.side, stream, name, force=force)  # somebody may have begun to read meanwhile
        if not server.side.remove_group(one):
            raise CommandFailed(f"the group {printable(name)} is gone already")
    answer(f"removed the group {printable(one.name)}, which held back {_held(one)}")


def _held(one: Group) -> str:
    unread = "an unknown number of" if one.unread is None else f"{one.unread:,}"
    return f"{unread} unread and {one.pending:,} unacknowledged entries"


def _record(one: Group) -> dict[str, Any]:
    """Give what is shown of it."""
    record = asdict(one)
    del record["key"]  # no text
    return record


def _parts(document: Record) -> list[Part]:
    title = f"Groups of {printable(document['stream'])}"
    return [Table(title, _COLUMNS, document["groups"], "none yet; a consumer makes its group")]


def _choose(broker: OperatorSide, stream: str, name: str, *, force: bool) -> Group:
    """Find a group that may be removed. Raises CommandFailed, and BrokerUnavailable."""
    found = broker.groups(time.time())
    one = next((one for one in found if one.name == name), None)
    if one is None:
        known = ", ".join(printable(one.name) for one in found) or "none"
        raise CommandFailed(f"no group {printable(name)} on {stream}; there are: {known}")
    if force:
        return one
    if one.is_ours:
        raise CommandFailed(
            f"{printable(name)} is the group of GROUP_NAME: consumers would make it again, and read the "
            "stream from its start. Nothing was done; --force removes it all the same"
        )
    if one.live:
        raise CommandFailed(
            f"{printable(name)} is being read by {one.live} consumer{'' if one.live == 1 else 's'}. Stop "
            "them first. Nothing was done; --force removes it all the same"
        )
    return one


def _ask(one: Group) -> None:
    """Ask before it is removed. Raises CommandFailed unless the answer is yes."""
    name = printable(one.name)
    question = f"Remove the group {name}? It has {_held(one)}, which it would then never read"
    if not sys.stdin.isatty():
        raise CommandFailed(f"{question}. There is no terminal to ask on: add --yes", exit_code=2)
    if not confirmed(question):
        raise CommandFailed("nothing was done")
