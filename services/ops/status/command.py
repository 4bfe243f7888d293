"""`telemetry status`: what is where, at this moment. What isn't there yet is said to be so."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Annotated, Any, Final, cast

import redis
import typer

from services.brokers.redis.backlog import AHEAD_S, Backlog, read_backlog
from services.brokers.redis.keys import StreamKeys, keys_of
from services.brokers.redis.operating.records import RunRecord, read_records
from services.brokers.redis.server.connection import (
    address,
    connect,
    explain,
    greet,
    lacks_command,
    lacks_right,
)
from services.brokers.redis.server.entries import LAST_ID, about, after, count
from services.brokers.redis.server.entry_ids import age_s, ahead_s, id_parts
from services.contract.errors import PipelineError, SinkAbsent
from services.ops.audit.live import ForeignIds, count_dead, recorded
from services.ops.dlq.letters import LetterStore, open_store, select, show_damages
from services.ops.failures import CommandFailed
from services.ops.output.output import (
    AsJson,
    Column,
    Facts,
    Part,
    Record,
    Table,
    counted,
    number,
    remark,
    show_document,
    watch,
)
from services.ops.output.times import show_ago, show_span, show_time
from services.ops.server.doors import Server, StartServer
from services.ops.server.own import ServerUnavailable, not_running, reachable, running
from services.ops.status.figures import Counts, figures
from services.ops.status.figures_text import figures_line, figures_part
from services.ops.status.scrapes import scrape_all
from services.runtime.foreign import name_of, number_of
from services.runtime.settings import ConsumerSettings, load, read_sources
from services.stores.choice import open_rows
from services.stores.rows import Rows

_RUNS_SHOWN: Final = 10
_SILENT_S: Final = 15.0
"""A consumer asks for entries every two seconds, unless it has a long batch in hand."""
_FOREIGN_S: Final = 0.2
"""How long one look at the ids of files may take; what is left of them is looked at the next time."""
_NUMBERS: Final = ("pid", "published", "duplicates", "unnumbered", "last")


def _yes_or_counted(known: bool) -> str:
    return "server" if known else "counted here"


_GROUPS: Final = (
    Column("name", "group"),
    number("lag"),
    Column("lag_known", "lag told by", _yes_or_counted),
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
    number("duplicates"),
    number("unnumbered"),
    number("foreign"),
    Column("started_at", "started", show_time, optional=True),
    Column("updated_at", "last seen", show_ago),
    Column("done"),
)


def status_command(
    watching: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Time between two looks, with --watch.")
    ] = 2.0,
    start_server: StartServer = False,
    as_json: AsJson = False,
) -> None:
    """Show the main figures, the stream, groups, consumers, sink, dead letters and producer runs.

    With --watch also rates and latency, of the time between two looks; where there is no terminal: one line
    each time. Exit code 1 if Redis, the sink or the dead letters can't be read; what isn't there yet is no
    error.
    """
    sources = read_sources()
    settings = load(ConsumerSettings, sources)
    with ExitStack() as stack:
        if start_server:
            try:
                stack.enter_context(reachable(settings, sources, may_start=True))
            except ServerUnavailable as error:
                raise CommandFailed(str(error)) from error
        # Looked for at each look: the next run's server has another address.
        looks = Looks(settings, lambda: running(settings, sources))
        stack.callback(looks.close)
        if watching:
            try:
                watch(_looks(looks, interval), status_parts, status_line, as_json=as_json)
            except KeyboardInterrupt:  # the way to end it, so no error
                return
        document = looks.look()
    show_document(document, status_parts(document), as_json=as_json)
    remark(*document["dead_letters"].get("notes", ()))
    if errors := _errors(document):
        raise CommandFailed(errors[0], details=errors[1:])


class Looks:
    """Looks at everything, again and again; two looks tell how fast it goes."""

    def __init__(
        self, settings: ConsumerSettings, find: Callable[[], ConsumerSettings | None] | None = None
    ) -> None:
        """`find` gives the settings that lead to the server, None where there is none; else they do."""
        self._settings = settings
        self._find = find or (lambda: settings)
        self._foreign = ForeignIds()
        self._before: Counts | None = None
        self._address: str | None = None

    def close(self) -> None:
        """Let go of what was kept between two looks."""
        self._foreign.close()

    def look(self) -> dict[str, Any]:
        """Look once; an `error` stands in a part that can't be read."""
        settings = self._settings
        document: dict[str, Any] = {"at": time.time()}
        found = self._find()
        with ExitStack() as stack:
            server = None if found is None else Server(stack.enter_context(connect(found)), found)
            document |= _no_server(settings) if server is None else _server_parts(server, self._foreign)
            if "error" in document["server"]:  # it is told once
                server = None
            document["database"] = _database(settings)
            document["dead_letters"] = _dead_letters(settings, server)
        if document["published"] is not None:
            document["published"] += document["dead_letters"].get("conflicts", 0)
        if document["server"]["address"] != self._address:  # what another server counted is no start
            self._address, self._before = document["server"]["address"], None
        counts = Counts(
            time.monotonic(),
            _added(document),
            _rows(document["database"]),
            document["dead_letters"].get("letters"),
            scrape_all(settings),
        )
        document["figures"] = figures(counts, self._before, document.pop("audit"))
        self._before = counts
        return document


