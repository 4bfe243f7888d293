"""What audits have proven, in the database beside the rows: telemetry.proofs and its tables.

Each answer and each write is a short transaction of its own. A standby can be asked, and a user with SELECT
alone; neither leaves a proof.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final

import psycopg

from services.contract.consuming.proofs import Accepted, Proof, Proven, Scope
from services.contract.errors import PipelineError, SinkUnavailable
from services.stores.postgres.connection import Database
from services.stores.postgres.errors import ours
from services.stores.proofs import ALL_CHUNKS, NEWEST, Ask, ProofTables

READS: Final = "REPEATABLE READ, READ ONLY"
"""Mode of a transaction that sees one moment."""
_WRITES: Final = "READ COMMITTED"


class PostgresProofs:
    """The proofs of one scope."""

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database.named("proofs")
        self._scope = scope

    def read(self, names: Iterable[str] = (), *, folded_too: bool = False) -> Proven:
        """Give what is known; nothing where there are no tables yet."""
        with transaction(self._database, READS) as ask:
            if not are_there(ask):
                return Proven()
            lacking = () if _are_newest(ask) else NEWEST
            return ProofTables(ask, self._scope, lacking).read(names, folded_too=folded_too)

    def generation(self) -> tuple[int, int]:
        """Tell how many proofs were written, and how many steps of retention were taken."""
        with transaction(self._database, READS) as ask:
            return ProofTables(ask, self._scope).generation() if are_there(ask) else (0, 0)

    def proven_by(self, groups: Sequence[str], run: str) -> tuple[int, bool]:
        """Tell the first chunk that one of these groups still needs, and whether all have folded the run."""
        if not groups:
            return (ALL_CHUNKS, True)
        with transaction(self._database, READS) as ask:
            return ProofTables(ask, self._scope).proven_by(groups, run)

    def write(self, proof: Proof, generation: int) -> str:
        """Write a proof durably, and say why it was not."""
        try:
            with transaction(self._database) as ask:
                if not _are_newest(ask):
                    return "there are no tables for it yet: a consumer of this version makes them"
                is_written = ProofTables(ask, self._scope).write(proof, generation)
        except PipelineError as error:
            return str(error)
        return "" if is_written else "another audit was sooner"

    def accept(self, loss: Accepted, generation: int) -> bool:
        """Keep durably that a person has closed a loss; False where somebody was sooner."""
        with transaction(self._database) as ask:
            return ProofTables(ask, self._scope).accept(loss, generation)

    def close(self) -> None:
        """Nothing is kept open."""


@contextmanager
def transaction(database: Database, mode: str = _WRITES, limit_s: float | None = None) -> Iterator[Ask]:
    """One transaction, durable where it writes. Raises SinkUnavailable.

    `limit_s`: how long an answer is waited for; None: as the settings say.
    """
    with (
        asking(database.place),
        closing(database.connect(limit_s=limit_s)) as connection,
        connection.transaction(),
    ):
        connection.execute(f"SET TRANSACTION ISOLATION LEVEL {mode}".encode())
        # On the disk before anything is deleted at the broker that it makes needless.
        connection.execute(
            "SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit') "
            "WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)"
        )
        yield lambda text, values: _rows(
            connection.execute(text.replace("{t}", "telemetry.").replace("?", "%s").encode(), values or None)
        )


@contextmanager
def asking(place: str) -> Iterator[None]:
    """Turn the errors of the driver into ours. Raises SinkUnavailable."""
    try:
        yield
    except psycopg.Error as error:
        failure = ours(error, place)
        raise SinkUnavailable(str(failure), failure.kind) from error


def _rows(cursor: psycopg.Cursor[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return cursor.fetchall() if cursor.description is not None else []


def are_there(ask: Ask, table: str = "proofs") -> bool:
    """Tell whether there is such a table of ours."""
    return bool(ask("SELECT to_regclass(?) IS NOT NULL", (f"telemetry.{table}",))[0][0])


def _are_newest(ask: Ask) -> bool:
    found = ask(
        "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('telemetry.proven_runs') "
        "AND attname = ?)",
        (NEWEST[0],),
    )
    return bool(found[0][0])
