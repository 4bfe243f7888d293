"""Proofs in a real database: durable, as of one moment, and read from tables of the version before."""

import logging
from contextlib import closing

import psycopg
import pytest
from postgres import LocalPostgres, database, with_tables

from services.contract.consuming.proofs import Proof, ProvenRun, Scope
from services.stores.postgres.proving.proofs import READS, PostgresProofs, transaction
from services.stores.postgres.schema import migrations, update

SCOPE = Scope("here", "stream", "group")
RUN = ProvenRun("run-1", "test", last=9, proven=7)


def test_a_proof_that_was_told_outlives_a_crash(own_postgres_server: LocalPostgres) -> None:
    """Also where the role has synchronous_commit off: the broker deletes then what it makes needless."""
    server = own_postgres_server
    proofs = PostgresProofs(database(with_tables(server.dsn())), SCOPE)
    with server.admin() as admin:
        admin.execute("ALTER ROLE postgres SET synchronous_commit = off")
    with server.lazy_disk():
        assert proofs.write(Proof(runs=[RUN]), 0) == ""
        server.kill()
    server.start()
    assert proofs.read().runs == {RUN.run: RUN}


def test_of_two_audits_the_second_writes_nothing(postgres_url: str) -> None:
    """It has read what was there before the first, and says so; nothing of it is kept."""
    proofs = PostgresProofs(database(with_tables(postgres_url)), SCOPE)
    assert proofs.write(Proof(unrecorded=1, runs=[RUN]), 0) == ""
    late = Proof(unrecorded=2, without_row={"01a3185c-5000-8abc-8def-000000000001": RUN.run})
    assert proofs.write(late, 0) == "another audit was sooner"
    assert (proofs.read().unrecorded, proofs.read().without_row) == (1, {})
    assert proofs.generation() == (1, 0)


def test_a_proof_is_written_as_a_whole_or_not_at_all(postgres_url: str) -> None:
    """It fails in its last statement: what came before it is gone as well, and the reason is told."""
    proofs = PostgresProofs(database(with_tables(postgres_url)), SCOPE)
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute("ALTER TABLE telemetry.proven_id_days ADD CHECK (events < 0)")
    assert "proven_id_days" in proofs.write(Proof(runs=[RUN], id_days={(RUN.run, 20_000): 1}), 0)
    assert (proofs.generation(), proofs.read().runs) == ((0, 0), {})


def test_an_audit_reads_all_as_of_one_moment(postgres_url: str) -> None:
    """Another one that writes meanwhile is seen wholly or not at all; and a read writes nothing."""
    where = database(with_tables(postgres_url))
    count = "SELECT count(*) FROM telemetry.proofs"
    with transaction(where, READS) as ask:
        assert ask(count, ()) == [(0,)]
        assert PostgresProofs(where, SCOPE).write(Proof(runs=[RUN]), 0) == ""
        assert ask(count, ()) == [(0,)]
        assert ask("SHOW transaction_read_only", ()) == [("on",)]
    with transaction(where, READS) as ask:
        assert ask(count, ()) == [(1,)]


@pytest.mark.parametrize("has_tables", [False, True])
def test_tables_of_before_are_read_and_not_written(postgres_url: str, *, has_tables: bool) -> None:
    """What they lack is nothing that was found; a consumer of this version is to make it first."""
    proofs = PostgresProofs(database(postgres_url), SCOPE)
    if has_tables:
        (hidden,) = [one.version for one in migrations() if one.name == "hidden_losses"]
        with closing(database(postgres_url).connect()) as connection:
            update(connection, "here", logging.getLogger("test"), upto=hidden - 1)
            connection.execute(
                "INSERT INTO telemetry.proven_runs VALUES ('here', 'stream', 'group', 'run-1', 'test', 9, 7, "
                "0, 0, 0, 0, 0, 0, 0, 0, 0, 0)"
            )
    assert proofs.read().runs == ({RUN.run: RUN} if has_tables else {})
    assert proofs.generation() == (0, 0)
    assert "a consumer of this version makes them" in proofs.write(Proof(runs=[RUN]), 0)


def test_no_group_holds_anything_where_there_is_none(postgres_url: str) -> None:
    """Then all of a run may go."""
    proofs = PostgresProofs(database(with_tables(postgres_url)), SCOPE)
    chunk, is_folded = proofs.proven_by([], RUN.run)
    assert (chunk > 1 << 60, is_folded) == (True, True)
    assert proofs.proven_by(["group"], RUN.run) == (0, False)