def _added(document: Record) -> int | None:
    """Tell how many entries the stream has ever had: 0 without a stream, None where it is not known."""
    if not document["server"].get("name"):
        return None
    added: int | None = 0 if document["stream"] is None else document["stream"]["added"]
    return added


def _rows(database: Record) -> int | None:
    """Tell how many rows there are: 0 without a database, None where it can't be read."""
    rows: int | None = 0 if "note" in database else database["rows"]
    return rows


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
    return "  ".join([line, *_errors(document)])


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
    length = "no stream yet" if stream is None else f"{stream['length']:,} entries"
    facts.insert(1, ("stream", f"{document['stream_name']}: {length}"))
    if document["runs"]:
        facts.insert(2, ("published", f"{document['published']:,} events"))
    if stream is not None and stream["id_ahead_s"] >= AHEAD_S:
        facts.insert(2, ("ids", _told_ahead(stream)))
    return [
        _main_figures(document),
        Facts("Pipeline", facts),
        Table("Groups", _GROUPS, document["groups"], "none yet; a consumer makes its group"),
        Table("Consumers", _CONSUMERS, document["consumers"]),
        letters,
        _runs_part(document["runs"]),
    ]


def _told_ahead(stream: Record) -> str:
    """Say that an id was set by hand, or by a clock that is wrong: each new one follows it."""
    newest = stream["last_generated_id"]
    if id_parts(newest)[0] == id_parts(LAST_ID)[0]:
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


def _looks(looks: "Looks", interval_s: float) -> Iterator[Record]:
    while True:
        yield looks.look()
        time.sleep(interval_s)


def _no_server(settings: ConsumerSettings) -> dict[str, Any]:
    """Give the parts of a server that isn't there, or can't be asked."""
    return {
        "server": {"address": None, "note": not_running(settings)},
        "stream_name": settings.stream_name,
        "stream": None,
        "groups": [],
        "consumers": [],
        "runs": [],
        "unreadable": [],
        "published": None,
        "audit": None,
    }


def _server_parts(server: Server, foreign: ForeignIds) -> dict[str, Any]:
    """Ask the server for its share; the error alone when it can't be asked."""
    settings = server.settings
    parts = _no_server(settings)
    try:
        about = _about(server.client)
        parts |= _stream(server.client, keys_of(settings), time.time(), about.pop("uptime_s"))
        records = read_records(server.client, keys_of(settings))
        parts["runs"] = [_run(record) for record in records.runs]
        parts["published"] = recorded(records.runs) + foreign.count(server.client, records.runs, _FOREIGN_S)
        parts["unreadable"] = records.unreadable
        parts["audit"] = _last_audit(server.client, keys_of(settings), records.unreadable)
    except redis.RedisError as error:
        return parts | {"server": {"address": address(settings), "error": explain(error, settings)}}
    return parts | {"server": {"address": address(settings), **about}}


