"""Entries from a Redis Stream, through a consumer group.

    telemetry_stream            stream; authoritative for content, until acknowledged
      telemetry_consumers       group; authoritative for what was delivered to whom, how often
        our name                our pending entries: delivered to us, not yet acknowledged

What this room sees to:

- The server's answer to a read can be lost on its way, and its entries are then pending for us without
  our knowing. So after every error, as at the start, our own pending entries are read before new ones.
- Entries of a consumer that died are claimed in the same loop (claims.py), then read as our own pending
  ones.
- What kills its consumer, or is too large for our memory, is met among the pending ones (pending.py,
  sizes.py). Once such entries were met, new ones are looked at too for a while (caution.py).
- While a batch is worked on, the next one is asked for (new.py), and the last one's acknowledgement is
  confirmed (acknowledgements.py): on two connections (lines.py).
- Before anything is read, we say which forms of an entry we read (forms.py): producers write no other.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence

import redis

from services.brokers.redis.consuming.reading.acknowledgements import Acknowledgements
from services.brokers.redis.consuming.reading.caution import Caution
from services.brokers.redis.consuming.reading.claims import Claims
from services.brokers.redis.consuming.reading.forms import Forms
from services.brokers.redis.consuming.reading.group import Group
from services.brokers.redis.consuming.reading.lines import Commands, Line
from services.brokers.redis.consuming.reading.member import Member
from services.brokers.redis.consuming.reading.namesakes import Namesakes
from services.brokers.redis.consuming.reading.new import NewEntries
from services.brokers.redis.consuming.reading.pending import PendingEntries
from services.brokers.redis.consuming.reading.sizes import Sizes
from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.server.answers import MALFORMED, malformed
from services.brokers.redis.server.connection import error_kind, lacks_command, lacks_right
from services.contract.consuming.doors import Entry
from services.contract.errors import SourceUnavailable
from services.contract.event import DEFAULT_ENTRY_BYTES
from services.runtime.telemetry.metrics import Metrics


class RedisSource:
    """One consumer of the group. `block_ms`: how long a read waits where there is nothing.

    `explain` says of an error in one line what is wrong, and what to change.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: StreamKeys,
        name: str,
        *,
        batch_size: int,
        block_ms: int,
        claim_idle_ms: int,
        claim_interval_s: float,
        monotonic: Callable[[], float],
        metrics: Metrics,
        logger: logging.Logger,
        max_entry_bytes: int = DEFAULT_ENTRY_BYTES,
        max_deliveries: int = 5,
        explain: Callable[[BaseException], str] = str,
    ) -> None:
        self._client = client
        self._batch_size = batch_size
        self._monotonic = monotonic
        self._explain = explain
        self._member = member = Member(keys, name, batch_size, monotonic, metrics, logger)
        for_new = Line(client.connection_pool, monotonic, self._recover)
        for_commands = Line(client.connection_pool, monotonic, self._recover)
        self._commands = Commands(for_commands)
        self._caution = Caution(monotonic)
        sizes = Sizes(self._commands.ask, keys, name, max_entry_bytes)
        self._group = Group(member, self._commands)
        self._forms = Forms(member, self._commands)
        self._acknowledgements = Acknowledgements(member, self._commands, sizes, self._caution)
        self._new = NewEntries(member, for_new, sizes, self._caution, block_ms=block_ms)
        self._pending = PendingEntries(
            member,
            self._commands,
            self._acknowledgements,
            sizes,
            self._caution,
            max_entry_bytes=max_entry_bytes,
            max_deliveries=max_deliveries,
        )
        self._claims = Claims(
            member,
            self._commands,
            self._acknowledgements,
            idle_ms=claim_idle_ms,
            interval_s=claim_interval_s,
        )
        self._namesakes = Namesakes(member, self._commands, for_new, for_commands)
        self._recovering = True
        """Whether entries may be pending for us that we don't know of."""

    def read(self) -> list[Entry]:
        """Give the next entries, at most a batch; empty when none came in the waiting time.

        Raises SourceUnavailable.
        """
        try:
            return self._read()
        except redis.RedisError as error:
            raise self._failed(error) from error
        except MALFORMED as error:
            raise self._failed(malformed(error)) from error

    def drain(self) -> list[Entry]:
        """Give entries that were asked for ahead and have not been given yet. Raises SourceUnavailable."""
        try:
            self._acknowledgements.settle()
            return self._new.receive() if self._new.is_asked else []
        except redis.RedisError as error:
            raise self._failed(error) from error
        except MALFORMED as error:
            raise self._failed(malformed(error)) from error

    def ack(self, entries: Sequence[Entry]) -> None:
        """Acknowledge entries whose outcome is durable. The server's answer is read later.

        What is too large is kept aside by the server meanwhile, where it has the room.

        Raises SourceUnavailable; the acknowledgement is then made good before the next read.
        """
        try:
            self._acknowledgements.put(entries)
        except redis.RedisError as error:
            raise self._failed(error) from error
        except MALFORMED as error:
            raise self._failed(malformed(error)) from error

    def limit(self, most: int) -> None:
        """Hear that entries have many events: read at most so many at once. Claims, too, are of as many."""
        self._member.batch_size = min(most, self._batch_size)

    def still_working(self) -> None:
        """Hear that entries in hand take longer. Redis asks nobody: others claim after CLAIM_IDLE_MS."""

    def expect_large(self) -> None:
        """Hear that large entries came unforeseen: look at new ones, too, for the next ten minutes."""
        self._caution.expect_large()

    def now(self) -> float | None:
        """Tell the server's time, in Unix seconds; None where it does not tell us.

        Raises SourceUnavailable.
        """
        try:
            seconds, microseconds = self._commands.ask_aside("TIME")
            return int(seconds) + int(microseconds) / 1e6
        except redis.RedisError as error:
            if lacks_right(error) or lacks_command(error):
                return None
            raise self._failed(error) from error
        except MALFORMED as error:
            raise self._failed(malformed(error)) from error

    def close(self) -> None:
        """Close the connections; unacknowledged entries stay pending.

        With nothing pending our name leaves the group: on Kubernetes, each pod has a new one.
        """
        with contextlib.suppress(redis.RedisError):  # unconfirmed: it comes again, and is a duplicate
            self._acknowledgements.settle()
            with contextlib.suppress(redis.ResponseError):  # a right that is missing
                self._group.leave()
            self._forms.end()
        self._hang_up()
        self._client.close()

    def _read(self) -> list[Entry]:
        self._acknowledgements.settle()
        if self._monotonic() >= self._forms.due_at:
            self._forms.announce()
        if self._new.is_asked and (entries := self._new.receive()):
            self._ask_ahead(entries)
            return entries
        if not self._group.is_known:
            self._group.make()
        if not self._recovering and self._monotonic() >= self._namesakes.due_at:
            self._namesakes.look()
        if self._monotonic() >= self._claims.due_at and self._claims.claim():
            self._recover()
        if self._recovering:
            if entries := self._pending.read():
                return entries
            self._recovering = False
        entries = self._new.read()
        self._ask_ahead(entries)
        return entries

    def _ask_ahead(self, entries: Sequence[Entry]) -> None:
        """Ask for the next batch where there is one, unless something else has its turn."""
        now = self._monotonic()
        if len(entries) == self._new.count and self._caution.until <= now < min(
            self._claims.due_at, self._namesakes.due_at
        ):
            self._new.ask()

    def _recover(self) -> None:
        """Read our own pending entries before new ones: there may be some that we don't know of."""
        self._recovering = True

    def _failed(self, error: redis.RedisError) -> SourceUnavailable:
        """Forget what we believed about the server; all of it is asked again."""
        self._pending.begin_again(was_closed=isinstance(error, redis.ConnectionError))
        self._claims.begin_again()
        self._group.is_known = False
        self._forms.begin_again()
        self._hang_up()
        self._recover()
        return SourceUnavailable(self._explain(error), error_kind(error))

    def _hang_up(self) -> None:
        self._new.hang_up()
        self._commands.hang_up()
