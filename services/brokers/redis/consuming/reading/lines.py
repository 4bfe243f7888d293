"""The two connections of a consumer: an acknowledgement must not queue behind a read that waits.

New entries have a line of their own (new.py). All else goes over the other one, by `Commands`.
"""

import math
from collections.abc import Callable
from typing import Any, cast

import hiredis
from redis import ConnectionPool
from redis.connection import Connection

from services.brokers.redis.server.connection import is_dropped


class Line:
    """One connection to the server, made when it is needed. All of it raises redis.RedisError.

    `on_dropped` is called where the one before could be used no more: what the server has of ours is then
    not known.
    """

    def __init__(
        self, pool: ConnectionPool, monotonic: Callable[[], float], on_dropped: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._monotonic = monotonic
        self._on_dropped = on_dropped
        self._connection: Connection | None = None
        self.sent_at = -math.inf
        """When the last command was sent, on the monotonic clock."""

    def send(self, *command: Any) -> None:
        """Send a command, where no answer is under way."""
        # A server closes what was idle for its `timeout`, and that is no outage. After a failover another
        # part of the process may have heard that this server is not the one.
        connection = self._connection
        if connection is None or is_dropped(connection):
            connection = self._connect()
        # The client's own way looks at each argument in Python: half a millisecond for a thousand ids.
        connection.send_packed_command([hiredis.pack_command(command)])
        self.sent_at = self._monotonic()

    def answer(self) -> Any:
        """Give the server's answer as it is: a dict would hide a name given twice."""
        return cast("Connection", self._connection).read_response()

    def hang_up(self) -> None:
        """Close the connection; the next command makes another one."""
        if self._connection is not None:
            self._connection.disconnect()
            self._pool.release(self._connection)
            self._connection = None

    def _connect(self) -> Connection:
        if self._connection is not None:
            self.hang_up()
            self._on_dropped()
        self._connection = self._pool.get_connection()
        return self._connection


class Commands:
    """All that a consumer asks but new entries. All of it raises redis.RedisError."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._on_answer: Callable[[Any], None] | None = None
        """Who hears the answer that is under way; None: there is none."""

    def ask(self, *command: Any) -> Any:
        """Send a command and give the answer."""
        self.catch_up()
        self._line.send(*command)
        return self._line.answer()

    def ask_aside(self, *command: Any) -> Any:
        """Do the same with what the server does not count as heard from our name (namesakes.py)."""
        sent_at = self._line.sent_at
        try:
            return self.ask(*command)
        finally:
            self._line.sent_at = sent_at

    def send(self, on_answer: Callable[[Any], None], *command: Any) -> None:
        """Send a command, where no answer is under way. `on_answer` hears this one when it is read."""
        self._line.send(*command)
        self._on_answer = on_answer

    def catch_up(self) -> None:
        """Read the answer that is under way; until then it may be lost."""
        if self._on_answer is not None:
            answer = self._line.answer()
            on_answer, self._on_answer = self._on_answer, None
            on_answer(answer)

    def hang_up(self) -> None:
        """Close the connection; the answer that is under way is lost."""
        self._on_answer = None
        self._line.hang_up()