def _about(client: redis.Redis) -> dict[str, Any]:
    """Tell what the server is; a user may lack INFO, and a server may have none."""
    greet(client)
    try:
        about = cast("Mapping[str, Any]", client.info("server"))
    except redis.ResponseError as error:
        if not (lacks_right(error) or lacks_command(error)):
            raise
        return {"name": "redis", "version": None, "uptime_s": math.inf}
    name = str(about.get("server_name", "redis"))
    version = about.get(f"{name}_version", about.get("redis_version"))
    return {"name": name, "version": version, "uptime_s": float(about.get("uptime_in_seconds", math.inf))}


def _stream(client: redis.Redis, keys: StreamKeys, now: float, uptime_s: float) -> dict[str, Any]:
    """Look at the stream, its groups and their consumers; empty when there is none."""
    if not client.exists(keys.stream):
        return {}
    groups: list[Record] = []
    consumers: list[Record] = []
    for info in client.xinfo_groups(keys.stream):
        backlog = read_backlog(client, keys, info["name"])
        if backlog is None:  # removed meanwhile
            continue
        name = name_of(info["name"])
        groups.append(
            {
                "name": name,
                "is_ours": info["name"] == keys.group.encode(),
                "lag": backlog.lag,
                "lag_known": backlog.lag_known,
                "pending": backlog.pending,
                "oldest_pending_age_s": backlog.oldest_pending_age_s(now),
                "oldest_unread_age_s": age_s(_oldest_unread(client, keys.stream, backlog), now),
                "last_delivered_id": backlog.last_delivered_id,
            }
        )
        consumers += (
            {"name": one.name, "group": name, "pending": one.pending, **_heard(one.idle_ms / 1000, uptime_s)}
            for one in backlog.consumers
        )
    known = about(client, keys.stream)
    newest = known["last-generated-id"].decode()
    stream = {
        "length": int(known["length"]),
        "added": known.get("entries-added"),
        "last_generated_id": newest,
        "id_ahead_s": ahead_s(newest, now),
    }
    return {"stream": stream, "groups": groups, "consumers": consumers}


def _heard(idle_s: float, uptime_s: float) -> dict[str, Any]:
    """Tell how long a consumer has asked for nothing, and whether it may still be there.

    A server that has just read its file says of each that it was there a moment ago: it does not know.
    """
    is_known = idle_s < uptime_s
    return {"idle_s": idle_s if is_known else None, "is_silent": not is_known or idle_s > _SILENT_S}


def _oldest_unread(client: redis.Redis, stream: str, backlog: Backlog) -> str | None:
    if backlog.lag == 0:
        return None
    start = after(backlog.last_delivered_id)
    return None if start is None else count(client, stream, start, 1).first


def _last_audit(client: redis.Redis, keys: StreamKeys, unreadable: list[str]) -> dict[str, Any] | None:
    """Read what `telemetry audit --record` found last; None where there was none, or we may not read it."""
    try:
        found = cast("Mapping[bytes, bytes]", client.hgetall(keys.audit))
    except redis.exceptions.NoPermissionError:
        return None
    except redis.ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
        unreadable.append(f"{keys.audit}: this key is not a hash, so somebody else has written it")
        return None
    unreadable += [
        f"{keys.audit}: {name_of(name)} can't be {name_of(value[:40])!r}"
        for name, value in found.items()
        if (amount := number_of(value)) is None or not 0 <= amount < 1 << 62
    ]
    missing, published, conflicts, ended_at = (
        number_of(found.get(name)) for name in (b"missing", b"published", b"conflicts", b"ended_at")
    )
    if missing is None or ended_at is None or not 0 <= ended_at < 1e11:
        return None
    return {
        "missing": int(missing),
        "published": int(published or 0),
        "conflicts": int(conflicts or 0),
        "ended_at": ended_at,
    }


