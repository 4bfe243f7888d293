"""Another process that reads under our name: each takes what the other one holds."""

from typing import Final

import redis

from services.brokers.redis.consuming.reading.lines import Commands, Line
from services.brokers.redis.consuming.reading.member import Member

_LOOK_S: Final = 5.0
"""How often we look whether another process has our name."""
_TELL_S: Final = 55.0
"""How much later, once it was told."""
_EARLIER_MS: Final = 250
"""A command may be under way for so long before the server notes it."""
_DOUBTS: Final = 2
"""So many looks in a row are no chance."""


class Namesakes:
    """The look for other processes of our name. `lines`: all that the server hears from us by."""

    def __init__(self, member: Member, commands: Commands, *lines: Line) -> None:
        self._member = member
        self._commands = commands
        self._lines = lines
        self._doubts = 0
        self.due_at = member.monotonic() + _LOOK_S
        """When to look next, on the monotonic clock."""

    def look(self) -> None:
        """Warn where another process has our name: nothing is in hand now, so nothing may be pending for us.

        Where it has nothing in hand either, the server has heard from us later than we spoke.
        """
        member = self._member
        self.due_at = member.monotonic() + _LOOK_S
        since_ms = (member.monotonic() - max(line.sent_at for line in self._lines)) * 1000
        try:
            found = self._commands.ask("XINFO", "CONSUMERS", member.keys.stream, member.keys.group)
        except redis.ResponseError:  # a right that is missing; what else it may be, the next read tells
            return
        states = (dict(zip(one[::2], one[1::2], strict=False)) for one in found)
        for state in states:
            if state.get(b"name") != member.name.encode():
                continue
            is_doubtful = int(state[b"idle"]) + _EARLIER_MS < since_ms
            self._doubts = self._doubts + 1 if is_doubtful else 0
            if int(state[b"pending"]) or self._doubts >= _DOUBTS:
                self.due_at += _TELL_S
                member.logger.warning(
                    "consumer_name_twice",
                    extra={
                        "consumer": member.name,
                        "hint": "another process reads under this name, each takes what the other one holds, "
                        "and entries are delivered twice: give each its own CONSUMER_NAME",
                    },
                )
