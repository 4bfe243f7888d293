"""What a consumer needs of Redis."""

import functools
from dataclasses import dataclass, replace
from typing import Final

import redis

from services.brokers.redis.consuming.backlog import read_settled
from services.brokers.redis.consuming.dead_letters import DeadLetterStream
from services.brokers.redis.consuming.observer import Observer
from services.brokers.redis.consuming.reading.source import RedisSource
from services.brokers.redis.consuming.upkeep import Upkeep
from services.brokers.redis.keys import StreamKeys, keys_of
from services.brokers.redis.server.attention import Attention
from services.brokers.redis.server.connection import connect, error_kind, explain
from services.brokers.tools import Tools
from services.contract.errors import BrokerUnavailable
from services.runtime.settings import ConsumerSettings

_OBSERVER_TIMEOUT_S: Final = 2.0
_LONGEST_WAIT_S: Final = 1.0
"""How long one read may wait: asked to stop, it is waited for no longer than a little more than that."""


def open_side(settings: ConsumerSettings, tools: Tools) -> "RedisConsumerSide":
    """Open it; nothing is sent yet. Raises SettingsInvalid."""
    attention = Attention(tools.clock.is_stopping)
    client = connect(settings, block_s=_wait_s(settings), attention=attention)
    return RedisConsumerSide(settings, tools, keys_of(settings), attention, client)


def _wait_s(settings: ConsumerSettings) -> float:
    return min(settings.sleep_interval, _LONGEST_WAIT_S)


@dataclass(frozen=True, slots=True)
class RedisConsumerSide:
    """The parts of a consumer that know Redis."""

    settings: ConsumerSettings
    tools: Tools
    keys: StreamKeys
    attention: Attention
    """What all clients of the process share."""
    client: redis.Redis
    """Of the source and the upkeep; the source closes it."""

    def source(self) -> RedisSource:
        """Give where entries come from."""
        settings, tools = self.settings, self.tools
        return RedisSource(
            self.client,
            self.keys,
            settings.name,
            batch_size=settings.batch_size,
            block_ms=max(1, int(_wait_s(settings) * 1000)),
            claim_idle_ms=settings.claim_idle_ms,
            claim_interval_s=settings.claim_interval_s,
            monotonic=tools.clock.monotonic,
            metrics=tools.metrics,
            logger=tools.logger,
            max_entry_bytes=settings.max_entry_bytes,
            max_deliveries=settings.max_deliveries,
            explain=functools.partial(explain, settings=settings),
        )

    def settled(self) -> int:
        """Tell how many entries our group has for certain acknowledged; 0 where that is not known."""
        settings = self.settings
        try:
            return read_settled(self.client, self.keys, has_letters=settings.letters_in == "stream")
        except redis.RedisError as error:
            raise BrokerUnavailable(explain(error, settings), error_kind(error)) from error

    def dead_letters(self) -> DeadLetterStream:
        """Open the stream of the dead letters, on a connection of its own."""
        client = connect(self.settings, attention=self.attention)
        return DeadLetterStream(client, self.keys, self.tools.clock.now, self.settings.name)

    def upkeep(self) -> Upkeep:
        """Give what looks after the stream."""
        settings, tools = self.settings, self.tools
        return Upkeep(
            self.client,
            self.keys,
            settings.name,
            settings.retention_interval_s,
            settings.consumer_expiry_s,
            tools.clock,
            tools.metrics,
            tools.logger,
            functools.partial(explain, settings=settings),
        )

    def observe(self) -> Observer:
        """Observe the group from now on, if nobody else does."""
        # The end of the process waits for it, so it waits for no server that does not answer.
        timeout_s = min(self.settings.redis_timeout_s, _OBSERVER_TIMEOUT_S)
        client = connect(replace(self.settings, redis_timeout_s=timeout_s), attention=self.attention)
        observer = Observer(client, self.keys, self.settings.name, self.tools.clock, self.tools.logger)
        observer.start()
        return observer
