"""What a consumer does now and then, between its batches: trim, and remove the long gone.

Every replica does it; each of these is one step on the server, so two at once do no harm.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import redis

from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.server.connection import error_kind, is_passing, lacks_right
from services.brokers.redis.server.scripts import Script, read_script
from services.contract.errors import BrokerUnavailable
from services.runtime.clock import Clock
from services.runtime.telemetry.metrics import Metrics

_TRIM: Final = Script(read_script("consuming/retention.lua"))
_REAP: Final = Script(read_script("consuming/reap.lua"))


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
    explain: Callable[[BaseException], str] = str
    """Says of an error in one line what is wrong, and what to change."""
    _next_trim: float = field(init=False)

    def __post_init__(self) -> None:
        self._next_trim = self.clock.monotonic() + self.retention_interval_s

    def run_due(self) -> None:
        """Do what is due. Raises BrokerUnavailable where the server is away.

        A server that is there and refuses it, by an ACL or for want of a command, is no outage: consuming
        goes on, and the log says at each turn what is not done.
        """
        now = self.clock.monotonic()
        if self.retention_interval_s > 0 and now >= self._next_trim:
            self._next_trim = now + self.retention_interval_s
            try:
                self._trim_and_reap()
            except redis.RedisError as error:
                if not isinstance(error, redis.ResponseError) or is_passing(error):
                    raise BrokerUnavailable(self.explain(error), error_kind(error)) from error
                self.logger.error(
                    "upkeep_refused",
                    extra={
                        "stream": self.keys.stream,
                        "error": str(error),
                        "hint": "acknowledged entries stay, until producers stop at STREAM_MAX_LENGTH",
                    },
                )

    def _trim_and_reap(self) -> None:
        self.metrics.count("telemetry_trimmed_entries_total", self._trim_counted())
        expiry_ms = int(self.consumer_expiry_s * 1000)
        removed = _REAP.run(self.client, [self.keys.stream], self.keys.group, expiry_ms, self.name)
        if removed:
            self.metrics.count("telemetry_consumers_removed_total", removed)
            self.logger.info("consumers_removed", extra={"consumers": removed})

    def _trim_counted(self) -> int:
        """Trim and count it, so that what others remove shows; where we may not count, only trim."""
        try:
            return int(_TRIM.run(self.client, [self.keys.stream, self.keys.trimmed]))
        except redis.ResponseError as error:
            if not lacks_right(error):
                raise
            return int(_TRIM.run(self.client, [self.keys.stream]))
