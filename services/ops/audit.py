"""The audit: proof, by event id, that nothing is missing.

    published = stored + dead + purged + pending + undelivered + missing

What was published is told by Redis, written there in the same step as the events themselves:

    {telemetry_stream}:run:RUN  last         the run's events are numbered 1 to `last`, without a gap
                                unnumbered   events published without a readable id (invalid ones)
    {telemetry_stream}:run:RUN:ids           ids that the run published and did not number (a replay's)

Where each of them is: in the stream (undelivered, or pending), among the dead letters (or purged from
them), in the sink. The places are read in that order, the one in which an event moves, so an event
that moves meanwhile is met at least once, and the audit is exact beside running consumers too.

With --record the numbers are left in the hash {telemetry_stream}:audit, for an alert on `missing`.

Memory: one byte for each numbered event; ids that aren't numbered go to a temporary file.
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Annotated, Any, Final, Protocol, Self, cast
from uuid import UUID

import redis
import typer

from services.consumer.dead_letters.letter import DeadLetter
from services.consumer.sinks.sqlite_rows import SinkAbsent, SQLiteRows
from services.contract.ids import CANONICAL, id_pattern, numbered
from services.contract.streams import StreamKeys
from services.ops.doors import Server, open_server
from services.ops.failures import CommandFailed
from services.ops.output import AsJson, Column, Table, answer, choose_style, number, show_document
from services.runtime.backlog import after, id_parts, read_backlog
from services.runtime.connection import connect
from services.runtime.records import read_runs
from services.runtime.settings import ConsumerSettings, load, read_sources

MISSING: Final = 0
UNDELIVERED: Final = 1
PENDING: Final = 2
PURGED: Final = 3
DEAD: Final = 4
STORED: Final = 5
"""Where an event is. The later places win: a replayed dead letter that is stored counts as stored."""

_PAGE: Final = 2000
_LOOK_S: Final = 0.2
"""Time between two looks whether the consumers have caught up, with --wait."""
_IDS_A_CHUNK: Final = 10_000
_FARTHEST_BEYOND: Final = 10_000_000
"""How far beyond a run's recorded number an id is believed: further, it is somebody else's id."""


class Rows(Protocol):
    """What the audit reads of a sink."""

    def event_ids(self) -> Iterable[str]:
        """Give every stored event id."""
        ...

    def missing_of(self, ids: Sequence[str]) -> list[str]:
        """Give those of these ids that are not stored."""
        ...


class Letters(Protocol):
    """What the audit reads of the dead letters."""

    def read(self) -> Iterator[DeadLetter]:
        """Give every letter."""
        ...

    def purged(self) -> Iterator[tuple[str, str | None]]:
        """Give entry id and event id of each letter that was purged."""
        ...


@dataclass(slots=True)
class Tally:
    """How many events are where."""

    published: int = 0
    stored: int = 0
    dead: int = 0
    purged: int = 0
    pending: int = 0
    undelivered: int = 0
    missing: int = 0

    def add(self, place: int, number: int = 1) -> None:
        """Count events at a place."""
        self.published += number
        name = ("missing", "undelivered", "pending", "purged", "dead", "stored")[place]
        setattr(self, name, getattr(self, name) + number)

    def __iadd__(self, other: "Tally") -> Self:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


@dataclass(slots=True)
class RunAudit:
    """One producer run."""

    run: str
    source: str
    tally: Tally
    missing: list[str]
    """The first of the missing events; an id of which the time isn't known has `*` there."""
    beyond: int = 0
    """Events seen with a number above the recorded one: the server has lost its latest writes."""


@dataclass(slots=True)
class Audit:
    """The whole proof."""

    runs: list[RunAudit] = field(default_factory=list)
    unknown_rows: int = 0
    """Stored rows that no recorded run has published: of producers that keep no record."""
    notes: list[str] = field(default_factory=list)

    @property
    def total(self) -> Tally:
        """All runs together."""
        total = Tally()
        for run in self.runs:
            total += run.tally
        return total

    def line(self) -> str:
        """Say it in one line."""
        total = self.total
        purged = f" purged={total.purged}" if total.purged else ""
        return (
            f"audit: published={total.published} stored={total.stored} dead={total.dead}{purged} "
            f"pending={total.pending} undelivered={total.undelivered} missing={total.missing}"
        )


