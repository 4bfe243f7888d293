"""What a consumer does now and then, between its batches: trim, and remove the long gone.

Every replica does it; each of these is one step on the server, so two at once do no harm.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import redis

from services.contract.scripts import read_script
from services.contract.streams import StreamKeys
from services.runtime.clock import Clock
from services.runtime.metrics import Metrics


@dataclass(slots=True)
class Upkeep:
    """The upkeep of one stream. `retention_interval_s` 0: never trim."""

    client: redis.Redis
    keys: StreamKeys
    name: str
    retention_interval_s: float
    consumer_expiry_s: float
    clock: Clock
    metrics: Metrics
    logger: logging.Logger
    _trim: Callable[..., int] = field(init=False)
    _reap: Callable[..., int] = field(init=False)
    _next_trim: float = field(init=False)

    def __post_init__(self) -> None:
        self._trim = self.client.register_script(read_script("services.consumer", "retention.lua"))
        self._reap = self.client.register_script(read_script("services.consumer", "reap.lua"))
        self._next_trim = self.clock.monotonic() + self.retention_interval_s

    def run_due(self) -> None:
        """Do what is due. Raises redis.RedisError."""
        now = self.clock.monotonic()
        if self.retention_interval_s > 0 and now >= self._next_trim:
            self._next_trim = now + self.retention_interval_s
            self._trim_and_reap()

    def _trim_and_reap(self) -> None:
        self.metrics.count("telemetry_trimmed_entries_total", self._trim(keys=[self.keys.stream]))
        arguments = [self.keys.group, int(self.consumer_expiry_s * 1000), self.name]
        removed = self._reap(keys=[self.keys.stream], args=arguments)
        if removed:
            self.metrics.count("telemetry_consumers_removed_total", removed)
            self.logger.info("consumers_removed", extra={"consumers": removed})
