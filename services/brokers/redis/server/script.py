"""A script that runs on the server, by its hash where the server has it."""

import hashlib
from collections.abc import Sequence
from typing import Any, cast

import redis

from services.brokers.redis.server.connection import lacks_command


class Script:
    """One script. It needs EVAL, which keeps it there as SCRIPT LOAD does: some servers have no SCRIPT."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: redis.Redis, keys: Sequence[str], *arguments: Any) -> Any:
        """Run it, and give its answer. Raises redis.RedisError."""
        execute = cast("Any", client.execute_command)
        try:
            return execute("EVALSHA", self._sha, len(keys), *keys, *arguments)
        except redis.ResponseError as error:
            if not (isinstance(error, redis.exceptions.NoScriptError) or lacks_command(error)):
                raise
        return execute("EVAL", self._text, len(keys), *keys, *arguments)
