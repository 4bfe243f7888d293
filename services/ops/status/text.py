"""What `telemetry status` has found, laid out for a person: part by part, or in one line."""

from collections.abc import Sequence
from typing import Final

from services.contract.operating import AHEAD_S
from services.ops.output.parts import Column, Facts, Part, Record, Table, counted, number
from services.ops.output.times import show_ago, show_span, show_time
from services.ops.status.figures_text import figures_line, figures_part

_RUNS_SHOWN: Final = 10
_LAST_MS: Final = (1 << 64) - 1
"""The last possible time of an entry's id."""


def _yes_or_counted(known: bool) -> str:
    return "server" if known else "counted here"


_GROUPS: Final = (
    Column("name", "group"),
    number("lag"),
    Column("lag_known", "lag source", _yes_or_counted, optional=True),
    number("pending"),
    number("oldest_unread_age_s", "oldest unread", show_span),
    number("oldest_pending_age_s", "oldest pending", show_span),
    Column("last_delivered_id", "last delivered", optional=True),
)
_CONSUMERS: Final = (
    Column("name", "consumer"),
    Column("group"),
    number("pending"),
    number("idle_s", "idle", lambda idle_s: "not known" if idle_s is None else show_span(idle_s)),
    Column("is_silent", "state", lambda is_silent: "silent" if is_silent else "active"),
)
_REASONS: Final = (Column("reason"), number("letters"), number("replayed"))
_RUNS: Final = (
    Column("run"),
    Column("source"),
    Column("host", optional=True),
    Column("pid", right=True, optional=True),
    number("published"),
    number("duplicates", optional=True),
    number("unnumbered", optional=True),
    number("foreign", optional=True),
    Column("started_at", "started", show_time, optional=True),
    Column("updated_at", "last seen", show_ago),
    Column("done"),
)


def status_line(document: Record) -> str:
    """Say the most important of it in one line; `-` for what isn't known."""
    ours: Record = next((one for one in document["groups"] if one["is_ours"]), {})
    stream = document["stream"] or {}
    numbers = {
        "published": document["published"] if document["runs"] else None,
        "stored": document["database"].get("rows"),
        "dead": document["dead_letters"].get("events"),
        "conflicts": document["dead_letters"].get("conflicts"),
        "length": stream.get("length"),
        "lag": ours.get("lag"),
        "pending": ours.get("pending"),
    }
    told = " ".join(f"{name}={'-' if value is None else value}" for name, value in numbers.items())
    oldest = f"{ours['oldest_pending_age_s']:.1f}s" if ours else "-"
    unread = f"{ours['oldest_unread_age_s']:.1f}s" if ours else "-"
    line = (
        f"{show_time(document['at'])} {told} oldest_pending={oldest} oldest_unread={unread} "
        f"consumers={len(document['consumers'])} {figures_line(document['figures'])}"
    )
    return "  ".join([line, *errors_of(document)])


def status_parts(document: Record) -> list[Part]:
    """Lay it out for a person, part by part."""
    server, database = document["server"], document["database"]
    told = server.get("error") or server.get("note") or _told_server(server)
    rows = database.get("error") or database.get("note") or f"{database['rows']:,} rows in {database['path']}"
    facts = [("server", told), ("sink", rows)]
    letters = _letters_part(document["dead_letters"])
    if "name" not in server:  # nothing is known of what is in it
        return [_main_figures(document), Facts("Pipeline", facts), letters]
    stream = document["stream"]
    length = "no stream yet" if stream is None else _told_length(stream)
    facts.insert(1, ("stream", f"{document['stream_name']}: {length}"))
    if document["runs"]:
        facts.insert(2, ("published", f"{document['published']:,} events"))
    if stream is not None and stream["id_ahead_s"] >= AHEAD_S:
        facts.insert(2, ("ids", _told_ahead(stream)))
    return [
        _main_figures(document),
        Facts("Pipeline", facts),
        Table("Groups, in entries", _GROUPS, document["groups"], "none yet; a consumer makes its group"),
        Table("Consumers, in entries", _CONSUMERS, document["consumers"]),
        letters,
        _runs_part(document["runs"]),
    ]


def _told_length(stream: Record) -> str:
    """Say how long the stream is: in entries, and in events where some entries have many."""
    entries, events = stream["length"], stream["events"]
    return f"{entries:,} entries" + ("" if events in {None, entries} else f" of {events:,} events")


def _told_ahead(stream: Record) -> str:
    """Say that an id was set by hand, or by a clock that is wrong: each new one follows it."""
    newest = stream["last_generated_id"]
    if int(newest.partition("-")[0]) == _LAST_MS:
        how = "with the last possible time: soon no entry can follow"
    else:
        how = f"{show_span(stream['id_ahead_s'])} ahead of our clock: ages and latencies are not true"
    return f"the newest is {newest}, {how} (docs/runbooks/TelemetryStreamIdAhead.md)"


def _told_server(server: Record) -> str:
    version = (
        "of an unknown version (it gives us no INFO)" if server["version"] is None else server["version"]
    )
    return f"{server['name']} {version} at {server['address']}"


def _main_figures(document: Record) -> Part:
    ours = next((one for one in document["groups"] if one["is_ours"]), None)
    return figures_part(document["figures"], ours, len(document["consumers"]))


def _runs_part(runs: Sequence[Record]) -> Part:
    many = len(runs) > _RUNS_SHOWN
    title = f"Producer runs, the newest {_RUNS_SHOWN} of {len(runs):,}" if many else "Producer runs"
    return Table(title, _RUNS, runs[-_RUNS_SHOWN:], "none has published here")


def _letters_part(dead_letters: Record) -> Part:
    if "letters" not in dead_letters:
        kind = "error" if "error" in dead_letters else "note"
        return Facts("Dead letters", ((kind, dead_letters[kind]),))
    letters, purged = counted(dead_letters["letters"]), dead_letters["purged"]
    gone = f", {purged:,} purged" if purged else ""
    now = f"events that are dead now: {dead_letters['events']:,}, conflicts: {dead_letters['conflicts']:,}"
    title = f"Dead letters: {letters} in {dead_letters['place']}{gone}; {now}"
    return Table(title, _REASONS, dead_letters["reasons"])


def errors_of(document: Record) -> list[str]:
    """Say what could not be read, each once."""
    parts = (document["server"], document["database"], document["dead_letters"])
    errors = [part["error"] for part in parts if "error" in part]
    unreadable = [f"a record at the broker can't be read: {line}" for line in document["unreadable"]]
    return list(dict.fromkeys([*errors, *unreadable]))