def audit(client: redis.Redis, keys: StreamKeys, rows: Rows, letters: Letters, show: int = 20) -> Audit:
    """Find every published event. `show`: how many missing ones are named, for each run.

    Raises redis.RedisError, and what the sink and the dead letters raise when they can't be read.
    """
    result = Audit()
    # The records first: what is published after this moment is not asked for.
    found = read_runs(client, keys)
    records = _read_records(client, found)
    books = {run: _Book(int(record.get("last", 0))) for run, record in records.items()}
    with _Unnumbered() as unnumbered:
        for place, event_id, entry_id in _waiting(client, keys, result.notes):
            _place(books, unnumbered, place, event_id, entry_id)
        for letter in letters.read():
            # A conflict's letter is of a second content under an id: it doesn't stand for the first, the row.
            if letter.reason != "conflict":
                _place(books, unnumbered, DEAD, letter.text("event_id"), letter.entry_id)
        for entry_id, event_id in letters.purged():
            _place(books, unnumbered, PURGED, event_id, entry_id, unless_met=True)
        result.unknown_rows = _read_sink(books, rows)
        latest = _read_records(client, found)
        for run, record in sorted(records.items(), key=lambda item: item[1].get("started_at", "")):
            # A record that went away meanwhile (FLUSHALL) stands as it was.
            recorded = int(latest.get(run, record).get("last", 0))
            one = books[run].settle(run, record.get("source", ""), recorded, show)
            foreign = unnumbered.settle(client, found[run].run_ids(run), rows, one, show)
            result.unknown_rows -= foreign
            _settle_unreadable(one, int(record.get("unnumbered", 0)), unnumbered)
            result.runs.append(one)
    _note(result)
    return result


class _Book:
    """Where each numbered event of a run is: a byte an event."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.places = bytearray(last + 1)

    def put(self, sequence: int, place: int, *, unless_met: bool = False) -> bool:
        """Note a place. False for a number that can't be this run's."""
        if sequence >= len(self.places):
            if sequence > self.last + _FARTHEST_BEYOND:
                return False
            self.places.extend(bytes(sequence + 1 - len(self.places)))
        if not (unless_met and self.places[sequence]):
            self.places[sequence] = place
        return True

    def settle(self, run: str, source: str, latest: int, show: int) -> RunAudit:
        """Count the places.

        `latest` is the number recorded by now: what was published meanwhile is not asked for, and a
        number above it tells that the server has forgotten its latest writes.
        """
        beyond = sum(1 for place in self.places[latest + 1 :] if place)
        # Numbers have no gap, so everything below the highest one that was met was published.
        del self.places[(len(self.places) if beyond else self.last + 1) :]
        tally = Tally()
        for place in (MISSING, UNDELIVERED, PENDING, PURGED, DEAD, STORED):
            tally.add(place, self.places.count(place, 1))
        return RunAudit(run, source, tally, list(islice(self._missing(run), show)), beyond)

    def _missing(self, run: str) -> Iterator[str]:
        sequence = self.places.find(MISSING, 1)
        while sequence > 0:
            yield id_pattern(run, sequence)
            sequence = self.places.find(MISSING, sequence + 1)


class _Unnumbered:
    """Events that no run has numbered, met in the stream or among the dead letters."""

    def __init__(self) -> None:
        # An empty name: a file of SQLite's own, gone when it is closed.
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.execute("CREATE TABLE met (event_id TEXT PRIMARY KEY, place INTEGER) WITHOUT ROWID")
        self._file.execute("CREATE TABLE unreadable (entry_id TEXT PRIMARY KEY, place INTEGER) WITHOUT ROWID")
        self._file.execute("CREATE TABLE asked (event_id TEXT PRIMARY KEY) WITHOUT ROWID")
        self._file.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def meet(self, event_id: str, place: int) -> None:
        self._file.execute(
            "INSERT INTO met VALUES (?1, ?2) ON CONFLICT (event_id) DO UPDATE SET place = max(place, ?2)",
            (event_id, place),
        )

    def meet_unreadable(self, entry_id: str, place: int) -> None:
        self._file.execute(
            "INSERT INTO unreadable VALUES (?1, ?2) "
            "ON CONFLICT (entry_id) DO UPDATE SET place = max(place, ?2)",
            (entry_id, place),
        )

    def take_unreadable(self, number: int) -> Counter[int]:
        """Give the places of at most `number` unreadable events, and use them up."""
        taken = self._file.execute(
            "DELETE FROM unreadable WHERE entry_id IN "
            "(SELECT entry_id FROM unreadable ORDER BY place DESC LIMIT ?) RETURNING place",
            (number,),
        ).fetchall()
        return Counter(place for (place,) in taken)

    def settle(self, client: redis.Redis, key: str, rows: Rows, one: RunAudit, show: int) -> int:
        """Look for each id that a run published and did not number; gives how many are stored."""
        stored = 0
        for chunk in _published_ids(client, key):
            fresh = [event_id for event_id in chunk if self._is_first(event_id)]
            elsewhere = rows.missing_of(fresh)
            stored += len(fresh) - len(elsewhere)
            one.tally.add(STORED, len(fresh) - len(elsewhere))
            for event_id in elsewhere:
                met = self._file.execute("SELECT place FROM met WHERE event_id = ?", (event_id,)).fetchone()
                one.tally.add(met[0] if met else MISSING)
                if not met and len(one.missing) < show:
                    one.missing.append(event_id)
        return stored

    def _is_first(self, event_id: str) -> bool:
        """Tell whether an id is asked for the first time; a file may have it in two lines."""
        return bool(
            self._file.execute("INSERT INTO asked VALUES (?) ON CONFLICT DO NOTHING", (event_id,)).rowcount
        )


def _read_records(client: redis.Redis, found: Mapping[str, StreamKeys]) -> dict[str, dict[str, str]]:
    runs = sorted(found)
    pipeline = client.pipeline(transaction=False)
    for run in runs:
        pipeline.hgetall(found[run].run(run))
    return {
        run: {name.decode(): value.decode(errors="replace") for name, value in record.items()}
        for run, record in zip(runs, pipeline.execute(), strict=True)
    }


def _place(
    books: dict[str, _Book],
    unnumbered: _Unnumbered,
    place: int,
    event_id: str | None,
    entry_id: str,
    *,
    unless_met: bool = False,
) -> None:
    """Note where an event was met, in its run's book if it has one."""
    # An id that was spoilt by its letters' case still tells its number.
    text = (event_id or "").strip().lower()
    own = numbered(text)
    if own is not None and own.run in books:
        if books[own.run].put(own.sequence, place, unless_met=unless_met):
            return
    elif CANONICAL.fullmatch(text):
        unnumbered.meet(text, place)
        return
    unnumbered.meet_unreadable(entry_id, place)


