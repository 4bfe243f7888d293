"""Who reads: one consumer of a group, and what it tells its news to."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from services.brokers.redis.keys import StreamKeys
from services.runtime.telemetry.metrics import Metrics


@dataclass(slots=True)
class Member:
    """One consumer of the group."""

    keys: StreamKeys
    name: str
    batch_size: int
    """Entries that are read at once, at most: fewer, where each of them has many events."""
    monotonic: Callable[[], float]
    metrics: Metrics
    logger: logging.Logger
