"""New entries: asked for, and given as they come.

While a batch is worked on, the next one is asked for: the server then fills the socket meanwhile. That only
happens after a full batch, so no read ever waits behind our back. At first, and for a while after large
entries were met, they are looked at before they are sent (take.lua).
"""

import functools
import time
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, Final

from services.brokers.redis.consuming.reading.caution import Caution
from services.brokers.redis.consuming.reading.lines import Line
from services.brokers.redis.consuming.reading.member import Member
from services.brokers.redis.consuming.reading.sizes import ScriptsNotAllowed, Sizes
from services.contract.consuming.doors import Entry
from services.contract.consuming.large import BATCH_WEIGHT, burden_of, is_heavy

_MAKE: Final[Callable[[tuple[Any, ...]], Entry]] = functools.partial(tuple.__new__, Entry)
_POLL_S: Final = 0.05
"""How long nothing is asked, where new entries are looked at and there are none: a script can't wait."""


class NewEntries:
    """What nobody of the group has had yet. `block_ms`: how long a read waits where there is nothing.

    All of it raises redis.RedisError.
    """

    def __init__(self, member: Member, line: Line, sizes: Sizes, caution: Caution, *, block_ms: int) -> None:
        self._member = member
        self._line = line
        self._sizes = sizes
        self._caution = caution
        self._block_ms = block_ms
        self._is_first = True
        self.is_asked = False
        """Whether the answer to a read is under way."""
        self.count = member.batch_size
        """How many the last read has asked for."""

    def read(self) -> list[Entry]:
        """Give new entries, at most a batch; empty when none came in the waiting time."""
        if self._is_first or self._member.monotonic() < self._caution.until:
            if (taken := self._take()) is not None:
                return taken
        else:
            self._caution.most_weight = BATCH_WEIGHT
        self.ask("BLOCK", self._block_ms)
        return self.receive()

    def ask(self, *block: Any) -> None:
        """Ask for the next batch; it is received later. `block`: how long the server waits for one."""
        member, keys = self._member, self._member.keys
        self.count = member.batch_size
        self._line.send(
            "XREADGROUP", "GROUP", keys.group, member.name,
            "COUNT", self.count, *block, "STREAMS", keys.stream, ">",
        )  # fmt: skip
        self.is_asked = True

    def receive(self) -> list[Entry]:
        """Give what was asked for."""
        self.is_asked = False
        reply: Any = self._line.answer()
        return _entries_of(reply[0][1]) if reply else []

    def hang_up(self) -> None:
        """Close the connection; entries that are under way are pending for us then."""
        self.is_asked = False
        self._line.hang_up()

    def _take(self) -> list[Entry] | None:
        """Give new entries that were looked at before they were sent. None: read them as they are."""
        is_first, self._is_first = self._is_first, False
        self.count = self._member.batch_size
        try:
            entries, is_heavy_next = self._sizes.take(self.count, self._caution.most_weight)
        except ScriptsNotAllowed:
            self._caution.end()
            return None
        if is_heavy_next or is_heavy(map(burden_of, (entry.fields for entry in entries))):
            self._caution.expect_large()
        elif is_first and not entries:
            return None
        if not entries:
            time.sleep(min(_POLL_S, self._block_ms / 1000))
        return entries


def _entries_of(pairs: Sequence[Sequence[Any]]) -> list[Entry]:
    """Make entries that were never delivered before. Raises ValueError where a pair is none."""
    if not pairs:
        return []
    entry_ids, fields = zip(*pairs, strict=True)
    # As Entry(...) does, which is called in Python for each of them.
    return list(map(_MAKE, zip(entry_ids, fields, repeat(1), repeat(0), strict=False)))