def _waiting(
    client: redis.Redis, keys: StreamKeys, notes: list[str]
) -> Iterator[tuple[int, str | None, str]]:
    """Give place, event id and entry id of what waits in the stream."""
    backlog = read_backlog(client, keys)
    if backlog is None:
        # No group: whatever is in the stream was delivered to nobody.
        for entry_id, fields in _entries(client, keys.stream, "-"):
            yield UNDELIVERED, _event_id(fields), entry_id
        return
    delivered = id_parts(backlog.last_delivered_id)
    pending = _pending_ids(client, keys)
    next_pending = next(pending, None)
    without_content = 0
    for entry_id, fields in _entries(
        client, keys.stream, backlog.oldest_pending_id or after(backlog.last_delivered_id)
    ):
        here = id_parts(entry_id)
        while next_pending is not None and id_parts(next_pending) < here:
            without_content += 1
            next_pending = next(pending, None)
        if here > delivered:
            yield UNDELIVERED, _event_id(fields), entry_id
        elif entry_id == next_pending:
            yield PENDING, _event_id(fields), entry_id
            next_pending = next(pending, None)
    without_content += (next_pending is not None) + sum(1 for _ in pending)
    if without_content:
        notes.append(
            f"{without_content} pending entries have no content any more: trimmed or deleted too early"
        )


def _entries(client: redis.Redis, stream: str, start: str | None) -> Iterator[tuple[str, dict[bytes, bytes]]]:
    while start is not None:
        page = cast("list[Any]", client.xrange(stream, start, "+", count=_PAGE))
        for entry_id, fields in page:
            yield entry_id.decode(), fields
        start = after(page[-1][0]) if page else None


def _pending_ids(client: redis.Redis, keys: StreamKeys) -> Iterator[str]:
    start: str | None = "-"
    while start is not None:
        page = cast("list[Any]", client.xpending_range(keys.stream, keys.group, start, "+", _PAGE))
        for one in page:
            yield one["message_id"].decode()
        start = after(page[-1]["message_id"]) if page else None


def _event_id(fields: dict[bytes, bytes]) -> str | None:
    raw = fields.get(b"event_id")
    return None if raw is None else raw.decode(errors="replace")


def _read_sink(books: dict[str, _Book], rows: Rows) -> int:
    """Note every stored event; gives how many no run has numbered."""
    others = 0
    find = {run: book.places for run, book in books.items()}
    for event_id in rows.event_ids():
        # The same cut as in contract.ids, without its checks: a million of them in about a second.
        places = find.get(event_id[14:27])
        if places is None:
            others += 1
            continue
        sequence = int(event_id[27:], 16)
        if sequence < len(places):
            places[sequence] = STORED
        elif not books[event_id[14:27]].put(sequence, STORED):
            others += 1
    return others


