"""`telemetry groups`: what each consumer group of the stream holds back; and how to remove one.

Only what every group has acknowledged is trimmed. So a group without readers, such as the one that GROUP_NAME
named before, holds everything that came since, and at STREAM_MAX_LENGTH producers stop.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, cast

import redis
import typer

from services.brokers.redis.server.entries import after, count
from services.brokers.redis.server.entry_ids import age_s
from services.brokers.redis.server.groups import GroupState, read_groups
from services.ops.dlq.options import Yes
from services.ops.failures import CommandFailed
from services.ops.lazy import bare_app
from services.ops.output.output import (
    AsJson,
    Column,
    Part,
    Record,
    Table,
    answer,
    confirmed,
    number,
    printable,
    show_document,
)
from services.ops.output.times import show_span
from services.ops.server.doors import open_server
from services.runtime.settings import ConsumerSettings, load, read_sources

groups: Final = bare_app(
    help="Show what each consumer group of the stream holds back, and remove one.",
    invoke_without_command=True,
)

_COLUMNS: Final = (
    Column("name", "group"),
    Column("is_ours", "ours"),
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
def list_groups(context: typer.Context, as_json: AsJson = False) -> None:
    """Show what each consumer group of the stream holds back: nothing is trimmed before all have read it.

    PENDING and UNREAD are entries that the group has yet to acknowledge, OLDEST is the age of the oldest of
    them. LIVE counts the consumers that asked for entries within CLAIM_IDLE_MS.
    """
    if context.invoked_subcommand is not None:
        return
    sources = read_sources()
    with open_server(load(ConsumerSettings, sources), sources) as server:
        settings = server.settings
        found = _look(server.client, settings, time.time())
        document = {
            "stream": settings.stream_name,
            "group": settings.group_name,
            "groups": [one.record() for one in found],
        }
    show_document(document, _parts(document), as_json=as_json)


@groups.command("remove")
def remove_group(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `telemetry groups` shows it.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also the group of GROUP_NAME, or one that is being read.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Remove a consumer group that nobody reads by any more; the entries themselves are not touched.

    What it alone held back is trimmed at the next turn. Who reads by that name again begins at the oldest
    entry that is still there.
    """
    sources = read_sources()
    with open_server(load(ConsumerSettings, sources), sources) as server:
        client, settings = server.client, server.settings
        one = _choose(client, settings, name, force=force)
        if not yes:
            _ask(one)
            one = _choose(client, settings, name, force=force)  # somebody may have begun to read meanwhile
        if not client.xgroup_destroy(settings.stream_name, cast("Any", one.state.name)):
            raise CommandFailed(f"the group {printable(name)} is gone already")
    answer(f"removed the group {printable(one.state.shown)}, which held back {one.held_text}")


@dataclass(frozen=True, slots=True)
class _Group:
    """A group, and who reads by it."""

    state: GroupState
    is_ours: bool
    oldest_age_s: float | None
    """Of the oldest entry that it has yet to acknowledge; None where it has none."""
    idle_ms: Sequence[int]
    """Of each consumer."""
    live: int

    @property
    def held_text(self) -> str:
        unread = "an unknown number of" if self.state.unread is None else f"{self.state.unread:,}"
        return f"{unread} unread and {self.state.pending:,} unacknowledged entries"

    def record(self) -> dict[str, Any]:
        """Give what is shown of it."""
        return {
            "name": self.state.shown,
            "is_ours": self.is_ours,
            "pending": self.state.pending,
            "unread": self.state.unread,
            "oldest_age_s": self.oldest_age_s,
            "oldest_pending_id": self.state.oldest_pending_id,
            "last_delivered_id": self.state.last_delivered_id,
            "consumers": len(self.idle_ms),
            "live": self.live,
            "idle_s": min(self.idle_ms) / 1000 if self.idle_ms else None,
        }


def _parts(document: Record) -> list[Part]:
    title = f"Groups of {printable(document['stream'])}"
    return [Table(title, _COLUMNS, document["groups"], "none yet; a consumer makes its group")]


def _look(client: redis.Redis, settings: ConsumerSettings, now: float) -> list[_Group]:
    """Look at every group. Raises redis.RedisError."""
    found = []
    for state in read_groups(client, settings.stream_name):
        try:
            consumers: Any = client.xinfo_consumers(settings.stream_name, cast("Any", state.name))
        except redis.ResponseError as error:
            if str(error).startswith("NOGROUP"):  # removed meanwhile
                continue
            raise
        idle_ms = [int(one["idle"]) for one in consumers]
        found.append(
            _Group(
                state,
                state.name == settings.group_name.encode(),
                _oldest_age_s(client, settings.stream_name, state, now),
                idle_ms,
                sum(idle < settings.claim_idle_ms for idle in idle_ms),
            )
        )
    return found


def _oldest_age_s(client: redis.Redis, stream: str, state: GroupState, now: float) -> float | None:
    if state.held == 0:
        return None
    if state.needed_from == state.oldest_pending_id:
        return age_s(state.oldest_pending_id, now)
    start = after(state.needed_from)
    found = None if start is None else count(client, stream, start, 1).first
    return None if found is None else age_s(found, now)


def _choose(client: redis.Redis, settings: ConsumerSettings, name: str, *, force: bool) -> _Group:
    """Find a group that may be removed. Raises CommandFailed, and redis.RedisError."""
    found = _look(client, settings, time.time())
    one = next((one for one in found if one.state.shown == name), None)
    if one is None:
        known = ", ".join(printable(one.state.shown) for one in found) or "none"
        raise CommandFailed(f"no group {printable(name)} on {settings.stream_name}; there are: {known}")
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


def _ask(one: _Group) -> None:
    """Ask before it is removed. Raises CommandFailed unless the answer is yes."""
    name = printable(one.state.shown)
    question = f"Remove the group {name}? It has {one.held_text}, which it would then never read"
    if not sys.stdin.isatty():
        raise CommandFailed(f"{question}. Nobody can answer here: add --yes", exit_code=2)
    if not confirmed(question):
        raise CommandFailed("nothing was done")
