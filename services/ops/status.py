"""`telemetry status`: what is where, at this moment. What isn't there yet is said to be so."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Annotated, Any, Final, cast

import redis
import typer

from services.consumer.errors import ConsumerError
from services.consumer.sinks.sqlite_rows import SinkAbsent, SQLiteRows
from services.contract.streams import StreamKeys
from services.ops.doors import Server
from services.ops.failures import CommandFailed
from services.ops.figures import Counts, figures
from services.ops.figures_text import figures_line, figures_part
from services.ops.letters import LetterStore, select
from services.ops.output import (
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
from services.ops.scrapes import scrape_all
from services.ops.server import ServerUnavailable, reachable
from services.ops.times import show_ago, show_span, show_time
from services.runtime.backlog import AHEAD_S, LAST_ID, Backlog, age_s, ahead_s, id_parts, read_backlog
from services.runtime.connection import address, connect, explain, lacks_command, lacks_right
from services.runtime.records import read_runs
from services.runtime.settings import ConsumerSettings, Sources, load, read_sources

_RUNS_SHOWN: Final = 10
_NUMBERS: Final = ("pid", "published", "duplicates", "unnumbered", "last")
_TIMES: Final = ("started_at", "updated_at")
_ID_BYTES: Final = 16
"""How an id is kept that a run published and did not number: a replayed file's own."""


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
    number("idle_s", "idle", show_span),
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
    as_json: AsJson = False,
) -> None:
    """Show the main figures, the stream, groups, consumers, sink, dead letters and producer runs.

    With --watch also rates and latency, of the time between two looks; where there is no terminal: one line
    each time. Exit code 1 if Redis, the sink or the dead letters can't be read; what isn't there yet is no
    error.
    """
    sources = read_sources()
    with ExitStack() as stack:
        settings = _found(stack, load(ConsumerSettings, sources), sources)
        if watching:
            try:
                watch(_looks(settings, interval), status_parts, status_line, as_json=as_json)
            except KeyboardInterrupt:  # the way to end it, so no error
                return
        document = Looks(settings).look()
    show_document(document, status_parts(document), as_json=as_json)
    if errors := _errors(document):
        raise CommandFailed(errors[0], details=errors[1:])


