"""What a producer needs of Redis."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

import redis

from services.brokers.producing.patience import Patience
from services.brokers.producing.side import ProducerTools
from services.brokers.redis.keys import StreamKeys, keys_of
from services.brokers.redis.producing.packing import Packing
from services.brokers.redis.producing.publisher import Limits, RedisPublisher
from services.brokers.redis.producing.runs import open_run, take_over
from services.brokers.redis.server.attention import Attention
from services.brokers.redis.server.connection import connect, judge
from services.contract.producing.outgoing import Position
from services.contract.producing.publishing import Replayed, Run
from services.runtime.settings import ProducerSettings


def open_side(settings: ProducerSettings, tools: ProducerTools) -> "RedisProducerSide":
    """Open it; nothing is sent yet. Raises SettingsInvalid."""
    client = connect(settings, attention=Attention(tools.clock.is_stopping))
    return side_of(settings, tools, client)


def side_of(settings: ProducerSettings, tools: ProducerTools, client: redis.Redis) -> "RedisProducerSide":
    """Give the side of a server that is connected to; it closes the client."""
    when_full = cast("Literal['block', 'drop_oldest']", settings.stream_full)
    return RedisProducerSide(
        client,
        keys_of(settings),
        Patience(tools, redis.RedisError, functools.partial(judge, settings=settings)),
        Limits(settings.stream_max_length, when_full),
        Packing(settings.events_per_entry, settings.max_entry_bytes),
    )


@dataclass(frozen=True, slots=True)
class RedisProducerSide:
    """The parts of a producer that know Redis. All of them use one client, one after the other."""

    client: redis.Redis
    keys: StreamKeys
    patience: Patience
    limits: Limits
    packing: Packing

    def open_run(
        self,
        source: str,
        replay: str | None = None,
        fingerprint: str = "",
        position: Position | None = None,
    ) -> Run:
        """Open a run under a name that nobody has."""
        return open_run(self.client, self.keys, self.patience, source, replay, fingerprint, position)

    def take_over(self, replay: str, check: Callable[[Replayed], None]) -> Replayed | None:
        """Go on with the run that replayed a file."""
        return take_over(self.client, self.keys, self.patience, replay, check)

    def publisher(self, run: Run) -> RedisPublisher:
        """Give what publishes a run."""
        return RedisPublisher(self.client, self.keys, run, self.patience, self.limits, self.packing)

    def close(self) -> None:
        """Let go of the connection."""
        self.client.close()