def _published_ids(client: redis.Redis, key: str) -> Iterator[list[str]]:
    """Give the ids that a run published and did not number, by chunks."""
    start = 0
    size = 16 * _IDS_A_CHUNK
    while chunk := cast("bytes", client.getrange(key, start, start + size - 1)):
        yield [str(UUID(bytes=chunk[at : at + 16])) for at in range(0, len(chunk) - 15, 16)]
        start += size


def _settle_unreadable(one: RunAudit, published: int, unnumbered: _Unnumbered) -> None:
    """Account for events without a readable id: by their number, as they have no name."""
    if not published:
        return
    found = unnumbered.take_unreadable(published)
    for place, events in found.items():
        one.tally.add(place, events)
    lost = published - found.total()
    if lost:
        one.tally.add(MISSING, lost)
        one.missing.append(f"{lost} events without a readable event_id")


def _note(result: Audit) -> None:
    for run in result.runs:
        if run.beyond:
            result.notes.append(
                f"run {run.run}: {run.beyond} events are numbered above the server's record; "
                "the server has lost its latest writes"
            )
    if result.unknown_rows:
        result.notes.append(
            f"{result.unknown_rows} stored events are of producers that have no record in this Redis: "
            "they can't be proven complete"
        )


def audit_command(
    as_json: AsJson = False,
    show: Annotated[int, typer.Option(min=0, help="How many missing events are named, for each run.")] = 20,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="First wait until what is published is settled.")
    ] = 0.0,
    record: Annotated[
        bool, typer.Option("--record", help="Leave the result in Redis: a consumer's /metrics tells it.")
    ] = False,
) -> None:
    """Prove that no published event is missing.

    Exit code 1 if any is; each is named. With --wait, also if the consumers need longer than that for what
    was published when the command began.
    """
    sources = read_sources()
    with open_server(load(ConsumerSettings, sources), sources) as server:
        is_settled = wait == 0 or settle(server, wait)
        result = prove(server.settings, show)
        if record:
            leave_result(server.client, server.settings.keys, result.total, time.time())
    show_audit(result, as_json=as_json)
    if not is_settled:
        raise CommandFailed(f"after {wait:g} s, events that were published before it are still not settled")
    if result.total.missing:
        raise typer.Exit(1)


def settle(server: Server, at_most_s: float) -> bool:
    """Wait until all that is in the stream now is acknowledged; gives False when that takes too long."""
    deadline = time.monotonic() + at_most_s
    newest: str | None = None
    while True:
        backlog = read_backlog(server.client, server.settings.keys)
        if backlog is not None:
            newest = backlog.last_generated_id if newest is None else newest
            if backlog.is_settled_up_to(newest):
                return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_S)


def prove(settings: ConsumerSettings, show: int = 20) -> Audit:
    """Audit the stream, the dead letters and the sink that the settings name."""
    with connect(settings) as client:
        letters = Server(client, settings).letters
        try:
            with SQLiteRows(settings.database) as rows:
                return audit(client, settings.keys, rows, letters, show)
        except SinkAbsent:
            return audit(client, settings.keys, _NoRows(), letters, show)


def leave_result(client: redis.Redis, keys: StreamKeys, total: Tally, ended_at: float) -> None:
    """Leave the numbers of an audit in Redis, in place of those before; `ended_at` in Unix seconds.

    The consumer that observes the group exports them as telemetry_audit_*. Raises redis.RedisError.
    """
    # In one command: whoever reads meanwhile has all numbers of one audit.
    result: dict[Any, Any] = {**asdict(total), "ended_at": f"{ended_at:.3f}"}
    client.hset(keys.audit, mapping=result)


def show_audit(result: Audit, *, as_json: bool) -> None:
    """Show an audit: each run, what is missing by name, and the line that sums it up."""
    missing = [{"run": run.run, "event": event} for run in result.runs for event in run.missing]
    document = {
        **asdict(result.total),
        "runs": [{"run": run.run, "source": run.source, **asdict(run.tally)} for run in result.runs],
        "missing_events": missing,
        "unknown_rows": result.unknown_rows,
        "notes": result.notes,
    }
    columns = [Column("run"), Column("source"), *(number(name) for name in Tally.__slots__)]
    tables = [Table("producer runs", columns, document["runs"], "none has published anything here")]
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