class Looks:
    """Looks at everything, again and again; two looks tell how fast it goes."""

    def __init__(self, settings: ConsumerSettings) -> None:
        self._settings = settings
        self._before: Counts | None = None

    def look(self) -> dict[str, Any]:
        """Look once; an `error` stands in a part that can't be read."""
        settings = self._settings
        document: dict[str, Any] = {"at": time.time()}
        with connect(settings) as client:
            server = Server(client, settings)
            document |= _server_parts(server)
            document["database"] = _database(settings)
            document["dead_letters"] = _dead_letters(server)
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
    if "error" in document["server"]:
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
    runs = document["runs"]
    published = sum(run[kind] for run in runs for kind in ("published", "unnumbered", "foreign"))
    numbers = {
        "published": published if runs else None,
        "stored": document["database"].get("rows"),
        "dead": document["dead_letters"].get("letters"),
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
    told = server.get("error") or _told_server(server)
    rows = database.get("error") or database.get("note") or f"{database['rows']:,} rows in {database['path']}"
    facts = [("server", told), ("sink", rows)]
    letters = _letters_part(document["dead_letters"])
    if "error" in server:  # nothing is known of what is in it
        return [_main_figures(document), Facts("Pipeline", facts), letters]
    stream = document["stream"]
    length = "no stream yet" if stream is None else f"{stream['length']:,} entries"
    facts.insert(1, ("stream", f"{document['stream_name']}: {length}"))
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


def _found(stack: ExitStack, settings: ConsumerSettings, sources: Sources) -> ConsumerSettings:
    """Find the server, for as long as the stack is open; without any the rest is still shown."""
    try:
        return stack.enter_context(reachable(settings, sources))
    except ServerUnavailable as error:
        remark(str(error))
        return settings


def _looks(settings: ConsumerSettings, interval_s: float) -> Iterator[Record]:
    looks = Looks(settings)
    while True:
        yield looks.look()
        time.sleep(interval_s)


def _server_parts(server: Server) -> dict[str, Any]:
    """Ask the server for its share; the error alone when it can't be asked."""
    settings = server.settings
    parts: dict[str, Any] = {
        "stream_name": settings.stream_name,
        "stream": None,
        "groups": [],
        "consumers": [],
        "runs": [],
        "audit": None,
    }
    try:
        about = _about(server.client)
        parts |= _stream(server.client, settings.keys, time.time())
        parts["runs"] = _runs(server.client, settings.keys)
        parts["audit"] = _last_audit(server.client, settings.keys)
    except redis.RedisError as error:
        return parts | {"server": {"address": address(settings), "error": explain(error, settings)}}
    return parts | {"server": {"address": address(settings), **about}}


def _about(client: redis.Redis) -> dict[str, Any]:
    """Tell what the server is; a user may lack INFO, and a server may have none."""
    try:
        about = cast("Mapping[str, Any]", client.info("server"))
    except redis.ResponseError as error:
        if not (lacks_right(error) or lacks_command(error)):
            raise
        return {"name": "redis", "version": None}
    name = str(about.get("server_name", "redis"))
    return {"name": name, "version": about.get(f"{name}_version", about.get("redis_version"))}


def _stream(client: redis.Redis, keys: StreamKeys, now: float) -> dict[str, Any]:
    """Look at the stream, its groups and their consumers; empty when there is none."""
    if not client.exists(keys.stream):
        return {}
    groups: list[Record] = []
    consumers: list[Record] = []
    for info in client.xinfo_groups(keys.stream):
        name = info["name"].decode()
        backlog = read_backlog(client, StreamKeys(keys.stream, name))
        if backlog is None:  # removed meanwhile
            continue
        groups.append(
            {
                "name": name,
                "is_ours": name == keys.group,
                "lag": backlog.lag,
                "lag_known": backlog.lag_known,
                "pending": backlog.pending,
                "oldest_pending_age_s": backlog.oldest_pending_age_s(now),
                "oldest_unread_age_s": age_s(_oldest_unread(client, keys.stream, backlog), now),
                "last_delivered_id": backlog.last_delivered_id,
            }
        )
        consumers += (
            {"name": one.name, "group": name, "pending": one.pending, "idle_s": one.idle_ms / 1000}
            for one in backlog.consumers
        )
    about = cast("Mapping[str, Any]", client.xinfo_stream(keys.stream))
    newest = about["last-generated-id"].decode()
    stream = {
        "length": int(about["length"]),
        "added": about.get("entries-added"),
        "last_generated_id": newest,
        "id_ahead_s": ahead_s(newest, now),
    }
    return {"stream": stream, "groups": groups, "consumers": consumers}


def _oldest_unread(client: redis.Redis, stream: str, backlog: Backlog) -> str | None:
    if backlog.lag == 0:
        return None
    page = cast("list[Any]", client.xrange(stream, f"({backlog.last_delivered_id}", "+", count=1))
    return page[0][0].decode() if page else None


def _last_audit(client: redis.Redis, keys: StreamKeys) -> dict[str, Any] | None:
    """Read what `telemetry audit --record` found last; None where there was none, or we may not read it."""
    try:
        found = cast("Mapping[bytes, bytes]", client.hgetall(keys.audit))
    except redis.exceptions.NoPermissionError:
        return None
    missing, published, ended_at = (
        _number(found.get(name, b"").decode(errors="replace"))
        for name in (b"missing", b"published", b"ended_at")
    )
    if missing is None or ended_at is None:
        return None
    return {"missing": int(missing), "published": int(published or 0), "ended_at": ended_at}


def _runs(client: redis.Redis, keys: StreamKeys) -> list[dict[str, Any]]:
    """Read what each producer run says about itself, the newest last."""
    found = read_runs(client, keys)
    names = sorted(found)
    pipeline = client.pipeline(transaction=False)
    for name in names:
        pipeline.hgetall(found[name].run(name))
        pipeline.strlen(found[name].run_ids(name))
    answers = pipeline.execute()
    runs = [_run(*one) for one in zip(names, answers[::2], answers[1::2], strict=True)]
    return sorted(runs, key=lambda run: run["started_at"] or 0.0)


def _run(name: str, record: Mapping[bytes, bytes], ids_bytes: int) -> dict[str, Any]:
    texts = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in record.items()}
    return {
        "run": name,
        "source": texts.get("source"),
        "host": texts.get("host"),
        **{key: int(_number(texts.get(key)) or 0) for key in _NUMBERS},
        "foreign": ids_bytes // _ID_BYTES,
        **{key: _number(texts.get(key)) for key in _TIMES},
        "line": int(_number(texts.get("line")) or 0) if "line" in texts else None,
        "done": texts["done"] == "1" if "done" in texts else None,
    }


def _number(text: str | None) -> float | None:
    """Read a number that a producer has written; None where there is none."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _database(settings: ConsumerSettings) -> dict[str, Any]:
    path = str(settings.database)
    try:
        with SQLiteRows(settings.database) as rows:
            return {"path": path, "rows": rows.count()}
    except SinkAbsent as absent:
        return {"path": path, "rows": None, "note": str(absent)}
    except ConsumerError as error:
        return {"path": path, "rows": None, "error": str(error)}


def _dead_letters(server: Server) -> dict[str, Any]:
    settings = server.settings
    in_file = settings.dead_letters == "file"
    place = str(settings.dead_letter_file) if in_file else settings.keys.dead_letters
    try:
        return {"place": place, **_counted_letters(server.letters)}
    except redis.RedisError as error:
        return {"place": place, "error": explain(error, settings)}
    except OSError as error:
        return {"place": place, "error": f"{error.filename}: {error.strerror}"}


def _counted_letters(store: LetterStore) -> dict[str, Any]:
    letters: Counter[str] = Counter()
    replayed: Counter[str] = Counter()
    for one in select(store):
        letters[one.letter.reason] += 1
        replayed[one.letter.reason] += one.replayed_at is not None
    return {
        "letters": letters.total(),
        "replayed": replayed.total(),
        "purged": sum(1 for _ in store.purged()),
        "reasons": [
            {"reason": reason, "letters": count, "replayed": replayed[reason]}
            for reason, count in letters.most_common()
        ],
    }


def _letters_part(dead_letters: Record) -> Part:
    if "error" in dead_letters:
        return Facts("Dead letters", (("error", dead_letters["error"]),))
    letters, purged = counted(dead_letters["letters"]), dead_letters["purged"]
    gone = f", {purged:,} purged" if purged else ""
    title = f"Dead letters: {letters} in {dead_letters['place']}{gone}"
    return Table(title, _REASONS, dead_letters["reasons"])


def _errors(document: Record) -> list[str]:
    parts = (document["server"], document["database"], document["dead_letters"])
    return list(dict.fromkeys(part["error"] for part in parts if "error" in part))
