"""Which rows may be dropped, and what is written of it: the same statements for all stores.

    retention         one row: how many steps were taken, and how far
    retention_holds   what of each pipeline, stream and group may not be dropped yet, as its last audit says

A step drops some rows of one day, the piece. In one transaction it asks every scope that has rows here:

- a row that a run has numbered goes if that number is proven, and stays if an audit has met it and not proven
  it;
- every other row goes if it was stored before all that is not proven of such ids;
- nothing of a day goes while something is missing that may be of it, while a scope has no proof, or its proof
  is of a version that writes no holds;

and counts what goes: `expired` and `expired_ids` of the runs, `unrecorded` for the rows of none. Ids that are
not numbered tell no run, so as many as are proven of that day are taken from the runs first. The generation
of all proofs moves on, so that an audit that has read before it writes nothing.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from services.contract.consuming.retention import DAY_MS, Again
from services.contract.ids import id_from, time_of

Ask = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""Runs a statement with `?` for its values; gives its rows."""
NO_DAY: Final = -1
"""The day of ids that carry no time, or none that is believed."""
_FIRST: Final = id_from(1_577_836_800_000)
_BEYOND: Final = id_from(4_102_444_800_000)
_DAYS: Final = (1_577_836_800_000 // DAY_MS, 4_102_444_800_000 // DAY_MS)
"""The first day that is believed, and the first behind the last one."""
_NAMES_A_STATEMENT: Final = 500
_SCOPE: Final = "(pipeline, stream, consumer_group) = (?, ?, ?)"
_LEAST, _MOST = "000000001", "fffffffff"


class Held(Exception):
    """Rows may not be dropped yet. The message says why."""


class Dialect(NamedTuple):
    """How a store writes it."""

    tables: str
    """What stands before the name of a table."""
    id: str
    """The id of an event, as text."""
    stored_at: str
    """In Unix seconds."""
    ts: str
    """In Unix seconds."""
    version: str
    """The condition that an id is of a version that begins with a time, 7 or 8."""

    @property
    def timed(self) -> str:
        """The condition that an id begins with a time that is believed: of 2020 to 2099."""
        return f"({self.version} AND event_id >= '{_FIRST}' AND event_id < '{_BEYOND}')"


class Piece(NamedTuple):
    """Some rows of one day: `FROM table WHERE condition`, and the values in it."""

    text: str
    values: Sequence[Any]
    day: int


@dataclass(slots=True)
class _Scope:
    key: tuple[str, str, str]
    generation: int = 0
    unrecorded_from: int = 0
    held: int = 0
    """The generation of what follows."""
    missing_from: int | None = None
    others_from: float = 0.0

    @property
    def name(self) -> str:
        pipeline, stream, group = self.key
        return f"pipeline {pipeline}, stream {stream}, group {group}"


class _Own(NamedTuple):
    """Rows of a piece that have a number of one run that some scope knows."""

    run: str
    rows: int
    least: str
    most: str
    newest: float

    def and_(self, more: "_Own") -> "_Own":
        """Add rows of the same run."""
        return _Own(
            self.run,
            self.rows + more.rows,
            min(self.least, more.least),
            max(self.most, more.most),
            max(self.newest, more.newest),
        )


class Found(NamedTuple):
    """Which rows a piece has."""

    own: Sequence[_Own] = ()
    """Those of runs that some scope knows, by run."""
    others: int = 0
    """How many others."""
    newest: float = 0.0
    """When the last one of these was stored, Unix seconds."""

    @property
    def rows(self) -> int:
        """Tell how many rows there are."""
        return sum(one.rows for one in self.own) + self.others

    def and_(self, more: "Found") -> "Found":
        """Add what another piece has."""
        own = {one.run: one for one in self.own}
        for one in more.own:
            own[one.run] = one.and_(own[one.run]) if one.run in own else one
        return Found(tuple(own.values()), self.others + more.others, max(self.newest, more.newest))


class _Known(NamedTuple):
    """What is proven of a run."""

    proven: int
    last: int
    expired: int
    expired_last: int


class _Counted(NamedTuple):
    """What a scope says of a piece: rows of each run by name and their highest number, and all the others."""

    runs: dict[str, tuple[int, int, str]]
    """Rows, the highest number, and the lowest as it is written."""
    known: dict[str, _Known]
    others: int


class RetentionTables:
    """Judges and counts, in whatever transaction `ask` works in."""

    def __init__(self, ask: Ask, dialect: Dialect) -> None:
        self._ask = ask
        self._in = dialect
        self._t = dialect.tables

    def register(self, scope: Sequence[str]) -> None:
        """Note that rows of a pipeline, stream and group come here."""
        self._ask(
            f"INSERT INTO {self._t}retention_holds (pipeline, stream, consumer_group, generation, "  # noqa: S608
            "others_from) VALUES (?, ?, ?, 0, 0) ON CONFLICT (pipeline, stream, consumer_group) DO NOTHING",
            tuple(scope),
        )

    def claim_audit(self, scope: Sequence[str], now: float, interval_s: float) -> bool:
        """Take it upon us to audit, in Unix seconds; False where somebody has, less than so long ago."""
        since = now - interval_s
        return bool(
            self._ask(
                f"UPDATE {self._t}retention_holds SET auditing_at = ? WHERE {_SCOPE} AND auditing_at <= ? "  # noqa: S608
                f"AND NOT EXISTS (SELECT 1 FROM {self._t}proofs AS known WHERE known.proven_at > ? "
                "AND (known.pipeline, known.stream, known.consumer_group) = (?, ?, ?)) RETURNING generation",
                (now, *scope, since, since, *scope),
            )
        )

    def moment(self) -> tuple[int, int]:
        """Tell apart moments between which somebody has written a proof."""
        ((number, sum_of),) = self._ask(
            f"SELECT count(*), coalesce(sum(generation), 0) FROM {self._t}proofs",  # noqa: S608
            (),
        )
        return int(number), int(sum_of)

    def others_from(self, day: int) -> float:
        """Tell from when on rows of other ids may not be proven, Unix seconds. Raises Held."""
        return min((one.others_from for one in self._scopes(day)), default=float("inf"))

    def own(self, piece: Piece) -> Found:
        """Read which rows of a piece are of known runs; how many others, and when their newest was stored."""
        own = (
            f"SELECT substr({self._in.id}, 15, 13) AS run, substr({self._in.id}, 28) AS number, "
            f"{self._in.stored_at} AS at {piece.text}"
        )
        known = f"(SELECT run FROM {self._t}proven_runs)"  # noqa: S608
        rows = self._ask(
            f"SELECT run, count(*), min(number), max(number), max(at) FROM ({own}) AS own "  # noqa: S608
            f"WHERE run IN {known} GROUP BY run",
            piece.values,
        )
        ((others, newest),) = self._ask(
            f"SELECT count(*), coalesce(max(at), 0) FROM ({own}) AS own WHERE run NOT IN {known}",  # noqa: S608
            piece.values,
        )
        return Found([_Own(*row) for row in rows], int(others), float(newest))

    def judge(self, piece: Piece, found: Found) -> list[tuple[_Scope, _Counted]]:
        """Ask every scope whether the rows of a piece may go. Raises Held."""
        return [(scope, self._count(scope, piece, *found)) for scope in self._scopes(piece.day)]

    def _scopes(self, day: int) -> list[_Scope]:
        scopes: dict[tuple[str, str, str], _Scope] = {}
        for *key, generation, unrecorded_from in self._ask(
            f"SELECT pipeline, stream, consumer_group, generation, unrecorded_from FROM {self._t}proofs",  # noqa: S608
            (),
        ):
            scope = scopes.setdefault(_key(key), _Scope(_key(key)))
            scope.generation, scope.unrecorded_from = generation, unrecorded_from
        for *key, generation, missing_from, others_from in self._ask(
            "SELECT pipeline, stream, consumer_group, generation, missing_from, others_from "  # noqa: S608
            f"FROM {self._t}retention_holds",
            (),
        ):
            scope = scopes.setdefault(_key(key), _Scope(_key(key)))
            scope.held, scope.missing_from, scope.others_from = generation, missing_from, others_from
        end_ms = (day + 1) * DAY_MS
        for scope in scopes.values():
            if scope.generation == 0:
                raise Held(f"no audit has proven anything of {scope.name}")
            if scope.held != scope.generation or scope.unrecorded_from < end_ms:
                raise Held(f"no audit since has proven anything of {scope.name}")
            if scope.missing_from is not None and (day == NO_DAY or scope.missing_from < end_ms):
                raise Held(
                    f"events are missing, or can't be told, of {scope.name}: see telemetry audit there"
                )
        return list(scopes.values())

    def _count(
        self, scope: _Scope, piece: Piece, own: Sequence[_Own], others: int, newest: float
    ) -> _Counted:
        known = self._known(scope, [one.run for one in own])
        runs: dict[str, tuple[int, int, str]] = {}
        for one in own:
            base = known.get(one.run)
            if base is None:
                others, newest = others + one.rows, max(newest, one.newest)
            elif one.least >= _LEAST and one.most <= _number(base.proven):
                runs[one.run] = (one.rows, int(one.most, 16), one.least)
            else:
                rows, most, least, more, at = self._split(scope, piece, one.run, base)
                others, newest = others + more, max(newest, at)
                if rows:
                    runs[one.run] = (rows, int(most, 16), least)
        if others and newest >= scope.others_from:
            raise Held(f"rows were stored that no audit of {scope.name} has met so far")
        return _Counted(runs, known, others)

    def _split(self, scope: _Scope, piece: Piece, run: str, base: _Known) -> tuple[int, str, str, int, float]:
        """Tell the rows of a run whose numbers are proven from those behind its last one. Raises Held."""
        number = f"substr({self._in.id}, 28)"
        proven, last = _number(base.proven), _number(max(base.last, base.proven))
        of_run = f"{piece.text} AND substr({self._in.id}, 15, 13) = ?"
        ((rows, most, least),) = self._ask(
            f"SELECT count(*), max({number}), min({number}) {of_run} AND {number} BETWEEN ? AND ?",
            (*piece.values, run, _LEAST, proven),
        )
        ((unproven,),) = self._ask(
            f"SELECT count(*) {of_run} AND {number} > ? AND {number} <= ?",
            (*piece.values, run, proven, last),
        )
        if unproven:
            raise Held(f"run {run} of {scope.name} is proven up to number {base.proven:,} only")
        ((more, at),) = self._ask(
            f"SELECT count(*), coalesce(max({self._in.stored_at}), 0) {of_run} "
            f"AND ({number} > ? OR {number} < ?)",
            (*piece.values, run, last, _LEAST),
        )
        return int(rows), str(most), str(least), int(more), float(at)

    def _known(self, scope: _Scope, names: Sequence[str]) -> dict[str, _Known]:
        known: dict[str, _Known] = {}
        for some in _chunks(names, _NAMES_A_STATEMENT):
            known |= {
                run: _Known(*rest)
                for run, *rest in self._ask(
                    f"SELECT run, proven, last, expired, expired_last FROM {self._t}proven_runs "  # noqa: S608
                    f"WHERE {_SCOPE} AND run IN ({', '.join('?' * len(some))})",
                    (*scope.key, *some),
                )
            }
        return known

    def count(
        self,
        piece: Piece,
        judged: Sequence[tuple[_Scope, _Counted]],
        ours: Sequence[str],
        again: Again,
    ) -> None:
        """Write down that the rows of a piece go. They are there still, and nobody can find one any more.

        `ours`: the scope that `again` knows.
        """
        for scope, counted in judged:
            without = self._forget_letters(scope, piece)
            if scope.key == tuple(ours):
                self._remember(scope, piece, [one for one in again() if _may_be_of(piece.day, one)])
            else:
                self._remember_all(scope, piece)
            for run, (rows, most, least) in counted.runs.items():
                self._expire(scope, run, counted.known[run], rows, most, least)
            moved = self._expire_others(scope, piece.day, counted.others, without)
            self._ask(
                f"UPDATE {self._t}proofs SET generation = generation + 1, unrecorded = CASE "  # noqa: S608
                f"WHEN unrecorded > ? THEN unrecorded - ? ELSE 0 END WHERE {_SCOPE}",
                (counted.others - moved, counted.others - moved, *scope.key),
            )
            self._ask(
                f"UPDATE {self._t}retention_holds SET generation = generation + 1 WHERE {_SCOPE}",  # noqa: S608
                scope.key,
            )
        self.took(0)

    def dropped_before(self) -> int:
        """Tell before which time all is dropped, Unix milliseconds."""
        found = self._ask(f"SELECT dropped_before FROM {self._t}retention WHERE id = 1", ())  # noqa: S608
        return int(found[0][0]) if found else 0

    def took(self, dropped_before: int) -> None:
        """Count a step, and up to when all is dropped."""
        self._ask(
            f"INSERT INTO {self._t}retention AS known VALUES (1, 1, ?) ON CONFLICT (id) DO UPDATE SET "  # noqa: S608
            "generation = known.generation + 1, dropped_before = CASE WHEN known.dropped_before > "
            "excluded.dropped_before THEN known.dropped_before ELSE excluded.dropped_before END",
            (dropped_before,),
        )

    def _remember(self, scope: _Scope, piece: Piece, ids: Sequence[str]) -> None:
        """Keep of rows that go which ids are published again, not looked at so far: no further events."""
        for some in _chunks(ids, _NAMES_A_STATEMENT):
            marks = ", ".join("?" * len(some))
            self._ask(
                f"INSERT INTO {self._t}proven_without_row SELECT ?, ?, ?, event_id, '' {piece.text} "
                f"AND event_id IN ({marks}) "
                "ON CONFLICT (pipeline, stream, consumer_group, event_id) DO NOTHING",
                (*scope.key, *piece.values, *some),
            )

    def _remember_all(self, scope: _Scope, piece: Piece) -> None:
        """Do the same of a scope whose broker is not asked, where it has such ids at all."""
        ((ids,),) = self._ask(
            f"SELECT coalesce(max(ids_seen), 0) FROM {self._t}proven_runs WHERE {_SCOPE}",  # noqa: S608
            scope.key,
        )
        if ids:
            self._ask(
                f"INSERT INTO {self._t}proven_without_row SELECT ?, ?, ?, event_id, '' {piece.text} "  # noqa: S608
                f"AND substr({self._in.id}, 15, 13) NOT IN (SELECT run FROM {self._t}proven_runs "
                f"WHERE {_SCOPE}) ON CONFLICT (pipeline, stream, consumer_group, event_id) DO NOTHING",
                (*scope.key, *piece.values, *scope.key),
            )

    def _forget_letters(self, scope: _Scope, piece: Piece) -> dict[str, int]:
        """Forget that events had no row, which have one that goes now: replayed letters.

        Gives how many had an id that their run did not number, by run.
        """
        found = self._ask(
            f"DELETE FROM {self._t}proven_without_row WHERE {_SCOPE} AND run <> '' "  # noqa: S608
            f"AND event_id IN (SELECT event_id {piece.text}) RETURNING event_id, run",
            (*scope.key, *piece.values),
        )
        foreign: dict[str, int] = {}
        for event_id, run in found:
            if str(event_id)[14:27] != run:
                foreign[run] = foreign.get(run, 0) + 1
        return foreign

    def _expire(self, scope: _Scope, run: str, base: _Known, rows: int, most: int, least: str) -> None:
        """Count rows of numbers. One that was dropped, and stored again since, counts once."""
        expired_last = max(base.expired_last, most)
        expired = base.expired + rows
        if int(least, 16) <= base.expired_last:
            expired = min(expired, max(base.expired, self._most_expired(scope, run, expired_last)))
        self._ask(
            f"UPDATE {self._t}proven_runs SET expired = ?, expired_last = ? WHERE {_SCOPE} AND run = ?",  # noqa: S608
            (expired, expired_last, *scope.key, run),
        )

    def _most_expired(self, scope: _Scope, run: str, last: int) -> int:
        """Tell how many rows there can have been of the numbers up to one."""
        losses = self._ask(
            f"SELECT what FROM {self._t}accepted_losses WHERE {_SCOPE} AND run = ?",  # noqa: S608
            (*scope.key, run),
        )
        told = [json.loads(what) for (what,) in losses]
        pieces = [(first, min(end, last)) for what in told for first, end in what["numbers"] if first <= last]
        accepted = sum(end - first + 1 for first, end in pieces)
        hidden = sum(what.get("hidden", 0) for what in told)
        found = self._ask(
            f"SELECT event_id FROM {self._t}proven_without_row WHERE {_SCOPE} AND run = ? "  # noqa: S608
            f"AND substr({self._in.id}, 15, 13) = ? AND substr({self._in.id}, 28) <= ?",
            (*scope.key, run, run, _number(last)),
        )
        letters = sorted(int(str(event_id)[27:], 16) for (event_id,) in found)
        # A letter that was lost, and closed, is accepted already.
        closed = sum(bisect_right(letters, end) - bisect_left(letters, first) for first, end in pieces)
        return int(last - (len(letters) - closed) - accepted - hidden)

    def _expire_others(self, scope: _Scope, day: int, others: int, without: dict[str, int]) -> int:
        """Count rows of other ids for the runs that have proven ones of that day; tells how many were."""
        taken = dict(without)
        left = others - sum(without.values())
        is_day = "day = ?" if day != NO_DAY else "(day < ? OR day >= ?)"
        values = (day,) if day != NO_DAY else _DAYS
        for run, one, events in self._ask(
            f"SELECT run, day, events FROM {self._t}proven_id_days WHERE {_SCOPE} "  # noqa: S608
            f"AND {is_day} ORDER BY run, day",
            (*scope.key, *values),
        ):
            take = min(events, left)
            if take <= 0:
                break
            left -= take
            taken[run] = taken.get(run, 0) + take
            self._ask(
                f"UPDATE {self._t}proven_id_days SET events = events - ? WHERE {_SCOPE} "  # noqa: S608
                "AND run = ? AND day = ?",
                (take, *scope.key, run, one),
            )
        self._ask(f"DELETE FROM {self._t}proven_id_days WHERE {_SCOPE} AND events <= 0", scope.key)  # noqa: S608
        for run, ids in taken.items():
            self._ask(
                f"UPDATE {self._t}proven_runs SET expired_ids = expired_ids + ? WHERE {_SCOPE} AND run = ?",  # noqa: S608
                (ids, *scope.key, run),
            )
        return sum(taken.values())


def _key(parts: Iterable[Any]) -> tuple[str, str, str]:
    pipeline, stream, group = parts
    return str(pipeline), str(stream), str(group)


def _may_be_of(day: int, event_id: str) -> bool:
    return time_of(event_id) // DAY_MS == day if day != NO_DAY else True


def _number(number: int) -> str:
    return min(f"{number:09x}", _MOST) if number < 1 << 36 else _MOST


def _chunks(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (values[at : at + size] for at in range(0, len(values), size))
