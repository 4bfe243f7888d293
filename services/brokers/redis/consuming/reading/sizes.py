"""What the server tells of entries that are not read yet: how large they are, and how large ones begin.

By scripts, so that only sizes cross the network. A server or a user that may run none is asked for nothing
more: entries are then read as they are, one at first and more with each that turns out small.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import redis

from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.server.connection import lacks_right
from services.brokers.redis.server.scripts import Script, read_script
from services.contract.consuming.doors import Entry
from services.contract.consuming.large import UNKNOWN_BYTES
from services.contract.event import LEAST_ENTRY_BYTES

PIECE_BYTES: Final = 1 << 20
"""How large an entry of the side stream is."""
MOST_PIECES: Final = 64
"""How many pieces the side stream has at most."""


class Look(NamedTuple):
    """What the server says of a pending entry."""

    size: int
    """In bytes; negative: it is gone."""
    weight: int

    @property
    def is_gone(self) -> bool:
        """Tell whether its content was trimmed or deleted."""
        return self.size < 0


class ScriptsNotAllowed(Exception):
    """The server, or the rights of this user, allow no script; or the script has no memory for the entry."""


class Sizes:
    """The scripts of one consumer. `command` sends a command and gives the reply; raises redis.RedisError."""

    def __init__(
        self, command: Callable[..., Any], keys: StreamKeys, name: str, max_entry_bytes: int
    ) -> None:
        self._command = command
        self._keys = keys
        self._name = name
        self._max_entry_bytes = max_entry_bytes
        self._look = Script(read_script("consuming/reading/look.lua"))
        self._take = Script(read_script("consuming/reading/take.lua"))
        self._move = Script(read_script("consuming/reading/move.lua"))

    def look(self, ids: Sequence[bytes], most_weight: int) -> list[Look]:
        """Look at pending entries in turn until that weight is reached. Raises ScriptsNotAllowed."""
        *looks, _ = self._run(self._look, [self._keys.stream], most_weight, "", *ids)
        return [Look(*one) for one in looks]

    def beginning(self, entry_id: bytes) -> list[bytes]:
        """Give the beginning of an entry; empty where it is gone. Raises ScriptsNotAllowed."""
        found: list[bytes] = self._run(self._look, [self._keys.stream], 0, entry_id, entry_id)[-1]
        return found

    def take(self, count: int, most_weight: int) -> tuple[list[Entry], bool]:
        """Take new entries that are light enough together; a large one comes alone, and cut.

        Tells also whether one follows that is too large, or larger than any valid event and too much beside
        these. Raises ScriptsNotAllowed.
        """
        limits = (count, most_weight, self._max_entry_bytes, LEAST_ENTRY_BYTES)
        arguments = (self._keys.group, self._name, *limits)
        is_heavy_next, taken = self._run(self._take, [self._keys.stream], *arguments)
        return [Entry(entry_id, fields, 1, size) for entry_id, size, fields in taken], bool(is_heavy_next)

    def move(self, entry: Entry) -> int:
        """Acknowledge an entry and have the server keep all of it aside, where it has the room.

        Gives how many pieces it is kept in; 0: it is not; -1: somebody had acknowledged it before.
        """
        keys, group = self._keys, self._keys.group
        if entry.full_size != UNKNOWN_BYTES:
            arguments = (group, entry.entry_id, entry.full_size, PIECE_BYTES, MOST_PIECES)
            with contextlib.suppress(ScriptsNotAllowed):
                return int(self._run(self._move, [keys.stream, keys.large], *arguments))
        return 0 if self._command("XACK", keys.stream, group, entry.entry_id) else -1

    def _run(self, script: Script, keys: Sequence[str], *arguments: Any) -> Any:
        # Not by SCRIPT LOAD: some servers and users have no right to it.
        try:
            try:
                return self._command("EVALSHA", script.sha, len(keys), *keys, *arguments)
            except redis.exceptions.NoScriptError:
                return self._command("EVAL", script.text, len(keys), *keys, *arguments)
        except redis.ResponseError as error:
            if _is_of_scripts(error):
                raise ScriptsNotAllowed(str(error)) from error
            raise


def _is_of_scripts(error: redis.ResponseError) -> bool:
    """Tell whether a right is missing, or the command itself, or memory for what is looked at."""
    text = str(error).lower()
    return lacks_right(error) or text.startswith("unknown command") or "not enough memory" in text
