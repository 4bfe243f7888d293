"""What audits have proven, in the database beside the rows.

It is read as rows are, beside the consumers and without any right to write. A proof is written in one short
transaction, in our turn among the replicas; who may not write there leaves none.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from services.contract.consuming.proofs import Accepted, Proof, Proven, Scope
from services.contract.errors import PipelineError, SinkAbsent, SinkUnavailable, SinkUnusable
from services.stores.proofs import ALL_CHUNKS, NEWEST, Ask, ProofTables
from services.stores.sqlite.database import MOST_PAGES, connect
from services.stores.sqlite.errors import of_a_write
from services.stores.sqlite.files import turn_in
from services.stores.sqlite.rows import SQLiteRows
from services.stores.sqlite.schema import has_column


class SQLiteProofs:
    """The proofs of one scope. `busy_timeout_ms`: how long a write waits for another."""

    def __init__(self, path: Path, busy_timeout_ms: int, scope: Scope) -> None:
        self._path = path
        self._busy_timeout_ms = busy_timeout_ms
        self._scope = scope

    def read(self, names: Iterable[str] = (), *, folded_too: bool = False) -> Proven:
        """Give what is known; nothing where there is no database, or one of before."""
        with contextlib.suppress(SinkAbsent), SQLiteRows(self._path) as rows:
            if rows.has_proofs:
                lacking = () if rows.has_newest_proofs else NEWEST
                with rows.moment() as ask:
                    return self._tables(ask, lacking).read(names, folded_too=folded_too)
        return Proven()

    def generation(self) -> tuple[int, int]:
        """Tell how many proofs were written, and how many steps of retention were taken."""
        with contextlib.suppress(SinkAbsent), SQLiteRows(self._path) as rows:
            if rows.has_proofs:
                with rows.moment() as ask:
                    return self._tables(ask).generation()
        return (0, 0)

    def proven_by(self, groups: Sequence[str], run: str) -> tuple[int, bool]:
        """Tell the first chunk that one of these groups still needs, and whether all have folded the run."""
        if not groups:
            return (ALL_CHUNKS, True)
        with SQLiteRows(self._path) as rows, rows.moment() as ask:
            return self._tables(ask).proven_by(groups, run)

    def write(self, proof: Proof, generation: int) -> str:
        """Write a proof durably, and say why it was not."""
        try:
            with writing(self._path, self._busy_timeout_ms) as ask:
                is_written = self._tables(ask).write(proof, generation)
        except PipelineError as error:
            return str(error)
        return "" if is_written else "another audit was sooner"

    def accept(self, loss: Accepted, generation: int) -> bool:
        """Keep durably that a person has closed a loss; False where somebody was sooner."""
        with writing(self._path, self._busy_timeout_ms) as ask:
            return self._tables(ask).accept(loss, generation)

    def close(self) -> None:
        """Nothing is kept open."""

    def _tables(self, ask: Ask, lacking: Collection[str] = ()) -> ProofTables:
        return ProofTables(lambda text, values: ask(text.replace("{t}", ""), values), self._scope, lacking)


@contextlib.contextmanager
def writing(
    path: Path,
    busy_timeout_ms: int,
    prepare: str = "",
    after: Callable[[sqlite3.Connection], None] | None = None,
) -> Iterator[Ask]:
    """One transaction, in our turn among the replicas.

    `prepare`: a setting of the connection; `after` is given it when our turn is over. Raises SinkUnavailable,
    and has written nothing then.
    """
    # Asked first: to open a database for writing makes files beside it, and may change its header.
    if not (path.is_file() and os.access(path, os.W_OK)):
        raise SinkUnavailable(f"{path} is not there, or may not be written", "SQLITE_READONLY")
    try:
        with contextlib.ExitStack() as opened:
            with turn_in(path.parent, busy_timeout_ms) as patience_ms, contextlib.ExitStack() as in_turn:
                connection = in_turn.enter_context(closing(connect(path, patience_ms)))
                # It is folded between two turns of the consumers, and not in ours.
                connection.executescript(f"PRAGMA wal_autocheckpoint = {MOST_PAGES}; {prepare}")
                connection.execute("BEGIN IMMEDIATE")
                if not has_column(connection, "proven_runs", NEWEST[0]):
                    raise SinkUnavailable(
                        f"{path} is of an earlier version: a consumer of this one brings it up to date",
                        "older_schema",
                    )
                yield lambda text, values: connection.execute(text, values).fetchall()
                connection.execute("COMMIT")
                if after is not None:
                    opened.push(in_turn.pop_all())
            if after is not None:
                after(connection)
    except sqlite3.Error as error:
        raise SinkUnavailable(f"{path}: {of_a_write(error)}", of_a_write(error).kind) from error
    except OSError as error:
        raise SinkUnavailable(f"{path}: {error.strerror or error}", "directory") from error
    except SinkUnusable as error:
        raise SinkUnavailable(str(error), error.kind) from error
