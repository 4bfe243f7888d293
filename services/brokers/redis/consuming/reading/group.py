"""The group that a consumer belongs to: made where there is none, and left at the end."""

from typing import Final

import redis

from services.brokers.redis.consuming.reading.lines import Commands
from services.brokers.redis.consuming.reading.member import Member
from services.brokers.redis.server.scripts import read_script

_LEAVE: Final = read_script("consuming/reading/leave.lua")


class Group:
    """The group on the server."""

    def __init__(self, member: Member, commands: Commands) -> None:
        self._member = member
        self._keys = member.keys
        self._commands = commands
        self.is_known = False
        """Whether it was there when we last asked."""

    def make(self) -> None:
        """Make it where there is none, at the beginning of the stream: nothing is skipped."""
        try:
            self._commands.ask("XGROUP", "CREATE", self._keys.stream, self._keys.group, "0", "MKSTREAM")
        except redis.exceptions.OutOfMemoryError:
            # A server at maxmemory refuses this even where the group is there, and it is our reading
            # that makes room. Where there is no group, the read says so.
            pass
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        else:
            self._member.metrics.count("telemetry_group_creations_total")
            self._member.logger.warning(
                "group_created",
                extra={
                    "stream": self._keys.stream,
                    "group": self._keys.group,
                    "hint": "expected once; later it means that the server lost its data or the group was "
                    "removed: the stream is read again from its start, run `telemetry audit`",
                },
            )
        self.is_known = True

    def leave(self) -> None:
        """Take our name out of it, where nothing is pending for us."""
        self._commands.ask("EVAL", _LEAVE, 1, self._keys.stream, self._keys.group, self._member.name)
