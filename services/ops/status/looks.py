"""Looks at everything that `telemetry status` tells of: broker, rows, dead letters, and each process."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final, cast

import redis

from services.brokers.redis.backlog import Backlog, read_backlog
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
from services.brokers.redis.server.entries import about, after, count
from services.brokers.redis.server.entry_ids import age_s, ahead_s
from services.contract.errors import PipelineError, SinkAbsent
from services.ops.audit.live import ForeignIds, count_dead, recorded
from services.ops.dlq.letters import LetterStore, open_store, select, show_damages
from services.ops.output.output import (
    Record,
)
from services.ops.server.doors import Server
from services.ops.server.own import not_running
from services.ops.status.figures import Counts, figures
from services.ops.status.scrapes import scrape_all
from services.runtime.foreign import name_of, number_of
from services.runtime.settings import ConsumerSettings
from services.stores.choice import open_rows
from services.stores.rows import Rows

_SILENT_S: Final = 15.0
"""A consumer asks for entries every two seconds, unless it has a long batch in hand."""
_FOREIGN_S: Final = 0.2
"""How long one look at the ids of files may take; what is left of them is looked at the next time."""
_NUMBERS: Final = ("pid", "published", "duplicates", "unnumbered", "last")


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
