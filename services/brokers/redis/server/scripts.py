"""The scripts that run on the server: their texts, the pieces that they share, and how one is run."""

import hashlib
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any, Final, cast

import redis

from services.brokers.redis.server.connection import lacks_command

_INCLUDE: Final = re.compile(r"^-- include: (.*)\n", re.MULTILINE)


class Script:
    """One script, run by its hash where the server has it.

    It needs EVAL, which keeps it there as SCRIPT LOAD does: some servers have no SCRIPT.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        """Its name for the server, once that has met it."""

    def run(self, client: redis.Redis, keys: Sequence[str], *arguments: Any) -> Any:
        """Run it, and give its answer. Raises redis.RedisError."""
        execute = cast("Any", client.execute_command)
        try:
            return execute("EVALSHA", self.sha, len(keys), *keys, *arguments)
        except redis.ResponseError as error:
            if not (isinstance(error, redis.exceptions.NoScriptError) or lacks_command(error)):
                raise
        return execute("EVAL", self.text, len(keys), *keys, *arguments)


def read_script(name: str) -> str:
    """Read a script, which lies beside the module that runs it; `name` is its path in the room of Redis.

    Its lines `-- include: NAME` become what stands in that file.
    """
    return _INCLUDE.sub(lambda found: _read(found[1]), _read(name))


def _read(name: str) -> str:
    return resources.files("services.brokers.redis").joinpath(name).read_text(encoding="utf-8")