def _run(record: RunRecord) -> dict[str, Any]:
    """Lay out what a producer run says about itself."""
    return {
        "run": record.run,
        "source": record.texts["source"],
        "host": record.texts["host"],
        **{name: record.number(name) for name in _NUMBERS},
        "foreign": record.foreign,
        **record.times,
        "line": record.numbers["line"],
        "done": record.is_done,
    }


def _database(settings: ConsumerSettings) -> dict[str, Any]:
    path = str(settings.database)
    try:
        with open_rows(settings) as rows:
            return {"path": path, "rows": rows.count()}
    except SinkAbsent as absent:
        return {"path": path, "rows": None, "note": str(absent)}
    except PipelineError as error:
        return {"path": path, "rows": None, "error": str(error)}


def _dead_letters(settings: ConsumerSettings, server: Server | None) -> dict[str, Any]:
    in_file = settings.dead_letters == "file"
    place = str(settings.dead_letter_file) if in_file else keys_of(settings).dead_letters
    if server is None and not in_file:
        return {"place": place, "note": "not known: they are on the server"}
    try:
        store = open_store(settings) if server is None else server.letters
        return {"place": place, **_with_rows(settings, store)}
    except redis.RedisError as error:
        return {"place": place, "error": explain(error, settings)}
    except OSError as error:
        return {"place": place, "error": f"{error.filename}: {error.strerror}"}


def _with_rows(settings: ConsumerSettings, store: LetterStore) -> dict[str, Any]:
    """Count letters, and their events that are not stored; where the rows can't be read, all of them."""
    try:
        with open_rows(settings) as rows:
            return _counted_letters(store, rows)
    except PipelineError:
        return _counted_letters(store, None)


def _counted_letters(store: LetterStore, rows: Rows | None) -> dict[str, Any]:
    letters: Counter[str] = Counter()
    replayed: Counter[str] = Counter()
    for one in select(store):
        letters[one.letter.reason] += 1
        replayed[one.letter.reason] += one.replayed_at is not None
    events = count_dead(store.read(), list if rows is None else rows.missing_of)
    purged = sum(1 for _ in store.purged())
    damages = store.damages
    return {
        "letters": letters.total(),
        "events": events.dead,
        "conflicts": events.conflicts,
        "replayed": replayed.total(),
        "purged": purged,
        "notes": [f"{one.place}: {one.why}" for one in damages.torn],
        **({"error": _in_one_line(show_damages(damages))} if damages.number else {}),
        "reasons": [
            {"reason": reason, "letters": count, "replayed": replayed[reason]}
            for reason, count in letters.most_common()
        ],
    }


def _in_one_line(lines: Sequence[str]) -> str:
    return f"{lines[0]} {'; '.join(line.strip() for line in lines[1:])}"


def _letters_part(dead_letters: Record) -> Part:
    if "letters" not in dead_letters:
        kind = "error" if "error" in dead_letters else "note"
        return Facts("Dead letters", ((kind, dead_letters[kind]),))
    letters, purged = counted(dead_letters["letters"]), dead_letters["purged"]
    gone = f", {purged:,} purged" if purged else ""
    of = f" of {dead_letters['events']:,} dead events and {dead_letters['conflicts']:,} conflicts"
    title = f"Dead letters: {letters} in {dead_letters['place']},{of}{gone}"
    return Table(title, _REASONS, dead_letters["reasons"])


def _errors(document: Record) -> list[str]:
    parts = (document["server"], document["database"], document["dead_letters"])
    errors = [part["error"] for part in parts if "error" in part]
    unreadable = [f"a record in Redis can't be read: {line}" for line in document["unreadable"]]
    return list(dict.fromkeys([*errors, *unreadable]))
