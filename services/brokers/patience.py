"""Patience with the server: what passes by itself is waited for, counted, and logged once.

An error of a user or a right is waited for too: on Kubernetes an exit would only become a crash loop,
and the secret may be rotated while we wait. Everything else is a refusal.
"""

import logging
from collections.abc import Callable
from typing import Final, TypeVar

import redis

from services.brokers.redis.server.connection import error_kind, is_passing, lacks_right
from services.contract.errors import BrokerRefuses, Stopping
from services.runtime.clock import Clock
from services.runtime.health import Health
from services.runtime.telemetry.metrics import Metrics
from services.runtime.telemetry.send_traces import NO_TRACES, Traces

T = TypeVar("T")

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 5.0


class Backoff:
    """Pauses that double up to five seconds."""

    def __init__(self) -> None:
        self._next_s = _FIRST_PAUSE_S

    def pause_s(self) -> float:
        """Give the next pause, in seconds."""
        pause, self._next_s = self._next_s, min(self._next_s * 2, _LONGEST_PAUSE_S)
        return pause


class Patience:
    """Asks the server until it answers."""

    def __init__(
        self,
        clock: Clock,
        health: Health,
        metrics: Metrics,
        logger: logging.Logger,
        explain: Callable[[BaseException], str],
        traces: Traces = NO_TRACES,
    ) -> None:
        self.clock = clock
        self.health = health
        self.metrics = metrics
        self.logger = logger
        self.traces = traces
        self._explain = explain

    def ask(self, send: Callable[[], T]) -> T:
        """Give the answer. Safe only for what may be sent twice.

        Raises Stopping, and BrokerRefuses for what won't pass.
        """
        backoff = Backoff()
        failures = 0
        while True:
            self.health.turn()
            try:
                answer = send()
            except redis.RedisError as error:
                failures += 1
                self._failed(error)
                self._wait(backoff)
                continue
            self._answered(failures)
            return answer

    def _failed(self, error: redis.RedisError) -> None:
        why = self._explain(error)
        self.traces.trouble("redis unavailable", error_kind(error))
        self.metrics.count("telemetry_redis_errors_total", error=error_kind(error))
        self.metrics.set("telemetry_redis_up", 0)
        self.health.fail("redis", why)
        if not (is_passing(error) or _is_of_the_user(error)):
            raise BrokerRefuses(why) from error
        self.logger.error("redis_unavailable", extra={"error": why})

    def _wait(self, backoff: Backoff) -> None:
        if not self.clock.is_stopping():
            self.clock.sleep(backoff.pause_s())
        if self.clock.is_stopping():
            raise Stopping("asked to stop while the server was waited for")

    def _answered(self, failures: int) -> None:
        if failures:
            self.logger.info("redis_back", extra={"failures": failures})
        self.metrics.set("telemetry_redis_up", 1)
        self.health.clear("redis")


def _is_of_the_user(error: redis.RedisError) -> bool:
    """Tell whether the user, the password or a right is wrong: an operator can mend it meanwhile."""
    return isinstance(error, redis.AuthenticationError) or lacks_right(error)
