"""What a consumer does now and then, beside its batches: trim, remove the long gone, look at the lag.

Every replica does it; each of these is one step on the server, so two at once do no harm.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import redis

from services.contract.scripts import read_script
from services.contract.streams import StreamKeys
from services.runtime.backlog import read_backlog
from services.runtime.clock import Clock
from services.runtime.metrics import Metrics

_LOOK_INTERVAL_S: Final = 5.0


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
    _next_look: float = field(init=False, default=0.0)
    _next_trim: float = field(init=False)

    def __post_init__(self) -> None:
        self._trim = self.client.register_script(read_script("services.consumer", "retention.lua"))
        self._reap = self.client.register_script(read_script("services.consumer", "reap.lua"))
        self._next_trim = self.clock.monotonic() + self.retention_interval_s

    def run_due(self) -> None:
        """Do what is due. Raises redis.RedisError."""
        now = self.clock.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_INTERVAL_S
            self._look()
        if self.retention_interval_s > 0 and now >= self._next_trim:
            self._next_trim = now + self.retention_interval_s
            self._trim_and_reap()

    def _look(self) -> None:
        backlog = read_backlog(self.client, self.keys)
        if backlog is None:
            return
        self.metrics.set("telemetry_stream_length_entries", backlog.length)
        self.metrics.set("telemetry_group_lag_entries", backlog.lag)
        self.metrics.set("telemetry_group_lag_known", backlog.lag_known)
        self.metrics.set("telemetry_group_pending_entries", backlog.pending)
        self.metrics.set(
            "telemetry_group_oldest_pending_seconds", backlog.oldest_pending_age_s(self.clock.now())
        )

    def _trim_and_reap(self) -> None:
        self.metrics.count("telemetry_trimmed_entries_total", self._trim(keys=[self.keys.stream]))
        arguments = [self.keys.group, int(self.consumer_expiry_s * 1000), self.name]
        removed = self._reap(keys=[self.keys.stream], args=arguments)
        if removed:
            self.metrics.count("telemetry_consumers_removed_total", removed)
            self.logger.info("consumers_removed", extra={"consumers": removed})
