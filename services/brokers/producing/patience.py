"""Patience with a broker: what passes by itself is waited for, counted, and logged once."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from services.brokers.producing.side import ProducerTools
from services.contract.errors import BrokerRefuses, BrokerUnavailable, Stopping

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
    """Asks a broker until it answers.

    `errors` is what its client library raises; `judge` makes one of ours of such an error: it passes, or
    the broker refuses.
    """

    def __init__(
        self,
        tools: ProducerTools,
        errors: type[Exception],
        judge: Callable[[Any], BrokerUnavailable | BrokerRefuses],
    ) -> None:
        self.tools = tools
        self._errors = errors
        self._judge = judge

    def ask(self, send: Callable[[], T]) -> T:
        """Give the answer. Safe only for what may be sent twice.

        Raises Stopping, and BrokerRefuses for what won't pass.
        """
        backoff = Backoff()
        failures = 0
        while True:
            self.tools.health.turn()
            try:
                answer = send()
            except self._errors as error:
                failures += 1
                trouble = self._judge(error)
                self._failed(trouble)
                if isinstance(trouble, BrokerRefuses):
                    raise trouble from error
                self.tools.logger.error("redis_unavailable", extra={"error": str(trouble)})
                self._wait(backoff)
                continue
            self._answered(failures)
            return answer

    def _failed(self, trouble: BrokerUnavailable | BrokerRefuses) -> None:
        self.tools.traces.trouble("redis unavailable", trouble.kind)
        self.tools.metrics.count("telemetry_redis_errors_total", error=trouble.kind)
        self.tools.metrics.set("telemetry_redis_up", 0)
        self.tools.health.fail("redis", str(trouble))

    def _wait(self, backoff: Backoff) -> None:
        clock = self.tools.clock
        if not clock.is_stopping():
            clock.sleep(backoff.pause_s())
        if clock.is_stopping():
            raise Stopping("asked to stop while the broker was waited for")

    def _answered(self, failures: int) -> None:
        if failures:
            self.tools.logger.info("redis_back", extra={"failures": failures})
        self.tools.metrics.set("telemetry_redis_up", 1)
        self.tools.health.clear("redis")
