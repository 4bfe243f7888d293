"""Looks at everything that `telemetry status` tells of: broker, rows, dead letters, and each process."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict
from typing import Any, Final

from services.brokers.choice import letters_place, operator_side
from services.brokers.operating.side import OperatorSide
from services.contract.consuming.proofs import Proven
from services.contract.errors import BrokerUnavailable, PipelineError, SinkAbsent
from services.contract.operating import LetterStore, RunRecord
from services.ops.audit.live import ForeignIds, count_dead, recorded
from services.ops.dlq.letters import are_at_broker, letters_of, select, show_damages
from services.ops.output.parts import Record
from services.ops.server.own import not_running
from services.ops.status.figures import Counts, figures
from services.ops.status.scrapes import scrape_all
from services.runtime.settings import ConsumerSettings
from services.stores.choice import open_letter_store, open_rows, place_of_letters, store_of
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
            broker = None if found is None else stack.enter_context(closing(operator_side(found)))
            document |= _no_server(settings)
            document["database"] = _database(settings)
            if found is not None and broker is not None:
                proven = _proven(settings, document["database"])
                document |= _server_parts(found, broker, self._foreign, proven)
            if "error" in document["server"]:  # it is told once
                broker = None
            document["dead_letters"] = _dead_letters(settings, broker, document["database"])
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
    """Tell how many events the stream has ever had: 0 without a stream, None where it is not known."""
    if not document["server"].get("name"):
        return None
    added: int | None = 0 if document["stream"] is None else document["stream"]["added_events"]
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


def _proven(settings: ConsumerSettings, database: Record) -> Proven:
    """Read what audits have proven: of runs whose records the broker need not keep it alone tells.

    Where the `database` can't be read, it is not tried, and waited for, again.
    """
    if "error" in database:
        return Proven()
    with suppress(PipelineError), closing(store_of(settings).open_proofs()) as proofs:
        return proofs.read()
    return Proven()


def _server_parts(
    settings: ConsumerSettings, broker: OperatorSide, foreign: ForeignIds, proven: Proven
) -> dict[str, Any]:
    """Ask the broker for its share; the error alone when it can't be asked."""
    parts: dict[str, Any] = {}
    address = settings.broker_address
    try:
        broker.greet()
        about = broker.about()
        parts |= _stream(broker, about.uptime_s)
        records = broker.records()
        parts["runs"] = [_run(record) for record in records.runs]
        parts["published"] = recorded(records.runs, proven.folded) + foreign.count(
            broker, records.runs, _FOREIGN_S, proven.runs
        )
        audit, unreadable = broker.last_audit()
        parts["unreadable"] = [*records.unreadable, *unreadable]
        parts["audit"] = None if audit is None else audit._asdict()
    except BrokerUnavailable as error:
        return parts | {"server": {"address": address, "error": str(error)}}
    return parts | {"server": {"address": address, "name": about.name, "version": about.version}}


def _stream(broker: OperatorSide, uptime_s: float) -> dict[str, Any]:
    """Look at the stream, its groups and their consumers; empty when there is none."""
    found = broker.overview(time.time())
    if found is None:
        return {}
    return {
        "stream": asdict(found.stream),
        "groups": [asdict(one) for one in found.groups],
        "consumers": [
            {"name": one.name, "group": one.group, "pending": one.pending, **_heard(one.idle_s, uptime_s)}
            for one in found.consumers
        ],
    }


def _heard(idle_s: float, uptime_s: float) -> dict[str, Any]:
    """Tell how long a consumer has asked for nothing, and whether it may still be there.

    A server that has just read its file says of each that it was there a moment ago: it does not know.
    """
    is_known = idle_s < uptime_s
    return {"idle_s": idle_s if is_known else None, "is_silent": not is_known or idle_s > _SILENT_S}


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
    store = store_of(settings)
    path = store.place
    try:
        with store.open_rows() as rows:
            return {"path": path, "rows": rows.count()}
    except SinkAbsent as absent:
        return {"path": path, "rows": None, "note": str(absent)}
    except PipelineError as error:
        return {"path": path, "rows": None, "error": str(error)}


def _dead_letters(
    settings: ConsumerSettings, broker: OperatorSide | None, database: Record
) -> dict[str, Any]:
    """Count them. Where the `database` can't be read, it is not tried, and waited for, again."""
    at_broker = are_at_broker(settings)
    place = letters_place(settings) if at_broker else place_of_letters(settings)
    if broker is None and at_broker:
        return {"place": place, "note": "not known: they are on the server"}
    if database["rows"] is None and settings.letters_in == "database":
        return {"place": place, **{name: database[name] for name in ("note", "error") if name in database}}
    try:
        store = open_letter_store(settings) if broker is None else letters_of(settings, broker)
        return {
            "place": place,
            **(_counted_letters(store, None) if "error" in database else _with_rows(settings, store)),
        }
    except PipelineError as error:
        return {"place": place, "error": str(error)}
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
