"""The server, opened for one command, with its errors told to a person."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import redis

from services.consumer.dead_letters.file import DeadLetterFile
from services.consumer.dead_letters.stream import DeadLetterStream
from services.ops.failures import CommandFailed
from services.ops.letters import LetterStore
from services.ops.server import ServerUnavailable, reachable
from services.runtime.connection import connect, explain
from services.runtime.settings import ConsumerSettings, Sources


class Server(NamedTuple):
    """A server that can be asked, and the settings that lead to it."""

    client: redis.Redis
    settings: ConsumerSettings

    @property
    def letters(self) -> LetterStore:
        """The dead letters of the settings, in the file or on this server."""
        if self.settings.dead_letters == "file":
            return DeadLetterFile(self.settings.dead_letter_file, time.time)
        return DeadLetterStream(self.client, self.settings.keys, time.time)


@contextmanager
def open_server(settings: ConsumerSettings, sources: Sources) -> Iterator[Server]:
    """Open the server of the settings; one of our own is started where they name none.

    Raises CommandFailed when it can't be reached, or breaks off.
    """
    try:
        with reachable(settings, sources) as found, connect(found) as client:
            try:
                client.ping()
                yield Server(client, found)
            except redis.RedisError as error:
                raise CommandFailed(explain(error, found)) from error
    except ServerUnavailable as error:
        raise CommandFailed(str(error)) from error
