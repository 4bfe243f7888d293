"""The tables of what audits have proven, whatever the store: the same statements for all.

    proofs               one row a scope: its generation, and how far rows of no run are counted
    proven_runs          up to where each run is proven
    proven_without_row   proven events that had no row then: dead letters
    proven_id_days       proven events of other ids than the run's own, by day
    accepted_losses      what a person has closed
    retention            how far days were dropped
    retention_holds      what of a scope may not be dropped yet (retention.py)

All of them are authoritative for nothing but themselves: without them an audit reads everything again.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import astuple, fields
from typing import Any, Final

from services.contract.consuming.proofs import Accepted, Folded, Proof, Proven, ProvenRun, Scope
from services.runtime.settings import ConsumerSettings

Ask = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""Runs a statement with `?` for its values and `{t}` before the names of tables; gives its rows."""

_SCOPE: Final = "(pipeline, stream, consumer_group) = (?, ?, ?)"
_RUN_COLUMNS: Final = tuple(one.name for one in fields(ProvenRun))
_DROPPED: Final = frozenset({"expired", "expired_last", "expired_ids"})
"""Columns that retention alone writes."""
NEWEST: Final = ("hidden", "hidden_ids")
"""Columns of `proven_runs` that the newest schema has added."""
ALL_CHUNKS: Final = 1 << 62
_NAMES_A_STATEMENT: Final = 500
_ROWS_A_STATEMENT: Final = 1000


def scope_of(settings: ConsumerSettings) -> Scope:
    """Give the pipeline, stream and group that the settings name."""
    return Scope(settings.pipeline_name, settings.stream_name, settings.group_name)


