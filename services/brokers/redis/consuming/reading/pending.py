"""Our own pending entries, read again: delivered to us, and not yet acknowledged.

- An entry that kills its consumer runs no `except`, so only the server's count of deliveries tells.
  What was delivered twice and never settled is read one by one: the culprit alone goes on to
  MAX_DELIVERIES, and not the batch that it was in.
- An entry too large for our memory kills us by being read. So what was delivered before is looked at by
  its size first, on the server (sizes.py), and of a large one only the beginning is read.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from services.brokers.redis.consuming.reading.acknowledgements import Acknowledgements
from services.brokers.redis.consuming.reading.caution import Caution
from services.brokers.redis.consuming.reading.lines import Commands
from services.brokers.redis.consuming.reading.member import Member
from services.brokers.redis.consuming.reading.sizes import Look, ScriptsNotAllowed, Sizes
from services.contract.consuming.doors import SUSPECT_DELIVERIES, Entry
from services.contract.consuming.large import BATCH_WEIGHT, UNKNOWN_BYTES, cut, is_heavy, weight_of

_LAST_DELIVERIES: Final = 3
"""Beyond MAX_DELIVERIES: so often its dead letter was tried with all of its content, and then no more."""
_SUSPECT_BYTES: Final = 1 << 16
"""A smaller entry is never what kills its consumer, or what the server can't send."""
_SUSPECT_READS: Final = 2
"""A larger one that was read alone so often, and each time the connection was closed, is not sent."""

_UNSEEN: Final = Look(0, 0)


class PendingEntries:
    """Those of one consumer. All of it raises redis.RedisError."""

    def __init__(
        self,
        member: Member,
        commands: Commands,
        acknowledgements: Acknowledgements,
        sizes: Sizes,
        caution: Caution,
        *,
        max_entry_bytes: int,
        max_deliveries: int,
    ) -> None:
        self._member = member
        self._keys = member.keys
        self._name = member.name
        self._commands = commands
        self._acknowledgements = acknowledgements
        self._sizes = sizes
        self._caution = caution
        self._max_entry_bytes = max_entry_bytes
        self._last_deliveries = max_deliveries + _LAST_DELIVERIES
        self._count = 1
        """How many are read next, where large or not looked at: twice as many each time."""
        self._reading: Sequence[tuple[bytes, Look]] = ()
        """Those whose content is on its way."""
        self._not_sent: tuple[bytes, int] = (b"", 0)
        """The one that was read alone in vain, and how often."""

    def read(self) -> list[Entry]:
        """Give our own pending entries, the oldest first, with their deliveries; empty: there are none."""
        while pending := self._commands.ask(
            "XPENDING", self._keys.stream, self._keys.group, "-", "+", self._member.batch_size, self._name
        ):
            # Where all of a page were trimmed, the next one may hold what is there.
            if entries := self._again({entry_id: int(count) + 1 for entry_id, _, _, count in pending}):
                return entries
        return []

    def begin_again(self, *, was_closed: bool) -> None:
        """Forget what went well; `was_closed`: the server closed the connection, or it was never made."""
        if was_closed:
            self._note_not_sent()
        self._reading = ()
        self._count = 1

    def _again(self, deliveries: Mapping[bytes, int]) -> list[Entry]:
        """Read pending entries again, as many as are safe together; or the beginning of one that isn't.

        `deliveries`: of the oldest of them, this one included. Empty where all of them are gone.
        """
        try:
            looks = self._sizes.look(list(deliveries), self._caution.most_weight)
        except ScriptsNotAllowed:
            return self._again_unseen(deliveries)
        seen = list(zip(deliveries, looks, strict=False))
        self._acknowledgements.end_lost([entry_id for entry_id, look in seen if look.is_gone])
        there = [(entry_id, look) for entry_id, look in seen if not look.is_gone]
        if not there:
            return []
        is_light = not is_heavy(look.size for _, look in there)
        first, look = there[0]
        is_beyond_us = self._is_beyond_us(first, look, deliveries[first])
        if is_beyond_us or not is_light:
            self._caution.expect_large()
        if is_beyond_us:
            return [Entry(first, self._sizes.beginning(first), deliveries[first], look.size)]
        most = self._member.batch_size if is_light else self._count
        return self._read_first(self._safe_together(there[:most], deliveries), deliveries)

    def _again_unseen(self, deliveries: Mapping[bytes, int]) -> list[Entry]:
        """Read pending entries again where their sizes can't be looked at: so many as went well before."""
        waiting = [(entry_id, _UNSEEN) for entry_id in deliveries]
        first, _ = waiting[0]
        self._caution.may_be_cut = True
        if deliveries[first] > self._last_deliveries:
            return [Entry(first, [], deliveries[first], UNKNOWN_BYTES)]
        entries = self._read_first(self._safe_together(waiting[: self._count], deliveries), deliveries)
        if weight_of(entries) > BATCH_WEIGHT // 2:
            self._count = 1
        return [cut(entry, self._max_entry_bytes) for entry in entries]

    def _is_beyond_us(self, entry_id: bytes, look: Look, deliveries: int) -> bool:
        """Tell whether an entry is not to be read: too large, not sent, or deadly as a letter."""
        if look.size > self._max_entry_bytes:
            return True
        is_not_sent = self._not_sent[0] == entry_id and self._not_sent[1] >= _SUSPECT_READS
        return look.size > _SUSPECT_BYTES and (is_not_sent or deliveries > self._last_deliveries)

    def _safe_together(
        self, waiting: Sequence[tuple[bytes, Look]], deliveries: Mapping[bytes, int]
    ) -> Sequence[tuple[bytes, Look]]:
        """Give the first entries as far as they may be read together; one at least."""
        weight = 0
        for count, (entry_id, look) in enumerate(waiting):
            weight += look.weight
            is_suspect = deliveries[entry_id] > SUSPECT_DELIVERIES
            is_too_much = look.size > self._max_entry_bytes or weight > self._caution.most_weight
            if count and (is_suspect or is_too_much):
                return waiting[:count]
            if is_suspect:
                return waiting[:1]
        return waiting

    def _read_first(
        self, first: Sequence[tuple[bytes, Look]], deliveries: Mapping[bytes, int]
    ) -> list[Entry]:
        """Read the first of our pending entries; empty where all of them are gone."""
        self._reading = first
        reply = self._commands.ask(
            "XREADGROUP", "GROUP", self._keys.group, self._name,
            "COUNT", len(first), "STREAMS", self._keys.stream, "0",
        )  # fmt: skip
        self._reading = ()
        self._count = min(2 * self._count, self._member.batch_size)
        entries = reply[0][1]
        self._acknowledgements.end_lost([entry_id for entry_id, fields in entries if not fields])
        return [
            Entry(entry_id, fields, deliveries.get(entry_id, 1)) for entry_id, fields in entries if fields
        ]

    def _note_not_sent(self) -> None:
        """Note which entries were asked for when the server closed the connection.

        A server limits what waits to be sent (client-output-buffer-limit), and closes a connection
        above that. Smaller entries were none of the reason.
        """
        if len(self._reading) == 1:
            ((entry_id, _),) = self._reading
            times = self._not_sent[1] if self._not_sent[0] == entry_id else 0
            self._not_sent = (entry_id, times + 1)
        elif is_heavy(look.size for _, look in self._reading):
            weight = sum(look.weight for _, look in self._reading)
            self._caution.most_weight = max(_SUSPECT_BYTES, weight // 2)
            self._caution.expect_large()
