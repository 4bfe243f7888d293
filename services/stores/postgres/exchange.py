"""Several statements in one round trip, each of them one transaction with what it needs of durability.

All of it goes out at once (libpq's pipeline mode), and nothing of it hangs on the session, which a pooler
shares: statements are not prepared, and isolation, timeouts and `synchronous_commit` are set in the
transaction itself.

    BEGIN ISOLATION LEVEL READ COMMITTED
    set_config(...)         for this transaction: the timeouts; synchronous_commit, where it was off
    the statements
    a message to the log    where it is to be durable whatever was written: see `transact`
    COMMIT
"""

from collections.abc import Generator, Sequence
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import errors, pq
from psycopg.waiting import Ready, Wait

from services.stores.postgres.connection import Connection

_BEGIN: Final = b"BEGIN ISOLATION LEVEL READ COMMITTED"
_COMMIT: Final = b"COMMIT"
_SET: Final = (
    "SELECT set_config('statement_timeout', '{statement_ms}', true), set_config('lock_timeout', "
    "'{lock_ms}', true), "
    # Any other value than off waits for the disk of this server at least; which standby besides is its
    # owner's choice.
    "set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' "
    "ELSE current_setting('synchronous_commit') END, true)"
)
_LOG_MESSAGE: Final = b"SELECT pg_catalog.pg_logical_emit_message(true, 'telemetry', '')"
_GOOD: Final = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK})


class Statement(NamedTuple):
    """A statement, and its parameters: bytes in binary where `formats` has 1, in text where it has 0."""

    sql: bytes
    parameters: Sequence[bytes | None] = ()
    formats: Sequence[int] = ()


class NotDurable(psycopg.OperationalError):
    """The transaction was committed, and not everything confirms that it lasts."""


class Exchange:
    """Transactions on one connection. `timeout_s` and `lock_timeout_s` are of each statement."""

    def __init__(self, connection: Connection, timeout_s: float, lock_timeout_s: float) -> None:
        self._connection = connection
        settings = _SET.format(statement_ms=int(timeout_s * 1000), lock_ms=int(lock_timeout_s * 1000))
        self._set = Statement(settings.encode())
        self._warnings: list[str] = []
        connection.add_notice_handler(self._hear)

    @property
    def connection(self) -> Connection:
        """The connection, for what needs no such care."""
        return self._connection

    def transact(self, *statements: Statement, is_durable: bool = False) -> list[Any]:
        """Run statements in one transaction; gives the result of each.

        Raises psycopg.Error. None of them is done then; after a lost connection, NoAnswer or NotDurable
        nobody knows.

        `is_durable`: what the statements have seen lasts as well, though they wrote nothing. Another's rows
        show before their standby has them, if a crash fell in between, or before they are on the disk at
        all, where it wrote them with synchronous_commit off. A message to the log makes this commit wait
        for all before it.
        """
        also = (Statement(_LOG_MESSAGE),) if is_durable else ()
        try:
            results = self._connection.wait(
                self._send(Statement(_BEGIN), self._set, *statements, *also, Statement(_COMMIT))
            )
        except psycopg.Error:
            self._leave()
            raise
        return results[2 : 2 + len(statements)]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @property
    def is_closed(self) -> bool:
        """Tell whether the connection is of no more use."""
        return self._connection.closed

    def _send(self, *statements: Statement) -> Generator[Wait, Ready, list[Any]]:
        """Send all of it, then read all of it."""
        pgconn = self._connection.pgconn
        pgconn.enter_pipeline_mode()
        for sql, parameters, formats in statements:
            pgconn.send_query_params(sql, parameters or None, None, formats or None, 1)
        pgconn.pipeline_sync()
        while pgconn.flush():
            # The server stops reading when nobody reads what it answers.
            ready = yield Wait.RW
            if ready & Ready.R:
                pgconn.consume_input()
        results = []
        failure: psycopg.Error | None = None
        while True:
            try:
                while pgconn.is_busy():
                    yield Wait.R
                    pgconn.consume_input()
                result = pgconn.get_result()
            except psycopg.Error as error:
                raise failure or error from None  # a server that ends a connection has said why before
            if result is None:  # the end of one statement
                if pgconn.status != pq.ConnStatus.OK:
                    raise failure or psycopg.OperationalError("the connection was lost")
                continue
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                break
            if result.status in _GOOD:
                results.append(result)
                if len(results) < len(statements):
                    self._warnings.clear()  # what is warned of at the COMMIT counts alone
            elif failure is None and result.status != pq.ExecStatus.PIPELINE_ABORTED:
                failure = errors.error_from_result(result, encoding="utf-8")
        pgconn.exit_pipeline_mode()
        if failure is not None:
            raise failure
        if results[-1].command_status != _COMMIT:
            raise NotDurable("the transaction was rolled back at its end")
        if self._warnings:
            # The wait for a standby was broken off by a timeout or a person: it is on this server's disk
            # alone.
            raise NotDurable(f"committed, and not confirmed: {self._warnings[0]}")
        return results

    def _hear(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self._warnings.append(notice.message_primary or "a warning")

    def _leave(self) -> None:
        """Leave a transaction that failed; the connection too, where that fails."""
        connection = self._connection
        if connection.closed:
            return
        pgconn = connection.pgconn
        if (
            pgconn.status != pq.ConnStatus.OK
            or pgconn.pipeline_status != pq.PipelineStatus.OFF
            or pgconn.transaction_status == pq.TransactionStatus.UNKNOWN
        ):
            connection.close()
            return
        try:
            if pgconn.transaction_status != pq.TransactionStatus.IDLE:
                connection.rollback()
        except psycopg.Error:
            connection.close()