class ProofTables:
    """The proofs of one scope, in whatever transaction `ask` works in."""

    def __init__(self, ask: Ask, scope: Scope, lacking: Collection[str] = ()) -> None:
        """`lacking`: columns of NEWEST that the tables don't have; such tables can only be read."""
        self._ask = ask
        self._scope = tuple(scope)
        self._lacking = lacking

    def read(self, names: Iterable[str], *, folded_too: bool) -> Proven:
        """Read all that an audit needs."""
        found = self._ask(
            f"SELECT generation, proven_at, unrecorded, unrecorded_from FROM {{t}}proofs WHERE {_SCOPE}",  # noqa: S608
            self._scope,
        )
        generation, proven_at, unrecorded, unrecorded_from = found[0] if found else (0, 0.0, 0, 0)
        runs = self._runs("" if folded_too else "AND folded_at IS NULL", ())
        wanted = [] if folded_too else sorted(set(names) - runs.keys())
        for chunk in _chunks(wanted, _NAMES_A_STATEMENT):
            runs |= self._runs(f"AND run IN ({_marks(chunk)})", chunk)
        folded = self._ask(
            "SELECT count(*), coalesce(sum(proven + id_events), 0), coalesce(sum(unnumbered), 0), "  # noqa: S608
            "coalesce(sum(expired + expired_ids), 0), coalesce(sum(accepted), 0) FROM {t}proven_runs "
            f"WHERE {_SCOPE} AND folded_at IS NOT NULL",
            self._scope,
        )
        drops, dropped_before = self._dropped()
        return Proven(
            generation,
            proven_at,
            unrecorded,
            unrecorded_from,
            runs,
            Folded(*(int(one) for one in folded[0])),
            {
                str(event_id): run
                for event_id, run in self._ask(
                    f"SELECT event_id, run FROM {{t}}proven_without_row WHERE {_SCOPE}",  # noqa: S608
                    self._scope,
                )
            },
            [
                Accepted.of(*row)
                for row in self._ask(
                    "SELECT run, accepted_at, accepted_by, reason, events, what FROM {t}accepted_losses "  # noqa: S608
                    f"WHERE {_SCOPE} ORDER BY accepted_at",
                    self._scope,
                )
            ],
            self._others(),
            drops,
            dropped_before,
        )

    def generation(self) -> tuple[int, int]:
        """Tell how many proofs were written, and how many steps of retention were taken."""
        found = self._ask(f"SELECT generation FROM {{t}}proofs WHERE {_SCOPE}", self._scope)  # noqa: S608
        return (int(found[0][0]) if found else 0, self._dropped()[0])

    def proven_by(self, groups: Sequence[str], run: str) -> tuple[int, bool]:
        """Tell the first chunk that one of these groups still needs, and whether all have folded the run."""
        found = self._ask(
            "SELECT count(*), coalesce(min(CASE WHEN folded_at IS NULL THEN chunk END), ?), count(folded_at) "  # noqa: S608
            "FROM {t}proven_runs WHERE (pipeline, stream, run) = (?, ?, ?) "
            f"AND consumer_group IN ({_marks(groups)})",
            (ALL_CHUNKS, *self._scope[:2], run, *groups),
        )
        number, chunk, folded = found[0]
        return (int(chunk) if number == len(groups) else 0, folded == len(groups))

    def write(self, proof: Proof, generation: int) -> bool:
        """Write a proof; False where another one was written since that generation. In one transaction."""
        if generation == 0:
            self._ask(
                f"INSERT INTO {{t}}proofs VALUES ({_marks(range(7))}) "  # noqa: S608
                "ON CONFLICT (pipeline, stream, consumer_group) DO NOTHING",
                (*self._scope, 0, 0.0, 0, 0),
            )
        moved = self._ask(
            "UPDATE {t}proofs SET generation = generation + 1, proven_at = ?, unrecorded = ?, "  # noqa: S608
            f"unrecorded_from = ? WHERE {_SCOPE} AND generation = ? RETURNING generation",
            (proof.proven_at, proof.unrecorded, proof.unrecorded_from, *self._scope, generation),
        )
        if not moved:
            return False
        self._ask(
            "INSERT INTO {t}retention_holds (pipeline, stream, consumer_group, generation, missing_from, "  # noqa: S608
            f"others_from) VALUES ({_marks(range(6))}) "
            "ON CONFLICT (pipeline, stream, consumer_group) DO UPDATE SET generation = excluded.generation, "
            "missing_from = excluded.missing_from, others_from = excluded.others_from",
            (*self._scope, generation + 1, proof.missing_from, proof.others_from),
        )
        for one in proof.runs:
            self._write_run(one)
        for chunk in _chunks(list(proof.without_row.items()), _ROWS_A_STATEMENT):
            rows = ", ".join(["(?, ?, ?, ?, ?)"] * len(chunk))
            self._ask(
                f"INSERT INTO {{t}}proven_without_row VALUES {rows} "  # noqa: S608
                "ON CONFLICT (pipeline, stream, consumer_group, event_id) DO NOTHING",
                [value for event_id, run in chunk for value in (*self._scope, event_id, run)],
            )
        for ids in _chunks(proof.with_row, _NAMES_A_STATEMENT):
            self._ask(
                f"DELETE FROM {{t}}proven_without_row WHERE {_SCOPE} AND event_id IN ({_marks(ids)})",  # noqa: S608
                (*self._scope, *ids),
            )
        for (run, day), events in proof.id_days.items():
            self._ask(
                f"INSERT INTO {{t}}proven_id_days AS known VALUES ({_marks(range(6))}) "  # noqa: S608
                "ON CONFLICT (pipeline, stream, consumer_group, run, day) "
                "DO UPDATE SET events = known.events + excluded.events",
                (*self._scope, run, day, events),
            )
        return True

    def accept(self, loss: Accepted, generation: int) -> bool:
        """Keep that a person has closed a loss; False where the proof is a later one. In one transaction."""
        # Who has read the proof before that writes none over it, and nobody closes the same loss again.
        moved = self._ask(
            f"UPDATE {{t}}proofs SET generation = generation + 1 WHERE {_SCOPE} AND generation = ? "  # noqa: S608
            "RETURNING generation",
            (*self._scope, generation),
        )
        if not moved:
            return False
        self._ask(
            f"INSERT INTO {{t}}accepted_losses VALUES ({_marks(range(9))})",  # noqa: S608
            (
                *self._scope, loss.run, loss.accepted_at, loss.accepted_by, loss.reason, loss.events,
                loss.what(),
            ),
        )  # fmt: skip
        if proven := loss.hidden + loss.proven_ids:
            self._ask(
                f"UPDATE {{t}}proven_runs SET accepted = accepted + ? WHERE {_SCOPE} AND run = ?",  # noqa: S608
                (proven, *self._scope, loss.run),
            )
        return True

    def _write_run(self, one: ProvenRun) -> None:
        names = ", ".join(_RUN_COLUMNS)
        updates = ", ".join(f"{name} = excluded.{name}" for name in _RUN_COLUMNS[1:] if name not in _DROPPED)
        self._ask(
            f"INSERT INTO {{t}}proven_runs (pipeline, stream, consumer_group, {names}) "  # noqa: S608
            f"VALUES (?, ?, ?, {_marks(_RUN_COLUMNS)}) "
            f"ON CONFLICT (pipeline, stream, consumer_group, run) DO UPDATE SET {updates}",
            (*self._scope, *astuple(one)),
        )

    def _runs(self, condition: str, values: Sequence[Any]) -> dict[str, ProvenRun]:
        columns = ", ".join(f"0 AS {name}" if name in self._lacking else name for name in _RUN_COLUMNS)
        rows = self._ask(
            f"SELECT {columns} FROM {{t}}proven_runs WHERE {_SCOPE} {condition}",  # noqa: S608
            (*self._scope, *values),
        )
        return {row[0]: ProvenRun(*row) for row in rows}

    def _others(self) -> dict[str, int]:
        """Count the rows that are proven of other pipelines' streams; several groups of one share them."""
        proven = self._ask(
            "SELECT pipeline, sum(events) FROM (SELECT pipeline, "
            "max(proven + id_events - expired - expired_ids - accepted) AS events "
            "FROM {t}proven_runs WHERE (pipeline, stream) <> (?, ?) "
            "GROUP BY pipeline, stream, run) AS runs GROUP BY pipeline",
            self._scope[:2],
        )
        without_row = self._ask(
            "SELECT pipeline, count(*) FROM (SELECT DISTINCT pipeline, stream, event_id "
            "FROM {t}proven_without_row WHERE (pipeline, stream) <> (?, ?) AND run <> '') AS events "
            "GROUP BY pipeline",
            self._scope[:2],
        )
        without = {pipeline: int(number) for pipeline, number in without_row}
        return {name: rows for name, number in proven if (rows := int(number) - without.get(name, 0)) > 0}

    def _dropped(self) -> tuple[int, int]:
        found = self._ask("SELECT generation, dropped_before FROM {t}retention WHERE id = 1", ())
        return (int(found[0][0]), int(found[0][1])) if found else (0, 0)


def _marks(values: Collection[Any]) -> str:
    return ", ".join("?" * len(values))


def _chunks(values: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (values[at : at + size] for at in range(0, len(values), size))
