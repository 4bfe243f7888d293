"""What a service gives to the broker that it uses."""

import logging
from dataclasses import dataclass

from services.runtime.clock import Clock
from services.runtime.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Tools:
    """What a side is given of the process that it works in."""

    clock: Clock
    metrics: Metrics
    logger: logging.Logger
