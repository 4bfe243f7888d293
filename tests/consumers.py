"""Consumers of a real server, one step at a time."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis
from samples import event_fields
from servers import Address, new_client

from services.brokers.redis.consuming.reading.source import RedisSource
from services.brokers.redis.keys import StreamKeys
from services.contract.consuming.doors import Entry
from services.contract.event import DEFAULT_ENTRY_BYTES
from services.runtime.telemetry.metrics import Metrics

KEYS = StreamKeys()
LOGGER = logging.getLogger("test.consumers")


class Consumer(RedisSource):
    """A RedisSource with its metrics at hand; short waits, no claims unless asked for."""

    def __init__(
        self,
        server: Address,
        name: str = "consumer-1",
        *,
        batch_size: int = 10,
        block_ms: int = 20,
        claim_idle_ms: int = 60_000,
        claim_interval_s: float = 60.0,
        timeout_s: float = 10.0,
        client: redis.Redis | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        max_entry_bytes: int = DEFAULT_ENTRY_BYTES,
        max_deliveries: int = 5,
    ) -> None:
        self.metrics = Metrics("consumer")
        super().__init__(
            client or new_client(server, timeout_s=timeout_s),
            KEYS,
            name,
            batch_size=batch_size,
            block_ms=block_ms,
            claim_idle_ms=claim_idle_ms,
            claim_interval_s=claim_interval_s,
            monotonic=monotonic,
            metrics=self.metrics,
            logger=LOGGER,
            max_entry_bytes=max_entry_bytes,
            max_deliveries=max_deliveries,
        )

    def settle_all(self) -> list[Entry]:
        """Read and acknowledge until nothing comes."""
        settled: list[Entry] = []
        while page := self.read():
            self.ack(page)
            settled += page
        return settled


def publish(client: redis.Redis, count: int = 1, first: int = 1, fields: Sequence[bytes] = ()) -> list[bytes]:
    """Publish events, and give the ids of their entries."""
    pipeline = client.pipeline(transaction=False)
    for number in range(first, first + count):
        pipeline.execute_command("XADD", KEYS.stream, "*", *(fields or event_fields(number)))
    ids: list[bytes] = pipeline.execute()
    return ids


def pending_of(client: redis.Redis, group: str = KEYS.group) -> dict[bytes, tuple[bytes, int]]:
    """Tell consumer and deliveries of each pending entry."""
    found: Any = client.xpending_range(KEYS.stream, group, "-", "+", 100_000)
    return {one["message_id"]: (one["consumer"], one["times_delivered"]) for one in found}


def ids(entries: Sequence[Entry]) -> list[bytes]:
    """Name entries."""
    return [entry.entry_id for entry in entries]


def entry_ids(client: redis.Redis, stream: str) -> list[bytes]:
    """Name what is in a stream."""
    found: Any = client.xrange(stream)
    return [entry_id for entry_id, _ in found]
