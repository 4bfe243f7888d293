"""What a consumer says of the forms of an entry that it reads, so that producers write no other.

    {stream}:forms   hash   GROUP/CONSUMER -> the newest form, and until when that holds (server/forms.lua)

It holds for a minute and is said anew long before that, and before each read, so it covers whatever is read
under our name. It ends when we do: who reads under the name of one that is gone has not said it.
"""

from typing import Final

import redis

from services.brokers.redis.consuming.reading.lines import Commands
from services.brokers.redis.consuming.reading.member import Member
from services.brokers.redis.server.answers import is_of_all
from services.brokers.redis.server.connection import is_passing
from services.brokers.redis.server.scripts import read_script

_ANNOUNCE: Final = read_script("consuming/reading/announce.lua")
_PACKED: Final = 2
"""The newest form that we read: entries of many events."""
_HOLDS_S: Final = 60.0
_AGAIN_S: Final = 10.0
_FORGET_MS: Final = 86_400_000
"""What no longer holds for a day is forgotten: producers look at readers of the last hour."""


class Forms:
    """What one consumer says."""

    def __init__(self, member: Member, commands: Commands) -> None:
        self._member = member
        self._commands = commands
        self._is_new = True
        self.due_at = 0.0
        """When to say it next, on the monotonic clock."""

    def announce(self) -> None:
        """Say it, and at first forget what is long over. Raises redis.RedisError.

        Where the server refuses it, the log has it once: producers then write entries of one event.
        """
        self.due_at = self._member.monotonic() + _AGAIN_S
        try:
            self._say(_HOLDS_S, str(_FORGET_MS) if self._is_new else "")
        except redis.ResponseError as error:
            if is_passing(error) or is_of_all(error):
                raise
            if self._is_new:
                self._member.logger.warning(
                    "right_lacking",
                    extra={
                        "part": "forms",
                        "right": f"EVAL, HSET, HGETALL, HDEL and TIME on {self._member.keys.forms}",
                        "error": str(error),
                        "hint": "producers don't know that this consumer reads entries of many events, "
                        "and write none",
                    },
                )
        self._is_new = False

    def end(self) -> None:
        """Say that it holds up to now, and no longer, where it was said at all. Raises redis.RedisError."""
        if not self._is_new:
            self._say(0.0, "")

    def begin_again(self) -> None:
        """Say it at the next turn: the server may be another one, or have lost it."""
        self.due_at = 0.0

    def _say(self, seconds: float, forget: str) -> None:
        keys, name = self._member.keys, self._member.name
        self._commands.ask_aside(
            "EVAL", _ANNOUNCE, 1, keys.forms, keys.group, name, _PACKED, int(seconds * 1000), forget
        )
