"""The server, opened for one command, with its errors told to a person."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, NamedTuple

import redis
import typer

from services.brokers.redis.dead_letters import DeadLetterStream
from services.brokers.redis.keys import keys_of
from services.brokers.redis.server.connection import connect, explain, greet
from services.ops.dlq.letters import LetterStore, open_store
from services.ops.failures import CommandFailed
from services.ops.server.own import ServerUnavailable, reachable
from services.runtime.settings import ConsumerSettings, Sources

StartServer = Annotated[
    bool,
    typer.Option(
        "--start-server", help="Where no server runs in DATA_DIR: have ours run for as long as this takes."
    ),
]


class Server(NamedTuple):
    """A server that can be asked, and the settings that lead to it."""

    client: redis.Redis
    settings: ConsumerSettings

    @property
    def letters(self) -> LetterStore:
        """The dead letters of the settings, in the file or on this server."""
        if self.settings.dead_letters == "file":
            return open_store(self.settings)
        return DeadLetterStream(self.client, keys_of(self.settings), time.time)


@contextmanager
def open_server(settings: ConsumerSettings, sources: Sources, *, may_start: bool = False) -> Iterator[Server]:
    """Open the server of the settings, or the one that runs here.

    `may_start`: where none does, our own is started for the time being; what only reads does not.
    Raises CommandFailed when it can't be reached, or breaks off.
    """
    try:
        with reachable(settings, sources, may_start=may_start) as found, connect(found) as client:
            try:
                greet(client)
                yield Server(client, found)
            except redis.RedisError as error:
                raise CommandFailed(explain(error, found)) from error
    except ServerUnavailable as error:
        raise CommandFailed(str(error)) from error
